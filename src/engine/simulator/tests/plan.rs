//! What a seed decides before anything runs: how the store is opened, how clients behave, what goes wrong.

use crate::engine::config::{Config, Durability};
use crate::engine::disk::sim::Dice;
use std::time::Duration;

/// A whole run.
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) lives: u64,
    pub(super) keys: u64,
    pub(super) value_bytes_max: u64,
    pub(super) in_flight_max: usize,
    /// Whether disks are told to fail or to be full.
    pub(super) faults: bool,
}

impl Plan {
    pub(super) fn by(dice: &mut Dice) -> Plan {
        let durability = match dice.below(6) {
            0 => Durability::Always,
            1 | 2 => Durability::Interval(Duration::from_millis(dice.between(1, 1000))),
            _ => Durability::Explicit,
        };
        let config = Config {
            partitions: Some(dice.between(1, 4) as u16),
            durability,
            segment_bytes: 64 * 1024,
            auto_compact: dice.percent(60),
            compact_threshold: [0.1, 0.3, 0.5][dice.index(3)],
            compact_bytes_per_second: [0, 1 << 20][dice.index(2)],
            compact_start_delay: Duration::from_millis([0, 0, 5][dice.index(3)]),
            compact_cooldown: Duration::from_millis([0, 10][dice.index(2)]),
            open_files_max: [1, 2, 5, 512][dice.index(4)],
            ..Config::default()
        };
        Plan {
            config,
            lives: dice.between(2, 5),
            keys: dice.between(2, 16),
            value_bytes_max: [40, 400, 3000, 6000][dice.index(4)],
            in_flight_max: dice.between(1, 16) as usize,
            faults: dice.percent(30),
        }
    }
}
