//! What only the holder of a turn changes, and many may look at meanwhile who aren't in the turn. Owns the memory of core and state; the only file of
//! the engine besides the ring with unsafe code.
//!
//! It is a lock for readers and writers that nobody sleeps on, made for writers who hardly ever meet (the turn sees to that) and readers who don't
//! write to what other readers read: who looks says so in its own lane, and then looks whether it is lent; who has it lent looks, after saying so, at
//! all lanes. All of these steps are sequentially consistent, so one of the two sees the other: who looks gives up at once, who has it lent waits. What
//! is done under a glance is short, waits for nothing, and changes nothing. (The scheme is that of BRAVO: Dice and Kogan, USENIX ATC 2019.)
#![allow(unsafe_code)]

use super::lanes::Lanes;
use std::cell::{Cell, UnsafeCell};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// How often is looked for glances to end before the processor is given to others: a glance takes less than a microsecond, unless its thread
/// isn't running.
const LOOKS: usize = 256;

thread_local! {
    // How many glances this thread is in the middle of.
    static GLANCING: Cell<u32> = const { Cell::new(0) };
}

/// Who looks at something right now; several things that are looked at together share it.
#[derive(Default)]
pub(crate) struct Glances {
    lanes: Lanes<AtomicU32>,
}

/// A look that goes on; nothing of what shares these glances is lent meanwhile that wasn't before.
pub(crate) struct Glance<'a> {
    glances: &'a Glances,
    lane: &'a AtomicU32,
}

impl Glances {
    pub(crate) fn begin(&self) -> Glance<'_> {
        let lane = self.lanes.mine();
        GLANCING.set(GLANCING.get() + 1);
        lane.fetch_add(1, Ordering::SeqCst);
        Glance { glances: self, lane }
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

impl Drop for Glance<'_> {
    fn drop(&mut self) {
        self.lane.fetch_sub(1, Ordering::SeqCst);
        GLANCING.set(GLANCING.get() - 1);
    }
}

/// A `T` that is lent to one at a time, and looked at by many.
pub(crate) struct Lent<T> {
    glances: Arc<Glances>,
    is_lent: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `&T` is given to several threads at a time only by `see`, which asks for `T: Sync`; `&mut T` to one at a time, as by a mutex.
unsafe impl<T: Send> Sync for Lent<T> {}

impl<T> Lent<T> {
    pub(crate) fn new(glances: Arc<Glances>, value: T) -> Self {
        Lent { glances, is_lent: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// None if somebody has it. Waits for those who look at it.
    pub(crate) fn try_borrow(&self) -> Option<Loan<'_, T>> {
        if self.is_lent.swap(true, Ordering::SeqCst) {
            return None;
        }
        let loan = Loan { lent: self, not_send: std::marker::PhantomData };
        self.glances.wait();
        Some(loan)
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

    /// What it is, for as long as the glance goes on; None if somebody has it.
    pub(crate) fn see<'a>(&'a self, glance: &'a Glance<'_>) -> Option<&'a T>
    where
        T: Sync,
    {
        assert!(std::ptr::eq(&*self.glances, glance.glances), "a glance at something else");
        if self.is_lent.load(Ordering::SeqCst) {
            return None;
        }
        // SAFETY: nobody has it, and whoever gets it from now on waits in `try_borrow` for this glance, which outlives the reference, before
        // there is a `&mut T`.
        Some(unsafe { &*self.value.get() })
    }
}

/// To whom it is lent. Stays on its thread: so it can't be kept over an `.await` of a future that may move.
pub(crate) struct Loan<'a, T> {
    lent: &'a Lent<T>,
    not_send: std::marker::PhantomData<*const ()>,
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
        // SAFETY: there is one loan at a time (`is_lent`), glances that had begun before have ended (`wait`), and later ones give up.
        unsafe { &mut *self.lent.value.get() }
    }
}

impl<T> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        self.lent.is_lent.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loan_is_exclusive_and_a_glance_sees_what_was_last_left() {
        let glances = Arc::new(Glances::default());
        let (one, other) = (Lent::new(glances.clone(), 1), Lent::new(glances.clone(), 10));
        {
            let mut loan = one.try_borrow().unwrap();
            assert!(one.try_borrow().is_none());
            let glance = glances.begin();
            assert_eq!(one.see(&glance), None, "lent");
            assert_eq!(other.see(&glance), Some(&10));
            drop(glance);
            *loan += 1;
        }
        let glance = glances.begin();
        assert_eq!(one.see(&glance), Some(&2));
    }

    #[test]
    fn a_loan_within_a_glance_is_refused_not_waited_for() {
        let glances = Arc::new(Glances::default());
        let lent = Lent::new(glances.clone(), 1);
        let glance = glances.begin();
        let borrow = std::panic::AssertUnwindSafe(|| drop(lent.try_borrow()));
        assert!(std::panic::catch_unwind(borrow).is_err());
        assert!(lent.see(&glance).is_some(), "it was given back");
    }

    #[test]
    fn a_glance_never_sees_the_middle_of_a_change() {
        // Under miri, which looks for races by itself, less is enough.
        let rounds = if cfg!(miri) { 50 } else { 50_000 };
        let glances = Arc::new(Glances::default());
        let lent = Arc::new(Lent::new(glances.clone(), (0u64, vec![0u64; 4])));
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
                let (lent, glances) = (lent.clone(), glances.clone());
                std::thread::spawn(move || {
                    let (mut last, mut seen) = (0, 0);
                    while last < 2 * rounds {
                        let glance = glances.begin();
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
