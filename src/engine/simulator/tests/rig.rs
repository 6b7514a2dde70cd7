//! A store of one partition on a simulated disk, for tests that tell it what to do, one thing after the other or in the middle of another.

use super::counts::check_counts;
use crate::engine::clock::{Clock, SimClock};
use crate::engine::config::{Config, Durability};
use crate::engine::disk::sim::{Crash, SimDisk};
use crate::engine::simulator::Player;
use crate::engine::stats::StoreStats;
use crate::engine::{Batch, OpenError, Partition, PartitionId, Policy, Store, World, WriteError};
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

const STEPS_MAX: u64 = 2_000_000;

pub(super) struct Rig {
    pub(super) disk: SimDisk,
    pub(super) clock: Arc<SimClock>,
    pub(super) config: Config,
    seed: u64,
    open: Option<(Store<()>, Player)>,
}

/// An answer that will be there.
pub(super) type Answer<T> = Arc<Mutex<Option<T>>>;

/// One partition, small segments, nothing by itself.
pub(super) fn config() -> Config {
    Config {
        partitions: Some(1),
        durability: Durability::Explicit,
        segment_bytes: 64 * 1024,
        auto_compact: false,
        compact_bytes_per_second: 0,
        compact_start_delay: Duration::ZERO,
        compact_cooldown: Duration::ZERO,
        ..Config::default()
    }
}

impl Rig {
    pub(super) fn new(config: Config) -> Rig {
        Self::with_seed(config, 1)
    }

    pub(super) fn with_seed(config: Config, seed: u64) -> Rig {
        let (disk, clock) = (SimDisk::new(seed), SimClock::new());
        let mut rig = Rig { disk, clock, config, seed, open: None };
        rig.open();
        rig
    }

    pub(super) fn open(&mut self) {
        self.try_open().expect("a healthy store");
    }

    pub(super) fn try_open(&mut self) -> Result<(), OpenError> {
        let world = World {
            disk: Arc::new(self.disk.clone()),
            clock: self.clock.clone(),
            seed: self.seed,
            policy: Policy::Manual,
        };
        let store = Store::open(world, self.config.clone(), |_| Ok(()))?;
        let mut player = Player::new(&store, &self.disk, &self.clock, self.seed);
        player.leave_time_alone();
        self.open = Some((store, player));
        Ok(())
    }

    /// Another store of these settings, on a disk that has it.
    pub(super) fn beside(&self, disk: SimDisk) -> Result<Rig, String> {
        let (clock, config) = (SimClock::new(), self.config.clone());
        let mut rig = Rig { disk, clock, config, seed: self.seed ^ 2, open: None };
        rig.try_open().map_err(|error| format!("it doesn't open: {error}"))?;
        Ok(rig)
    }

    /// Ends this life, if there is one, by a kill.
    pub(super) fn end(&mut self) {
        self.disk = self.disk.crash(Crash::Kill);
        if let Some((_, player)) = self.open.take() {
            player.bury();
        }
    }

    /// Ends this life by a kill, lets something happen to the files, and begins another.
    pub(super) fn reopen_with(&mut self, meanwhile: impl FnOnce(&SimDisk)) {
        self.end();
        meanwhile(&self.disk);
        self.open();
    }

    pub(super) fn store(&self) -> &Store<()> {
        &self.open.as_ref().expect("it is open").0
    }

    pub(super) fn stats(&self) -> StoreStats {
        self.store().stats()
    }

    /// One step of what can happen without time going by; false if nothing can.
    pub(super) fn step(&mut self) -> bool {
        self.open.as_mut().expect("it is open").1.step()
    }

    /// One step; time goes by only if nothing else can happen.
    fn go_on(&mut self) -> bool {
        self.step() || self.clock.advance_to_next()
    }

    /// Begins something inside the partition.
    pub(super) fn start<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &mut self,
        work: impl FnOnce(Store<()>, Partition<()>) -> F,
    ) -> Answer<T> {
        let answer = Answer::default();
        let partition = self.store().partition(PartitionId(0)).clone();
        let (work, told) = (work(self.store().clone(), partition.clone()), answer.clone());
        partition.submit(async move { *told.lock() = Some(work.await) }).detach();
        answer
    }

    /// Goes on until the answer is there.
    pub(super) fn finish<T>(&mut self, answer: Answer<T>) -> T {
        for _ in 0..STEPS_MAX {
            if let Some(answer) = answer.lock().take() {
                return answer;
            }
            assert!(self.go_on(), "it never ends");
        }
        panic!("it takes too long");
    }

    pub(super) fn run<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &mut self,
        work: impl FnOnce(Store<()>, Partition<()>) -> F,
    ) -> T {
        let answer = self.start(work);
        self.finish(answer)
    }

    /// Until nothing happens by itself; then all counts are right.
    pub(super) fn idle(&mut self) {
        let mut steps = 0;
        while self.go_on() {
            steps += 1;
            assert!(steps < STEPS_MAX, "it never falls idle");
        }
        check_counts(self.store(), &self.disk).expect("counts");
    }

    /// Until the clock has moved on by so much.
    pub(super) fn run_for(&mut self, time: Duration) {
        let until_ns = self.clock.monotonic_ns() + time.as_nanos() as u64;
        loop {
            while self.step() {}
            match self.clock.next_deadline() {
                Some(deadline_ns) if deadline_ns <= until_ns => self.clock.advance_to_next(),
                _ => break,
            };
        }
        self.clock.advance(until_ns.saturating_sub(self.clock.monotonic_ns()));
        while self.step() {}
    }

    pub(super) fn put(&mut self, key: &str, value: &[u8]) {
        self.try_put(key, value).expect("a put");
    }

    pub(super) fn try_put(&mut self, key: &str, value: &[u8]) -> Result<(), WriteError> {
        let mut batch = Batch::new();
        batch.put(key, value);
        self.run(|_, inside| async move { inside.commit(batch).await })
    }

    pub(super) fn try_put_in(
        &mut self,
        partition: PartitionId,
        key: &str,
        value: &[u8],
    ) -> Result<(), WriteError> {
        let mut batch = Batch::new();
        batch.put(key, value);
        self.run(|store, _| async move { store.commit(vec![(partition, batch)]).await })
    }

    pub(super) fn remove(&mut self, key: &str) {
        let mut batch = Batch::new();
        batch.remove(key);
        self.run(|_, inside| async move { inside.commit(batch).await }).expect("a removal");
    }

    pub(super) fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        let key = key.as_bytes().to_vec();
        self.run(|_, inside| async move { inside.get(&key).await }).expect("a get")
    }

    pub(super) fn get_in(&mut self, partition: PartitionId, key: &[u8]) -> Option<Vec<u8>> {
        let key = key.to_vec();
        let got = self.run(|store, _| async move {
            let inside = store.partition(partition).clone();
            store.partition(partition).call(async move { inside.get(&key).await }).await
        });
        got.expect("an answer").expect("a get")
    }

    pub(super) fn sync(&mut self) {
        self.run(|store, _| async move { store.sync().await }).expect("a sync");
    }

    /// Fills the rest of the active segment, and one more, with values that live.
    pub(super) fn fill(&mut self, name: &str) {
        let before = self.stats().rotations;
        let mut count = 0;
        while self.stats().rotations < before + 2 {
            self.put(&format!("{name}{count}"), &[7; 6000]);
            count += 1;
        }
    }

    pub(super) fn compact(&mut self) -> Result<u64, WriteError> {
        self.run(|store, _| async move { store.compact(None).await })
    }

    /// Ends this life in one of three ways, and begins another.
    pub(super) fn reopen(&mut self, how: Option<Crash>) {
        let (store, player) = self.open.take().expect("it is open");
        if how.is_none() {
            store.close().expect("closing");
        }
        drop(store);
        self.disk = self.disk.crash(how.unwrap_or(Crash::Kill));
        player.bury();
        self.open();
    }
}

/// All ways to end a life.
pub(super) const ENDINGS: [Option<Crash>; 3] = [None, Some(Crash::Kill), Some(Crash::Power)];
