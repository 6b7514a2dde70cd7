//! One real file.
//!
//! What is done for every read and write is called without the C library: its calls are points where a thread can be cancelled, which costs some
//! percent of a read from memory.

use crate::engine::disk::{DiskFile, FileHandle};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) struct RealFile {
    file: File,
    rewrites_in_place: bool,
}

/// What a read past the page cache is aligned to, in bytes: no disk asks for more.
const DIRECT_BYTES: usize = 4096;

/// Whether reads that don't wait have turned out not to be supported by the filesystem below.
static NO_NOWAIT: AtomicBool = AtomicBool::new(false);

impl RealFile {
    pub(super) fn new(file: File, rewrites_in_place: bool) -> Self {
        RealFile { file, rewrites_in_place }
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::pwrite(&self.file, &bytes[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => done += more,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        while count < buffer.len() {
            match rustix::io::pread(&self.file, &mut buffer[count..], offset + count as u64) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    }

    fn read_parts_at(&self, offset: u64, first: &mut [u8], second: &mut [u8]) -> io::Result<usize> {
        let wanted = first.len() + second.len();
        let mut parts = [IoSliceMut::new(first), IoSliceMut::new(second)];
        match rustix::io::preadv(&self.file, &mut parts, offset) {
            Ok(count) if count == wanted => Ok(count),
            // Short or interrupted, which is rare: once more, piece by piece.
            Ok(_) | Err(rustix::io::Errno::INTR) => {
                let count = self.read_at(offset, first)?;
                if count < first.len() {
                    return Ok(count);
                }
                Ok(count + self.read_at(offset + count as u64, second)?)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8], least: usize) -> Option<io::Result<usize>> {
        if NO_NOWAIT.load(Ordering::Relaxed) {
            return None;
        }
        let mut whole = [IoSliceMut::new(buffer)];
        match rustix::io::preadv2(&self.file, &mut whole, offset, rustix::io::ReadWriteFlags::NOWAIT) {
            Ok(count) if count >= least => Some(Ok(count)),
            // Less may mean the end of the file, or that the rest isn't in memory.
            Ok(_) => None,
            Err(error) => {
                if error == rustix::io::Errno::OPNOTSUPP {
                    NO_NOWAIT.store(true, Ordering::Relaxed);
                }
                None
            }
        }
    }

    fn read_from_disk(&self, offset: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let direct = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        let Ok(direct) = direct else { return Ok(None) };
        // Offset, length and memory must be aligned; a block more on either side makes room for that.
        let start = offset - offset % DIRECT_BYTES as u64;
        let lead = (offset - start) as usize;
        let wanted = (lead + buffer.len()).next_multiple_of(DIRECT_BYTES);
        let mut memory = vec![0; wanted + DIRECT_BYTES];
        let aligned = memory.as_ptr().align_offset(DIRECT_BYTES);
        let memory = &mut memory[aligned..aligned + wanted];
        let mut count = 0;
        // At the end of a file a read is short, and the next one would not be aligned any more.
        while count < wanted && count % DIRECT_BYTES == 0 {
            match direct.read_at(&mut memory[count..], start + count as u64) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let count = count.saturating_sub(lead).min(buffer.len());
        buffer[..count].copy_from_slice(&memory[lead..lead + count]);
        Ok(Some(count))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        if length <= self.length()? {
            return Ok(());
        }
        let flags = nix::fcntl::FallocateFlags::empty();
        match nix::fcntl::fallocate(&self.file, flags, 0, length as i64) {
            // Some filesystems can't; then running out of space shows later, as a failed write.
            Err(nix::errno::Errno::EOPNOTSUPP) => self.file.set_len(length),
            other => other.map_err(io::Error::from),
        }
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn rewrites_in_place(&self) -> bool {
        self.rewrites_in_place
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }

    fn opened(self: Arc<Self>) -> io::Result<FileHandle> {
        Ok(self)
    }
}
