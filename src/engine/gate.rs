//! The gate: a mailbox and one turn. Owns who may run a partition; knows nothing of what is run.
//!
//! Promises: every posted mail is run by somebody, once, in the order of posting; at most one thread is inside; nobody is
//! woken for it; who leaves runs the way out (`leave`) after the last mail that it ran.
//!
//! One atomic word says it all. FREE: nobody is inside, and no mail waits. HELD: somebody is, and has seen all notes. MORE: somebody is, and a
//! note was left that there is more to do. OWED: nobody is inside, and mail waits; who has left it so comes back for it, unless somebody else
//! comes first. Who posts swaps in MORE; if it was FREE or OWED, the poster is now inside. The holder
//! turns MORE into HELD *before* it drains the mail, so a mail that is posted after the drain makes the exchange HELD -> FREE
//! fail, and the holder goes round again. All steps are read-modify-writes of the one word, hence one release sequence:
//! no fence and no second look is needed. Taking the turn, and asking whether it is free, is sequentially consistent, for the sake of those who look
//! without taking it: see `lent.rs`.

use crossbeam_queue::SegQueue;
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU8, Ordering};

const FREE: u8 = 0;
const HELD: u8 = 1;
const MORE: u8 = 2;
const OWED: u8 = 3;

/// A mailbox and the exclusive turn to run it.
pub(crate) struct Gate<M> {
    mail: SegQueue<M>,
    state: CachePadded<AtomicU8>,
}

/// How a run of the gate ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// No mail was left; the gate is free.
    Empty,
    /// The budget was spent; the gate is *still held* and must be passed on to somebody who runs it again.
    Budget,
}

impl<M> Gate<M> {
    pub(crate) fn new() -> Self {
        Gate { mail: SegQueue::new(), state: CachePadded::new(AtomicU8::new(FREE)) }
    }

    pub(crate) fn push(&self, mail: M) {
        self.mail.push(mail);
    }

    /// Takes the turn if it is free, else leaves a note that the holder can't miss.
    #[must_use]
    pub(crate) fn enter(&self) -> bool {
        matches!(self.state.swap(MORE, Ordering::SeqCst), FREE | OWED)
    }

    /// Takes the turn if nobody is inside, for who runs none of its mail; leaves no note.
    #[must_use]
    pub(crate) fn enter_beside(&self) -> bool {
        let take =
            |from, to| self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        take(FREE, HELD) || (self.state.load(Ordering::Relaxed) == OWED && take(OWED, MORE))
    }

    /// Only the holder calls this, who hasn't run the mail: gives the turn up. False if there is mail: the caller comes back for it, with
    /// [`enter`](Self::enter).
    #[must_use]
    pub(crate) fn leave_beside(&self) -> bool {
        let quiet = self.mail.is_empty() && self.leave_if_quiet();
        if !quiet {
            self.state.swap(OWED, Ordering::AcqRel);
        }
        quiet
    }

    /// Whether nobody is inside, and no mail waits.
    pub(crate) fn is_free(&self) -> bool {
        self.state.load(Ordering::SeqCst) == FREE
    }

    /// Takes the turn only if it is free; leaves no note.
    #[must_use]
    pub(crate) fn enter_if_free(&self) -> bool {
        self.state.compare_exchange(FREE, HELD, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// The same, looking so many times: who is inside mostly leaves sooner than a thread falls asleep and wakes.
    #[must_use]
    pub(crate) fn enter_if_free_within(&self, looks: usize) -> bool {
        for _ in 0..looks {
            if self.state.load(Ordering::Relaxed) == FREE && self.enter_if_free() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Only the holder calls this, when it leaves nothing undone: gives the turn up. False if a note was left; then the turn is
    /// still held, and there is more to do.
    #[must_use]
    pub(crate) fn leave_if_quiet(&self) -> bool {
        self.state.compare_exchange(HELD, FREE, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Only the holder calls this: makes its own run go round once more.
    pub(crate) fn note(&self) {
        self.state.swap(MORE, Ordering::AcqRel);
    }

    /// Mail that waits; exact only inside the turn.
    pub(crate) fn mail_count(&self) -> usize {
        self.mail.len()
    }

    /// For the simulator, which plays the holder step by step: the next mail.
    pub(crate) fn take_one(&self) -> Option<M> {
        self.mail.pop()
    }

    /// Only the holder calls this, who has entered a turn that was free: runs what it has brought along, and then what there is, as
    /// [`run`](Self::run) does. The mailbox isn't even looked at if no note was left meanwhile: all mail of before has been run then.
    pub(crate) fn run_brought(
        &self,
        brought: impl FnOnce(),
        budget: usize,
        each: impl FnMut(M),
        mut leave: impl FnMut(),
    ) -> Left {
        brought();
        if self.state.load(Ordering::Relaxed) == HELD {
            leave();
            if self.leave_if_quiet() {
                return Left::Empty;
            }
        }
        self.run(budget, each, leave)
    }

    /// Only the holder calls this. Runs mail until there is none or the budget is spent; `leave` is called before the
    /// turn is given up or passed on, and may itself post.
    pub(crate) fn run(&self, mut budget: usize, mut each: impl FnMut(M), mut leave: impl FnMut()) -> Left {
        loop {
            self.state.swap(HELD, Ordering::AcqRel);
            while let Some(mail) = self.mail.pop() {
                each(mail);
                budget -= 1;
                if budget == 0 {
                    leave();
                    return Left::Budget;
                }
            }
            leave();
            if self.leave_if_quiet() {
                return Left::Empty;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn every_mail_is_run_once_and_alone() {
        let gate = Arc::new(Gate::<u64>::new());
        let inside = Arc::new(AtomicU64::new(0));
        let sum = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (gate, inside, sum) = (gate.clone(), inside.clone(), sum.clone());
                std::thread::spawn(move || {
                    for i in 0..20_000u64 {
                        gate.push(thread * 20_000 + i);
                        if gate.enter() {
                            let left = gate.run(
                                usize::MAX,
                                |mail| {
                                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two inside");
                                    sum.fetch_add(mail, Ordering::SeqCst);
                                    inside.fetch_sub(1, Ordering::SeqCst);
                                },
                                || {},
                            );
                            assert_eq!(left, Left::Empty);
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(sum.load(Ordering::SeqCst), (0..80_000).sum::<u64>());
    }

    #[test]
    fn a_spent_budget_keeps_the_turn() {
        let gate = Gate::new();
        for i in 0..10 {
            gate.push(i);
        }
        assert!(gate.enter());
        let mut seen = Vec::new();
        assert_eq!(gate.run(4, |mail| seen.push(mail), || {}), Left::Budget);
        assert!(!gate.enter_if_free(), "still held");
        assert_eq!(gate.run(100, |mail| seen.push(mail), || {}), Left::Empty);
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
        assert!(gate.enter_if_free());
    }

    #[test]
    fn what_is_brought_along_comes_first_and_nothing_is_left_behind() {
        let gate = Gate::new();
        let run = |brought: u32| {
            let (seen, mut left) = (std::cell::RefCell::new(Vec::new()), 0);
            let each = |mail: u32| {
                seen.borrow_mut().push(mail);
                if mail == 2 {
                    gate.push(3);
                    gate.note();
                }
            };
            assert_eq!(gate.run_brought(|| each(brought), 10, each, || left += 1), Left::Empty);
            (seen.into_inner(), left)
        };
        assert!(gate.enter_if_free());
        assert_eq!(run(1), (vec![1], 1));
        assert!(gate.enter_if_free(), "it was given up");
        // One way out for both: what each appends goes to the kernel together.
        assert_eq!(run(2), (vec![2, 3], 1));
        assert!(gate.enter_if_free());
        let (seen, mut is_first) = (std::cell::RefCell::new(Vec::new()), true);
        let leave = || {
            if std::mem::replace(&mut is_first, false) {
                gate.push(5);
                gate.note();
            }
        };
        let each = |mail: u32| seen.borrow_mut().push(mail);
        assert_eq!(gate.run_brought(|| each(4), 10, each, leave), Left::Empty);
        assert_eq!(seen.into_inner(), [4, 5], "posted by the way out");
    }

    #[test]
    fn mail_that_came_meanwhile_is_owed_and_goes_first() {
        let gate = Gate::new();
        assert!(gate.enter_beside() && !gate.enter_beside());
        assert!(gate.leave_beside(), "nothing came");
        for noted in [true, false] {
            assert!(gate.enter_beside());
            gate.push(1);
            assert!(!noted || !gate.enter());
            assert!(!gate.leave_beside());
            assert!(!gate.enter_if_free(), "what is brought along would overtake the mail");
            assert!(gate.enter_beside(), "who runs none overtakes nobody");
            assert!(!gate.leave_beside(), "it is still there");
            assert!(gate.enter());
            let mut seen = Vec::new();
            assert_eq!(gate.run(10, |mail| seen.push(mail), || {}), Left::Empty);
            assert_eq!(seen, [1]);
        }
    }

    #[test]
    fn a_note_left_meanwhile_keeps_the_turn() {
        let gate = Gate::new();
        assert!(gate.enter_if_free());
        gate.push(1);
        assert!(!gate.enter(), "held: the note is for the holder");
        assert!(!gate.leave_if_quiet(), "there is a note");
        let mut seen = Vec::new();
        assert_eq!(gate.run(10, |mail| seen.push(mail), || {}), Left::Empty);
        assert_eq!(seen, [1]);
        assert!(gate.enter_if_free_within(1) && gate.leave_if_quiet());
    }
}
