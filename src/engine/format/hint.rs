//! The hint file: an index of every record in a segment, so that opening needn't read the segment.
//!
//! Owns: the 96 bytes of its header, and the entries behind them.
//!
//! Promises: a hint that decodes is whole and exactly as long as it says; its entries come in order of offset and lie
//! within the data that it describes. Entries are checked one by one as they are read, and none is trusted for being
//! under a good checksum.
//!
//! Doesn't know: whether the segment still is what the hint describes; [`Hint::check_segment`] compares with its
//! header, and the caller compares lengths. A hint that fails in any way costs a scan of the segment, never a wrong
//! answer.

use std::iter::FusedIterator;

use super::record::{self, RecordKind};
use super::{Damage, SegmentHeader, crc, get, tiles};
use crate::engine::limits::{KEY_BYTES_MAX, SEGMENT_BYTES_MAX, VALUE_BYTES_MAX};
use crate::engine::types::{Epoch, Number, PartitionId, SegmentId, StoreId};

mod writer;
pub use writer::HintWriter;

/// The header, in bytes.
pub const HINT_HEADER_BYTES: usize = 96;
/// An entry before its key, in bytes.
pub const HINT_ENTRY_BYTES: usize = 20;
/// The version of the format that this file writes, and the only one that it reads.
pub const HINT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"BITKVHNT";
/// In an entry's key length.
const TOMBSTONE_BIT: u32 = 1 << 31;

/// Offsets in the header, as in the byte table.
mod at {
    pub const CRC: usize = 0;
    pub const MAGIC: usize = 4;
    pub const VERSION: usize = 12;
    pub const STORE: usize = 16;
    pub const PARTITION: usize = 32;
    pub const SEALED: usize = 34;
    pub const SEGMENT: usize = 36;
    pub const SALT: usize = 40;
    pub const ENTRIES: usize = 44;
    pub const DATA_LENGTH: usize = 48;
    pub const BODY_LENGTH: usize = 56;
    pub const LAST_NUMBER: usize = 64;
    pub const STABLE: usize = 72;
    pub const BODY_CRC: usize = 80;
    pub const FIRST_EPOCH: usize = 84;
    pub const FIRST_NUMBER: usize = 88;
}

const _: () = assert!(tiles(
    &[
        (at::CRC, 4),
        (at::MAGIC, 8),
        (at::VERSION, 4),
        (at::STORE, 16),
        (at::PARTITION, 2),
        (at::SEALED, 2),
        (at::SEGMENT, 4),
        (at::SALT, 4),
        (at::ENTRIES, 4),
        (at::DATA_LENGTH, 8),
        (at::BODY_LENGTH, 8),
        (at::LAST_NUMBER, 8),
        (at::STABLE, 8),
        (at::BODY_CRC, 4),
        (at::FIRST_EPOCH, 4),
        (at::FIRST_NUMBER, 8),
    ],
    HINT_HEADER_BYTES
));

/// Offsets in an entry.
mod entry {
    pub const NUMBER: usize = 0;
    pub const OFFSET: usize = 8;
    pub const VALUE_LENGTH: usize = 12;
    pub const KEY_LENGTH: usize = 16;
}

const _: () = assert!(tiles(
    &[(entry::NUMBER, 8), (entry::OFFSET, 4), (entry::VALUE_LENGTH, 4), (entry::KEY_LENGTH, 4)],
    HINT_ENTRY_BYTES
));

/// What a hint says of its segment as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hint {
    /// The store that it belongs to.
    pub store: StoreId,
    /// The partition that it belongs to.
    pub partition: PartitionId,
    /// The segment that it describes.
    pub segment: SegmentId,
    /// The salt of that segment.
    pub salt: u32,
    /// Whether the segment is sealed. If not, this is the hint of the active segment, written on close.
    pub sealed: bool,
    /// How much of the segment it describes, in bytes from the begin of the file.
    pub data_length: u64,
    /// The greatest number in the segment.
    pub last_number: Number,
    /// The smallest number in the segment.
    pub first_number: Number,
    /// The greatest `stable` in the segment.
    pub stable: Number,
    /// The smallest epoch in the segment.
    pub first_epoch: Epoch,
    /// How many entries there are: one a record.
    pub entries: u32,
}

impl Hint {
    /// [`Damage::Foreign`] unless this is the hint of the segment with that header.
    pub fn check_segment(&self, header: &SegmentHeader) -> Result<(), Damage> {
        header.check_home(self.store, self.partition, self.segment)?;
        if self.salt == header.salt { Ok(()) } else { Err(Damage::Foreign) }
    }
}

/// One record of the segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HintEntry<'a> {
    /// The number of its frame.
    pub number: Number,
    /// Where the record begins, in bytes from the begin of the file.
    pub offset: u32,
    /// What it does to the key.
    pub kind: RecordKind,
    /// The value's length, in bytes.
    pub value_length: u32,
    /// The key.
    pub key: &'a [u8],
}

impl HintEntry<'_> {
    /// What must be true of an entry on both ways; `end` is where the record before it ended. Returns where it ends
    /// itself.
    fn check(&self, end: u64) -> Result<u64, Damage> {
        if self.number < Number(1) {
            return Err(Damage::Number);
        }
        if self.key.is_empty()
            || self.key.len() > KEY_BYTES_MAX
            || self.value_length as usize > VALUE_BYTES_MAX
        {
            return Err(Damage::Length);
        }
        if u64::from(self.offset) < end {
            return Err(Damage::Order);
        }
        Ok(u64::from(self.offset) + record::encoded_length(self.key.len(), self.value_length as usize) as u64)
    }
}

/// A hint whose checksums are right.
#[derive(Clone, Copy, Debug)]
pub struct HintView<'a> {
    /// What it says of the segment.
    pub hint: Hint,
    body: &'a [u8],
}

impl<'a> HintView<'a> {
    /// All entries, as bytes; see [`entry_at`].
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The entries, in order of offset. The iterator ends behind an error.
    pub fn entries(&self) -> HintEntries<'a> {
        HintEntries { rest: self.body, left: self.hint.entries, end: 0, data_length: self.hint.data_length }
    }
}

/// Reads a hint file, all of it.
pub fn decode(bytes: &[u8]) -> Result<HintView<'_>, Damage> {
    let (header, body) = bytes.split_at_checked(HINT_HEADER_BYTES).ok_or(Damage::TooShort)?;
    if get(header, at::MAGIC) != MAGIC {
        return Err(Damage::Magic);
    }
    let version = u32::from_le_bytes(get(header, at::VERSION));
    if version != HINT_VERSION {
        return Err(Damage::Version(version));
    }
    if crc(None, &[&header[at::MAGIC..]]) != u32::from_le_bytes(get(header, at::CRC)) {
        return Err(Damage::Checksum("hint header"));
    }
    let hint = Hint {
        store: StoreId(get(header, at::STORE)),
        partition: PartitionId(u16::from_le_bytes(get(header, at::PARTITION))),
        segment: SegmentId(u32::from_le_bytes(get(header, at::SEGMENT))),
        salt: u32::from_le_bytes(get(header, at::SALT)),
        sealed: match u16::from_le_bytes(get(header, at::SEALED)) {
            0 => false,
            1 => true,
            _ => return Err(Damage::Kind),
        },
        data_length: u64::from_le_bytes(get(header, at::DATA_LENGTH)),
        last_number: Number(u64::from_le_bytes(get(header, at::LAST_NUMBER))),
        first_number: Number(u64::from_le_bytes(get(header, at::FIRST_NUMBER))),
        stable: Number(u64::from_le_bytes(get(header, at::STABLE))),
        first_epoch: Epoch(u32::from_le_bytes(get(header, at::FIRST_EPOCH))),
        entries: u32::from_le_bytes(get(header, at::ENTRIES)),
    };
    let body_length = u64::from_le_bytes(get(header, at::BODY_LENGTH));
    if (body.len() as u64) < body_length {
        return Err(Damage::TooShort);
    }
    // Whoever makes room for the entries can't be talked into more than the body holds.
    let entries_max = body_length / (HINT_ENTRY_BYTES as u64 + 1);
    if body.len() as u64 > body_length
        || u64::from(hint.entries) > entries_max
        || hint.data_length > SEGMENT_BYTES_MAX
    {
        return Err(Damage::Length);
    }
    if crc(None, &[body]) != u32::from_le_bytes(get(header, at::BODY_CRC)) {
        return Err(Damage::Checksum("hint body"));
    }
    Ok(HintView { hint, body })
}

/// Appends an entry.
pub fn append_entry(out: &mut Vec<u8>, entry: &HintEntry<'_>) {
    let flag = match entry.kind {
        RecordKind::Put => 0,
        RecordKind::Tombstone => TOMBSTONE_BIT,
    };
    out.extend_from_slice(&entry.number.0.to_le_bytes());
    out.extend_from_slice(&entry.offset.to_le_bytes());
    out.extend_from_slice(&entry.value_length.to_le_bytes());
    out.extend_from_slice(&(entry.key.len() as u32 | flag).to_le_bytes());
    out.extend_from_slice(entry.key);
}

/// The entry that begins at an offset of a body, and how many bytes it takes; None if there are too few. It isn't checked: who reads a hint for the
/// first time goes through [`HintView::entries`].
pub fn entry_at(body: &[u8], at: usize) -> Option<(HintEntry<'_>, usize)> {
    let (fixed, rest) = body.get(at..)?.split_at_checked(HINT_ENTRY_BYTES)?;
    let flagged = u32::from_le_bytes(get(fixed, entry::KEY_LENGTH));
    let key = rest.get(..(flagged & !TOMBSTONE_BIT) as usize)?;
    let entry = HintEntry {
        number: Number(u64::from_le_bytes(get(fixed, entry::NUMBER))),
        offset: u32::from_le_bytes(get(fixed, entry::OFFSET)),
        kind: if flagged & TOMBSTONE_BIT == 0 { RecordKind::Put } else { RecordKind::Tombstone },
        value_length: u32::from_le_bytes(get(fixed, entry::VALUE_LENGTH)),
        key,
    };
    Some((entry, HINT_ENTRY_BYTES + key.len()))
}

/// See [`HintView::entries`].
#[derive(Clone, Debug)]
pub struct HintEntries<'a> {
    rest: &'a [u8],
    left: u32,
    end: u64,
    data_length: u64,
}

impl<'a> HintEntries<'a> {
    fn take_one(&mut self) -> Result<HintEntry<'a>, Damage> {
        let (entry, length) = entry_at(self.rest, 0).ok_or(Damage::Length)?;
        let end = entry.check(self.end)?;
        if end > self.data_length {
            return Err(Damage::Length);
        }
        (self.rest, self.end) = (&self.rest[length..], end);
        self.left -= 1;
        Ok(entry)
    }
}

impl<'a> Iterator for HintEntries<'a> {
    type Item = Result<HintEntry<'a>, Damage>;

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

impl FusedIterator for HintEntries<'_> {}

#[cfg(test)]
mod tests;
