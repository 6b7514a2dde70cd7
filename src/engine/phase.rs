//! What an operation waits for: said by whoever makes it wait, as it gives up its turn; asked by whoever times it. Costs a store into memory of the thread
//! for each wait, whether or not somebody asks.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;

/// What an operation spends its time with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Before it started: somebody else was in its partition's turn.
    Queue,
    /// At work in the turn.
    Work,
    /// A read of the disk.
    Read,
    /// A lock, or somebody's commit over several partitions that hides what it needs.
    Lock,
    /// Room in the log.
    Room,
    /// Everything older being handed to the kernel.
    Settle,
    /// A sync.
    Sync,
    /// What it has asked of another partition, and everything else.
    Elsewhere,
}

/// How many there are.
pub const PHASES: usize = 8;

impl Phase {
    /// All of them, in the order of their numbers.
    pub const ALL: [Phase; PHASES] = [
        Phase::Queue,
        Phase::Work,
        Phase::Read,
        Phase::Lock,
        Phase::Room,
        Phase::Settle,
        Phase::Sync,
        Phase::Elsewhere,
    ];

    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Queue => "queue",
            Phase::Work => "work",
            Phase::Read => "read",
            Phase::Lock => "lock",
            Phase::Room => "room",
            Phase::Settle => "settle",
            Phase::Sync => "sync",
            Phase::Elsewhere => "elsewhere",
        }
    }
}

thread_local! {
    static WAITS_FOR: Cell<Phase> = const { Cell::new(Phase::Elsewhere) };
    static HAS_QUEUED: Cell<bool> = const { Cell::new(true) };
}

/// Takes the first step of an operation on the thread that it has just come to.
pub(crate) fn without_queueing<T>(step: impl FnOnce() -> T) -> T {
    HAS_QUEUED.set(false);
    let taken = step();
    HAS_QUEUED.set(true);
    taken
}

/// Whether the operation that takes its first step on this thread may have waited for that since it came.
pub fn has_queued() -> bool {
    HAS_QUEUED.get()
}

/// Waits, and says what for.
pub(crate) async fn waiting<T>(phase: Phase, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        let polled = future.as_mut().poll(context);
        if polled.is_pending() {
            WAITS_FOR.set(phase);
        }
        polled
    })
    .await
}

/// What the operation that has just been polled on this thread, and isn't ready, waits for.
pub fn of_wait() -> Phase {
    WAITS_FOR.replace(Phase::Elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn what_begins_as_it_comes_has_not_queued() {
        assert!(has_queued() && !without_queueing(has_queued) && has_queued());
    }

    #[test]
    fn a_wait_says_what_for_until_it_is_asked() {
        let mut polls = 0;
        let slow = std::future::poll_fn(|_| {
            polls += 1;
            if polls > 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        let mut waiting = pin!(waiting(Phase::Read, slow));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            assert!(waiting.as_mut().poll(&mut context).is_pending());
            assert_eq!((of_wait(), of_wait()), (Phase::Read, Phase::Elsewhere));
        }
        assert!(waiting.as_mut().poll(&mut context).is_ready());
        assert_eq!(of_wait(), Phase::Elsewhere);
        assert!(Phase::ALL.iter().enumerate().all(|(index, phase)| *phase as usize == index));
    }
}
