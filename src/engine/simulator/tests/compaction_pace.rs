//! When compaction runs and when it doesn't, how fast, and what it does without space. Time is simulated.

use super::rig::{Rig, config};
use crate::engine::clock::Clock;
use crate::engine::disk::Disk;
use crate::engine::progress::CompactionPhase;
use crate::engine::{Config, PartitionId, Tune, WriteError};
use std::time::Duration;

fn automatic() -> Config {
    Config { auto_compact: true, ..config() }
}

/// Segments that are dead from end to end, and synced.
fn waste(rig: &mut Rig, segments: u32) {
    for round in 0..segments * 11 {
        rig.put("key", &[round as u8; 6000]);
    }
    rig.sync();
}

#[test]
fn no_merge_storm_at_start() {
    let delay = Duration::from_secs(10);
    let mut rig = Rig::new(config());
    waste(&mut rig, 20);
    rig.config = Config { compact_start_delay: delay, compact_bytes_per_second: 100_000, ..automatic() };
    rig.reopen(None);
    // Something happens, so that it is looked for work.
    waste(&mut rig, 2);
    rig.run_for(delay - Duration::from_secs(1));
    assert_eq!(rig.stats().compactions, 0);
    assert_eq!(rig.store().compaction_stats()[0].phase, CompactionPhase::Waiting);
    // Then at its rate: 22 segments of 64 KiB take more than ten seconds.
    rig.run_for(Duration::from_secs(5));
    let now = &rig.store().compaction_stats()[0];
    assert_eq!(now.phase, CompactionPhase::Copying);
    let rate = now.bytes_per_second();
    assert!(now.bytes_done > 0 && now.bytes_done < now.bytes_total && rate < 200_000, "{now:?}");
    rig.run_for(Duration::from_secs(30));
    assert!(rig.stats().compactions > 0);
}

#[test]
fn a_byte_rate_is_kept_and_can_be_changed_meanwhile() {
    let mut rig = Rig::new(config());
    waste(&mut rig, 30);
    rig.store().tune(Tune::CompactBytesPerSecond(50_000));
    let started_ns = rig.clock.monotonic_ns();
    rig.store().tune(Tune::AutoCompact(true));
    rig.run_for(Duration::from_secs(10));
    let done = rig.store().compaction_stats()[0].bytes_done;
    // One slice may be ahead of its time.
    assert!((250_000..=500_000 + 2 * 65_536).contains(&done), "{done} bytes in ten seconds");
    rig.store().tune(Tune::CompactBytesPerSecond(0));
    rig.idle();
    assert!(rig.stats().compactions > 0);
    let seconds = (rig.clock.monotonic_ns() - started_ns) / 1_000_000_000;
    assert!(seconds < 12, "the old rate went on: {seconds} s");
}

#[test]
fn a_pause_holds_what_runs_and_starts_nothing() {
    let mut rig = Rig::new(Config { compact_bytes_per_second: 100_000, ..automatic() });
    rig.store().tune(Tune::Paused(true));
    waste(&mut rig, 10);
    rig.idle();
    assert_eq!(rig.stats().compactions, 0);
    rig.store().tune(Tune::Paused(false));
    rig.run_for(Duration::from_secs(2));
    let running = rig.store().compaction_stats().remove(0);
    assert_eq!(running.phase, CompactionPhase::Copying);
    rig.store().tune(Tune::Paused(true));
    rig.run_for(Duration::from_secs(5));
    let held = rig.store().compaction_stats()[0].bytes_done;
    rig.run_for(Duration::from_secs(60));
    assert_eq!(rig.store().compaction_stats()[0].bytes_done, held, "it stands still");
    assert_eq!(rig.stats().compactions, 0);
    rig.store().tune(Tune::Paused(false));
    rig.idle();
    assert!(rig.stats().compactions > 0 && rig.stats().compaction_failures == 0);
}

#[test]
fn a_window_is_waited_for() {
    // Simulated time begins at 22:13:20.
    let mut rig = Rig::new(Config { compact_window: "23:00-23:30".parse().ok(), ..automatic() });
    waste(&mut rig, 5);
    rig.run_for(Duration::from_secs(46 * 60));
    assert_eq!(rig.stats().compactions, 0);
    rig.run_for(Duration::from_secs(2 * 60));
    assert!(rig.stats().compactions > 0);
    // By hand it is done at any time.
    rig.run_for(Duration::from_secs(3600));
    let before = rig.stats().compactions;
    waste(&mut rig, 5);
    rig.run_for(Duration::from_secs(60));
    assert_eq!(rig.stats().compactions, before);
    rig.compact().expect("a merge");
    assert!(rig.stats().compactions > before);
}

#[test]
fn a_partition_rests_between_automatic_merges() {
    let mut rig = Rig::new(Config { compact_cooldown: Duration::from_secs(60), ..automatic() });
    waste(&mut rig, 5);
    rig.run_for(Duration::from_secs(1));
    let before = rig.stats().compactions;
    assert!(before > 0);
    waste(&mut rig, 5);
    rig.run_for(Duration::from_secs(30));
    assert_eq!(rig.stats().compactions, before);
    rig.run_for(Duration::from_secs(60));
    assert!(rig.stats().compactions > before);
}

/// All of a disk that is full of nearly dead segments, in the room that the reserve leaves.
#[test]
fn a_full_disk_is_compacted_victim_by_victim() {
    let mut rig = Rig::new(config());
    // Live and dead by turns: each segment is worth it, none is all dead.
    for round in 0..40 {
        rig.put(&format!("live{round}"), &[1; 2000]);
        rig.put("key", &[round; 6000]);
        rig.put("key", &[round; 6000]);
    }
    rig.sync();
    rig.idle();
    let space = rig.disk.space().expect("a disk");
    rig.disk.set_capacity(Some(space.total_bytes - space.available_bytes));
    while rig.try_put("key", &[1; 6000]).is_ok() {}
    let before = rig.disk.space().expect("a disk").available_bytes;
    let merged = rig.compact();
    assert!(merged.is_ok(), "{merged:?}: {:?}", rig.store().compaction_stats());
    rig.idle();
    assert!(rig.disk.space().expect("a disk").available_bytes > before + 200_000);
    assert_eq!(rig.stats().compaction_failures, 0);
    rig.put("key", b"there is room again");
    for round in 0..40 {
        assert_eq!(rig.get(&format!("live{round}")), Some(vec![1; 2000]));
    }
}

/// On a full disk every partition gets its room: what one gives up for an output doesn't become another's segment.
#[test]
fn a_full_disk_is_compacted_in_all_partitions_at_once() {
    let partitions = [0, 1, 2].map(PartitionId);
    for seed in 1..=30 {
        let mut rig = Rig::with_seed(Config { partitions: Some(3), ..config() }, seed);
        for round in 0..30 {
            for partition in partitions {
                rig.try_put_in(partition, &format!("live{round}"), &[1; 4000]).expect("a put");
                rig.try_put_in(partition, "key", &[round; 6000]).expect("a put");
            }
        }
        rig.sync();
        rig.idle();
        let space = rig.disk.space().expect("a disk");
        rig.disk.set_capacity(Some(space.total_bytes - space.available_bytes));
        for partition in partitions {
            while rig.try_put_in(partition, "key", &[1; 6000]).is_ok() {}
        }
        rig.idle();
        // By itself, and by hand: in several partitions at the same time.
        rig.store().tune(Tune::AutoCompact(true));
        let merged = rig.compact();
        assert!(merged.is_ok(), "seed {seed}: {merged:?}: {:?}", rig.store().compaction_stats());
        rig.idle();
        assert_eq!(rig.stats().compaction_failures, 0, "seed {seed}");
        for partition in partitions {
            rig.try_put_in(partition, "key", b"there is room again")
                .unwrap_or_else(|error| panic!("seed {seed}, {partition}: {error}"));
            for round in 0..30 {
                let value = rig.get_in(partition, format!("live{round}").as_bytes());
                assert_eq!(value, Some(vec![1; 4000]), "seed {seed}, {partition}, {round}");
            }
        }
    }
}

/// A compaction that has no room is refused before it has begun, and says so; with room it goes on.
#[test]
fn without_room_for_an_output_nothing_is_begun() {
    // Hardly anything is dead in any segment: more than the reserve can take.
    let mut rig = Rig::new(config());
    for round in 0..30 {
        for part in 0..9 {
            rig.put(&format!("live{round}-{part}"), &[1; 6000]);
        }
        rig.put("key", &[round; 3000]);
    }
    rig.sync();
    rig.idle();
    let used =
        |rig: &Rig| rig.disk.space().map(|space| space.total_bytes - space.available_bytes).expect("a disk");
    rig.disk.set_capacity(Some(used(&rig)));
    let written = rig.stats().compaction_bytes_copied;
    assert_eq!(rig.compact(), Err(WriteError::Full));
    rig.idle();
    let stats = rig.stats();
    assert_eq!(stats.compaction_bytes_copied, written, "it began to copy");
    assert_eq!((stats.compactions, stats.compaction_failures > 0), (0, true));
    let trouble = rig.store().compaction_stats()[0].trouble.clone().expect("a reason");
    assert!(trouble.starts_with("no space: ") && trouble.contains("are free"), "{trouble}");
    rig.disk.set_capacity(None);
    rig.compact().expect("a merge");
    assert_eq!(rig.store().compaction_stats()[0].trouble, None);
}

/// Writers are told that the disk is full; what is dead is reclaimed for them, whatever the hour.
#[test]
fn a_full_disk_waits_for_no_window_and_no_delay() {
    let mut rig = Rig::new(config());
    waste(&mut rig, 10);
    rig.config = Config {
        compact_start_delay: Duration::from_secs(3600),
        compact_window: "03:00-03:10".parse().ok(),
        ..automatic()
    };
    rig.reopen(None);
    let space = rig.disk.space().expect("a disk");
    rig.disk.set_capacity(Some(space.total_bytes - space.available_bytes + 70_000));
    let started_ns = rig.clock.monotonic_ns();
    while rig.try_put("other", &[1; 6000]).is_ok() {}
    while rig.try_put("other", &[2; 6000]).is_err() {
        assert!(rig.clock.monotonic_ns() - started_ns < 60_000_000_000, "no room within a minute");
        rig.run_for(Duration::from_secs(1));
    }
    assert!(rig.stats().compactions > 0);
}

/// By hand it is done at once, unless somebody else uses the store: then at the rate that holds for what is done by itself.
#[test]
fn by_hand_it_gives_way_to_others_and_to_nobody_else() {
    for beside_others in [false, true] {
        let mut rig = Rig::new(config());
        waste(&mut rig, 20);
        rig.store().tune(Tune::CompactBytesPerSecond(100_000));
        rig.run_for(Duration::from_secs(1));
        let started_ns = rig.clock.monotonic_ns();
        let merge = rig.start(|store, _| async move { store.compact(None).await });
        let mut ended_ns = None;
        for _ in 0..4000 {
            if beside_others {
                assert_eq!(rig.get("other"), None);
            }
            rig.run_for(Duration::from_millis(5));
            if merge.lock().is_some() {
                ended_ns.get_or_insert(rig.clock.monotonic_ns());
            }
        }
        let seconds = ended_ns.map_or(20, |ended_ns| (ended_ns - started_ns) / 1_000_000_000);
        // 20 segments of 64 KiB, at 100,000 bytes a second.
        assert_eq!(seconds >= 8, beside_others, "{seconds} s");
    }
}
