//! How far the opening of a store is, for openings that take long. Counts bytes of segments, each twice: once when what it holds has been read, once when
//! it is in the keydir. Who reads it, and how it is shown, is for others to say.

use super::clock::Clock;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How often is told how far it is, in nanoseconds; what takes less time isn't told of at all.
const TOLD_EVERY_NS: u64 = 2_000_000_000;

/// How far an opening is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpeningStats {
    /// How much has been worked through, in bytes.
    pub bytes_done: u64,
    /// How much there is, as far as known, in bytes.
    pub bytes_total: u64,
    /// How long it has taken, in nanoseconds.
    pub elapsed_ns: u64,
}

impl OpeningStats {
    /// How much of it is done, 0 to 1.
    pub fn share(&self) -> f64 {
        (self.bytes_done as f64 / self.bytes_total.max(1) as f64).min(1.0)
    }

    /// How long it will take yet if it goes on like this, in seconds.
    pub fn seconds_left(&self) -> f64 {
        let share = self.share().max(f64::EPSILON);
        self.elapsed_ns as f64 / 1e9 * (1.0 - share) / share
    }
}

impl fmt::Display for OpeningStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, gigabytes) = (self.share() * 100.0, self.bytes_total as f64 / 2e9);
        write!(f, "{percent:.0} % of {gigabytes:.1} GB of segments, {:.0} s left", self.seconds_left().ceil())
    }
}

type See = dyn Fn(&OpeningStats) + Send + Sync;

/// Whoever wants to know how far an opening is.
#[derive(Clone, Default)]
pub struct OpeningWatch(Option<Arc<See>>);

impl OpeningWatch {
    /// Calls `see` every two seconds while a store is being opened, from any thread.
    pub fn new(see: impl Fn(&OpeningStats) + Send + Sync + 'static) -> Self {
        OpeningWatch(Some(Arc::new(see)))
    }
}

impl fmt::Debug for OpeningWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "OpeningWatch(somebody)" } else { "OpeningWatch(nobody)" })
    }
}

/// An opening under way.
pub(crate) struct Opening {
    clock: Arc<dyn Clock>,
    watch: OpeningWatch,
    started_ns: u64,
    told_ns: Mutex<u64>,
    done: AtomicU64,
    total: AtomicU64,
}

impl Opening {
    pub(crate) fn begin(clock: Arc<dyn Clock>, watch: OpeningWatch) -> Self {
        let started_ns = clock.monotonic_ns();
        let (done, total) = (AtomicU64::new(0), AtomicU64::new(0));
        Opening { clock, watch, started_ns, told_ns: Mutex::new(started_ns), done, total }
    }

    /// There are so many bytes of segments more.
    pub(crate) fn expect(&self, bytes: u64) {
        self.total.fetch_add(2 * bytes, Relaxed);
    }

    /// So many have been read, or are in the keydir.
    pub(crate) fn did(&self, bytes: u64) {
        let bytes_done = self.done.fetch_add(bytes, Relaxed) + bytes;
        let now_ns = self.clock.monotonic_ns();
        // Who finds another one telling has nothing newer to say.
        let Some(mut told_ns) = self.told_ns.try_lock() else { return };
        if now_ns.saturating_sub(*told_ns) < TOLD_EVERY_NS {
            return;
        }
        *told_ns = now_ns;
        let elapsed_ns = now_ns.saturating_sub(self.started_ns);
        let stats = OpeningStats { bytes_done, bytes_total: self.total.load(Relaxed), elapsed_ns };
        tracing::info!("opening: {stats}");
        if let Some(see) = &self.watch.0 {
            see(&stats);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::SimClock;

    #[test]
    fn only_what_takes_long_is_told_of() {
        let clock = SimClock::new();
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = told.clone();
        let watch = OpeningWatch::new(move |stats| seen.lock().push(stats.to_string()));
        let opening = Opening::begin(clock.clone(), watch);
        opening.expect(2_000_000_000);
        for _ in 0..8 {
            opening.did(250_000_000);
            clock.advance(500_000_000);
        }
        assert_eq!(*told.lock(), ["31 % of 2.0 GB of segments, 5 s left"]);
        clock.advance(10_000_000_000);
        opening.did(2_000_000_000);
        assert_eq!(told.lock().last().unwrap(), "100 % of 2.0 GB of segments, 0 s left");
    }
}
