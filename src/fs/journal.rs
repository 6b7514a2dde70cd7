//! Operations that are over, as far as somebody wants to know of them: slow ones always, all of them while somebody follows.

use super::operation::Operation;
use crate::engine::phase::PHASES;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How many slow operations are remembered.
pub const SLOW_KEPT: usize = 128;
/// How many operations are remembered while somebody follows.
pub const FOLLOWED_KEPT: usize = 4096;
/// How slow an operation must be unless told otherwise.
pub const THRESHOLD_DEFAULT: Duration = Duration::from_millis(100);

/// An operation that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Counts them: one that is missing was forgotten before it could be seen.
    pub number: u64,
    /// When it was over, in nanoseconds since 1970.
    pub ended_ns: i64,
    /// What it was.
    pub operation: Operation,
    /// How long it took, from being taken to being answered, in nanoseconds.
    pub total_ns: u64,
    /// How much of that was spent with what; in the order of the phases' numbers.
    pub phases_ns: [u64; PHASES],
}

#[derive(Default)]
struct Kept {
    count: u64,
    entries: VecDeque<Entry>,
}

impl Kept {
    fn keep(&mut self, mut entry: Entry, count_max: usize) {
        self.count += 1;
        entry.number = self.count;
        if self.entries.len() == count_max {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }
}

/// What is remembered.
pub struct Journal {
    /// 0: nothing is slow.
    threshold_ns: AtomicU64,
    /// By the clock of the operations; 0: nobody follows.
    followed_until_ns: AtomicU64,
    slow: Mutex<Kept>,
    followed: Mutex<Kept>,
}

impl Default for Journal {
    fn default() -> Self {
        let journal = Journal {
            threshold_ns: AtomicU64::new(0),
            followed_until_ns: AtomicU64::new(0),
            slow: Mutex::default(),
            followed: Mutex::default(),
        };
        journal.set_threshold(THRESHOLD_DEFAULT);
        journal
    }
}

impl Journal {
    /// From which time on an operation is slow; zero: none is.
    pub fn threshold(&self) -> Duration {
        Duration::from_nanos(self.threshold_ns.load(Relaxed))
    }

    /// Changes that.
    pub fn set_threshold(&self, threshold: Duration) {
        self.threshold_ns.store(u64::try_from(threshold.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The last slow operations, oldest first.
    pub fn slow(&self) -> Vec<Entry> {
        self.slow.lock().entries.iter().copied().collect()
    }

    /// How many slow ones there were.
    pub fn slow_count(&self) -> u64 {
        self.slow.lock().count
    }

    /// The last operations, oldest first; those of the time when somebody followed.
    pub fn followed(&self) -> Vec<Entry> {
        self.followed.lock().entries.iter().copied().collect()
    }

    /// Somebody follows until then, by the clock of the operations.
    pub(super) fn follow(&self, until_ns: u64) {
        self.followed_until_ns.fetch_max(until_ns, Relaxed);
    }

    /// Whether an operation that is over at a moment of the clock is wanted.
    pub(super) fn wants(&self, now_ns: u64, total_ns: u64) -> bool {
        self.is_slow(total_ns) || self.is_followed(now_ns)
    }

    fn is_slow(&self, total_ns: u64) -> bool {
        let threshold_ns = self.threshold_ns.load(Relaxed);
        threshold_ns > 0 && total_ns >= threshold_ns
    }

    fn is_followed(&self, now_ns: u64) -> bool {
        let until_ns = self.followed_until_ns.load(Relaxed);
        if until_ns == 0 {
            return false;
        }
        if now_ns > until_ns {
            self.stop_following(until_ns);
        }
        now_ns <= until_ns
    }

    /// What was kept for those who followed goes, unless somebody has begun again.
    fn stop_following(&self, until_ns: u64) {
        if self.followed_until_ns.compare_exchange(until_ns, 0, Relaxed, Relaxed).is_ok() {
            self.followed.lock().entries = VecDeque::new();
        }
    }

    /// Remembers an operation that is [wanted](Self::wants).
    pub(super) fn note(&self, now_ns: u64, entry: Entry) {
        if self.is_slow(entry.total_ns) {
            self.slow.lock().keep(entry, SLOW_KEPT);
        }
        if self.is_followed(now_ns) {
            self.followed.lock().keep(entry, FOLLOWED_KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(total_ns: u64) -> Entry {
        Entry { number: 0, ended_ns: 0, operation: Operation::UNKNOWN, total_ns, phases_ns: [0; PHASES] }
    }

    #[test]
    fn slow_ones_are_kept_the_last_of_them() {
        let journal = Journal::default();
        assert!(!journal.wants(0, 99_999_999) && journal.wants(0, 100_000_000));
        journal.set_threshold(Duration::from_nanos(5));
        for total_ns in 0..200 {
            if journal.wants(0, total_ns) {
                journal.note(0, entry(total_ns));
            }
        }
        let slow = journal.slow();
        assert_eq!((slow.len(), slow[0].total_ns, slow[127].total_ns), (128, 72, 199));
        assert_eq!((slow[127].number, journal.slow_count()), (195, 195));
        journal.set_threshold(Duration::ZERO);
        assert!(!journal.wants(0, u64::MAX), "zero switches it off");
    }

    #[test]
    fn only_while_somebody_follows() {
        let journal = Journal::default();
        journal.note(1, entry(7));
        assert!(!journal.wants(1, 7) && journal.followed().is_empty());
        journal.follow(10);
        // Who follows a shorter time doesn't end another's.
        journal.follow(5);
        assert!(journal.wants(10, 7));
        journal.note(10, entry(7));
        assert_eq!(journal.followed()[0].number, 1);
        assert!(!journal.wants(11, 7));
        assert!(journal.followed().is_empty(), "what nobody follows takes no memory");
        journal.follow(20);
        journal.note(20, entry(7));
        assert_eq!(journal.followed()[0].number, 2, "whoever comes back sees that something is missing");
    }
}
