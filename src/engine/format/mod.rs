//! The formats: bytes to values and back, and nothing else. The byte tables are in `src/engine/README.md`; this folder
//! is those tables as code, a file a table.
//!
//! Owns: every offset, size and checksum rule of what lies on disk.
//!
//! Promises: a decoder takes any bytes at all and answers with a value or a [`Damage`]; it never panics, never trusts a
//! length before it was compared with what is there, and allocates nothing that the given bytes don't pay for. What
//! decodes, encodes to the same bytes again. An encoder refuses, by an assertion that stays on, what its decoder would
//! refuse: a caller that hands over an oversized key has a bug, and it must show before it is on disk.
//!
//! Doesn't know: files, clocks, partitions at work, or what a caller does about damage.

use std::error::Error;
use std::fmt;

pub mod form;
pub mod frame;
pub mod hint;
pub mod index;
pub mod manifest;
pub mod record;
pub mod salt;
pub mod segment;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod testing;

pub use form::Form;
pub use frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
pub use hint::{Hint, HintEntry, HintView, HintWriter};
pub use index::{IndexEntry, IndexView, IndexWriter};
pub use manifest::Manifest;
pub use record::{RECORD_HEADER_BYTES, RecordHead, RecordKind, RecordView};
pub use segment::{Origin, SegmentHeader};

/// Frames begin at multiples of this, in bytes.
pub const ALIGNMENT_BYTES: usize = 8;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// Fewer bytes than the thing needs.
    TooShort,
    /// The magic bytes aren't there: nothing of this kind begins here.
    Magic,
    /// A format version that this program doesn't know.
    Version(u32),
    /// A checksum is wrong; of what.
    Checksum(&'static str),
    /// The value's checksum is wrong, while header and key are right: this value is rotten and hides nothing else.
    Value,
    /// A length that can't be, or that doesn't fit what it describes.
    Length,
    /// A kind, origin or flag that doesn't exist.
    Kind,
    /// The number 0 where a number stands, or a count out of its bounds.
    Number,
    /// Things that must grow don't.
    Order,
    /// A reserved byte isn't zero.
    Reserved,
    /// Whole, but of another store, partition, segment or life of the file.
    Foreign,
    /// Text that can't be understood; of what.
    Text(&'static str),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::TooShort => f.write_str("too short"),
            Damage::Magic => f.write_str("the magic bytes are missing"),
            Damage::Version(version) => write!(f, "format version {version} is unknown to this program"),
            Damage::Checksum(what) => write!(f, "the checksum of the {what} is wrong"),
            Damage::Value => f.write_str("the checksum of the value is wrong"),
            Damage::Length => f.write_str("a length is impossible"),
            Damage::Kind => f.write_str("of an unknown kind"),
            Damage::Number => f.write_str("a number is out of its bounds"),
            Damage::Order => f.write_str("out of order"),
            Damage::Reserved => f.write_str("reserved bytes are not zero"),
            Damage::Foreign => f.write_str("belongs to something else"),
            Damage::Text(what) => write!(f, "the {what} can't be understood"),
        }
    }
}

impl Error for Damage {}

/// CRC32C over the salt (if there is one) and then the parts, as if they were one.
pub fn crc(salt: Option<u32>, parts: &[&[u8]]) -> u32 {
    let start = salt.map_or(0, |salt| crc32c::crc32c(&salt.to_le_bytes()));
    parts.iter().fold(start, |crc, part| crc32c::crc32c_append(crc, part))
}

/// The `N` bytes at `offset`. The caller has compared the length with the whole header already; offsets are constants.
fn get<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[offset..offset + N]);
    field
}

/// Puts a field's bytes at `offset`; the other half of [`get`].
fn put<const N: usize>(out: &mut [u8], offset: usize, field: [u8; N]) {
    out[offset..offset + N].copy_from_slice(&field);
}

/// Whether all bytes are zero, as padding and reserved bytes are.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Whether fields, given as offset and size, cover `total` bytes without hole or overlap. For assertions beside the
/// offsets.
const fn tiles(fields: &[(usize, usize)], total: usize) -> bool {
    let mut end = 0;
    let mut index = 0;
    while index < fields.len() {
        if fields[index].0 != end {
            return false;
        }
        end += fields[index].1;
        index += 1;
    }
    end == total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_castagnoli_and_the_salt_goes_first() {
        // The check value of the CRC32C definition.
        assert_eq!(crc(None, &[b"123456789"]), 0xe306_9283);
        assert_eq!(crc(None, &[b"1234", b"", b"56789"]), 0xe306_9283);
        assert_eq!(crc(Some(u32::from_le_bytes(*b"1234")), &[b"56789"]), 0xe306_9283);
        // A salt of zero is a salt.
        assert_ne!(crc(Some(0), &[b"a"]), crc(None, &[b"a"]));
    }

    #[test]
    fn tiles_sees_holes_and_overlaps() {
        assert!(tiles(&[(0, 4), (4, 8)], 12));
        assert!(!tiles(&[(0, 4), (5, 7)], 12));
        assert!(!tiles(&[(0, 4), (3, 9)], 12));
        assert!(!tiles(&[(0, 4), (4, 8)], 13));
    }

    #[test]
    fn damage_speaks() {
        assert_eq!(Damage::Version(7).to_string(), "format version 7 is unknown to this program");
        assert_eq!(Damage::Checksum("frame header").to_string(), "the checksum of the frame header is wrong");
    }
}
