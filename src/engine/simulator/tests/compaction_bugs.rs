//! What has gone wrong in the merges of Bitcasks before ours, each as a test. (Two keys with one hash can't meet as one: the
//! keydir compares whole keys, see `two_keys_with_one_hash_are_two_keys`.)

use super::rig::{ENDINGS, Rig, config};
use crate::engine::Config;
use crate::engine::clock::SimClock;
use crate::engine::disk::sim::Crash;
use crate::engine::stats::SegmentState;
use std::collections::BTreeSet;

/// By itself, and only what is nearly dead.
fn partial() -> Config {
    Config { auto_compact: true, compact_threshold: 0.8, ..config() }
}

/// The segments that there are.
fn segments(rig: &Rig) -> BTreeSet<u32> {
    rig.store().segment_stats().iter().map(|row| row.segment).collect()
}

#[test]
fn a_deleted_key_does_not_return_after_a_partial_merge_and_reopening() {
    for ending in ENDINGS {
        let mut rig = Rig::new(partial());
        rig.put("buried", b"value");
        rig.fill("a");
        rig.sync();
        let old = segments(&rig);
        rig.remove("buried");
        for round in 0..60 {
            rig.put("churn", &[round; 5000]);
        }
        rig.sync();
        rig.idle();
        assert!(rig.stats().compactions > 0, "nothing was merged");
        let first = old.first().unwrap();
        assert!(segments(&rig).contains(first), "the segment with the old value is left alone");
        assert_eq!(rig.get("buried"), None);
        for _ in 0..2 {
            rig.reopen(ending);
            assert_eq!(rig.get("buried"), None, "{ending:?}");
            rig.idle();
        }
    }
}

/// At every moment of the merge.
#[test]
fn a_delete_racing_a_merge_that_moves_the_value_to_a_newer_segment() {
    for moment in (0..).step_by(3) {
        let mut rig = Rig::with_seed(config(), moment);
        for round in 0..20 {
            rig.put("key", &[round; 100]);
            rig.put("other", &[round; 9000]);
        }
        rig.sync();
        let merge = rig.start(|store, _| async move { store.compact(None).await });
        for _ in 0..moment {
            rig.step();
        }
        let over = merge.lock().is_some();
        assert!(!over || rig.stats().compactions > 0, "nothing was merged");
        rig.remove("key");
        rig.finish(merge).expect("a merge");
        rig.idle();
        assert_eq!(rig.get("key"), None, "moment {moment}");
        rig.sync();
        rig.reopen(ENDINGS[moment as usize % 3]);
        assert_eq!(rig.get("key"), None, "moment {moment}, reopened");
        assert_eq!(rig.get("other"), Some(vec![19; 9000]));
        if over {
            assert!(moment > 20, "the merge takes only {moment} steps");
            return;
        }
    }
}

#[test]
fn tombstones_go_when_what_they_bury_is_gone() {
    let mut rig = Rig::new(config());
    for n in 0..50 {
        rig.put(&format!("key{n}"), &[1; 3000]);
    }
    for n in 0..50 {
        rig.remove(&format!("key{n}"));
    }
    rig.compact().expect("a merge");
    rig.idle();
    let stats = rig.stats();
    assert_eq!((stats.keys, stats.live_bytes, stats.dead_bytes), (0, 0, 0));
    let left = rig
        .store()
        .partition(crate::engine::PartitionId(0))
        .shell
        .with_quiet(|core| core.keydir.entry_count());
    assert_eq!(left, 0, "tombstones are left in the keydir");
    // The active segment has its whole size; the others are gone, or next to nothing.
    let sealed = |row: &&crate::engine::stats::SegmentStats| row.state.name() == "sealed";
    let bytes: u64 = rig.store().segment_stats().iter().filter(sealed).map(|row| row.file_bytes).sum();
    assert!(bytes < 1000, "{bytes} bytes for nothing");
}

/// One key after the other, while the files that they lie in are replaced and removed.
#[test]
fn a_listing_goes_on_while_a_merge_removes_its_inputs() {
    let mut rig = Rig::new(Config { open_files_max: 1, ..config() });
    rig.disk.set_cold_percent(100);
    for round in 0..3u8 {
        for n in 0..40 {
            rig.put(&format!("key{n:02}"), &[round; 2000]);
        }
    }
    let before = segments(&rig);
    let merge = rig.start(|store, _| async move { store.compact(None).await });
    let mut after: Option<Vec<u8>> = None;
    let mut seen = 0;
    loop {
        let from = after.clone();
        let page = rig.run(|_, inside| async move {
            let keys = inside.with(|core, ()| core.list(b"key", from.as_deref(), 3));
            let values = inside.get_many(&keys).await;
            keys.into_iter().zip(values).collect::<Vec<_>>()
        });
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (key, value) in page {
            assert_eq!(key, format!("key{seen:02}").into_bytes());
            assert_eq!(value.expect("readable"), Some(vec![2; 2000]));
            seen += 1;
        }
    }
    assert_eq!(seen, 40);
    rig.finish(merge).expect("a merge");
    assert!(segments(&rig).intersection(&before).count() < before.len() / 2, "its inputs are gone");
}

/// At every moment of the merge; the read waits for the disk and its file is closed and removed meanwhile.
#[test]
fn a_get_racing_a_merge() {
    for moment in (0..400).step_by(3) {
        let mut rig = Rig::with_seed(Config { open_files_max: 1, ..config() }, moment);
        rig.disk.set_cold_percent(100);
        for round in 0..3u8 {
            for n in 0..5 {
                rig.put(&format!("key{n}"), &[round; 3000]);
            }
        }
        rig.sync();
        let merge = rig.start(|store, _| async move { store.compact(None).await });
        for _ in 0..moment {
            rig.step();
        }
        let reads: Vec<_> = (0..5)
            .map(|n| {
                rig.start(move |_, inside| async move { inside.get(format!("key{n}").as_bytes()).await })
            })
            .collect();
        for read in reads {
            assert_eq!(rig.finish(read).expect("readable"), Some(vec![2; 3000]), "moment {moment}");
        }
        rig.finish(merge).expect("a merge");
        assert_eq!(rig.stats().crc_errors, 0);
    }
}

#[test]
fn descriptors_of_replaced_files_are_closed() {
    let mut rig = Rig::new(config());
    for round in 0..6u8 {
        for n in 0..20 {
            rig.put(&format!("key{n}"), &[round; 3000]);
        }
    }
    for n in 0..20 {
        assert_eq!(rig.get(&format!("key{n}")), Some(vec![5; 3000]));
    }
    rig.compact().expect("a merge");
    rig.idle();
    let stats = rig.stats();
    assert!(stats.segments_removed >= 4, "{stats:?}");
    let (open, nameless) = rig.disk.open_handles();
    assert_eq!(nameless, 0, "of {open} open handles");
}

#[test]
fn a_merge_that_gains_nothing_is_not_repeated() {
    let mut rig = Rig::new(Config { auto_compact: true, compact_threshold: 0.0, ..config() });
    for round in 0..3u8 {
        for n in 0..20 {
            rig.put(&format!("key{n}"), &[round; 3000]);
        }
        rig.remove("key0");
    }
    rig.compact().expect("a merge");
    rig.idle();
    let before = rig.stats().compactions;
    assert!(before > 0);
    for _ in 0..3 {
        assert_eq!(rig.compact().expect("nothing to do"), 0);
        rig.idle();
    }
    assert_eq!(rig.stats().compactions, before);
    // Nor after reopening, when everything is counted anew.
    rig.reopen(None);
    rig.idle();
    assert_eq!(rig.compact().expect("nothing to do"), 0);
    assert_eq!(rig.stats().compactions, 0);
}

/// Each merge of segments that are dead from end to end leaves an output without a record.
#[test]
fn outputs_without_a_record_do_not_pile_up() {
    let mut rig = Rig::new(config());
    for round in 0..8u8 {
        for _ in 0..30 {
            rig.put("key", &[round; 6000]);
        }
        rig.compact().expect("a merge");
        rig.idle();
    }
    let sealed = rig.store().segment_stats().iter().filter(|one| one.state == SegmentState::Sealed).count();
    assert!(sealed <= 2, "{:?}", rig.store().segment_stats());
}

#[test]
fn space_after_overwriting_everything_twice_is_what_lives() {
    let mut rig = Rig::new(config());
    for round in 0..3u8 {
        for n in 0..400 {
            rig.put(&format!("key{n}"), &[round; 1024]);
        }
    }
    rig.compact().expect("a merge");
    rig.idle();
    let live_bytes = rig.stats().live_bytes;
    rig.reopen(None);
    for n in 0..400 {
        assert_eq!(rig.get(&format!("key{n}")), Some(vec![2; 1024]));
    }
    let bytes = |path: &String| rig.disk.content(path).map_or(0, |content| content.len() as u64);
    let data = rig.disk.files().into_iter().filter(|path| path.ends_with(".data"));
    // What was opened for what comes next is not what is kept.
    let fresh = rig.config.segment_bytes;
    let total: u64 =
        data.map(|path| bytes(&path)).filter(|bytes| *bytes != fresh && *bytes != fresh / 2).sum();
    assert!(total as f64 <= live_bytes as f64 * 1.1, "{total} bytes on disk, {live_bytes} live");
}

/// What couldn't be removed was named by each output that followed, until a header could name no more.
#[test]
fn more_leftovers_than_a_header_can_name() {
    let mut rig = Rig::new(config());
    rig.disk.fail_removals(true);
    rig.put("live", b"value");
    for round in 0..300u32 {
        for n in 0..15 {
            rig.put("key", &round.to_le_bytes());
            rig.put(&format!("key{n}"), &round.to_le_bytes());
            rig.put(&format!("key{n}"), &round.to_le_bytes());
            rig.run(|store, _| async move { store.rotate().await }).expect("rotated");
        }
        // It may refuse; it must not panic, nor take room without giving any back.
        if round % 5 == 0 {
            let _ = rig.compact();
        }
    }
    let stats = rig.stats();
    assert_eq!(stats.partitions[0].panics, 0);
    assert!(stats.cleanup_failures > 60 && stats.compactions == 1, "{stats:?}");
    let trouble = rig.store().compaction_stats()[0].trouble.clone();
    assert!(trouble.is_some_and(|trouble| trouble.contains("can't be removed")));
    rig.disk.fail_removals(false);
    assert!(rig.compact().expect("a merge") > 0);
    rig.idle();
    let stats = rig.stats();
    assert!(stats.segments_removed > 4096, "{stats:?}");
    assert_eq!(rig.store().compaction_stats()[0].trouble, None);
    rig.reopen(Some(Crash::Power));
    assert_eq!(rig.get("live"), Some(b"value".to_vec()));
}

/// Nothing that is kept rests on the time of day: a clock that was set back, or stands still, changes no order.
#[test]
fn the_clock_is_set_back() {
    for ending in ENDINGS {
        let mut rig = Rig::new(config());
        rig.clock.advance(3_600_000_000_000);
        rig.put("key", b"old");
        rig.fill("a");
        rig.sync();
        rig.clock = SimClock::new();
        rig.reopen(ending);
        rig.put("key", b"new");
        rig.remove("a0");
        rig.sync();
        rig.clock = SimClock::new();
        rig.reopen(ending);
        rig.compact().expect("a compaction");
        assert_eq!((rig.get("key"), rig.get("a0")), (Some(b"new".to_vec()), None), "{ending:?}");
        rig.reopen(ending);
        assert_eq!((rig.get("key"), rig.get("a0")), (Some(b"new".to_vec()), None), "{ending:?}");
    }
}
