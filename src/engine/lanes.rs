//! Lanes: the same thing several times, so that threads that run side by side don't write to each other's memory. Each thread keeps to one lane;
//! there are about as many as the machine has processors.

use crossbeam_utils::CachePadded;
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More cost those who look at all of them more than they save those who keep to one.
const LANES_MAX: usize = 8;

thread_local! {
    static THREAD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// One `T` for each lane.
#[derive(Debug)]
pub(crate) struct Lanes<T>(Box<[CachePadded<T>]>);

impl<T: Default> Default for Lanes<T> {
    fn default() -> Self {
        Lanes((0..count()).map(|_| CachePadded::default()).collect())
    }
}

impl<T> Lanes<T> {
    /// That of the calling thread's lane. Others may have the same one.
    pub(crate) fn mine(&self) -> &T {
        // There is a power of two of them.
        &self.0[thread() & (self.0.len() - 1)]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|lane| &**lane)
    }
}

/// How many lanes there are, a power of two.
pub(crate) fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        processors.next_power_of_two().min(LANES_MAX)
    })
}

/// Threads are numbered in the order in which they come here first, from 0.
pub(crate) fn thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    THREAD.get().unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        THREAD.set(Some(number));
        number
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_to_its_lane_and_the_next_one_has_another() {
        let lanes = Lanes::<AtomicUsize>::default();
        assert_eq!(lanes.iter().count(), count());
        for _ in 0..3 {
            lanes.mine().fetch_add(1, Ordering::Relaxed);
        }
        std::thread::scope(|scope| {
            for _ in 0..count() {
                scope.spawn(|| lanes.mine().fetch_add(10, Ordering::Relaxed));
            }
        });
        let counts: Vec<_> = lanes.iter().map(|lane| lane.load(Ordering::Relaxed)).collect();
        assert_eq!(counts.iter().sum::<usize>(), 3 + 10 * count());
        assert_eq!(
            counts.iter().filter(|lane| *lane % 10 == 3).count(),
            1,
            "one thread, one lane: {counts:?}"
        );
    }
}
