//! Any bytes as a frame header and as a watermark: as they are, and with a checksum made right, to get behind it.

#![no_main]

use bitkv::engine::format::frame::{could_be_header, decode_watermark, encode_watermark};
use bitkv::engine::format::{FRAME_HEADER_BYTES, FrameHeader, crc};
use libfuzzer_sys::fuzz_target;

const SALT: u32 = 0x5a17;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let mut sealed = bytes.to_vec();
    if sealed.len() >= FRAME_HEADER_BYTES {
        sealed[44..48].copy_from_slice(b"FRAM");
        let crc = crc(Some(SALT), &[&sealed[4..FRAME_HEADER_BYTES]]);
        sealed[..4].copy_from_slice(&crc.to_le_bytes());
        check(&sealed);
    }
    if sealed.len() >= 4 {
        let crc = crc(Some(SALT), &[&sealed[4..]]);
        sealed[..4].copy_from_slice(&crc.to_le_bytes());
        check(&sealed);
    }
});

/// What decodes encodes to the same bytes.
fn check(bytes: &[u8]) {
    if let Ok(header) = FrameHeader::decode(bytes, SALT) {
        assert!(could_be_header(bytes));
        assert_eq!(header.encode(SALT), bytes[..FRAME_HEADER_BYTES]);
    }
    if let Ok(last) = decode_watermark(bytes, SALT) {
        assert_eq!(encode_watermark(&last, SALT), bytes);
    }
}
