//! A partition's worker: a thread that owns a ring and carries out what it is sent. It sleeps in the ring, woken by a bell (an
//! eventfd whose read is always armed); senders ring only if it has said that it sleeps.

use super::background::join;
use super::guarded;
use super::ring::{Bell, Ring};
use crate::engine::disk::Request;
use crossbeam_queue::SegQueue;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::JoinHandle;

pub(super) struct Worker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    has_ring: bool,
}

struct Shared {
    requests: SegQueue<Request>,
    bell: Bell,
    asleep: AtomicBool,
    stop: AtomicBool,
}

impl Worker {
    pub(super) fn start(index: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            requests: SegQueue::new(),
            bell: Bell::new()?,
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let running = shared.clone();
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name(format!("bitkv-worker-{index}")).spawn(move || {
            // The ring belongs to the thread that makes it.
            let ring = Ring::new();
            if let Err(error) = &ring {
                tracing::warn!("worker {index} goes without a ring: {error}");
            }
            let _ = sender.send(ring.is_ok());
            match ring {
                Ok(ring) => running.run_with(ring),
                Err(_) => running.run_without(),
            }
        })?;
        let has_ring = receiver.recv().unwrap_or(false);
        Ok(Worker { shared, thread: Mutex::new(Some(thread)), has_ring })
    }

    pub(super) fn has_ring(&self) -> bool {
        self.has_ring
    }

    pub(super) fn submit(&self, request: Request) {
        if self.shared.stop.load(Ordering::Acquire) {
            return refuse(request);
        }
        self.shared.requests.push(request);
        self.shared.wake();
    }

    pub(super) fn shut_down(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        join(self.thread.lock().take());
        // What came in the very last moment.
        while let Some(request) = self.shared.requests.pop() {
            refuse(request);
        }
    }
}

/// Tells that nobody is there any more.
fn refuse(request: Request) {
    let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the store is closed");
    match request {
        Request::Read { done, .. } => guarded(|| done(Err(gone()))),
        Request::Sync { done, .. } => guarded(|| done(Err(gone()))),
        Request::Job(job) => drop(job),
    }
}

impl Shared {
    fn wake(&self) {
        // Against the worker's own order: announce, look once more, sleep.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.bell.ring();
        }
    }

    /// Says that the worker sleeps from now on; false if something came meanwhile.
    fn announce_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.requests.is_empty() && !self.stop.load(Ordering::Relaxed)
    }

    fn run_with(&self, mut ring: Ring) {
        loop {
            ring.arm(&self.bell);
            while let Some(request) = self.requests.pop() {
                ring.start(request, guarded);
            }
            if self.stop.load(Ordering::Acquire) && self.requests.is_empty() && ring.is_idle() {
                return;
            }
            let may_sleep = self.announce_sleep() || !ring.is_idle();
            let wait = may_sleep && self.requests.is_empty();
            if let Err(error) = ring.enter(wait) {
                tracing::error!("the ring failed: {error}");
            }
            self.asleep.store(false, Ordering::Relaxed);
            ring.complete(guarded);
        }
    }

    fn run_without(&self) {
        loop {
            while let Some(request) = self.requests.pop() {
                guarded(|| request.perform());
            }
            if self.stop.load(Ordering::Acquire) && self.requests.is_empty() {
                return;
            }
            if self.announce_sleep() {
                self.bell.wait();
            }
            self.asleep.store(false, Ordering::Relaxed);
        }
    }
}
