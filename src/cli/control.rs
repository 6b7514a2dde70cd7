//! The control directory of a mount, for the commands that read or write it.

use super::mounts;
use super::progress::Progress;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// How often it is looked how far an order is.
const WATCHED_EVERY: Duration = Duration::from_millis(200);

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

/// Gives an order that is waited for, and meanwhile looks how far it is, now and then: `done` says that of the file's text.
pub(super) fn write_watched(
    directory: &Path,
    file: &'static str,
    order: &str,
    mut progress: Progress,
    done: impl Fn(&str) -> Option<(u64, u64)>,
) -> Result<(), String> {
    let (order, place) = (order.to_string(), directory.to_path_buf());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(write(&place, file, &order)));
    loop {
        match receiver.recv_timeout(WATCHED_EVERY) {
            Ok(outcome) => return outcome,
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err("the order was broken off".to_string()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if let Some((count, total)) = read(directory, file).ok().as_deref().and_then(&done) {
                    progress.set_total(total);
                    progress.at(count);
                }
            }
        }
    }
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
