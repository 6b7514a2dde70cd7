//! Tests of the hint.

use super::super::put;
use super::super::segment::Origin;
use super::super::testing::{Random, each_flip, each_truncation};
use super::*;

fn random_hint(random: &mut Random, data_length: u64) -> Hint {
    Hint {
        store: random.store(),
        partition: PartitionId(random.next() as u16),
        segment: SegmentId(random.next() as u32),
        salt: random.next() as u32,
        sealed: random.below(2) == 0,
        data_length,
        last_number: Number(random.next()),
        first_number: Number(random.next()),
        stable: Number(random.next()),
        first_epoch: Epoch(random.next() as u32),
        entries: 0,
    }
}

/// Number, offset, kind, value length, key.
type Pushed = (Number, u32, RecordKind, u32, Vec<u8>);

/// Entries as a segment could have them, and where the last one ends.
fn random_entries(random: &mut Random, count: usize) -> (Vec<Pushed>, u64) {
    let mut end = 64;
    let entries = (0..count).map(|_| {
        let key_length = 1 + random.below(40);
        let (value_length, kind) = match random.below(3) {
            0 => (0, RecordKind::Tombstone),
            _ => (random.below(5000), RecordKind::Put),
        };
        let offset = end + random.below(100);
        end = offset + record::encoded_length(key_length, value_length);
        (Number(random.next().max(1)), offset as u32, kind, value_length as u32, random.bytes(key_length))
    });
    let entries: Vec<Pushed> = entries.collect();
    (entries, end as u64)
}

fn written(hint: Hint, entries: &[Pushed]) -> Vec<u8> {
    let mut writer = HintWriter::new();
    for (number, offset, kind, value_length, key) in entries {
        writer.push(*number, *offset, *kind, *value_length, key);
    }
    assert_eq!(writer.entries() as usize, entries.len());
    let length = writer.encoded_length();
    let bytes = writer.finish(hint);
    assert_eq!(bytes.len(), length);
    bytes
}

/// A good hint with bytes put into it and its checksums made right; its first damage, or how many entries it has.
fn bent<const N: usize>(offset: usize, field: [u8; N]) -> Result<usize, Damage> {
    let hint = random_hint(&mut Random::new(9), 1000);
    let mut bytes = written(
        hint,
        &[
            (Number(1), 112, RecordKind::Put, 5, b"one".to_vec()),
            (Number(2), 200, RecordKind::Tombstone, 0, b"two".to_vec()),
        ],
    );
    put(&mut bytes, offset, field);
    let body_crc = crc(None, &[&bytes[HINT_HEADER_BYTES..]]);
    put(&mut bytes, at::BODY_CRC, body_crc.to_le_bytes());
    let crc = crc(None, &[&bytes[at::MAGIC..HINT_HEADER_BYTES]]);
    put(&mut bytes, at::CRC, crc.to_le_bytes());
    let view = decode(&bytes)?;
    let mut entries = view.entries();
    let mut count = 0;
    while let Some(entry) = entries.next() {
        if entry.is_err() {
            assert!(entries.next().is_none(), "goes on behind an error");
        }
        entry?;
        count += 1;
    }
    Ok(count)
}

const FIRST: usize = HINT_HEADER_BYTES;
const SECOND: usize = FIRST + HINT_ENTRY_BYTES + 3;

#[test]
fn what_is_written_decodes() {
    let mut random = Random::new(1);
    for count in (0..10).chain([1000]) {
        let (entries, end) = random_entries(&mut random, count);
        let behind = random.next() % 1000;
        let hint = random_hint(&mut random, end + behind);
        let bytes = written(hint, &entries);
        let view = decode(&bytes).unwrap();
        assert_eq!(view.hint, Hint { entries: count as u32, ..hint });
        let read = view.entries().map(|entry| {
            let HintEntry { number, offset, kind, value_length, key } = entry.unwrap();
            (number, offset, kind, value_length, key.to_vec())
        });
        assert_eq!(read.collect::<Vec<_>>(), entries);
    }
}

#[test]
fn every_flip_and_truncation_is_an_error() {
    let mut random = Random::new(2);
    let (entries, end) = random_entries(&mut random, 3);
    let bytes = written(random_hint(&mut random, end), &entries);
    each_flip(&bytes, |index, bytes| assert!(decode(bytes).is_err(), "byte {index}"));
    each_truncation(&bytes, |bytes| assert_eq!(decode(bytes).err(), Some(Damage::TooShort)));
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(decode(&longer).err(), Some(Damage::Length));
}

#[test]
fn what_a_checksum_cannot_see_in_the_header_is_checked() {
    assert_eq!(bent(at::SALT, [0; 4]), Ok(2));
    assert_eq!(bent(at::MAGIC, [0]), Err(Damage::Magic));
    assert_eq!(bent(at::VERSION, [9]), Err(Damage::Version(9)));
    assert_eq!(bent(at::SEALED, [2]), Err(Damage::Kind));
    assert_eq!(bent(at::BODY_LENGTH, [0]), Err(Damage::Length));
    assert_eq!(bent(at::BODY_LENGTH, u64::MAX.to_le_bytes()), Err(Damage::TooShort));
    assert_eq!(bent(at::DATA_LENGTH, u64::MAX.to_le_bytes()), Err(Damage::Length));
    assert_eq!(bent(at::ENTRIES, u32::MAX.to_le_bytes()), Err(Damage::Length));
}

#[test]
fn what_a_checksum_cannot_see_in_an_entry_is_checked() {
    assert_eq!(bent(at::ENTRIES, [1]), Err(Damage::Length));
    // The second record ends at 223.
    assert_eq!(bent(at::DATA_LENGTH, 223u64.to_le_bytes()), Ok(2));
    assert_eq!(bent(at::DATA_LENGTH, 222u64.to_le_bytes()), Err(Damage::Length));
    assert_eq!(bent(FIRST + entry::NUMBER, [0; 8]), Err(Damage::Number));
    assert_eq!(bent(FIRST + entry::VALUE_LENGTH, u32::MAX.to_le_bytes()), Err(Damage::Length));
    for length in [0, KEY_BYTES_MAX as u32 + 1, !TOMBSTONE_BIT, u32::MAX, TOMBSTONE_BIT] {
        assert_eq!(bent(FIRST + entry::KEY_LENGTH, length.to_le_bytes()), Err(Damage::Length));
    }
    // The first record ends at 140; the second may begin there and no earlier.
    assert_eq!(bent(SECOND + entry::OFFSET, 140u32.to_le_bytes()), Ok(2));
    assert_eq!(bent(SECOND + entry::OFFSET, 139u32.to_le_bytes()), Err(Damage::Order));
    assert_eq!(bent(SECOND + entry::OFFSET, u32::MAX.to_le_bytes()), Err(Damage::Length));
    assert_eq!(bent(SECOND + entry::KEY_LENGTH, 4u32.to_le_bytes()), Err(Damage::Length));
    assert_eq!(bent(SECOND + entry::KEY_LENGTH, 2u32.to_le_bytes()), Err(Damage::Length));
}

#[test]
#[should_panic(expected = "out of order")]
fn records_that_overlap_are_never_written() {
    let mut writer = HintWriter::default();
    writer.push(Number(1), 112, RecordKind::Put, 5, b"one");
    writer.push(Number(1), 139, RecordKind::Put, 5, b"two");
}

#[test]
fn the_hint_of_another_segment_is_noticed() {
    let mut random = Random::new(3);
    let hint = random_hint(&mut random, 0);
    let header = SegmentHeader {
        store: hint.store,
        partition: hint.partition,
        origin: Origin::Log,
        segment: hint.segment,
        salt: hint.salt,
        created_ns: 0,
        victims: Vec::new(),
    };
    assert_eq!(hint.check_segment(&header), Ok(()));
    assert_eq!(Hint { salt: !hint.salt, ..hint }.check_segment(&header), Err(Damage::Foreign));
    assert_eq!(Hint { segment: SegmentId(0), ..hint }.check_segment(&header), Err(Damage::Foreign));
}
