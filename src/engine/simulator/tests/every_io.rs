//! One script, with something happening at every single changing call to the disk, while the store is made, used, sealed,
//! compacted, closed: a crash, a crash and then one in the recovery from it, a failure, no space.

use super::lives::Lives;
use super::plan::Plan;
use crate::engine::config::{Config, Durability};
use crate::engine::disk::sim::{Crash, Dice, SimDisk};

fn plan() -> Plan {
    let config = Config {
        partitions: Some(2),
        durability: Durability::Explicit,
        segment_bytes: 64 * 1024,
        compact_threshold: 0.3,
        compact_bytes_per_second: 0,
        compact_start_delay: std::time::Duration::ZERO,
        compact_cooldown: std::time::Duration::ZERO,
        open_files_max: 2,
        ..Config::default()
    };
    Plan { config, lives: 1, keys: 6, value_bytes_max: 6000, in_flight_max: 6, faults: false }
}

/// Plays the script on a disk to which something is done first; returns the world when its first life is over, and how many changing calls there were.
fn first_life(trouble: impl Fn(&SimDisk), excused: bool, how: Crash) -> Result<(Lives, u64), String> {
    let mut lives = Lives::new(plan(), Dice::new(4711));
    trouble(&lives.disk);
    let (store, mut player) = lives.begin_life(0)?;
    lives.history.lock().excused = excused;
    lives.act(&store, &mut player, 150)?;
    if !lives.disk.is_dead() {
        lives.drain(&store, &mut player)?;
    }
    lives.end(&store, player, true, how)?;
    drop(store);
    let count = lives.disk.io_count();
    Ok((lives, count))
}

/// Opened twice, so that what recovery left is itself recovered.
fn two_more_lives(lives: &mut Lives, how: Crash) -> Result<(), String> {
    for _ in 0..2 {
        let (store, player) = lives.begin_life(0)?;
        lives.end(&store, player, false, how)?;
    }
    Ok(())
}

fn calls() -> u64 {
    let (_, count) = first_life(|_| (), false, Crash::Kill).unwrap();
    assert!(count > 200, "the script does too little: {count} calls");
    count
}

#[test]
fn a_crash_at_every_single_io() {
    let count = calls();
    for at in 1..=count {
        for how in [Crash::Kill, Crash::Power] {
            first_life(|disk| disk.crash_at(Some(at)), false, how)
                .and_then(|(mut lives, _)| two_more_lives(&mut lives, how))
                .unwrap_or_else(|what| panic!("{how:?} at call {at} of {count}: {what}"));
        }
    }
}

/// Crashes the script's life at one call, and its recovery at each call, one after another.
fn recoveries(at: u64, how: Crash) -> Result<(), String> {
    for more in 1.. {
        let (mut lives, count) = first_life(|disk| disk.crash_at(Some(at)), false, how)?;
        lives.disk.crash_at(Some(count + more));
        let (store, player) = lives.begin_life(0)?;
        let was_reached = lives.disk.io_count() >= count + more;
        lives.end(&store, player, false, how)?;
        two_more_lives(&mut lives, how).map_err(|what| format!("then at call {more}: {what}"))?;
        if !was_reached {
            break;
        }
    }
    Ok(())
}

#[test]
fn a_crash_at_every_single_io_of_a_recovery() {
    let count = calls();
    for at in (1..=count).step_by(7) {
        for how in [Crash::Kill, Crash::Power] {
            recoveries(at, how).unwrap_or_else(|what| panic!("{how:?} at call {at} of {count}: {what}"));
        }
    }
}

/// It may refuse what it can't do any more, and latch. What it said is true, and the next opening is well.
#[test]
fn a_failure_at_every_single_io() {
    let count = calls();
    for at in 1..=count {
        for how in [Crash::Kill, Crash::Power] {
            first_life(|disk| disk.fail_at(Some(at)), true, how)
                .and_then(|(mut lives, _)| two_more_lives(&mut lives, how))
                .unwrap_or_else(|what| panic!("{how:?} after a failure of call {at} of {count}: {what}"));
        }
    }
}

/// Nothing latches because of it, and once there is space again everything goes on without a new opening.
#[test]
fn no_space_at_every_single_allocation() {
    let count = calls();
    for at in 1..=count {
        let outcome = || -> Result<bool, String> {
            let mut lives = Lives::new(plan(), Dice::new(4711));
            lives.disk.full_at(Some(at));
            let (store, mut player) = lives.begin_life(0)?;
            lives.history.lock().excused = true;
            lives.act(&store, &mut player, 150)?;
            lives.drain(&store, &mut player)?;
            let happened = lives.disk.has_failed();
            if player.is_latched() {
                return Err("the store latched".to_string());
            }
            lives.history.lock().excused = false;
            lives.act(&store, &mut player, 50)?;
            lives.drain(&store, &mut player)?;
            lives.end(&store, player, true, Crash::Power)?;
            two_more_lives(&mut lives, Crash::Power)?;
            Ok(happened)
        };
        outcome().unwrap_or_else(|what| panic!("no space at call {at} of {count}: {what}"));
    }
}
