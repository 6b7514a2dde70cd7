//! The errno table: what the filesystem's failures are called by POSIX, and why so. What the kernel answers by itself, before it asks us, isn't
//! here: permissions, EXDEV, ELOOP, EBADF, ETXTBSY, names with slashes, a directory into itself.
//!
//! | errno | when | why this one |
//! |---|---|---|
//! | EIO | what is read fails its checksum, or can't be read; an operation was broken off by the end of the mount | never wrong bytes, never an empty file in the place of a damaged one |
//! | EIO | fsync, once the disk has failed to sync | who asks whether bytes are safe is told that they aren't, again each time |
//! | EROFS | any change, once the disk has failed, or in a store that was opened for reading | as ext4 with `errors=remount-ro` |
//! | ENOSPC | a change that the disk below has no room for | what frees space may use a reserve, so a full disk can be emptied |
//! | ENOSPC | an extended attribute by whose name all names of the inode would be longer than 64 KiB | they couldn't be listed any more; ext4 has less room |
//! | EFBIG | beyond 2^32 chunks, or 2^63 bytes | chunks are counted in 32 bits |
//! | ENAMETOOLONG | a name of more than 255 bytes; a symlink's target of more than 4095 | the limits of Linux |
//! | EMLINK | more than 2^31 - 1 names of a file, or directories in one | the count in the record |
//! | EPERM | a hard link to a directory; names and attributes of `.bitkv`; setting `user.bitkv.*` | they are ours |
//! | ENOENT | a name in a directory that was removed; a link to a file whose last name is gone; an empty symlink | as local disks |
//! | ESTALE | an inode that is gone: the kernel asks again by name | never seen by programs |
//! | ENOTEMPTY | removing, or renaming over, a directory with names | POSIX lets EEXIST be it as well; Linux uses this |
//! | EEXIST, ENOTDIR, EISDIR, EINVAL | names: as POSIX says of each call | |
//! | EINVAL | an extended attribute whose name is a prefix alone (`user.`) | as local disks |
//! | EOPNOTSUPP | attributes outside of `user.`, `trusted.` and `security.`, but for access control lists; those of a symbolic link | nobody would know what they mean |
//! | EINVAL | an access control list that is malformed | as local disks |
//! | EACCES | a default access control list for something else than a directory | as local disks |
//! | EOPNOTSUPP | fallocate that collapses or inserts a range | a program then copies, as on most filesystems |
//! | ENODATA, ERANGE, E2BIG | attributes: none by that name, no room for it, longer than 64 KiB | |
//! | ENXIO | SEEK_DATA and SEEK_HOLE beyond the end, or no data behind | |
//! | ENOTTY | every ioctl | there are none |
//! | ENOSYS | open, flush; with `-o writeback_cache` lseek, but not open; over /dev/fuse TMPFILE, which programs see as EOPNOTSUPP | said to the kernel once, which then does without asking |

use crate::engine::{ReadError, WriteError};

/// An error number as the kernel knows it (positive).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident)*) => {
        impl Errno {
            $(
                #[doc = concat!("`", stringify!($name), "`.")]
                pub const $name: Errno = Errno(libc::$name);
            )*
        }
    };
}
errnos! {
    EPERM ENOENT EIO ENXIO EAGAIN EACCES EBUSY EEXIST EXDEV ENOTDIR EISDIR EINVAL EFBIG ENOSPC EROFS EMLINK ERANGE
    ENAMETOOLONG ENOSYS ENOTEMPTY ELOOP ENODATA EOPNOTSUPP ESTALE ENOTTY E2BIG
}

impl From<ReadError> for Errno {
    fn from(_: ReadError) -> Errno {
        Errno::EIO
    }
}

impl From<WriteError> for Errno {
    fn from(error: WriteError) -> Errno {
        match error {
            WriteError::Full => Errno::ENOSPC,
            WriteError::Size(_) => Errno::EINVAL,
            // As ext4 after an error with errors=remount-ro.
            WriteError::ReadOnly(_) => Errno::EROFS,
            WriteError::Gone => Errno::EIO,
        }
    }
}
