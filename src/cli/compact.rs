//! `bitkv compact MNT`: compacts a mounted store.

use super::{control, finish};
use std::path::Path;

/// Starts a compaction of a mount, and waits for it if told to; returns the exit code.
pub fn run(path: &Path, wait: bool) -> i32 {
    let order = if wait { "all wait\n" } else { "all\n" };
    let ordered = control::directory(path).and_then(|directory| control::write(&directory, "compact", order));
    finish("bitkv compact", ordered)
}
