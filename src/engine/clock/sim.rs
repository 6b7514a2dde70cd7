//! Time that stands still until the simulator moves it. Owns who sleeps; knows nothing of why.

use super::{Clock, Sleep};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Where the wall clock stands when simulated time begins, in nanoseconds since 1970.
const WALL_START_NS: i64 = 1_700_000_000_000_000_000;

/// A clock that is moved by hand.
#[derive(Default)]
pub struct SimClock {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    now_ns: u64,
    /// Who waits, by deadline and, for equal ones, by who came first.
    waiting: BTreeMap<(u64, u64), Option<Waker>>,
    tickets: u64,
}

impl SimClock {
    /// A clock at 0.
    pub fn new() -> Arc<Self> {
        Arc::new(SimClock::default())
    }

    /// When the next sleeper's time comes, on the clock's own scale; None if nobody sleeps.
    pub fn next_deadline(&self) -> Option<u64> {
        self.shared.lock().waiting.keys().next().map(|(deadline_ns, _)| *deadline_ns)
    }

    /// Moves time on by so many nanoseconds and wakes whose time has come, in the order of their deadlines.
    pub fn advance(&self, duration_ns: u64) {
        let mut shared = self.shared.lock();
        shared.now_ns += duration_ns;
        let later_than_now = (shared.now_ns + 1, 0);
        let later = shared.waiting.split_off(&later_than_now);
        let due = std::mem::replace(&mut shared.waiting, later);
        drop(shared);
        due.into_values().flatten().for_each(Waker::wake);
    }

    /// Moves time on to the next deadline; false if there is none.
    pub fn advance_to_next(&self) -> bool {
        let Some(deadline_ns) = self.next_deadline() else { return false };
        self.advance(deadline_ns.saturating_sub(self.monotonic_ns()));
        true
    }
}

impl Clock for SimClock {
    fn monotonic_ns(&self) -> u64 {
        self.shared.lock().now_ns
    }

    fn wall_ns(&self) -> i64 {
        WALL_START_NS + self.shared.lock().now_ns as i64
    }

    fn sleep(&self, duration_ns: u64) -> Sleep {
        let deadline_ns = self.monotonic_ns().saturating_add(duration_ns);
        Box::pin(Sleeping { shared: self.shared.clone(), deadline_ns, ticket: None })
    }
}

struct Sleeping {
    shared: Arc<Mutex<Shared>>,
    deadline_ns: u64,
    ticket: Option<u64>,
}

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        let mut shared = shared.lock();
        if shared.now_ns >= self.deadline_ns {
            return Poll::Ready(());
        }
        let ticket = *self.ticket.get_or_insert_with(|| {
            shared.tickets += 1;
            shared.tickets
        });
        shared.waiting.insert((self.deadline_ns, ticket), Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let gone = self.shared.lock().waiting.remove(&(self.deadline_ns, ticket));
            drop(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Wake;

    struct Counter(AtomicU64);
    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn sleepers_wake_when_time_is_moved() {
        let clock = SimClock::new();
        let counter = Arc::new(Counter(AtomicU64::new(0)));
        let waker = Waker::from(counter.clone());
        let mut context = Context::from_waker(&waker);
        let (mut late, mut early) = (clock.sleep(20), clock.sleep(10));
        assert!(
            late.as_mut().poll(&mut context).is_pending() && early.as_mut().poll(&mut context).is_pending()
        );
        assert_eq!(clock.next_deadline(), Some(10));
        clock.advance(9);
        assert_eq!(counter.0.load(Ordering::Relaxed), 0);
        assert!(clock.advance_to_next());
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
        assert!(
            early.as_mut().poll(&mut context).is_ready() && late.as_mut().poll(&mut context).is_pending()
        );
        drop(late);
        assert_eq!(clock.next_deadline(), None);
    }
}
