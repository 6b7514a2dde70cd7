//! `bitkv-mount`: options, the daemon, the session.

mod daemon;
mod log;
mod memory;
mod opening;
mod options;
mod session;
pub(super) mod system;
mod transport;

pub use options::{Options, parse};
pub use system::standing_back;

use super::{DONE, FAILED, complain, explain_usage};
use std::ffi::OsString;
use std::path::Path;

/// The command line, for whoever describes it.
pub(super) fn command() -> clap::Command {
    <Options as clap::CommandFactory>::command()
}

/// What errors are signed with.
const PROGRAM: &str = "bitkv-mount";

/// Runs `bitkv-mount` with these arguments (the program's name first); returns the exit code.
pub fn run(arguments: Vec<OsString>) -> i32 {
    let fake = is_fake(&arguments);
    let options = match parse(arguments) {
        Ok(options) => options,
        Err(error) => return explain_usage(PROGRAM, &error),
    };
    if fake {
        return DONE;
    }
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

/// What `mount -f` passes to its helper: do everything but mount.
fn is_fake(arguments: &[OsString]) -> bool {
    let called = arguments.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    called.to_string_lossy().starts_with("mount.")
        && arguments.iter().skip(1).any(|argument| argument == "-f")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_helpers_f_is_fake_and_ours_the_foreground() {
        let fake = |line: &str| is_fake(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(fake("/sbin/mount.bitkv data mnt -f -o rw") && fake("mount.fuse.bitkv -f data mnt"));
        assert!(!fake("bitkv-mount -f data mnt") && !fake("/sbin/mount.bitkv data mnt -o rw"));
    }
}
