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
    print_bytes(text.as_bytes())
}

/// Prints what may be no text.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), String> {
    print_to_reader(bytes).map(drop)
}

/// Prints; whether somebody still reads.
pub(super) fn print_to_reader(bytes: impl AsRef<[u8]>) -> Result<bool, String> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("standard output: {error}")),
    }
}
