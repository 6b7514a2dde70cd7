//! How much mail callers may have in flight: a bounded count of operations, a bounded sum of bytes. Who comes when it is used up waits
//! in line, with nothing copied yet.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// The bound, and who waits.
pub(crate) struct Allowance {
    operations_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    operations: usize,
    bytes: usize,
    /// In order of coming.
    line: BTreeMap<u64, Waker>,
    tickets: u64,
}

/// Leave to be in flight; given back when dropped.
pub(crate) struct Permit {
    allowance: Arc<Allowance>,
    bytes: usize,
}

/// A place in the line; given up when dropped.
struct Place<'a> {
    allowance: &'a Allowance,
    ticket: Option<u64>,
}

impl Allowance {
    pub(crate) fn new(operations_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Allowance { operations_max, bytes_max, state: Mutex::default() })
    }

    /// Waits until an operation with so many bytes may go. One larger than the bound goes when it is alone.
    pub(crate) async fn take(self: &Arc<Self>, bytes: usize) -> Permit {
        let bytes = bytes.min(self.bytes_max);
        let mut place = Place { allowance: self, ticket: None };
        std::future::poll_fn(|context| {
            let mut state = self.state.lock();
            let is_first = match place.ticket {
                None => state.line.is_empty(),
                Some(mine) => state.line.keys().next() == Some(&mine),
            };
            let fits = state.operations < self.operations_max && state.bytes + bytes <= self.bytes_max;
            if is_first && fits {
                state.operations += 1;
                state.bytes += bytes;
                return Poll::Ready(());
            }
            let ticket = *place.ticket.get_or_insert_with(|| {
                state.tickets += 1;
                state.tickets
            });
            state.line.insert(ticket, context.waker().clone());
            Poll::Pending
        })
        .await;
        // Leaving the line calls the next one, for whom there may be room too.
        drop(place);
        Permit { allowance: self.clone(), bytes }
    }

    fn call_first(&self) {
        let first = self.state.lock().line.values().next().cloned();
        if let Some(waker) = first {
            waker.wake();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.allowance.state.lock().line.remove(&ticket);
            self.allowance.call_first();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.allowance.state.lock();
        state.operations -= 1;
        state.bytes -= self.bytes;
        let waits = !state.line.is_empty();
        drop(state);
        if waits {
            self.allowance.call_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::Pin;
    use std::task::Context;

    type Taking = Pin<Box<dyn Future<Output = Permit>>>;

    fn taking(allowance: &Arc<Allowance>, bytes: usize) -> Taking {
        let allowance = allowance.clone();
        Box::pin(async move { allowance.take(bytes).await })
    }
    fn poll(taking: &mut Taking) -> Option<Permit> {
        match taking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    #[test]
    fn operations_and_bytes_are_bounded_and_come_in_order() {
        let allowance = Allowance::new(3, 100);
        let a = poll(&mut taking(&allowance, 60)).expect("there is room");
        let mut b = taking(&allowance, 60);
        let mut c = taking(&allowance, 10);
        assert!(poll(&mut b).is_none(), "too many bytes");
        assert!(poll(&mut c).is_none(), "it would fit, but has come later");
        drop(a);
        assert!(poll(&mut c).is_none(), "still not its turn");
        let b = poll(&mut b).expect("its turn");
        let c = poll(&mut c).expect("and the next");
        let d = poll(&mut taking(&allowance, 0)).expect("the third");
        let mut e = taking(&allowance, 0);
        assert!(poll(&mut e).is_none(), "too many operations");
        drop((b, c, d));
        assert!(poll(&mut e).is_some());
    }

    #[test]
    fn who_goes_away_holds_nobody_up() {
        let allowance = Allowance::new(1, 100);
        let a = poll(&mut taking(&allowance, 1)).unwrap();
        let (mut b, mut c) = (taking(&allowance, 1), taking(&allowance, 1));
        assert!(poll(&mut b).is_none() && poll(&mut c).is_none());
        drop(b);
        drop(a);
        assert!(poll(&mut c).is_some());
    }

    #[test]
    fn what_is_larger_than_the_bound_goes_alone() {
        let allowance = Allowance::new(10, 100);
        let small = poll(&mut taking(&allowance, 1)).unwrap();
        let mut large = taking(&allowance, 1000);
        assert!(poll(&mut large).is_none());
        drop(small);
        assert!(poll(&mut large).is_some());
    }
}
