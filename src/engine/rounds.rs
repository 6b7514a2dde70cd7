//! Sync rounds: who waits for `stable`, and when a round starts. Owns the waiting; what a round does is the store's.
//!
//! One round runs at a time. Whoever comes while it runs is served by the next one, together with all others that came:
//! that is the group commit.

use super::error::WriteError;
use super::order::Order;
use super::types::Number;
use parking_lot::Mutex;
use std::sync::OnceLock;
use std::task::{Poll, Waker};

/// Starts a task that runs rounds until nobody waits.
pub(crate) type StartRound = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
pub(crate) struct Rounds {
    waiting: Mutex<Waiting>,
    start: OnceLock<StartRound>,
    gate: Mutex<Gate>,
}

/// Whoever wants no round to run goes through it, and so does every round.
#[derive(Default)]
struct Gate {
    taken: bool,
    wakers: Vec<Waker>,
}

/// No round runs as long as this is there.
pub(crate) struct Held<'a> {
    gate: &'a Mutex<Gate>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut gate = self.gate.lock();
        gate.taken = false;
        let wakers = std::mem::take(&mut gate.wakers);
        drop(gate);
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[derive(Default)]
struct Waiting {
    running: bool,
    wakers: Vec<(Number, Waker)>,
}

impl Rounds {
    pub(crate) fn connect(&self, start: StartRound) {
        assert!(self.start.set(start).is_ok(), "connected once");
    }

    /// Waits until no round runs, and keeps the next from starting: `stable` stays what it is. To be held for moments.
    pub(crate) async fn hold(&self) -> Held<'_> {
        std::future::poll_fn(|context| {
            let mut gate = self.gate.lock();
            if std::mem::replace(&mut gate.taken, true) {
                gate.wakers.push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        Held { gate: &self.gate }
    }

    /// Ready when `stable` has reached the number.
    pub(crate) async fn wait_for(&self, order: &Order, number: Number) -> Result<(), WriteError> {
        std::future::poll_fn(|context| {
            if order.stable() >= number {
                return Poll::Ready(Ok(()));
            }
            let mut waiting = self.waiting.lock();
            // Looked at again inside: who ends a round does so before it takes the waiters.
            if order.stable() >= number {
                return Poll::Ready(Ok(()));
            }
            if let Err(error) = order.check() {
                return Poll::Ready(Err(error));
            }
            waiting.wakers.push((number, context.waker().clone()));
            let start = !std::mem::replace(&mut waiting.running, true);
            drop(waiting);
            if start {
                self.start.get().expect("connected before the first sync")();
            }
            Poll::Pending
        })
        .await
    }

    /// A round has ended: wakes whom it served; says whether somebody waits for another one (if not, none is running any more).
    pub(crate) fn finished(&self, order: &Order) -> bool {
        let mut waiting = self.waiting.lock();
        let stable = order.stable();
        let latched = order.is_latched();
        let (served, left): (Vec<_>, Vec<_>) = std::mem::take(&mut waiting.wakers)
            .into_iter()
            .partition(|(number, _)| latched || *number <= stable);
        waiting.wakers = left;
        waiting.running = !waiting.wakers.is_empty();
        let again = waiting.running;
        drop(waiting);
        for (_, waker) in served {
            waker.wake();
        }
        again
    }

    pub(crate) fn wake_all(&self) {
        let wakers = std::mem::take(&mut self.waiting.lock().wakers);
        for (_, waker) in wakers {
            waker.wake();
        }
    }
}
