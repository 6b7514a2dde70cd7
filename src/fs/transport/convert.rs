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

/// A time out of a request. Of one before 1970 the binding takes the nanoseconds off, where the kernel has put them on: both parts are the kernel's
/// own all the same, with the seconds' sign lost.
pub(super) fn time(time: SystemTime) -> Time {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => Time { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            Time { seconds: -(before.as_secs() as i64), nanoseconds: before.subsec_nanos() }
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
    fn times_out_of_requests_are_what_the_kernel_said() {
        // As the binding decodes them.
        let binding = |seconds: i64, nanoseconds| match u64::try_from(seconds) {
            Ok(seconds) => SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds),
            Err(_) => SystemTime::UNIX_EPOCH - Duration::new(seconds.unsigned_abs(), nanoseconds),
        };
        for (seconds, nanoseconds) in [(0, 0), (5, 999_999_999), (-1, 0), (-1, 1), (-7, 500)] {
            assert_eq!(time(binding(seconds, nanoseconds)), Time { seconds, nanoseconds });
        }
    }

    #[test]
    fn times_go_out_as_they_are() {
        let since = |time: Time| system_time(time).duration_since(SystemTime::UNIX_EPOCH);
        assert_eq!(since(Time { seconds: 5, nanoseconds: 7 }).unwrap(), Duration::new(5, 7));
        let before = since(Time { seconds: -2, nanoseconds: 250_000_000 }).unwrap_err().duration();
        assert_eq!(before, Duration::from_millis(1750));
    }
}
