//! When compaction runs, how fast, and whom it lets go first. By the store's clock, so that a simulator decides too.

use super::victims::Worth;
use super::{CompactionPhase, Failure, Run};
use crate::engine::shell::Shell;
use parking_lot::Mutex;
use std::sync::Arc;
use std::task::Poll;

/// How long a failure puts automatic compaction off.
const GIVEN_UP_NS: u64 = 2_000_000_000;
/// The longest that it sleeps without looking around: for the store's closing, and for another rate.
const NAP_NS: u64 = 100_000_000;
/// How long it waits at a time for others who are busy.
const BUSY_NAP_NS: u64 = 200_000;
/// How often it does that before it takes a slice all the same: without an end, a busy store would never get its space back.
const BUSY_NAPS_MAX: usize = 20;

/// For so long after something was done for others they count as being there.
const PRESENT_NS: u64 = 20_000_000;

/// Bytes that may be worked through in a second, in all partitions together.
#[derive(Default)]
pub(crate) struct Pace {
    /// When all that was taken is paid for, by the store's clock.
    paid_ns: Mutex<u64>,
    others: Mutex<Others>,
}

/// Whoever else uses the store.
#[derive(Default)]
struct Others {
    /// How many operations there had been when it was last looked.
    operations: u64,
    /// When that had last changed.
    changed_ns: Option<u64>,
}

impl Others {
    fn are_there(&mut self, now_ns: u64, operations: u64) -> bool {
        if operations != self.operations {
            (self.operations, self.changed_ns) = (operations, Some(now_ns));
        }
        self.changed_ns.is_some_and(|changed_ns| now_ns.saturating_sub(changed_ns) < PRESENT_NS)
    }
}

impl Pace {
    /// Takes so many bytes; returns when they are paid for.
    fn take(&self, now_ns: u64, bytes: u64, bytes_per_second: u64) -> u64 {
        let cost_ns = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second.max(1));
        let mut paid_ns = self.paid_ns.lock();
        *paid_ns = (*paid_ns).max(now_ns).saturating_add(u64::try_from(cost_ns).unwrap_or(u64::MAX));
        *paid_ns
    }

    /// The rate has changed: what was taken before is forgiven.
    fn forgive(&self, now_ns: u64) {
        let mut paid_ns = self.paid_ns.lock();
        *paid_ns = (*paid_ns).min(now_ns);
    }
}

impl Shell {
    /// Starts a compaction if one is due and allowed; if it is allowed later, then.
    pub(crate) fn consider_compaction(self: &Arc<Self>) {
        let (common, tuning) = (&self.common, &self.common.tuning);
        let allowed = tuning.auto_compact() && !tuning.is_paused() && !common.is_closing();
        if !allowed || common.order.is_latched() || self.with(|core| core.compaction.is_running()) {
            return;
        }
        // What lives is left where it is: to copy it all once more would be a high price for the space of headers.
        let worth = Worth { dead_ratio: tuning.threshold(), packs: false };
        let now_ns = common.clock.monotonic_ns();
        let (due, given_up) = self.with(|core| {
            let state = &core.compaction;
            let due = state.leftovers.is_some() || !core.victims(worth).is_empty();
            (due, state.given_up_until_ns > now_ns)
        });
        if !due {
            // Nor is there anything left to be in trouble with.
            self.progress().set_trouble(None);
            return self.progress().set_phase(CompactionPhase::Idle);
        }
        // Tried again when something happens: by itself, it would fail again and again.
        if given_up {
            return;
        }
        let wait_ns = self.wait_ns(now_ns);
        if wait_ns > 0 {
            self.progress().set_phase(CompactionPhase::Waiting);
            return self.consider_later(wait_ns);
        }
        let shell = self.clone();
        self.submit(async move { shell.compact(false, worth).await }).detach();
    }

    /// How long until an automatic compaction may start.
    fn wait_ns(&self, now_ns: u64) -> u64 {
        if self.is_urgent() {
            return 0;
        }
        let delay_ns = u64::try_from(self.common.config.compact_start_delay.as_nanos()).unwrap_or(u64::MAX);
        let starts_ns = self.common.opened_ns.saturating_add(delay_ns);
        let rested_ns = self.with(|core| core.compaction.rests_until_ns);
        let rest_ns = starts_ns.max(rested_ns).saturating_sub(now_ns);
        rest_ns.max(self.window_wait_ns())
    }

    /// Whether somebody waits for space.
    fn is_urgent(&self) -> bool {
        self.with(|core| core.spares.failure.is_some())
    }

    /// How long until the window opens; 0 if it is open, or there is none, or the disk is full.
    pub(super) fn window_wait_ns(&self) -> u64 {
        match self.common.tuning.window() {
            Some(window) if !self.is_urgent() => window.wait_ns(self.common.clock.wall_ns()),
            _ => 0,
        }
    }

    fn consider_later(self: &Arc<Self>, wait_ns: u64) {
        if self.with(|core| std::mem::replace(&mut core.compaction.timer, true)) {
            return;
        }
        // A timer must not keep a store alive that everybody else has let go of.
        let (shell, clock) = (Arc::downgrade(self), self.common.clock.clone());
        self.common.spawn(self.id.index(), async move {
            clock.sleep(wait_ns).await;
            if let Some(shell) = shell.upgrade() {
                shell.with(|core| core.compaction.timer = false);
                shell.consider_compaction();
            }
        });
    }

    /// After a run: a rest, and a longer one after a failure.
    pub(super) fn rest(&self, failure: Option<&Failure>) {
        let now_ns = self.common.clock.monotonic_ns();
        let rests_until_ns = now_ns.saturating_add(self.common.tuning.cooldown_ns());
        self.with(|core| core.compaction.rests_until_ns = rests_until_ns);
        let Some(failure) = failure else { return };
        if matches!(failure, Failure::Closing) {
            return;
        }
        tracing::warn!("partition {}: compaction gave up: {failure}", self.id);
        self.progress().set_trouble(Some(failure.to_string()));
        self.with(|core| {
            core.counters.compaction_failures.add(1);
            core.compaction.given_up_until_ns = now_ns.saturating_add(GIVEN_UP_NS);
        });
    }

    /// After so many bytes were worked through: waits as long as the rate demands.
    pub(super) async fn pay(&self, bytes: u64, run: &Run) -> Result<(), Failure> {
        self.progress().done(bytes);
        self.wait_for_rate(bytes, run).await
    }

    /// What holds now, in bytes a second; None is without limit. By hand, it holds only as long as somebody else uses the store; not at all
    /// while others wait for the space.
    fn rate(&self, run: &Run) -> Option<u64> {
        let common = &self.common;
        if run.tight {
            return None;
        }
        let rate = Some(common.tuning.bytes_per_second()).filter(|rate| *rate > 0)?;
        if !run.by_hand {
            return Some(rate);
        }
        let counted = common.partition_counters.iter();
        let operations = counted.map(|counters| {
            counters.read_sum(|reads| &reads.gets) + counters.puts.get() + counters.deletes.get()
        });
        let now_ns = common.clock.monotonic_ns();
        common.pace.others.lock().are_there(now_ns, operations.sum()).then_some(rate)
    }

    pub(super) async fn wait_for_rate(&self, bytes: u64, run: &Run) -> Result<(), Failure> {
        let common = &self.common;
        let Some(rate) = self.rate(run) else { return Ok(()) };
        let paid_ns = common.pace.take(common.clock.monotonic_ns(), bytes, rate);
        loop {
            let now_ns = common.clock.monotonic_ns();
            if now_ns >= paid_ns {
                return Ok(());
            }
            if common.is_closing() {
                return Err(Failure::Closing);
            }
            if self.rate(run) != Some(rate) {
                common.pace.forgive(now_ns);
                return Ok(());
            }
            common.clock.sleep((paid_ns - now_ns).min(NAP_NS)).await;
        }
    }

    /// Waits while compaction is paused, or until the store is closing.
    pub(super) async fn wait_until_resumed(&self) {
        std::future::poll_fn(|context| match self.common.tuning.poll_resumed(context) {
            // Looked at after we can be woken: closing wakes who waits.
            Poll::Pending if self.common.is_closing() => Poll::Ready(()),
            other => other,
        })
        .await;
    }

    /// Between slices: stops while compaction is paused, and lets those go first who want something of the partition.
    pub(super) async fn breathe(&self, run: &Run) -> Result<(), Failure> {
        let common = &self.common;
        if !run.tight {
            self.wait_until_resumed().await;
        }
        yield_now().await;
        for _ in 0..BUSY_NAPS_MAX {
            if common.is_closing() || self.turn.mail_count() == 0 {
                break;
            }
            common.clock.sleep(BUSY_NAP_NS).await;
        }
        if common.is_closing() { Err(Failure::Closing) } else { Ok(()) }
    }
}

/// Lets all mail that waits now go first.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_paid_for_in_time() {
        let pace = Pace::default();
        assert_eq!(pace.take(100, 500, 1_000_000_000), 600);
        // Another partition stands in the same queue.
        assert_eq!(pace.take(200, 500, 1_000_000_000), 1100);
        // Time that nobody used is gone.
        assert_eq!(pace.take(5000, 1, 1_000_000_000), 5001);
        assert_eq!(pace.take(6000, u64::MAX, 1), u64::MAX);
        pace.forgive(7000);
        assert_eq!(pace.take(8000, 1, 1_000_000_000), 8001);
    }
}
