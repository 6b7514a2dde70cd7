//! `bitkv backup STORE DIRECTORY`: a copy of a store, mounted or not, in another directory of the same filesystem, by hard links.

use super::control;
use super::finish;
use super::mounts::{self, Mounted};
use super::tree::Access;
use super::tree::unmounted::{open_volume, run as run_in};
use crate::fs::types::Inode;
use crate::fs::volume::Near;
use std::io;
use std::path::{Path, PathBuf};

/// Makes the copy; returns the exit code. It is durable when this returns.
pub fn run(store: &Path, to: &Path) -> i32 {
    finish("bitkv backup", copy(store, to))
}

fn copy(store: &Path, to: &Path) -> Result<(), String> {
    let name = store.display();
    let to = std::path::absolute(to).map_err(|error| format!("{}: {error}", to.display()))?;
    let place = mounts::resolve(store).map_err(|error| format!("{name}: {error}"))?;
    match mounts::at(&place).or_else(|| mounts::of(&place)) {
        Some(mounted) => of_mounted(&mounted, &to),
        None if place.join("MANIFEST").is_file() => of_unmounted(&place, &to),
        None => Err(format!("{name}: neither a store nor where one is mounted; name one of both")),
    }
}

/// Has the daemon of a mount make a copy.
///
/// # Errors
/// One line that says what is in the way.
pub(super) fn of_mounted(mounted: &Mounted, to: &Path) -> Result<(), String> {
    let control = mounted.mountpoint.join(".bitkv/backup");
    if let Some(around) = mounts::around(to) {
        let around = around.mountpoint.display();
        return Err(format!(
            "{}: lies in the store that is mounted on {around}: name a directory beside the store's own",
            to.display()
        ));
    }
    let mut order = to.as_os_str().as_encoded_bytes().to_vec();
    order.push(b'\n');
    std::fs::write(control, order).map_err(|error| explained(to, &error))
}

fn of_unmounted(data: &Path, to: &Path) -> Result<(), String> {
    let volume = open_volume(data, Access::Read)?;
    let (from, target) = (data.to_path_buf(), to.to_path_buf());
    let copied = run_in(&volume, Near::Inode(Inode::ROOT), |volume| async move {
        volume.backup(&from, &target).await.map(drop)
    });
    let closed = volume.close().map_err(|error| io::Error::from_raw_os_error(error.0));
    copied.and(closed).map_err(|error| explained(to, &error))
}

fn explained(to: &Path, error: &io::Error) -> String {
    let why = match error.raw_os_error() {
        Some(libc::EXDEV) => {
            "hard links need the filesystem that the store's directory is in: name a directory there, and copy it from there, or use bitkv dump"
        }
        Some(libc::ENOTEMPTY) => "name a directory that is empty, or not there yet",
        Some(libc::EINVAL) => "it must not lie in the store's directory",
        Some(libc::ENOENT) => "the directory that it shall be in must be there",
        Some(libc::EBUSY) => "compaction is in the way: bitkv compact --pause, and try again",
        Some(libc::EPERM | libc::EACCES) => {
            "the user who mounted the store must be allowed to write there, and only they and root may ask"
        }
        Some(libc::ENOSPC) => "the tails of the logs don't fit: make room",
        _ => "see the log of the store",
    };
    format!("{}: {error}; {why}", to.display())
}

/// A copy for the time of another work; it goes with this.
pub(super) struct Snapshot {
    pub(super) data: PathBuf,
}

impl Snapshot {
    /// Of a mounted store, beside its directory.
    ///
    /// # Errors
    /// One line that says what is in the way.
    pub(super) fn of(mounted: &Mounted) -> Result<Snapshot, String> {
        let config = control::read(&mounted.mountpoint.join(".bitkv"), "config")?;
        let data = config.lines().find_map(|line| line.strip_prefix("data="));
        let data = Path::new(data.ok_or("the mount doesn't tell where its store is: unmount it first")?);
        let mut name =
            data.file_name().ok_or("the store has no place beside it: unmount it first")?.to_os_string();
        name.push(format!(".snapshot-{}", std::process::id()));
        let data = data.with_file_name(name);
        of_mounted(mounted, &data)?;
        Ok(Snapshot { data })
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.data) {
            eprintln!("bitkv: {} can't be removed: {error}", self.data.display());
        }
    }
}
