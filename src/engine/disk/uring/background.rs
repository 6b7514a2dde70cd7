//! A thread for slow work: jobs in order, one at a time.

use super::guarded;
use crate::engine::disk::Request;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

pub(super) struct Background {
    sender: Mutex<Option<Sender<Request>>>,
    /// What it was given and isn't done with.
    pending: Arc<AtomicUsize>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let (sender, receiver) = channel::<Request>();
        let pending = Arc::new(AtomicUsize::new(0));
        let left = pending.clone();
        let thread = std::thread::Builder::new().name(name.to_string()).spawn(move || {
            for request in receiver {
                guarded(|| request.perform());
                left.fetch_sub(1, Ordering::AcqRel);
            }
        })?;
        Ok(Background { sender: Mutex::new(Some(sender)), pending, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn submit(&self, request: Request) {
        if let Some(sender) = &*self.sender.lock() {
            self.pending.fetch_add(1, Ordering::AcqRel);
            // The thread ends only after the sender is gone.
            let _ = sender.send(request);
        }
    }

    /// The same if it has nothing else to do; else the request comes back.
    pub(super) fn offer(&self, request: Request) -> Result<(), Request> {
        let sender = self.sender.lock();
        let taken = sender
            .as_ref()
            .filter(|_| self.pending.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok());
        match taken {
            Some(sender) => sender.send(request).map_err(|refused| refused.0),
            None => Err(request),
        }
    }

    pub(super) fn shut_down(&self) {
        drop(self.sender.lock().take());
        join(self.thread.lock().take());
    }
}

/// Waits for a thread, unless it is the one that asks.
pub(super) fn join(thread: Option<JoinHandle<()>>) {
    if let Some(thread) = thread
        && thread.thread().id() != std::thread::current().id()
    {
        let _ = thread.join();
    }
}
