//! Handles of the simulated disk's files. They own nothing but their number.

use super::state::State;
use crate::engine::disk::{DiskFile, FileHandle};
use parking_lot::Mutex;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

pub(super) struct SimFile {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) life: u64,
    pub(super) inode: u64,
}

impl DiskFile for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.state.lock().write(self.life, self.inode, offset, bytes)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.state.lock();
        state.check(self.life)?;
        Ok(state.read(self.inode, offset, buffer))
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8], least: usize) -> Option<io::Result<usize>> {
        let mut state = self.state.lock();
        if let Err(error) = state.check(self.life) {
            return Some(Err(error));
        }
        let cold = state.cold_percent;
        if state.dice.percent(cold) {
            return None;
        }
        // The rest isn't in memory.
        let is_partly_cold = least < buffer.len() && state.dice.percent(cold);
        let buffer = if is_partly_cold { &mut buffer[..least] } else { buffer };
        Some(Ok(state.read(self.inode, offset, buffer)))
    }

    fn read_from_disk(&self, offset: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut state = self.state.lock();
        state.check(self.life)?;
        // Not everywhere can it be had.
        if state.dice.percent(10) {
            return Ok(None);
        }
        Ok(Some(state.inodes[&self.inode].read_from_disk(offset, buffer)))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check(self.life)?;
        let up_to = state.inodes[&self.inode].ordinal();
        state.sync(self.life, self.inode, up_to)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.state.lock().allocate(self.life, self.inode, length)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.state.lock().set_length(self.life, self.inode, length)
    }

    fn length(&self) -> io::Result<u64> {
        let state = self.state.lock();
        state.check(self.life)?;
        Ok(state.inodes[&self.inode].content.len() as u64)
    }

    fn descriptor(&self) -> Option<RawFd> {
        None
    }

    fn opened(self: Arc<Self>) -> io::Result<FileHandle> {
        Ok(self)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.state.lock().closed(std::ptr::from_ref(self).addr());
    }
}
