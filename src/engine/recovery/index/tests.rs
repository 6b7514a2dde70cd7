//! Tests of the index, against the plain way.

use super::*;
use crate::engine::disk::NoFile;
use crate::engine::disk::sim::Dice;
use crate::engine::format::hint::{Hint, HintWriter};
use crate::engine::format::segment::{Origin, SegmentHeader};
use crate::engine::recovery::decide::decide;
use crate::engine::types::{PartitionId, StoreId};
use std::sync::Arc;

type Row = (Vec<u8>, Number, Location);

fn hinted(id: SegmentId, records: &[Row]) -> LoadedSegment {
    let mut writer = HintWriter::new();
    for (key, number, location) in records {
        let kind = if location.tombstone { RecordKind::Tombstone } else { RecordKind::Put };
        writer.push(*number, location.offset, kind, location.value_length, key);
    }
    let hint = Hint {
        store: StoreId([0; 16]),
        partition: PartitionId(0),
        segment: id,
        salt: 0,
        sealed: true,
        data_length: 1 << 20,
        last_number: Number(1),
        first_number: Number(1),
        stable: Number(1),
        first_epoch: Epoch(1),
        entries: records.len() as u32,
    };
    let header = SegmentHeader {
        store: hint.store,
        partition: hint.partition,
        origin: Origin::Log,
        segment: id,
        salt: 0,
        created_ns: 0,
        victims: Vec::new(),
    };
    let content = Content::Hinted { hint, bytes: writer.finish(hint) };
    LoadedSegment { id, file: Arc::new(NoFile), header, file_bytes: 1 << 20, content }
}

/// Short keys, long ones, and such that differ only far behind or by zeros at their ends.
fn random_key(dice: &mut Dice) -> Vec<u8> {
    let mut key = [&b"k"[..], b"a key that is longer than what is compared at once "][dice.index(2)].to_vec();
    key.extend(std::iter::repeat_n(0, dice.index(3)));
    key.extend(std::iter::repeat_n(b'x', dice.index(3) * 12));
    key.push(dice.below(6) as u8);
    key
}

#[test]
fn the_newest_record_of_each_key_counts_and_dead_puts_behind_it_are_counted() {
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let (mut rows, mut segments) = (Vec::new(), Vec::new());
        for segment in 1..=dice.between(1, 5) as u32 {
            let (mut offset, mut records) = (64, Vec::new());
            for _ in 0..dice.below(60) {
                let key = random_key(&mut dice);
                let value_length = dice.below(50) as u32;
                let tombstone = dice.percent(30);
                let location = Location { segment: SegmentId(segment), offset, value_length, tombstone };
                offset += record::encoded_length(key.len(), value_length as usize) as u32;
                records.push((key, Number(dice.between(1, 1000)), location));
            }
            segments.push(hinted(SegmentId(segment), &records));
            rows.extend(records);
        }
        let (decision, _) = decide(&[], Number(1000), |_, _| true);
        // Two records of a key with one number are one that compaction copied: the order of the rest doesn't matter.
        rows.sort_by(|a, b| (&a.0, a.1, a.2.offset).cmp(&(&b.0, b.1, b.2.offset)));
        if rows.windows(2).any(|pair| (&pair[0].0, pair[0].1) == (&pair[1].0, pair[1].1)) {
            continue;
        }
        let index = build(&segments, &decision, |_, _| true).unwrap();
        let (mut wanted, mut removals) = (Vec::new(), Vec::new());
        let mut accounts: BTreeMap<SegmentId, Account> =
            segments.iter().map(|segment| (segment.id, Account::default())).collect();
        for of_key in rows.chunk_by(|a, b| a.0 == b.0) {
            let (key, number, newest) = of_key.last().unwrap();
            let puts = of_key.iter().filter(|(_, _, location)| !location.tombstone).count() as u32;
            let stale = puts - u32::from(!newest.tombstone);
            let lives = !newest.tombstone || stale > 0;
            match lives {
                true => wanted.push((key.clone(), *number, Entry::new(*newest, stale))),
                false => {
                    removals.push(Removal { key: Key::new(key), number: *number, location: *newest });
                }
            }
            for (_, _, location) in of_key {
                let bytes = record::encoded_length(key.len(), location.value_length as usize) as u64;
                let account = accounts.get_mut(&location.segment).unwrap();
                if lives && location == newest {
                    account.live_bytes += bytes;
                    account.live_records += 1;
                } else {
                    account.dead_bytes += bytes;
                }
            }
        }
        let found = index.keydir.entries().zip(&index.numbers);
        let found: Vec<_> = found.map(|((key, entry), number)| (key.to_vec(), *number, *entry)).collect();
        assert_eq!(found, wanted, "seed {seed}");
        assert_eq!(index.numbers.len(), wanted.len());
        assert_eq!(index.removals, removals, "seed {seed}");
        assert_eq!(index.accounts, accounts, "seed {seed}");
    }
}
