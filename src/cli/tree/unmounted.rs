//! The files of a store that isn't mounted: it is opened here, without a kernel in between. Whoever may open the store's directory may do anything.

use super::find::Access;
use super::{Node, Tree};
use crate::engine::clock::RealClock;
use crate::engine::disk::uring::UringDisk;
use crate::engine::{Config, Durability, Policy, World};
use crate::fs::errno::Errno;
use crate::fs::types::*;
use crate::fs::volume::{Near, Volume, VolumeConfig};
use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// How many names one step of a listing asks for.
const NAMES_SLICE: usize = 4096;
/// The most that one step of reading or writing moves, in bytes.
const STEP_BYTES: usize = 1024 * 1024;
/// How long another process may take to let go of the store: two commands in a row never meet, and a daemon isn't waited for.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// How long the clearing away of what was removed may take.
const REST_MAX: Duration = Duration::from_secs(600);

/// Opens the filesystem of a store that isn't mounted, with settings for a command: what is written is made durable when it is closed.
///
/// # Errors
/// One line that says what is in the way.
pub(in crate::cli) fn open_volume(data: &Path, access: Access) -> Result<Volume, String> {
    open(data, access == Access::Read, false)
}

/// The same for the checker, which also opens what nothing else can, and has nothing happen beside it.
///
/// # Errors
/// One line that says what is in the way.
pub(in crate::cli) fn open_for_repair(data: &Path, read_only: bool) -> Result<Volume, String> {
    open(data, read_only, true)
}

fn open(data: &Path, read_only: bool, repairing: bool) -> Result<Volume, String> {
    let name = data.display();
    let failed = |error: io::Error| format!("{name}: opening the store: {error}");
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let disk = UringDisk::open(data, workers, read_only).map_err(failed)?;
    let seed = disk.random_seed().map_err(|error| format!("/dev/urandom: {error}"))?;
    let world = World { disk, clock: RealClock::new(), seed, policy: Policy::Inline };
    let config = Config {
        create: false,
        read_only,
        durability: Durability::Explicit,
        auto_compact: false,
        lock_wait: LOCK_WAIT,
        ..Config::default()
    };
    let volume = VolumeConfig { blocking_threads_max: 1, repairing, ..VolumeConfig::default() };
    Volume::open(world, config, volume).map_err(|error| format!("{name}: {error}"))
}

/// Runs an operation where it belongs, and waits for its answer on this thread.
///
/// # Errors
/// What it came to, as an error of the system.
pub(in crate::cli) fn run<T, F>(
    volume: &Volume,
    near: Near<'_>,
    operation: impl FnOnce(Volume) -> F,
) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = Answer<T>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel();
    let operation = operation(volume.clone());
    volume.dispatch(near, async move {
        // Whoever asked waits, unless this process is ending.
        let _ = sender.send(operation.await);
    });
    receiver.recv().unwrap_or(Err(Errno::EIO)).map_err(|error| io::Error::from_raw_os_error(error.0))
}

pub(in crate::cli) struct UnmountedTree {
    volume: Volume,
    caller: Caller,
}

impl UnmountedTree {
    pub(super) fn open(data: &Path, access: Access) -> Result<Self, String> {
        Ok(UnmountedTree::of(open_volume(data, access)?))
    }

    /// The files of a volume.
    pub(in crate::cli) fn of(volume: Volume) -> Self {
        let caller = Caller { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
        UnmountedTree { volume, caller }
    }

    fn on<T: Send + 'static, F: Future<Output = Answer<T>> + Send + 'static>(
        &self,
        node: &Node,
        operation: impl FnOnce(Volume, Inode) -> F,
    ) -> io::Result<T> {
        let inode = node.attributes.inode;
        run(&self.volume, Near::Inode(inode), |volume| operation(volume, inode))
    }

    fn on_name<T: Send + 'static, F: Future<Output = Answer<T>> + Send + 'static>(
        &self,
        directory: &Node,
        name: &OsStr,
        operation: impl FnOnce(Volume, Inode, Vec<u8>) -> F,
    ) -> io::Result<T> {
        let (parent, name) = (directory.attributes.inode, name.as_bytes().to_vec());
        let near = name.clone();
        run(&self.volume, Near::Name(parent, &near), |volume| operation(volume, parent, name))
    }
}

impl Tree for UnmountedTree {
    fn root(&self) -> io::Result<Node> {
        let attributes = run(&self.volume, Near::Inode(Inode::ROOT), |volume| async move {
            volume.getattr(Inode::ROOT).await
        })?;
        Ok(Node { path: PathBuf::new(), attributes })
    }

    fn child(&self, directory: &Node, name: &OsStr) -> io::Result<Node> {
        if directory.kind() != Kind::Directory {
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
        }
        let attributes = self.on_name(directory, name, |volume, parent, name| async move {
            let found = volume.lookup(parent, &name).await?;
            // At once: there is no kernel that holds on to it.
            volume.forget(found.inode, 1);
            Ok(found)
        })?;
        Ok(Node { path: directory.path.join(name), attributes })
    }

    fn names(&self, directory: &Node) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        let mut position = 0;
        loop {
            let slice = self.on(directory, |volume, inode| async move {
                volume.readdir(inode, position, NAMES_SLICE, false).await
            })?;
            let Some(last) = slice.last() else { break };
            position = last.position;
            names.extend(slice.into_iter().map(|entry| entry.name));
        }
        // What the listing has gathered in memory goes.
        self.volume.forget(directory.attributes.inode, 0);
        names.sort_unstable();
        Ok(names)
    }

    fn target(&self, link: &Node) -> io::Result<Vec<u8>> {
        self.on(link, |volume, inode| async move { volume.readlink(inode).await })
    }

    fn read(&self, file: &Node, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let (from, step) = (offset + bytes.len() as u64, (length - bytes.len()).min(STEP_BYTES));
            let read =
                self.on(file, |volume, inode| async move { volume.read(inode, from, step as u32).await })?;
            bytes.extend_from_slice(&read);
            if read.len() < step {
                break;
            }
        }
        Ok(bytes)
    }

    fn xattr(&self, node: &Node, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let name = name.to_vec();
        let value = self.on(node, |volume, inode| async move { volume.getxattr(inode, &name).await });
        match value {
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
            other => other.map(Some),
        }
    }

    fn xattr_names(&self, node: &Node) -> io::Result<Vec<Vec<u8>>> {
        let caller = self.caller;
        let names = self.on(node, |volume, inode| async move { volume.listxattr(caller, inode).await })?;
        let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(<[u8]>::to_vec).collect())
    }

    fn stored_from(&self, file: &Node, offset: u64) -> io::Result<Option<(u64, u64)>> {
        let seek =
            |from, what| self.on(file, |volume, inode| async move { volume.seek(inode, from, what).await });
        match seek(offset, Seek::Data) {
            Ok(start) => Ok(Some((start, seek(start, Seek::Hole)?))),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn make(&self, directory: &Node, name: &OsStr, new: NewInode) -> io::Result<Node> {
        let caller = self.caller;
        let attributes = self.on_name(directory, name, |volume, parent, name| async move {
            let made = volume.make(caller, parent, &name, new).await?;
            volume.forget(made.inode, 1);
            Ok(made)
        })?;
        Ok(Node { path: directory.path.join(name), attributes })
    }

    fn write(&self, file: &Node, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let caller = self.caller;
        let mut at = offset;
        for step in bytes.chunks(STEP_BYTES) {
            let (from, data) = (at, step.to_vec());
            self.on(file, |volume, inode| async move {
                volume.write(caller, inode, from, data, WriteEffects::default()).await
            })?;
            at += step.len() as u64;
        }
        Ok(())
    }

    fn link(&self, file: &Node, directory: &Node, name: &OsStr) -> io::Result<()> {
        let inode = file.attributes.inode;
        self.on_name(directory, name, |volume, parent, name| async move {
            volume.link(inode, parent, &name).await?;
            volume.forget(inode, 1);
            Ok(())
        })
    }

    fn set_xattr(&self, node: &Node, name: &[u8], value: &[u8]) -> io::Result<()> {
        let (caller, name, value) = (self.caller, name.to_vec(), value.to_vec());
        self.on(node, |volume, inode| async move {
            volume.setxattr(caller, inode, &name, &value, XattrMode::Any, None).await
        })
    }

    fn remove_xattr(&self, node: &Node, name: &[u8]) -> io::Result<()> {
        let (caller, name) = (self.caller, name.to_vec());
        self.on(node, |volume, inode| async move { volume.removexattr(caller, inode, &name).await })
    }

    fn set(&self, node: &Node, changes: SetAttributes) -> io::Result<()> {
        let caller = self.caller;
        self.on(node, |volume, inode| async move { volume.setattr(caller, inode, changes).await }).map(drop)
    }

    fn rename(&self, directory: &Node, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let (to, caller) = (to.as_bytes().to_vec(), self.caller);
        self.on_name(directory, from, |volume, parent, from| async move {
            volume.rename(caller, parent, &from, parent, &to, RenameMode::Replace).await
        })
    }

    fn remove(&self, directory: &Node, name: &OsStr, kind: Kind) -> io::Result<()> {
        self.on_name(directory, name, |volume, parent, name| async move {
            match kind {
                Kind::Directory => volume.rmdir(parent, &name).await,
                _ => volume.unlink(parent, &name).await,
            }
        })
    }

    fn sync(&self) -> io::Result<()> {
        run(&self.volume, Near::Inode(Inode::ROOT), |volume| async move { volume.sync().await })
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        if !self.volume.come_to_rest(REST_MAX) {
            tracing::warn!("what was removed isn't cleared away yet; the next opening does it");
        }
        self.volume.close().map_err(|error| io::Error::from_raw_os_error(error.0))
    }
}
