//! What the partitions of one store share, and every small thing that needs no partition's turn.

use super::allowance::{Allowance, Permit};
use super::clock::Clock;
use super::compaction::Pace;
use super::config::{Config, World};
use super::disk::{Disk, Done, FileHandle, Queue, Request};
use super::error::WriteError;
use super::limits::SLOTS;
use super::order::Order;
use super::phase::{Phase, waiting};
use super::rounds::Rounds;
use super::shell::Shell;
use super::stats::{PartitionCounters, StoreCounters};
use super::sync::Timer;
use super::tuning::Tuning;
use super::turn::{Errand, Turn};
use super::types::{PartitionId, Slot, StoreId};
use futures_channel::oneshot;
use parking_lot::Mutex;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// More than ever make segments at once.
const GROWTH_ALONE: usize = 1 << 20;

pub(crate) struct Common {
    pub(crate) store: StoreId,
    pub(crate) config: Config,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) order: Order,
    pub(crate) rounds: Rounds,
    pub(crate) turns: Vec<Arc<Turn>>,
    pub(crate) counters: StoreCounters,
    pub(crate) partition_counters: Vec<Arc<PartitionCounters>>,
    pub(crate) timer: Timer,
    pub(crate) tuning: Tuning,
    pub(crate) pace: Pace,
    growth: Arc<Allowance>,
    /// When the store was opened, by its clock.
    pub(crate) opened_ns: u64,
    random: Mutex<Random>,
    /// What recovery could not read of what had been made durable, each in a line.
    pub(crate) losses: Vec<String>,
    shells: OnceLock<Vec<Weak<Shell>>>,
    closing: AtomicBool,
}

impl Common {
    #[expect(
        clippy::too_many_arguments,
        reason = "called once, by opening, which has just made each of them"
    )]
    pub(crate) fn new(
        store: StoreId,
        config: Config,
        world: &World,
        order: Order,
        turns: Vec<Arc<Turn>>,
        partition_counters: Vec<Arc<PartitionCounters>>,
        counters: StoreCounters,
        random: Random,
        losses: Vec<String>,
    ) -> Self {
        Common {
            store,
            tuning: Tuning::new(&config),
            pace: Pace::default(),
            growth: Allowance::new(usize::MAX, GROWTH_ALONE),
            opened_ns: world.clock.monotonic_ns(),
            config,
            disk: world.disk.clone(),
            clock: world.clock.clone(),
            order,
            rounds: Rounds::default(),
            turns,
            counters,
            partition_counters,
            timer: Timer::default(),
            random: Mutex::new(random),
            losses,
            shells: OnceLock::new(),
            closing: AtomicBool::new(false),
        }
    }

    /// Called once, when the partitions are there.
    pub(crate) fn connect(&self, shells: &[Arc<Shell>]) {
        let connected = self.shells.set(shells.iter().map(Arc::downgrade).collect());
        assert!(connected.is_ok(), "connected once");
    }

    /// A partition; None once the store is gone.
    pub(crate) fn shell(&self, index: usize) -> Option<Arc<Shell>> {
        self.shells.get()?.get(index)?.upgrade()
    }

    /// Starts an operation that needs no answer in a partition's turn.
    pub(crate) fn spawn(&self, index: usize, operation: impl Future<Output = ()> + Send + 'static) {
        let turn = self.turns[index].clone();
        let (runnable, task) = async_task::spawn(operation, move |runnable| turn.post(runnable));
        runnable.schedule();
        task.detach();
    }

    /// Leave to take a segment's space from the disk, beside others who do.
    pub(crate) async fn growth(&self) -> Permit {
        self.growth.take(1).await
    }

    /// Leave to be the only one who takes space from the disk. Whoever has it must not wait for a segment to be made.
    pub(crate) async fn growth_alone(&self) -> Permit {
        self.growth.take(GROWTH_ALONE).await
    }

    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.tuning.wake_held();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    pub(crate) fn partition_count(&self) -> usize {
        self.turns.len()
    }

    pub(crate) fn random_u32(&self) -> u32 {
        self.random.lock().next() as u32
    }

    /// Reads as an errand of this thread's turn.
    pub(crate) async fn read(
        &self,
        partition: PartitionId,
        file: FileHandle,
        offset: u64,
        length: usize,
    ) -> io::Result<Vec<u8>> {
        waiting(Phase::Read, self.ask(partition, |done| Request::Read { file, offset, length, done })).await
    }

    /// Syncs a file's data as an errand of this thread's turn.
    pub(crate) async fn sync_file(&self, partition: PartitionId, file: FileHandle) -> io::Result<()> {
        self.ask(partition, |done| Request::Sync { file, done }).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        partition: PartitionId,
        request: impl FnOnce(Done<T>) -> Request,
    ) -> io::Result<T> {
        let (sender, receiver) = oneshot::channel();
        let request = request(Box::new(move |result| drop(sender.send(result))));
        let queue = Queue::Worker(partition.index());
        Turn::errand(Errand { request, disk: self.disk.clone(), queue });
        receiver.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Runs slow work on the store's background thread.
    pub(crate) async fn background<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Disk) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.elsewhere(Queue::Background, work).await
    }

    /// Runs work that waits for the disk on one of the store's own threads.
    pub(crate) async fn elsewhere<T: Send + 'static>(
        &self,
        queue: Queue,
        work: impl FnOnce(&dyn Disk) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (sender, receiver) = oneshot::channel();
        let disk = self.disk.clone();
        self.disk.submit(queue, Request::Job(Box::new(move || drop(sender.send(work(&*disk))))));
        receiver.await.unwrap_or_else(|_| Err(gone()))
    }

    /// The store takes no changes from now on; everybody who waits is told.
    pub(crate) fn latch(&self, reason: &str) {
        self.order.latch(reason);
        for turn in &self.turns {
            turn.poke();
        }
        self.rounds.wake_all();
    }

    /// Returns when everything with a number up to now's newest is durable. Callers share rounds.
    pub(crate) async fn sync(&self) -> Result<(), WriteError> {
        let start = self.clock.monotonic_ns();
        let result = waiting(Phase::Sync, self.rounds.wait_for(&self.order, self.order.newest())).await;
        self.counters.syncs.add(1);
        self.counters.sync_latency.record_ns(self.clock.monotonic_ns().saturating_sub(start));
        result
    }
}

fn gone() -> io::Error {
    io::Error::other("the store was closed meanwhile")
}

/// Which partition a slot belongs to.
pub(crate) fn route(slot: Slot, partitions: usize) -> PartitionId {
    debug_assert!(slot.0 < SLOTS);
    PartitionId((slot.0 as usize % partitions) as u16)
}

/// The directory of a partition.
pub(crate) fn partition_dir(partition: PartitionId) -> String {
    format!("partition_{:03}", partition.0)
}

/// A random source that is the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
