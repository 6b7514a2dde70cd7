//! The seam to the disk. Everything that the engine does to files goes through [`Disk`] and [`DiskFile`]; nothing else
//! in the engine opens a file. Two worlds implement it: `uring` (real files, one ring and one thread a partition) and
//! `sim` (memory, seeded, with crashes and faults). One contract test (`contract`) runs over both.
//!
//! Paths are relative to the store's directory, with `/` between components ("partition_000/0000000001.data").
//!
//! What is durable when:
//! * written bytes and a file's length: after `sync_data` of that file (a `Request::Sync` is the same);
//! * a created, renamed or removed name: after `sync_dir` of its directory;
//! * before that a power loss may keep, drop or tear each of them in any combination; a kill of the process loses nothing.
//!
//! A failed write or sync is final: callers never try it again into a false success.

use std::io;
use std::sync::Arc;

#[cfg(test)]
mod contract;
mod none;
mod pool;
pub mod sim;
pub mod uring;

pub(crate) use none::NoFile;
pub(crate) use pool::Pool;

/// An open file. Handles are shared; the last one to go closes the file. A removed file stays readable through its handle.
pub trait DiskFile: Send + Sync {
    /// Hands the bytes to the kernel, all of them or an error. Growing the file is allowed. Not durable by itself.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reads until the buffer is full or the file ends; returns how many bytes there were. May wait for the disk.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Like [`read_at`](Self::read_at) into two buffers, the second behind the first.
    fn read_parts_at(&self, offset: u64, first: &mut [u8], second: &mut [u8]) -> io::Result<usize> {
        let count = self.read_at(offset, first)?;
        if count < first.len() {
            return Ok(count);
        }
        Ok(count + self.read_at(offset + count as u64, second)?)
    }
    /// Like [`read_at`](Self::read_at), but only what needn't be waited for: None where less than `least` bytes could be had
    /// without waiting for the disk.
    fn try_read_at(&self, offset: u64, buffer: &mut [u8], least: usize) -> Option<io::Result<usize>>;
    /// Like [`read_at`](Self::read_at), but what the disk itself has: after a sync that failed the kernel may hold in memory for
    /// written what never was. None where it can't be had past the kernel's memory. To be asked after a sync.
    fn read_from_disk(&self, offset: u64, buffer: &mut [u8]) -> io::Result<Option<usize>>;
    /// Makes what was written, and the length, durable. Waits.
    fn sync_data(&self) -> io::Result<()>;
    /// Takes disk space for the bytes up to `length` and makes the file that long (never shorter); new bytes read as
    /// zeros. ENOSPC if there is not enough; the file may then have any length up to `length`.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Cuts or grows the file to `length`.
    fn set_length(&self, length: u64) -> io::Result<()>;
    /// The file's length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Whether what was written once can be written again without taking space for it: not where the filesystem copies what is written.
    fn rewrites_in_place(&self) -> bool {
        true
    }
    /// The descriptor, where there is a real one that stays open as long as this handle lives.
    fn descriptor(&self) -> Option<std::os::fd::RawFd>;
    /// A handle that keeps the file open as long as it lives: itself, or, of a file that is only opened when it is used, one behind it.
    fn opened(self: Arc<Self>) -> io::Result<FileHandle>;
}

/// Shared handle of an open file.
pub type FileHandle = Arc<dyn DiskFile>;

/// Space of the filesystem below the store, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total_bytes: u64,
    /// What we could still take.
    pub available_bytes: u64,
}

/// How a request tells that it is done. Called exactly once, on whichever thread completes it (never inside `submit`
/// itself); dropping it uncalled is allowed only when the world ends.
pub type Done<T> = Box<dyn FnOnce(io::Result<T>) + Send>;

/// What a partition asks of the disk without waiting for it.
pub enum Request {
    /// Reads `length` bytes at `offset`; fewer where the file ends.
    Read {
        /// From which file.
        file: FileHandle,
        /// Where, in bytes.
        offset: u64,
        /// How much, in bytes.
        length: usize,
        /// Gets the bytes.
        done: Done<Vec<u8>>,
    },
    /// The same as [`DiskFile::sync_data`].
    Sync {
        /// Which file.
        file: FileHandle,
        /// Told when it is durable.
        done: Done<()>,
    },
    /// Runs on the queue's thread. It may use the blocking calls of `Disk` and `DiskFile` if the queue is
    /// [`Queue::Background`].
    Job(Box<dyn FnOnce() + Send>),
}

impl Request {
    /// Carries it out on this thread, waiting for the disk.
    pub(crate) fn perform(self) {
        match self {
            Request::Read { file, offset, length, done } => {
                let mut buffer = vec![0; length];
                done(file.read_at(offset, &mut buffer).map(|count| {
                    buffer.truncate(count);
                    buffer
                }));
            }
            Request::Sync { file, done } => done(file.sync_data()),
            Request::Job(job) => job(),
        }
    }
}

/// Who carries a request out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// The worker of the partition with this index: its own thread and ring. Jobs there must not wait for the disk.
    Worker(usize),
    /// The store's thread for slow work that nobody waits for: sealing segments, hints, compaction. Jobs run in order, one at a time.
    Background,
    /// The store's thread for making segments, which writers may have to wait for. Jobs run in order, one at a time.
    Making,
}

/// Who has a store's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// We.
    Ours,
    /// Another process; its id, if it could be read.
    Theirs(Option<u32>),
}

/// A store's directory, and the queues that work on it.
pub trait Disk: Send + Sync {
    /// Makes a directory; fine if it is there already.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// The names in a directory, in no particular order.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// Creates a new file for reading and writing; AlreadyExists if the name is taken.
    fn create(&self, path: &str) -> io::Result<FileHandle>;
    /// Opens an existing file (for reading only, if the disk was opened so).
    fn open(&self, path: &str) -> io::Result<FileHandle>;
    /// Renames, replacing what the new name held. Both must be in the same directory.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file's name.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes the directory's names durable.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Takes the store's lock (an exclusive one on the file `LOCK`, which then holds our process id as text; shared and without
    /// writing, if the disk was opened for reading only). It is let go when the disk is shut down.
    fn lock(&self) -> io::Result<Lock>;
    /// How many files a store may keep open without taking the process anywhere near its limit.
    fn open_files_max(&self) -> usize;
    /// The space below.
    fn space(&self) -> io::Result<Space>;
    /// Passes a request on; returns at once.
    fn submit(&self, queue: Queue, request: Request);
    /// Carries out what is queued, ends the queues' threads and waits for them. Afterwards `submit` is a mistake of ours.
    fn shut_down(&self);
}
