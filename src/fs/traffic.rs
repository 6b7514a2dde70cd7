//! Operations on their way: whether new ones are still taken, how many are under way, and how long they take. Knows nothing of what they do.
//!
//! A store may only be closed when nothing is under way: closing cuts the logs to their length, and what was acknowledged behind that
//! would be gone. A mount that was told to end may still be in use by whoever has a file open, so the way in is shut first.

use crate::engine::PartitionId;
use crate::engine::clock::Clock;
use crate::engine::stats::Histogram;
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How often it is looked whether the last operation has come to its end.
const POLL: Duration = Duration::from_millis(1);

/// Counts the operations of a mount.
pub struct Traffic {
    clock: Arc<dyn Clock>,
    shut: AtomicBool,
    transport: OnceLock<&'static str>,
    under_way: CachePadded<AtomicUsize>,
    latencies: Vec<CachePadded<Histogram>>,
}

/// One operation; it is over when this is dropped.
pub struct Passage {
    traffic: Arc<Traffic>,
    partition: PartitionId,
    started_ns: u64,
}

/// How long the operations of a partition have taken, from being taken to being answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Latency {
    /// Half of them took less, in microseconds.
    pub p50_us: u64,
    /// 99 of 100 took less, in microseconds.
    pub p99_us: u64,
}

impl Traffic {
    /// Nothing is under way, and everything may come in.
    pub fn new(clock: Arc<dyn Clock>, partition_count: u16) -> Arc<Self> {
        Arc::new(Traffic {
            clock,
            shut: AtomicBool::new(false),
            transport: OnceLock::new(),
            under_way: CachePadded::default(),
            latencies: (0..partition_count).map(|_| CachePadded::default()).collect(),
        })
    }

    /// Says how operations come, once.
    pub fn set_transport(&self, name: &'static str) {
        let _ = self.transport.set(name);
    }

    /// How operations come; `dev` before that is known.
    pub fn transport(&self) -> &'static str {
        self.transport.get().unwrap_or(&"dev")
    }

    /// An operation that starts in a partition; None once the way in is shut.
    pub fn enter(self: &Arc<Self>, partition: PartitionId) -> Option<Passage> {
        // Counted before looking: whoever shuts the way in sees either the count, or that nobody else gets past the look.
        self.under_way.fetch_add(1, Ordering::SeqCst);
        if self.shut.load(Ordering::SeqCst) {
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        Some(Passage { traffic: self.clone(), partition, started_ns: self.clock.monotonic_ns() })
    }

    /// Whether new operations are refused.
    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::SeqCst)
    }

    /// Refuses new operations, and waits for those under way, so long at most; returns how many are left.
    pub fn drain(&self, wait_max: Duration) -> usize {
        self.shut.store(true, Ordering::SeqCst);
        let started_ns = self.clock.monotonic_ns();
        loop {
            let left = self.under_way.load(Ordering::SeqCst);
            let waited_ns = self.clock.monotonic_ns().saturating_sub(started_ns);
            if left == 0 || u128::from(waited_ns) >= wait_max.as_nanos() {
                return left;
            }
            std::thread::sleep(POLL);
        }
    }

    /// How long a partition's operations take.
    pub fn latency(&self, partition: PartitionId) -> Latency {
        let found = self.latencies.get(partition.index());
        found.map_or_else(Latency::default, |histogram| Latency {
            p50_us: histogram.percentile_us(0.5),
            p99_us: histogram.percentile_us(0.99),
        })
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let traffic = &self.traffic;
        if let Some(histogram) = traffic.latencies.get(self.partition.index()) {
            histogram.record_ns(traffic.clock.monotonic_ns().saturating_sub(self.started_ns));
        }
        traffic.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::RealClock;

    const FIRST: PartitionId = PartitionId(0);

    #[test]
    fn a_drain_waits_for_what_is_under_way_and_lets_nothing_in() {
        let traffic = Traffic::new(RealClock::new(), 1);
        let passage = traffic.enter(FIRST).expect("nothing is shut yet");
        assert_eq!(traffic.drain(Duration::from_millis(5)), 1);
        assert!(traffic.enter(FIRST).is_none() && traffic.is_shut());
        let ending = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(passage);
        });
        assert_eq!(traffic.drain(Duration::from_secs(60)), 0);
        ending.join().unwrap();
    }

    #[test]
    fn latencies_are_those_of_the_partition() {
        let traffic = Traffic::new(RealClock::new(), 2);
        let passage = traffic.enter(PartitionId(1)).unwrap();
        std::thread::sleep(Duration::from_millis(3));
        drop(passage);
        assert_eq!(traffic.latency(FIRST), Latency::default());
        assert!(traffic.latency(PartitionId(1)).p50_us >= 2000);
    }
}
