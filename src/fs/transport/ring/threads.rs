//! The threads of the ring transport: one for each possible processor, pinned to it. They are there, with rings and memory, before the
//! filesystem is mounted: once the transport is negotiated there is no way back.

use super::manners::{Manners, StandBack};
use super::queue::{Queue, Ring};
use super::serve::Server;
use crate::engine::has_errands;
use crate::fs::transport::dispatch::Serve;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Threads that wait for the connection to serve.
pub struct Threads {
    threads: Vec<Waiting>,
}

/// One of them: where it takes the connection from, and what it comes to.
struct Waiting {
    connect: Sender<Arc<OwnedFd>>,
    thread: JoinHandle<io::Result<()>>,
}

/// Queues that the kernel wants: one for each processor that there could be.
///
/// # Errors
/// If the kernel doesn't tell.
pub fn queue_count() -> io::Result<u16> {
    let listed = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = listed.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<u16>().ok());
    last.and_then(|last| last.checked_add(1)).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

impl Threads {
    /// Makes queues of this depth with room for payloads of so many bytes, and starts a thread for each, which stands back as far as that is good and
    /// it is told how.
    ///
    /// # Errors
    /// If there are no rings to be had, or no memory or threads.
    pub fn start<S: Serve>(
        server: Server<S>,
        depth: u16,
        payload_bytes: usize,
        stand_back: Option<StandBack>,
    ) -> io::Result<Self> {
        let server = Arc::new(server);
        let mut threads = Vec::new();
        for number in 0..queue_count()? {
            let (connect, connection) = channel();
            let (ready, is_ready) = channel();
            let server = server.clone();
            let work = move || {
                // A processor that isn't there yet can't be pinned to.
                let mut processor = CpuSet::new();
                let _ = processor
                    .set(usize::from(number))
                    .and_then(|()| sched_setaffinity(Pid::from_raw(0), &processor));
                // Here: a ring belongs to the thread that makes it.
                match Queue::new(number, depth, payload_bytes).and_then(Ring::new) {
                    Ok(ring) => {
                        let _ = ready.send(Ok(()));
                        serve(ring, &server, &connection, stand_back)
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        Ok(())
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("bitkv-ring-{number}")).spawn(work)?;
            is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("the thread of a queue died")))?;
            threads.push(Waiting { connect, thread });
        }
        Ok(Threads { threads })
    }

    /// Serves a connection that has negotiated the transport.
    ///
    /// # Errors
    /// If its descriptor can't be duplicated.
    pub fn connect(&self, device: &impl AsFd) -> io::Result<()> {
        let device = Arc::new(device.as_fd().try_clone_to_owned()?);
        for waiting in &self.threads {
            let _ = waiting.connect.send(device.clone());
        }
        Ok(())
    }

    /// Waits until the connection is gone, and all threads with it.
    ///
    /// # Errors
    /// What the first of them that failed died of.
    pub fn join(self) -> io::Result<()> {
        let mut result = Ok(());
        for Waiting { connect, thread } in self.threads {
            drop(connect);
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread of a queue died")));
            result = result.and(ended);
        }
        result
    }
}

fn serve(
    ring: Ring,
    server: &Server<impl Serve>,
    connection: &Receiver<Arc<OwnedFd>>,
    stand_back: Option<StandBack>,
) -> io::Result<()> {
    // None comes if the mount didn't come about, or without the transport.
    let Ok(device) = connection.recv() else { return Ok(()) };
    let manners = RefCell::new(stand_back.and_then(Manners::of_this_thread));
    let ended = ring.run(device.as_fd(), |reply| {
        // A reply that is dropped on the way answers EIO; the panic itself is in the log.
        let _ = catch_unwind(AssertUnwindSafe(|| server.serve(reply)));
        if let Some(manners) = &mut *manners.borrow_mut() {
            manners.served(has_errands());
        }
    });
    if let Err(error) = &ended {
        // The kernel would wait for this queue for ever. As after a crash, nothing that was acknowledged is lost.
        tracing::error!("serving requests over io_uring failed: {error}; ending; mount with --transport dev");
        std::process::exit(1);
    }
    ended
}
