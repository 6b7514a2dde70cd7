//! The record: one key with its value, or with its end.
//!
//! Owns: the 20 bytes before a key, and how records follow each other in the body of a frame.
//!
//! Promises: two checksums, so that damage costs what it hit. Header and key have one: a head that decodes says which
//! key stands here and how far it is to the next record, whatever became of the value. The value has its own, and that
//! one is in the head: a value that is wrong is [`Damage::Value`] and nothing worse.
//!
//! Doesn't know: the frame around it, or what a key means.

use std::iter::FusedIterator;

use super::{ALIGNMENT_BYTES, Damage, crc, get, is_zero, put, tiles};
use crate::engine::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// The header before the key, in bytes.
pub const RECORD_HEADER_BYTES: usize = 20;
/// The shortest record: a key of one byte, no value.
pub const RECORD_BYTES_MIN: usize = RECORD_HEADER_BYTES + 1;

/// What is left of a frame behind its records is less than the alignment.
const PADDING_BYTES_MAX: usize = ALIGNMENT_BYTES - 1;

/// Offsets, as in the byte table.
mod at {
    pub const CRC: usize = 0;
    pub const VALUE_CRC: usize = 4;
    pub const KEY_LENGTH: usize = 8;
    pub const VALUE_LENGTH: usize = 12;
    pub const KIND: usize = 16;
    pub const RESERVED: usize = 17;
}

const _: () = assert!(tiles(
    &[
        (at::CRC, 4),
        (at::VALUE_CRC, 4),
        (at::KEY_LENGTH, 4),
        (at::VALUE_LENGTH, 4),
        (at::KIND, 1),
        (at::RESERVED, 3),
    ],
    RECORD_HEADER_BYTES
));
// Lengths are stored in 32 bits, and a hint keeps a flag in the top bit of the key's.
const _: () = assert!(KEY_BYTES_MAX < 1 << 31 && VALUE_BYTES_MAX <= u32::MAX as usize);

/// What a record does to its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordKind {
    /// The key has this value.
    Put,
    /// The key is gone. The value, if there is one, is a note.
    Tombstone,
}

impl RecordKind {
    fn code(self) -> u8 {
        match self {
            RecordKind::Put => 1,
            RecordKind::Tombstone => 2,
        }
    }
}

/// Header and key of a record: verified. The value is not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHead<'a> {
    /// What the record does.
    pub kind: RecordKind,
    /// To which key.
    pub key: &'a [u8],
    /// The value's length in bytes.
    pub value_length: u32,
    /// What [`value_is_right`] holds against the value.
    pub value_crc: u32,
}

impl RecordHead<'_> {
    /// The whole record, in bytes.
    pub fn length(&self) -> usize {
        encoded_length(self.key.len(), self.value_length as usize)
    }

    /// Where in the record the value begins.
    pub fn value_offset(&self) -> usize {
        RECORD_HEADER_BYTES + self.key.len()
    }
}

/// A record, verified altogether.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordView<'a> {
    /// What the record does.
    pub kind: RecordKind,
    /// To which key.
    pub key: &'a [u8],
    /// The checksum of the value.
    pub value_crc: u32,
    /// The value.
    pub value: &'a [u8],
}

impl RecordView<'_> {
    /// The whole record, in bytes.
    pub fn length(&self) -> usize {
        encoded_length(self.key.len(), self.value.len())
    }

    /// Where in the record the value begins.
    pub fn value_offset(&self) -> usize {
        RECORD_HEADER_BYTES + self.key.len()
    }
}

/// How many bytes a record takes with a key and a value of these lengths.
pub fn encoded_length(key_length: usize, value_length: usize) -> usize {
    RECORD_HEADER_BYTES.saturating_add(key_length).saturating_add(value_length)
}

/// Appends a record to `out`. Panics where [`append_parts`] does.
pub fn append(out: &mut Vec<u8>, salt: u32, kind: RecordKind, key: &[u8], value: &[u8]) {
    append_parts(out, salt, kind, key, &[value]);
}

/// Appends a record whose value comes in pieces; the same bytes as if it came as one.
///
/// # Panics
/// If the key is empty, or key or value are longer than the limits allow.
pub fn append_parts(out: &mut Vec<u8>, salt: u32, kind: RecordKind, key: &[u8], value_parts: &[&[u8]]) {
    let value_length = value_parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.len()));
    assert_eq!(
        check_lengths(key.len(), value_length),
        Ok(()),
        "key of {}, value of {value_length}",
        key.len()
    );
    let mut header = [0; RECORD_HEADER_BYTES];
    put(&mut header, at::VALUE_CRC, crc(Some(salt), value_parts).to_le_bytes());
    put(&mut header, at::KEY_LENGTH, (key.len() as u32).to_le_bytes());
    put(&mut header, at::VALUE_LENGTH, (value_length as u32).to_le_bytes());
    put(&mut header, at::KIND, [kind.code()]);
    let crc = crc(Some(salt), &[&header[at::VALUE_CRC..], key]);
    put(&mut header, at::CRC, crc.to_le_bytes());

    out.reserve(encoded_length(key.len(), value_length));
    out.extend_from_slice(&header);
    out.extend_from_slice(key);
    for part in value_parts {
        out.extend_from_slice(part);
    }
}

/// Reads header and key of the record at the begin of `bytes`. The value needn't be there.
pub fn decode_head(bytes: &[u8], salt: u32) -> Result<RecordHead<'_>, Damage> {
    let header = bytes.get(..RECORD_HEADER_BYTES).ok_or(Damage::TooShort)?;
    let key_length = u32::from_le_bytes(get(header, at::KEY_LENGTH)) as usize;
    let value_length = u32::from_le_bytes(get(header, at::VALUE_LENGTH));
    check_lengths(key_length, value_length as usize)?;
    let key = bytes[RECORD_HEADER_BYTES..].get(..key_length).ok_or(Damage::TooShort)?;
    if crc(Some(salt), &[&header[at::VALUE_CRC..], key]) != u32::from_le_bytes(get(header, at::CRC)) {
        return Err(Damage::Checksum("record header and key"));
    }
    if !is_zero(&header[at::RESERVED..]) {
        return Err(Damage::Reserved);
    }
    let kind = match header[at::KIND] {
        1 => RecordKind::Put,
        2 => RecordKind::Tombstone,
        _ => return Err(Damage::Kind),
    };
    Ok(RecordHead { kind, key, value_length, value_crc: u32::from_le_bytes(get(header, at::VALUE_CRC)) })
}

/// Reads the record at the begin of `bytes` and verifies all of it. [`Damage::Value`] says that header and key are
/// right, the value is there in full length, and only its content is wrong.
pub fn decode(bytes: &[u8], salt: u32) -> Result<RecordView<'_>, Damage> {
    let head = decode_head(bytes, salt)?;
    let value = bytes.get(head.value_offset()..head.length()).ok_or(Damage::TooShort)?;
    if !value_is_right(value, head.value_crc, salt) {
        return Err(Damage::Value);
    }
    Ok(RecordView { kind: head.kind, key: head.key, value_crc: head.value_crc, value })
}

/// Whether the value is the one that its record's head was written for.
pub fn value_is_right(value: &[u8], value_crc: u32, salt: u32) -> bool {
    crc(Some(salt), &[value]) == value_crc
}

fn check_lengths(key_length: usize, value_length: usize) -> Result<(), Damage> {
    if key_length == 0 || key_length > KEY_BYTES_MAX || value_length > VALUE_BYTES_MAX {
        return Err(Damage::Length);
    }
    Ok(())
}

/// The `count` records of a frame's body, one after the other.
///
/// The body must hold exactly these records and less than 8 zero bytes of padding; what doesn't fit is
/// [`Damage::Length`], told when the iterator gets there. The iterator ends behind an error.
pub fn records(body: &[u8], salt: u32, count: u32) -> Records<'_> {
    Records { body, salt, left: count, offset: 0, done: false }
}

/// See [`records`]. Yields the record's offset in the body, its verified head, and its value, which is *not* verified.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    body: &'a [u8],
    salt: u32,
    left: u32,
    offset: usize,
    done: bool,
}

impl<'a> Records<'a> {
    fn take_one(&mut self) -> Result<(usize, RecordHead<'a>, &'a [u8]), Damage> {
        let rest = self.body.get(self.offset..).unwrap_or_default();
        let too_short_for_count = |damage| if damage == Damage::TooShort { Damage::Length } else { damage };
        let head = decode_head(rest, self.salt).map_err(too_short_for_count)?;
        let value = rest.get(head.value_offset()..head.length()).ok_or(Damage::Length)?;
        let offset = self.offset;
        self.offset += head.length();
        self.left -= 1;
        Ok((offset, head, value))
    }

    fn padding_is_right(&self) -> bool {
        let padding = self.body.get(self.offset..).unwrap_or_default();
        padding.len() <= PADDING_BYTES_MAX && is_zero(padding)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(usize, RecordHead<'a>, &'a [u8]), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.left == 0 {
            self.done = true;
            return if self.padding_is_right() { None } else { Some(Err(Damage::Length)) };
        }
        let item = self.take_one();
        self.done = item.is_err();
        Some(item)
    }
}

impl FusedIterator for Records<'_> {}

#[cfg(test)]
mod tests;
