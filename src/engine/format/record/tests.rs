//! Tests of the record and of the records in a body.

use super::super::frame::padded_length;
use super::super::testing::{Random, each_flip, each_truncation};
use super::*;

const SALT: u32 = 0x5a17_0002;

fn random_kind(random: &mut Random) -> RecordKind {
    if random.below(2) == 0 { RecordKind::Put } else { RecordKind::Tombstone }
}

fn one(kind: RecordKind, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    append(&mut out, SALT, kind, key, value);
    out
}

/// Puts bytes into a good record, makes the head's checksum right, and decodes.
fn bent<const N: usize>(offset: usize, field: [u8; N]) -> Result<(), Damage> {
    let mut bytes = one(RecordKind::Put, b"key", b"value");
    put(&mut bytes, offset, field);
    let key_end = RECORD_HEADER_BYTES + 3;
    let crc = crc(Some(SALT), &[&bytes[at::VALUE_CRC..key_end]]);
    put(&mut bytes, at::CRC, crc.to_le_bytes());
    decode(&bytes, SALT).map(|_| ())
}

#[test]
fn what_is_appended_decodes() {
    let mut random = Random::new(1);
    for round in 0..500 {
        let key_length = if round == 0 { KEY_BYTES_MAX } else { 1 + random.below(300) };
        let (key, value_length) = (random.bytes(key_length), random.below(3000));
        let value = random.bytes(value_length);
        let (kind, salt) = (random_kind(&mut random), random.next() as u32);
        let mut bytes = random.bytes(round % 9);
        let start = bytes.len();
        append(&mut bytes, salt, kind, &key, &value);
        assert_eq!(bytes.len() - start, encoded_length(key.len(), value.len()));
        bytes.extend(random.bytes(round % 7));

        let view = decode(&bytes[start..], salt).unwrap();
        assert_eq!((view.kind, view.key, view.value), (kind, &key[..], &value[..]));
        let head = decode_head(&bytes[start..start + view.value_offset()], salt).unwrap();
        assert_eq!((head.kind, head.key, head.value_crc), (kind, &key[..], view.value_crc));
        assert_eq!(head.value_length as usize, value.len());
        assert_eq!((head.length(), head.value_offset()), (view.length(), view.value_offset()));
        assert!(value_is_right(&value, head.value_crc, salt));
        assert!(decode_head(&bytes[start..], salt ^ 1).is_err());
    }
}

#[test]
fn pieces_make_the_same_bytes() {
    let mut pieces = Vec::new();
    append_parts(&mut pieces, SALT, RecordKind::Put, b"k", &[b"", b"one", b"", b"two"]);
    assert_eq!(pieces, one(RecordKind::Put, b"k", b"onetwo"));
    let mut none = Vec::new();
    append_parts(&mut none, SALT, RecordKind::Tombstone, b"k", &[]);
    assert_eq!(none, one(RecordKind::Tombstone, b"k", b""));
}

#[test]
fn a_flip_in_the_value_is_a_rotten_value_and_any_other_hides_the_key() {
    let bytes = one(RecordKind::Put, b"some key", b"some value");
    let value_offset = decode_head(&bytes, SALT).unwrap().value_offset();
    each_flip(&bytes, |index, bytes| {
        let damage = decode(bytes, SALT).unwrap_err();
        assert_eq!(damage == Damage::Value, index >= value_offset, "byte {index}: {damage}");
        assert_eq!(decode_head(bytes, SALT).is_ok(), index >= value_offset, "byte {index}");
    });
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = one(RecordKind::Tombstone, b"some key", b"a note");
    each_truncation(&bytes, |bytes| assert_eq!(decode(bytes, SALT), Err(Damage::TooShort)));
}

#[test]
fn what_a_checksum_cannot_see_is_checked() {
    assert_eq!(bent(at::KIND, [1]), Ok(()));
    assert_eq!(bent(at::KIND, [0]), Err(Damage::Kind));
    assert_eq!(bent(at::KIND, [3]), Err(Damage::Kind));
    assert_eq!(bent(at::RESERVED + 2, [1]), Err(Damage::Reserved));
    for length in [0, KEY_BYTES_MAX as u32 + 1, u32::MAX] {
        assert_eq!(bent(at::KEY_LENGTH, length.to_le_bytes()), Err(Damage::Length));
    }
    assert_eq!(bent(at::KEY_LENGTH, (KEY_BYTES_MAX as u32).to_le_bytes()), Err(Damage::TooShort));
    for length in [VALUE_BYTES_MAX as u32 + 1, u32::MAX] {
        assert_eq!(bent(at::VALUE_LENGTH, length.to_le_bytes()), Err(Damage::Length));
    }
    assert_eq!(bent(at::VALUE_LENGTH, (VALUE_BYTES_MAX as u32).to_le_bytes()), Err(Damage::TooShort));
    assert_eq!(bent(at::VALUE_LENGTH, 4u32.to_le_bytes()), Err(Damage::Value));
    assert_eq!(bent(at::VALUE_CRC, [0; 4]), Err(Damage::Value));
}

#[test]
#[should_panic(expected = "key of 0")]
fn an_empty_key_is_never_written() {
    one(RecordKind::Put, b"", b"value");
}

#[test]
#[should_panic(expected = "Err(Length)")]
fn a_value_beyond_the_limit_is_never_written() {
    let half = vec![0; VALUE_BYTES_MAX / 2 + 1];
    append_parts(&mut Vec::new(), SALT, RecordKind::Put, b"k", &[&half, &half]);
}

/// A body of three records, padded, and where the padding begins.
fn body() -> (Vec<u8>, usize) {
    let mut body = one(RecordKind::Put, b"first", b"1");
    body.extend(one(RecordKind::Tombstone, b"second", b""));
    body.extend(one(RecordKind::Put, b"third", b"three"));
    let end = body.len();
    body.resize(padded_length(end), 0);
    assert!(body.len() > end);
    (body, end)
}

/// What a walk through a body finds: good records, then perhaps damage.
fn walk(body: &[u8], count: u32) -> (usize, Option<Damage>) {
    let mut records = records(body, SALT, count);
    let mut good = 0;
    for record in records.by_ref() {
        match record {
            Ok(_) => good += 1,
            Err(damage) => {
                assert!(records.next().is_none(), "goes on behind an error");
                return (good, Some(damage));
            }
        }
    }
    assert!(records.next().is_none());
    (good, None)
}

#[test]
fn records_come_back_with_their_offsets() {
    let (body, _) = body();
    let seen: Vec<_> = records(&body, SALT, 3).map(Result::unwrap).collect();
    let keys: Vec<_> = seen.iter().map(|(_, head, value)| (head.kind, head.key, *value)).collect();
    assert_eq!(
        keys,
        [
            (RecordKind::Put, &b"first"[..], &b"1"[..]),
            (RecordKind::Tombstone, &b"second"[..], &b""[..]),
            (RecordKind::Put, &b"third"[..], &b"three"[..]),
        ]
    );
    for (offset, head, value) in seen {
        assert_eq!(decode(&body[offset..], SALT).unwrap().value, value);
        assert!(value_is_right(value, head.value_crc, SALT));
    }
    assert_eq!(walk(&[], 0), (0, None));
    assert_eq!(walk(&[0; 7], 0), (0, None));
}

#[test]
fn a_body_must_fit_its_count() {
    let (mut body, end) = body();
    assert_eq!(walk(&body, 2), (2, Some(Damage::Length)));
    assert_eq!(walk(&body, 4), (3, Some(Damage::Length)));
    assert_eq!(walk(&body, u32::MAX), (3, Some(Damage::Length)));
    assert_eq!(walk(&[0; 8], 0), (0, Some(Damage::Length)));
    body.truncate(end);
    body.extend([0; 7]);
    assert_eq!(walk(&body, 3), (3, None));
    body.push(0);
    assert_eq!(walk(&body, 3), (3, Some(Damage::Length)));
}

#[test]
fn every_flip_in_a_body_is_seen_and_costs_what_it_hit() {
    let (body, end) = body();
    let mut values = vec![false; end];
    for (offset, head, value) in records(&body, SALT, 3).map(Result::unwrap) {
        values[offset + head.value_offset()..][..value.len()].fill(true);
    }
    each_flip(&body, |index, body| {
        let (good, damage) = walk(body, 3);
        if index >= end {
            assert_eq!((good, damage), (3, Some(Damage::Length)), "byte {index}");
        } else if values[index] {
            assert_eq!((good, damage), (3, None), "byte {index}");
            let wrong = |record: Result<(usize, RecordHead, &[u8]), Damage>| {
                let (offset, head, value) = record.unwrap();
                let wrong = !value_is_right(value, head.value_crc, SALT);
                assert_eq!(wrong, decode(&body[offset..], SALT) == Err(Damage::Value));
                wrong
            };
            assert_eq!(records(body, SALT, 3).filter(|record| wrong(*record)).count(), 1);
        } else {
            assert!(good < 3 && damage.is_some(), "byte {index}");
        }
    });
}

#[test]
fn every_truncation_of_the_records_is_an_error() {
    let (body, end) = body();
    each_truncation(&body[..end], |body| assert_eq!(walk(body, 3).1, Some(Damage::Length)));
}
