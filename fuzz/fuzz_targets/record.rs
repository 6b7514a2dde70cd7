//! Any bytes as a record and as a frame's body: as they are, and with the checksums of one record after the other made
//! right, to get behind them.

#![no_main]

use bitkv::engine::format::record::{append, decode, decode_head, records, value_is_right};
use bitkv::engine::format::{Damage, RECORD_HEADER_BYTES, crc};
use libfuzzer_sys::fuzz_target;

const SALT: u32 = 0x5a17;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let mut sealed = bytes.to_vec();
    let mut start = 0;
    while let Some(length) = seal(&mut sealed[start..]) {
        start += length;
    }
    check(&sealed);
});

/// Makes the head of the first record right, if its key is there, and the value of every other one. Returns its length.
fn seal(bytes: &mut [u8]) -> Option<usize> {
    let field = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().unwrap()) as usize);
    let key_end = RECORD_HEADER_BYTES + field(8)?;
    let end = key_end + field(12)?;
    if end > bytes.len() {
        return None;
    }
    if bytes[RECORD_HEADER_BYTES - 1] == 0 {
        let value_crc = crc(Some(SALT), &[&bytes[key_end..end]]);
        bytes[4..8].copy_from_slice(&value_crc.to_le_bytes());
    }
    let head_crc = crc(Some(SALT), &[&bytes[4..key_end]]);
    bytes[..4].copy_from_slice(&head_crc.to_le_bytes());
    Some(end)
}

/// The three ways to read a record agree, and what decodes encodes to the same bytes.
fn check(bytes: &[u8]) {
    let count = bytes.first().map_or(0, |byte| u32::from(*byte) % 8);
    for count in [count, u32::MAX] {
        let mut seen = 0;
        for record in records(bytes, SALT, count) {
            let Ok((offset, head, value)) = record else { break };
            assert_eq!(decode_head(&bytes[offset..], SALT), Ok(head));
            match decode(&bytes[offset..], SALT) {
                Ok(view) => {
                    assert!(value_is_right(value, head.value_crc, SALT));
                    let mut again = Vec::new();
                    append(&mut again, SALT, view.kind, view.key, view.value);
                    assert_eq!(again, bytes[offset..offset + view.length()]);
                }
                Err(damage) => {
                    assert_eq!(damage, Damage::Value);
                    assert!(!value_is_right(value, head.value_crc, SALT));
                }
            }
            seen += 1;
        }
        assert!(seen <= count);
    }
}
