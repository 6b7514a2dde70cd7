//! Reading a segment from front to end, when there is no hint to trust. Pure over the file's bytes: says what is there,
//! what is damaged and what lies behind; decides nothing.

use super::format::ALIGNMENT_BYTES;
use super::format::frame::{self, FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use super::format::record::{self, RecordKind};

use super::types::Number;

pub(crate) mod packed;

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
    pub(crate) frames: Vec<FoundFrame>,
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
}

/// Scans the bytes of a segment file, frames from `start` on.
pub(crate) fn scan(bytes: &[u8], start: u64, salt: u32) -> Scan {
    let mut scan = Scan { end: start, ..Scan::default() };
    let mut offset = start as usize;
    while offset + FRAME_HEADER_BYTES <= bytes.len() {
        match frame_at(bytes, offset, salt) {
            Some(found) => {
                offset += found.header.length as usize;
                scan.frames.push(found);
                scan.end = offset as u64;
            }
            None => match next_frame(bytes, offset + ALIGNMENT_BYTES, salt) {
                Some(next) => {
                    scan.gaps.push(Gap { offset: offset as u64, before_frame: scan.frames.len() });
                    offset = next;
                }
                None => break,
            },
        }
    }
    let tail = bytes.get(scan.end as usize..).unwrap_or(&[]);
    scan.tail_bytes = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    scan
}

/// The frame whose header is at an offset; None if there is none, or not all of it.
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

/// The next offset, from `from` on, at which a frame's header is right.
fn next_frame(bytes: &[u8], from: usize, salt: u32) -> Option<usize> {
    let mut offset = from;
    while offset + FRAME_HEADER_BYTES <= bytes.len() {
        let rest = &bytes[offset..];
        if frame::could_be_header(rest)
            && FrameHeader::decode(rest, salt).is_ok_and(|header| header.length as usize <= rest.len())
        {
            return Some(offset);
        }
        offset += ALIGNMENT_BYTES;
    }
    None
}
