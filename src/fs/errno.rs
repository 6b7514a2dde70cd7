//! The errno table: what the filesystem's failures are called by POSIX, with the reason where it isn't obvious.

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
