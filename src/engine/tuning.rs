//! Settings of compaction that may change while the store runs. Owns their values and who waits for a pause to end; knows nothing of what they
//! are used for. Read inside the turns and changed from anywhere, so each is one word.

use super::config::Config;
use super::window::Window;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A change of one setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tune {
    /// See [`Config::auto_compact`].
    AutoCompact(bool),
    /// See [`Config::compact_threshold`].
    CompactThreshold(f64),
    /// See [`Config::compact_bytes_per_second`].
    CompactBytesPerSecond(u64),
    /// See [`Config::compact_cooldown`].
    CompactCooldown(Duration),
    /// See [`Config::compact_window`].
    CompactWindow(Option<Window>),
    /// Holds all compaction where it is, or lets it go on. Nothing is started meanwhile.
    Paused(bool),
}

/// No window.
const ALWAYS: u64 = u64::MAX;

#[derive(Default)]
pub(crate) struct Tuning {
    auto_compact: AtomicBool,
    threshold_bits: AtomicU64,
    bytes_per_second: AtomicU64,
    cooldown_ns: AtomicU64,
    window: AtomicU64,
    paused: AtomicBool,
    held: Mutex<Vec<Waker>>,
}

impl Tuning {
    pub(crate) fn new(config: &Config) -> Self {
        let tuning = Tuning::default();
        tuning.change(Tune::AutoCompact(config.auto_compact));
        tuning.change(Tune::CompactThreshold(config.compact_threshold));
        tuning.change(Tune::CompactBytesPerSecond(config.compact_bytes_per_second));
        tuning.change(Tune::CompactCooldown(config.compact_cooldown));
        tuning.change(Tune::CompactWindow(config.compact_window));
        tuning
    }

    pub(crate) fn change(&self, change: Tune) {
        match change {
            Tune::AutoCompact(auto) => self.auto_compact.store(auto, Relaxed),
            Tune::CompactThreshold(threshold) => self.threshold_bits.store(threshold.to_bits(), Relaxed),
            Tune::CompactBytesPerSecond(bytes) => self.bytes_per_second.store(bytes, Relaxed),
            Tune::CompactCooldown(time) => {
                self.cooldown_ns.store(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
            }
            Tune::CompactWindow(window) => {
                let word = window.map_or(ALWAYS, |window| {
                    let (from, to) = window.minutes();
                    u64::from(from) << 16 | u64::from(to)
                });
                self.window.store(word, Relaxed);
            }
            Tune::Paused(paused) => {
                // Under the lock: who is about to wait sees it, or is woken.
                let mut held = self.held.lock();
                self.paused.store(paused, Relaxed);
                let woken = if paused { Vec::new() } else { std::mem::take(&mut *held) };
                drop(held);
                woken.into_iter().for_each(Waker::wake);
            }
        }
    }

    pub(crate) fn all(&self) -> [Tune; 6] {
        [
            Tune::AutoCompact(self.auto_compact()),
            Tune::CompactThreshold(self.threshold()),
            Tune::CompactBytesPerSecond(self.bytes_per_second()),
            Tune::CompactCooldown(Duration::from_nanos(self.cooldown_ns())),
            Tune::CompactWindow(self.window()),
            Tune::Paused(self.is_paused()),
        ]
    }

    pub(crate) fn auto_compact(&self) -> bool {
        self.auto_compact.load(Relaxed)
    }
    pub(crate) fn threshold(&self) -> f64 {
        f64::from_bits(self.threshold_bits.load(Relaxed))
    }
    pub(crate) fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second.load(Relaxed)
    }
    pub(crate) fn cooldown_ns(&self) -> u64 {
        self.cooldown_ns.load(Relaxed)
    }
    pub(crate) fn window(&self) -> Option<Window> {
        match self.window.load(Relaxed) {
            ALWAYS => None,
            word => Window::new((word >> 16) as u16, word as u16),
        }
    }
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    /// Ready when nothing is paused.
    pub(crate) fn poll_resumed(&self, context: &Context<'_>) -> Poll<()> {
        let mut held = self.held.lock();
        if !self.is_paused() {
            return Poll::Ready(());
        }
        held.push(context.waker().clone());
        Poll::Pending
    }

    /// Wakes who waits for a pause to end, to look whether there is another reason to go on.
    pub(crate) fn wake_held(&self) {
        let held = std::mem::take(&mut *self.held.lock());
        held.into_iter().for_each(Waker::wake);
    }
}
