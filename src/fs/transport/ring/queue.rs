//! A processor's queue: its entries in memory that the kernel writes requests to and reads replies from, and the ring that passes them to
//! and fro. Replies that are there are handed over in the same call that waits for the next request.
//!
//! Soundness rests on one rule: an entry belongs to the kernel from the moment it is handed over until its completion has been seen, and
//! then to the one [`Reply`] that is made of it, until that is answered.
#![allow(unsafe_code)]

use super::encode::Filling;
use super::wire::{self, Header, OPERATION_BYTES_MAX};
use crate::engine::disk::uring::{Flights, Next, guarded};
use crate::engine::{keep_errands, next_errand};
use crate::fs::errno::Errno;
use crate::fs::transport::request::Request;
use crate::fs::types::Answer;
use crossbeam_queue::SegQueue;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// `FUSE_IO_URING_CMD_REGISTER` and `_COMMIT_AND_FETCH`.
const REGISTER: u32 = 1;
const COMMIT_AND_FETCH: u32 = 2;

/// The first part of an entry: the header of request or reply, the operation's own header, and what the transport says about them.
const PREFIX_BYTES: usize = 288;
const OPERATION_AT: usize = 128;
const COMMIT_ID_AT: usize = 264;
const PAYLOAD_SIZE_AT: usize = 272;
/// What a prefix takes: the payload behind it starts on a page of its own.
const PREFIX_ROOM: usize = 4096;
/// Where an entry of the ring has its length, which the binding can't set.
const LENGTH_AT: usize = 24;

/// Numbers of completions: of the bell, of what goes to the disk (this bit), else of an entry.
const BELL: u64 = u64::MAX;
const DISK: u64 = 1 << 32;
/// Room for what goes to the disk with one call.
const DISK_ENTRIES: u32 = 32;

/// Memory of one entry, and the two vectors that describe it to the kernel.
struct Slot {
    memory: *mut u8,
    layout: Layout,
    vectors: Box<[libc::iovec; 2]>,
}

// SAFETY: the memory is the slot's own; who may touch it when is the rule above.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Slot {
    fn new(payload_bytes: usize) -> io::Result<Self> {
        let layout = Layout::from_size_align(PREFIX_ROOM + payload_bytes, PREFIX_ROOM)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the layout isn't empty. Zeroed memory of this size takes no room before it is touched.
        let memory = unsafe { alloc_zeroed(layout) };
        if memory.is_null() {
            return Err(io::Error::from(io::ErrorKind::OutOfMemory));
        }
        // SAFETY: within the allocation.
        let payload = unsafe { memory.add(PREFIX_ROOM) };
        let vectors = Box::new([
            libc::iovec { iov_base: memory.cast(), iov_len: PREFIX_BYTES },
            libc::iovec { iov_base: payload.cast(), iov_len: payload_bytes },
        ]);
        Ok(Slot { memory, layout, vectors })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and the queue that owns the slot goes after its ring and all replies.
        unsafe { dealloc(self.memory, self.layout) };
    }
}

/// One processor's entries; shared by its thread and the replies that are yet to come.
pub(super) struct Queue {
    number: u16,
    slots: Vec<Slot>,
    /// Entries whose reply is written.
    answered: SegQueue<u16>,
    /// The thread waits for the kernel, or is about to, and has to be told of replies.
    asleep: AtomicBool,
    bell: OwnedFd,
}

impl Queue {
    pub(super) fn new(number: u16, depth: u16, payload_bytes: usize) -> io::Result<Arc<Self>> {
        let slots = (0..depth).map(|_| Slot::new(payload_bytes)).collect::<Result<_, _>>()?;
        // SAFETY: no pointers; the result is checked before it is used.
        let bell = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if bell < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let bell = unsafe { OwnedFd::from_raw_fd(bell) };
        Ok(Arc::new(Queue { number, slots, answered: SegQueue::new(), asleep: AtomicBool::new(false), bell }))
    }

    fn give_back(&self, slot: u16) {
        self.answered.push(slot);
        // The thread says that it sleeps before it looks for answers a last time: one of the two sees the other.
        if self.asleep.swap(false, Ordering::SeqCst) {
            // Can fail only if the counter overflows, and then it rings anyway.
            let _ = nix::unistd::write(&self.bell, &1u64.to_ne_bytes());
        }
    }
}

/// The right to answer one request. Dropped unanswered (its operation panicked, or the mount ends) it answers EIO.
pub(super) struct Reply {
    queue: Arc<Queue>,
    slot: u16,
    unique: u64,
    answered: bool,
}

impl Reply {
    /// For an entry whose completion was just seen.
    fn new(queue: &Arc<Queue>, slot: u16) -> Self {
        let mut reply = Reply { queue: queue.clone(), slot, unique: 0, answered: false };
        reply.unique = wire::header(reply.prefix()).map_or(0, |header| header.unique);
        reply
    }

    fn slot(&self) -> &Slot {
        &self.queue.slots[usize::from(self.slot)]
    }

    fn prefix(&self) -> &[u8] {
        // SAFETY: the memory has this length and is initialized; by the rule it is the reply's alone, which is borrowed.
        unsafe { std::slice::from_raw_parts(self.slot().memory, PREFIX_BYTES) }
    }

    fn prefix_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.slot().memory, PREFIX_BYTES) }
    }

    fn payload(&self) -> &[u8] {
        let vector = self.slot().vectors[1];
        // SAFETY: as `prefix`; the vector describes the rest of the allocation.
        unsafe { std::slice::from_raw_parts(vector.iov_base.cast(), vector.iov_len) }
    }

    pub(super) fn payload_mut(&mut self) -> &mut [u8] {
        let vector = self.slot().vectors[1];
        // SAFETY: as above, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(vector.iov_base.cast(), vector.iov_len) }
    }

    /// The request.
    pub(super) fn request(&self) -> Answer<(Header, Request)> {
        let prefix = self.prefix();
        let header = wire::header(prefix)?;
        let operation = &prefix[OPERATION_AT..OPERATION_AT + OPERATION_BYTES_MAX];
        let size = u32::from_ne_bytes(prefix[PAYLOAD_SIZE_AT..PAYLOAD_SIZE_AT + 4].try_into().unwrap());
        let rest = self.payload().get(..size as usize).ok_or(Errno::EINVAL)?;
        Ok((header, wire::request(header.opcode, operation, rest)?))
    }

    /// Answers with what `fill` makes of a value, or with an errno.
    pub(super) fn fill<T>(mut self, answer: Answer<T>, fill: impl FnOnce(T, &mut Filling<'_>)) {
        match answer {
            Ok(value) => {
                let mut filling = Filling::new(self.payload_mut());
                fill(value, &mut filling);
                let length = filling.length();
                self.finish(0, length);
            }
            Err(error) => self.finish(-error.0, 0),
        }
    }

    fn finish(&mut self, error: i32, length: usize) {
        self.answered = true;
        let unique = self.unique;
        let prefix = self.prefix_mut();
        prefix[..4].copy_from_slice(&(length as u32 + 16).to_ne_bytes());
        prefix[4..8].copy_from_slice(&error.to_ne_bytes());
        prefix[8..16].copy_from_slice(&unique.to_ne_bytes());
        prefix[PAYLOAD_SIZE_AT..PAYLOAD_SIZE_AT + 4].copy_from_slice(&(length as u32).to_ne_bytes());
        self.queue.give_back(self.slot);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.answered {
            self.finish(-Errno::EIO.0, 0);
        }
    }
}

/// The ring of one queue, and of what its thread asks of the disk. Used by one thread only, the one that makes it.
pub(super) struct Ring {
    ring: IoUring<squeue::Entry128>,
    queue: Arc<Queue>,
    bell_count: Box<[u8; 8]>,
    /// What names the request in an entry, until it is committed.
    commit_ids: Vec<u64>,
    flights: Flights,
    /// Entries that the kernel has.
    with_kernel: usize,
    registered: bool,
    gone: bool,
}

impl Ring {
    pub(super) fn new(queue: Arc<Queue>) -> io::Result<Self> {
        // Room for every entry, the bell and what goes to the disk at once; with more of that it takes another call.
        let entries = (queue.slots.len() as u32 + 1 + DISK_ENTRIES).next_power_of_two();
        let tuned = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(entries);
        let ring = match tuned {
            // Older kernels don't know these flags.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::builder().build(entries)?,
            other => other?,
        };
        keep_on_processor(&ring, queue.number);
        let commit_ids = vec![0; queue.slots.len()];
        Ok(Ring {
            ring,
            queue,
            bell_count: Box::new([0; 8]),
            commit_ids,
            flights: Flights::default(),
            with_kernel: 0,
            registered: false,
            gone: false,
        })
    }

    /// Serves until the connection is gone.
    ///
    /// # Errors
    /// If the kernel doesn't take the entries, or the ring fails.
    pub(super) fn run(mut self, device: BorrowedFd<'_>, serve: impl Fn(Reply)) -> io::Result<()> {
        let device = device.as_raw_fd();
        keep_errands();
        let count = self.queue.slots.len() as u16;
        (0..count).for_each(|slot| self.hand_over(device, REGISTER, slot));
        self.arm_bell();
        let mut completions: Vec<(u64, i32)> = Vec::with_capacity(self.queue.slots.len() + 1);
        loop {
            self.take_answers_and_errands(device);
            if self.gone && self.with_kernel == 0 && self.flights.is_empty() {
                return Ok(());
            }
            self.queue.asleep.store(true, Ordering::SeqCst);
            let may_sleep = self.queue.answered.is_empty();
            if may_sleep {
                match self.ring.submit_and_wait(1) {
                    Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                    other => drop(other?),
                }
            }
            self.queue.asleep.store(false, Ordering::SeqCst);
            completions
                .extend(self.ring.completion().map(|done: cqueue::Entry| (done.user_data(), done.result())));
            for (whose, result) in completions.drain(..) {
                match whose {
                    BELL => self.arm_bell(),
                    _ if whose & DISK != 0 => {
                        let next = self.flights.ended(whose & !DISK, result);
                        self.go_on(next);
                    }
                    slot => self.entry_ended(device, slot as u16, result, &serve)?,
                }
            }
        }
    }

    /// What has been answered goes to the kernel, and what the answering asks of the disk, with the next call.
    fn take_answers_and_errands(&mut self, device: RawFd) {
        loop {
            if let Some(slot) = self.queue.answered.pop() {
                if !self.gone {
                    self.hand_over(device, COMMIT_AND_FETCH, slot);
                }
            } else if let Some(request) = next_errand() {
                let next = self.flights.start(request);
                self.go_on(next);
            } else {
                return;
            }
        }
    }

    fn go_on(&mut self, next: Next) {
        match next {
            Next::Submit(entry) => {
                let number = entry.get_user_data();
                self.push(&entry.user_data(DISK | number).into());
            }
            Next::Run(job) => guarded(job),
            Next::Nothing => {}
        }
    }

    /// The kernel gives an entry back: with a request, or without.
    fn entry_ended(
        &mut self,
        device: RawFd,
        slot: u16,
        result: i32,
        serve: impl Fn(Reply),
    ) -> io::Result<()> {
        self.with_kernel -= 1;
        match -result {
            0 => {
                self.registered = true;
                self.note_commit_id(slot);
                serve(Reply::new(&self.queue, slot));
            }
            libc::EAGAIN | libc::EINTR => {
                let fresh = self.commit_ids[usize::from(slot)] == 0;
                self.hand_over(device, if fresh { REGISTER } else { COMMIT_AND_FETCH }, slot);
            }
            libc::ENOTCONN | libc::ECANCELED | libc::ENODEV => self.gone = true,
            error => {
                let error = io::Error::from_raw_os_error(error);
                tracing::error!("queue {}: the kernel refuses entry {slot}: {error}", self.queue.number);
                if !self.registered || self.with_kernel == 0 {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn note_commit_id(&mut self, slot: u16) {
        let memory = self.queue.slots[usize::from(slot)].memory;
        // SAFETY: within the prefix; the completion has been seen, and there is no reply for it yet.
        self.commit_ids[usize::from(slot)] = unsafe { memory.add(COMMIT_ID_AT).cast::<u64>().read() };
    }

    fn hand_over(&mut self, device: RawFd, command: u32, slot: u16) {
        let vectors = self.queue.slots[usize::from(slot)].vectors.as_ptr().addr() as u64;
        let mut argument = [0; 80];
        argument[8..16].copy_from_slice(&self.commit_ids[usize::from(slot)].to_ne_bytes());
        argument[16..18].copy_from_slice(&self.queue.number.to_ne_bytes());
        let entry =
            opcode::UringCmd80::new(types::Fd(device), command).cmd(argument).addr(Some(vectors)).build();
        let mut entry = entry.user_data(u64::from(slot));
        // SAFETY: the entry is laid out as the kernel has it, 128 bytes of plain numbers.
        unsafe { (&raw mut entry).cast::<u8>().add(LENGTH_AT).cast::<u32>().write(2) };
        self.push(&entry);
        self.with_kernel += 1;
    }

    fn arm_bell(&mut self) {
        let bell = types::Fd(self.queue.bell.as_raw_fd());
        let entry = opcode::Read::new(bell, self.bell_count.as_mut_ptr(), 8).build().user_data(BELL);
        self.push(&entry.into());
    }

    fn push(&mut self, entry: &squeue::Entry128) {
        // SAFETY: what the entry points to stays until its completion has been seen: slots and count as long as the ring (and after it,
        // see `drop`), the rest in the table of flights.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            if let Err(error) = self.ring.submit() {
                tracing::error!("queue {}: the ring takes nothing: {error}", self.queue.number);
                std::thread::yield_now();
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Closing the ring cancels the bell's read, but not at once. Eight bytes are a small price.
        std::mem::forget(std::mem::replace(&mut self.bell_count, Box::new([0; 8])));
    }
}

/// What the kernel does for the ring on threads of its own (syncs) stays on the queue's processor, where waking them costs least.
fn keep_on_processor(ring: &IoUring<squeue::Entry128>, number: u16) {
    if usize::from(number) >= libc::CPU_SETSIZE as usize {
        return;
    }
    // SAFETY: a set of processors is plain bits, of which none is set at first; the number is one that it has.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(usize::from(number), &mut set);
        set
    };
    // Where it can't be had, waking costs more.
    let _ = ring.submitter().register_iowq_aff(&set);
}
