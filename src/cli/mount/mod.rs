//! `bitkv-mount`: options, the daemon, the session.

mod daemon;
mod log;
mod options;
mod session;
pub(super) mod system;
mod units;

pub use options::{Options, parse};

use super::{DONE, FAILED, USAGE};
use std::ffi::OsString;

/// Runs `bitkv-mount` with these arguments (the program's name first); returns the exit code.
pub fn run(arguments: Vec<OsString>) -> i32 {
    let options = match parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            // Help and version come this way too, and are no failure.
            let failed = error.use_stderr();
            let _ = error.print();
            return if failed { USAGE } else { DONE };
        }
    };
    let outcome =
        if options.foreground { daemon::foreground(&options) } else { daemon::background(&options) };
    match outcome {
        Ok(()) => DONE,
        Err(reason) => {
            eprintln!("bitkv-mount: {reason}");
            FAILED
        }
    }
}
