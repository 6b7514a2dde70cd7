//! The ring, and the other calls that the standard library lacks. One of two files of the engine with unsafe code (the other is `lent.rs`).
//!
//! Soundness rests on one rule: what the kernel writes to or reads from while an operation is under way is owned by the table of flights
//! until its completion has been seen.
#![allow(unsafe_code)]

use super::flights::{Flights, Next};
use crate::engine::disk::Request;
use io_uring::{IoUring, opcode, squeue, types};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const ENTRIES: u32 = 256;
const BELL: u64 = u64::MAX;

/// An eventfd.
pub(super) struct Bell {
    descriptor: OwnedFd,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is used.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        Ok(Bell { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) } })
    }

    pub(super) fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // Can fail only if the counter overflows, and then it rings anyway.
        let _ = nix::unistd::write(&self.descriptor, &one);
    }

    pub(super) fn wait(&self) {
        let mut count = [0; 8];
        let _ = nix::unistd::read(&self.descriptor, &mut count);
    }
}

/// A ring of one thread.
pub(super) struct Ring {
    ring: IoUring,
    flights: Flights,
    /// Where the armed read of the bell puts its count.
    bell_count: Box<[u8; 8]>,
    bell_armed: bool,
    finished: Vec<(u64, i32)>,
}

impl Ring {
    pub(super) fn new() -> io::Result<Self> {
        let tuned = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(ENTRIES);
        let ring = match tuned {
            // Older kernels don't know these flags.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::new(ENTRIES)?,
            other => other?,
        };
        Ok(Ring {
            ring,
            flights: Flights::default(),
            bell_count: Box::new([0; 8]),
            bell_armed: false,
            finished: Vec::new(),
        })
    }

    /// Whether nothing is under way (the bell's read aside).
    pub(super) fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Sees to it that the bell wakes the ring.
    pub(super) fn arm(&mut self, bell: &Bell) {
        if self.bell_armed {
            return;
        }
        let descriptor = types::Fd(bell.descriptor.as_raw_fd());
        let entry = opcode::Read::new(descriptor, self.bell_count.as_mut_ptr(), 8).build().user_data(BELL);
        self.push(entry);
        self.bell_armed = true;
    }

    /// Starts a request, or has it run by `run` if it is none for a ring.
    pub(super) fn start(&mut self, request: Request, run: impl Fn(Box<dyn FnOnce()>)) {
        let next = self.flights.start(request);
        self.go_on(next, run);
    }

    fn go_on(&mut self, next: Next, run: impl Fn(Box<dyn FnOnce()>)) {
        match next {
            Next::Submit(entry) => self.push(entry),
            Next::Run(job) => run(job),
            Next::Nothing => {}
        }
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: the entry's buffer is the bell's count, which lives as long as the ring, or belongs to a flight that stays in
        // the table until its completion; so does the file that its descriptor stands for.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            if let Err(error) = self.ring.submit() {
                tracing::error!("the ring takes nothing: {error}");
                std::thread::yield_now();
            }
        }
    }

    /// Tells the kernel what is new; waits for a completion if told to.
    pub(super) fn enter(&mut self, wait: bool) -> io::Result<()> {
        match self.ring.submit_and_wait(usize::from(wait)) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    /// Looks at what has completed, and has each end run by `run`.
    pub(super) fn complete(&mut self, run: impl Fn(Box<dyn FnOnce()>)) {
        let mut finished = std::mem::take(&mut self.finished);
        finished
            .extend(self.ring.completion().map(|completion| (completion.user_data(), completion.result())));
        for (user_data, result) in finished.drain(..) {
            if user_data == BELL {
                self.bell_armed = false;
                continue;
            }
            let next = self.flights.ended(user_data, result);
            self.go_on(next, &run);
        }
        self.finished = finished;
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Only the bell's read can be under way: the worker ends when nothing else is. It writes to `bell_count`, which must
        // therefore outlive the ring; closing the ring cancels it, but not at once. Eight bytes are a small price for that.
        if self.bell_armed {
            std::mem::forget(std::mem::replace(&mut self.bell_count, Box::new([0; 8])));
        }
    }
}
