//! The commands. Each is a file: options in, a call of the library, an exit code out. No logic of the store's.

pub mod mount;
pub mod umount;
pub mod watch;

/// Exit code: done.
pub const DONE: i32 = 0;
/// Exit code: failed.
pub const FAILED: i32 = 1;
/// Exit code: wrong usage.
pub const USAGE: i32 = 2;
