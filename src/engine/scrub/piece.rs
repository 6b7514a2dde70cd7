//! Reads a segment from front to end, a piece at a time, and goes on behind what isn't what it should be. Decides nothing.

use crate::engine::disk::FileHandle;
use crate::engine::format::frame::{FRAME_HEADER_BYTES, FrameHeader, could_be_header};
use crate::engine::format::record::encoded_length;
use crate::engine::format::{ALIGNMENT_BYTES, Form};
use crate::engine::scan::packed::{self, PackedPiece};
use crate::engine::scan::{Condition, FoundFrame, frame_at};
use std::io;
use std::ops::Range;

/// How much is read at a time, in bytes; a larger frame is read in one piece.
pub(super) const PIECE_BYTES: u64 = 256 * 1024;

/// What a piece of a segment holds.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// Frames, with offsets of the segment; of a frame whose keys are hidden, the records before the first that can't be trusted.
    pub(super) frames: Vec<FoundFrame>,
    /// Where frames should be and can't be read, as offsets of the segment; none touches the next.
    pub(super) gaps: Vec<Range<u64>>,
    /// Where the next piece begins.
    pub(super) end: u64,
    /// How much was read of values that lie elsewhere, in bytes.
    pub(super) values_bytes: u64,
}

impl Piece {
    fn gap(&mut self, gap: Range<u64>) {
        match self.gaps.last_mut() {
            Some(last) if last.end == gap.start => last.end = gap.end,
            _ => self.gaps.push(gap),
        }
    }

    /// A piece of which nothing could be read.
    pub(super) fn unreadable(offset: u64, segment_end: u64) -> Piece {
        let end = (offset + PIECE_BYTES).min(segment_end);
        Piece { gaps: std::iter::once(offset..end).collect(), end, ..Piece::default() }
    }
}

/// The frames from `offset` on, as many as fit into a piece. Waits for the disk.
pub(super) fn read_piece(
    file: &FileHandle,
    salt: u32,
    form: Form,
    offset: u64,
    segment_end: u64,
) -> io::Result<Piece> {
    match form {
        Form::Whole => read_whole(file, salt, offset, segment_end),
        Form::Bare => read_packed(file, salt, offset, segment_end),
    }
}

/// A frame of a packed segment's index with its values, or what lies there in its place.
fn read_packed(file: &FileHandle, salt: u32, offset: u64, segment_end: u64) -> io::Result<Piece> {
    if let Some(PackedPiece { frame, values, .. }) = packed::read_piece(file, salt, offset, segment_end)? {
        let (end, values_bytes) = (offset + u64::from(frame.header.length), values.len() as u64);
        return Ok(Piece { frames: vec![frame], end, values_bytes, ..Piece::default() });
    }
    let next = packed::next_frame(file, salt, offset + ALIGNMENT_BYTES as u64, segment_end)?;
    let end = next.unwrap_or(segment_end);
    Ok(Piece { gaps: std::iter::once(offset..end).collect(), end, ..Piece::default() })
}

fn read_whole(file: &FileHandle, salt: u32, offset: u64, segment_end: u64) -> io::Result<Piece> {
    let rest = segment_end.saturating_sub(offset);
    let mut length = PIECE_BYTES.min(rest);
    loop {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        let count = file.read_at(offset, &mut bytes)?;
        bytes.truncate(count);
        // A file that is too short has nothing behind its end.
        let limit = if (count as u64) < length { count as u64 } else { rest };
        let mut piece = take_apart(&bytes, salt, offset, limit);
        if piece.end > offset {
            if limit < rest && piece.end == offset + limit {
                piece.gap(offset + limit..segment_end);
                piece.end = segment_end;
            }
            return Ok(piece);
        }
        if count == 0 {
            piece.gap(offset..segment_end);
            piece.end = segment_end;
            return Ok(piece);
        }
        // A frame that is larger than what was read, and lies within the limit.
        length =
            FrameHeader::decode(&bytes, salt).map_or(length * 2, |header| u64::from(header.length)).min(rest);
    }
}

/// What the bytes from `base` on are. `limit` bytes from there, the segment ends; a frame that goes beyond the bytes and not beyond the limit is
/// left for the next piece.
fn take_apart(bytes: &[u8], salt: u32, base: u64, limit: u64) -> Piece {
    let mut piece = Piece::default();
    let mut at = 0;
    while at < bytes.len() {
        if let Some(frame) = frame_at_checked(bytes, at, salt) {
            let start = at;
            at += frame.header.length as usize;
            piece.take(frame, base, base + start as u64..base + at as u64);
            continue;
        }
        if continues_behind(bytes, at, salt, limit) {
            break;
        }
        let next = (at + ALIGNMENT_BYTES..bytes.len()).step_by(ALIGNMENT_BYTES).find(|next| {
            frame_at_checked(bytes, *next, salt).is_some() || continues_behind(bytes, *next, salt, limit)
        });
        let next = next.unwrap_or(bytes.len());
        piece.gap(base + at as u64..base + next as u64);
        at = next;
    }
    piece.end = base + at as u64;
    piece
}

fn frame_at_checked(bytes: &[u8], at: usize, salt: u32) -> Option<FoundFrame> {
    if bytes.len() - at < FRAME_HEADER_BYTES { None } else { frame_at(bytes, at, salt) }
}

/// Whether a frame begins here and ends behind the bytes, within the limit; also if there aren't enough bytes to tell.
fn continues_behind(bytes: &[u8], at: usize, salt: u32, limit: u64) -> bool {
    let rest = &bytes[at..];
    if rest.len() < FRAME_HEADER_BYTES {
        return (bytes.len() as u64) < limit;
    }
    could_be_header(rest)
        && FrameHeader::decode(rest, salt).is_ok_and(|header| {
            let end = at as u64 + u64::from(header.length);
            end > bytes.len() as u64 && end <= limit
        })
}

impl Piece {
    /// A frame whose header is right; what its body hides is a gap.
    fn take(&mut self, mut frame: FoundFrame, base: u64, place: Range<u64>) {
        frame.offset += base;
        frame.records.iter_mut().for_each(|record| record.offset += base);
        let hides = match frame.condition {
            Condition::Whole => false,
            // Of a watermark, which has no records.
            Condition::ValueDamaged => frame.records.is_empty(),
            Condition::KeysHidden => true,
        };
        if hides {
            let last = frame.records.last();
            let from = last.map_or(place.start, |last| {
                last.offset + encoded_length(last.key.len(), last.value_length as usize) as u64
            });
            self.gap(from..place.end);
        }
        self.frames.push(frame);
    }
}
