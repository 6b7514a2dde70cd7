//! The frame: what one commit wrote to one partition. Its header, and the body of a watermark.
//!
//! Owns: the 48 bytes before the records, the padding behind them, and the watermark's list.
//!
//! Promises: a header that decodes was written into a segment with this salt, and its lengths and counts can be true.
//! It says nothing of the body: records carry checksums of their own, so that one rotten value costs only itself.
//!
//! Doesn't know: whether the frame's epoch owns its number, whether the rest of it lies within the file, and what comes
//! before or behind it.

use super::index::INDEX_ENTRY_BYTES_MIN;
use super::index::parity::GROUP_FRAMES_MAX;
use super::record::RECORD_BYTES_MIN;
use super::{ALIGNMENT_BYTES, Damage, crc, get, put, tiles};
use crate::engine::limits::PARTITIONS_MAX;
use crate::engine::types::{Epoch, Number};

/// The header, in bytes.
pub const FRAME_HEADER_BYTES: usize = 48;

/// "FRAM". It comes last, so that a header whose end never reached the disk is seen by its absence.
const MAGIC: [u8; 4] = *b"FRAM";

/// Offsets, as in the byte table.
mod at {
    pub const CRC: usize = 0;
    pub const LENGTH: usize = 4;
    pub const NUMBER: usize = 8;
    pub const STABLE: usize = 16;
    pub const COMMIT: usize = 24;
    pub const EPOCH: usize = 32;
    pub const PARTS: usize = 36;
    pub const KIND: usize = 38;
    pub const RESERVED: usize = 39;
    pub const RECORDS: usize = 40;
    pub const MAGIC: usize = 44;
}

const _: () = assert!(tiles(
    &[
        (at::CRC, 4),
        (at::LENGTH, 4),
        (at::NUMBER, 8),
        (at::STABLE, 8),
        (at::COMMIT, 8),
        (at::EPOCH, 4),
        (at::PARTS, 2),
        (at::KIND, 1),
        (at::RESERVED, 1),
        (at::RECORDS, 4),
        (at::MAGIC, 4),
    ],
    FRAME_HEADER_BYTES
));
const _: () = assert!(FRAME_HEADER_BYTES.is_multiple_of(ALIGNMENT_BYTES));

/// What a frame is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameKind {
    /// A commit, or one partition's part of it.
    Commit,
    /// Records that compaction copied; number and epoch are the original's.
    Copy,
    /// The last frame of a sealed segment. Its number is the last in the segment, not one of its own.
    Seal,
    /// Says what is stable, and the last number that each partition wrote.
    Watermark,
    /// Keeps the place of a number whose commit doesn't count.
    Void,
    /// A part of a packed segment's index.
    Index,
    /// What damaged parts of that are made again from.
    Parity,
}

impl FrameKind {
    fn code(self) -> u8 {
        match self {
            FrameKind::Commit => 1,
            FrameKind::Copy => 2,
            FrameKind::Seal => 3,
            FrameKind::Watermark => 4,
            FrameKind::Void => 5,
            FrameKind::Index => 6,
            FrameKind::Parity => 7,
        }
    }

    fn from_code(code: u8) -> Result<FrameKind, Damage> {
        match code {
            1 => Ok(FrameKind::Commit),
            2 => Ok(FrameKind::Copy),
            3 => Ok(FrameKind::Seal),
            4 => Ok(FrameKind::Watermark),
            5 => Ok(FrameKind::Void),
            6 => Ok(FrameKind::Index),
            7 => Ok(FrameKind::Parity),
            _ => Err(Damage::Kind),
        }
    }
}

/// What stands before a frame's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// The whole frame, header and padding included, in bytes: a multiple of 8.
    pub length: u32,
    /// Its place in the one order; from 1.
    pub number: Number,
    /// What was known to be stable when it was written.
    pub stable: Number,
    /// Names a commit over several partitions; 0 where the commit has one part. In a packed segment, see [`index`](super::index).
    pub commit: u64,
    /// The life of the store that numbered it.
    pub epoch: Epoch,
    /// Over how many partitions the commit goes, at least 1.
    pub parts: u16,
    /// What it is there for.
    pub kind: FrameKind,
    /// How many records follow; of parity, for how many frames it stands.
    pub records: u32,
}

impl FrameHeader {
    /// Writes the header over the first 48 bytes of `out`.
    ///
    /// # Panics
    /// If `out` is shorter, or the header is one that [`decode`](Self::decode) would refuse.
    pub fn encode_into(&self, out: &mut [u8], salt: u32) {
        assert_eq!(self.check(), Ok(()), "{self:?}");
        let out = &mut out[..FRAME_HEADER_BYTES];
        put(out, at::LENGTH, self.length.to_le_bytes());
        put(out, at::NUMBER, self.number.0.to_le_bytes());
        put(out, at::STABLE, self.stable.0.to_le_bytes());
        put(out, at::COMMIT, self.commit.to_le_bytes());
        put(out, at::EPOCH, self.epoch.0.to_le_bytes());
        put(out, at::PARTS, self.parts.to_le_bytes());
        put(out, at::KIND, [self.kind.code()]);
        put(out, at::RESERVED, [0]);
        put(out, at::RECORDS, self.records.to_le_bytes());
        put(out, at::MAGIC, MAGIC);
        let crc = crc(Some(salt), &[&out[at::LENGTH..]]);
        put(out, at::CRC, crc.to_le_bytes());
    }

    /// The header's bytes. Panics where [`encode_into`](Self::encode_into) does.
    pub fn encode(&self, salt: u32) -> [u8; FRAME_HEADER_BYTES] {
        let mut out = [0; FRAME_HEADER_BYTES];
        self.encode_into(&mut out, salt);
        out
    }

    /// Reads the header at the begin of `bytes`, which may go on behind it.
    pub fn decode(bytes: &[u8], salt: u32) -> Result<FrameHeader, Damage> {
        let header = bytes.get(..FRAME_HEADER_BYTES).ok_or(Damage::TooShort)?;
        if get(header, at::MAGIC) != MAGIC {
            return Err(Damage::Magic);
        }
        if crc(Some(salt), &[&header[at::LENGTH..]]) != u32::from_le_bytes(get(header, at::CRC)) {
            return Err(Damage::Checksum("frame header"));
        }
        if header[at::RESERVED] != 0 {
            return Err(Damage::Reserved);
        }
        let decoded = FrameHeader {
            length: u32::from_le_bytes(get(header, at::LENGTH)),
            number: Number(u64::from_le_bytes(get(header, at::NUMBER))),
            stable: Number(u64::from_le_bytes(get(header, at::STABLE))),
            commit: u64::from_le_bytes(get(header, at::COMMIT)),
            epoch: Epoch(u32::from_le_bytes(get(header, at::EPOCH))),
            parts: u16::from_le_bytes(get(header, at::PARTS)),
            kind: FrameKind::from_code(header[at::KIND])?,
            records: u32::from_le_bytes(get(header, at::RECORDS)),
        };
        decoded.check()?;
        Ok(decoded)
    }

    /// The body with its padding, in bytes.
    pub fn body_length(&self) -> usize {
        (self.length as usize).saturating_sub(FRAME_HEADER_BYTES)
    }

    /// What must be true of a header on both ways, to the disk and back.
    fn check(&self) -> Result<(), Damage> {
        let length = self.length as usize;
        if length < FRAME_HEADER_BYTES || !length.is_multiple_of(ALIGNMENT_BYTES) {
            return Err(Damage::Length);
        }
        if self.number < Number(1) || self.parts < 1 {
            return Err(Damage::Number);
        }
        // Whoever makes room for so many records can't be talked into more than the frame could hold.
        let records_max = match self.kind {
            FrameKind::Commit | FrameKind::Copy => self.body_length() / RECORD_BYTES_MIN,
            FrameKind::Index => self.body_length() / INDEX_ENTRY_BYTES_MIN,
            FrameKind::Parity => GROUP_FRAMES_MAX,
            FrameKind::Seal | FrameKind::Watermark | FrameKind::Void => 0,
        };
        let empty = matches!(self.kind, FrameKind::Seal | FrameKind::Void);
        if self.records as usize > records_max || (empty && self.body_length() > 0) {
            return Err(Damage::Length);
        }
        Ok(())
    }
}

/// The length of so many bytes with the padding of a frame.
pub fn padded_length(length: usize) -> usize {
    length.saturating_add(ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES
}

/// Whether a frame's header could begin here: a cheap look at the magic word, for searching forward behind damage.
pub fn could_be_header(bytes: &[u8]) -> bool {
    bytes.get(at::MAGIC..FRAME_HEADER_BYTES) == Some(&MAGIC[..])
}

/// The watermark body: CRC of what follows, count, last numbers.
mod watermark {
    pub const CRC: usize = 0;
    pub const COUNT: usize = 4;
    pub const NUMBERS: usize = 8;
    pub const NUMBER_BYTES: usize = 8;
}
const _: () = assert!(tiles(&[(watermark::CRC, 4), (watermark::COUNT, 4)], watermark::NUMBERS));

/// The body of a watermark frame: the last number that each partition wrote. Needs no padding.
///
/// # Panics
/// If there are more numbers than a store can have partitions.
pub fn encode_watermark(last: &[Number], salt: u32) -> Vec<u8> {
    assert!(last.len() <= PARTITIONS_MAX as usize, "a watermark of {} partitions", last.len());
    let mut out = vec![0; watermark::NUMBERS + last.len() * watermark::NUMBER_BYTES];
    put(&mut out, watermark::COUNT, (last.len() as u32).to_le_bytes());
    for (index, number) in last.iter().enumerate() {
        put(&mut out, watermark::NUMBERS + index * watermark::NUMBER_BYTES, number.0.to_le_bytes());
    }
    let crc = crc(Some(salt), &[&out[watermark::COUNT..]]);
    put(&mut out, watermark::CRC, crc.to_le_bytes());
    out
}

/// Reads the body of a watermark frame, all of it.
pub fn decode_watermark(body: &[u8], salt: u32) -> Result<Vec<Number>, Damage> {
    if body.len() < watermark::NUMBERS {
        return Err(Damage::TooShort);
    }
    let count = u32::from_le_bytes(get(body, watermark::COUNT));
    if count > u32::from(PARTITIONS_MAX) {
        return Err(Damage::Length);
    }
    let length = watermark::NUMBERS + count as usize * watermark::NUMBER_BYTES;
    if body.len() < length {
        return Err(Damage::TooShort);
    }
    if body.len() > length {
        return Err(Damage::Length);
    }
    if crc(Some(salt), &[&body[watermark::COUNT..]]) != u32::from_le_bytes(get(body, watermark::CRC)) {
        return Err(Damage::Checksum("watermark"));
    }
    let numbers = body[watermark::NUMBERS..].chunks_exact(watermark::NUMBER_BYTES);
    Ok(numbers.map(|number| Number(u64::from_le_bytes(get(number, 0)))).collect())
}

#[cfg(test)]
mod tests;
