//! Reading a segment from front to end, when there is no hint to trust, a piece at a time. Says what is there, what is damaged and what lies
//! behind; decides nothing.

use super::format::ALIGNMENT_BYTES;
use super::format::frame::{self, FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use super::format::hint::{self, HintEntry};
use super::format::record::{self, RecordKind};
use super::types::Number;
use std::io;
use std::ops::Range;

pub(crate) mod packed;
mod source;

pub(crate) use self::source::{Source, Window};

/// How much is looked at at once where a frame is searched for, in bytes.
const SEARCHED_BYTES: usize = 256 * 1024;

/// A frame as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundFrame {
    pub(crate) offset: u64,
    pub(crate) header: FrameHeader,
    pub(crate) condition: Condition,
    /// Its records, up to the first whose key can't be trusted.
    pub(crate) records: Vec<FoundRecord>,
    /// Of a watermark.
    pub(crate) last_numbers: Vec<Number>,
}

/// How a frame's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Whole,
    /// Every key is right; at least one value isn't.
    ValueDamaged,
    /// It is not known which keys it has.
    KeysHidden,
}

/// A record as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundRecord {
    /// From the begin of the file, in bytes.
    pub(crate) offset: u64,
    /// Of the commit that wrote it.
    pub(crate) number: Number,
    pub(crate) kind: RecordKind,
    pub(crate) key: Vec<u8>,
    pub(crate) value_length: u32,
    pub(crate) value_is_right: bool,
}

/// A frame of a whole segment's scan. Its records are kept with those of all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScannedFrame {
    pub(crate) offset: u64,
    pub(crate) header: FrameHeader,
    pub(crate) condition: Condition,
    /// Of a watermark.
    pub(crate) last_numbers: Vec<Number>,
    /// Where its records are in the scan's.
    pub(crate) records: Range<usize>,
}

/// Bytes that are no frame, with a frame behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) offset: u64,
    /// Index of the frame behind it.
    pub(crate) before_frame: usize,
}

/// What a segment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) frames: Vec<ScannedFrame>,
    /// As entries of a hint, one behind the other.
    pub(crate) records: Vec<u8>,
    pub(crate) gaps: Vec<Gap>,
    /// Bytes behind the last frame that aren't zero: the count up to the last such one.
    pub(crate) tail_bytes: u64,
    /// Where the last frame ends.
    pub(crate) end: u64,
}

impl Scan {
    /// Whether the last frame is a seal.
    pub(crate) fn is_sealed(&self) -> bool {
        self.frames.last().is_some_and(|frame| frame.header.kind == FrameKind::Seal)
    }

    /// The greatest `stable` in any frame.
    pub(crate) fn stable(&self) -> Number {
        self.frames.iter().map(|frame| frame.header.stable).max().unwrap_or(Number::ZERO)
    }

    /// The records of a frame, as entries of a hint.
    pub(crate) fn records_of(&self, frame: &ScannedFrame) -> &[u8] {
        &self.records[frame.records.clone()]
    }

    /// What is left when the segment was truncated to an end that so many frames are before, without a gap.
    pub(crate) fn cut(&mut self, frames: usize, end: u64) {
        self.frames.truncate(frames);
        self.records.truncate(self.frames.last().map_or(0, |frame| frame.records.end));
        (self.gaps, self.tail_bytes, self.end) = (Vec::new(), 0, end);
    }

    fn take(&mut self, found: FoundFrame) {
        let start = self.records.len();
        for record in &found.records {
            let FoundRecord { number, kind, value_length, .. } = *record;
            let entry =
                HintEntry { number, offset: record.offset as u32, kind, value_length, key: &record.key };
            hint::append_entry(&mut self.records, &entry);
        }
        let FoundFrame { offset, header, condition, last_numbers, .. } = found;
        let records = start..self.records.len();
        self.frames.push(ScannedFrame { offset, header, condition, last_numbers, records });
    }
}

/// Scans a segment, frames from `start` on, a piece at a time: only what was found is kept, and of a frame that is larger than a piece, the frame.
pub(crate) fn scan(source: &mut impl Source, start: u64, salt: u32) -> io::Result<Scan> {
    let mut scan = Scan::default();
    let walked = walk(source, start, salt, |found| scan.take(found))?;
    (scan.gaps, scan.end, scan.tail_bytes) = (walked.gaps, walked.end, walked.tail_bytes);
    Ok(scan)
}

/// What lies between and behind the frames of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walked {
    pub(crate) gaps: Vec<Gap>,
    pub(crate) end: u64,
    pub(crate) tail_bytes: u64,
}

/// Shows all frames of a segment, one after the other.
pub(crate) fn walk(
    source: &mut impl Source,
    start: u64,
    salt: u32,
    mut see: impl FnMut(FoundFrame),
) -> io::Result<Walked> {
    let mut walked = Walked { end: start, ..Walked::default() };
    let (mut offset, mut frames) = (start, 0);
    while offset + FRAME_HEADER_BYTES as u64 <= source.length() {
        match read_frame(source, offset, salt)? {
            Some(found) => {
                offset += u64::from(found.header.length);
                walked.end = offset;
                frames += 1;
                see(found);
            }
            None => match next_frame(source, offset + ALIGNMENT_BYTES as u64, salt)? {
                Some(next) => {
                    walked.gaps.push(Gap { offset, before_frame: frames });
                    offset = next;
                }
                None => break,
            },
        }
    }
    walked.tail_bytes = tail_bytes(source, walked.end)?;
    Ok(walked)
}

/// The frame whose header is at an offset; None if there is none, or not all of it.
fn read_frame(source: &mut impl Source, offset: u64, salt: u32) -> io::Result<Option<FoundFrame>> {
    let head = source.bytes(offset, FRAME_HEADER_BYTES)?;
    let Some(header) = header_at(head, salt) else { return Ok(None) };
    let mut found = frame_at(source.bytes(offset, header.length as usize)?, 0, salt);
    if let Some(found) = &mut found {
        found.offset += offset;
        found.records.iter_mut().for_each(|record| record.offset += offset);
    }
    Ok(found)
}

fn header_at(bytes: &[u8], salt: u32) -> Option<FrameHeader> {
    if frame::could_be_header(bytes) { FrameHeader::decode(bytes, salt).ok() } else { None }
}

/// The next offset, from `from` on, at which a frame's header is right.
fn next_frame(source: &mut impl Source, from: u64, salt: u32) -> io::Result<Option<u64>> {
    let length = source.length();
    let mut offset = from;
    while offset + FRAME_HEADER_BYTES as u64 <= length {
        let bytes = source.bytes(offset, SEARCHED_BYTES)?;
        let places = bytes.len().saturating_sub(FRAME_HEADER_BYTES - 1);
        let found = (0..places).step_by(ALIGNMENT_BYTES).find(|at| {
            let end = |header: FrameHeader| offset + *at as u64 + u64::from(header.length);
            header_at(&bytes[*at..], salt).is_some_and(|header| end(header) <= length)
        });
        if let Some(at) = found {
            return Ok(Some(offset + at as u64));
        }
        // Those that lie across the end of what was read are looked at next.
        offset += places.next_multiple_of(ALIGNMENT_BYTES).max(ALIGNMENT_BYTES) as u64;
    }
    Ok(None)
}

/// How many bytes there are from an offset to the last one that isn't zero.
fn tail_bytes(source: &mut impl Source, from: u64) -> io::Result<u64> {
    let (mut offset, mut count) = (from, 0);
    while offset < source.length() {
        let bytes = source.bytes(offset, SEARCHED_BYTES)?;
        if bytes.is_empty() {
            break;
        }
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            count = offset - from + last as u64 + 1;
        }
        offset += bytes.len() as u64;
    }
    Ok(count)
}

/// The frame whose header is at an offset of some bytes; None if there is none, or not all of it.
pub(crate) fn frame_at(bytes: &[u8], offset: usize, salt: u32) -> Option<FoundFrame> {
    let rest = &bytes[offset..];
    if !frame::could_be_header(rest) {
        return None;
    }
    let header = FrameHeader::decode(rest, salt).ok()?;
    let body = rest.get(FRAME_HEADER_BYTES..header.length as usize)?;
    let mut found = FoundFrame {
        offset: offset as u64,
        header,
        condition: Condition::Whole,
        records: Vec::new(),
        last_numbers: Vec::new(),
    };
    match header.kind {
        FrameKind::Commit | FrameKind::Copy => read_records(&mut found, body, salt),
        FrameKind::Watermark => match frame::decode_watermark(body, salt) {
            Ok(last_numbers) => found.last_numbers = last_numbers,
            Err(_) => found.condition = Condition::ValueDamaged,
        },
        FrameKind::Seal | FrameKind::Void => {}
        // Has its place in a packed segment only.
        FrameKind::Index | FrameKind::Parity => return None,
    }
    Some(found)
}

fn read_records(found: &mut FoundFrame, body: &[u8], salt: u32) {
    let base = found.offset + FRAME_HEADER_BYTES as u64;
    for record in record::records(body, salt, found.header.records) {
        let Ok((offset, head, value)) = record else {
            found.condition = Condition::KeysHidden;
            return;
        };
        let value_is_right = record::value_is_right(value, head.value_crc, salt);
        if !value_is_right {
            found.condition = Condition::ValueDamaged;
        }
        found.records.push(FoundRecord {
            offset: base + offset as u64,
            number: found.header.number,
            kind: head.kind,
            key: head.key.to_vec(),
            value_length: head.value_length,
            value_is_right,
        });
    }
}

#[cfg(test)]
mod tests;
