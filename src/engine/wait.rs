//! Waiting for a future on a thread that has nothing else to do.

use super::limits::LOOKS_BEFORE_WAITING;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Polls until it is ready, and sleeps in between.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let unpark = Arc::new(Unpark { thread: std::thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(unpark.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        unpark.woken.store(false, Ordering::Release);
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        let mut looks = 0;
        while !unpark.woken.load(Ordering::Acquire) {
            looks += 1;
            if looks < LOOKS_BEFORE_WAITING { std::hint::spin_loop() } else { std::thread::park() }
        }
    }
}
