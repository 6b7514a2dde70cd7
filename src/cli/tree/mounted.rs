//! A mounted store's files, through the kernel, as everybody sees them.

use super::{Node, Tree};
use crate::fs::types::{Attributes, Inode, Kind, NewInode, SetAttributes, SetTime, Time};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, SeekFrom, Timespec, Timestamps, Uid, XattrFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The longest value of an extended attribute.
const XATTR_BYTES_MAX: usize = 64 * 1024;

pub(super) struct MountedTree {
    root: PathBuf,
}

impl MountedTree {
    pub(super) fn new(mountpoint: PathBuf) -> Self {
        MountedTree { root: mountpoint }
    }

    fn path(&self, node: &Node) -> PathBuf {
        self.root.join(&node.path)
    }

    fn look(&self, path: PathBuf) -> io::Result<Node> {
        let metadata = std::fs::symlink_metadata(self.root.join(&path))?;
        Ok(Node { path, attributes: attributes(&metadata)? })
    }
}

impl Tree for MountedTree {
    fn root(&self) -> io::Result<Node> {
        self.look(PathBuf::new())
    }

    fn child(&self, directory: &Node, name: &OsStr) -> io::Result<Node> {
        self.look(directory.path.join(name))
    }

    fn names(&self, directory: &Node) -> io::Result<Vec<Vec<u8>>> {
        let entries = std::fs::read_dir(self.path(directory))?;
        let names = entries.map(|entry| Ok(entry?.file_name().into_vec()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn target(&self, link: &Node) -> io::Result<Vec<u8>> {
        Ok(std::fs::read_link(self.path(link))?.into_os_string().into_vec())
    }

    fn read(&self, file: &Node, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = open(&self.path(file), OFlags::RDONLY)?;
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn xattr(&self, node: &Node, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; XATTR_BYTES_MAX];
        match rustix::fs::lgetxattr(self.path(node), OsStr::from_bytes(name), &mut value[..]) {
            Ok(count) => {
                value.truncate(count);
                Ok(Some(value))
            }
            Err(rustix::io::Errno::NODATA) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn xattr_names(&self, node: &Node) -> io::Result<Vec<Vec<u8>>> {
        let mut names = vec![0; XATTR_BYTES_MAX];
        let count = rustix::fs::llistxattr(self.path(node), &mut names[..])?;
        let names = names[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(<[u8]>::to_vec).collect())
    }

    fn stored_from(&self, file: &Node, offset: u64) -> io::Result<Option<(u64, u64)>> {
        let file = open(&self.path(file), OFlags::RDONLY)?;
        match rustix::fs::seek(&file, SeekFrom::Data(offset)) {
            Ok(start) => Ok(Some((start, rustix::fs::seek(&file, SeekFrom::Hole(start))?))),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn make(&self, directory: &Node, name: &OsStr, new: NewInode) -> io::Result<Node> {
        let path = directory.path.join(name);
        let full = self.root.join(&path);
        let mode = Mode::from_raw_mode(u32::from(new.permissions));
        match new.kind {
            Kind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                drop(rustix::fs::open(&full, flags, mode)?);
            }
            Kind::Directory => rustix::fs::mkdir(&full, mode)?,
            Kind::Symlink => rustix::fs::symlink(OsStr::from_bytes(&new.target), &full)?,
            kind => {
                let device = u64::from(new.device);
                rustix::fs::mknodat(CWD, &full, file_type(kind), mode, device)?;
            }
        }
        self.look(path)
    }

    fn write(&self, file: &Node, offset: u64, bytes: &[u8]) -> io::Result<()> {
        open(&self.path(file), OFlags::WRONLY)?.write_all_at(bytes, offset)
    }

    fn link(&self, file: &Node, directory: &Node, name: &OsStr) -> io::Result<()> {
        let (from, to) = (self.path(file), self.path(directory).join(name));
        Ok(rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty())?)
    }

    fn set_xattr(&self, node: &Node, name: &[u8], value: &[u8]) -> io::Result<()> {
        let (path, name) = (self.path(node), OsStr::from_bytes(name));
        Ok(rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())?)
    }

    fn remove_xattr(&self, node: &Node, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::lremovexattr(self.path(node), OsStr::from_bytes(name))?)
    }

    fn set(&self, node: &Node, changes: SetAttributes) -> io::Result<()> {
        let path = self.path(node);
        if let Some(size) = changes.size {
            open(&path, OFlags::WRONLY)?.set_len(size)?;
        }
        if changes.uid.is_some() || changes.gid.is_some() {
            let (uid, gid) = (changes.uid.map(Uid::from_raw), changes.gid.map(Gid::from_raw));
            rustix::fs::chownat(CWD, &path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        // Behind the owner, whose change clears set-id bits.
        if let Some(permissions) = changes.permissions
            && node.kind() != Kind::Symlink
        {
            rustix::fs::chmod(&path, Mode::from_raw_mode(u32::from(permissions)))?;
        }
        if changes.accessed.is_some() || changes.modified.is_some() {
            let times = Timestamps {
                last_access: timespec(changes.accessed),
                last_modification: timespec(changes.modified),
            };
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    fn rename(&self, directory: &Node, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let directory = self.path(directory);
        std::fs::rename(directory.join(from), directory.join(to))
    }

    fn remove(&self, directory: &Node, name: &OsStr, kind: Kind) -> io::Result<()> {
        let path = self.path(directory).join(name);
        match kind {
            Kind::Directory => std::fs::remove_dir(path),
            _ => std::fs::remove_file(path),
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.root)?.sync_all()
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// Never through a symbolic link that has come meanwhile, and without waiting for the other end of a pipe.
fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let careful = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let mut options = File::options();
    let options = options.custom_flags(careful);
    match flags {
        OFlags::RDONLY => options.read(true).open(path),
        _ => options.write(true).open(path),
    }
}

fn attributes(metadata: &std::fs::Metadata) -> io::Result<Attributes> {
    let time = |seconds, nanoseconds: i64| Time { seconds, nanoseconds: nanoseconds as u32 };
    Ok(Attributes {
        inode: Inode(metadata.ino()),
        kind: kind(metadata.file_type()).ok_or(ErrorKind::Unsupported)?,
        permissions: (metadata.mode() & 0o7777) as u16,
        links: metadata.nlink() as u32,
        uid: metadata.uid(),
        gid: metadata.gid(),
        device: metadata.rdev() as u32,
        size: metadata.size(),
        blocks: metadata.blocks(),
        block_bytes: metadata.blksize() as u32,
        accessed: time(metadata.atime(), metadata.atime_nsec()),
        modified: time(metadata.mtime(), metadata.mtime_nsec()),
        changed: time(metadata.ctime(), metadata.ctime_nsec()),
        // Not every transport is asked for it.
        born: Time::default(),
    })
}

fn kind(kind: std::fs::FileType) -> Option<Kind> {
    Some(match kind {
        kind if kind.is_file() => Kind::File,
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_symlink() => Kind::Symlink,
        kind if kind.is_fifo() => Kind::Fifo,
        kind if kind.is_socket() => Kind::Socket,
        kind if kind.is_char_device() => Kind::CharDevice,
        kind if kind.is_block_device() => Kind::BlockDevice,
        _ => return None,
    })
}

fn file_type(kind: Kind) -> rustix::fs::FileType {
    use rustix::fs::FileType;
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

fn timespec(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        Some(SetTime::At(time)) => Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) },
    }
}
