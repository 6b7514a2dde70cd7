//! In the foreground or in the background. The fork comes before everything else; the child reports through a pipe, and the parent ends when
//! the mount answers.

use super::Options;
use super::session;
use super::system::{Side, fork_once};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

/// What the child reports when the mount is there.
const READY: &str = "ready";

/// Serves until it is unmounted or told to end.
pub(super) fn foreground(options: &Options) -> Result<(), String> {
    session::run(&absolute(options)?, || true)
}

/// Paths that lead to the same places wherever the daemon goes, and that others find in the table of mounts.
fn absolute(options: &Options) -> Result<Options, String> {
    let mut options = options.clone();
    let paths = [Some(&mut options.data), Some(&mut options.mountpoint), options.log_file.as_mut()];
    for path in paths.into_iter().flatten() {
        *path = std::path::absolute(&*path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(options)
}

/// Starts a daemon; returns when the mount answers, or with the daemon's reason why it doesn't.
pub(super) fn background(options: &Options) -> Result<(), String> {
    // The daemon leaves the directory in which it was started.
    let options = absolute(options)?;
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|error| format!("starting the daemon: {error}"))?;
    match fork_once().map_err(|error| format!("starting the daemon: {error}"))? {
        Side::Parent => {
            drop(writer);
            wait_for_report(&options, reader)
        }
        Side::Child => {
            drop(reader);
            std::process::exit(serve(&options, writer));
        }
    }
}

fn wait_for_report(options: &Options, reader: OwnedFd) -> Result<(), String> {
    let mut report = String::new();
    // Until the child has reported, or has died, which closes the pipe as well.
    File::from(reader)
        .read_to_string(&mut report)
        .map_err(|error| format!("waiting for the daemon: {error}"))?;
    match report.trim() {
        READY => {
            nix::sys::statvfs::statvfs(&options.mountpoint).map_err(|error| {
                format!("{}: mounted, but it doesn't answer: {error}", options.mountpoint.display())
            })?;
            Ok(())
        }
        "" => Err(format!(
            "{}: the daemon ended before it had mounted; try -f to see why",
            options.mountpoint.display()
        )),
        reason => Err(reason.to_string()),
    }
}

/// The child's life; returns its exit code.
fn serve(options: &Options, writer: OwnedFd) -> i32 {
    let mut pipe = Some(File::from(writer));
    let _ = nix::unistd::setsid();
    let _ = std::env::set_current_dir("/");
    let outcome = session::run(options, || {
        detach_from_terminal();
        // If nobody reads it, nobody waits for the mount any more.
        pipe.take().is_some_and(|mut pipe| pipe.write_all(READY.as_bytes()).is_ok())
    });
    match outcome {
        Ok(()) => super::DONE,
        Err(reason) => {
            if let Some(mut pipe) = pipe.take() {
                let _ = pipe.write_all(reason.as_bytes());
            }
            tracing::error!("{reason}");
            super::FAILED
        }
    }
}

/// Standard input, output and error lead nowhere from now on.
fn detach_from_terminal() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
}
