//! Where a scan takes its bytes from: a file, of which a window is in memory, or memory.

use crate::engine::disk::FileHandle;
use std::io;

/// How much of a file is read at a time, in bytes.
const PIECE_BYTES: usize = 1024 * 1024;

/// Bytes that can be looked at in any order; forwards is cheapest.
pub(crate) trait Source {
    /// How many there are.
    fn length(&self) -> u64;
    /// Those from an offset on: as many as asked for, but for what lies behind the end.
    fn bytes(&mut self, offset: u64, count: usize) -> io::Result<&[u8]>;
}

impl Source for &[u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn bytes(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or(&[]);
        Ok(&rest[..count.min(rest.len())])
    }
}

/// A file, as far as `length`. Reading waits for the disk.
pub(crate) struct Window<'a> {
    file: &'a FileHandle,
    length: u64,
    piece_bytes: usize,
    /// Where in the file that begins which is in memory.
    base: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(crate) fn over(file: &'a FileHandle, length: u64) -> Self {
        Window::with_piece(file, length, PIECE_BYTES)
    }

    pub(super) fn with_piece(file: &'a FileHandle, length: u64, piece_bytes: usize) -> Self {
        Window { file, length, piece_bytes, base: 0, bytes: Vec::new() }
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    fn read(&mut self, offset: u64, count: usize) -> io::Result<()> {
        self.base = offset;
        self.bytes.resize(count, 0);
        let read = self.file.read_at(offset, &mut self.bytes)?;
        self.bytes.truncate(read);
        Ok(())
    }
}

impl Source for Window<'_> {
    fn length(&self) -> u64 {
        self.length
    }

    fn bytes(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = count.min(left);
        let end = self.base + self.bytes.len() as u64;
        if offset < self.base || offset + count as u64 > end {
            self.read(offset, count.max(self.piece_bytes).min(left))?;
        }
        let rest = &self.bytes[(offset - self.base) as usize..];
        Ok(&rest[..count.min(rest.len())])
    }
}
