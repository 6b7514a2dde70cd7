//! The filesystem's own words: what goes in and out of [`Volume`](super::volume::Volume). No transport's types here.

use super::errno::Errno;

/// An inode's number; also what the kernel calls the node id. The root is 1. Never used twice in the life of a store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Inode(pub u64);

impl Inode {
    /// The root directory.
    pub const ROOT: Inode = Inode(1);
}

/// A moment: seconds since 1970 (negative before) and nanoseconds from 0 to 999,999,999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds behind them.
    pub nanoseconds: u32,
}

/// What an inode is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// What `stat` shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// The inode's number.
    pub inode: Inode,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky bits: 0 to 0o7777.
    pub permissions: u16,
    /// Names that lead to it; for a directory 2 and one for each directory in it.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device.
    pub device: u32,
    /// Length in bytes.
    pub size: u64,
    /// Space it takes, in units of 512 bytes.
    pub blocks: u64,
    /// Preferred size of reads and writes, in bytes.
    pub block_bytes: u32,
    /// Last access.
    pub accessed: Time,
    /// Last change of the content.
    pub modified: Time,
    /// Last change of the inode.
    pub changed: Time,
    /// Birth.
    pub born: Time,
}

/// On whose behalf an operation runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A time to set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// To now.
    Now,
    /// To this moment.
    At(Time),
}

/// What a `setattr` changes; None leaves a field as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetAttributes {
    /// Permission bits.
    pub permissions: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub accessed: Option<SetTime>,
    /// Last change of content.
    pub modified: Option<SetTime>,
    /// Last change of the inode (the kernel sends it with its write-back cache only; by itself, that is a change of nothing).
    pub changed: Option<Time>,
    /// The kernel asks to clear set-id bits.
    pub kill_set_id: bool,
}

/// What `mknod`, `mkdir`, `create` and `symlink` make.
#[derive(Clone, Debug)]
pub struct NewInode {
    /// What it is.
    pub kind: Kind,
    /// Permission bits as they were asked for.
    pub permissions: u16,
    /// Those of them that the caller takes off. A directory's default list counts instead, if it has one.
    pub umask: u16,
    /// Device number of a device.
    pub device: u32,
    /// Where a symbolic link leads to.
    pub target: Vec<u8>,
}

/// What a write does beside changing bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WriteEffects {
    /// Set-id bits go.
    pub kill_set_id: bool,
    /// Times stay as they are: who held the write back has its own, and sets them.
    pub keep_times: bool,
}

/// How `rename` treats an existing target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// EEXIST.
    NoReplace,
    /// The two change places.
    Exchange,
    /// Something stays behind under the old name: a character device 0/0, overlay filesystems' mark for a name that is gone.
    Whiteout {
        /// Whether the target is replaced; else EEXIST.
        replace: bool,
    },
}

/// What `fallocate` does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllocateMode {
    /// Grows the file to the end of the range.
    Grow,
    /// Leaves the size.
    KeepSize,
    /// Zeros the range, leaves the size (a hole).
    PunchHole,
    /// Zeros the range; the flag: leaves the size.
    ZeroRange {
        /// Whether the size stays as it is.
        keep_size: bool,
    },
}

/// What `lseek` looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seek {
    /// The next byte that is stored.
    Data,
    /// The next hole (the end of the file is one).
    Hole,
}

/// What `setxattr` does about an existing value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XattrMode {
    /// Sets it whether or not it is there.
    Any,
    /// EEXIST if it is there.
    Create,
    /// ENODATA if it isn't.
    Replace,
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Where a listing continues behind this name: from 1, below 2^63, the same as long as the name stays.
    pub position: u64,
    /// The name.
    pub name: Vec<u8>,
    /// The inode it leads to.
    pub inode: Inode,
    /// What that is.
    pub kind: Kind,
    /// Its attributes, if they were asked for (its lookup count has then been raised by one) and could be had.
    pub attributes: Option<Attributes>,
}

/// What `statfs` shows, in bytes and inodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Space in all, in bytes.
    pub total_bytes: u64,
    /// Space that can be written, in bytes.
    pub available_bytes: u64,
    /// Inodes in use.
    pub inodes: u64,
}

/// Answers of the filesystem.
pub type Answer<T> = Result<T, Errno>;
