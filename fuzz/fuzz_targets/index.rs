//! Any bytes as the index of a packed segment: as they are, and with the checksums of one frame after the other made right, to get behind them.

#![no_main]

use bitkv::engine::format::index::{IndexHead, IndexWriter, decode_index, parity};
use bitkv::engine::format::{FRAME_HEADER_BYTES, FrameHeader, crc};
use bitkv::engine::types::{Epoch, Number};
use libfuzzer_sys::fuzz_target;

const SALT: u32 = 0x5a17;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    mend(bytes);
    let mut sealed = bytes.to_vec();
    let mut start = 0;
    while let Some(length) = seal(&mut sealed[start..]) {
        start += length;
    }
    check(&sealed);
    mend(&sealed);
    damage_and_mend(bytes);
});

/// Makes header and body of the first frame right. Returns its length.
fn seal(bytes: &mut [u8]) -> Option<usize> {
    let length = u32::from_le_bytes(bytes.get(4..8)?.try_into().unwrap()) as usize / 8 * 8;
    if length < FRAME_HEADER_BYTES + 16 || length > bytes.len() {
        return None;
    }
    let body = &mut bytes[FRAME_HEADER_BYTES..length];
    let entries = u32::from_le_bytes(body[8..12].try_into().unwrap()) as usize;
    // Of an index; else of parity.
    let end = if body.len() - 12 >= entries && body.len() - 12 - entries < 8 { 12 + entries } else { body.len() };
    let body_crc = crc(Some(SALT), &[&body[4..end]]);
    body[..4].copy_from_slice(&body_crc.to_le_bytes());
    bytes[39] = 0;
    bytes[44..48].copy_from_slice(b"FRAM");
    let header_crc = crc(Some(SALT), &[&bytes[4..FRAME_HEADER_BYTES]]);
    bytes[..4].copy_from_slice(&header_crc.to_le_bytes());
    Some(length)
}

/// What decodes without an error encodes to the same body.
fn check(bytes: &[u8]) {
    let Ok(header) = FrameHeader::decode(bytes, SALT) else { return };
    let Some(body) = bytes.get(FRAME_HEADER_BYTES..header.length as usize) else { return };
    let _ = parity::decode_parity(&header, body, SALT);
    let Ok(view) = decode_index(&header, body, SALT) else { return };
    let head = IndexHead { last_number: Number(header.commit), stable: header.stable, epoch: header.epoch };
    let mut writer = IndexWriter::new(SALT, head, view.offset);
    for entry in view.entries() {
        let Ok(entry) = entry else { return };
        assert_eq!(writer.push(entry.number, entry.kind, entry.value_length, entry.key), entry.offset);
    }
    // A writer ends its frames where it wants to.
    if header.parts == 1 && header.records > 0 {
        let again = writer.finish();
        let first = FrameHeader::decode(&again, SALT).unwrap();
        let length = first.length as usize;
        assert!(first.records < header.records || again[..length] == bytes[..length]);
    }
}

/// Mending comes to an end, and what it leaves it leaves for good.
fn mend(bytes: &[u8]) {
    let mut once = bytes.to_vec();
    parity::mend(&mut once, SALT);
    let mut twice = once.clone();
    parity::mend(&mut twice, SALT);
    assert_eq!(once, twice);
}

/// A good index, with a hole where the bytes say: never made to say anything else than before.
fn damage_and_mend(bytes: &[u8]) {
    let [a, b, c, d, keys @ ..] = bytes else { return };
    let head = IndexHead { last_number: Number(9), stable: Number(9), epoch: Epoch(1) };
    let mut writer = IndexWriter::new(SALT, head, 64);
    for (n, key) in keys.chunks(7).enumerate() {
        let kind = bitkv::engine::format::RecordKind::Put;
        writer.push(Number(1 + n as u64), kind, u32::from(key[0]) << 12, key);
    }
    let index = writer.finish();
    if index.is_empty() {
        return;
    }
    let from = usize::from(u16::from_le_bytes([*a, *b])) % index.len();
    let length = usize::from(u16::from_le_bytes([*c, *d]));
    let mut damaged = index.clone();
    damaged[from..].iter_mut().take(length).for_each(|byte| *byte ^= 0x55);
    let before = damaged.clone();
    parity::mend(&mut damaged, SALT);
    for (at, byte) in damaged.iter().enumerate() {
        assert!(*byte == index[at] || *byte == before[at]);
    }
}
