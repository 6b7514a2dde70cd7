//! `bitkv-mount`: options, the daemon, the session.

mod daemon;
mod log;
mod options;
mod session;
pub(super) mod system;

pub use options::{Options, parse};

use super::{DONE, FAILED, complain, explain_usage};
use std::ffi::OsString;

/// What errors are signed with.
const PROGRAM: &str = "bitkv-mount";

/// Runs `bitkv-mount` with these arguments (the program's name first); returns the exit code.
pub fn run(arguments: Vec<OsString>) -> i32 {
    let options = match parse(arguments) {
        Ok(options) => options,
        Err(error) => return explain_usage(PROGRAM, &error),
    };
    if let Some(changes) = &options.remount {
        return remount(&options, changes);
    }
    let outcome =
        if options.foreground { daemon::foreground(&options) } else { daemon::background(&options) };
    match outcome {
        Ok(()) => DONE,
        Err(reason) => {
            complain(PROGRAM, &reason);
            FAILED
        }
    }
}

/// As mount(8)'s helper we get remounts too; they concern the kernel alone. Returns mount(8)'s exit code.
fn remount(options: &Options, changes: &str) -> i32 {
    let mut command = std::process::Command::new("mount");
    // `-i`: without calling helpers, which would be us again.
    match command.args(["-i", "-o", changes]).arg(&options.mountpoint).status() {
        Ok(status) => status.code().unwrap_or(FAILED),
        Err(error) => {
            complain(PROGRAM, &format!("{}: running mount(8): {error}", options.mountpoint.display()));
            FAILED
        }
    }
}
