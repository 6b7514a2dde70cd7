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
    let seeds = environment("BITKV_SEEDS").unwrap_or(1000);
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

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..5 {
        assert_eq!(outcome(seed), outcome(seed));
    }
}
