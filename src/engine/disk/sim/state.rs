//! All that a simulated disk is, behind its one lock. Owns files, directories, what is pending, and which trouble is due.

use super::Crash;
use super::dice::Dice;
use super::directory::{Directory, Node};
use super::inode::{Inode, Loss};
use crate::engine::disk::{FileHandle, Lock, Queue, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// What becomes of a call that changes something.
#[derive(PartialEq, Eq)]
enum Luck {
    Fine,
    Fails,
    Dies,
}

/// A request that waits for the simulator.
pub(super) struct Pending {
    pub(super) queue: Queue,
    pub(super) request: Request,
    /// Of a sync: which file, and which of its changes it covers.
    pub(super) synced: Option<(u64, u64)>,
}

pub(super) struct State {
    /// Counts crashes; handles of another life are dead.
    pub(super) life: u64,
    pub(super) dead: bool,
    pub(super) io_count: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) fail_at: Option<u64>,
    pub(super) full_at: Option<u64>,
    pub(super) fail_sync: Option<u64>,
    pub(super) fail_write: Option<u64>,
    pub(super) failures: u64,
    pub(super) fail_removals: bool,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) cold_percent: u64,
    pub(super) dice: Dice,
    pub(super) directories: BTreeMap<String, Directory>,
    pub(super) inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    pub(super) pending: Vec<Pending>,
    /// Open handles by where they are in memory: only looked up, never walked in order.
    handles: BTreeMap<usize, u64>,
    pub(super) locked: bool,
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

fn failed(what: &str) -> io::Error {
    io::Error::other(format!("a {what} failed, as planned"))
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

/// Directory and name of a path.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        State {
            life: 0,
            dead: false,
            io_count: 0,
            crash_at: None,
            fail_at: None,
            full_at: None,
            fail_sync: None,
            fail_write: None,
            failures: 0,
            fail_removals: false,
            capacity_bytes: None,
            cold_percent: 25,
            dice: Dice::new(seed),
            directories: BTreeMap::from([(String::new(), Directory::default())]),
            inodes: BTreeMap::new(),
            next_inode: 1,
            pending: Vec::new(),
            handles: BTreeMap::new(),
            locked: false,
        }
    }

    pub(super) fn copy(&self) -> Self {
        State {
            directories: self.directories.clone(),
            inodes: self.inodes.clone(),
            next_inode: self.next_inode,
            capacity_bytes: self.capacity_bytes,
            cold_percent: self.cold_percent,
            dice: self.dice.clone(),
            ..State::new(0)
        }
    }

    // ---- lives ------------------------------------------------------------------------------------------------------

    pub(super) fn check(&self, life: u64) -> io::Result<()> {
        if self.dead || life != self.life {
            return Err(io::Error::other("the simulated disk is dead"));
        }
        Ok(())
    }

    /// A call that changes something begins.
    fn begin(&mut self, life: u64) -> io::Result<Luck> {
        self.check(life)?;
        self.io_count += 1;
        let now = Some(self.io_count);
        self.dead = self.crash_at == now;
        if self.dead {
            return Ok(Luck::Dies);
        }
        if self.fail_at == now {
            self.failures += 1;
            return Ok(Luck::Fails);
        }
        Ok(Luck::Fine)
    }

    /// The same for a call that happens as a whole or not at all.
    fn begin_whole(&mut self, life: u64) -> io::Result<()> {
        match self.begin(life)? {
            Luck::Fine => Ok(()),
            Luck::Fails => Err(failed("call")),
            Luck::Dies => self.check(life),
        }
    }

    /// The same for one that takes space; false if right now there is none.
    fn begin_taking_space(&mut self, life: u64) -> io::Result<bool> {
        self.begin_whole(life)?;
        let full = self.full_at == Some(self.io_count);
        self.failures += u64::from(full);
        Ok(!full)
    }

    /// The same for a sync; false if it fails, having done a part.
    fn begin_sync(&mut self, life: u64) -> io::Result<bool> {
        match self.begin(life)? {
            Luck::Fine => Ok(!self.is_due_sync()),
            Luck::Fails => Ok(false),
            Luck::Dies => self.check(life).map(|()| false),
        }
    }

    pub(super) fn crash(&mut self, how: Crash) -> Vec<Pending> {
        if how == Crash::Power {
            let loss = Loss::by(&mut self.dice);
            for inode in self.inodes.values_mut() {
                inode.lose_power(loss, &mut self.dice);
            }
            let loss = Loss::by(&mut self.dice);
            for directory in self.directories.values_mut() {
                directory.lose_power(loss, &mut self.dice);
            }
            let root = self.directories[""].names.clone();
            self.directories.retain(|path, _| path.is_empty() || root.contains_key(path));
        }
        self.life += 1;
        self.dead = false;
        self.crash_at = None;
        self.fail_at = None;
        self.full_at = None;
        self.fail_sync = None;
        self.fail_write = None;
        self.failures = 0;
        self.locked = false;
        self.handles.clear();
        let mut named: BTreeSet<u64> = self.directories.values().flat_map(Directory::files).collect();
        named.extend(self.directories.values().flat_map(Directory::files_of_changes));
        self.inodes.retain(|inode, _| named.contains(inode));
        // What a crash brings back had its space all the time.
        let used_bytes = self.used_bytes();
        self.capacity_bytes = self.capacity_bytes.map(|capacity_bytes| capacity_bytes.max(used_bytes));
        std::mem::take(&mut self.pending)
    }

    pub(super) fn lock(&mut self, life: u64) -> io::Result<Lock> {
        self.check(life)?;
        if self.locked {
            return Ok(Lock::Theirs(None));
        }
        if self.file("LOCK").is_err() {
            let inode = self.new_inode();
            self.directories.entry(String::new()).or_default().create("LOCK", Node::File(inode));
        }
        self.locked = true;
        Ok(Lock::Ours)
    }

    // ---- requests ---------------------------------------------------------------------------------------------------

    /// Positions of the requests that could complete next.
    pub(super) fn candidates(&self) -> Vec<usize> {
        let mut blocked: Vec<Queue> = Vec::new();
        let mut candidates = Vec::new();
        for (position, pending) in self.pending.iter().enumerate() {
            if matches!(pending.queue, Queue::Worker(_)) {
                candidates.push(position);
            } else if !blocked.contains(&pending.queue) {
                blocked.push(pending.queue);
                candidates.push(position);
            }
        }
        candidates
    }

    /// What a sync that is asked for now covers.
    pub(super) fn covered_by(&self, file: &FileHandle) -> Option<(u64, u64)> {
        let inode = *self.handles.get(&Arc::as_ptr(file).cast::<()>().addr())?;
        Some((inode, self.inodes.get(&inode)?.ordinal()))
    }

    // ---- names ------------------------------------------------------------------------------------------------------

    pub(super) fn directory(&self, path: &str) -> io::Result<&Directory> {
        self.directories.get(path).ok_or_else(not_found)
    }

    fn directory_mut(&mut self, path: &str) -> io::Result<&mut Directory> {
        self.directories.get_mut(path).ok_or_else(not_found)
    }

    pub(super) fn file(&self, path: &str) -> io::Result<u64> {
        let (directory, name) = split(path);
        match self.directory(directory)?.names.get(name) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Directory) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            None => Err(not_found()),
        }
    }

    pub(super) fn create_dir(&mut self, life: u64, path: &str) -> io::Result<()> {
        if !self.begin_taking_space(life)? {
            return Err(full());
        }
        let (parent, name) = split(path);
        let parent = self.directory_mut(parent)?;
        match parent.names.get(name) {
            Some(Node::Directory) => return Ok(()),
            Some(Node::File(_)) => return Err(io::Error::from(io::ErrorKind::NotADirectory)),
            None => parent.create(name, Node::Directory),
        }
        self.directories.insert(path.to_string(), Directory::default());
        Ok(())
    }

    pub(super) fn create(&mut self, life: u64, path: &str) -> io::Result<u64> {
        if !self.begin_taking_space(life)? {
            return Err(full());
        }
        let (directory, name) = split(path);
        if self.directory(directory)?.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let inode = self.new_inode();
        self.directory_mut(directory)?.create(name, Node::File(inode));
        Ok(inode)
    }

    fn new_inode(&mut self) -> u64 {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        inode
    }

    pub(super) fn rename(&mut self, life: u64, from: &str, to: &str) -> io::Result<()> {
        self.begin_whole(life)?;
        let inode = self.file(from)?;
        let ((directory, old), (other, new)) = (split(from), split(to));
        if directory != other {
            return Err(io::Error::other("renamed from one directory to another"));
        }
        self.directory_mut(directory)?.rename(old, new, Node::File(inode));
        Ok(())
    }

    pub(super) fn remove(&mut self, life: u64, path: &str) -> io::Result<()> {
        self.begin_whole(life)?;
        let inode = self.file(path)?;
        if self.fail_removals {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        let (directory, name) = split(path);
        self.directory_mut(directory)?.remove(name, Node::File(inode));
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, life: u64, path: &str) -> io::Result<()> {
        let succeeds = self.begin_sync(life)?;
        let State { directories, dice, .. } = self;
        let directory = directories.get_mut(path).ok_or_else(not_found)?;
        if !succeeds {
            directory.fail_sync(dice);
            return Err(failed("directory's sync"));
        }
        directory.sync();
        Ok(())
    }

    // ---- content ----------------------------------------------------------------------------------------------------

    pub(super) fn opened(&mut self, address: usize, inode: u64) {
        self.handles.insert(address, inode);
    }

    pub(super) fn closed(&mut self, address: usize) {
        self.handles.remove(&address);
    }

    pub(super) fn open_handles(&self) -> (usize, usize) {
        let named: BTreeSet<u64> = self.directories.values().flat_map(Directory::named_files).collect();
        let nameless = self.handles.values().filter(|inode| !named.contains(inode)).count();
        (self.handles.len(), nameless)
    }

    pub(super) fn read(&self, inode: u64, offset: u64, buffer: &mut [u8]) -> usize {
        let content = &self.inodes[&inode].content;
        let start = (offset as usize).min(content.len());
        let count = buffer.len().min(content.len() - start);
        buffer[..count].copy_from_slice(&content[start..start + count]);
        count
    }

    fn length(&self, inode: u64) -> u64 {
        self.inodes[&inode].content.len() as u64
    }

    pub(super) fn write(&mut self, life: u64, inode: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let luck = self.begin(life)?;
        let fails = due(&mut self.fail_write);
        if fails || luck != Luck::Fine {
            // Cut short: so it is when the process or the disk dies in the middle.
            let count = self.dice.index(bytes.len() + 1) * self.dice.index(2);
            let file = self.inodes.get_mut(&inode).ok_or_else(not_found)?;
            file.write(offset, &bytes[..count]);
            self.failures += u64::from(fails);
            return Err(failed("write"));
        }
        let length = self.length(inode);
        let end = offset + bytes.len() as u64;
        if end > length && end - length > self.free_bytes() {
            return Err(full());
        }
        self.inodes.get_mut(&inode).ok_or_else(not_found)?.write(offset, bytes);
        Ok(())
    }

    pub(super) fn sync(&mut self, life: u64, inode: u64, up_to: u64) -> io::Result<()> {
        let succeeds = self.begin_sync(life)?;
        let State { inodes, dice, .. } = self;
        let file = inodes.get_mut(&inode).ok_or_else(not_found)?;
        if !succeeds {
            file.fail_sync(dice);
            return Err(failed("sync"));
        }
        file.sync(up_to);
        Ok(())
    }

    fn is_due_sync(&mut self) -> bool {
        let fails = due(&mut self.fail_sync);
        self.failures += u64::from(fails);
        fails
    }

    pub(super) fn allocate(&mut self, life: u64, inode: u64, length: u64) -> io::Result<()> {
        let there_is_space = self.begin_taking_space(life)?;
        let now = self.length(inode);
        let wanted = length.saturating_sub(now);
        let free = if there_is_space { self.free_bytes() } else { wanted.saturating_sub(1) };
        let granted = if wanted > free { self.dice.below(free + 1) } else { wanted };
        if granted > 0 {
            self.inodes.get_mut(&inode).ok_or_else(not_found)?.set_length(now + granted);
        }
        if granted < wanted { Err(full()) } else { Ok(()) }
    }

    pub(super) fn set_length(&mut self, life: u64, inode: u64, length: u64) -> io::Result<()> {
        self.begin_whole(life)?;
        let now = self.length(inode);
        if length > now && length - now > self.free_bytes() {
            return Err(full());
        }
        self.inodes.get_mut(&inode).ok_or_else(not_found)?.set_length(length);
        Ok(())
    }

    /// What all files that have a name, or a handle, take together.
    pub(super) fn used_bytes(&self) -> u64 {
        let mut used: BTreeSet<u64> = self.directories.values().flat_map(Directory::files).collect();
        used.extend(self.handles.values());
        used.iter().filter_map(|inode| self.inodes.get(inode)).map(|inode| inode.content.len() as u64).sum()
    }

    fn free_bytes(&self) -> u64 {
        match self.capacity_bytes {
            Some(capacity_bytes) => capacity_bytes.saturating_sub(self.used_bytes()),
            None => u64::MAX / 2,
        }
    }
}

/// Counts a planned failure down; true when its moment has come.
fn due(after: &mut Option<u64>) -> bool {
    match after {
        Some(0) => {
            *after = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}
