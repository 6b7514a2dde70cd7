//! What a sync round does, the timer that starts one by itself, and the watermark that follows when the store falls idle.

use super::common::Common;
use super::config::Durability;
use super::fetch::join_all;
use super::shell::Shell;
use std::sync::Arc;

/// How long after a sync a store must have been idle before it writes a watermark.
const WATERMARK_DELAY_NS: u64 = 100_000_000;

impl Common {
    /// Runs rounds until nobody waits for one.
    pub(crate) async fn run_rounds(self: Arc<Self>) {
        loop {
            self.run_round().await;
            if !self.rounds.finished(&self.order) {
                return;
            }
        }
    }

    async fn run_round(&self) {
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
                Some(Err(error)) => error.to_string(),
                None => "the sync was interrupted".to_string(),
            };
            // The kernel may have dropped what it couldn't write: trying again would succeed without it.
            return self.latch(&format!("syncing failed: {failure}"));
        }
        self.order.advance_stable(s);
    }

    /// Something was handed over: sees to it that it gets synced in time.
    pub(crate) fn note_unsynced(self: &Arc<Self>) {
        let Durability::Interval(interval) = self.config.durability else { return };
        if self.timer.start() {
            let common = self.clone();
            let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
            self.spawn(0, async move { common.sync_after(interval_ns).await });
        }
    }

    async fn sync_after(self: Arc<Self>, interval_ns: u64) {
        self.clock.sleep(interval_ns).await;
        // From here on what comes starts a timer of its own.
        self.timer.stop();
        if self.is_closing() || self.sync().await.is_err() {
            return;
        }
        let newest = self.order.newest();
        self.clock.sleep(WATERMARK_DELAY_NS).await;
        let idle = self.order.newest() == newest && self.order.stable() == newest;
        if idle && !self.is_closing() && self.timer.is_watermark_due(newest) {
            let Some(shell) = self.shell(0) else { return };
            let inside = shell.clone();
            shell.submit(async move { inside.write_watermark() }).detach();
        }
    }
}

impl Shell {
    /// Notes what is stable, and the last number of each log, so that damage to the last synced frame is seen too.
    pub(crate) fn write_watermark(&self) {
        self.with(|core| {
            if core.common.order.anything_unsynced() {
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
    fn is_watermark_due(&self, newest: super::types::Number) -> bool {
        self.watermark.load(std::sync::atomic::Ordering::Acquire) != newest.0
    }
    fn watermark_written(&self, number: super::types::Number) {
        self.watermark.store(number.0, std::sync::atomic::Ordering::Release);
    }
}
