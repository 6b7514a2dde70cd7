//! Whole filesystems in a simulated world: a client works on a small tree, the world ends at any step or at any single I/O, the filesystem is
//! opened again. What is there then must be the tree as it was at one moment: after a kill, not earlier than the last answer; after a power
//! loss, not earlier than the last answered sync. The checker must find nothing.

mod tree;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn outcome(seed: u64) -> Result<(), String> {
    std::panic::catch_unwind(|| world::run(seed)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panicked: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?")))
    })
}

#[test]
fn filesystem_crashes() {
    if let Some(seed) = environment("BITKV_SEED") {
        outcome(seed).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        return;
    }
    let seeds = environment("BITKV_SEEDS").unwrap_or(1000);
    let next = AtomicU64::new(0);
    let failures = parking_lot::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
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
