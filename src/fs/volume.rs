//! The filesystem as transports see it: one async function an operation, in our own types. A handle; clones share it.

use super::types::*;
use crate::engine::{Config, OpenError, Store, World};
use std::future::Future;

/// STAND-IN signatures.
#[derive(Clone)]
pub struct Volume {}

/// What one partition keeps for the filesystem, inside its turn.
pub struct VolumeState {}

/// Settings of the filesystem.
#[derive(Clone, Debug)]
pub struct VolumeConfig {
    /// New store: size of a content chunk, in bytes.
    pub chunk_bytes: u32,
    /// Owner of the root directory of a new store.
    pub root_uid: u32,
    /// Group of the root directory of a new store.
    pub root_gid: u32,
}

#[allow(unused_variables)]
impl Volume {
    /// Opens the store and the filesystem in it, or makes them. Removes what unlinked-open files a crash left behind.
    pub fn open(world: World, config: Config, volume: VolumeConfig) -> Result<Volume, OpenError> {
        todo!()
    }
    /// Flushes what is kept in memory (directory times) and closes the store. No operation may be under way.
    pub fn close(&self) -> Answer<()> {
        todo!()
    }
    /// The store below.
    pub fn store(&self) -> &Store<VolumeState> {
        todo!()
    }
    /// Starts an operation, on this thread if its partition is free; it answers by itself. `near` names the inode (or directory and
    /// name) that it will touch, for routing.
    pub fn dispatch(&self, near: Near<'_>, operation: impl Future<Output = ()> + Send + 'static) {
        todo!()
    }

    /// Finds a name; raises the inode's lookup count by one.
    pub async fn lookup(&self, parent: Inode, name: &[u8]) -> Answer<Attributes> {
        todo!()
    }
    /// The kernel lets go of `count` lookups. Answers nobody.
    pub fn forget(&self, inode: Inode, count: u64) {
        todo!()
    }
    /// Attributes.
    pub async fn getattr(&self, inode: Inode) -> Answer<Attributes> {
        todo!()
    }
    /// Changes attributes.
    pub async fn setattr(&self, caller: Caller, inode: Inode, set: SetAttributes) -> Answer<Attributes> {
        todo!()
    }
    /// Makes a file, directory, symlink or special file; raises its lookup count by one. EEXIST if the name is taken.
    pub async fn make(
        &self,
        caller: Caller,
        parent: Inode,
        name: &[u8],
        new: NewInode,
    ) -> Answer<Attributes> {
        todo!()
    }
    /// Removes a name that is no directory's.
    pub async fn unlink(&self, parent: Inode, name: &[u8]) -> Answer<()> {
        todo!()
    }
    /// Removes an empty directory.
    pub async fn rmdir(&self, parent: Inode, name: &[u8]) -> Answer<()> {
        todo!()
    }
    /// Where a symlink leads.
    pub async fn readlink(&self, inode: Inode) -> Answer<Vec<u8>> {
        todo!()
    }
    /// Renames.
    pub async fn rename(
        &self,
        parent: Inode,
        name: &[u8],
        new_parent: Inode,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Answer<()> {
        todo!()
    }
    /// Gives an inode another name; raises its lookup count by one.
    pub async fn link(&self, inode: Inode, new_parent: Inode, new_name: &[u8]) -> Answer<Attributes> {
        todo!()
    }
    /// Reads; fewer bytes only at the end of the file.
    pub async fn read(&self, inode: Inode, offset: u64, length: u32) -> Answer<Vec<u8>> {
        todo!()
    }
    /// Writes all of it, or nothing. `kill_set_id`: clear set-id bits.
    pub async fn write(
        &self,
        caller: Caller,
        inode: Inode,
        offset: u64,
        data: Vec<u8>,
        kill_set_id: bool,
    ) -> Answer<u32> {
        todo!()
    }
    /// Allocates or zeros a range.
    pub async fn fallocate(
        &self,
        caller: Caller,
        inode: Inode,
        offset: u64,
        length: u64,
        mode: AllocateMode,
    ) -> Answer<()> {
        todo!()
    }
    /// Finds data or a hole from `offset` on; ENXIO beyond the end.
    pub async fn seek(&self, inode: Inode, offset: u64, what: Seek) -> Answer<u64> {
        todo!()
    }
    /// Copies a range between files (or within one) without the bytes leaving the store; returns how many.
    pub async fn copy_range(
        &self,
        caller: Caller,
        from: Inode,
        from_offset: u64,
        to: Inode,
        to_offset: u64,
        length: u64,
    ) -> Answer<u64> {
        todo!()
    }
    /// Makes everything acknowledged durable (fsync, fsyncdir, syncfs).
    pub async fn sync(&self) -> Answer<()> {
        todo!()
    }
    /// Names of a directory behind `position` (0: from the start), until `enough` says so (it is asked after each entry, and gets the entry) or there are no
    /// more. `.` and `..` are not among them. With `attributes`, each comes with its attributes and a raised lookup count.
    pub async fn readdir(
        &self,
        directory: Inode,
        position: u64,
        count_max: usize,
        attributes: bool,
    ) -> Answer<Vec<Entry>> {
        todo!()
    }
    /// True numbers.
    pub async fn statfs(&self) -> Answer<Statistics> {
        todo!()
    }
    /// An extended attribute; ENODATA if there is none.
    pub async fn getxattr(&self, inode: Inode, name: &[u8]) -> Answer<Vec<u8>> {
        todo!()
    }
    /// Names of the extended attributes, each followed by a zero byte.
    pub async fn listxattr(&self, inode: Inode) -> Answer<Vec<u8>> {
        todo!()
    }
    /// Sets an extended attribute.
    pub async fn setxattr(
        &self,
        caller: Caller,
        inode: Inode,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Answer<()> {
        todo!()
    }
    /// Removes an extended attribute; ENODATA if there is none.
    pub async fn removexattr(&self, caller: Caller, inode: Inode, name: &[u8]) -> Answer<()> {
        todo!()
    }
}

/// What an operation will touch first.
#[derive(Clone, Copy, Debug)]
pub enum Near<'a> {
    /// An inode.
    Inode(Inode),
    /// A name in a directory.
    Name(Inode, &'a [u8]),
}
