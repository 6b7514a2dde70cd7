//! Between the binding's types and ours. Pure.

use crate::fs::errno::Errno;
use crate::fs::types::*;
use fuser::{FileAttr, FileType, INodeNo, Request, TimeOrNow};
use std::time::{Duration, SystemTime};

/// As good as for ever: the kernel may keep what only it can change.
pub(super) const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

pub(super) fn inode(number: INodeNo) -> Inode {
    Inode(number.0)
}

pub(super) fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid() }
}

pub(super) fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.0)
}

pub(super) fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

pub(super) fn system_time(time: Time) -> SystemTime {
    let fraction = Duration::from_nanos(u64::from(time.nanoseconds));
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    if time.seconds >= 0 {
        SystemTime::UNIX_EPOCH + whole + fraction
    } else {
        SystemTime::UNIX_EPOCH - whole + fraction
    }
}

pub(super) fn time(time: SystemTime) -> Time {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => Time { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            let borrow = before.subsec_nanos() > 0;
            Time {
                seconds: -(before.as_secs() as i64) - i64::from(borrow),
                nanoseconds: if borrow { 1_000_000_000 - before.subsec_nanos() } else { 0 },
            }
        }
    }
}

pub(super) fn set_time(set: TimeOrNow) -> SetTime {
    match set {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(moment) => SetTime::At(time(moment)),
    }
}

pub(super) fn attributes(attributes: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(attributes.inode.0),
        size: attributes.size,
        blocks: attributes.blocks,
        atime: system_time(attributes.accessed),
        mtime: system_time(attributes.modified),
        ctime: system_time(attributes.changed),
        crtime: system_time(attributes.born),
        kind: kind(attributes.kind),
        perm: attributes.permissions,
        nlink: attributes.links,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: attributes.device,
        blksize: attributes.block_bytes,
        flags: 0,
    }
}

/// Attributes of nothing: with inode 0 an entry tells the kernel that a name isn't there, and for how long it needn't ask again.
pub(super) fn nothing() -> FileAttr {
    let epoch = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// An entry of a listing that is a name only.
pub(super) fn name_only(inode: Inode, of: Kind) -> FileAttr {
    FileAttr { ino: INodeNo(inode.0), kind: kind(of), ..nothing() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_way_there_and_back() {
        for (seconds, nanoseconds) in [(0, 0), (5, 999_999_999), (-1, 0), (-1, 1), (-7, 500)] {
            let ours = Time { seconds, nanoseconds };
            assert_eq!(time(system_time(ours)), ours);
        }
    }
}
