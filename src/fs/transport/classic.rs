//! The classic transport: requests over `/dev/fuse`, by way of the `fuser` crate, which is named here and in `convert` alone. Each callback
//! decodes, dispatches one operation of the volume (or of the control directory) and returns; the operation replies by itself.
//!
//! A reply that is dropped unsent (its operation panicked) answers EIO.

use super::answer::{
    GENERATION, answer_attributes, answer_control_entry, answer_data, answer_empty, answer_entry,
    answer_xattr,
};
use super::convert::{self, FOR_EVER, caller, errno, inode};
use super::listing;
use crate::fs::control::{Control, is_control};
use crate::fs::errno::Errno;
use crate::fs::traffic::Traffic;
use crate::fs::types::*;
use crate::fs::volume::{Near, Volume};
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// The most that one read or write request moves, in bytes.
pub(super) const REQUEST_BYTES_MAX: u32 = 1024 * 1024;
/// Requests that nobody waits for at once (read-ahead) which the kernel may have under way.
const BACKGROUND_MAX: u16 = 64;
/// The adapter between the kernel and a volume.
pub struct Classic {
    volume: Volume,
    control: Arc<Control>,
    traffic: Arc<Traffic>,
    /// Whether to ask for requests over io_uring; then, whether the kernel agreed.
    ring: Arc<AtomicBool>,
}

impl Classic {
    /// An adapter for the volume; its root has `.bitkv`. Every operation of the volume goes through `traffic`.
    pub fn new(volume: Volume, control: Arc<Control>, traffic: Arc<Traffic>) -> Self {
        Classic { volume, control, traffic, ring: Arc::default() }
    }

    /// Asks for requests over io_uring; after the mount, the flag says whether the kernel agreed.
    pub(super) fn ask_for_ring(&mut self) -> Arc<AtomicBool> {
        self.ring.store(true, Ordering::SeqCst);
        self.ring.clone()
    }

    /// Runs an operation near an inode or name. Once the mount ends it isn't taken any more: dropped, its reply answers EIO.
    fn run<F: Future<Output = ()> + Send + 'static>(
        &self,
        near: Near<'_>,
        operation: impl FnOnce(Volume) -> F,
    ) {
        let Some(passage) = self.traffic.enter(self.volume.partition_near(near)) else { return };
        let operation = operation(self.volume.clone());
        self.volume.dispatch(near, passage.carry(operation));
    }

    fn make(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new: NewInode,
        reply: impl FnOnce(Answer<Attributes>) + Send + 'static,
    ) {
        let (parent, name) = (inode(parent), name.as_bytes().to_vec());
        if self.control.owns(parent, &name) {
            return reply(Err(Errno::EPERM));
        }
        let caller = caller(request);
        let near = name.clone();
        self.run(Near::Name(parent, &near), |volume| async move {
            reply(volume.make(caller, parent, &name, new).await);
        });
    }
}

impl Filesystem for Classic {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_EXPLICIT_INVAL_DATA,
        ];
        for flag in wanted {
            // Older kernels do without.
            let _ = config.add_capabilities(flag);
        }
        let agreed = self.ring.load(Ordering::SeqCst)
            && config.add_capabilities(InitFlags::FUSE_OVER_IO_URING).is_ok();
        self.ring.store(agreed, Ordering::SeqCst);
        let _ = config.set_max_write(REQUEST_BYTES_MAX);
        let _ = config.set_max_readahead(REQUEST_BYTES_MAX);
        let _ = config.set_max_background(BACKGROUND_MAX);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (parent, name) = (inode(parent), name.as_bytes().to_vec());
        if self.control.owns(parent, &name) {
            return answer_control_entry(reply, self.control.lookup(parent, &name));
        }
        let near = name.clone();
        self.run(Near::Name(parent, &near), |volume| async move {
            match volume.lookup(parent, &name).await {
                // That a name isn't there may be kept as well.
                Err(Errno::ENOENT) => reply.entry(&FOR_EVER, &convert::nothing(), GENERATION),
                answer => answer_entry(reply, answer),
            }
        });
    }

    fn forget(&self, _request: &Request, number: INodeNo, lookups: u64) {
        match is_control(inode(number)) {
            true => self.control.forget(inode(number), lookups),
            // Counted: a file without a name goes with it. What comes once the way in is shut is found again at the next opening.
            false => {
                let number = inode(number);
                self.run(Near::Inode(number), |volume| async move { volume.let_go(number, lookups).await });
            }
        }
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        let number = inode(number);
        if is_control(number) {
            // For ever, though it shows a moment: with less the kernel would ask again in the middle of a copy.
            return answer_attributes(reply, FOR_EVER, self.control.getattr(number));
        }
        self.run(Near::Inode(number), |volume| async move {
            answer_attributes(reply, FOR_EVER, volume.getattr(number).await);
        });
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
        let number = inode(number);
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
        if is_control(number) {
            return answer_attributes(reply, Duration::ZERO, self.control.setattr(number, &set));
        }
        let caller = caller(request);
        self.run(Near::Inode(number), |volume| async move {
            answer_attributes(reply, FOR_EVER, volume.setattr(caller, number, set).await);
        });
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        let number = inode(number);
        self.run(Near::Inode(number), |volume| async move {
            answer_data(reply, volume.readlink(number).await);
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let Some(kind) = convert::kind_of_mode(mode) else { return reply.error(fuser::Errno::EINVAL) };
        let new = NewInode { kind, permissions: (mode & 0o7777) as u16, device, target: Vec::new() };
        self.make(request, parent, name, new, |answer| answer_entry(reply, answer));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let permissions = (mode & 0o7777) as u16;
        let new = NewInode { kind: Kind::Directory, permissions, device: 0, target: Vec::new() };
        self.make(request, parent, name, new, |answer| answer_entry(reply, answer));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let target = target.as_os_str().as_bytes().to_vec();
        let new = NewInode { kind: Kind::Symlink, permissions: 0o777, device: 0, target };
        self.make(request, parent, name, new, |answer| answer_entry(reply, answer));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let permissions = (mode & 0o7777) as u16;
        let new = NewInode { kind: Kind::File, permissions, device: 0, target: Vec::new() };
        self.make(request, parent, name, new, |answer| match answer {
            Ok(attributes) => {
                let attributes = convert::attributes(&attributes);
                let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
                reply.created(&FOR_EVER, &attributes, GENERATION, FileHandle(0), flags);
            }
            Err(error) => reply.error(errno(error)),
        });
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (parent, name) = (inode(parent), name.as_bytes().to_vec());
        if self.control.owns(parent, &name) {
            return reply.error(fuser::Errno::EPERM);
        }
        let near = name.clone();
        self.run(Near::Name(parent, &near), |volume| async move {
            answer_empty(reply, volume.unlink(parent, &name).await);
        });
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (parent, name) = (inode(parent), name.as_bytes().to_vec());
        if self.control.owns(parent, &name) {
            return reply.error(fuser::Errno::EPERM);
        }
        let near = name.clone();
        self.run(Near::Name(parent, &near), |volume| async move {
            answer_empty(reply, volume.rmdir(parent, &name).await);
        });
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (parent, name) = (inode(parent), name.as_bytes().to_vec());
        let (new_parent, new_name) = (inode(new_parent), new_name.as_bytes().to_vec());
        if self.control.owns(parent, &name) || self.control.owns(new_parent, &new_name) {
            return reply.error(fuser::Errno::EPERM);
        }
        let mode = match flags {
            flags if flags.is_empty() => RenameMode::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            RenameFlags::RENAME_EXCHANGE => RenameMode::Exchange,
            // Among them whiteouts, which overlay filesystems make by themselves where they can't be had.
            _ => return reply.error(fuser::Errno::EINVAL),
        };
        let near = name.clone();
        self.run(Near::Name(parent, &near), |volume| async move {
            answer_empty(reply, volume.rename(parent, &name, new_parent, &new_name, mode).await);
        });
    }

    fn link(
        &self,
        _request: &Request,
        number: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let number = inode(number);
        let (new_parent, new_name) = (inode(new_parent), new_name.as_bytes().to_vec());
        if is_control(number) || self.control.owns(new_parent, &new_name) {
            return reply.error(fuser::Errno::EPERM);
        }
        let near = new_name.clone();
        self.run(Near::Name(new_parent, &near), |volume| async move {
            answer_entry(reply, volume.link(number, new_parent, &new_name).await);
        });
    }

    /// Not needed, the kernel is told once: then an opening costs no request at all.
    fn open(&self, _request: &Request, _number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn opendir(&self, _request: &Request, _number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(fuser::Errno::ENOSYS);
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
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let number = inode(number);
        if is_control(number) {
            return answer_data(reply, self.control.read(number, offset, size));
        }
        self.run(Near::Inode(number), |volume| async move {
            answer_data(reply, volume.read(number, offset, size).await);
        });
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
        let number = inode(number);
        let caller = caller(request);
        let data = data.to_vec();
        if is_control(number) {
            // Not counted among the traffic: the end of a mount doesn't wait for a compaction.
            let control = self.control.clone();
            self.volume.dispatch(Near::Inode(Inode::ROOT), async move {
                match control.write(number, &data).await {
                    Ok(()) => reply.written(data.len() as u32),
                    Err(error) => reply.error(errno(error)),
                }
            });
            return;
        }
        let kill = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        self.run(Near::Inode(number), |volume| async move {
            match volume.write(caller, number, offset, data, kill).await {
                Ok(count) => reply.written(count),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn fsync(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        _data: bool,
        reply: ReplyEmpty,
    ) {
        if is_control(inode(number)) {
            return reply.ok();
        }
        self.run(
            Near::Inode(inode(number)),
            |volume| async move { answer_empty(reply, volume.sync().await) },
        );
    }

    fn fsyncdir(
        &self,
        request: &Request,
        number: INodeNo,
        handle: FileHandle,
        data: bool,
        reply: ReplyEmpty,
    ) {
        self.fsync(request, number, handle, data, reply);
    }

    fn readdir(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let number = inode(number);
        if is_control(number) {
            return listing::control_names(&self.control, number, offset, reply);
        }
        self.run(Near::Inode(number), |volume| listing::names(volume, number, offset, reply));
    }

    fn readdirplus(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let number = inode(number);
        if is_control(number) {
            return listing::control_names_plus(&self.control, number, offset, reply);
        }
        self.run(Near::Inode(number), |volume| listing::names_plus(volume, number, offset, reply));
    }

    fn statfs(&self, _request: &Request, _number: INodeNo, reply: ReplyStatfs) {
        const BLOCK: u64 = 4096;
        self.run(Near::Inode(Inode::ROOT), |volume| async move {
            match volume.statfs().await {
                Ok(found) => {
                    let free = found.available_bytes / BLOCK;
                    let free_inodes = found.available_bytes / 1024;
                    let inodes = found.inodes + free_inodes;
                    let total = found.total_bytes / BLOCK;
                    reply.statfs(total, free, free, inodes, free_inodes, BLOCK as u32, 255, BLOCK as u32);
                }
                Err(error) => reply.error(errno(error)),
            }
        });
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
        let number = inode(number);
        if is_control(number) {
            return reply.error(fuser::Errno::EPERM);
        }
        let mode = match flags {
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => XattrMode::Any,
        };
        let (caller, name, value) = (caller(request), name.as_bytes().to_vec(), value.to_vec());
        self.run(Near::Inode(number), |volume| async move {
            answer_empty(reply, volume.setxattr(caller, number, &name, &value, mode).await);
        });
    }

    fn getxattr(&self, _request: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let number = inode(number);
        if is_control(number) {
            return reply.error(fuser::Errno::ENODATA);
        }
        let name = name.as_bytes().to_vec();
        self.run(Near::Inode(number), |volume| async move {
            answer_xattr(reply, size, volume.getxattr(number, &name).await);
        });
    }

    fn listxattr(&self, request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let number = inode(number);
        if is_control(number) {
            return answer_xattr(reply, size, Ok(Vec::new()));
        }
        let caller = caller(request);
        self.run(Near::Inode(number), |volume| async move {
            answer_xattr(reply, size, volume.listxattr(caller, number).await);
        });
    }

    fn removexattr(&self, request: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let number = inode(number);
        if is_control(number) {
            return reply.error(fuser::Errno::EPERM);
        }
        let (caller, name) = (caller(request), name.as_bytes().to_vec());
        self.run(Near::Inode(number), |volume| async move {
            answer_empty(reply, volume.removexattr(caller, number, &name).await);
        });
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
        let number = inode(number);
        if is_control(number) {
            return reply.error(fuser::Errno::EPERM);
        }
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        let mode = match mode {
            0 => AllocateMode::Grow,
            libc::FALLOC_FL_KEEP_SIZE => AllocateMode::KeepSize,
            PUNCH => AllocateMode::PunchHole,
            libc::FALLOC_FL_ZERO_RANGE => AllocateMode::ZeroRange { keep_size: false },
            ZERO_KEEP => AllocateMode::ZeroRange { keep_size: true },
            _ => return reply.error(fuser::Errno::EOPNOTSUPP),
        };
        let caller = caller(request);
        self.run(Near::Inode(number), |volume| async move {
            answer_empty(reply, volume.fallocate(caller, number, offset, length, mode).await);
        });
    }

    fn lseek(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let number = inode(number);
        let what = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return reply.error(fuser::Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(fuser::Errno::ENXIO) };
        if is_control(number) {
            return reply.error(fuser::Errno::EINVAL);
        }
        self.run(Near::Inode(number), |volume| async move {
            match volume.seek(number, offset, what).await {
                Ok(found) => reply.offset(found as i64),
                Err(error) => reply.error(errno(error)),
            }
        });
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
        /// The reply counts in 32 bits; and a request should come to an end.
        const COPY_BYTES_MAX: u64 = 64 * 1024 * 1024;
        let (from, to) = (inode(from), inode(to));
        if is_control(from) || is_control(to) {
            return reply.error(fuser::Errno::EOPNOTSUPP);
        }
        let caller = caller(request);
        self.run(Near::Inode(from), |volume| async move {
            let length = length.min(COPY_BYTES_MAX);
            match volume.copy_range(caller, from, from_offset, to, to_offset, length).await {
                Ok(count) => reply.written(count as u32),
                Err(error) => reply.error(errno(error)),
            }
        });
    }
}
