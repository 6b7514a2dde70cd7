//! `bitkv stats`, `status` and `compact`: the control directory of a mount, from the command line.

use super::{DONE, FAILED};
use std::path::Path;

fn control(mountpoint: &Path, file: &str) -> std::path::PathBuf {
    mountpoint.join(".bitkv").join(file)
}

fn show(mountpoint: &Path, file: &str) -> i32 {
    match std::fs::read_to_string(control(mountpoint, file)) {
        Ok(text) => {
            print!("{text}");
            DONE
        }
        Err(error) => {
            eprintln!("bitkv: {}: {error}; is it a mounted store?", control(mountpoint, file).display());
            FAILED
        }
    }
}

/// Shows a mount's statistics.
pub fn stats(mountpoint: &Path, json: bool) -> i32 {
    show(mountpoint, if json { "stats.json" } else { "stats" })
}

/// Shows a mount's version and health.
pub fn status(mountpoint: &Path) -> i32 {
    let version = show(mountpoint, "version");
    if version == DONE { show(mountpoint, "health") } else { version }
}

/// Starts a compaction of a mount, and waits for it if told to.
pub fn compact(mountpoint: &Path, wait: bool) -> i32 {
    let order = if wait { "all wait\n" } else { "all\n" };
    match std::fs::write(control(mountpoint, "compact"), order) {
        Ok(()) => DONE,
        Err(error) => {
            eprintln!("bitkv compact: {}: {error}", mountpoint.display());
            FAILED
        }
    }
}
