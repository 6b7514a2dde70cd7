//! Memory that the allocator keeps of what was freed, given back to the system when a daemon that had a lot to do has nothing to do any more.
//!
//! glibc's gives back only what lies at the end of a heap: where many small things of different age were (inodes, keys, buffers), it keeps most.

use super::system;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use std::time::Duration;

/// How often to look.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// Who uses less processor time than this between two looks has nothing to do.
const IDLE: Duration = Duration::from_millis(50);
/// Work of less processor time isn't worth it.
const WORTH: Duration = Duration::from_millis(500);

/// Looks now and then.
#[derive(Default)]
pub(super) struct Keeper {
    /// The processor time that the process had used when it was last looked.
    looked: Duration,
    /// And when memory was last given back.
    given_back: Duration,
}

impl Keeper {
    /// To be called every [`LOOK`].
    pub(super) fn look(&mut self) {
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let used = duration(usage.user_time()) + duration(usage.system_time());
            if self.is_due(used) {
                system::give_memory_back();
            }
        }
    }

    fn is_due(&mut self, used: Duration) -> bool {
        let is_idle = used.saturating_sub(self.looked) < IDLE;
        self.looked = used;
        let is_due = is_idle && used.saturating_sub(self.given_back) > WORTH;
        if is_due {
            self.given_back = used;
        }
        is_due
    }
}

fn duration(time: TimeVal) -> Duration {
    Duration::from_micros(u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_work_and_not_in_its_middle_nor_again() {
        let mut keeper = Keeper::default();
        let mut is_due = |ms| keeper.is_due(Duration::from_millis(ms));
        assert!(!is_due(20), "it has done nothing yet");
        assert!(!is_due(2000) && !is_due(4000), "it works");
        assert!(is_due(4010), "it has just ended");
        assert!(!is_due(4020) && !is_due(4030), "nothing has happened since");
        assert!(!is_due(4400) && !is_due(4410), "too little has");
        assert!(!is_due(4900) && is_due(4900));
    }
}
