//! A processor's queue: its entries in memory that the kernel writes requests to and reads replies from, and the ring that passes them to
//! and fro. Replies that are there are handed over in the same call that waits for the next request.
//!
//! Soundness rests on one rule: an entry belongs to the kernel from the moment it is handed over until its completion has been seen, and
//! then to the one [`Reply`] that is made of it, until that is answered.
#![allow(unsafe_code)]

use super::encode::Filling;
use super::wire::{self, Header, OPERATION_BYTES_MAX, Request};
use crate::fs::errno::Errno;
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

const BELL: u64 = u64::MAX;

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

    fn payload_mut(&mut self) -> &mut [u8] {
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
    pub(super) fn answer<T>(mut self, answer: Answer<T>, fill: impl FnOnce(T, &mut Filling<'_>)) {
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

    /// Answers with an errno.
    pub(super) fn fail(mut self, error: Errno) {
        self.finish(-error.0, 0);
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

/// The ring of one queue. Used by one thread only, the one that makes it.
pub(super) struct Ring {
    ring: IoUring<squeue::Entry128>,
    queue: Arc<Queue>,
    bell_count: Box<[u8; 8]>,
    /// What names the request in an entry, until it is committed.
    commit_ids: Vec<u64>,
}

impl Ring {
    pub(super) fn new(queue: Arc<Queue>) -> io::Result<Self> {
        // Room for every entry and the bell.
        let entries = (queue.slots.len() as u32 + 1).next_power_of_two();
        let tuned = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(entries);
        let ring = match tuned {
            // Older kernels don't know these flags.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::builder().build(entries)?,
            other => other?,
        };
        let commit_ids = vec![0; queue.slots.len()];
        Ok(Ring { ring, queue, bell_count: Box::new([0; 8]), commit_ids })
    }

    /// Serves until the connection is gone.
    ///
    /// # Errors
    /// If the kernel doesn't take the entries, or the ring fails.
    pub(super) fn run(mut self, device: BorrowedFd<'_>, serve: impl Fn(Reply)) -> io::Result<()> {
        let device = device.as_raw_fd();
        let count = self.queue.slots.len() as u16;
        (0..count).for_each(|slot| self.hand_over(device, REGISTER, slot));
        let mut with_kernel = self.queue.slots.len();
        let mut registered = 0;
        let mut gone = false;
        self.arm_bell();
        let mut completions: Vec<(u64, i32)> = Vec::with_capacity(with_kernel + 1);
        loop {
            while let Some(slot) = self.queue.answered.pop() {
                if !gone {
                    self.hand_over(device, COMMIT_AND_FETCH, slot);
                    with_kernel += 1;
                }
            }
            if gone && with_kernel == 0 {
                return Ok(());
            }
            self.queue.asleep.store(true, Ordering::SeqCst);
            let wanted = usize::from(self.queue.answered.is_empty());
            if wanted == 0 {
                self.queue.asleep.store(false, Ordering::SeqCst);
                continue;
            }
            match self.ring.submit_and_wait(wanted) {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                other => drop(other?),
            }
            self.queue.asleep.store(false, Ordering::SeqCst);
            completions.clear();
            completions
                .extend(self.ring.completion().map(|done: cqueue::Entry| (done.user_data(), done.result())));
            for &(whose, result) in &completions {
                if whose == BELL {
                    self.arm_bell();
                    continue;
                }
                let slot = whose as u16;
                match result {
                    0 => {
                        registered += 1;
                        with_kernel -= 1;
                        self.note_commit_id(slot);
                        serve(Reply::new(&self.queue, slot));
                    }
                    _ if result == -libc::EAGAIN || result == -libc::EINTR => {
                        let command =
                            if self.commit_ids[usize::from(slot)] == 0 { REGISTER } else { COMMIT_AND_FETCH };
                        self.hand_over(device, command, slot);
                    }
                    _ if [-libc::ENOTCONN, -libc::ECANCELED, -libc::ENODEV].contains(&result) => {
                        with_kernel -= 1;
                        gone = true;
                    }
                    _ => {
                        with_kernel -= 1;
                        let error = io::Error::from_raw_os_error(-result);
                        tracing::error!(
                            "queue {}: the kernel refuses entry {slot}: {error}",
                            self.queue.number
                        );
                        if registered == 0 || with_kernel == 0 {
                            return Err(error);
                        }
                    }
                }
            }
        }
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
    }

    fn arm_bell(&mut self) {
        let bell = types::Fd(self.queue.bell.as_raw_fd());
        let entry = opcode::Read::new(bell, self.bell_count.as_mut_ptr(), 8).build().user_data(BELL);
        self.push(&entry.into());
    }

    fn push(&mut self, entry: &squeue::Entry128) {
        // SAFETY: what the entry points to lives as long as the ring: slots and count are owned by it, and go after it.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            // Can't happen: there is room for every entry and the bell.
            let _ = self.ring.submit();
        }
    }
}
