//! The classic transport: requests over `/dev/fuse`, by way of the `fuser` crate, which is named here, in `answer`, `convert` and `mount` alone. Each
//! callback says in our own words what is asked for, and passes it on.

use super::answer::Answerer;
use super::convert::{self, caller, inode};
use super::dispatch::{Dispatch, Reply, Serve};
use super::mount::negotiate;
use super::request::{self, Listing, Request as Asked};
use crate::fs::errno::Errno;
use crate::fs::types::*;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, IoctlFlags, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// The adapter between the kernel and what serves it.
pub struct Classic<S = Dispatch> {
    dispatch: S,
    /// Whether to ask for requests over io_uring; then, whether the kernel agreed.
    ring: Arc<AtomicBool>,
}

impl<S: Serve> Classic<S> {
    /// An adapter that passes requests on.
    pub fn new(dispatch: S) -> Self {
        Classic { dispatch, ring: Arc::default() }
    }

    /// Asks for requests over io_uring; after the mount, the flag says whether the kernel agreed.
    pub(super) fn ask_for_ring(&mut self) -> Arc<AtomicBool> {
        self.ring.store(true, Ordering::SeqCst);
        self.ring.clone()
    }

    fn pass(&self, request: &Request, number: INodeNo, asked: Asked, answerer: Answerer) {
        self.dispatch.serve(caller(request), inode(number), asked, answerer);
    }

    /// The same for what can't be said in our words if it is one of the wrong ones.
    fn pass_if(&self, request: &Request, number: INodeNo, asked: Answer<Asked>, answerer: Answerer) {
        match asked {
            Ok(asked) => self.pass(request, number, asked, answerer),
            Err(error) => answerer.answer(Err(error)),
        }
    }
}

fn bytes(name: &OsStr) -> Vec<u8> {
    name.as_bytes().to_vec()
}

impl<S: Serve> Filesystem for Classic<S> {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let agreed = negotiate(config, self.ring.load(Ordering::SeqCst), self.dispatch.writeback_cache());
        self.ring.store(agreed, Ordering::SeqCst);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.pass(request, parent, Asked::Lookup { name: bytes(name) }, Answerer::Entry(reply));
    }

    fn forget(&self, _request: &Request, number: INodeNo, lookups: u64) {
        self.dispatch.forget(inode(number), lookups);
    }

    fn getattr(&self, request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        self.pass(request, number, Asked::GetAttributes, Answerer::Attributes(reply));
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        changed: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed_flags: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttributes {
            permissions: mode.map(|mode| (mode & 0o7777) as u16),
            uid,
            gid,
            size,
            accessed: accessed.map(convert::set_time),
            modified: modified.map(convert::set_time),
            changed: changed.map(convert::time),
            kill_set_id: false,
        };
        self.pass(request, number, Asked::SetAttributes(set), Answerer::Attributes(reply));
    }

    fn readlink(&self, request: &Request, number: INodeNo, reply: ReplyData) {
        self.pass(request, number, Asked::ReadLink, Answerer::Bytes(reply));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let made = request::kind_of_mode(mode).ok_or(Errno::EINVAL).map(|kind| {
            let new = request::new_inode(kind, mode, umask, device);
            Asked::Make { name: bytes(name), new }
        });
        self.pass_if(request, parent, made, Answerer::Entry(reply));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let new = request::new_inode(Kind::Directory, mode, umask, 0);
        self.pass(request, parent, Asked::Make { name: bytes(name), new }, Answerer::Entry(reply));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let new = request::new_symlink(bytes(target.as_os_str()));
        self.pass(request, parent, Asked::Make { name: bytes(name), new }, Answerer::Entry(reply));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let new = request::new_inode(Kind::File, mode, umask, 0);
        self.pass(request, parent, Asked::Create { name: bytes(name), new }, Answerer::Created(reply));
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.pass(request, parent, Asked::Unlink { name: bytes(name) }, Answerer::Nothing(reply));
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.pass(request, parent, Asked::RemoveDirectory { name: bytes(name) }, Answerer::Nothing(reply));
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = request::rename_mode(flags.bits()).ok_or(Errno::EINVAL);
        let rename = mode.map(|mode| Asked::Rename {
            name: bytes(name),
            new_parent: inode(new_parent),
            new_name: bytes(new_name),
            mode,
        });
        self.pass_if(request, parent, rename, Answerer::Nothing(reply));
    }

    fn link(
        &self,
        request: &Request,
        number: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let link = Asked::Link { inode: inode(number), name: bytes(new_name) };
        self.pass(request, new_parent, link, Answerer::Entry(reply));
    }

    fn open(&self, request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.pass(request, number, Asked::Open, Answerer::Opened(reply));
    }

    fn opendir(&self, request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.pass(request, number, Asked::OpenDirectory, Answerer::Opened(reply));
    }

    fn flush(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn read(
        &self,
        request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.pass(request, number, Asked::Read { offset, size }, Answerer::Content(reply, Vec::new()));
    }

    fn write(
        &self,
        request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let kill_set_id = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let held_back = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let write = Asked::Write { offset, data: data.to_vec(), kill_set_id, held_back };
        self.pass(request, number, write, Answerer::Count(reply));
    }

    fn fsync(&self, request: &Request, number: INodeNo, _handle: FileHandle, _data: bool, reply: ReplyEmpty) {
        self.pass(request, number, Asked::Sync, Answerer::Nothing(reply));
    }

    fn fsyncdir(
        &self,
        request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        _data: bool,
        reply: ReplyEmpty,
    ) {
        self.pass(request, number, Asked::Sync, Answerer::Nothing(reply));
    }

    fn readdir(
        &self,
        request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        // The binding knows how much room there is.
        let listing = Listing { offset, size: u32::MAX, attributes: false };
        self.pass(request, number, Asked::List(listing), Answerer::Names(reply));
    }

    fn readdirplus(
        &self,
        request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let listing = Listing { offset, size: u32::MAX, attributes: true };
        self.pass(request, number, Asked::List(listing), Answerer::NamesPlus(reply));
    }

    fn statfs(&self, request: &Request, number: INodeNo, reply: ReplyStatfs) {
        self.pass(request, number, Asked::StatFilesystem, Answerer::Statistics(reply));
    }

    fn setxattr(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let mode = request::xattr_mode(flags);
        // The binding doesn't know the longer form of this request, which would tell of set-group-ID.
        let set = Asked::SetXattr { name: bytes(name), value: value.to_vec(), mode, kill_set_gid: None };
        self.pass(request, number, set, Answerer::Nothing(reply));
    }

    fn getxattr(&self, request: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let get = Asked::GetXattr { name: bytes(name), size };
        self.pass(request, number, get, Answerer::Xattr(reply));
    }

    fn listxattr(&self, request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        self.pass(request, number, Asked::ListXattr { size }, Answerer::Xattr(reply));
    }

    fn removexattr(&self, request: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.pass(request, number, Asked::RemoveXattr { name: bytes(name) }, Answerer::Nothing(reply));
    }

    /// Answered at once: some programs ask at every opening.
    fn ioctl(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _data: &[u8],
        _size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(fuser::Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = request::allocate_mode(mode).ok_or(Errno::EOPNOTSUPP);
        let allocate = mode.map(|mode| Asked::Allocate { offset, length, mode });
        self.pass_if(request, number, allocate, Answerer::Nothing(reply));
    }

    fn lseek(
        &self,
        request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let seek = request::seek(offset as u64, whence);
        self.pass_if(request, number, seek, Answerer::Position(reply));
    }

    fn copy_file_range(
        &self,
        request: &Request,
        from: INodeNo,
        _from_handle: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _to_handle: FileHandle,
        to_offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let to = inode(to);
        let copy = Asked::Copy { offset: from_offset, to, to_offset, length, wide: false };
        self.pass(request, from, copy, Answerer::Count(reply));
    }
}
