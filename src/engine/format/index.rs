//! The index of a packed segment: which keys its values belong to. Frames of kind `index`, behind the values; the only place that has the
//! keys, so that a small value doesn't pay for its key twice.
//!
//! Owns: the body of such a frame. Bare records lie one behind the other without a hole, so an entry needs no offset: the frame says where its
//! first one begins. The header's `number` is that of the first record, its `commit` the greatest number that the segment stands for (as
//! the seal's `number` is); the seal's `commit` is where the values end, in bytes from the begin of the file.
//!
//! Promises: a body whose entries all come out is the only one that says what it says. Each frame can be read without the others, and a damaged one
//! can be made again from the others, see [`parity`].
//!
//! Doesn't know: the values, or whether the frames of an index follow each other without a hole; whoever reads all of them compares.

use std::iter::FusedIterator;

use super::frame::{FrameHeader, FrameKind, padded_length};
use super::record::RecordKind;
use super::{Damage, Form, crc, get, is_zero, tiles};
use crate::engine::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::engine::types::{Epoch, Number};

pub mod parity;
mod varint;
mod writer;
pub use writer::IndexWriter;

/// The shortest entry: number, key length, value length, and a key of a byte.
pub const INDEX_ENTRY_BYTES_MIN: usize = 4;

/// Offsets in the body, as in the byte table.
mod at {
    pub const CRC: usize = 0;
    pub const OFFSET: usize = 4;
    pub const LENGTH: usize = 8;
    pub const ENTRIES: usize = 12;
}
const _: () = assert!(tiles(&[(at::CRC, 4), (at::OFFSET, 4), (at::LENGTH, 4)], at::ENTRIES));

/// A record of a packed segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexEntry<'a> {
    /// The number of the commit that wrote it.
    pub number: Number,
    /// Where its place begins, in bytes from the begin of the file.
    pub offset: u32,
    /// What it does to the key.
    pub kind: RecordKind,
    /// The value's length, in bytes.
    pub value_length: u32,
    /// The key.
    pub key: &'a [u8],
}

impl IndexEntry<'_> {
    /// What must be true of an entry on both ways. Returns where its place ends.
    fn check(&self) -> Result<u32, Damage> {
        if self.number < Number(1) {
            return Err(Damage::Number);
        }
        let lengths_are_right = !self.key.is_empty()
            && self.key.len() <= KEY_BYTES_MAX
            && self.value_length as usize <= VALUE_BYTES_MAX;
        let length = Form::Bare.length(self.key.len(), self.value_length as usize);
        self.offset.checked_add(length as u32).filter(|_| lengths_are_right).ok_or(Damage::Length)
    }
}

/// What all frames of an index say of their segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexHead {
    /// The greatest number that the segment stands for.
    pub last_number: Number,
    /// What was known to be stable when it was written.
    pub stable: Number,
    /// The life of the store that wrote it.
    pub epoch: Epoch,
}

/// The body of an index frame, whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub struct IndexView<'a> {
    /// Where the place of its first record begins, in bytes from the begin of the file.
    pub offset: u32,
    first_number: Number,
    count: u32,
    entries: &'a [u8],
}

impl<'a> IndexView<'a> {
    /// The entries, in order of offset. The iterator ends behind an error.
    pub fn entries(&self) -> IndexEntries<'a> {
        IndexEntries {
            rest: self.entries,
            left: self.count,
            offset: self.offset,
            previous: self.first_number,
            is_first: true,
        }
    }
}

/// Reads the body, padding included, of the index frame with that header.
pub fn decode_index<'a>(header: &FrameHeader, body: &'a [u8], salt: u32) -> Result<IndexView<'a>, Damage> {
    if header.kind != FrameKind::Index {
        return Err(Damage::Kind);
    }
    if body.len() < at::ENTRIES {
        return Err(Damage::TooShort);
    }
    let length = u32::from_le_bytes(get(body, at::LENGTH)) as usize;
    let (entries, padding) = body[at::ENTRIES..].split_at_checked(length).ok_or(Damage::TooShort)?;
    if padded_length(at::ENTRIES + length) != body.len() {
        return Err(Damage::Length);
    }
    if crc(Some(salt), &[&body[at::OFFSET..at::ENTRIES], entries]) != u32::from_le_bytes(get(body, at::CRC)) {
        return Err(Damage::Checksum("index"));
    }
    if !is_zero(padding) {
        return Err(Damage::Reserved);
    }
    let offset = u32::from_le_bytes(get(body, at::OFFSET));
    Ok(IndexView { offset, first_number: header.number, count: header.records, entries })
}

/// See [`IndexView::entries`].
#[derive(Clone, Debug)]
pub struct IndexEntries<'a> {
    rest: &'a [u8],
    left: u32,
    offset: u32,
    previous: Number,
    is_first: bool,
}

impl<'a> IndexEntries<'a> {
    /// Where the place behind the entries seen so far begins, in bytes from the begin of the file.
    pub fn end(&self) -> u32 {
        self.offset
    }

    fn take_one(&mut self) -> Result<IndexEntry<'a>, Damage> {
        let mut rest = self.rest;
        let step = varint::take_signed(&mut rest)?;
        // The first number stands in the header, and nowhere else.
        if self.is_first && step != 0 {
            return Err(Damage::Order);
        }
        let key_length = varint::take(&mut rest)?;
        let flagged = varint::take(&mut rest)?;
        let key_length = usize::try_from(key_length).map_err(|_| Damage::Length)?;
        let (key, rest) = rest.split_at_checked(key_length).ok_or(Damage::Length)?;
        let entry = IndexEntry {
            number: Number(self.previous.0.wrapping_add_signed(step)),
            offset: self.offset,
            kind: if flagged & 1 == 0 { RecordKind::Put } else { RecordKind::Tombstone },
            value_length: u32::try_from(flagged >> 1).map_err(|_| Damage::Length)?,
            key,
        };
        self.offset = entry.check()?;
        (self.rest, self.previous, self.is_first) = (rest, entry.number, false);
        self.left -= 1;
        Ok(entry)
    }
}

impl<'a> Iterator for IndexEntries<'a> {
    type Item = Result<IndexEntry<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = match (self.left, self.rest.is_empty()) {
            (0, true) => return None,
            (0, false) => Err(Damage::Length),
            _ => self.take_one(),
        };
        if item.is_err() {
            (self.left, self.rest) = (0, &[]);
        }
        Some(item)
    }
}

impl FusedIterator for IndexEntries<'_> {}

#[cfg(test)]
mod tests;
