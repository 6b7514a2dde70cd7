//! The thread for slow work: jobs in order, one at a time.

use super::guarded;
use crate::engine::disk::Request;
use parking_lot::Mutex;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

pub(super) struct Background {
    sender: Mutex<Option<Sender<Request>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let (sender, receiver) = channel::<Request>();
        let thread = std::thread::Builder::new().name(name.to_string()).spawn(move || {
            for request in receiver {
                guarded(|| request.perform());
            }
        })?;
        Ok(Background { sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn submit(&self, request: Request) {
        if let Some(sender) = &*self.sender.lock() {
            // The thread ends only after the sender is gone.
            let _ = sender.send(request);
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
