//! A file that isn't there: what a store that was opened read-only appends to, which it never does.

use super::{DiskFile, FileHandle};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

pub(crate) struct NoFile;

fn refused<T>() -> io::Result<T> {
    Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem))
}

impl DiskFile for NoFile {
    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        refused()
    }
    fn read_at(&self, _offset: u64, _buffer: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
    fn try_read_at(&self, _offset: u64, _buffer: &mut [u8], _least: usize) -> Option<io::Result<usize>> {
        Some(Ok(0))
    }
    fn read_from_disk(&self, _offset: u64, _buffer: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(None)
    }
    fn sync_data(&self) -> io::Result<()> {
        refused()
    }
    fn allocate(&self, _length: u64) -> io::Result<()> {
        refused()
    }
    fn set_length(&self, _length: u64) -> io::Result<()> {
        refused()
    }
    fn length(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn descriptor(&self) -> Option<RawFd> {
        None
    }
    fn opened(self: Arc<Self>) -> io::Result<FileHandle> {
        Ok(self)
    }
}
