//! The append buffer of a partition's active segment: frames get their offsets at once, their numbers on the way out.
//! Owns bytes that the kernel doesn't have yet; knows nothing of keys or of who waits.
//!
//! Offsets are final when a frame is appended. What lies behind `written` is served from the buffer, never from the disk.

use super::batch::ChangeView;
use super::disk::FileHandle;
use super::format::frame::{self, FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use super::format::hint::HintWriter;
use super::format::record::{self, RecordKind};
use super::keydir::Location;
use super::limits::{FILL_BYTES_MIN, FILL_SHARE, FOLIO_BYTES};
use super::types::{Epoch, Number, SegmentId};
use std::io;

/// Which commit over several partitions a frame is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) commit: u64,
    pub(crate) parts: u16,
}

struct Pending {
    buffer_offset: usize,
    length: u32,
    kind: FrameKind,
    part: Option<Part>,
    records: u32,
}

/// The tail of a log.
pub(crate) struct Log {
    segment: SegmentId,
    file: FileHandle,
    salt: u32,
    /// Up to where the file may be filled, in bytes; the seal has its room behind that.
    limit: u64,
    /// Bytes that the kernel has.
    written: u64,
    buffer: Vec<u8>,
    pending: Vec<Pending>,
    numbered: Option<(Number, Number)>,
    hint: Outline,
    /// Up to where the file's blocks have been written once, if only with zeros.
    filled: u64,
    /// Where the log ended when it was filled up or synced last.
    synced: u64,
}

/// What a segment's hint will say, gathered while the segment is filled.
pub(crate) struct Outline {
    pub(crate) entries: HintWriter,
    pub(crate) first_number: Number,
    pub(crate) first_epoch: Epoch,
    /// Whether it knows of every frame in the segment; not, if an earlier life wrote some of them.
    pub(crate) complete: bool,
}

impl Outline {
    fn new(complete: bool) -> Self {
        Outline { entries: HintWriter::new(), first_number: Number::ZERO, first_epoch: Epoch(0), complete }
    }
}

/// A buffer that grew beyond this is given back after it was written, in bytes.
const BUFFER_KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Log {
    /// Goes on at `end` of a segment of `segment_bytes`.
    pub(crate) fn new(
        segment: SegmentId,
        file: FileHandle,
        salt: u32,
        end: u64,
        segment_bytes: u64,
        fresh: bool,
    ) -> Self {
        Log {
            segment,
            file,
            salt,
            limit: segment_bytes.saturating_sub(FRAME_HEADER_BYTES as u64),
            written: end,
            buffer: Vec::new(),
            pending: Vec::new(),
            numbered: None,
            hint: Outline::new(fresh),
            filled: end,
            synced: end,
        }
    }

    /// What the hint of the segment will say. To be taken once, when no more frames come.
    pub(crate) fn take_outline(&mut self) -> Outline {
        std::mem::replace(&mut self.hint, Outline::new(false))
    }

    pub(crate) fn segment(&self) -> SegmentId {
        self.segment
    }

    pub(crate) fn file(&self) -> &FileHandle {
        &self.file
    }

    /// Up to where the kernel has it.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Where the next frame goes.
    pub(crate) fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Whether a frame with that many bytes of records fits behind `spoken_for` bytes that others have reserved.
    pub(crate) fn fits(&self, records_bytes: usize, spoken_for: usize) -> bool {
        let wanted = frame_bytes(records_bytes) + spoken_for;
        self.end() + wanted as u64 <= self.limit
    }

    pub(crate) fn is_filling_up(&self) -> bool {
        self.end() > self.limit / 4
    }

    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Appends a commit's frame. `place` is told where each change's record went, in order.
    pub(crate) fn append<'a>(
        &mut self,
        changes: impl ExactSizeIterator<Item = ChangeView<'a>>,
        part: Option<Part>,
        mut place: impl FnMut(&ChangeView<'a>, Location),
    ) {
        let buffer_offset = self.begin_frame();
        let count = changes.len() as u32;
        for change in changes {
            let offset = self.end() as u32;
            let kind = if change.remove { RecordKind::Tombstone } else { RecordKind::Put };
            record::append(&mut self.buffer, self.salt, kind, change.key, change.value);
            let value_length = change.value.len() as u32;
            if self.hint.complete {
                // Numbers come later.
                self.hint.entries.push(Number::ZERO.next(), offset, kind, value_length, change.key);
            }
            place(
                &change,
                Location { segment: self.segment, offset, value_length, tombstone: change.remove },
            );
        }
        self.end_frame(buffer_offset, FrameKind::Commit, part, count);
    }

    /// Appends a watermark frame.
    pub(crate) fn append_watermark(&mut self, last_numbers: &[Number]) {
        let buffer_offset = self.begin_frame();
        let body = frame::encode_watermark(last_numbers, self.salt);
        self.buffer.extend_from_slice(&body);
        self.end_frame(buffer_offset, FrameKind::Watermark, None, 0);
    }

    fn begin_frame(&mut self) -> usize {
        debug_assert!(self.numbered.is_none(), "appended between taking numbers and handing over");
        let buffer_offset = self.buffer.len();
        self.buffer.resize(buffer_offset + FRAME_HEADER_BYTES, 0);
        buffer_offset
    }

    fn end_frame(&mut self, buffer_offset: usize, kind: FrameKind, part: Option<Part>, records: u32) {
        let length = frame::padded_length(self.buffer.len() - buffer_offset);
        self.buffer.resize(buffer_offset + length, 0);
        self.pending.push(Pending { buffer_offset, length: length as u32, kind, part, records });
    }

    /// How many frames wait for their numbers.
    pub(crate) fn pending_count(&self) -> u64 {
        self.pending.len() as u64
    }

    /// Gives the waiting frames their numbers, from `first` on.
    pub(crate) fn number(&mut self, first: Number, stable: Number, epoch: Epoch) {
        let mut number = first;
        for pending in &self.pending {
            let header = FrameHeader {
                length: pending.length,
                number,
                stable,
                commit: pending.part.map_or(0, |part| part.commit),
                epoch,
                parts: pending.part.map_or(1, |part| part.parts),
                kind: pending.kind,
                records: pending.records,
            };
            header.encode_into(&mut self.buffer[pending.buffer_offset..], self.salt);
            if self.hint.complete {
                self.hint.entries.number_next(pending.records, number);
            }
            number = number.next();
        }
        if self.hint.first_number == Number::ZERO && !self.pending.is_empty() {
            self.hint.first_number = first;
            self.hint.first_epoch = epoch;
        }
        self.numbered = Some((first, Number(number.0 - 1)));
        self.pending.clear();
    }

    /// Numbers that were taken and whose frames the kernel doesn't have.
    pub(crate) fn numbered(&self) -> Option<(Number, Number)> {
        self.numbered
    }

    /// Hands the numbered frames to the kernel.
    pub(crate) fn hand_over(&mut self) -> io::Result<()> {
        self.lay_out()?;
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        if self.buffer.capacity() > BUFFER_KEPT_BYTES_MAX {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
        self.numbered = None;
        Ok(())
    }

    /// Before a small write to where nothing was written yet: zeros are, so far that the kernel keeps it in few pieces of memory. (It makes each as
    /// large as what is written to it first: a page for a few records, and finding a page costs a read from memory a third of its time.)
    fn lay_out(&mut self) -> io::Result<()> {
        let end = self.end();
        if end <= self.filled || self.buffer.len() as u64 > FOLIO_BYTES / 4 {
            return Ok(());
        }
        let from = self.filled.max(self.written);
        self.fill(from, end.next_multiple_of(FOLIO_BYTES).min(self.limit))
    }

    /// Before a sync: while syncs are frequent, so that each finds little, the blocks that the next ones will find are written with zeros.
    /// The filesystem then changes its own books once for many syncs, and not at each.
    pub(crate) fn fill_ahead(&mut self) -> io::Result<()> {
        let end = self.end();
        let fresh_bytes = end - std::mem::replace(&mut self.synced, end);
        let fill_bytes = (self.limit / FILL_SHARE).max(FILL_BYTES_MIN);
        let few_bytes = fill_bytes / 16;
        if fresh_bytes > few_bytes || self.filled >= end + few_bytes {
            return Ok(());
        }
        let from = self.filled.max(end);
        let length = fill_bytes.min(self.limit.saturating_sub(from));
        self.fill(from, from + length)
    }

    /// Not where the zeros would take space that what comes in their place needs once more.
    fn fill(&mut self, from: u64, to: u64) -> io::Result<()> {
        static ZEROS: [u8; FOLIO_BYTES as usize] = [0; FOLIO_BYTES as usize];
        self.filled = self.filled.max(to);
        if !self.file.rewrites_in_place() {
            return Ok(());
        }
        for start in (from..to).step_by(ZEROS.len()) {
            let length = (to - start).min(FOLIO_BYTES) as usize;
            match self.file.write_at(start, &ZEROS[..length]) {
                // Where space can't be allocated ahead the zeros may find none. They can be done without.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }

    /// A record that the kernel doesn't have yet; None if it has.
    pub(crate) fn buffered(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let start = offset.checked_sub(self.written)? as usize;
        self.buffer.get(start..start + length)
    }
}

/// What a frame with that many bytes of records takes in the log.
pub(crate) fn frame_bytes(records_bytes: usize) -> usize {
    frame::padded_length(FRAME_HEADER_BYTES + records_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::disk::sim::SimDisk;
    use crate::engine::disk::{Disk, DiskFile};
    use std::os::fd::RawFd;
    use std::sync::Arc;

    /// A file of a filesystem that copies what is written.
    struct Copying(FileHandle);

    impl DiskFile for Copying {
        fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.0.write_at(offset, bytes)
        }
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read_at(offset, buffer)
        }
        fn try_read_at(&self, offset: u64, buffer: &mut [u8], least: usize) -> Option<io::Result<usize>> {
            self.0.try_read_at(offset, buffer, least)
        }
        fn read_from_disk(&self, offset: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
            self.0.read_from_disk(offset, buffer)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }
        fn allocate(&self, length: u64) -> io::Result<()> {
            self.0.allocate(length)
        }
        fn set_length(&self, length: u64) -> io::Result<()> {
            self.0.set_length(length)
        }
        fn length(&self) -> io::Result<u64> {
            self.0.length()
        }
        fn rewrites_in_place(&self) -> bool {
            false
        }
        fn descriptor(&self) -> Option<RawFd> {
            None
        }
        fn opened(self: Arc<Self>) -> io::Result<FileHandle> {
            Ok(self)
        }
    }

    const LIMIT: u64 = 3 * FOLIO_BYTES;

    /// Writes puts with values of so many bytes, one at a time, and returns how long the file is after each, and what it must hold.
    fn lengths(file: &FileHandle, value_bytes: usize, count: usize) -> (Vec<u64>, Vec<u8>) {
        let mut log = Log::new(SegmentId(1), file.clone(), 7, 0, LIMIT, true);
        let mut written = Vec::new();
        let mut length = || {
            let value = vec![9; value_bytes];
            log.append(std::iter::once(ChangeView::put(b"key", &value)), None, |_, _| {});
            log.number(Number(1), Number::ZERO, Epoch(1));
            written.extend_from_slice(&log.buffer);
            log.hand_over().unwrap();
            log.file.length().unwrap()
        };
        ((0..count).map(|_| length()).collect(), written)
    }

    fn content(file: &FileHandle) -> Vec<u8> {
        let mut bytes = vec![0; file.length().unwrap() as usize];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
        bytes
    }

    #[test]
    fn a_log_is_laid_out_with_zeros_before_small_writes_and_keeps_what_was_written() {
        let disk = SimDisk::new(1);
        disk.create_dir("d").unwrap();
        let file = disk.create("d/small").unwrap();
        let (small, written) = lengths(&file, 1000, 150);
        let expected: Vec<u64> = (1..=150)
            .map(|count| (written.len() as u64 / 150 * count).next_multiple_of(FOLIO_BYTES))
            .map(|end| end.min(LIMIT - FRAME_HEADER_BYTES as u64))
            .collect();
        assert_eq!(small, expected);
        let (behind, zeros) = (content(&file), written.len());
        assert_eq!(behind[..zeros], written);
        assert!(behind[zeros..].iter().all(|byte| *byte == 0));

        // What is large makes large folios by itself.
        let file = disk.create("d/large").unwrap();
        let (large, written) = lengths(&file, FOLIO_BYTES as usize / 2, 3);
        assert_eq!(*large.last().unwrap(), written.len() as u64);
        assert_eq!(content(&file), written);
    }

    #[test]
    fn nothing_is_laid_out_where_writing_again_takes_space_again() {
        let disk = SimDisk::new(1);
        disk.create_dir("d").unwrap();
        let file: FileHandle = Arc::new(Copying(disk.create("d/file").unwrap()));
        let (lengths, written) = lengths(&file, 100, 10);
        assert_eq!(*lengths.last().unwrap(), written.len() as u64);
        let mut log = Log::new(SegmentId(1), file.clone(), 7, written.len() as u64, LIMIT, true);
        log.fill_ahead().unwrap();
        assert_eq!(content(&file), written);
    }
}
