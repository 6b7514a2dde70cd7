//! What only the holder of a turn changes, and many may look at meanwhile who aren't in the turn. Owns the memory of core and state; the only file of
//! the engine besides the ring with unsafe code.
//!
//! It is a lock for readers and writers that nobody sleeps on, made for writers who hardly ever meet (the turn sees to that) and readers who don't
//! write to what other readers read: who looks says so in its own lane, and then looks whether somebody holds; who holds looks, after saying so, at
//! all lanes. All of these steps are sequentially consistent, so one of the two sees the other: who looks gives up at once, who holds waits. What
//! is done under a glance is short, waits for nothing, and changes nothing. (The scheme is that of BRAVO: Dice and Kogan, USENIX ATC 2019.)
//!
//! That is done once for a whole turn ([`Lender::hold`]): what is lent to the thread that holds then costs two looks at memory of its own.
#![allow(unsafe_code)]

use super::lanes::{self, Lanes};
use crossbeam_utils::CachePadded;
use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// How often is looked for glances to end before the processor is given to others: a glance takes less than a microsecond, unless its thread
/// isn't running.
const LOOKS: usize = 256;
/// Nobody holds. Threads are numbered from 1 here.
const NOBODY: usize = 0;

thread_local! {
    // How many glances this thread is in the middle of.
    static GLANCING: Cell<u32> = const { Cell::new(0) };
}

/// Who holds what is lent here, or who looks at it.
#[derive(Default)]
pub(crate) struct Lender {
    holder: CachePadded<AtomicUsize>,
    /// How many holds and loans the holder has. Only the thread that `holder` names touches it.
    holds: Cell<u32>,
    lanes: Lanes<AtomicU32>,
}

// SAFETY: `holds` is touched only by the thread whose number is in `holder`. A thread writes its own number there when nobody's is there, and takes it
// away with its last hold; holds and loans stay on their thread. What one holder leaves in `holds` the next one sees, by release and acquire of `holder`.
unsafe impl Sync for Lender {}

/// All that the lender lends is this thread's until this is dropped.
pub(crate) struct Hold<'a> {
    lender: &'a Lender,
    not_send: PhantomData<*const ()>,
}

/// A look that goes on; nobody comes to hold meanwhile.
pub(crate) struct Glance<'a> {
    lender: &'a Lender,
    lane: &'a AtomicU32,
}

impl Lender {
    /// None if another thread holds; this one may hold several times. Waits for those who look.
    pub(crate) fn hold(&self) -> Option<Hold<'_>> {
        let me = lanes::thread() + 1;
        let is_first = self.holder.load(Ordering::Relaxed) != me;
        if is_first {
            self.holder.compare_exchange(NOBODY, me, Ordering::SeqCst, Ordering::Relaxed).ok()?;
        }
        self.holds.set(self.holds.get() + 1);
        let hold = Hold { lender: self, not_send: PhantomData };
        if is_first {
            self.wait();
        }
        Some(hold)
    }

    pub(crate) fn glance(&self) -> Glance<'_> {
        let lane = self.lanes.mine();
        GLANCING.set(GLANCING.get() + 1);
        lane.fetch_add(1, Ordering::SeqCst);
        Glance { lender: self, lane }
    }

    /// Waits until those who were looking have looked.
    fn wait(&self) {
        for lane in self.lanes.iter() {
            let mut looks = 0;
            while lane.load(Ordering::SeqCst) != 0 {
                assert!(GLANCING.get() == 0, "a core or state touched in the middle of a glance");
                match looks {
                    LOOKS => std::thread::yield_now(),
                    _ => {
                        looks += 1;
                        std::hint::spin_loop();
                    }
                }
            }
        }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let left = self.lender.holds.get() - 1;
        self.lender.holds.set(left);
        if left == 0 {
            self.lender.holder.store(NOBODY, Ordering::Release);
        }
    }
}

impl Drop for Glance<'_> {
    fn drop(&mut self) {
        self.lane.fetch_sub(1, Ordering::SeqCst);
        GLANCING.set(GLANCING.get() - 1);
    }
}

/// A `T` that is lent to one at a time, and looked at by many.
pub(crate) struct Lent<T> {
    lender: Arc<Lender>,
    /// Only the holder touches it.
    is_lent: Cell<bool>,
    value: UnsafeCell<T>,
}

// SAFETY: `&T` is given to several threads at a time only by `see`, which asks for `T: Sync`; `&mut T`, and `is_lent`, to the holder alone.
unsafe impl<T: Send> Sync for Lent<T> {}

impl<T> Lent<T> {
    pub(crate) fn new(lender: Arc<Lender>, value: T) -> Self {
        Lent { lender, is_lent: Cell::new(false), value: UnsafeCell::new(value) }
    }

    /// None if somebody has it, or another thread holds. Waits for those who look at it.
    pub(crate) fn try_borrow(&self) -> Option<Loan<'_, T>> {
        let hold = self.lender.hold()?;
        if self.is_lent.replace(true) {
            return None;
        }
        Some(Loan { lent: self, _hold: hold })
    }

    /// Waits for who has it.
    pub(crate) fn borrow(&self) -> Loan<'_, T> {
        loop {
            match self.try_borrow() {
                Some(loan) => return loan,
                None => std::thread::yield_now(),
            }
        }
    }

    /// What it is, for as long as the glance goes on; None if somebody holds.
    pub(crate) fn see<'a>(&'a self, glance: &'a Glance<'_>) -> Option<&'a T>
    where
        T: Sync,
    {
        assert!(std::ptr::eq(&*self.lender, glance.lender), "a glance at something else");
        if self.lender.holder.load(Ordering::SeqCst) != NOBODY {
            return None;
        }
        // SAFETY: nobody holds, and whoever comes to hold from now on waits in `hold` for this glance, which outlives the reference, before there is
        // a `&mut T`.
        Some(unsafe { &*self.value.get() })
    }
}

/// To whom it is lent. Stays on its thread: so it can't be kept over an `.await` of a future that may move.
pub(crate) struct Loan<'a, T> {
    lent: &'a Lent<T>,
    _hold: Hold<'a>,
}

impl<T> Deref for Loan<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: as below; shared references to the loan give shared references only.
        unsafe { &*self.lent.value.get() }
    }
}

impl<T> DerefMut for Loan<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: there is one loan at a time (`is_lent`), it holds as long as it lives, glances that had begun before have ended (`wait`), and later
        // ones give up.
        unsafe { &mut *self.lent.value.get() }
    }
}

impl<T> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        // Before the hold is given up, which is dropped after this.
        self.lent.is_lent.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loan_is_exclusive_and_a_glance_sees_what_was_last_left() {
        let lender = Arc::new(Lender::default());
        let (one, other) = (Lent::new(lender.clone(), 1), Lent::new(lender.clone(), 10));
        {
            let mut loan = one.try_borrow().unwrap();
            assert!(one.try_borrow().is_none());
            let glance = lender.glance();
            assert_eq!((one.see(&glance), other.see(&glance)), (None, None), "held");
            drop(glance);
            *loan += 1;
        }
        let glance = lender.glance();
        assert_eq!(one.see(&glance), Some(&2));
    }

    #[test]
    fn who_holds_borrows_one_after_the_other_and_nobody_else_does() {
        let lender = Arc::new(Lender::default());
        let (one, other) = (Lent::new(lender.clone(), 1), Lent::new(lender.clone(), 10));
        let borrows_elsewhere =
            || std::thread::scope(|scope| scope.spawn(|| one.try_borrow().is_some()).join().unwrap());
        let hold = lender.hold().unwrap();
        *one.try_borrow().unwrap() += 1;
        assert!(
            !borrows_elsewhere()
                && std::thread::scope(|scope| scope.spawn(|| lender.hold().is_none()).join().unwrap())
        );
        let (first, second) = (one.try_borrow().unwrap(), other.try_borrow().unwrap());
        // In whichever order they are given back: the last one lets go.
        drop((hold, first));
        assert!(!borrows_elsewhere());
        drop(second);
        assert!(borrows_elsewhere());
        assert_eq!(*one.borrow(), 2);
    }

    #[test]
    fn a_loan_within_a_glance_is_refused_not_waited_for() {
        let lender = Arc::new(Lender::default());
        let lent = Lent::new(lender.clone(), 1);
        let glance = lender.glance();
        let borrow = std::panic::AssertUnwindSafe(|| drop(lent.try_borrow()));
        assert!(std::panic::catch_unwind(borrow).is_err());
        assert!(lent.see(&glance).is_some(), "it was given back");
    }

    #[test]
    fn a_glance_never_sees_the_middle_of_a_change() {
        // Under miri, which looks for races by itself, less is enough.
        let rounds = if cfg!(miri) { 50 } else { 50_000 };
        let lender = Arc::new(Lender::default());
        let lent = Arc::new(Lent::new(lender.clone(), (0u64, vec![0u64; 4])));
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let lent = lent.clone();
                std::thread::spawn(move || {
                    for _ in 0..rounds {
                        let mut loan = lent.borrow();
                        loan.0 += 1;
                        let number = loan.0;
                        // Memory that moves, too.
                        loan.1 = vec![number; 1 + number as usize % 7];
                    }
                })
            })
            .collect();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (lent, lender) = (lent.clone(), lender.clone());
                std::thread::spawn(move || {
                    let (mut last, mut seen) = (0, 0);
                    while last < 2 * rounds {
                        let glance = lender.glance();
                        if let Some((number, all)) = lent.see(&glance) {
                            assert!(*number >= last && all.iter().all(|one| one == number));
                            last = *number;
                            seen += 1;
                        }
                        drop(glance);
                        if cfg!(miri) {
                            std::thread::yield_now();
                        }
                    }
                    assert!(seen > 0);
                })
            })
            .collect();
        for thread in writers.into_iter().chain(readers) {
            thread.join().unwrap();
        }
        assert_eq!(lent.borrow().0, 2 * rounds);
    }
}
