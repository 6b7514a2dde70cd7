//! A partition as the engine's own rooms see it: the turn, the core, and what partitions share. Operations that wait (for
//! room, for being settled) live here.

use super::batch::Batch;
use super::common::{Common, partition_dir};
use super::core::{Core, Room, Ticket};
use super::disk::{Queue, Request};
use super::error::WriteError;
use super::lent::Lent;
use super::limits::UNSEALED_SEGMENTS_MAX;
use super::log::Part;
use super::phase::{self, Phase, waiting};
use super::planted::{Bug, planted};
use super::recovery::load::remove_segment;
use super::segment::Recipe;
use super::turn::{Panicked, Turn};
use super::types::{PartitionId, SegmentId};
use async_task::Task;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Which part of a segment's size the reserve has. It takes changes that free space when the disk is full, or makes room for the output
/// of a compaction: half a segment is enough for a segment of which half is dead.
const RESERVE_SHARE: u64 = 2;

pub(crate) struct Shell {
    pub(crate) id: PartitionId,
    pub(crate) turn: Arc<Turn>,
    pub(crate) common: Arc<Common>,
    pub(crate) core: Lent<Core>,
}

impl Shell {
    pub(crate) fn new(id: PartitionId, turn: Arc<Turn>, common: Arc<Common>, core: Core) -> Arc<Self> {
        let core = Lent::new(turn.lender().clone(), core);
        Arc::new(Shell { id, turn, common, core })
    }

    /// See [`Partition::submit`](super::partition::Partition::submit).
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        operation: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        self.submit_made(move || operation)
    }

    /// See [`Partition::submit_made`](super::partition::Partition::submit_made).
    pub(crate) fn submit_made<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        make: impl FnOnce() -> F,
    ) -> Task<T> {
        self.count_operation();
        self.spawn(make)
    }

    /// See [`Partition::dispatch_made`](super::partition::Partition::dispatch_made).
    pub(crate) fn dispatch_made<F: Future<Output = ()> + Send + 'static>(&self, make: impl FnOnce() -> F) {
        self.count_operation();
        let mut make = Some(make);
        self.turn.try_begin(|| {
            let Some(make) = make.take() else { return };
            // Made in its place: passed on by value it would be copied, and it has room for all that it will ever keep.
            let mut operation = Box::into_pin(Box::write(Box::new_uninit(), make()));
            let mut context = Context::from_waker(Waker::noop());
            if phase::without_queueing(|| operation.as_mut().poll(&mut context)).is_pending() {
                // What it waits for is told once more, to the waker of its own that it has from now on.
                self.go_on(operation).detach();
            }
        });
        if let Some(make) = make {
            self.spawn(make).detach();
        }
    }

    /// An operation that has begun goes on in this partition, as mail.
    pub(crate) fn go_on<T: Send + 'static>(
        &self,
        begun: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        self.spawn(move || begun)
    }

    pub(crate) fn count_operation(&self) {
        self.common.partition_counters[self.id.index()].operations.add(1);
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        make: impl FnOnce() -> F,
    ) -> Task<T> {
        let turn = self.turn.clone();
        let schedule = move |runnable| turn.post(runnable);
        let (runnable, task) = async_task::Builder::new().spawn(move |()| make(), schedule);
        runnable.schedule();
        task
    }

    /// Runs a plain function inside a neighbour's turn, beside this one: if this thread is in here, and the neighbour's is free. See
    /// [`Turn::try_beside`].
    pub(crate) fn try_beside<R>(&self, there: &Shell, f: impl FnOnce() -> R) -> Option<Result<R, Panicked>> {
        if !self.turn.is_inside() {
            return None;
        }
        there.turn.try_beside(|| {
            self.go_beside();
            f()
        })
    }

    /// What was appended in here so far gets its numbers before anything that is appended elsewhere by somebody who may have seen it. (Who asks by
    /// mail has left this turn by then.)
    pub(crate) fn go_beside(&self) {
        if !planted(Bug::GoAhead) {
            self.with(Core::flush);
        }
    }

    /// Plain `&mut` to the core, inside the turn.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Core) -> R) -> R {
        f(&mut self.core.try_borrow().expect("a core touched outside its turn, or twice"))
    }

    /// Before the first operation and after the last there are no turns: plain access.
    pub(crate) fn with_quiet<R>(&self, f: impl FnOnce(&mut Core) -> R) -> R {
        f(&mut self.core.borrow())
    }

    /// Waits until a commit of so many record bytes has room.
    pub(crate) async fn room(
        self: &Arc<Self>,
        records_bytes: usize,
        freeing: bool,
    ) -> Result<(), WriteError> {
        let mut has_waited = false;
        loop {
            let (room, wants_spare) =
                self.with(|core| (core.make_room(records_bytes, freeing, has_waited), core.wants_spare()));
            if wants_spare {
                self.make_spare();
            }
            match room {
                Room::Ready => return Ok(()),
                Room::Refused(error) => return Err(error),
                Room::Rotated(full) => {
                    let shell = self.clone();
                    self.submit(async move { shell.seal(full).await }).detach();
                }
                Room::Crowded => waiting(Phase::Room, self.wait_for_release()).await,
                Room::Unsealed => waiting(Phase::Room, self.wait_for_seal()).await,
                Room::Wait => {
                    self.make_spare();
                    waiting(Phase::Room, self.wait_for_spare()).await;
                    has_waited = true;
                }
            }
        }
    }

    /// Waits until some of the log space that others have reserved was used or given up, or the store has latched.
    async fn wait_for_release(&self) {
        let mut registered = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut registered, true) {
                return Poll::Ready(());
            }
            self.with(|core| core.join_crowd(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Waits until a full segment has got its seal, unless enough have it by now.
    async fn wait_for_seal(&self) {
        let mut registered = false;
        std::future::poll_fn(|context| {
            self.with(|core| {
                if registered || core.unsealed < UNSEALED_SEGMENTS_MAX {
                    return Poll::Ready(());
                }
                registered = true;
                core.seal_waiters.push(context.waker().clone());
                Poll::Pending
            })
        })
        .await;
    }

    pub(crate) async fn wait_for_spare(&self) {
        let mut registered = false;
        std::future::poll_fn(|context| {
            self.with(|core| {
                if registered || !core.spares.creating {
                    return Poll::Ready(());
                }
                registered = true;
                core.spares.waiters.push(context.waker().clone());
                Poll::Pending
            })
        })
        .await;
    }

    /// Starts making the next segment and the reserve, as far as they are missing, unless that is under way.
    pub(crate) fn make_spare(self: &Arc<Self>) {
        let starts = self.with(|core| {
            let missing = core.spares.next.is_none() || core.spares.reserve.is_none();
            missing && !std::mem::replace(&mut core.spares.creating, true)
        });
        if !starts {
            return;
        }
        let shell = self.clone();
        self.submit(async move {
            // A compaction that makes room on a full disk goes first, and may have made a reserve by then.
            let _growth = shell.common.growth().await;
            let (reserve, next) = shell.with(|core| {
                let reserve = core.spares.reserve.is_none().then(|| core.next_segment_id());
                (reserve, core.spares.next.is_none().then(|| core.next_segment_id()))
            });
            let reserve = reserve.map(|id| shell.reserve_recipe(id));
            let next = next.map(|id| shell.recipe(id, shell.common.config.segment_bytes));
            let made = shell
                .common
                .elsewhere(Queue::Making, move |disk| {
                    // The reserve first: without it, a full disk could not be emptied.
                    let reserve = reserve.map(|recipe| recipe.make(disk)).transpose()?;
                    Ok((reserve, next.map(|recipe| recipe.make(disk)).transpose()))
                })
                .await;
            shell.with(|core| core.spares_made(made));
            if shell.with(|core| core.spares.failure.is_some()) {
                // The disk is full: what is dead gives room.
                shell.consider_compaction();
            }
        })
        .detach();
    }

    fn recipe(&self, id: SegmentId, file_bytes: u64) -> Recipe {
        Recipe::new(&self.common, self.id, id, file_bytes)
    }

    fn reserve_recipe(&self, id: SegmentId) -> Recipe {
        self.recipe(id, self.common.config.segment_bytes / RESERVE_SHARE)
    }

    /// Sets a reserve aside again. Only with leave to be the only one who takes space: others don't make one then.
    pub(crate) async fn restore_reserve(&self) {
        let missing = |core: &mut Core| core.spares.reserve.is_none().then(|| core.next_segment_id());
        let Some(id) = self.with(missing) else { return };
        let recipe = self.reserve_recipe(id);
        let made = self.common.background(move |disk| recipe.make(disk)).await;
        // Without room for one there is none; whoever makes the next segment tries again, and tells.
        if let Ok(reserve) = made {
            self.with(|core| core.set_reserve(reserve));
        }
    }

    /// Gives the space of the reserve back to the disk, for a compaction that can't go on without.
    /// Returns how many bytes it has given back.
    pub(crate) async fn release_reserve(&self) -> u64 {
        let Some(reserve) = self.with(|core| {
            core.counters.reserve_bytes.set(0);
            core.spares.reserve.take()
        }) else {
            return 0;
        };
        let partition = self.id;
        let removed = self
            .common
            .background(move |disk| {
                remove_segment(disk, partition, reserve.id)?;
                // Until a removal is durable, a disk may keep the space.
                disk.sync_dir(&partition_dir(partition))
            })
            .await;
        // The space comes back when the last handle goes, too.
        drop(reserve.file);
        match removed {
            Ok(()) => reserve.file_bytes,
            Err(error) => {
                tracing::warn!("partition {partition}: the reserve could not be given back: {error}");
                0
            }
        }
    }

    /// Waits until the ticket's frame is settled (not: durable).
    pub(crate) async fn settle(&self, ticket: Ticket) -> Result<(), WriteError> {
        let settled = std::future::poll_fn(|context| self.with(|core| core.poll_settled(ticket, context)));
        waiting(Phase::Settle, settled).await
    }

    /// One part of a commit over several partitions: its log space was reserved. Returns when it is settled.
    pub(crate) async fn commit_part(&self, batch: Batch, part: Part) -> Result<(), WriteError> {
        let ticket = self.with(|core| {
            core.release(batch.records_bytes());
            // Behind a write that failed nothing can be appended any more.
            core.common.order.check()?;
            Ok(core.append_part(&batch, Some(part)))
        })?;
        self.settle(ticket).await
    }

    /// The turn's holder has done enough for others: the worker goes on. The turn stays held meanwhile.
    pub(crate) fn pass_on(&self, turn: Arc<Turn>) {
        let job = Request::Job(Box::new(move || {
            turn.hold();
            Turn::walk();
        }));
        self.common.disk.submit(Queue::Worker(self.id.index()), job);
    }

    /// A sync of what this partition has handed over.
    pub(crate) async fn sync_logs(&self) -> std::io::Result<()> {
        for file in self.with(Core::begin_sync) {
            self.common.sync_file(self.id, file).await?;
        }
        self.with(Core::end_sync);
        Ok(())
    }
}
