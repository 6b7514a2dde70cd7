//! The header of a segment file.
//!
//! Owns: the bytes from the file's begin to its first frame.
//!
//! Promises: a header that decodes is whole, of a version that we know, and names its store, partition and segment.
//!
//! Doesn't know: which file it came from; [`SegmentHeader::check_home`] compares.

use super::{ALIGNMENT_BYTES, Damage, Form, crc, get, is_zero, put, tiles};
use crate::engine::types::{PartitionId, SegmentId, StoreId};

/// The header without victims, in bytes.
pub const SEGMENT_HEADER_BYTES_MIN: usize = 64;
/// The most victims that one compaction output may name.
pub const VICTIMS_MAX: usize = 4096;
/// The longest header, in bytes: who reads this much of a file has read its header.
pub const SEGMENT_HEADER_BYTES_MAX: usize = SEGMENT_HEADER_BYTES_MIN + VICTIMS_MAX * VICTIM_BYTES;
/// The version of a segment that holds frames from front to end.
pub const SEGMENT_VERSION: u32 = 1;
/// The version of a packed segment: values, and behind them their index. A program that doesn't know it refuses the store.
pub const PACKED_VERSION: u32 = 2;

const MAGIC: [u8; 8] = *b"BITKVSEG";
const VICTIM_BYTES: usize = 4;

/// Offsets, as in the byte table.
mod at {
    pub const CRC: usize = 0;
    pub const MAGIC: usize = 4;
    pub const VERSION: usize = 12;
    pub const STORE: usize = 16;
    pub const PARTITION: usize = 32;
    pub const ORIGIN: usize = 34;
    pub const SEGMENT: usize = 36;
    pub const SALT: usize = 40;
    pub const VICTIMS: usize = 44;
    pub const CREATED: usize = 48;
    pub const RESERVED: usize = 56;
}

const _: () = assert!(tiles(
    &[
        (at::CRC, 4),
        (at::MAGIC, 8),
        (at::VERSION, 4),
        (at::STORE, 16),
        (at::PARTITION, 2),
        (at::ORIGIN, 2),
        (at::SEGMENT, 4),
        (at::SALT, 4),
        (at::VICTIMS, 4),
        (at::CREATED, 8),
        (at::RESERVED, 8),
    ],
    SEGMENT_HEADER_BYTES_MIN
));
const _: () = assert!(SEGMENT_HEADER_BYTES_MIN.is_multiple_of(ALIGNMENT_BYTES));

/// Who wrote a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The log: commits, in the order of their numbers.
    Log,
    /// Compaction, as it was before there were packed segments: copies of what lived in its victims, in frames.
    Compaction,
    /// Compaction: what lived in its victims, values first, and the index of them behind.
    Packed,
}

impl Origin {
    /// The version of the format that such a segment has, and the number by which its header names it.
    fn codes(self) -> (u32, u16) {
        match self {
            Origin::Log => (SEGMENT_VERSION, 0),
            Origin::Compaction => (SEGMENT_VERSION, 1),
            Origin::Packed => (PACKED_VERSION, 2),
        }
    }

    fn from_codes(codes: (u32, u16)) -> Result<Origin, Damage> {
        let known = [Origin::Log, Origin::Compaction, Origin::Packed];
        known.into_iter().find(|origin| origin.codes() == codes).ok_or(Damage::Kind)
    }

    /// How records lie in such a segment.
    pub fn form(self) -> Form {
        match self {
            Origin::Log | Origin::Compaction => Form::Whole,
            Origin::Packed => Form::Bare,
        }
    }
}

/// What stands at the begin of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// The store that it belongs to.
    pub store: StoreId,
    /// The partition that it belongs to.
    pub partition: PartitionId,
    /// Who wrote it.
    pub origin: Origin,
    /// Which segment of the partition it is.
    pub segment: SegmentId,
    /// Random; part of every checksum of frames and records in it, so that bytes of another file or life never pass.
    pub salt: u32,
    /// When it was created, in nanoseconds since 1970.
    pub created_ns: i64,
    /// The segments that it replaces, if it is an output of compaction.
    pub victims: Vec<SegmentId>,
}

impl SegmentHeader {
    /// How many bytes the header takes: the offset of the first frame.
    pub fn encoded_length(&self) -> usize {
        length_with(self.victims.len())
    }

    /// How many bytes a header with so many victims takes.
    pub fn encoded_length_of(victims: usize) -> usize {
        length_with(victims)
    }

    /// The header's bytes.
    ///
    /// # Panics
    /// If there are more than [`VICTIMS_MAX`] victims.
    pub fn encode(&self) -> Vec<u8> {
        assert!(
            self.victims.len() <= VICTIMS_MAX,
            "a compaction output names {} victims",
            self.victims.len()
        );
        let mut out = vec![0; self.encoded_length()];
        put(&mut out, at::MAGIC, MAGIC);
        let (version, origin) = self.origin.codes();
        put(&mut out, at::VERSION, version.to_le_bytes());
        put(&mut out, at::STORE, self.store.0);
        put(&mut out, at::PARTITION, self.partition.0.to_le_bytes());
        put(&mut out, at::ORIGIN, origin.to_le_bytes());
        put(&mut out, at::SEGMENT, self.segment.0.to_le_bytes());
        put(&mut out, at::SALT, self.salt.to_le_bytes());
        put(&mut out, at::VICTIMS, (self.victims.len() as u32).to_le_bytes());
        put(&mut out, at::CREATED, self.created_ns.to_le_bytes());
        for (index, victim) in self.victims.iter().enumerate() {
            put(&mut out, SEGMENT_HEADER_BYTES_MIN + index * VICTIM_BYTES, victim.0.to_le_bytes());
        }
        let crc = crc(None, &[&out[at::MAGIC..]]);
        put(&mut out, at::CRC, crc.to_le_bytes());
        out
    }

    /// Reads the header at the begin of `bytes`, which may go on behind it.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, Damage> {
        if bytes.len() < SEGMENT_HEADER_BYTES_MIN {
            return Err(Damage::TooShort);
        }
        if get(bytes, at::MAGIC) != MAGIC {
            return Err(Damage::Magic);
        }
        // Before the checksum: only so much is promised of a later version, and it deserves a better word than
        // "damaged".
        let version = u32::from_le_bytes(get(bytes, at::VERSION));
        if ![SEGMENT_VERSION, PACKED_VERSION].contains(&version) {
            return Err(Damage::Version(version));
        }
        let victims = u32::from_le_bytes(get(bytes, at::VICTIMS)) as usize;
        if victims > VICTIMS_MAX {
            return Err(Damage::Length);
        }
        let header = bytes.get(..length_with(victims)).ok_or(Damage::TooShort)?;
        if crc(None, &[&header[at::MAGIC..]]) != u32::from_le_bytes(get(header, at::CRC)) {
            return Err(Damage::Checksum("segment header"));
        }
        let (list, padding) = header[SEGMENT_HEADER_BYTES_MIN..].split_at(victims * VICTIM_BYTES);
        if !is_zero(&header[at::RESERVED..SEGMENT_HEADER_BYTES_MIN]) || !is_zero(padding) {
            return Err(Damage::Reserved);
        }
        let origin = Origin::from_codes((version, u16::from_le_bytes(get(header, at::ORIGIN))))?;
        Ok(SegmentHeader {
            store: StoreId(get(header, at::STORE)),
            partition: PartitionId(u16::from_le_bytes(get(header, at::PARTITION))),
            origin,
            segment: SegmentId(u32::from_le_bytes(get(header, at::SEGMENT))),
            salt: u32::from_le_bytes(get(header, at::SALT)),
            created_ns: i64::from_le_bytes(get(header, at::CREATED)),
            victims: list
                .chunks_exact(VICTIM_BYTES)
                .map(|victim| SegmentId(u32::from_le_bytes(get(victim, 0))))
                .collect(),
        })
    }

    /// [`Damage::Foreign`] unless the segment is the one that its file's place and name say.
    pub fn check_home(
        &self,
        store: StoreId,
        partition: PartitionId,
        segment: SegmentId,
    ) -> Result<(), Damage> {
        if (self.store, self.partition, self.segment) == (store, partition, segment) {
            Ok(())
        } else {
            Err(Damage::Foreign)
        }
    }
}

/// The length of a header with so many victims.
fn length_with(victims: usize) -> usize {
    SEGMENT_HEADER_BYTES_MIN + (victims * VICTIM_BYTES).next_multiple_of(ALIGNMENT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, each_flip, each_truncation};
    use super::*;

    fn random_header(random: &mut Random, victims: usize) -> SegmentHeader {
        SegmentHeader {
            store: random.store(),
            partition: PartitionId(random.next() as u16),
            origin: [Origin::Log, Origin::Compaction, Origin::Packed][random.below(3)],
            segment: SegmentId(random.next() as u32),
            salt: random.next() as u32,
            created_ns: random.next() as i64,
            victims: (0..victims).map(|_| SegmentId(random.next() as u32)).collect(),
        }
    }

    /// Writes the checksum anew over bytes that a test has bent.
    fn reseal(bytes: &mut [u8]) {
        let crc = crc(None, &[&bytes[at::MAGIC..]]);
        put(bytes, at::CRC, crc.to_le_bytes());
    }

    #[test]
    fn what_is_encoded_decodes() {
        let mut random = Random::new(1);
        for victims in (0..20).chain([VICTIMS_MAX - 1, VICTIMS_MAX]) {
            let header = random_header(&mut random, victims);
            let mut bytes = header.encode();
            assert_eq!(bytes.len(), header.encoded_length());
            assert!(bytes.len() <= SEGMENT_HEADER_BYTES_MAX);
            bytes.extend(random.bytes(100));
            assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        }
    }

    #[test]
    fn every_flip_and_truncation_is_an_error() {
        let mut random = Random::new(2);
        for victims in 0..4 {
            let bytes = random_header(&mut random, victims).encode();
            each_flip(&bytes, |index, bytes| assert!(SegmentHeader::decode(bytes).is_err(), "byte {index}"));
            each_truncation(&bytes, |bytes| assert_eq!(SegmentHeader::decode(bytes), Err(Damage::TooShort)));
        }
    }

    #[test]
    fn what_a_checksum_cannot_see_is_checked() {
        let header = SegmentHeader { origin: Origin::Compaction, ..random_header(&mut Random::new(3), 1) };
        let bytes = header.encode();
        let bent = |offset: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[offset] = byte;
            reseal(&mut bytes);
            SegmentHeader::decode(&bytes)
        };
        assert_eq!(bent(at::MAGIC, b'b'), Err(Damage::Magic));
        assert_eq!(bent(at::VERSION, 3), Err(Damage::Version(3)));
        // Each origin has its version.
        assert_eq!(bent(at::VERSION, 2), Err(Damage::Kind));
        assert_eq!(bent(at::ORIGIN, 2), Err(Damage::Kind));
        assert_eq!(bent(at::RESERVED + 7, 1), Err(Damage::Reserved));
        assert_eq!(bent(SEGMENT_HEADER_BYTES_MIN + VICTIM_BYTES, 1), Err(Damage::Reserved));
        assert_eq!(bent(at::VICTIMS + 3, 255), Err(Damage::Length));
        assert_eq!(bent(at::VICTIMS + 1, 15), Err(Damage::TooShort));
    }

    #[test]
    fn a_stranger_is_noticed() {
        let header = random_header(&mut Random::new(4), 0);
        let SegmentHeader { store, partition, segment, .. } = header;
        assert_eq!(header.check_home(store, partition, segment), Ok(()));
        assert_eq!(header.check_home(StoreId([0; 16]), partition, segment), Err(Damage::Foreign));
        assert_eq!(header.check_home(store, PartitionId(!partition.0), segment), Err(Damage::Foreign));
        assert_eq!(header.check_home(store, partition, SegmentId(!segment.0)), Err(Damage::Foreign));
    }
}
