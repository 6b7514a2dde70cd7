//! One script, crashed at every single changing call to the disk: while the store is made, used, sealed, compacted, closed.

use super::lives::Lives;
use super::plan::Plan;
use crate::engine::config::{Config, Durability};
use crate::engine::disk::sim::{Crash, Dice};

fn plan() -> Plan {
    let config = Config {
        partitions: Some(2),
        durability: Durability::Explicit,
        segment_bytes: 64 * 1024,
        compact_threshold: 0.3,
        compact_bytes_per_second: 0,
        ..Config::default()
    };
    Plan { config, lives: 1, keys: 6, value_bytes_max: 6000, in_flight_max: 6, faults: false }
}

/// Plays the script; returns how many changing calls there were.
fn script(crash_at: Option<u64>, how: Crash) -> Result<u64, String> {
    let mut lives = Lives::new(plan(), Dice::new(4711));
    lives.disk.crash_at(crash_at);
    let (store, mut player) = lives.begin_life(0)?;
    lives.act(&store, &mut player, 150)?;
    if !lives.disk.is_dead() {
        lives.drain(&mut player)?;
    }
    lives.end(&store, player, true, how)?;
    drop(store);
    let count = lives.disk.io_count();
    // Once more, so that what recovery left is itself recovered.
    for _ in 0..2 {
        let (store, player) = lives.begin_life(0)?;
        lives.end(&store, player, false, how)?;
    }
    Ok(count)
}

#[test]
fn a_crash_at_every_single_io() {
    let count = script(None, Crash::Kill).unwrap();
    assert!(count > 200, "the script does too little: {count} calls");
    for at in 1..=count {
        for how in [Crash::Kill, Crash::Power] {
            script(Some(at), how).unwrap_or_else(|what| panic!("{how:?} at call {at} of {count}: {what}"));
        }
    }
}
