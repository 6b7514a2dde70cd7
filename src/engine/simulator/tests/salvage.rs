//! Salvage where what everything else is read by is lost: MANIFEST, or the header of a segment. All values are there, and what is lost is told.

use super::rig::{Rig, config};
use crate::engine::disk::Disk;
use crate::engine::format::segment::SegmentHeader;
use std::collections::BTreeMap;

/// A store with a log that is full, one that isn't, and a packed segment, left by a clean close or by a kill.
fn store(closed: bool) -> (Rig, BTreeMap<String, Vec<u8>>) {
    let mut rig = Rig::new(config());
    let mut values = BTreeMap::new();
    let mut put = |rig: &mut Rig, key: String, value: Vec<u8>| {
        rig.put(&key, &value);
        values.insert(key, value);
    };
    for round in 0..2u8 {
        for n in 0..15u8 {
            put(&mut rig, format!("packed{n}"), vec![round + n; 40 + usize::from(n)]);
        }
    }
    rig.sync();
    rig.compact().expect("a merge");
    for n in 0..25u8 {
        put(&mut rig, format!("log{n}"), vec![n; 4000]);
    }
    rig.sync();
    rig.idle();
    if closed {
        rig.reopen(None);
    }
    rig.end();
    (rig, values)
}

fn expect_all(rig: &mut Rig, values: &BTreeMap<String, Vec<u8>>, what: &str) {
    for (key, value) in values {
        assert_eq!(rig.get(key).as_ref(), Some(value), "{what}: {key}");
    }
}

#[test]
fn a_store_without_its_manifest() {
    for closed in [false, true] {
        for damaged in [false, true] {
            let (mut rig, values) = store(closed);
            match damaged {
                true => rig.disk.flip_bit("MANIFEST", 30, 3),
                false => rig.disk.remove("MANIFEST").unwrap(),
            }
            let before = rig.disk.files();
            rig.try_open().expect_err("without its MANIFEST");
            rig.end();
            rig.config.salvage = true;
            rig.try_open().expect("salvaged");
            expect_all(&mut rig, &values, "without MANIFEST");
            let losses = rig.store().losses().to_vec();
            assert!(losses.iter().any(|loss| loss.contains("MANIFEST")), "{losses:?}");
            rig.end();
            assert_eq!(rig.disk.files(), before, "nothing is written");
        }
    }
}

/// Every byte of every header, bent in turn.
#[test]
fn a_segment_without_its_header() {
    for closed in [false, true] {
        let (mut rig, values) = store(closed);
        let paths: Vec<_> = rig.disk.files().into_iter().filter(|path| path.ends_with(".data")).collect();
        assert!(paths.len() >= 3, "{paths:?}");
        for path in paths {
            let content = rig.disk.content(&path).unwrap();
            let header_bytes = SegmentHeader::decode(&content).unwrap().encoded_length();
            // The version is looked at first: another one is a reason to refuse in any case.
            for offset in (0..header_bytes).filter(|offset| !(12..16).contains(offset)) {
                rig.disk.flip_bit(&path, offset as u64, (offset % 8) as u8);
                rig.config.salvage = false;
                let refused = rig.try_open().expect_err("with a damaged header").to_string();
                assert!(refused.contains("header of"), "{path}, byte {offset}: {refused}");
                rig.end();
                rig.config.salvage = true;
                rig.try_open().expect("salvaged");
                let what = format!("{path}, byte {offset}");
                expect_all(&mut rig, &values, &what);
                let losses = rig.store().losses().to_vec();
                assert!(losses.iter().any(|loss| loss.contains(&path)), "{what}: {losses:?}");
                rig.end();
                rig.disk.overwrite(&path, &content);
            }
        }
    }
}
