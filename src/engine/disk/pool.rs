//! A disk that keeps few files open: what `open` gives is a file that is opened when it is used, and closed again when too many others have
//! been used since. Owns which files are open; knows nothing of what is in them.
//!
//! A store has thousands of segments and a process few descriptors. Files that were created here stay open as long as somebody has
//! them: they are being written to, and there are few. Which one to close is decided by a clock hand: a file that was used since the
//! hand came by last is passed over once.
//!
//! Reading a file that is open costs no lock, and writes to no memory that others read.
//!
//! A file that is removed while it is closed can't be opened again: who reads from a segment that was replaced meanwhile gets `NotFound`, and looks
//! the key up once more.

use super::{Disk, DiskFile, Done, FileHandle, Lock, Queue, Request, Space};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// The disk below, with few files open.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    open_max: usize,
    /// Open files in the order in which the hand comes by.
    open: Mutex<VecDeque<Weak<PooledFile>>>,
}

impl Pool {
    /// Keeps at most so many files open (at least one), and no more than the disk allows.
    pub(crate) fn over(disk: Arc<dyn Disk>, open_max: usize) -> Arc<Self> {
        let open_max = open_max.min(disk.open_files_max()).max(1);
        Arc::new(Pool { shared: Arc::new(Shared { disk, open_max, open: Mutex::default() }) })
    }
}

impl Shared {
    /// One more file is open: closes others until there aren't too many.
    fn opened(&self, file: Weak<PooledFile>) {
        let mut closing = Vec::new();
        let mut open = self.open.lock();
        open.push_back(file);
        // Twice round: the first time everything may have been used.
        for _ in 0..2 * open.len() {
            if open.len() <= self.open_max {
                break;
            }
            let Some(first) = open.pop_front() else { break };
            let Some(candidate) = first.upgrade() else { continue };
            match candidate.close() {
                Some(handle) => closing.push(handle),
                None => open.push_back(first),
            }
        }
        drop(open);
        drop(closing);
    }
}

struct PooledFile {
    shared: Arc<Shared>,
    path: String,
    me: Weak<PooledFile>,
    /// None while it is closed. Who reads doesn't write to memory that others read, else threads that read one file would wait for each other.
    handle: ArcSwapOption<FileHandle>,
    used: AtomicBool,
    /// Of who opens it.
    opening: Mutex<()>,
}

impl PooledFile {
    /// Does something with the file, opened if it isn't.
    fn with<R>(&self, f: impl FnOnce(&FileHandle) -> io::Result<R>) -> io::Result<R> {
        match &*self.handle.load() {
            Some(open) => {
                self.note_use();
                f(open)
            }
            None => f(&self.open()?),
        }
    }

    fn open(&self) -> io::Result<FileHandle> {
        let opening = self.opening.lock();
        if let Some(open) = &*self.handle.load() {
            return Ok(FileHandle::clone(open));
        }
        let fresh = self.shared.disk.open(&self.path)?;
        self.handle.store(Some(Arc::new(fresh.clone())));
        drop(opening);
        self.shared.opened(self.me.clone());
        Ok(fresh)
    }

    fn note_use(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Gives the handle up, unless the file was used since the hand came by. Who is using it right now goes on with it.
    fn close(&self) -> Option<Arc<FileHandle>> {
        if self.used.swap(false, Ordering::Relaxed) {
            return None;
        }
        self.handle.swap(None)
    }
}

impl DiskFile for PooledFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|file| file.write_at(offset, bytes))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|file| file.read_at(offset, buffer))
    }

    fn read_parts_at(&self, offset: u64, first: &mut [u8], second: &mut [u8]) -> io::Result<usize> {
        self.with(|file| file.read_parts_at(offset, first, second))
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8], least: usize) -> Option<io::Result<usize>> {
        // Opening may have to wait for the disk.
        let handle = self.handle.load();
        self.note_use();
        handle.as_ref()?.try_read_at(offset, buffer, least)
    }

    fn read_from_disk(&self, offset: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.with(|file| file.read_from_disk(offset, buffer))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|file| file.sync_data())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.with(|file| file.allocate(length))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.with(|file| file.set_length(length))
    }

    fn length(&self) -> io::Result<u64> {
        self.with(|file| file.length())
    }

    fn rewrites_in_place(&self) -> bool {
        self.with(|file| Ok(file.rewrites_in_place())).unwrap_or(false)
    }

    fn descriptor(&self) -> Option<RawFd> {
        // It could be closed before it is used; who needs it takes `opened`.
        None
    }

    fn opened(self: Arc<Self>) -> io::Result<FileHandle> {
        self.with(|file| Ok(file.clone()))
    }
}

impl Disk for Pool {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.shared.disk.create_dir(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.shared.disk.list(path)
    }

    fn create(&self, path: &str) -> io::Result<FileHandle> {
        self.shared.disk.create(path)
    }

    fn open(&self, path: &str) -> io::Result<FileHandle> {
        let handle = self.shared.disk.open(path)?;
        let file = Arc::new_cyclic(|me| PooledFile {
            shared: self.shared.clone(),
            path: path.to_string(),
            me: me.clone(),
            handle: ArcSwapOption::from_pointee(handle),
            used: AtomicBool::new(false),
            opening: Mutex::default(),
        });
        self.shared.opened(Arc::downgrade(&file));
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.shared.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.shared.disk.remove(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.shared.disk.sync_dir(path)
    }

    fn lock(&self) -> io::Result<Lock> {
        self.shared.disk.lock()
    }

    fn space(&self) -> io::Result<Space> {
        self.shared.disk.space()
    }

    fn open_files_max(&self) -> usize {
        self.shared.open_max
    }

    fn submit(&self, queue: Queue, request: Request) {
        // What is under way keeps its file open.
        let request = match request {
            Request::Read { file, offset, length, done } => match file.opened() {
                Ok(file) => Request::Read { file, offset, length, done },
                Err(error) => failed(done, error),
            },
            Request::Sync { file, done } => match file.opened() {
                Ok(file) => Request::Sync { file, done },
                Err(error) => failed(done, error),
            },
            job @ Request::Job(_) => job,
        };
        self.shared.disk.submit(queue, request);
    }

    fn shut_down(&self) {
        self.shared.disk.shut_down();
    }
}

/// Tells that the file can't be opened; on the queue's thread, as every answer.
fn failed<T: 'static>(done: Done<T>, error: io::Error) -> Request {
    Request::Job(Box::new(move || done(Err(error))))
}
