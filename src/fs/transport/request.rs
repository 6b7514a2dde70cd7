//! What the kernel asks for, in our own words, whichever way it came. Pure.

use crate::fs::errno::Errno;
use crate::fs::types::*;

/// What is asked for of an inode.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are those of the volume's operations")]
pub enum Request {
    Lookup { name: Vec<u8> },
    GetAttributes,
    Statx,
    SetAttributes(SetAttributes),
    ReadLink,
    Make { name: Vec<u8>, new: NewInode },
    Create { name: Vec<u8>, new: NewInode },
    CreateNameless { new: NewInode },
    Unlink { name: Vec<u8> },
    RemoveDirectory { name: Vec<u8> },
    Rename { name: Vec<u8>, new_parent: Inode, new_name: Vec<u8>, mode: RenameMode },
    Link { inode: Inode, name: Vec<u8> },
    Read { offset: u64, size: u32 },
    Write { offset: u64, data: Vec<u8>, kill_set_id: bool, held_back: bool },
    Sync,
    Open,
    OpenDirectory,
    List(Listing),
    StatFilesystem,
    SetXattr { name: Vec<u8>, value: Vec<u8>, mode: XattrMode, kill_set_gid: Option<bool> },
    GetXattr { name: Vec<u8>, size: u32 },
    ListXattr { size: u32 },
    RemoveXattr { name: Vec<u8> },
    Allocate { offset: u64, length: u64, mode: AllocateMode },
    Seek { offset: u64, what: Seek },
    Copy { offset: u64, to: Inode, to_offset: u64, length: u64, wide: bool },
    Release,
}

/// Which names of a directory are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listing {
    /// Behind this position.
    pub offset: u64,
    /// As many as take no more than so many bytes of a reply.
    pub size: u32,
    /// Each with its attributes.
    pub attributes: bool,
}

impl Listing {
    /// The two names that every directory has, if they lie behind the position. Both show the directory's own number: the kernel knows the
    /// parent, and programs ask it.
    pub(super) fn dots(&self, directory: Inode) -> impl Iterator<Item = Entry> {
        let offset = self.offset;
        let dots = [(1, "."), (2, "..")].into_iter().filter(move |(position, _)| *position > offset);
        dots.map(move |(position, name)| Entry {
            position,
            name: name.as_bytes().to_vec(),
            inode: directory,
            kind: Kind::Directory,
            attributes: None,
        })
    }
}

pub(super) fn new_inode(kind: Kind, mode: u32, umask: u32, device: u32) -> NewInode {
    let (permissions, umask) = ((mode & 0o7777) as u16, (umask & 0o777) as u16);
    NewInode { kind, permissions, umask, device, target: Vec::new() }
}

pub(super) fn new_symlink(target: Vec<u8>) -> NewInode {
    NewInode { kind: Kind::Symlink, permissions: 0o777, umask: 0, device: 0, target }
}

/// What the type bits of a mode name; None if nothing that `mknod` can make.
pub(super) fn kind_of_mode(mode: u32) -> Option<Kind> {
    Some(match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Kind::File,
        libc::S_IFIFO => Kind::Fifo,
        libc::S_IFSOCK => Kind::Socket,
        libc::S_IFCHR => Kind::CharDevice,
        libc::S_IFBLK => Kind::BlockDevice,
        _ => return None,
    })
}

/// None for what we don't know.
pub(super) fn rename_mode(flags: u32) -> Option<RenameMode> {
    const WHITEOUT_NO_REPLACE: u32 = libc::RENAME_WHITEOUT | libc::RENAME_NOREPLACE;
    Some(match flags {
        0 => RenameMode::Replace,
        libc::RENAME_NOREPLACE => RenameMode::NoReplace,
        libc::RENAME_EXCHANGE => RenameMode::Exchange,
        libc::RENAME_WHITEOUT => RenameMode::Whiteout { replace: true },
        WHITEOUT_NO_REPLACE => RenameMode::Whiteout { replace: false },
        _ => return None,
    })
}

pub(super) fn xattr_mode(flags: i32) -> XattrMode {
    match flags {
        libc::XATTR_CREATE => XattrMode::Create,
        libc::XATTR_REPLACE => XattrMode::Replace,
        _ => XattrMode::Any,
    }
}

pub(super) fn allocate_mode(mode: i32) -> Option<AllocateMode> {
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    Some(match mode {
        0 => AllocateMode::Grow,
        libc::FALLOC_FL_KEEP_SIZE => AllocateMode::KeepSize,
        PUNCH => AllocateMode::PunchHole,
        libc::FALLOC_FL_ZERO_RANGE => AllocateMode::ZeroRange { keep_size: false },
        ZERO_KEEP => AllocateMode::ZeroRange { keep_size: true },
        _ => return None,
    })
}

/// A position in a file and what is sought from there.
pub(super) fn seek(offset: u64, whence: i32) -> Answer<Request> {
    let what = match whence {
        libc::SEEK_DATA => Seek::Data,
        libc::SEEK_HOLE => Seek::Hole,
        _ => return Err(Errno::EINVAL),
    };
    if i64::try_from(offset).is_err() {
        return Err(Errno::ENXIO);
    }
    Ok(Request::Seek { offset, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_come_first_and_once() {
        let from = |offset| {
            let listing = Listing { offset, size: 0, attributes: false };
            listing.dots(Inode::ROOT).map(|dot| (dot.position, dot.name)).collect::<Vec<_>>()
        };
        assert_eq!(from(0), [(1, b".".to_vec()), (2, b"..".to_vec())]);
        assert_eq!(from(1), [(2, b"..".to_vec())]);
        assert!(from(2).is_empty() && from(3).is_empty());
    }
}
