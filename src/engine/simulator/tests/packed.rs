//! Packed segments: what was written before there were any is read and replaced; what rots in one costs no more than itself.

use super::rig::{ENDINGS, Rig, config};
use super::segments::{Found, read_segment};
use crate::engine::ReadError;
use crate::engine::disk::Disk;
use crate::engine::format::form::Form;
use crate::engine::format::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, padded_length};
use crate::engine::format::record;
use crate::engine::format::segment::{Origin, SegmentHeader};
use crate::engine::segment::data_path;
use crate::engine::types::{PartitionId, SegmentId};
use std::collections::BTreeMap;

/// The segments that there are: path, content, header, and what is in it.
fn segments(rig: &Rig) -> Vec<(String, Vec<u8>, SegmentHeader, Found)> {
    let paths = rig.disk.files().into_iter().filter(|path| path.ends_with(".data"));
    let found = paths.filter_map(|path| {
        let content = rig.disk.content(&path)?;
        let (header, scan) = read_segment(&content)?;
        Some((path, content, header, scan))
    });
    found.collect()
}

/// What compaction made of a log before there were packed segments: a frame of kind `copy` for each commit, and a seal.
fn copies(content: &[u8], log: &SegmentHeader, found: &Found, id: SegmentId) -> Vec<u8> {
    let salt = 0xc0b1;
    let header = SegmentHeader {
        origin: Origin::Compaction,
        segment: id,
        salt,
        victims: vec![log.segment],
        ..log.clone()
    };
    let mut file = header.encode();
    let mut newest: BTreeMap<&[u8], u64> = BTreeMap::new();
    for record in found.frames.iter().flat_map(|frame| &frame.records) {
        newest.insert(&record.key, record.offset);
    }
    for frame in found.frames.iter().filter(|frame| frame.header.kind == FrameKind::Commit) {
        let start = file.len();
        file.resize(start + FRAME_HEADER_BYTES, 0);
        let live = frame.records.iter().filter(|record| newest[&record.key[..]] == record.offset);
        let records = live.clone().count() as u32;
        if records == 0 {
            file.truncate(start);
            continue;
        }
        for found in live {
            let at = found.offset as usize + Form::Whole.head_bytes(found.key.len());
            let value = &content[at..at + found.value_length as usize];
            record::append(&mut file, salt, found.kind, &found.key, value);
        }
        let length = padded_length(file.len() - start);
        file.resize(start + length, 0);
        let header = FrameHeader { length: length as u32, kind: FrameKind::Copy, records, ..frame.header };
        header.encode_into(&mut file[start..], salt);
    }
    let last = found.frames.last().expect("a frame").header;
    let seal = FrameHeader { length: 48, kind: FrameKind::Seal, records: 0, ..last };
    file.extend(seal.encode(salt));
    file
}

#[test]
fn an_output_of_before_is_read_and_packed() {
    for ending in ENDINGS {
        let mut rig = Rig::new(config());
        for round in 0..3u8 {
            for n in 0..20 {
                rig.put(&format!("key{n}"), &[round; 50]);
            }
        }
        rig.remove("key3");
        rig.sync();
        rig.reopen(None);
        let (path, content, log, found) = segments(&rig).swap_remove(0);
        rig.reopen_with(|disk| {
            let id = SegmentId(70);
            let output = copies(&content, &log, &found, id);
            disk.remove(&path).unwrap();
            disk.remove(&path.replace(".data", ".hint")).ok();
            let path = data_path(PartitionId(0), id);
            disk.create(&path).unwrap();
            disk.overwrite(&path, &output);
        });
        let expected = |n: usize| (n != 3).then(|| vec![2; 50]);
        for n in 0..20 {
            assert_eq!(rig.get(&format!("key{n}")), expected(n), "key{n}");
        }
        rig.put("key7", b"newer");
        rig.sync();
        rig.compact().expect("a merge");
        rig.idle();
        let origins: Vec<_> = segments(&rig).iter().map(|(_, _, header, _)| header.origin).collect();
        assert!(origins.contains(&Origin::Packed) && !origins.contains(&Origin::Compaction), "{origins:?}");
        for _ in 0..2 {
            for n in (0..20).filter(|n| *n != 7) {
                assert_eq!(rig.get(&format!("key{n}")), expected(n), "key{n}, {ending:?}");
            }
            assert_eq!(rig.get("key7"), Some(b"newer".to_vec()));
            rig.reopen(ending);
        }
    }
}

/// A store of one packed segment and an empty log, and the values that its keys have.
fn packed(seed: u64, keys: usize) -> (Rig, BTreeMap<String, Vec<u8>>) {
    let mut rig = Rig::with_seed(config(), seed);
    let mut values = BTreeMap::new();
    for round in 0..2 {
        for n in 0..keys {
            let value = vec![(n + round) as u8; n * 7 % 90];
            rig.put(&format!("key{n}"), &value);
            values.insert(format!("key{n}"), value);
        }
    }
    rig.sync();
    rig.compact().expect("a merge");
    rig.idle();
    rig.reopen(None);
    (rig, values)
}

/// Each byte of a packed segment behind its header, bent in turn: it costs at most the value that it is a part of, and a scrub puts right all
/// that can be known.
#[test]
fn whatever_rots_in_a_packed_segment_costs_at_most_its_value() {
    let (mut rig, values) = packed(3, 12);
    let healthy = segments(&rig).into_iter().find(|(_, _, header, _)| header.origin == Origin::Packed);
    let (path, content, header, scan) = healthy.expect("a packed segment");
    let index_start = scan.frames[0].offset as usize;
    for offset in header.encoded_length()..content.len() {
        rig.reopen_with(|disk| {
            disk.overwrite(&path, &content);
            disk.flip_bit(&path, offset as u64, (offset % 8) as u8);
        });
        let key_of = |offset: usize| {
            let records = scan.frames.iter().flat_map(|frame| &frame.records);
            let hit = records.clone().find(|r| {
                let start = r.offset as usize;
                (start..start + Form::Bare.length(r.key.len(), r.value_length as usize)).contains(&offset)
            });
            hit.map(|record| record.key.clone())
        };
        let victim = key_of(offset);
        for (key, value) in &values {
            let name = key.as_bytes().to_vec();
            let read = rig.run(|_, inside| async move { inside.get(&name).await });
            match victim.as_deref() == Some(key.as_bytes()) {
                true => assert!(matches!(read, Err(ReadError::Damaged { .. })), "byte {offset}: {read:?}"),
                false => assert_eq!(read, Ok(Some(value.clone())), "byte {offset}: {key}"),
            }
        }
        rig.run(|store, _| async move { store.start_scrub(0).expect("none runs").await });
        let mended = rig.disk.content(&path) == Some(content.clone());
        assert_eq!(mended, offset >= index_start, "byte {offset}, index at {index_start}");
    }
}

/// A segment that lost its end, wherever that is, is refused, or has lost nothing.
#[test]
fn a_packed_segment_that_is_cut_is_never_taken_for_whole() {
    let (mut rig, values) = packed(4, 6);
    let healthy = segments(&rig).into_iter().find(|(_, _, header, _)| header.origin == Origin::Packed);
    let (path, content, header, _) = healthy.expect("a packed segment");
    let mut refused = 0;
    for end in header.encoded_length()..content.len() {
        rig.end();
        rig.disk.overwrite(&path, &content[..end]);
        match rig.try_open() {
            Err(error) => {
                assert!(error.to_string().contains("can't be read"), "{error}");
                refused += 1;
            }
            Ok(()) => {
                for (key, value) in &values {
                    assert_eq!(rig.get(key).as_ref(), Some(value), "cut at {end}");
                }
            }
        }
        rig.end();
        rig.disk.overwrite(&path, &content);
        rig.try_open().expect("healthy again");
    }
    assert!(refused > 100);
}

#[test]
fn a_header_that_is_newer_is_refused() {
    let (mut rig, _) = packed(5, 3);
    let found = segments(&rig).into_iter().find(|(_, _, header, _)| header.origin == Origin::Packed);
    let (path, mut content, _, _) = found.expect("a packed segment");
    assert_eq!(content[12], 2, "a program that knows only version 1 refuses it");
    content[12] = 3;
    rig.end();
    rig.disk.overwrite(&path, &content);
    let error = rig.try_open().expect_err("newer").to_string();
    assert!(error.contains("version 3"), "{error}");
}
