//! Many seeds, or one.

use super::lives::run;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number from the environment.
fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a seed; a panic is a failure like any other.
pub(super) fn outcome(seed: u64) -> Result<(), String> {
    std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panicked: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?")))
    })
}

#[test]
fn simulation_crashes() {
    if let Some(seed) = environment("BITKV_SEED") {
        outcome(seed).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        return;
    }
    let first = environment("BITKV_FIRST_SEED").unwrap_or(0);
    let seeds = environment("BITKV_SEEDS").unwrap_or(5000);
    let next = AtomicU64::new(first);
    let failures = parking_lot::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    if let Err(what) = outcome(seed) {
                        eprintln!("seed {seed}: {what}");
                        failures.lock().push(seed);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner();
    assert!(failures.is_empty(), "{} of {seeds} seeds failed: {failures:?}", failures.len());
}

/// Seeds that once found a mistake, each with what it was. What a seed plays changes with the code; the mistakes may well come back.
const FOUND: [(u64, &str); 16] = [
    (2, "an empty log was left for a fresh one, and sealed, because of space that others had reserved"),
    (2361, "compaction's sync didn't wait for what made records dead and had no number yet"),
    (2825, "the same, after a kill"),
    (979, "a tail that a failed sync had dropped counted as synced after a restart"),
    (509, "the same, and the store was refused"),
    (1651, "an output whose name could not be synced came back with removed keys"),
    (14697, "a life was forgotten because of a seal that only the kernel had"),
    (4297, "the same, and the store was refused"),
    (8838, "a sync succeeded though a frame could not be written"),
    (7650, "the same, and the store was refused"),
    (18813, "the same, and a seal told of it"),
    (18790, "recovery wrote over what may have been synced"),
    (1071089, "the name that a recovery gave to a tail, before it died, was never synced by the next one"),
    (1082020, "the same, with faults"),
    (
        240923,
        "the simulated disk forgot a file whose name had come and gone, and a power loss kept the coming",
    ),
    (10867279, "a change was refused for want of space by a failure of long ago, on a disk with room"),
];

#[test]
fn seeds_that_found_something() {
    for (seed, what) in FOUND {
        outcome(seed).unwrap_or_else(|failure| panic!("seed {seed} ({what}): {failure}"));
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..5 {
        assert_eq!(outcome(seed), outcome(seed));
    }
}
