//! `bitkv stats MNT`: the numbers of a mounted store.

use super::{control, finish};
use std::path::Path;

/// Shows a mount's statistics; returns the exit code.
pub fn run(path: &Path, json: bool) -> i32 {
    let file = if json { "stats.json" } else { "stats" };
    let shown = control::directory(path)
        .and_then(|directory| control::read(&directory, file))
        .and_then(|text| control::print(&text));
    finish("bitkv stats", shown)
}
