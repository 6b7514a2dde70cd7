//! Golden bytes: one example of every format, as it lies on disks. They were computed from the byte tables by other
//! means than this code. A test that fails here has found a change of format: stores that people have could no longer
//! be read.
//! Never edit these bytes; a new version of a format gets examples of its own.

use super::index::IndexHead;
use super::testing::hex;
use super::*;
use crate::engine::types::{Epoch, Number, PartitionId, SegmentId, StoreId};

const SALT: u32 = 0x0102_0304;
const STORE: StoreId = StoreId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

const SEGMENT_OF_COMPACTION: &[&str] = &[
    "ceedf9564249544b5653454701000000",
    "000102030405060708090a0b0c0d0e0f",
    "03000100070000000403020103000000",
    "00002a36fe9c97170000000000000000",
    "04000000050000000600000000000000",
];

const SEGMENT_PACKED: &[&str] = &[
    "532ed0104249544b5653454702000000",
    "000102030405060708090a0b0c0d0e0f",
    "03000200070000000403020101000000",
    "00002a36fe9c97170000000000000000",
    "0400000000000000",
];

/// A packed segment from front to end: header, two bare records, the padding behind them, the index and the seal.
const PACKED: &[&str] = &[
    "532ed0104249544b5653454702000000",
    "000102030405060708090a0b0c0d0e0f",
    "03000200070000000403020101000000",
    "00002a36fe9c97170000000000000000",
    "040000000000000012e78f5176616c75",
    "65f8b3db1800000003698b3448000000",
    "0a000000000000000d00000000000000",
    "0c000000000000000200000001000600",
    "020000004652414da86fd91f48000000",
    "0c00000000030a6b65790303016f6c64",
    "27ecaf8a880000000a00000000000000",
    "0d000000000000000c00000000000000",
    "0200000001000700010000004652414d",
    "c5943cf9480000000000000000000000",
    "fc9674cbb7fffffff5ffffffffffffff",
    "f2fffffffffffffff3ffffffffffffff",
    "fdfffffffefff9fffdffffffb9adbeb2",
    "579026e0b7fffffff3fffffffffcf594",
    "9a86fcfcfe90939b007efe2930000000",
    "0c000000000000000d00000000000000",
    "55000000000000000200000001000300",
    "000000004652414d",
];

const SEGMENT_OF_LOG: &[&str] = &[
    "bb4fbd144249544b5653454701000000",
    "000102030405060708090a0b0c0d0e0f",
    "03000000070000000403020100000000",
    "00002a36fe9c97170000000000000000",
];

const RECORD_PUT: &[&str] = &["a9c45148266aca250300000005000000", "010000006b657976616c7565"];
const RECORD_TOMBSTONE: &[&str] = &["b093d852aa09450c0300000000000000", "020000006f6c64"];

/// One part of a commit over two partitions, with both records.
const FRAME_OF_COMMIT: &[&str] = &[
    "e70357c4680000008877665544332211",
    "0000665544332211a8a7a6a5a4a3a2a1",
    "0900000002000100020000004652414d",
    "a9c45148266aca250300000005000000",
    "010000006b657976616c7565b093d852",
    "aa09450c030000000000000002000000",
    "6f6c640000000000",
];

const FRAME_OF_COPY: &[&str] = &[
    "d39e5d44300000000100000000000000",
    "00000000000000000000000000000000",
    "0100000001000200000000004652414d",
];
const FRAME_OF_SEAL: &[&str] = &[
    "76e50b8f300000000100000000000000",
    "00000000000000000000000000000000",
    "0100000001000300000000004652414d",
];
const FRAME_OF_WATERMARK: &[&str] = &[
    "ef6a70f4300000000100000000000000",
    "00000000000000000000000000000000",
    "0100000001000400000000004652414d",
];
const FRAME_OF_VOID: &[&str] = &[
    "4a11263f300000000100000000000000",
    "00000000000000000000000000000000",
    "0100000001000500000000004652414d",
];

const WATERMARK: &[&str] = &["1e90f928020000000a00000000000000", "0c00000000000000"];

const HINT: &[&str] = &[
    "e0fac6504249544b56484e5401000000",
    "000102030405060708090a0b0c0d0e0f",
    "03000100070000000403020102000000",
    "e8030000000000002e00000000000000",
    "0b000000000000000900000000000000",
    "0c4525a1020000000a00000000000000",
    "0a000000000000007000000005000000",
    "030000006b65790b00000000000000c8",
    "00000000000000030000806f6c64",
];

const MANIFEST: &str = "\
bitkv-manifest 1
store 00112233445566778899aabbccddeeff
partitions 2
features
option chunk-bytes 16384
epoch 1 1
epoch 2 455
crc32c e2e4b2f3
";

fn segment(origin: Origin, victims: Vec<SegmentId>) -> SegmentHeader {
    SegmentHeader {
        store: STORE,
        partition: PartitionId(3),
        origin,
        segment: SegmentId(7),
        salt: SALT,
        created_ns: 1_700_000_000_000_000_000,
        victims,
    }
}

#[test]
fn segment_version_1() {
    let victims = vec![SegmentId(4), SegmentId(5), SegmentId(6)];
    for (header, golden) in [
        (segment(Origin::Compaction, victims), SEGMENT_OF_COMPACTION),
        (segment(Origin::Log, Vec::new()), SEGMENT_OF_LOG),
    ] {
        let bytes = header.encode();
        assert_eq!(hex(&bytes), golden.concat());
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
    }
}

#[test]
fn packed_segment_version_2() {
    let header = segment(Origin::Packed, vec![SegmentId(4)]);
    let mut file = header.encode();
    assert_eq!(hex(&file), SEGMENT_PACKED.concat());
    assert_eq!(SegmentHeader::decode(&file), Ok(header));

    let head = IndexHead { last_number: Number(12), stable: Number(13), epoch: Epoch(2) };
    let mut index = IndexWriter::new(SALT, head, file.len() as u32);
    for (number, kind, key, value) in
        [(10, RecordKind::Put, b"key", &b"value"[..]), (8, RecordKind::Tombstone, b"old", b"")]
    {
        let offset = index.push(Number(number), kind, value.len() as u32, key);
        assert_eq!(offset as usize, file.len());
        form::append_bare(&mut file, SALT, key, value);
    }
    let values_end = file.len() as u64;
    file.resize(frame::padded_length(file.len()), 0);
    let seal = FrameHeader {
        length: 48,
        number: Number(12),
        stable: Number(13),
        commit: values_end,
        epoch: Epoch(2),
        parts: 1,
        kind: FrameKind::Seal,
        records: 0,
    };
    file.extend(index.finish());
    file.extend(seal.encode(SALT));
    assert_eq!(hex(&file), PACKED.concat());
}

#[test]
fn record_version_1() {
    let mut put = Vec::new();
    record::append(&mut put, SALT, RecordKind::Put, b"key", b"value");
    assert_eq!(hex(&put), RECORD_PUT.concat());
    let mut tombstone = Vec::new();
    record::append(&mut tombstone, SALT, RecordKind::Tombstone, b"old", b"");
    assert_eq!(hex(&tombstone), RECORD_TOMBSTONE.concat());
}

#[test]
fn frame_version_1() {
    let mut frame = vec![0; FRAME_HEADER_BYTES];
    record::append(&mut frame, SALT, RecordKind::Put, b"key", b"value");
    record::append(&mut frame, SALT, RecordKind::Tombstone, b"old", b"");
    frame.resize(frame::padded_length(frame.len()), 0);
    let header = FrameHeader {
        length: frame.len() as u32,
        number: Number(0x1122_3344_5566_7788),
        stable: Number(0x1122_3344_5566_0000),
        commit: 0xa1a2_a3a4_a5a6_a7a8,
        epoch: Epoch(9),
        parts: 2,
        kind: FrameKind::Commit,
        records: 2,
    };
    header.encode_into(&mut frame, SALT);
    assert_eq!(hex(&frame), FRAME_OF_COMMIT.concat());

    for (kind, golden) in [
        (FrameKind::Copy, FRAME_OF_COPY),
        (FrameKind::Seal, FRAME_OF_SEAL),
        (FrameKind::Watermark, FRAME_OF_WATERMARK),
        (FrameKind::Void, FRAME_OF_VOID),
    ] {
        let (number, stable, epoch) = (Number(1), Number::ZERO, Epoch(1));
        let header = FrameHeader { length: 48, number, stable, commit: 0, epoch, parts: 1, kind, records: 0 };
        assert_eq!(hex(&header.encode(SALT)), golden.concat());
    }
}

#[test]
fn watermark_version_1() {
    assert_eq!(hex(&frame::encode_watermark(&[Number(10), Number(12)], SALT)), WATERMARK.concat());
}

#[test]
fn hint_version_1() {
    let mut writer = HintWriter::new();
    writer.push(Number(10), 112, RecordKind::Put, 5, b"key");
    writer.push(Number(11), 200, RecordKind::Tombstone, 0, b"old");
    let hint = Hint {
        store: STORE,
        partition: PartitionId(3),
        segment: SegmentId(7),
        salt: SALT,
        sealed: true,
        data_length: 1000,
        last_number: Number(11),
        first_number: Number(10),
        stable: Number(9),
        first_epoch: Epoch(2),
        entries: 2,
    };
    let bytes = writer.finish(hint);
    assert_eq!(hex(&bytes), HINT.concat());
    assert_eq!(hint::decode(&bytes).unwrap().hint, hint);
}

#[test]
fn manifest_version_1() {
    let manifest = Manifest {
        store: StoreId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes()),
        partitions: 2,
        features: Vec::new(),
        options: vec![("chunk-bytes".to_string(), "16384".to_string())],
        epochs: vec![(Epoch(1), Number(1)), (Epoch(2), Number(455))],
    };
    assert_eq!(manifest.encode(), MANIFEST);
    assert_eq!(Manifest::decode(MANIFEST.as_bytes()), Ok(manifest));
}
