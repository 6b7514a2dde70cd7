//! Whether a queue's thread stands back behind others who want its processor. Owns when; how it is done it is told.
//!
//! A thread that answers a request wakes its caller. If other processors are idle, the scheduler puts the caller on one of them, since this one is busy
//! with us for another microsecond: waking that processor costs more than all the rest, at every single request. A processor that has
//! nothing but threads of the class IDLE counts as free, so behind a thread that stands back the caller stays where it is. But where
//! others do want the processor, such a thread waits for it, and with it all its callers (an fsync took five times as long beside compilers).
//!
//! So it stands back as long as that costs nothing: every so many requests it looks how long it had to wait for the processor. If that was long it stops standing
//! back, and tries again later; later each time, as long as trying goes wrong. Nor does a thread stand back that asks the disk: the threads that the
//! kernel makes for that are of its class.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Stands back (true) or stops standing back; false if that can't be done.
pub type StandBack = fn(bool) -> bool;

/// Requests between two looks.
const REQUESTS: u32 = 256;
/// How long a thread may have waited for its processor, for each request, in nanoseconds: more than a caller gains by staying where it is.
const WAIT_NS_MAX: u64 = 5_000;
/// Looks that a thread waits before it stands back again.
const PATIENCE_MIN: u32 = 4;
const PATIENCE_MAX: u32 = 1024;

/// The manners of one thread.
pub(super) struct Manners {
    stand_back: StandBack,
    /// How long this thread has waited for the processor, as the kernel counts it.
    waited: File,
    counted_ns: u64,
    requests: u32,
    policy: Policy,
}

/// When to stand back, from how long was waited: pure.
#[derive(Debug, PartialEq, Eq)]
struct Policy {
    back: bool,
    /// Looks until it stands back again.
    left: u32,
    patience: u32,
}

impl Policy {
    fn new() -> Self {
        Policy { back: true, left: 0, patience: PATIENCE_MIN }
    }

    /// For a while it doesn't stand back.
    fn stop(&mut self) {
        self.back = false;
        self.left = self.left.max(PATIENCE_MIN);
    }

    /// Whether to stand back from now on.
    fn look(&mut self, wait_ns: u64) -> bool {
        let waited = wait_ns > WAIT_NS_MAX;
        match (self.back, waited) {
            (true, true) => {
                self.back = false;
                self.left = self.patience;
                self.patience = (self.patience * 2).min(PATIENCE_MAX);
            }
            (true, false) => self.patience = (self.patience / 2).max(PATIENCE_MIN),
            // Others want the processor still.
            (false, true) => {}
            (false, false) => {
                self.left = self.left.saturating_sub(1);
                self.back = self.left == 0;
            }
        }
        self.back
    }
}

impl Manners {
    /// Of the calling thread, which from now on stands back. None if it can't, or the kernel doesn't count what it waits.
    pub(super) fn of_this_thread(stand_back: StandBack) -> Option<Self> {
        let waited = File::open("/proc/thread-self/schedstat").ok()?;
        let counted_ns = waited_ns(&waited)?;
        stand_back(true).then(|| Manners {
            stand_back,
            waited,
            counted_ns,
            requests: 0,
            policy: Policy::new(),
        })
    }

    /// To be called for each request; `asks_disk`: something will be asked of the disk with the thread's next call.
    pub(super) fn served(&mut self, asks_disk: bool) {
        if asks_disk {
            if self.policy.back {
                (self.stand_back)(false);
            }
            self.policy.stop();
        }
        self.requests += 1;
        if self.requests < REQUESTS {
            return;
        }
        let Some(now_ns) = waited_ns(&self.waited) else { return };
        let each_ns = now_ns.saturating_sub(self.counted_ns) / u64::from(std::mem::take(&mut self.requests));
        self.counted_ns = now_ns;
        let before = self.policy.back;
        if self.policy.look(each_ns) != before {
            (self.stand_back)(!before);
        }
    }
}

/// The second number of the file.
fn waited_ns(file: &File) -> Option<u64> {
    let mut text = [0; 64];
    let length = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_stops_standing_back_and_tries_again_later_each_time() {
        let mut policy = Policy::new();
        assert!(policy.look(0) && policy.look(WAIT_NS_MAX), "it costs nothing");
        let mut tries = Vec::new();
        for _ in 0..4 {
            assert!(!policy.look(1_000_000));
            // As long as others want the processor nothing is tried.
            assert!((0..100).all(|_| !policy.look(1_000_000)));
            tries.push((1..).find(|_| policy.look(0)).unwrap());
        }
        assert_eq!(tries, [4, 8, 16, 32]);
        (0..20).for_each(|_| assert!(policy.look(0)));
        assert_eq!(policy, Policy::new(), "all is forgotten");
    }

    #[test]
    fn a_thread_looks_now_and_then() {
        let mut manners = Manners::of_this_thread(|_| true).expect("Linux counts what a thread waits");
        (0..10 * REQUESTS).for_each(|_| manners.served(false));
        assert!(manners.requests < REQUESTS);
        manners.served(true);
        assert!(!manners.policy.back && manners.policy.left >= PATIENCE_MIN);
        assert!(Manners::of_this_thread(|_| false).is_none(), "it can't stand back");
    }
}
