//! A copy of a mounted store, in another directory of the same filesystem: by hard links, in moments.

use super::errno::Errno;
use super::types::Answer;
use super::volume::Volume;
use crate::engine::backup::{BackupError, BackupStats, Shelf};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

impl Volume {
    /// Copies the store, whose directory is `data`, into a directory that is empty or not there yet. The copy is a store of its own: what happens to one
    /// doesn't touch the other, though they share files.
    ///
    /// # Errors
    /// EINVAL for a path that isn't absolute, or in the store itself; ENOENT if its parent isn't there, EEXIST or ENOTDIR if something else is,
    /// ENOTEMPTY if there is something in it; EXDEV if it is in another filesystem; EBUSY if compactions come in between all the time; ENOSPC, EIO.
    pub async fn backup(&self, data: &Path, to: &Path) -> Answer<BackupStats> {
        let (from, target) = (data.to_path_buf(), to.to_path_buf());
        let copied = self.inner.store.backup(move || Directory::prepare(&from, &target)).await;
        copied.map_err(|error| match error {
            BackupError::Store(error) => error.into(),
            BackupError::Busy => Errno::EBUSY,
            BackupError::Io(error) => {
                tracing::error!("{}: the backup failed: {error}", to.display());
                errno(error)
            }
        })
    }
}

fn errno(error: io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

/// The place of a copy.
struct Directory {
    data: PathBuf,
    to: PathBuf,
    /// Whether we have made it, and so may remove it.
    is_ours: bool,
    made: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    /// Files with bytes of their own, not durable yet.
    written: Vec<File>,
}

impl Directory {
    fn prepare(data: &Path, to: &Path) -> io::Result<Self> {
        let failed = |number| Err(io::Error::from_raw_os_error(number));
        let (Some(parent), Some(name)) = (to.parent(), to.file_name()) else { return failed(libc::EINVAL) };
        if !to.is_absolute() {
            return failed(libc::EINVAL);
        }
        let parent = parent.canonicalize()?;
        let to = parent.join(name);
        if to.starts_with(data.canonicalize()?) {
            return failed(libc::EINVAL);
        }
        // Known before anything is made, and also if there is nothing to be linked yet.
        if fs::metadata(&parent)?.dev() != fs::metadata(data)?.dev() {
            return failed(libc::EXDEV);
        }
        let is_ours = match DirBuilder::new().mode(0o700).create(&to) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read_dir(&to)?.next().is_some() {
                    return failed(libc::ENOTEMPTY);
                }
                false
            }
            Err(error) => return Err(error),
        };
        Ok(Directory {
            data: data.to_path_buf(),
            directories: vec![parent, to.clone()],
            to,
            is_ours,
            made: Vec::new(),
            written: Vec::new(),
        })
    }
}

impl Shelf for Directory {
    fn create_dir(&mut self, path: &str) -> io::Result<()> {
        let path = self.to.join(path);
        fs::create_dir_all(&path)?;
        self.made.push(path.clone());
        self.directories.push(path);
        Ok(())
    }

    fn link(&mut self, path: &str) -> io::Result<()> {
        let to = self.to.join(path);
        fs::hard_link(self.data.join(path), &to)?;
        self.made.push(to);
        Ok(())
    }

    fn create(&mut self, path: &str) -> io::Result<Box<dyn io::Write + '_>> {
        let path = self.to.join(path);
        let file = File::create_new(&path)?;
        self.made.push(path);
        self.written.push(file.try_clone()?);
        Ok(Box::new(file))
    }

    fn sync(&mut self) -> io::Result<()> {
        for file in std::mem::take(&mut self.written) {
            file.sync_all()?;
        }
        self.directories.iter().try_for_each(|directory| File::open(directory)?.sync_all())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.written.clear();
        // What is in a directory was made behind it.
        for path in std::mem::take(&mut self.made).into_iter().rev() {
            if path.is_dir() { fs::remove_dir(path)? } else { fs::remove_file(path)? }
        }
        self.directories.truncate(2);
        Ok(())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.is_ours {
            // Only if it is empty: then nothing came of it.
            let _ = fs::remove_dir(&self.to);
        }
    }
}
