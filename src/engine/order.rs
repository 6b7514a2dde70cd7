//! The one order over all partitions: numbers, `settled`, `stable`, commits over several partitions, the latch.
//! Owns what partitions share; knows nothing of keys, files or bytes.
//!
//! Invariants:
//! 1. A number is taken only by who hands its frame to the kernel right after; a lower bound of the debt is published
//!    before the number is taken and withdrawn after the bytes are with the kernel.
//! 2. settled = min(counter, all debts) - 1, where the counter is read *before* the debts. Read the other way round, a number that was
//!    taken in between would be missed.
//! 3. A sync round takes its S while no commit over several partitions is between its first number and its last:
//!    hence no commit has parts on both sides of S.
//! 4. `stable` only ever becomes the S of a finished round, and never shrinks.
//! 5. Once latched, no number is handed out any more.

use super::error::WriteError;
use super::limits::LOOKS_BEFORE_WAITING;
use super::planted::{Bug, planted};
use super::types::{Epoch, Number};
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::task::{Poll, Waker};

const NONE: u64 = u64::MAX;

/// One word of each partition, each on a cache line of its own.
type PerPartition = Box<[CachePadded<AtomicU64>]>;

/// What all partitions of a store share.
pub(crate) struct Order {
    epoch: Epoch,
    /// The next number.
    counter: CachePadded<AtomicU64>,
    /// Lower bound of the numbers that a partition has taken and not yet handed over.
    debts: PerPartition,
    /// The smallest number that answers of a partition wait for.
    waiting: PerPartition,
    /// The smallest number of a partition that was handed over and isn't synced.
    unsynced: PerPartition,
    /// The last number that a partition handed over.
    last: PerPartition,
    stable: CachePadded<AtomicU64>,
    retain_after: AtomicU64,
    commit_counter: AtomicU64,
    spanning: Mutex<Spanning>,
    /// The store is being closed: what was appended is finished, nothing new is appended.
    ending: AtomicBool,
    latched: AtomicBool,
    latch_reason: Mutex<Option<String>>,
}

/// Commits over several partitions, against sync rounds that want to take their S.
#[derive(Default)]
struct Spanning {
    in_flight: usize,
    closing: bool,
    /// The store is being closed: none starts any more.
    ending: bool,
    waiting_to_start: Vec<Waker>,
    waiting_to_close: Option<Waker>,
}

const CLOSED: &str = "it was closed";

/// What is said to who comes when the store is being closed.
pub(crate) fn closed() -> WriteError {
    WriteError::ReadOnly(CLOSED.to_string())
}

fn per_partition(count: usize, value: u64) -> PerPartition {
    (0..count).map(|_| CachePadded::new(AtomicU64::new(value))).collect()
}

impl Order {
    /// `last` holds each partition's last number; all of them are stable.
    pub(crate) fn new(epoch: Epoch, next: Number, last: &[Number]) -> Self {
        let order = Order {
            epoch,
            counter: CachePadded::new(AtomicU64::new(next.0)),
            debts: per_partition(last.len(), NONE),
            waiting: per_partition(last.len(), NONE),
            unsynced: per_partition(last.len(), NONE),
            last: per_partition(last.len(), 0),
            stable: CachePadded::new(AtomicU64::new(next.0 - 1)),
            retain_after: AtomicU64::new(NONE),
            commit_counter: AtomicU64::new(1),
            spanning: Mutex::default(),
            ending: AtomicBool::new(false),
            latched: AtomicBool::new(false),
            latch_reason: Mutex::new(None),
        };
        for (slot, number) in order.last.iter().zip(last) {
            slot.store(number.0, SeqCst);
        }
        order
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The newest number that was taken.
    pub(crate) fn newest(&self) -> Number {
        Number(self.counter.load(SeqCst) - 1)
    }

    pub(crate) fn settled(&self) -> Number {
        let counter = self.counter.load(SeqCst);
        let debt = self.debts.iter().map(|debt| debt.load(SeqCst)).min().unwrap_or(NONE);
        Number(counter.min(debt) - 1)
    }

    /// Whether everything up to the number is handed over, or is so in a moment: what a neighbour's write to the kernel takes.
    pub(crate) fn settles_soon(&self, number: Number) -> bool {
        for _ in 0..LOOKS_BEFORE_WAITING {
            if self.settled() >= number {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    pub(crate) fn stable(&self) -> Number {
        Number(self.stable.load(SeqCst))
    }

    /// Takes `count` numbers for a partition that hands them over next; returns the first.
    pub(crate) fn take(&self, partition: usize, count: u64) -> Number {
        // Whoever reads the counter and finds these numbers taken sees the debt: taking them publishes it.
        self.debts[partition].store(self.counter.load(SeqCst), Relaxed);
        Number(self.counter.fetch_add(count + u64::from(planted(Bug::LeaveGap)), SeqCst))
    }

    /// The numbers from `first` to `last` of a partition are with the kernel now.
    pub(crate) fn handed_over(&self, partition: usize, first: Number, last: Number) {
        // Only the partition's turn writes here; withdrawing the debt publishes it.
        self.last[partition].store(last.0, Relaxed);
        // Unsynced before the debt goes: a round sees one of them.
        let unsynced = &self.unsynced[partition];
        unsynced.store(unsynced.load(Relaxed).min(first.0), Relaxed);
        self.debts[partition].store(NONE, SeqCst);
    }

    pub(crate) fn last_numbers(&self) -> Vec<Number> {
        self.last.iter().map(|last| Number(last.load(SeqCst))).collect()
    }

    /// Publishes the smallest number that a partition's answers wait for.
    pub(crate) fn publish_waiting(&self, partition: usize, number: Option<Number>) {
        let (waiting, number) = (&self.waiting[partition], number.map_or(NONE, |number| number.0));
        // Only the partition's turn writes here, and mostly nobody waits.
        if waiting.load(Relaxed) != number {
            waiting.store(number, SeqCst);
        }
    }

    /// Partitions other than `but` whose answers wait for no more than `settled`.
    pub(crate) fn uncovered(&self, but: usize, settled: Number) -> impl Iterator<Item = usize> {
        let waits = move |(index, waiting): (usize, &CachePadded<AtomicU64>)| {
            (index != but && waiting.load(SeqCst) <= settled.0).then_some(index)
        };
        self.waiting.iter().enumerate().filter_map(waits)
    }

    /// Whether a partition has, or is about to have, something unsynced with a number up to S.
    pub(crate) fn must_sync(&self, partition: usize, s: Number) -> bool {
        // The debt first: it goes only after the other has come.
        self.debts[partition].load(SeqCst) <= s.0 || self.unsynced[partition].load(SeqCst) <= s.0
    }

    /// Whether anything is not synced yet.
    pub(crate) fn anything_unsynced(&self) -> bool {
        self.newest() > self.stable()
    }

    /// A partition has synced; what it handed over meanwhile starts at `first_unsynced`.
    pub(crate) fn synced(&self, partition: usize, first_unsynced: Option<Number>) {
        self.unsynced[partition].store(first_unsynced.map_or(NONE, |number| number.0), SeqCst);
    }

    pub(crate) fn advance_stable(&self, s: Number) {
        self.stable.fetch_max(s.0, SeqCst);
    }

    pub(crate) fn retain_after(&self) -> Number {
        Number(self.retain_after.load(SeqCst))
    }

    pub(crate) fn set_retain_after(&self, number: Number) {
        self.retain_after.store(number.0, SeqCst);
    }

    /// A commit over several partitions starts: waits while a round is closing. None if the store is being closed.
    pub(crate) async fn start_spanning(&self) -> Option<SpanningGuard<'_>> {
        let started = std::future::poll_fn(|context| {
            let mut spanning = self.spanning.lock();
            if spanning.ending {
                return Poll::Ready(false);
            }
            if spanning.closing {
                spanning.waiting_to_start.push(context.waker().clone());
                return Poll::Pending;
            }
            spanning.in_flight += 1;
            Poll::Ready(true)
        })
        .await;
        started.then(|| self.spanning_guard())
    }

    /// The same for who doesn't wait: None while a round is closing.
    pub(crate) fn try_start_spanning(&self) -> Option<SpanningGuard<'_>> {
        let mut spanning = self.spanning.lock();
        if spanning.closing || spanning.ending {
            return None;
        }
        spanning.in_flight += 1;
        drop(spanning);
        Some(self.spanning_guard())
    }

    fn spanning_guard(&self) -> SpanningGuard<'_> {
        let id = u64::from(self.epoch.0) << 40 | self.commit_counter.fetch_add(1, SeqCst);
        SpanningGuard { order: self, id, finished: false }
    }

    /// A round closes, takes its S, and lets commits go on.
    pub(crate) async fn close_and_take_s(&self) -> Number {
        std::future::poll_fn(|context| {
            let mut spanning = self.spanning.lock();
            spanning.closing = true;
            if spanning.in_flight > 0 && !self.is_latched() && !planted(Bug::OpenRound) {
                spanning.waiting_to_close = Some(context.waker().clone());
                return Poll::Pending;
            }
            let s = self.newest();
            spanning.closing = false;
            let wakers = std::mem::take(&mut spanning.waiting_to_start);
            drop(spanning);
            wakers.into_iter().for_each(Waker::wake);
            Poll::Ready(s)
        })
        .await
    }

    fn end_spanning(&self) {
        let mut spanning = self.spanning.lock();
        spanning.in_flight -= 1;
        let waker = if spanning.in_flight == 0 { spanning.waiting_to_close.take() } else { None };
        drop(spanning);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// From now on the store takes no changes, until it is reopened. The first reason stays.
    pub(crate) fn latch(&self, reason: &str) {
        let mut latch_reason = self.latch_reason.lock();
        if latch_reason.is_none() {
            tracing::error!("the store is read-only from now on: {reason}");
            *latch_reason = Some(reason.to_string());
        }
        self.latched.store(true, SeqCst);
        drop(latch_reason);
        if let Some(waker) = self.spanning.lock().waiting_to_close.take() {
            waker.wake();
        }
    }

    /// The store takes no changes from the start, for a reason that is no failure of its own.
    pub(crate) fn begin_read_only(&self, reason: &str) {
        self.latch_reason.lock().get_or_insert_with(|| reason.to_string());
        self.latched.store(true, SeqCst);
    }

    /// The store is being closed: from now on nothing new is appended. What was appended before can still be numbered, handed over and
    /// synced; and a commit over several partitions that has started gets to its end before the next sync round takes its S.
    pub(crate) fn begin_ending(&self) {
        self.spanning.lock().ending = true;
        self.ending.store(true, SeqCst);
    }

    /// An error once nothing may be appended any more.
    pub(crate) fn check_open(&self) -> Result<(), WriteError> {
        self.check()?;
        if self.ending.load(SeqCst) { Err(closed()) } else { Ok(()) }
    }

    /// The store was closed: it takes no changes any more.
    pub(crate) fn close(&self) {
        self.latch_reason.lock().get_or_insert_with(|| CLOSED.to_string());
        self.latched.store(true, SeqCst);
    }

    pub(crate) fn is_latched(&self) -> bool {
        self.latched.load(SeqCst)
    }

    pub(crate) fn latch_reason(&self) -> Option<String> {
        self.latch_reason.lock().clone()
    }

    /// An error once latched.
    pub(crate) fn check(&self) -> Result<(), WriteError> {
        if self.is_latched() {
            return Err(WriteError::ReadOnly(self.latch_reason().unwrap_or_default()));
        }
        Ok(())
    }
}

/// A commit over several partitions under way. Dropped unfinished (a panic, a cancelled operation) it may have left a
/// half of itself in the logs, so the store latches: the next opening removes the half.
pub(crate) struct SpanningGuard<'a> {
    order: &'a Order,
    /// Unique in the life of the store.
    pub(crate) id: u64,
    finished: bool,
}

impl SpanningGuard<'_> {
    /// All parts have their numbers.
    pub(crate) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for SpanningGuard<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.order.latch("a commit over several partitions was interrupted");
        }
        self.order.end_spanning();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_stops_before_the_smallest_debt() {
        let order = Order::new(Epoch(1), Number(1), &[Number(0); 2]);
        assert_eq!(order.settled(), Number(0));
        let a = order.take(0, 2);
        let b = order.take(1, 1);
        assert_eq!((a, b), (Number(1), Number(3)));
        order.handed_over(1, b, b);
        assert_eq!(order.settled(), Number(0), "numbers 1 and 2 aren't with the kernel");
        order.handed_over(0, a, Number(2));
        assert_eq!(order.settled(), Number(3));
        assert!(
            order.must_sync(0, Number(1)) && order.must_sync(1, Number(3)) && !order.must_sync(1, Number(2))
        );
    }
}
