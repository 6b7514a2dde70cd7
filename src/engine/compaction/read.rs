//! Reads a sealed segment from front to end, a slice at a time.

use crate::engine::disk::FileHandle;
use crate::engine::format::Form;
use crate::engine::format::frame::{FrameHeader, FrameKind};
use crate::engine::scan::packed::{self, PackedPiece};
use crate::engine::scan::{Condition, FoundFrame, FoundRecord, frame_at};
use std::io;

/// How much is read at a time, in bytes; a larger frame is read in one piece.
pub(super) const SLICE_BYTES: u64 = 256 * 1024;

/// Whole frames out of a segment.
pub(super) struct Slice {
    base: u64,
    bytes: Vec<u8>,
    form: Form,
    /// Their offsets, and those of their records, are the segment's.
    pub(super) frames: Vec<FoundFrame>,
    /// Where the next slice begins.
    pub(super) end: u64,
}

impl Slice {
    /// A record's value, which must have been found to be right.
    pub(super) fn value(&self, found: &FoundRecord) -> &[u8] {
        let start = (found.offset - self.base) as usize + self.form.head_bytes(found.key.len());
        &self.bytes[start..start + found.value_length as usize]
    }

    /// How many bytes of values and frames it is about.
    pub(super) fn worked_bytes(&self) -> u64 {
        let frames = self.frames.iter().map(|frame| u64::from(frame.header.length));
        match self.form {
            Form::Whole => frames.sum(),
            Form::Bare => frames.sum::<u64>() + self.bytes.len() as u64,
        }
    }

    /// Whether the segment is complete with it.
    pub(super) fn ends_with_seal(&self) -> bool {
        self.frames.last().is_some_and(|frame| frame.header.kind == FrameKind::Seal)
    }
}

/// What is read from front to end.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) file: FileHandle,
    pub(super) salt: u32,
    pub(super) form: Form,
    /// Offset of the first frame.
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Source {
    /// The frames from `offset` on, as many as fit into a slice; None if it can't be known which keys are there. Waits for the disk.
    pub(super) fn read_slice(&self, offset: u64) -> io::Result<Option<Slice>> {
        match self.form {
            Form::Whole => read_slice(&self.file, self.salt, offset, self.end),
            Form::Bare => {
                let piece = packed::read_piece(&self.file, self.salt, offset, self.end)?;
                Ok(piece.map(|PackedPiece { frame, base, values }| {
                    let end = offset + u64::from(frame.header.length);
                    Slice { base, bytes: values, form: Form::Bare, frames: vec![frame], end }
                }))
            }
        }
    }
}

fn read_slice(file: &FileHandle, salt: u32, offset: u64, segment_end: u64) -> io::Result<Option<Slice>> {
    let rest = segment_end.saturating_sub(offset);
    let mut length = SLICE_BYTES.min(rest);
    loop {
        let bytes = read_range(file, offset, length)?;
        let mut frames = Vec::new();
        let mut at = 0;
        while at < bytes.len()
            && let Some(mut frame) = frame_at(&bytes, at, salt)
        {
            if frame.condition == Condition::KeysHidden {
                return Ok(None);
            }
            at += frame.header.length as usize;
            frame.offset += offset;
            frame.records.iter_mut().for_each(|record| record.offset += offset);
            frames.push(frame);
        }
        if at > 0 {
            let end = offset + at as u64;
            return Ok(Some(Slice { base: offset, bytes, form: Form::Whole, frames, end }));
        }
        match FrameHeader::decode(&bytes, salt) {
            Ok(header) if (length + 1..=rest).contains(&u64::from(header.length)) => {
                length = u64::from(header.length);
            }
            _ => return Ok(None),
        }
    }
}

fn read_range(file: &FileHandle, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let count = file.read_at(offset, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}
