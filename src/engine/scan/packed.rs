//! Reading a packed segment: its index, a frame at a time or all of it, and the values that it tells of. Says what is there; decides nothing.

use super::{Condition, FoundFrame, FoundRecord};
use crate::engine::disk::FileHandle;
use crate::engine::format::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, could_be_header};
use crate::engine::format::index::{IndexHead, IndexView, IndexWriter, decode_index, parity};
use crate::engine::format::{ALIGNMENT_BYTES, Form, SegmentHeader};
use crate::engine::types::Number;
use std::io;
use std::ops::Range;

/// How much of a file is read at a time where a frame must be looked for, in bytes.
const SEARCHED_BYTES: usize = 256 * 1024;

/// The index of a packed segment.
#[derive(Debug)]
pub(crate) struct PackedIndex {
    /// Where it begins in the file.
    pub(crate) offset: u64,
    /// Where the segment ends: behind its seal.
    pub(crate) end: u64,
    salt: u32,
    /// From `offset` to the end.
    bytes: Vec<u8>,
    /// Frames of the index, within `bytes`.
    frames: Vec<(usize, FrameHeader)>,
    /// The greatest number that the segment stands for, and the greatest `stable` in it.
    pub(crate) last_number: Number,
    pub(crate) stable: Number,
    /// Where records are whose keys can't be known, each with the place in the file that hides them.
    pub(crate) hidden: Vec<(u64, Range<u64>)>,
}

impl PackedIndex {
    /// What the frames hold, one after the other.
    pub(crate) fn views(&self) -> impl Iterator<Item = IndexView<'_>> {
        self.frames.iter().filter_map(|(at, header)| view_at(&self.bytes, *at, header, self.salt))
    }

    /// Reads the index of a segment. Waits for the disk.
    pub(crate) fn read(file: &FileHandle, header: &SegmentHeader, file_bytes: u64) -> io::Result<Self> {
        let start = header.encoded_length() as u64;
        let sealed = read_seal(file, header, file_bytes)?;
        let offset = match sealed {
            Some(seal) => padded(seal.commit),
            None => next_frame(file, header.salt, start, file_bytes)?.unwrap_or(file_bytes),
        };
        let mut bytes = vec![0; file_bytes.saturating_sub(offset) as usize];
        let count = file.read_at(offset, &mut bytes)?;
        bytes.truncate(count);
        let mut index = PackedIndex {
            offset,
            end: file_bytes,
            salt: header.salt,
            bytes,
            frames: Vec::new(),
            last_number: sealed.map_or(Number::ZERO, |seal| seal.number),
            stable: sealed.map_or(Number::ZERO, |seal| seal.stable),
            hidden: Vec::new(),
        };
        let values_end = sealed.map(|seal| seal.commit);
        index.look_through(start, values_end);
        if !index.hidden.is_empty() {
            parity::mend(&mut index.bytes, index.salt);
            index.look_through(start, values_end);
            if index.hidden.is_empty() {
                tracing::warn!(
                    "segment {}: its index is damaged; the rest of it made it good",
                    header.segment
                );
            }
        }
        Ok(index)
    }

    /// Index and seal as they were written; None if not all entries are known, or if it was written by other rules.
    pub(crate) fn encode_again(&self, header: &SegmentHeader) -> Option<Vec<u8>> {
        let (_, first) = self.frames.first().filter(|_| self.hidden.is_empty())?;
        let head = IndexHead { last_number: self.last_number, stable: first.stable, epoch: first.epoch };
        let mut writer = IndexWriter::new(self.salt, head, header.encoded_length() as u32);
        for entry in self.views().flat_map(|view| view.entries()).map_while(Result::ok) {
            writer.push(entry.number, entry.kind, entry.value_length, entry.key);
        }
        let values_end = u64::from(writer.offset());
        let mut bytes = writer.finish();
        let seal = FrameHeader {
            length: FRAME_HEADER_BYTES as u32,
            number: self.last_number,
            stable: self.stable,
            commit: values_end,
            kind: FrameKind::Seal,
            records: 0,
            ..*first
        };
        bytes.extend(seal.encode(self.salt));
        (bytes.len() == self.bytes.len()).then_some(bytes)
    }

    /// Finds the frames, and the holes between what they tell of. Where the values end is known from the seal, if that is right.
    fn look_through(&mut self, values_start: u64, values_end: Option<u64>) {
        (self.frames, self.hidden) = (Vec::new(), Vec::new());
        let (mut at, mut known) = (0, values_start);
        // Up to where one frame follows the other.
        let mut unbroken = 0;
        while at + FRAME_HEADER_BYTES <= self.bytes.len() {
            let header = FrameHeader::decode(&self.bytes[at..], self.salt).ok();
            let header = header.filter(|header| header.length as usize <= self.bytes.len() - at);
            let view = header.and_then(|header| view_at(&self.bytes, at, &header, self.salt));
            if let (Some(header), Some(view)) = (header, view)
                && let Some(end) = end_of(&view)
                && u64::from(view.offset) >= known
            {
                self.note_hole(known, u64::from(view.offset), at);
                known = u64::from(end);
                self.frames.push((at, header));
                self.last_number = self.last_number.max(Number(header.commit));
                self.stable = self.stable.max(header.stable);
            }
            let length = header.map(|header| header.length as usize);
            unbroken += length.filter(|_| unbroken == at).unwrap_or(0);
            // Whatever is no frame is looked at again and again: another may begin anywhere in it.
            at += length.unwrap_or(ALIGNMENT_BYTES);
        }
        match values_end {
            Some(end) => self.note_hole(known, end, self.bytes.len()),
            // It is all there if nothing but the seal is missing.
            None if unbroken + FRAME_HEADER_BYTES == self.bytes.len() && unbroken > 0 => {}
            None => self.hidden.push((self.offset + unbroken as u64, known..self.offset)),
        }
    }

    fn note_hole(&mut self, known: u64, next: u64, at: usize) {
        if known < next {
            let place = self.frames.last().map_or(0, |(at, header)| at + header.length as usize).min(at);
            self.hidden.push((self.offset + place as u64, known..next));
        }
    }
}

/// Where an index begins behind values that end there.
pub(crate) fn padded(values_end: u64) -> u64 {
    values_end.next_multiple_of(ALIGNMENT_BYTES as u64)
}

/// The view of a frame that lies wholly within the bytes; None if it is of another kind, or damaged.
fn view_at<'a>(bytes: &'a [u8], at: usize, header: &FrameHeader, salt: u32) -> Option<IndexView<'a>> {
    let body = bytes.get(at + FRAME_HEADER_BYTES..at + header.length as usize)?;
    decode_index(header, body, salt).ok()
}

/// Where the values end that a frame tells of; None if one of its entries can't be.
fn end_of(view: &IndexView<'_>) -> Option<u32> {
    let mut entries = view.entries();
    entries.by_ref().all(|entry| entry.is_ok()).then(|| entries.end())
}

/// The seal of a packed segment; None if it isn't right.
fn read_seal(file: &FileHandle, header: &SegmentHeader, file_bytes: u64) -> io::Result<Option<FrameHeader>> {
    let Some(offset) = file_bytes.checked_sub(FRAME_HEADER_BYTES as u64) else { return Ok(None) };
    let mut bytes = [0; FRAME_HEADER_BYTES];
    let count = file.read_at(offset, &mut bytes)?;
    let seal = FrameHeader::decode(&bytes[..count], header.salt).ok();
    let start = header.encoded_length() as u64;
    let is_right = |seal: &FrameHeader| {
        seal.kind == FrameKind::Seal && seal.commit >= start && padded(seal.commit) <= offset
    };
    Ok(seal.filter(is_right))
}

/// The first place, from `start` on, where a frame of an index or a seal seems to begin. Waits for the disk.
pub(crate) fn next_frame(
    file: &FileHandle,
    salt: u32,
    start: u64,
    segment_end: u64,
) -> io::Result<Option<u64>> {
    let mut bytes = vec![0; SEARCHED_BYTES];
    let mut offset = start;
    while offset < segment_end {
        let count = file.read_at(offset, &mut bytes)?;
        let places = (0..count.saturating_sub(FRAME_HEADER_BYTES - 1)).step_by(ALIGNMENT_BYTES);
        let is_index = |at: &usize| {
            could_be_header(&bytes[*at..count])
                && FrameHeader::decode(&bytes[*at..count], salt).is_ok_and(|header| {
                    matches!(header.kind, FrameKind::Index | FrameKind::Parity | FrameKind::Seal)
                })
        };
        if let Some(at) = places.into_iter().find(is_index) {
            return Ok(Some(offset + at as u64));
        }
        if count < SEARCHED_BYTES {
            return Ok(None);
        }
        // A header may lie across the end of what was read.
        offset += (SEARCHED_BYTES - FRAME_HEADER_BYTES) as u64;
    }
    Ok(None)
}

/// A frame behind the values, with those that it tells of.
#[derive(Debug)]
pub(crate) struct PackedPiece {
    pub(crate) frame: FoundFrame,
    /// Where its values begin in the file.
    pub(crate) base: u64,
    /// From there on, as far as they can be read.
    pub(crate) values: Vec<u8>,
}

/// The frame at an offset of the index, of whichever kind; None if it isn't right. Waits for the disk.
pub(crate) fn read_piece(
    file: &FileHandle,
    salt: u32,
    offset: u64,
    segment_end: u64,
) -> io::Result<Option<PackedPiece>> {
    let mut head = [0; FRAME_HEADER_BYTES];
    let count = file.read_at(offset, &mut head)?;
    let Ok(header) = FrameHeader::decode(&head[..count], salt) else { return Ok(None) };
    if offset + u64::from(header.length) > segment_end {
        return Ok(None);
    }
    let mut body = vec![0; header.body_length()];
    let count = file.read_at(offset + FRAME_HEADER_BYTES as u64, &mut body)?;
    let mut frame = FoundFrame {
        offset,
        header,
        condition: Condition::Whole,
        records: Vec::new(),
        last_numbers: Vec::new(),
    };
    let has_no_values = match header.kind {
        FrameKind::Seal => true,
        FrameKind::Parity => parity::decode_parity(&header, &body[..count], salt).is_ok(),
        _ => false,
    };
    if has_no_values {
        return Ok(Some(PackedPiece { frame, base: offset, values: Vec::new() }));
    }
    let Ok(view) = decode_index(&header, &body[..count], salt) else { return Ok(None) };
    let Some(end) = end_of(&view) else { return Ok(None) };
    let mut values = vec![0; (end - view.offset) as usize];
    let base = u64::from(view.offset);
    let count = file.read_at(base, &mut values)?;
    values.truncate(count);
    take_records(&mut frame, &view, &values, salt);
    Ok(Some(PackedPiece { frame, base, values }))
}

/// The records of a frame of an index, and whether their values, which begin where the first of them does, are right.
fn take_records(frame: &mut FoundFrame, view: &IndexView<'_>, values: &[u8], salt: u32) {
    for entry in view.entries().map_while(Result::ok) {
        let from = (entry.offset - view.offset) as usize;
        let length = Form::Bare.length(entry.key.len(), entry.value_length as usize);
        let place = values.get(from..from + length).unwrap_or(&[]);
        let value_is_right = Form::Bare.value(place, entry.key, salt).is_ok();
        if !value_is_right {
            frame.condition = Condition::ValueDamaged;
        }
        frame.records.push(FoundRecord {
            offset: u64::from(entry.offset),
            number: entry.number,
            kind: entry.kind,
            key: entry.key.to_vec(),
            value_length: entry.value_length,
            value_is_right,
        });
    }
}
