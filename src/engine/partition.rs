//! A partition as the engine's user sees it: `submit` an operation, and inside it `with` the core and the user's own state.
//! The mailbox of the turn is the run queue: a first poll, a wake-up, a finished read, a neighbour's call are all the same mail.
//!
//! Futures are `Send` and checked to be so. Core and state are lent (`lent.rs`) to nobody but the holder of the turn: loans
//! aren't `Send`, so one that is kept across an `.await` is a compile error, and touching the core from outside is a panic, not a race.
//! Who only looks doesn't need the turn: a glance is enough.

use super::batch::{Batch, ChangeView};
use super::config::Durability;
use super::core::{Appended, Core, Ticket};
use super::error::{ReadError, WriteError};
use super::lent::Lent;
use super::limits::LOOKS_BEFORE_WAITING;
use super::phase;
use super::segment::data_path;
use super::shell::Shell;
use super::types::{PartitionId, SegmentId};
use async_task::{FallibleTask, Task};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

/// One partition of a store, with the state `S` that the engine's user keeps beside it. A handle; clones share it.
pub struct Partition<S: Send + 'static> {
    pub(crate) shell: Arc<Shell>,
    state: Arc<Lent<S>>,
}

impl<S: Send + 'static> Clone for Partition<S> {
    fn clone(&self) -> Self {
        Partition { shell: self.shell.clone(), state: self.state.clone() }
    }
}

impl<S: Send + 'static> Partition<S> {
    pub(crate) fn new(shell: Arc<Shell>, state: S) -> Self {
        let state = Arc::new(Lent::new(shell.turn.lender().clone(), state));
        Partition { shell, state }
    }

    /// Which one it is.
    pub fn id(&self) -> PartitionId {
        self.shell.id
    }

    /// Runs the operation inside this partition's turn, at once on this thread if nobody is inside. The task is the answer:
    /// await it from another partition's operation, wait for it on a thread of your own, or detach it.
    /// Dropping the task cancels the operation at its next `.await`: detach what must go on.
    pub fn submit<T: Send + 'static>(&self, operation: impl Future<Output = T> + Send + 'static) -> Task<T> {
        self.shell.submit(operation)
    }

    /// The same for an operation that is made where it will stay: before it runs it already has the size of everything that it will ever keep,
    /// so whoever passes it on by value moves kilobytes.
    pub fn submit_made<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        make: impl FnOnce() -> F,
    ) -> Task<T> {
        self.shell.submit_made(make)
    }

    /// Like [`submit_made`](Self::submit_made) for an operation that nobody waits for. If nobody is inside, and it doesn't have to wait for anything, there
    /// never is a task. It is polled once with a waker that wakes nobody: whatever it waits for must take the newest waker.
    pub fn dispatch_made<F: Future<Output = ()> + Send + 'static>(&self, make: impl FnOnce() -> F) {
        self.shell.dispatch_made(make);
    }

    /// Like [`submit`](Self::submit), for awaiting: None if the operation panicked or the store is gone.
    pub fn call<T: Send + 'static>(
        &self,
        operation: impl Future<Output = T> + Send + 'static,
    ) -> FallibleTask<T> {
        self.shell.submit(operation).fallible()
    }

    /// Runs an operation in another partition, for awaiting in one of this partition: None if it panicked or the store is gone. If nobody is inside
    /// there, it is begun at once, beside; and if it doesn't have to wait for anything, that was all.
    pub async fn ask<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        there: &Partition<S>,
        make: impl FnOnce() -> F,
    ) -> Option<T> {
        let (mut make, mut begun) = (Some(make), None);
        let polled = std::future::poll_fn(|context| {
            let begin = || {
                let operation: &mut Pin<Box<F>> =
                    begun.insert(Box::into_pin(Box::write(Box::new_uninit(), make.take()?())));
                Some(operation.as_mut().poll(context))
            };
            Poll::Ready(self.shell.try_beside(&there.shell, begin))
        })
        .await;
        if polled.is_some() {
            there.shell.count_operation();
        }
        match (polled, begun, make) {
            (Some(Ok(Some(Poll::Ready(answer)))), ..) => Some(answer),
            (Some(Ok(Some(Poll::Pending))), Some(begun), _) => {
                // What it waits for first isn't all that it may wait for: it is elsewhere.
                phase::of_wait();
                there.shell.go_on(begun).fallible().await
            }
            (None, None, Some(make)) => there.shell.submit_made(make).fallible().await,
            _ => None,
        }
    }

    /// Changes the state with a plain function: at once if this thread is in the partition's turn or can go there beside the one that it is in, else
    /// sometime. What it does must not rest on anything that isn't settled.
    pub(crate) fn change_soon(&self, change: impl FnOnce(&mut S) + Send + 'static) {
        let mut change = Some(change);
        let mut at_once = || {
            if let Some(mut state) = self.state.try_borrow()
                && let Some(change) = change.take()
            {
                change(&mut state);
            }
        };
        if self.shell.turn.is_inside() {
            at_once();
        } else {
            let _ = self.shell.turn.try_beside(at_once);
        }
        if let Some(change) = change {
            let part = self.clone();
            self.submit(async move { part.with(|_, state| change(state)) }).detach();
        }
    }

    /// Plain `&mut` to the core and the user's state. Only inside an operation of this partition; never nested.
    ///
    /// # Panics
    /// Outside the partition's turn, or when nested: both are mistakes of the caller.
    pub fn with<R>(&self, f: impl FnOnce(&mut Core, &mut S) -> R) -> R {
        let mut state = self.state.try_borrow().expect("a state touched outside its turn, or twice");
        self.shell.with(|core| f(core, &mut state))
    }

    /// Looks at core and state with a plain function if the turn is free, or is so in a moment; else None, and nothing happened. Doesn't take the
    /// turn: others may look too, and whoever takes it waits for those who look, so the function must be short and wait for nothing.
    pub(crate) fn try_look<R>(&self, f: impl FnOnce(&Core, &S) -> R) -> Option<R>
    where
        S: Sync,
    {
        for _ in 0..LOOKS_BEFORE_WAITING {
            // Once before, so that whoever is inside isn't made to wait for nothing.
            if self.shell.turn.is_free() {
                let glance = self.shell.turn.lender().glance();
                // In this order: what is seen was left by whoever was in the turn last, not by somebody who is in the middle of something.
                if self.shell.turn.is_free()
                    && let Some(core) = self.shell.core.see(&glance)
                    && let Some(state) = self.state.see(&glance)
                {
                    return Some(f(core, state));
                }
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Appends changes and hands them over, if the turn is free (or is so in a moment), if `free` says that nothing is in the way, and
    /// if there is room; else None, and nothing happened. Saves an operation's allocation, and the copy of what it
    /// borrows. `records_bytes` is what the records take; keys and values must be valid (see [`Batch::validate`]).
    pub fn try_append<'a>(
        &self,
        free: impl FnOnce(&S) -> bool,
        records_bytes: usize,
        changes: impl ExactSizeIterator<Item = ChangeView<'a>> + Clone,
    ) -> Option<Appended> {
        let append = |core: &mut Core, state: &mut S| {
            if free(state) { core.append_now(records_bytes, changes) } else { None }
        };
        match self.shell.turn.try_inside(|| self.with(append)).flatten()? {
            // A neighbour that has taken a smaller number is about to hand it over.
            Appended::Owed { last, .. } if self.shell.common.order.settles_soon(last) => {
                Some(Appended::Settled)
            }
            appended => Some(appended),
        }
    }

    /// The value of a key, read by the calling thread, which waits for the disk if it must: outside of any turn. None if the
    /// turn isn't free, if `visible` says that nobody may answer from the key now, if what the answer rests on isn't settled, or if what was read
    /// isn't right: [`get`](Self::get) finds out why. Whoever takes the turn waits for `visible`, so it must be short and wait for nothing.
    ///
    /// # Panics
    /// If `visible` calls [`with`](Self::with): a mistake of the caller.
    pub fn try_get(&self, key: &[u8], visible: impl FnOnce(&S) -> bool) -> Option<Option<Vec<u8>>>
    where
        S: Sync,
    {
        let look = |core: &Core, state: &S| if visible(state) { core.look(key) } else { None };
        let (found, lacking) = self.try_look(look).flatten()?;
        if let Some(segment) = lacking {
            self.open_lane(segment);
        }
        found.read_here(key)
    }

    /// Opens a segment once more, for the threads of this lane.
    fn open_lane(&self, segment: SegmentId)
    where
        S: Sync,
    {
        // If it can't be opened, the lane is without; that's only slower.
        let opened = self.shell.common.disk.open(&data_path(self.id(), segment)).ok();
        self.try_look(|core, _| core.segments.get(&segment).map(|segment| segment.set_lane(opened)));
    }

    /// The value of a key; None if there is none. Inside an operation of this partition. The answer may rest on changes
    /// that aren't settled: see [`settled`](Self::settled).
    pub async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.shell.get(key).await
    }

    /// The value of a key, if nothing has to be waited for, and it is right; else None: [`get`](Self::get) finds out why.
    pub(crate) fn get_now(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        self.shell.get_now(key)
    }

    /// The values of several keys, in their order; neighbours in the log are read together.
    pub async fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Result<Option<Vec<u8>>, ReadError>> {
        self.shell.get_many(keys).await
    }

    /// The same, each shown once with its key's place among the keys, in any order, to who copies it to where it belongs.
    pub async fn visit(&self, keys: &[Vec<u8>], see: impl FnMut(usize, Result<Option<&[u8]>, ReadError>)) {
        self.shell.visit(keys, see).await;
    }

    /// Lets those who wait for the partition have their turn: for operations that look at a lot.
    pub async fn give_way(&self) {
        // Runs behind what is in the mailbox.
        self.call(async {}).await;
    }

    /// Waits until a commit of so many record bytes (see [`Batch::records_bytes`]) has room: then the next `with`, if
    /// no other `.await` lies between, may [`append`](Core::append) one batch of at most that size.
    pub async fn room(&self, records_bytes: usize) -> Result<(), WriteError> {
        self.shell.room(records_bytes, false).await
    }

    /// Waits until a batch has room; see [`room`](Self::room).
    pub async fn room_for(&self, batch: &Batch) -> Result<(), WriteError> {
        self.shell.room(batch.records_bytes(), batch.frees_space()).await
    }

    /// The same for a commit that frees space: when the disk is full, it may use the reserve.
    pub async fn room_to_free(&self, records_bytes: usize) -> Result<(), WriteError> {
        self.shell.room(records_bytes, true).await
    }

    /// Waits until what was appended under the ticket may be acknowledged: settled, and in the durability mode `always`
    /// durable too.
    pub async fn settle(&self, ticket: Ticket) -> Result<(), WriteError> {
        self.shell.settle(ticket).await?;
        match self.shell.common.config.durability {
            Durability::Always => self.shell.common.sync().await,
            _ => Ok(()),
        }
    }

    /// Waits until everything that this partition has appended so far is settled. Who has read something from the
    /// partition calls this before answering: nobody is shown what a kill could take back.
    pub async fn settled(&self) -> Result<(), WriteError> {
        let ticket = self.shell.with(|core| core.newest_ticket());
        if self.shell.with(|core| core.is_settled(ticket)) {
            return Ok(());
        }
        self.shell.settle(ticket).await
    }

    /// Room, append, settle: for callers that have nothing to check.
    pub async fn commit(&self, batch: Batch) -> Result<(), WriteError> {
        batch.validate()?;
        self.shell.room(batch.records_bytes(), batch.frees_space()).await?;
        let ticket = self.shell.with(|core| core.append(&batch));
        self.settle(ticket).await
    }
}
