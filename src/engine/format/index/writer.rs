//! Writes the index of a packed segment.
//!
//! Owns: its frames, in memory, while the values are written.
//!
//! Promises: what it yields, [`decode_index`](super::decode_index) and its entries accept; no frame holds more, or tells of more values, than can be read
//! in one go.

use super::{IndexEntry, IndexHead, at, parity, varint};
use crate::engine::format::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, padded_length};
use crate::engine::format::record::RecordKind;
use crate::engine::format::{crc, put};
use crate::engine::types::Number;
use std::ops::Range;

/// A frame is closed once its entries take this much, in bytes.
const FRAME_ENTRIES_BYTES: usize = 16 * 1024;
/// Or the values that it tells of.
const FRAME_VALUES_BYTES: u32 = 256 * 1024;

/// Makes an index, entry by entry.
#[derive(Debug)]
pub struct IndexWriter {
    salt: u32,
    head: IndexHead,
    /// Frames, the last one without its header as yet.
    out: Vec<u8>,
    /// Where the last frame begins in `out`.
    frame: usize,
    /// Finished frames that no parity frame stands for yet.
    group: Vec<Range<usize>>,
    /// Of the last frame.
    records: u32,
    first_number: Number,
    first_offset: u32,
    previous: Number,
    /// Where the next place begins in the file.
    offset: u32,
}

impl IndexWriter {
    /// An index without entries. The first place begins at `offset` of a segment with that salt.
    pub fn new(salt: u32, head: IndexHead, offset: u32) -> IndexWriter {
        let (out, none) = (Vec::new(), Number::ZERO);
        let mut writer = IndexWriter {
            salt,
            head,
            out,
            frame: 0,
            group: Vec::new(),
            records: 0,
            first_number: none,
            first_offset: offset,
            previous: none,
            offset,
        };
        writer.begin();
        writer
    }

    fn begin(&mut self) {
        self.frame = self.out.len();
        self.out.resize(self.frame + FRAME_HEADER_BYTES + at::ENTRIES, 0);
        (self.records, self.first_offset) = (0, self.offset);
    }

    /// Adds the next record of the segment; returns where its place begins.
    ///
    /// # Panics
    /// If the record is one that can't be.
    pub fn push(&mut self, number: Number, kind: RecordKind, value_length: u32, key: &[u8]) -> u32 {
        let entry = IndexEntry { number, offset: self.offset, kind, value_length, key };
        self.offset = entry.check().unwrap_or_else(|damage| panic!("no entry of an index: {damage}"));
        if self.records == 0 {
            (self.first_number, self.previous) = (number, number);
        }
        varint::append_signed(&mut self.out, number.0.wrapping_sub(self.previous.0) as i64);
        varint::append(&mut self.out, key.len() as u64);
        varint::append(
            &mut self.out,
            u64::from(value_length) << 1 | u64::from(kind == RecordKind::Tombstone),
        );
        self.out.extend_from_slice(key);
        self.previous = number;
        self.records += 1;
        if self.out.len() - self.frame >= FRAME_ENTRIES_BYTES
            || self.offset - self.first_offset >= FRAME_VALUES_BYTES
        {
            self.end();
            self.begin();
        }
        entry.offset
    }

    fn end(&mut self) {
        let frame = self.frame;
        let body = frame + FRAME_HEADER_BYTES;
        let entries_length = self.out.len() - body - at::ENTRIES;
        put(&mut self.out[body..], at::OFFSET, self.first_offset.to_le_bytes());
        put(&mut self.out[body..], at::LENGTH, (entries_length as u32).to_le_bytes());
        let crc = crc(Some(self.salt), &[&self.out[body + at::OFFSET..]]);
        put(&mut self.out[body..], at::CRC, crc.to_le_bytes());
        let length = padded_length(self.out.len() - frame);
        self.out.resize(frame + length, 0);
        let header = FrameHeader {
            length: length as u32,
            number: self.first_number,
            stable: self.head.stable,
            commit: self.head.last_number.0,
            epoch: self.head.epoch,
            parts: 1,
            kind: FrameKind::Index,
            records: self.records,
        };
        header.encode_into(&mut self.out[frame..], self.salt);
        self.group.push(frame..self.out.len());
        if self.group.len() == parity::GROUP_FRAMES_MAX {
            self.end_group();
        }
    }

    fn end_group(&mut self) {
        let group = std::mem::take(&mut self.group);
        if !group.is_empty() {
            parity::append(&mut self.out, &group, self.salt, &self.head, self.first_number);
        }
    }

    /// Where the place behind all records begins in the file.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// The frames.
    pub fn finish(mut self) -> Vec<u8> {
        match self.records {
            0 => self.out.truncate(self.frame),
            _ => self.end(),
        }
        self.end_group();
        self.out
    }
}

#[cfg(test)]
impl IndexWriter {
    /// How many frames are finished.
    pub(super) fn frames(&self) -> usize {
        let mut rest = &self.out[..self.frame];
        let mut count = 0;
        while let Ok(header) = FrameHeader::decode(rest, self.salt) {
            count += usize::from(header.kind == FrameKind::Index);
            rest = &rest[header.length as usize..];
        }
        count
    }
}
