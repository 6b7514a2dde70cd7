//! Tests of the index.

use super::super::testing::{Random, each_flip, each_truncation};
use super::super::{frame::FRAME_HEADER_BYTES, put};
use super::*;

const SALT: u32 = 0x5a17_0002;
const HEAD: IndexHead = IndexHead { last_number: Number(900), stable: Number(950), epoch: Epoch(3) };

type Record = (Number, RecordKind, u32, Vec<u8>);

fn random_record(random: &mut Random) -> Record {
    let number = match random.below(10) {
        0 => Number(random.next().max(1)),
        _ => Number(1000 + random.below(500) as u64),
    };
    let kind = if random.below(5) == 0 { RecordKind::Tombstone } else { RecordKind::Put };
    let key_length_max = if random.below(50) == 0 { KEY_BYTES_MAX } else { 60 };
    let key_length = 1 + random.below(key_length_max);
    let value_length_max = if random.below(20) == 0 { 1 << 20 } else { 300 };
    let value_length = random.below(value_length_max);
    (number, kind, value_length as u32, random.bytes(key_length))
}

fn write(records: &[Record], offset: u32) -> (Vec<u8>, Vec<u32>) {
    let mut writer = IndexWriter::new(SALT, HEAD, offset);
    let offsets = records.iter().map(|(number, kind, length, key)| writer.push(*number, *kind, *length, key));
    let offsets = offsets.collect();
    (writer.finish(), offsets)
}

/// The frames of an index: their headers and bodies.
fn frames(mut bytes: &[u8]) -> Vec<(FrameHeader, &[u8])> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let header = FrameHeader::decode(bytes, SALT).unwrap();
        let (frame, rest) = bytes.split_at(header.length as usize);
        if header.kind == FrameKind::Index {
            found.push((header, &frame[FRAME_HEADER_BYTES..]));
        }
        bytes = rest;
    }
    found
}

#[test]
fn what_is_written_is_read() {
    let mut random = Random::new(1);
    for round in 0..100 {
        let count = [0, 1, 3, 100, 3000][round % 5];
        let records: Vec<Record> = (0..count).map(|_| random_record(&mut random)).collect();
        let (bytes, offsets) = write(&records, 64);
        let mut found = Vec::new();
        let mut end = 64;
        for (header, body) in frames(&bytes) {
            assert_eq!((header.commit, header.stable, header.epoch), (900, Number(950), Epoch(3)));
            let view = decode_index(&header, body, SALT).unwrap();
            assert_eq!(view.offset, end, "no hole between two frames");
            let mut entries = view.entries();
            for entry in entries.by_ref() {
                let IndexEntry { number, offset, kind, value_length, key } = entry.unwrap();
                found.push((offset, (number, kind, value_length, key.to_vec())));
            }
            end = entries.end();
            assert!(header.records > 0, "a frame for nothing");
        }
        assert!(found.into_iter().eq(offsets.into_iter().zip(records)));
    }
}

/// Small values pay little for being found again.
#[test]
fn an_entry_takes_few_bytes_more_than_its_key() {
    let records: Vec<Record> = (0..200_000u64)
        .map(|n| (Number(n * 3 + 1), RecordKind::Put, 100, n.to_be_bytes().to_vec()))
        .collect();
    let (bytes, _) = write(&records, 64);
    assert!(bytes.len() < 200_000 * (8 + 5), "{} bytes", bytes.len());
}

#[test]
fn every_flip_and_truncation_is_an_error() {
    let mut random = Random::new(2);
    let records: Vec<Record> = (0..5).map(|n| (Number(n + 1), RecordKind::Put, 9, random.bytes(4))).collect();
    let (bytes, _) = write(&records, 64);
    let (header, body) = frames(&bytes)[0];
    each_flip(body, |index, body| assert!(decode_index(&header, body, SALT).is_err(), "byte {index}"));
    each_truncation(body, |body| assert!(decode_index(&header, body, SALT).is_err()));
    assert!(decode_index(&header, body, SALT + 1).is_err());
    let other = FrameHeader { kind: FrameKind::Watermark, records: 0, ..header };
    assert_eq!(decode_index(&other, body, SALT).err(), Some(Damage::Kind));
}

/// Puts entries into a body whose checksum is right.
fn forged(header: &FrameHeader, entries: &[u8]) -> Result<u32, Damage> {
    let mut body = vec![0; at::ENTRIES];
    body.extend_from_slice(entries);
    put(&mut body, at::OFFSET, 64u32.to_le_bytes());
    put(&mut body, at::LENGTH, (entries.len() as u32).to_le_bytes());
    let crc = crc(Some(SALT), &[&body[at::OFFSET..]]);
    put(&mut body, at::CRC, crc.to_le_bytes());
    body.resize(padded_length(body.len()), 0);
    let mut found = decode_index(header, &body, SALT)?.entries();
    found.try_for_each(|entry| entry.map(|_| ()))?;
    Ok(found.end())
}

#[test]
fn what_a_checksum_cannot_see_is_checked() {
    let header = FrameHeader {
        length: 72,
        number: Number(5),
        stable: Number(3),
        commit: 9,
        epoch: Epoch(1),
        parts: 1,
        kind: FrameKind::Index,
        records: 1,
    };
    assert_eq!(forged(&header, &[0, 1, 20, b'k']), Ok(64 + 4 + 10));
    // A first step, no key, a key that isn't there, more or fewer entries than records.
    assert_eq!(forged(&header, &[2, 1, 20, b'k']), Err(Damage::Order));
    assert_eq!(forged(&header, &[0, 0, 20, b'k']), Err(Damage::Length));
    assert_eq!(forged(&header, &[0, 2, 20, b'k']), Err(Damage::Length));
    assert_eq!(forged(&header, &[0, 1, 20, b'k', 0, 1, 20, b'l']), Err(Damage::Length));
    assert_eq!(forged(&FrameHeader { records: 2, ..header }, &[0, 1, 20, b'k']), Err(Damage::TooShort));
    // Number 0; a value that is too long; places beyond what an offset can say.
    let two = FrameHeader { records: 2, ..header };
    assert_eq!(forged(&two, &[0, 1, 20, b'k', 9, 1, 20, b'l']), Err(Damage::Number));
    assert_eq!(forged(&header, &[0, 1, 0x82, 0x80, 0x80, 0x10, b'k']), Err(Damage::Length));
    assert_eq!(forged(&header, &[0, 1, 0x80, 0x80, 0x80, 0x10, b'k']), Ok(64 + 4 + (1 << 24)));
}
