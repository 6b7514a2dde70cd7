//! Operations on their way: whether new ones are still taken, how many are under way, how long they take, and where the time of slow ones goes.
//!
//! A store may only be closed when nothing is under way: closing cuts the logs to their length, and what was acknowledged behind that
//! would be gone. A mount that was told to end may still be in use by whoever has a file open, so the way in is shut first.

use super::journal::{Entry, Journal};
use super::operation::{self, Operation};
use crate::engine::PartitionId;
use crate::engine::clock::Clock;
use crate::engine::phase::{self, PHASES, Phase};
use crate::engine::stats::{Distribution, Histogram};
use crossbeam_utils::CachePadded;
use std::future::Future;
use std::pin::pin;
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
    journal: Journal,
}

/// One operation; it is over when this is dropped.
pub struct Passage {
    traffic: Arc<Traffic>,
    partition: PartitionId,
    started_ns: u64,
    operation: Operation,
    phases_ns: [u64; PHASES],
    /// What it does now, and since when.
    phase: Phase,
    since_ns: u64,
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
            journal: Journal::default(),
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
        let started_ns = self.clock.monotonic_ns();
        Some(Passage {
            traffic: self.clone(),
            partition,
            started_ns,
            operation: Operation::UNKNOWN,
            phases_ns: [0; PHASES],
            phase: Phase::Queue,
            since_ns: started_ns,
        })
    }

    /// What is remembered of operations that are over.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Somebody wants to know of all operations, for so long.
    pub fn follow(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.journal.follow(self.clock.monotonic_ns().saturating_add(ns));
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

    /// The same in full.
    pub fn distribution(&self, partition: PartitionId) -> Distribution {
        self.latencies.get(partition.index()).map_or_else(Distribution::default, |found| found.distribution())
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

impl Passage {
    /// Runs the operation, and watches where its time goes. It is made here, so that it is kept once.
    pub async fn carry<F: Future<Output = ()>>(mut self, make: impl FnOnce() -> F) {
        let mut operation = pin!(make());
        let mut is_first = true;
        std::future::poll_fn(|context| {
            match is_first && !phase::has_queued() {
                // As soon as it came: a look at the clock less.
                true => self.phase = Phase::Work,
                false => self.goes_on(Phase::Work),
            }
            // What others on this thread may have left.
            phase::of_wait();
            if is_first {
                operation::listen();
            }
            let polled = operation.as_mut().poll(context);
            if std::mem::replace(&mut is_first, false) {
                self.operation = operation::said();
            }
            let waits_for = phase::of_wait();
            // What it did to the end is told when this is dropped, in a moment: a look at the clock less.
            if polled.is_pending() {
                self.goes_on(waits_for);
            }
            polled
        })
        .await;
    }

    /// A phase ends, and this one begins.
    fn goes_on(&mut self, phase: Phase) {
        let now_ns = self.traffic.clock.monotonic_ns();
        self.phases_ns[self.phase as usize] += now_ns.saturating_sub(self.since_ns);
        self.phase = phase;
        self.since_ns = now_ns;
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let phase = self.phase;
        self.goes_on(phase);
        let (traffic, now_ns) = (&self.traffic, self.since_ns);
        let total_ns = now_ns.saturating_sub(self.started_ns);
        if let Some(histogram) = traffic.latencies.get(self.partition.index()) {
            histogram.record_ns(total_ns);
        }
        if traffic.journal.wants(now_ns, total_ns) {
            let (operation, phases_ns) = (self.operation, self.phases_ns);
            let ended_ns = traffic.clock.wall_ns();
            traffic.journal.note(now_ns, Entry { number: 0, ended_ns, operation, total_ns, phases_ns });
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
    fn the_time_of_an_operation_is_taken_apart() {
        use crate::engine::clock::SimClock;
        use crate::fs::types::Inode;
        use std::task::{Context, Waker};
        let clock = SimClock::new();
        let traffic = Traffic::new(clock.clone(), 1);
        traffic.follow(Duration::from_secs(100));
        let passage = traffic.enter(FIRST).unwrap();
        clock.advance(1000);
        let told = clock.clone();
        let mut carried = pin!(passage.carry(|| async move {
            Operation::on_name("lookup", Inode(7), b"name").begins();
            told.advance(200);
            let mut waited = false;
            phase::waiting(
                Phase::Read,
                std::future::poll_fn(|_| match std::mem::replace(&mut waited, true) {
                    true => std::task::Poll::Ready(()),
                    false => std::task::Poll::Pending,
                }),
            )
            .await;
            told.advance(30);
        }));
        let mut context = Context::from_waker(Waker::noop());
        assert!(carried.as_mut().poll(&mut context).is_pending());
        clock.advance(4000);
        assert!(carried.as_mut().poll(&mut context).is_ready());
        let entries = traffic.journal().followed();
        let [entry] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!((entry.operation.what, entry.operation.inode), ("lookup", Inode(7)));
        assert_eq!(entry.total_ns, 5230);
        let spent = |phase: Phase| entry.phases_ns[phase as usize];
        assert_eq!((spent(Phase::Queue), spent(Phase::Work), spent(Phase::Read)), (1000, 230, 4000));
        assert_eq!(entry.phases_ns.iter().sum::<u64>(), entry.total_ns);
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
