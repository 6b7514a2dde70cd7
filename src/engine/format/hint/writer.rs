//! Writes a hint.
//!
//! Owns: the bytes of the file while they are made.
//!
//! Promises: what it yields, [`decode`](super::decode) and its entries accept.
//!
//! Doesn't know: where its entries come from: from memory when a segment is sealed, or from a scan.

use super::super::{crc, get, put};
use super::{
    HINT_ENTRY_BYTES, HINT_HEADER_BYTES, HINT_VERSION, Hint, HintEntry, MAGIC, TOMBSTONE_BIT, append_entry,
    at, entry,
};
use crate::engine::format::record::RecordKind;
use crate::engine::limits::SEGMENT_BYTES_MAX;
use crate::engine::types::Number;

/// Makes a hint, entry by entry.
#[derive(Clone, Debug)]
pub struct HintWriter {
    /// Room for the header, then the entries: the file as it will be, so that finishing copies nothing.
    out: Vec<u8>,
    entries: u32,
    end: u64,
    /// Where the first entry begins whose number is still to be given.
    unnumbered: usize,
}

impl Default for HintWriter {
    fn default() -> HintWriter {
        HintWriter::new()
    }
}

impl HintWriter {
    /// A hint without entries.
    pub fn new() -> HintWriter {
        HintWriter { out: vec![0; HINT_HEADER_BYTES], entries: 0, end: 0, unnumbered: HINT_HEADER_BYTES }
    }

    /// Adds the next record of the segment.
    ///
    /// # Panics
    /// If the record begins before the one pushed last ends, or is one that can't be.
    pub fn push(&mut self, number: Number, offset: u32, kind: RecordKind, value_length: u32, key: &[u8]) {
        let entry = HintEntry { number, offset, kind, value_length, key };
        self.end = entry.check(self.end).unwrap_or_else(|damage| panic!("no entry of a hint: {damage}"));
        self.entries += 1;
        append_entry(&mut self.out, &entry);
    }

    /// Gives the next `count` entries their number: in the order of pushing, each entry once. For who pushes before numbers are known.
    ///
    /// # Panics
    /// If so many have not been pushed.
    pub fn number_next(&mut self, count: u32, number: Number) {
        for _ in 0..count {
            let start = self.unnumbered;
            put(&mut self.out[start..], entry::NUMBER, number.0.to_le_bytes());
            let flagged = u32::from_le_bytes(get(&self.out[start..], entry::KEY_LENGTH));
            self.unnumbered += HINT_ENTRY_BYTES + (flagged & !TOMBSTONE_BIT) as usize;
        }
    }

    /// How many entries have been pushed.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// How long the file would be now, in bytes.
    pub fn encoded_length(&self) -> usize {
        self.out.len()
    }

    /// The file's bytes. What `hint.entries` says doesn't matter: the writer has counted.
    ///
    /// # Panics
    /// If a record lies beyond `hint.data_length`, or that is more than a segment can be.
    pub fn finish(self, hint: Hint) -> Vec<u8> {
        let HintWriter { mut out, entries, end, unnumbered: _ } = self;
        assert!(
            end <= hint.data_length && hint.data_length <= SEGMENT_BYTES_MAX,
            "{hint:?}, records up to {end}"
        );
        let body = &out[HINT_HEADER_BYTES..];
        let (body_length, body_crc) = (body.len() as u64, crc(None, &[body]));
        put(&mut out, at::MAGIC, MAGIC);
        put(&mut out, at::VERSION, HINT_VERSION.to_le_bytes());
        put(&mut out, at::STORE, hint.store.0);
        put(&mut out, at::PARTITION, hint.partition.0.to_le_bytes());
        put(&mut out, at::SEALED, u16::from(hint.sealed).to_le_bytes());
        put(&mut out, at::SEGMENT, hint.segment.0.to_le_bytes());
        put(&mut out, at::SALT, hint.salt.to_le_bytes());
        put(&mut out, at::ENTRIES, entries.to_le_bytes());
        put(&mut out, at::DATA_LENGTH, hint.data_length.to_le_bytes());
        put(&mut out, at::BODY_LENGTH, body_length.to_le_bytes());
        put(&mut out, at::LAST_NUMBER, hint.last_number.0.to_le_bytes());
        put(&mut out, at::STABLE, hint.stable.0.to_le_bytes());
        put(&mut out, at::BODY_CRC, body_crc.to_le_bytes());
        put(&mut out, at::FIRST_EPOCH, hint.first_epoch.0.to_le_bytes());
        put(&mut out, at::FIRST_NUMBER, hint.first_number.0.to_le_bytes());
        let crc = crc(None, &[&out[at::MAGIC..HINT_HEADER_BYTES]]);
        put(&mut out, at::CRC, crc.to_le_bytes());
        out
    }
}
