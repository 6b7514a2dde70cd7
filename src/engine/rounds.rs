//! Sync rounds: who waits for `stable`, and when a round starts. Owns the waiting; what a round does is the store's.
//!
//! One round runs at a time. Whoever comes while it runs is served by the next one, together with all others that came:
//! that is the group commit.
//!
//! Threads that sync again and again fall apart into two halves by that, each of which waits for the other's round. So a round waits for a moment
//! for those whom the last one has served: mostly they are back at once, and one round serves all. Where they aren't, the next rounds
//! don't wait.

use super::clock::Clock;
use super::error::WriteError;
use super::order::Order;
use super::turn::Turn;
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

/// The share of a round's time that the next one waits for those who may come back.
const PATIENCE_SHARE: u64 = 2;
/// The longest that it waits, in nanoseconds.
const PATIENCE_NS_MAX: u64 = 2_000_000;
/// How many rounds at most don't wait after one that waited in vain: it is one at first, and twice as many each time that follows in a row.
const HURRIED_ROUNDS_MAX: u32 = 64;

#[derive(Default)]
struct Waiting {
    running: bool,
    /// Which number, whose ticket.
    wakers: Vec<(Number, u64, Waker)>,
    tickets: u64,
    /// How many the last round has served, and had left to wait.
    expected: usize,
    /// How long it took.
    round_ns: u64,
    /// So many rounds wait for nobody.
    hurried_rounds: u32,
    /// How many it were after the last that waited in vain; none if one since then has not.
    last_hurried_rounds: u32,
    /// Who waits for those who are expected.
    gathering: Option<Waker>,
}

impl Waiting {
    /// Counts everybody once, however often and by whom the operation is polled.
    fn wait(&mut self, number: Number, ticket: &mut Option<u64>, waker: &Waker) {
        if let Some(mine) = *ticket
            && let Some((.., before)) = self.wakers.iter_mut().find(|(_, other, _)| *other == mine)
        {
            before.clone_from(waker);
            return;
        }
        self.tickets += 1;
        *ticket = Some(self.tickets);
        self.wakers.push((number, self.tickets, waker.clone()));
    }

    fn are_all_here(&self) -> bool {
        self.wakers.len() >= self.expected
    }
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
        let mut ticket = None;
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
            waiting.wait(number, &mut ticket, context.waker());
            let start = !std::mem::replace(&mut waiting.running, true);
            let gathered = if waiting.are_all_here() { waiting.gathering.take() } else { None };
            drop(waiting);
            gathered.into_iter().for_each(Waker::wake);
            if start {
                self.start.get().expect("connected before the first sync")();
            }
            Poll::Pending
        })
        .await
    }

    /// Before a round: waits for a moment until all are here whom the last one makes expect.
    pub(crate) async fn gather(&self, clock: &dyn Clock) {
        let patience_ns = {
            let mut waiting = self.waiting.lock();
            if waiting.are_all_here() {
                return;
            }
            if waiting.hurried_rounds > 0 {
                waiting.hurried_rounds -= 1;
                return;
            }
            (waiting.round_ns / PATIENCE_SHARE).min(PATIENCE_NS_MAX)
        };
        let mut patience = clock.sleep(patience_ns);
        std::future::poll_fn(|context| {
            let is_over = patience.as_mut().poll(context).is_ready();
            let mut waiting = self.waiting.lock();
            if waiting.are_all_here() {
                waiting.last_hurried_rounds = 0;
                return Poll::Ready(());
            }
            if is_over {
                waiting.last_hurried_rounds = (2 * waiting.last_hurried_rounds).clamp(1, HURRIED_ROUNDS_MAX);
                waiting.hurried_rounds = waiting.last_hurried_rounds;
                return Poll::Ready(());
            }
            waiting.gathering = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// A round has ended, which took so long: wakes whom it served; says whether somebody waits for another one (if not, none is running any
    /// more).
    pub(crate) fn finished(&self, order: &Order, round_ns: u64) -> bool {
        let mut waiting = self.waiting.lock();
        let stable = order.stable();
        let latched = order.is_latched();
        let (served, left): (Vec<_>, Vec<_>) = std::mem::take(&mut waiting.wakers)
            .into_iter()
            .partition(|(number, ..)| latched || *number <= stable);
        waiting.expected = served.len() + left.len();
        waiting.round_ns = round_ns;
        waiting.wakers = left;
        waiting.running = !waiting.wakers.is_empty();
        let again = waiting.running;
        drop(waiting);
        Turn::wake_outside(served.into_iter().map(|(.., waker)| waker));
        again
    }

    pub(crate) fn wake_all(&self) {
        let wakers = std::mem::take(&mut self.waiting.lock().wakers);
        for (.., waker) in wakers {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::SimClock;
    use crate::engine::types::Epoch;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::sync::Arc;
    use std::task::Context;

    const ROUND_NS: u64 = 400;

    struct Rig {
        rounds: Rounds,
        order: Order,
        clock: Arc<SimClock>,
    }

    fn is_ready<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    impl Rig {
        fn new() -> Rig {
            let rounds = Rounds::default();
            rounds.connect(Box::new(|| {}));
            Rig { rounds, order: Order::new(Epoch(1), Number(1), &[Number(0)]), clock: SimClock::new() }
        }

        /// So many want a number to be stable.
        fn come(&self, count: usize, number: u64) {
            for _ in 0..count {
                assert!(!is_ready(pin!(self.rounds.wait_for(&self.order, Number(number)))));
            }
        }

        /// A round has made it stable.
        fn end(&self, number: u64) -> bool {
            self.order.advance_stable(Number(number));
            self.rounds.finished(&self.order, ROUND_NS)
        }

        fn starts_at_once(&self) -> bool {
            is_ready(pin!(self.rounds.gather(self.clock.as_ref())))
        }
    }

    #[test]
    fn a_round_waits_for_all_whom_the_last_one_knew_of() {
        let rig = Rig::new();
        rig.come(1, 1);
        assert!(rig.starts_at_once(), "nothing is known of others");
        // Two have come meanwhile: they and the one who is served may all want the next.
        rig.come(2, 2);
        assert!(rig.end(1));
        let mut gathering = pin!(rig.rounds.gather(rig.clock.as_ref()));
        assert!(!is_ready(gathering.as_mut()));
        rig.come(1, 2);
        assert!(is_ready(gathering.as_mut()), "all three are there");
        assert!(!rig.end(2));
    }

    #[test]
    fn who_is_polled_twice_is_one() {
        let rig = Rig::new();
        let mut waiting = pin!(rig.rounds.wait_for(&rig.order, Number(1)));
        assert!(!is_ready(waiting.as_mut()) && !is_ready(waiting.as_mut()));
        assert!(rig.starts_at_once() && !rig.end(1));
        rig.come(1, 2);
        assert!(rig.starts_at_once(), "one was served, and one is here");
        assert!(is_ready(waiting.as_mut()));
    }

    /// A round serves three, and one of them is there for the next, whose number this is: it waits in vain for the others.
    fn waits_in_vain(rig: &Rig, number: u64, hurried_rounds: u32) {
        rig.come(3, number - 1);
        assert!(!rig.end(number - 1));
        rig.come(1, number);
        for _ in 0..hurried_rounds {
            assert!(rig.starts_at_once(), "a round after one that has waited in vain");
        }
        let mut gathering = pin!(rig.rounds.gather(rig.clock.as_ref()));
        assert!(!is_ready(gathering.as_mut()));
        rig.clock.advance(ROUND_NS / PATIENCE_SHARE);
        assert!(is_ready(gathering.as_mut()));
        // From now on one is expected.
        assert!(!rig.end(number));
    }

    #[test]
    fn who_does_not_come_back_is_waited_for_less_and_less_often() {
        let rig = Rig::new();
        for (number, hurried_rounds) in [0, 1, 2, 4, 8, 16, 32, 64, 64].into_iter().enumerate() {
            waits_in_vain(&rig, 2 * number as u64 + 2, hurried_rounds);
        }
    }

    #[test]
    fn who_comes_back_once_is_waited_for_again() {
        let rig = Rig::new();
        waits_in_vain(&rig, 2, 0);
        waits_in_vain(&rig, 4, 1);
        for _ in 0..2 {
            assert!(rig.starts_at_once());
        }
        rig.come(2, 5);
        assert!(!rig.end(5));
        rig.come(1, 6);
        let mut gathering = pin!(rig.rounds.gather(rig.clock.as_ref()));
        assert!(!is_ready(gathering.as_mut()));
        rig.come(1, 6);
        assert!(is_ready(gathering.as_mut()) && !rig.end(6));
        waits_in_vain(&rig, 8, 0);
        waits_in_vain(&rig, 10, 1);
    }
}
