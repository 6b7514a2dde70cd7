//! `bitkv umount MNT`: unmounts, and waits until the daemon has synced and gone.

use super::{DONE, FAILED, USAGE};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How often it is looked whether the daemon is gone.
const POLL: Duration = Duration::from_millis(5);
/// How long that is waited for.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Runs the command; `arguments` are umount(8)'s. Returns the exit code.
pub fn run(arguments: &[String]) -> i32 {
    let Some(mountpoint) = arguments.iter().rev().find(|argument| !argument.starts_with('-')) else {
        eprintln!("bitkv umount: name the mountpoint");
        return USAGE;
    };
    let mountpoint = match std::path::absolute(mountpoint) {
        Ok(path) => path,
        Err(error) => {
            eprintln!("bitkv umount: {mountpoint}: {error}");
            return FAILED;
        }
    };
    let daemon = source_of(&mountpoint).and_then(|data| holder_of(&data));
    let root = nix::unistd::geteuid().is_root();
    let mut command = if root { Command::new("umount") } else { Command::new("fusermount3") };
    if root {
        // Not through the helper again, which is us.
        command.arg("-i");
        command.args(arguments.iter().filter(|argument| argument.starts_with('-')));
    } else {
        command.arg("-u");
    }
    match command.arg(&mountpoint).status() {
        Ok(status) if status.success() => wait_for(daemon),
        // 32 of umount(8) says that it is busy, for one.
        Ok(status) => status.code().unwrap_or(FAILED),
        Err(error) => {
            eprintln!("bitkv umount: {}: {error}", mountpoint.display());
            FAILED
        }
    }
}

fn wait_for(daemon: Option<u32>) -> i32 {
    let Some(pid) = daemon else { return DONE };
    let started = Instant::now();
    while is_alive(pid) {
        if started.elapsed() > WAIT_MAX {
            eprintln!(
                "bitkv umount: the daemon (process {pid}) is still at work; what it has is safe once it ends"
            );
            return FAILED;
        }
        std::thread::sleep(POLL);
    }
    DONE
}

/// Alive, and not merely waiting for its parent to take notice.
fn is_alive(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = status.rsplit(')').next().unwrap_or("").trim_start();
    !state.starts_with('Z') && !state.starts_with('X')
}

/// What is mounted there, by the kernel's table: the store's directory.
pub(super) fn source_of(mountpoint: &Path) -> Option<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let found = table.lines().rev().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let place = before.split(' ').nth(4)?;
        let mut after = after.split(' ');
        let kind = after.next()?;
        let source = after.next()?;
        (kind == "fuse.bitkv" && Path::new(&unescape(place)) == mountpoint).then(|| unescape(source))
    });
    found.map(PathBuf::from)
}

/// The table writes blanks and the like as octal numbers.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        match code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The process that has the store open.
fn holder_of(data: &Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(data.join("LOCK")).ok()?.trim().parse().ok()?;
    is_alive(pid).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_octal_numbers_are_read() {
        assert_eq!(unescape(r"/mnt/a\040b\134c"), r"/mnt/a b\c");
        assert_eq!(unescape(r"/plain\"), r"/plain\");
    }
}
