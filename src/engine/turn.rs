//! The turn: who runs a partition's mail, on which thread. Owns the gate, the way from one partition to the next, and what
//! a thread does after it has left; knows nothing of keys or logs.
//!
//! A thread waits for no turn while it holds one. If a neighbour's turn is free, an operation is polled once in there, *beside* the own turn
//! (`try_beside`): that saves a task, mail there and back, and leaving the own turn for it. A commit over several partitions takes all of their
//! turns, if all are free. Mail that is posted from inside a turn is pushed at once, and its partition is noted on the
//! thread's visiting list; after leaving, the thread visits it. So A -> B -> A by mail is three entries on one thread, without
//! nesting, without an order of locks, without waking anybody.
//!
//! Slow work that a turn asks for (a cold read, a sync) is noted on the thread's errand list. After leaving, a thread that has a ring
//! of its own takes its errands there; one that may block runs one errand itself: on a virtual machine both are far cheaper than
//! waking a worker on another core. Everything else goes to the disk's queues.

use super::disk::{Disk, Queue, Request};
use super::gate::{Gate, Left};
use super::lent::Lender;
use super::limits::{LOOKS_BEFORE_WAITING, TURN_MAIL_MAX};
use super::planted::{Bug, planted};
use async_task::Runnable;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

thread_local! {
    // The address of the turn that this thread is in, 0 if in none.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
    static MAY_BLOCK: RefCell<Option<Arc<Blockers>>> = const { RefCell::new(None) };
    static VISITS: RefCell<VecDeque<Arc<Turn>>> = const { RefCell::new(VecDeque::new()) };
    static ERRANDS: RefCell<VecDeque<Errand>> = const { RefCell::new(VecDeque::new()) };
    static WAKERS: RefCell<VecDeque<Waker>> = const { RefCell::new(VecDeque::new()) };
    // Of a thread that carries its errands out itself, without waiting.
    static KEPT: RefCell<Option<VecDeque<Request>>> = const { RefCell::new(None) };
}

/// What `INSIDE` is while a thread that has left its turn wakes others: what they post is visited afterwards, not in the middle of it.
const WAKING: usize = 1;

/// Slow work, and who does it if this thread doesn't.
pub(crate) struct Errand {
    pub(crate) request: Request,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) queue: Queue,
}

impl Errand {
    /// `may_wait`: on this thread, if nobody else is to be woken for it.
    fn run(self, may_wait: bool) {
        let kept = KEPT.with_borrow_mut(|kept| match kept {
            Some(kept) => {
                kept.push_back(self.request);
                None
            }
            None => Some((self.request, self.disk, self.queue)),
        });
        match kept {
            Some((request, _, _)) if may_wait => request.perform(),
            Some((request, disk, queue)) => disk.submit(queue, request),
            None => {}
        }
    }
}

/// What the turns of this thread ask of the disk is kept from now on, for the thread to carry out by itself: to be called by a thread that has
/// a ring of its own, and looks at [`next_errand`] before it waits there.
pub fn keep_errands() {
    KEPT.set(Some(VecDeque::new()));
}

/// Whether this thread has something to ask of the disk.
pub fn has_errands() -> bool {
    KEPT.with_borrow(|kept| kept.as_ref().is_some_and(|kept| !kept.is_empty()))
}

/// The next thing that this thread has to ask of the disk.
pub fn next_errand() -> Option<Request> {
    KEPT.with_borrow_mut(|kept| kept.as_mut()?.pop_front())
}

/// Threads that may wait for the disk on behalf of what they dispatch, so many at once: the others must stay free to take what
/// comes next.
pub struct Blockers {
    max: usize,
    now: AtomicUsize,
}

impl Blockers {
    /// So many threads may wait at once.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Blockers { max, now: AtomicUsize::new(0) })
    }

    /// Runs `f`; what it dispatches on this thread may wait for the disk here once its turns are left.
    pub fn dispatch<R>(self: &Arc<Self>, f: impl FnOnce() -> R) -> R {
        // Who keeps its errands waits for none.
        if KEPT.with_borrow(Option::is_some) {
            return f();
        }
        let before = MAY_BLOCK.replace(Some(self.clone()));
        let result = f();
        MAY_BLOCK.set(before);
        result
    }

    fn enter(&self) -> bool {
        let entered = self.now.fetch_add(1, Ordering::AcqRel) < self.max;
        if !entered {
            self.leave();
        }
        entered
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a partition does on every way out of its turn.
pub(crate) type Leave = Box<dyn Fn() + Send + Sync>;
/// Passes a held turn on to the partition's worker.
pub(crate) type PassOn = Box<dyn Fn(Arc<Turn>) + Send + Sync>;

/// What was to be done in a turn has panicked.
pub(crate) struct Panicked;

/// How mail gets run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Whoever posts runs it, if nobody is inside.
    Inline,
    /// Nobody does, until the simulator says so, step by step.
    Manual,
}

/// The gate of one partition with its ways in and out.
pub(crate) struct Turn {
    gate: Gate<Runnable>,
    /// Lends what the turn guards to who is inside.
    lender: Arc<Lender>,
    policy: Policy,
    leave: OnceLock<Leave>,
    pass_on: OnceLock<PassOn>,
    passed_on: AtomicU64,
    panics: AtomicU64,
}

impl Turn {
    pub(crate) fn new(policy: Policy) -> Arc<Self> {
        Arc::new(Turn {
            gate: Gate::new(),
            lender: Arc::default(),
            policy,
            leave: OnceLock::new(),
            pass_on: OnceLock::new(),
            passed_on: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        })
    }

    /// Called once, before the first mail.
    pub(crate) fn connect(&self, leave: Leave, pass_on: PassOn) {
        let connected = self.leave.set(leave).is_ok() && self.pass_on.set(pass_on).is_ok();
        assert!(connected, "a turn is connected once");
    }

    /// Who lends what the turn guards.
    pub(crate) fn lender(&self) -> &Arc<Lender> {
        &self.lender
    }

    /// Posts a piece of work; runs it now if nobody is inside and this thread is in no other turn.
    pub(crate) fn post(self: &Arc<Self>, runnable: Runnable) {
        let mut posted = Some(runnable);
        self.try_begin(|| {
            posted.take().map(Runnable::run);
        });
        if let Some(runnable) = posted {
            self.gate.push(runnable);
            self.poke();
        }
    }

    /// Runs a plain function inside the turn if nobody is inside and this thread is in no other turn; then mail that came meanwhile, and the way out.
    /// Else nothing happens, and it says so.
    pub(crate) fn try_begin(self: &Arc<Self>, f: impl FnOnce()) -> bool {
        if INSIDE.get() != 0 || self.policy != Policy::Inline || !self.gate.enter_if_free() {
            return false;
        }
        self.run(Some(f));
        Self::walk();
        true
    }

    /// Sees to it that the turn is entered once from now on, and so that the way out is run.
    pub(crate) fn poke(self: &Arc<Self>) {
        if self.policy == Policy::Manual {
            return;
        }
        match INSIDE.get() {
            0 => self.visit(),
            inside if inside == self.address() => {
                self.gate.note();
                return;
            }
            _ => {
                VISITS.with_borrow_mut(|visits| visits.push_back(self.clone()));
                return;
            }
        }
        Self::walk();
    }

    /// Runs a plain function inside the turn if it is free, or is so in a moment; else nothing happens. The function does itself what
    /// the way out has to do: what it appends it hands over.
    pub(crate) fn try_inside<R>(self: &Arc<Self>, f: impl FnOnce() -> R) -> Option<R> {
        Self::try_inside_all(&[self], f)
    }

    /// The same inside several turns at once, which is all of them or none. None is waited for while another is held, so nobody waits in a
    /// circle.
    pub(crate) fn try_inside_all<R>(turns: &[&Arc<Self>], f: impl FnOnce() -> R) -> Option<R> {
        if INSIDE.get() != 0 {
            return None;
        }
        for (index, turn) in turns.iter().enumerate() {
            if turn.policy == Policy::Manual || !turn.gate.enter_if_free_within(LOOKS_BEFORE_WAITING) {
                Self::leave_all(&turns[..index], false);
                return None;
            }
        }
        // Of several, this thread is in the first: what is noted for the others is on its visiting list.
        INSIDE.set(turns.first().map_or(0, |turn| turn.address()));
        let result = catch_unwind(AssertUnwindSafe(f));
        INSIDE.set(0);
        Self::leave_all(turns, result.is_err());
        Some(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }

    /// Whether nobody is inside, and no mail waits; for who looks at what the turn guards without taking it.
    pub(crate) fn is_free(&self) -> bool {
        self.policy == Policy::Inline && self.gate.is_free()
    }

    /// Whether this thread is in this turn.
    pub(crate) fn is_inside(&self) -> bool {
        INSIDE.get() == self.address()
    }

    /// Runs a plain function inside this turn if it is free, for a thread that is in another one, and then the way out; mail that came
    /// meanwhile is run when the own turn is left. None, and nothing happened, if the turn isn't free or the thread is in none. An error if the
    /// function has panicked.
    pub(crate) fn try_beside<R>(self: &Arc<Self>, f: impl FnOnce() -> R) -> Option<Result<R, Panicked>> {
        let own = INSIDE.get();
        if own == 0 || !self.gate.enter_beside() {
            return None;
        }
        INSIDE.set(self.address());
        let hold = self.lender.hold();
        let result = catch_unwind(AssertUnwindSafe(f));
        if result.is_err() {
            self.panics.fetch_add(1, Ordering::Relaxed);
        }
        if !planted(Bug::LeaveBeside) {
            self.leave.get().expect("connected before the first mail")();
        }
        drop(hold);
        INSIDE.set(own);
        self.leave_beside();
        Some(result.map_err(|_| Panicked))
    }

    /// Runs a plain function inside this thread's turn and all of these besides, which is all of them or none. It does itself what the way out
    /// has to do.
    pub(crate) fn try_beside_all<R>(turns: &[&Arc<Self>], f: impl FnOnce() -> R) -> Option<R> {
        let own = INSIDE.get();
        if own == 0 {
            return None;
        }
        let others = |count| turns[..count].iter().filter(|turn| turn.address() != own);
        for (index, turn) in turns.iter().enumerate() {
            if turn.address() != own && !turn.gate.enter_beside() {
                others(index).for_each(|turn| turn.leave_beside());
                return None;
            }
        }
        // The thread stays in its own turn: what is noted for the others is on its visiting list.
        let result = catch_unwind(AssertUnwindSafe(f));
        others(turns.len()).for_each(|turn| turn.leave_beside());
        Some(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }

    fn leave_beside(self: &Arc<Self>) {
        match self.policy {
            Policy::Inline => {
                if !self.gate.leave_beside() {
                    VISITS.with_borrow_mut(|visits| visits.push_back(self.clone()));
                }
            }
            // The mail is the simulator's to run.
            Policy::Manual => self.open(),
        }
    }

    /// Gives up turns that this thread holds. First those where nothing was left meanwhile: nobody should wait for them for the sake of
    /// what is run in the others.
    fn leave_all(turns: &[&Arc<Self>], undone: bool) {
        let leave = |turn: &&&Arc<Self>| undone || turn.gate.mail_count() > 0 || !turn.gate.leave_if_quiet();
        match turns {
            [turn] => {
                if leave(&turn) {
                    turn.hold();
                }
            }
            _ => turns.iter().filter(leave).collect::<Vec<_>>().into_iter().for_each(|turn| turn.hold()),
        }
        Self::walk();
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn visit(self: &Arc<Self>) {
        if self.gate.enter() {
            self.hold();
        }
    }

    /// The caller holds the gate: runs what is there, and leaves or passes the turn on.
    pub(crate) fn hold(self: &Arc<Self>) {
        self.run(None::<fn()>);
    }

    /// The same; what is brought along comes first, and then the gate was free.
    fn run(self: &Arc<Self>, brought: Option<impl FnOnce()>) {
        INSIDE.set(self.address());
        // Held from the first mail to the way out, so that neither takes it by itself. Whoever comes next finds it free.
        let hold = Cell::new(None);
        let take_hold = || hold.set(hold.take().or_else(|| self.lender.hold()));
        let each = |runnable: Runnable| {
            take_hold();
            self.run_one(|| {
                runnable.run();
            });
        };
        let leave = || {
            self.leave.get().expect("connected before the first mail")();
            hold.set(None);
        };
        let left = match brought {
            Some(brought) => {
                take_hold();
                self.gate.run_brought(|| self.run_one(brought), TURN_MAIL_MAX, each, leave)
            }
            None => self.gate.run(TURN_MAIL_MAX, each, leave),
        };
        INSIDE.set(0);
        if left == Left::Budget {
            self.passed_on.fetch_add(1, Ordering::Relaxed);
            self.pass_on.get().expect("connected before the first mail")(self.clone());
        }
    }

    fn run_one(&self, f: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(f)).is_err() {
            self.panics.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The way out of the outermost turn: wakers, visits and errands until there are none. Also called by workers after a held turn.
    pub(crate) fn walk() {
        loop {
            if !WAKERS.with_borrow(VecDeque::is_empty) {
                INSIDE.set(WAKING);
                WAKERS.take().into_iter().for_each(Waker::wake);
                INSIDE.set(0);
            }
            if let Some(turn) = VISITS.with_borrow_mut(VecDeque::pop_front) {
                turn.visit();
                continue;
            }
            match ERRANDS.with_borrow_mut(VecDeque::pop_front) {
                // Only the last errand is done here: the others should be under way meanwhile.
                Some(errand) => {
                    let last = ERRANDS.with_borrow(VecDeque::is_empty);
                    let blockers = if last { MAY_BLOCK.with_borrow(Clone::clone) } else { None };
                    let blocking = blockers.filter(|blockers| blockers.enter());
                    errand.run(blocking.is_some());
                    if let Some(blockers) = blocking {
                        blockers.leave();
                    }
                }
                None => return,
            }
        }
    }

    /// Notes an errand for the way out of this thread's turn. Outside of any turn it is passed on at once.
    pub(crate) fn errand(errand: Errand) {
        if INSIDE.get() != 0 {
            ERRANDS.with_borrow_mut(|errands| errands.push_back(errand));
        } else {
            errand.run(false);
        }
    }

    /// Wakes who waits, once this thread is in no turn: a thread that wakes mostly runs at once, in place of this one, and would find the turn
    /// taken.
    pub(crate) fn wake_outside(wakers: impl Iterator<Item = Waker>) {
        match INSIDE.get() {
            0 => wakers.for_each(Waker::wake),
            _ => WAKERS.with_borrow_mut(|kept| kept.extend(wakers)),
        }
    }

    /// Who runs the mail.
    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }

    /// Mail that waits now.
    pub(crate) fn mail_count(&self) -> usize {
        self.gate.mail_count()
    }

    /// How often a turn was passed on to the worker because its holder had done enough.
    pub(crate) fn passed_on_count(&self) -> u64 {
        self.passed_on.load(Ordering::Relaxed)
    }

    /// Operations that panicked.
    pub(crate) fn panic_count(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Simulator only: runs one mail; false if there is none. The way out is the simulator's to call.
    pub(crate) fn step(&self) -> bool {
        debug_assert_eq!(self.policy, Policy::Manual);
        let Some(runnable) = self.gate.take_one() else { return false };
        assert!(self.shut(), "one thread plays all");
        INSIDE.set(self.address());
        self.run_one(|| {
            runnable.run();
        });
        INSIDE.set(0);
        self.open();
        // Errands; nobody is visited.
        Self::walk();
        true
    }

    /// Simulator only: from now on somebody is inside, if nobody was.
    pub(crate) fn shut(&self) -> bool {
        self.gate.enter_if_free()
    }

    /// Simulator only: that one has left.
    pub(crate) fn open(&self) {
        let quiet = self.gate.leave_if_quiet();
        assert!(quiet, "nobody leaves notes for the simulator");
    }
}

#[cfg(test)]
mod tests;
