//! The control directory of a mount, for the commands that read or write it.

use super::mounts;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Where the control directory is: of the mount that a path lies in, or of a store's directory that is mounted.
pub(super) fn directory(path: &Path) -> Result<PathBuf, String> {
    let name = path.display();
    let place = mounts::resolve(path).map_err(|error| format!("{name}: {error}"))?;
    let mounted = mounts::around(&place).or_else(|| mounts::of(&place));
    let mounted = mounted
        .ok_or_else(|| format!("{name}: neither a mounted store nor in one; mount it with bitkv-mount"))?;
    Ok(mounted.mountpoint.join(".bitkv"))
}

/// Reads a control file.
pub(super) fn read(directory: &Path, file: &str) -> Result<String, String> {
    let path = directory.join(file);
    std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}{}", path.display(), advice(&error)))
}

/// Writes to a control file.
pub(super) fn write(directory: &Path, file: &str, text: &str) -> Result<(), String> {
    let path = directory.join(file);
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}{}", path.display(), advice(&error)))
}

/// What to do about it.
fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ResourceBusy => "; one is running, read the file for its progress",
        ErrorKind::PermissionDenied => "; ask as the user who mounted the store, or as root",
        ErrorKind::NotConnected => "; its daemon has died, mount the store again",
        ErrorKind::StorageFull => "; remove something first",
        ErrorKind::ReadOnlyFilesystem => "; the store takes no changes, see bitkv status",
        _ => "",
    }
}

/// Prints; a reader who has seen enough is no error.
pub(super) fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
        _ => Ok(()),
    }
}
