//! What the statistics and the keydir say of live and dead records, against a full scan of the logs: exactly the same, at any moment at which
//! everything appended is on the disk. Shares no code with what it checks but the reading of frames.

use super::lives::Lives;
use super::plan::Plan;
use super::segments::read_segment;
use crate::engine::Store;
use crate::engine::common::partition_dir;
use crate::engine::core::Core;
use crate::engine::disk::sim::{Dice, SimDisk};
use crate::engine::format::record::{RECORD_HEADER_BYTES, RecordKind};
use crate::engine::keydir::Location;
use crate::engine::segment::{FileKind, parse_name};
use crate::engine::types::{Number, SegmentId};
use std::collections::BTreeMap;

/// Live bytes, dead bytes, live records.
type Account = (u64, u64, u64);
/// All records of a key, oldest first.
type Records = BTreeMap<Vec<u8>, Vec<(Number, Location)>>;

/// An error that says what is counted wrong. Everything appended must have been handed over.
pub(super) fn check_counts(store: &Store<()>, disk: &SimDisk) -> Result<(), String> {
    for partition in store.partitions() {
        if partition.shell.with_quiet(|core| core.compaction.has_leftovers()) {
            // What was replaced and can't be removed is part of the logs and not of the store.
            continue;
        }
        let records = read_records(disk, &partition_dir(partition.id()))?;
        partition
            .shell
            .with_quiet(|core| compare(core, &records))
            .map_err(|what| format!("partition {}: {what}", partition.id()))?;
    }
    Ok(())
}

fn read_records(disk: &SimDisk, directory: &str) -> Result<Records, String> {
    let mut records = Records::new();
    for path in disk.files() {
        let name = path.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/'));
        let Some(FileKind::Data(segment)) = name.map(parse_name) else { continue };
        let bytes = disk.content(&path).unwrap_or_default();
        let (_, found) = read_segment(&bytes).ok_or_else(|| format!("{path}: its header is damaged"))?;
        for record in found.frames.iter().flat_map(|frame| &frame.records) {
            let location = Location {
                segment,
                offset: record.offset as u32,
                value_length: record.value_length,
                tombstone: record.kind == RecordKind::Tombstone,
            };
            records.entry(record.key.clone()).or_default().push((record.number, location));
        }
    }
    for of_key in records.values_mut() {
        of_key.sort_by_key(|(number, location)| (*number, location.segment, location.offset));
    }
    Ok(records)
}

fn compare(core: &Core, records: &Records) -> Result<(), String> {
    let mut accounts: BTreeMap<SegmentId, Account> = BTreeMap::new();
    let mut known = 0;
    for (key, of_key) in records {
        let puts = of_key.iter().filter(|(_, location)| !location.tombstone).count() as u32;
        let (_, newest) = of_key.last().ok_or("a key without a record")?;
        let stale = puts - u32::from(!newest.tombstone);
        let lives = !newest.tombstone || stale > 0;
        known += usize::from(lives);
        for (_, location) in of_key {
            let bytes = (RECORD_HEADER_BYTES + key.len()) as u64 + u64::from(location.value_length);
            let account = accounts.entry(location.segment).or_default();
            if lives && location == newest {
                account.0 += bytes;
                account.2 += 1;
            } else {
                account.1 += bytes;
            }
        }
        let entry = core.keydir.entry(key).map(|entry| (entry.location(), entry.stale));
        let wanted = lives.then_some((*newest, stale));
        if entry != wanted {
            let name = String::from_utf8_lossy(&key[..key.len().min(8)]);
            return Err(format!("the keydir has {entry:?} for {name}, the logs {wanted:?}"));
        }
    }
    let in_keydir = core.keydir.entry_count();
    if in_keydir != known {
        return Err(format!("the keydir has {in_keydir} keys, the logs {known}"));
    }
    for (id, segment) in &core.segments {
        let counters = &segment.counters;
        let counted = (counters.live_bytes.get(), counters.dead_bytes.get(), counters.live_records.get());
        let scanned = accounts.remove(id).unwrap_or_default();
        if counted != scanned {
            return Err(format!(
                "segment {id}: (live, dead, live records) is {scanned:?}, counted {counted:?}"
            ));
        }
    }
    match accounts.keys().next() {
        Some(id) => Err(format!("segment {id} has records and is no part of the store")),
        None => Ok(()),
    }
}

/// Random puts, deletes, commits over partitions and compactions, closed and opened again, crashed too; no faults.
fn several_lives(seed: u64) -> Result<u64, String> {
    let mut dice = Dice::new(seed);
    let mut plan = Plan::by(&mut dice);
    plan.faults = false;
    let mut lives = Lives::new(plan, dice);
    let mut compactions = 0;
    for _ in 0..3 {
        let (store, mut player) = lives.begin_life(0)?;
        check_counts(&store, &lives.disk).map_err(|what| format!("after opening: {what}"))?;
        for _ in 0..3 {
            let actions = lives.dice.between(5, 120);
            lives.act(&store, &mut player, actions)?;
            // Compares, once everything has come to its end.
            lives.drain(&store, &mut player)?;
        }
        compactions += store.stats().compactions;
        let closes = lives.dice.percent(50);
        let how = lives.any_crash();
        lives.end(&store, player, closes, how)?;
    }
    Ok(compactions)
}

#[test]
fn live_and_dead_counts_are_exact() {
    let seeds = std::env::var("BITKV_COUNT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let mut compactions = 0;
    for seed in 0..seeds {
        compactions += several_lives(seed).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
    assert!(compactions > seeds, "hardly anything was compacted: {compactions} times");
}
