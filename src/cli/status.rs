//! `bitkv status [MNT|DATA]`: whether a store is mounted, and well; without a path, of all that are mounted.

use super::mounts::{self, Mounted};
use super::{control, finish};
use std::path::Path;

/// Shows it; returns the exit code.
pub fn run(path: Option<&Path>) -> i32 {
    finish("bitkv status", path.map_or_else(all, one))
}

fn all() -> Result<(), String> {
    let mut failures = Vec::new();
    for mounted in mounts::all() {
        if let Err(reason) = show(&mounted) {
            failures.push(reason);
        }
    }
    // One line, even for several.
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

fn one(path: &Path) -> Result<(), String> {
    let name = path.display();
    let place = mounts::resolve(path).map_err(|error| format!("{name}: {error}"))?;
    if let Some(mounted) = mounts::around(&place).or_else(|| mounts::of(&place)) {
        return show(&mounted);
    }
    if !place.join("MANIFEST").exists() {
        return Err(format!(
            "{name}: neither a store nor in a mounted one; name a mountpoint or a store's directory"
        ));
    }
    control::print(&match mounts::holder_of(&place) {
        Some(pid) => format!("{name}: open in process {pid}, not mounted under this name\n"),
        None => format!("{name}: not mounted\n"),
    })
}

fn show(mounted: &Mounted) -> Result<(), String> {
    let directory = mounted.mountpoint.join(".bitkv");
    let version = control::read(&directory, "version")?;
    let health = control::read(&directory, "health")?;
    let (source, place) = (mounted.source.display(), mounted.mountpoint.display());
    control::print(&format!("{source} on {place}\n{version}{health}"))
}
