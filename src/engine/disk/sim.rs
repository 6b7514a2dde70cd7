//! A disk in memory, where a seed decides what is hard to meet in the real world: in which order requests complete, what a power
//! loss keeps of what wasn't synced, which sync fails, where the space ends. Owns files and names as the process sees them and as they are
//! durable; knows nothing of what is kept in them.
//!
//! Promises: the same seed and the same calls give the same history; nothing runs by itself (`submit` only queues, the
//! simulator completes); what was synced survives every crash; handles of a life that crashed are dead.

mod dice;
mod directory;
mod file;
mod inode;
mod state;

pub use self::dice::Dice;

use self::directory::Node;
use self::file::SimFile;
use self::state::{Pending, State};
use super::{Disk, FileHandle, Lock, Queue, Request, Space};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process ends; everything that it handed over is there.
    Kill,
    /// The machine ends; what wasn't synced is there, not there, torn or noise.
    Power,
}

/// A handle of a simulated disk; clones share it.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    life: u64,
}

impl SimDisk {
    /// An empty disk without a bound.
    pub fn new(seed: u64) -> Self {
        SimDisk { state: Arc::new(Mutex::new(State::new(seed))), life: 0 }
    }

    /// Ends this life of the disk: pending requests vanish, all handles die, and the disk is what the crash left of it. Returns
    /// the handle of the next life.
    #[must_use]
    pub fn crash(&self, how: Crash) -> SimDisk {
        let mut state = self.state.lock();
        let vanished = state.crash(how);
        let life = state.life;
        drop(state);
        // What is dropped may wake somebody, who must not find the disk locked.
        drop(vanished);
        SimDisk { state: self.state.clone(), life }
    }

    /// Lets all pending requests of this life come to nothing: each holds the store that asked, and with it this disk.
    pub fn forget_pending(&self) {
        let mut state = self.state.lock();
        let forgotten = if state.life == self.life { std::mem::take(&mut state.pending) } else { Vec::new() };
        drop(state);
        // What is dropped may wake somebody, who must not find the disk locked.
        drop(forgotten);
    }

    /// A disk of its own with the same files, and nothing pending.
    #[must_use]
    pub fn snapshot(&self) -> SimDisk {
        let state = self.state.lock().copy();
        SimDisk { life: state.life, state: Arc::new(Mutex::new(state)) }
    }

    /// How many handles of this disk, files' handles among them, there are.
    pub fn handle_count(&self) -> usize {
        Arc::strong_count(&self.state)
    }

    /// Goes on with other luck.
    pub fn reseed(&self, seed: u64) {
        self.state.lock().dice = Dice::new(seed);
    }

    // ---- requests ---------------------------------------------------------------------------------------------------

    /// How many requests could complete next: any of a worker's, the first of each other queue.
    pub fn pending(&self) -> usize {
        self.state.lock().candidates().len()
    }

    /// Completes one of those that could; false if there is no such one.
    pub fn complete(&self, index: usize) -> bool {
        let mut state = self.state.lock();
        let Some(position) = state.candidates().get(index).copied() else { return false };
        let pending = state.pending.remove(position);
        drop(state);
        self.carry_out(pending);
        true
    }

    fn carry_out(&self, pending: Pending) {
        match pending.request {
            Request::Read { file, offset, length, done } => {
                let mut buffer = vec![0; length];
                done(file.read_at(offset, &mut buffer).map(|count| {
                    buffer.truncate(count);
                    buffer
                }));
            }
            Request::Sync { file, done } => done(match pending.synced {
                Some((inode, up_to)) => self.state.lock().sync(self.life, inode, up_to),
                None => file.sync_data(),
            }),
            Request::Job(job) => job(),
        }
    }

    // ---- trouble ----------------------------------------------------------------------------------------------------

    /// How many changing calls (write, sync, allocate, set length, create, rename, remove, directory's creation and sync) there were.
    pub fn io_count(&self) -> u64 {
        self.state.lock().io_count
    }

    /// The disk dies at the changing call that makes `io_count` this number, before carrying it out (a write may be cut
    /// short); every call from then on fails. None: it doesn't.
    pub fn crash_at(&self, io_count: Option<u64>) {
        self.state.lock().crash_at = io_count;
    }

    /// The changing call that makes `io_count` this number fails, once: a write or a sync after a part of it, any other before it.
    pub fn fail_at(&self, io_count: Option<u64>) {
        self.state.lock().fail_at = io_count;
    }

    /// The changing call that makes `io_count` this number finds no space, once, if it is one that takes some.
    pub fn full_at(&self, io_count: Option<u64>) {
        self.state.lock().full_at = io_count;
    }

    /// Whether it has died, by [`crash_at`](Self::crash_at) or with its life.
    pub fn is_dead(&self) -> bool {
        let state = self.state.lock();
        state.dead || state.life != self.life
    }

    /// After so many good ones, one file's sync fails: some of what it should have covered is lost, and later ones succeed without it.
    pub fn fail_sync(&self, after: u64) {
        self.state.lock().fail_sync = Some(after);
    }

    /// After so many good ones, one write fails, having written a part.
    pub fn fail_write(&self, after: u64) {
        self.state.lock().fail_write = Some(after);
    }

    /// From now on files can't be removed, or can again.
    pub fn fail_removals(&self, fail: bool) {
        self.state.lock().fail_removals = fail;
    }

    /// How many handles are open, and how many of them lead to a file that has no name any more.
    pub fn open_handles(&self) -> (usize, usize) {
        self.state.lock().open_handles()
    }

    /// Whether one of the failures asked for has happened.
    pub fn has_failed(&self) -> bool {
        self.state.lock().failures > 0
    }

    /// How many bytes all files may have together; returns whether there was a bound before.
    pub fn set_capacity(&self, bytes: Option<u64>) -> bool {
        std::mem::replace(&mut self.state.lock().capacity_bytes, bytes).is_some()
    }

    /// In how many of a hundred cases a read would have to wait for the disk.
    pub fn set_cold_percent(&self, percent: u64) {
        self.state.lock().cold_percent = percent;
    }

    // ---- files from outside -----------------------------------------------------------------------------------------

    /// Paths of all files, in order.
    pub fn files(&self) -> Vec<String> {
        let state = self.state.lock();
        let in_directory = |(path, directory): (&String, &directory::Directory)| -> Vec<String> {
            let files = directory.names.iter().filter(|(_, node)| matches!(node, Node::File(_)));
            let slash = if path.is_empty() { "" } else { "/" };
            files.map(|(name, _)| format!("{path}{slash}{name}")).collect()
        };
        state.directories.iter().flat_map(in_directory).collect()
    }

    /// A file's content as the process sees it.
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let inode = state.file(path).ok()?;
        Some(state.inodes[&inode].content.clone())
    }

    /// Turns one bit of a file over.
    pub fn flip_bit(&self, path: &str, offset: u64, bit: u8) {
        let mut state = self.state.lock();
        if let Ok(inode) = state.file(path)
            && let Some(inode) = state.inodes.get_mut(&inode)
        {
            inode.rot(offset as usize, 1 << (bit % 8));
        }
    }

    /// Puts other bytes, durably, in place of a file's content.
    pub fn overwrite(&self, path: &str, content: &[u8]) {
        let mut state = self.state.lock();
        if let Ok(inode) = state.file(path)
            && let Some(inode) = state.inodes.get_mut(&inode)
        {
            inode.overwrite(content);
        }
    }

    fn handle(&self, inode: u64) -> FileHandle {
        let file = Arc::new(SimFile { state: self.state.clone(), life: self.life, inode });
        self.state.lock().opened(Arc::as_ptr(&file).addr(), inode);
        file
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.state.lock().create_dir(self.life, path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.check(self.life)?;
        Ok(state.directory(path)?.names.keys().cloned().collect())
    }

    fn create(&self, path: &str) -> io::Result<FileHandle> {
        let inode = self.state.lock().create(self.life, path)?;
        Ok(self.handle(inode))
    }

    fn open(&self, path: &str) -> io::Result<FileHandle> {
        let state = self.state.lock();
        state.check(self.life)?;
        let inode = state.file(path)?;
        drop(state);
        Ok(self.handle(inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state.lock().rename(self.life, from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.state.lock().remove(self.life, path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.state.lock().sync_dir(self.life, path)
    }

    fn lock(&self) -> io::Result<Lock> {
        self.state.lock().lock(self.life)
    }

    fn open_files_max(&self) -> usize {
        usize::MAX
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.state.lock();
        state.check(self.life)?;
        let total_bytes = state.capacity_bytes.unwrap_or(1 << 40);
        Ok(Space { total_bytes, available_bytes: total_bytes.saturating_sub(state.used_bytes()) })
    }

    fn submit(&self, queue: Queue, request: Request) {
        let mut state = self.state.lock();
        let synced = match &request {
            Request::Sync { file, .. } => state.covered_by(file),
            _ => None,
        };
        if state.life == self.life {
            state.pending.push(Pending { queue, request, synced });
        } else {
            // Nobody is left to answer; what is dropped may wake somebody.
            drop(state);
            drop(request);
        }
    }

    fn shut_down(&self) {
        while self.complete(0) {}
        let mut state = self.state.lock();
        if state.life == self.life {
            state.locked = false;
        }
    }
}
