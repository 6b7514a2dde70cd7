//! Any bytes as a segment header: as they are, and with a checksum made right, to get behind it.

#![no_main]

use bitkv::engine::format::{SegmentHeader, crc};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let mut sealed = bytes.to_vec();
    if sealed.len() >= 64 {
        let version = if sealed[34] == 2 { 2 } else { 1 };
        sealed[4..16].copy_from_slice(b"BITKVSEG\x01\0\0\0");
        sealed[12] = version;
        let victims = u32::from_le_bytes(sealed[44..48].try_into().unwrap()) as usize;
        let end = (64 + (victims * 4).next_multiple_of(8)).min(sealed.len());
        let crc = crc(None, &[&sealed[4..end]]);
        sealed[..4].copy_from_slice(&crc.to_le_bytes());
        check(&sealed);
    }
});

/// What decodes encodes to the same bytes.
fn check(bytes: &[u8]) {
    if let Ok(header) = SegmentHeader::decode(bytes) {
        assert_eq!(header.encode(), bytes[..header.encoded_length()]);
    }
}
