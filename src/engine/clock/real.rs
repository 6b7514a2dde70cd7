//! The real clock. Its thread is started by the first sleep, and sleeps itself while nobody waits.

use super::{Clock, Sleep};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

/// Time as the machine has it.
pub struct RealClock {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

struct Shared {
    start: Instant,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Who waits, by deadline (nanoseconds since the start) and, for equal ones, by order.
    waiting: BTreeMap<(u64, u64), Waker>,
    tickets: u64,
    stop: bool,
}

impl RealClock {
    /// A clock.
    pub fn new() -> Arc<Self> {
        let shared = Shared { start: Instant::now(), queue: Mutex::default(), changed: Condvar::new() };
        Arc::new(RealClock { shared: Arc::new(shared), thread: Mutex::new(None) })
    }

    fn ensure_thread(&self) {
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let shared = self.shared.clone();
            let spawned =
                std::thread::Builder::new().name("bitkv-clock".to_string()).spawn(move || shared.run());
            match spawned {
                Ok(handle) => *thread = Some(handle),
                Err(error) => tracing::error!("the clock's thread can't be started: {error}"),
            }
        }
    }
}

impl Clock for RealClock {
    fn monotonic_ns(&self) -> u64 {
        self.shared.now_ns()
    }

    fn wall_ns(&self) -> i64 {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
        }
    }

    fn sleep(&self, duration_ns: u64) -> Sleep {
        self.ensure_thread();
        let deadline_ns = self.shared.now_ns().saturating_add(duration_ns);
        Box::pin(Sleeping { shared: self.shared.clone(), deadline_ns, ticket: None })
    }
}

impl Drop for RealClock {
    fn drop(&mut self) {
        self.shared.queue.lock().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn run(&self) {
        let mut queue = self.queue.lock();
        while !queue.stop {
            let now_ns = self.now_ns();
            let later = queue.waiting.split_off(&(now_ns + 1, 0));
            let due = std::mem::replace(&mut queue.waiting, later);
            if !due.is_empty() {
                parking_lot::MutexGuard::unlocked(&mut queue, || due.into_values().for_each(Waker::wake));
                continue;
            }
            match queue.waiting.keys().next() {
                Some((deadline_ns, _)) => {
                    let wait = Duration::from_nanos(deadline_ns - now_ns);
                    self.changed.wait_for(&mut queue, wait);
                }
                None => self.changed.wait(&mut queue),
            }
        }
    }
}

struct Sleeping {
    shared: Arc<Shared>,
    deadline_ns: u64,
    ticket: Option<u64>,
}

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.shared.now_ns() >= self.deadline_ns {
            return Poll::Ready(());
        }
        let shared = self.shared.clone();
        let mut queue = shared.queue.lock();
        let ticket = *self.ticket.get_or_insert_with(|| {
            queue.tickets += 1;
            queue.tickets
        });
        let first =
            queue.waiting.keys().next().is_none_or(|(earliest_ns, _)| self.deadline_ns < *earliest_ns);
        queue.waiting.insert((self.deadline_ns, ticket), context.waker().clone());
        if first {
            shared.changed.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.queue.lock().waiting.remove(&(self.deadline_ns, ticket));
        }
    }
}
