//! What a sync round does, the timer that starts one by itself, and the watermark that follows when the store falls idle.

use super::common::Common;
use super::config::Durability;
use super::fetch::join_all;
use super::planted::{Bug, planted};
use super::shell::Shell;
use super::types::Number;
use std::sync::Arc;

/// How long after a sync a store must have been idle before it writes a watermark.
const WATERMARK_DELAY_NS: u64 = 100_000_000;

impl Common {
    /// Runs rounds until nobody waits for one.
    pub(crate) async fn run_rounds(self: Arc<Self>) {
        loop {
            self.rounds.gather(self.clock.as_ref()).await;
            let started_ns = self.clock.monotonic_ns();
            self.run_round().await;
            let round_ns = self.clock.monotonic_ns() - started_ns;
            if !self.rounds.finished(&self.order, round_ns) {
                return;
            }
        }
    }

    async fn run_round(&self) {
        let _alone = self.rounds.hold().await;
        let s = self.order.close_and_take_s().await;
        if self.order.is_latched() {
            return;
        }
        self.counters.sync_rounds.add(1);
        let shells = (0..self.partition_count()).filter(|index| self.order.must_sync(*index, s));
        let syncs: Vec<_> = shells
            .filter_map(|index| self.shell(index))
            .map(|shell| {
                let inside = shell.clone();
                // In the partition's turn: what it numbered before has been handed over by then.
                shell.submit(async move { inside.sync_logs().await }).fallible()
            })
            .collect();
        for result in join_all(syncs.into_iter()).await {
            let failure = match result {
                Some(Ok(())) => continue,
                Some(Err(_)) if planted(Bug::ForgiveSync) => continue,
                Some(Err(error)) => error.to_string(),
                None => "the sync was interrupted".to_string(),
            };
            // The kernel may have dropped what it couldn't write: trying again would succeed without it.
            return self.latch(&format!("syncing failed: {failure}"));
        }
        // A number up to S may be one whose frame could not be written: its partition had nothing to sync for it.
        if !self.order.is_latched() {
            self.order.advance_stable(s);
        }
    }

    /// Something was handed over: sees to it that it gets synced in time.
    pub(crate) fn note_unsynced(self: &Arc<Self>) {
        let Durability::Interval(interval) = self.config.durability else { return };
        if self.timer.start() {
            let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
            // A timer must not keep a store alive that everybody else has let go of.
            let common = Arc::downgrade(self);
            let clock = self.clock.clone();
            self.spawn(0, async move {
                clock.sleep(interval_ns).await;
                let Some(newest) = sync_by_timer(common.upgrade()).await else { return };
                clock.sleep(WATERMARK_DELAY_NS).await;
                if let Some(common) = common.upgrade() {
                    common.consider_watermark(newest);
                }
            });
        }
    }

    /// If nothing has happened since a sync, a watermark says so.
    fn consider_watermark(&self, synced: Number) {
        let idle = self.order.newest() == synced && self.order.stable() == synced;
        if !idle || self.is_closing() || !self.timer.is_watermark_due(synced) {
            return;
        }
        if let Some(shell) = self.shell(0) {
            let inside = shell.clone();
            shell.submit(async move { inside.write_watermark() }).detach();
        }
    }
}

/// Syncs, because it is time. Returns what is synced; None if the store is closing or failed.
async fn sync_by_timer(common: Option<Arc<Common>>) -> Option<Number> {
    let common = common?;
    // From here on what comes starts a timer of its own.
    common.timer.stop();
    if common.is_closing() {
        return None;
    }
    common.sync().await.ok()?;
    Some(common.order.newest())
}

impl Shell {
    /// Notes what is stable, and the last number of each log, so that damage to the last synced frame is seen too.
    pub(crate) fn write_watermark(&self) {
        self.with(|core| {
            if core.common.order.anything_unsynced() || core.common.order.is_latched() {
                return;
            }
            // The watermark takes a number itself: the next idle moment must not write another for its sake.
            if core.append_watermark().is_some() {
                let own = core.common.order.newest().next();
                core.common.timer.watermark_written(own);
            }
        });
    }
}

/// Whether a timer runs, and for which number the last watermark was written.
#[derive(Default)]
pub(crate) struct Timer {
    running: std::sync::atomic::AtomicBool,
    watermark: std::sync::atomic::AtomicU64,
}

impl Timer {
    fn start(&self) -> bool {
        !self.running.swap(true, std::sync::atomic::Ordering::AcqRel)
    }
    fn stop(&self) {
        self.running.store(false, std::sync::atomic::Ordering::Release);
    }
    fn is_watermark_due(&self, newest: Number) -> bool {
        self.watermark.load(std::sync::atomic::Ordering::Acquire) != newest.0
    }
    fn watermark_written(&self, number: Number) {
        self.watermark.store(number.0, std::sync::atomic::Ordering::Release);
    }
}
