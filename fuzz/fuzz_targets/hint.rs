//! Any bytes as a hint: as they are, and with checksums and length made right, to get behind them.

#![no_main]

use bitkv::engine::format::crc;
use bitkv::engine::format::hint::{HINT_HEADER_BYTES, HintWriter, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let mut sealed = bytes.to_vec();
    if sealed.len() >= HINT_HEADER_BYTES {
        sealed[4..16].copy_from_slice(b"BITKVHNT\x01\0\0\0");
        let (header, body) = sealed.split_at_mut(HINT_HEADER_BYTES);
        header[56..64].copy_from_slice(&(body.len() as u64).to_le_bytes());
        header[80..84].copy_from_slice(&crc(None, &[body]).to_le_bytes());
        let crc = crc(None, &[&header[4..]]);
        header[..4].copy_from_slice(&crc.to_le_bytes());
        check(&sealed);
    }
});

/// What decodes without an error encodes to the same bytes.
fn check(bytes: &[u8]) {
    let Ok(view) = decode(bytes) else { return };
    let mut writer = HintWriter::new();
    for entry in view.entries() {
        let Ok(entry) = entry else { return };
        writer.push(entry.number, entry.offset, entry.kind, entry.value_length, entry.key);
    }
    assert_eq!(writer.entries(), view.hint.entries);
    assert_eq!(writer.finish(view.hint), bytes);
}
