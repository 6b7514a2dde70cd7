//! Tests of the frame.

use super::super::testing::{Random, each_flip, each_truncation};
use super::*;

const SALT: u32 = 0x5a17_0001;
const KINDS: [FrameKind; 7] = [
    FrameKind::Commit,
    FrameKind::Copy,
    FrameKind::Seal,
    FrameKind::Watermark,
    FrameKind::Void,
    FrameKind::Index,
    FrameKind::Parity,
];

fn random_header(random: &mut Random, kind: FrameKind) -> FrameHeader {
    let body = match kind {
        FrameKind::Seal | FrameKind::Void => 0,
        _ => padded_length(random.below(1 << 20)),
    };
    let records = match kind {
        FrameKind::Commit | FrameKind::Copy => random.below(body / RECORD_BYTES_MIN + 1),
        _ => 0,
    };
    FrameHeader {
        length: (FRAME_HEADER_BYTES + body) as u32,
        number: Number(random.next().max(1)),
        stable: Number(random.next()),
        commit: random.next(),
        epoch: Epoch(random.next() as u32),
        parts: (random.next() as u16).max(1),
        kind,
        records: records as u32,
    }
}

/// Puts bytes into a good header, makes the checksum right, and decodes.
fn bent<const N: usize>(header: &FrameHeader, offset: usize, field: [u8; N]) -> Result<FrameHeader, Damage> {
    let mut bytes = header.encode(SALT);
    put(&mut bytes, offset, field);
    let crc = crc(Some(SALT), &[&bytes[at::LENGTH..]]);
    put(&mut bytes, at::CRC, crc.to_le_bytes());
    FrameHeader::decode(&bytes, SALT)
}

#[test]
fn what_is_encoded_decodes() {
    let mut random = Random::new(1);
    for round in 0..1000 {
        let header = random_header(&mut random, KINDS[round % KINDS.len()]);
        let salt = random.next() as u32;
        let mut bytes = random.bytes(FRAME_HEADER_BYTES + 9);
        let behind = bytes[FRAME_HEADER_BYTES..].to_vec();
        header.encode_into(&mut bytes, salt);
        assert_eq!(bytes[FRAME_HEADER_BYTES..], behind);
        assert_eq!(bytes[..FRAME_HEADER_BYTES], header.encode(salt));
        assert!(could_be_header(&bytes));
        assert_eq!(FrameHeader::decode(&bytes, salt), Ok(header));
        assert_eq!(FrameHeader::decode(&bytes, salt ^ 1), Err(Damage::Checksum("frame header")));
    }
}

#[test]
fn every_flip_and_truncation_of_a_header_is_an_error() {
    let mut random = Random::new(2);
    for kind in KINDS {
        let bytes = random_header(&mut random, kind).encode(SALT);
        each_flip(&bytes, |index, bytes| assert!(FrameHeader::decode(bytes, SALT).is_err(), "byte {index}"));
        each_truncation(&bytes, |bytes| {
            assert_eq!(FrameHeader::decode(bytes, SALT), Err(Damage::TooShort));
            assert!(!could_be_header(bytes));
        });
    }
}

#[test]
fn what_a_checksum_cannot_see_is_checked() {
    let header = FrameHeader {
        length: 48 + 48,
        number: Number(9),
        stable: Number(3),
        commit: 0,
        epoch: Epoch(1),
        parts: 1,
        kind: FrameKind::Commit,
        records: 2,
    };
    assert_eq!(bent(&header, at::RECORDS, 2u32.to_le_bytes()), Ok(header));
    assert_eq!(bent(&header, at::RECORDS, 3u32.to_le_bytes()), Err(Damage::Length));
    assert_eq!(bent(&header, at::RECORDS, u32::MAX.to_le_bytes()), Err(Damage::Length));
    for length in [0, 8, 40, 97, u32::MAX] {
        assert_eq!(bent(&header, at::LENGTH, u32::to_le_bytes(length)), Err(Damage::Length));
    }
    assert_eq!(bent(&header, at::NUMBER, [0; 8]), Err(Damage::Number));
    assert_eq!(bent(&header, at::PARTS, [0; 2]), Err(Damage::Number));
    assert_eq!(bent(&header, at::RESERVED, [1]), Err(Damage::Reserved));
    assert_eq!(bent(&header, at::MAGIC, *b"FRAN"), Err(Damage::Magic));
    for kind in [0, 8, 255] {
        assert_eq!(bent(&header, at::KIND, [kind]), Err(Damage::Kind));
    }
    // Seal, watermark and void have no records; seal and void have no body either.
    for kind in [3, 4, 5] {
        assert_eq!(bent(&header, at::KIND, [kind]), Err(Damage::Length));
    }
    let seal = FrameHeader { length: 48, kind: FrameKind::Seal, records: 0, ..header };
    assert_eq!(bent(&seal, at::LENGTH, 56u32.to_le_bytes()), Err(Damage::Length));
}

#[test]
#[should_panic(expected = "Err(Number)")]
fn a_header_without_number_is_never_written() {
    FrameHeader { number: Number::ZERO, ..random_header(&mut Random::new(3), FrameKind::Commit) }
        .encode(SALT);
}

#[test]
fn zeros_are_no_frame() {
    assert_eq!(FrameHeader::decode(&[0; 4096], 0), Err(Damage::Magic));
}

#[test]
fn padding_goes_up_to_a_multiple_of_eight() {
    for (length, padded) in [(0, 0), (1, 8), (7, 8), (8, 8), (9, 16), (48, 48), (49, 56)] {
        assert_eq!(padded_length(length), padded);
    }
    assert_eq!(padded_length(usize::MAX) % ALIGNMENT_BYTES, 0);
}

#[test]
fn a_watermark_comes_back() {
    let mut random = Random::new(4);
    for count in [0, 1, 2, 7, PARTITIONS_MAX as usize] {
        let last: Vec<Number> = (0..count).map(|_| Number(random.next())).collect();
        let body = encode_watermark(&last, SALT);
        assert_eq!(padded_length(body.len()), body.len());
        assert_eq!(decode_watermark(&body, SALT), Ok(last));
        assert!(decode_watermark(&body, SALT ^ 1).is_err());
    }
}

#[test]
fn every_flip_and_truncation_of_a_watermark_is_an_error() {
    let body = encode_watermark(&[Number(5), Number(0), Number(u64::MAX)], SALT);
    each_flip(&body, |index, body| assert!(decode_watermark(body, SALT).is_err(), "byte {index}"));
    each_truncation(&body, |body| assert_eq!(decode_watermark(body, SALT), Err(Damage::TooShort)));
    let mut longer = body.clone();
    longer.extend([0; 8]);
    assert_eq!(decode_watermark(&longer, SALT), Err(Damage::Length));
}

#[test]
fn an_absurd_count_of_partitions_is_refused() {
    for count in [u32::from(PARTITIONS_MAX) + 1, u32::MAX] {
        let mut body = encode_watermark(&[Number(5)], SALT);
        put(&mut body, watermark::COUNT, count.to_le_bytes());
        let crc = crc(Some(SALT), &[&body[watermark::COUNT..]]);
        put(&mut body, watermark::CRC, crc.to_le_bytes());
        assert_eq!(decode_watermark(&body, SALT), Err(Damage::Length));
    }
}
