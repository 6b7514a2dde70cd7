//! A whole store as the engine's user sees it: its partitions, commits over several of them, syncing, statistics, closing.

use super::batch::{Batch, Change, ChangeView};
use super::clock::Clock;
use super::common::{Common, route};
use super::config::{Config, Durability, World};
use super::core::Ticket;
use super::disk::Space;
use super::error::{OpenError, WriteError};
use super::fetch::join_all;
use super::log::Part;
use super::open::{Recovered, open};
use super::order::closed;
use super::partition::Partition;
use super::progress::CompactionStats;
use super::scrub::{Scrub, ScrubStats};
use super::shell::Shell;
use super::stats::{IntegrityError, PartitionStats, SegmentStats, StoreStats};
use super::tuning::Tune;
use super::turn::Turn;
use super::types::{Number, PartitionId, Slot};
use async_task::FallibleTask;
use std::sync::Arc;

/// How often it is looked whether a verification has taken notice that the store is closing.
const SCRUB_POLL: std::time::Duration = std::time::Duration::from_millis(5);

/// An open store whose user keeps a state `S` in each partition. A handle; clones share it.
pub struct Store<S: Send + 'static> {
    shared: Arc<Shared<S>>,
}

struct Shared<S: Send + 'static> {
    partitions: Vec<Partition<S>>,
    common: Arc<Common>,
    scrub: Arc<Scrub>,
    options: Vec<(String, String)>,
}

/// What a commit over several partitions changes in one of them.
pub(crate) struct Piece<'a> {
    pub(crate) partition: PartitionId,
    pub(crate) records_bytes: usize,
    pub(crate) changes: Vec<ChangeView<'a>>,
}

impl<'a> Piece<'a> {
    fn of(partition: PartitionId, batch: &'a Batch) -> Self {
        let changes = batch.changes().iter().map(Change::view).collect();
        Piece { partition, records_bytes: batch.records_bytes(), changes }
    }
}

impl<S: Send + 'static> Clone for Store<S> {
    fn clone(&self) -> Self {
        Store { shared: self.shared.clone() }
    }
}

impl<S: Send + 'static> Store<S> {
    /// Opens (recovers) or makes a store. `state` is called once for each partition, in order, with what is there. Waits for the disk.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is served then, and what was there is still there.
    pub fn open(
        world: World,
        config: Config,
        state: impl FnMut(&Recovered<'_>) -> Result<S, OpenError>,
    ) -> Result<Self, OpenError> {
        Self::open_together(world, config, |partitions| partitions.iter().map(state).collect())
    }

    /// The same, for states that depend on several partitions: `states` sees all of them at once, and gives one state for each.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_together(
        world: World,
        config: Config,
        states: impl FnOnce(&[Recovered<'_>]) -> Result<Vec<S>, OpenError>,
    ) -> Result<Self, OpenError> {
        let mut made = Vec::new();
        let opened = open(&world, config, |recovered| {
            made = states(recovered)?;
            Ok(())
        })?;
        assert_eq!(made.len(), opened.shells.len(), "one state for each partition");
        let states = made;
        let partitions = opened
            .shells
            .into_iter()
            .zip(states)
            .map(|(shell, state)| Partition::new(shell, state))
            .collect();
        let (common, options) = (opened.common, opened.options);
        let scrub = Scrub::recall(&common);
        Ok(Store { shared: Arc::new(Shared { partitions, common, scrub, options }) })
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> u16 {
        self.shared.partitions.len() as u16
    }

    /// One of its partitions.
    pub fn partition(&self, id: PartitionId) -> &Partition<S> {
        &self.shared.partitions[id.index()]
    }

    /// All partitions, in order.
    pub fn partitions(&self) -> &[Partition<S>] {
        &self.shared.partitions
    }

    /// Which partition a slot belongs to.
    pub fn route(&self, slot: Slot) -> PartitionId {
        route(slot, self.shared.partitions.len())
    }

    /// An option that was given when the store was made.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.shared.options.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Its id: random, made when the store was made.
    pub fn id(&self) -> [u8; 16] {
        self.shared.common.store.0
    }

    /// What the store was opened with.
    pub fn config(&self) -> &Config {
        &self.shared.common.config
    }

    pub(crate) fn common(&self) -> Arc<Common> {
        self.shared.common.clone()
    }

    /// Whether a simulator runs its mail.
    pub fn is_simulated(&self) -> bool {
        self.shared.common.turns[0].policy() == super::turn::Policy::Manual
    }

    /// The store's time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.common.clock
    }

    /// The space below the store.
    ///
    /// # Errors
    /// If the disk can't tell.
    pub fn space(&self) -> std::io::Result<Space> {
        self.shared.common.disk.space()
    }

    /// One commit over several partitions: after any crash all of its parts are there or none. The caller has locked what it touches
    /// and checked everything; between the call and its answer nobody else may change or answer from those keys. Returns when it may be
    /// acknowledged. An error means that no part of it counts (after `ReadOnly` the next opening decides). May be called from inside
    /// any partition's operation. Parts of the same partition must have been joined.
    ///
    /// # Errors
    /// `Full`, `Size` and `ReadOnly` before anything was changed; `ReadOnly` and `Gone` also later.
    pub async fn commit(&self, parts: Vec<(PartitionId, Batch)>) -> Result<(), WriteError> {
        parts.iter().try_for_each(|(_, batch)| batch.validate())?;
        self.commit_valid(parts).await
    }

    /// The same inside an operation of the partition `here`. If everybody else is away, all parts are appended and handed over at once.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn commit_from(
        &self,
        here: &Partition<S>,
        mut parts: Vec<(PartitionId, Batch)>,
    ) -> Result<(), WriteError> {
        parts.iter().try_for_each(|(_, batch)| batch.validate())?;
        if parts.len() == 1
            && let Some((id, batch)) = parts.pop()
        {
            let inside = self.partition(id).clone();
            let committed = here.ask(self.partition(id), move || async move { inside.commit(batch).await });
            return committed.await.unwrap_or(Err(WriteError::Gone));
        }
        let Some(owed) = self.try_commit_beside(here, &parts) else { return self.commit_valid(parts).await };
        for (id, ticket) in owed? {
            let inside = self.partition(id).clone();
            let settled = self.partition(id).call(async move { inside.shell.settle(ticket).await });
            settled.await.unwrap_or(Err(WriteError::Gone))?;
        }
        self.acknowledge().await
    }

    /// What the durability mode asks for besides being settled.
    async fn acknowledge(&self) -> Result<(), WriteError> {
        match self.shared.common.config.durability {
            Durability::Always => self.sync().await,
            _ => Ok(()),
        }
    }

    fn try_commit_beside(
        &self,
        here: &Partition<S>,
        parts: &[(PartitionId, Batch)],
    ) -> Option<Result<Vec<(PartitionId, Ticket)>, WriteError>> {
        if !here.shell.turn.is_inside() {
            return None;
        }
        let pieces: Vec<Piece<'_>> =
            parts.iter().map(|(partition, batch)| Piece::of(*partition, batch)).collect();
        Turn::try_beside_all(&self.turns(&pieces), || {
            here.shell.go_beside();
            self.append_to_all(&pieces, |_, _| true)
        })
        .flatten()
    }

    async fn commit_valid(&self, mut parts: Vec<(PartitionId, Batch)>) -> Result<(), WriteError> {
        let common = &self.shared.common;
        match parts.len() {
            0 => return Ok(()),
            1 => {
                let (id, batch) = parts.into_iter().next().expect("there is one");
                let partition = self.partition(id).clone();
                return self
                    .partition(id)
                    .call(async move { partition.commit(batch).await })
                    .await
                    .ok_or(WriteError::Gone)?;
            }
            _ => {}
        }
        // In one order for all: two commits never wait for each other's reserved space.
        parts.sort_by_key(|(id, _)| *id);
        self.reserve(&parts).await?;
        let Some(spanning) = common.order.start_spanning().await else {
            self.release(&parts).await;
            return Err(closed());
        };
        let part = Part { commit: spanning.id, parts: parts.len() as u16 };
        let commits: Vec<_> = parts
            .into_iter()
            .map(|(id, batch)| {
                let shell = self.partition(id).shell.clone();
                self.partition(id).call(async move { shell.commit_part(batch, part).await })
            })
            .collect();
        for result in join_all(commits.into_iter()).await {
            result.unwrap_or(Err(WriteError::Gone))?;
        }
        spanning.finish();
        self.acknowledge().await
    }

    /// One commit over several partitions, appended and handed over inside all of their turns at once, so that nobody sees a half of it: if all of
    /// them are free (or are so in a moment), if `free` says of each that nothing is in the way, and if there is room; else None, and nothing
    /// happened. The parts are in order, their keys and values valid. Returns what is still to be waited for.
    pub(crate) fn try_commit(
        &self,
        parts: &[Piece<'_>],
        free: impl Fn(&S, &Piece<'_>) -> bool,
    ) -> Option<Result<Vec<(PartitionId, Ticket)>, WriteError>> {
        Turn::try_inside_all(&self.turns(parts), || self.append_to_all(parts, free)).flatten()
    }

    fn turns(&self, parts: &[Piece<'_>]) -> Vec<&Arc<Turn>> {
        parts.iter().map(|piece| &self.partition(piece.partition).shell.turn).collect()
    }

    /// The same, inside all of the turns.
    fn append_to_all(
        &self,
        parts: &[Piece<'_>],
        free: impl Fn(&S, &Piece<'_>) -> bool,
    ) -> Option<Result<Vec<(PartitionId, Ticket)>, WriteError>> {
        let common = &self.shared.common;
        let is_free = |piece: &Piece<'_>| {
            let partition = self.partition(piece.partition);
            partition.with(|core, state| free(state, piece) && core.has_room_now(piece.records_bytes))
        };
        if !parts.iter().all(is_free) {
            return None;
        }
        let spanning = common.order.try_start_spanning()?;
        let part = Part { commit: spanning.id, parts: parts.len() as u16 };
        let append = |piece: &Piece<'_>| {
            let views = piece.changes.iter().copied();
            let partition = self.partition(piece.partition);
            let ticket = partition.with(|core, _| core.append_part_now(piece.records_bytes, views, part))?;
            Ok((piece.partition, ticket))
        };
        let tickets: Result<Vec<_>, WriteError> = parts.iter().map(append).collect();
        let handed_over = tickets.and_then(|tickets| common.order.check().map(|()| tickets));
        if handed_over.is_ok() {
            spanning.finish();
        }
        let is_owed = |(id, ticket): &(PartitionId, Ticket)| {
            !self.partition(*id).with(|core, _| core.is_settled(*ticket))
        };
        Some(handed_over.map(|tickets| tickets.into_iter().filter(is_owed).collect()))
    }

    /// Log space for all parts, or none.
    async fn reserve(&self, parts: &[(PartitionId, Batch)]) -> Result<(), WriteError> {
        for (index, (id, batch)) in parts.iter().enumerate() {
            let shell = self.partition(*id).shell.clone();
            let (bytes, freeing) = (batch.records_bytes(), batch.frees_space());
            let reserved = self
                .partition(*id)
                .call(async move {
                    shell.room(bytes, freeing).await?;
                    shell.with(|core| core.reserve(bytes));
                    Ok(())
                })
                .await;
            if let Err(error) = reserved.unwrap_or(Err(WriteError::Gone)) {
                self.release(&parts[..index]).await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives up the log space of parts that won't come.
    async fn release(&self, parts: &[(PartitionId, Batch)]) {
        for (id, batch) in parts {
            let (shell, bytes) = (self.partition(*id).shell.clone(), batch.records_bytes());
            self.partition(*id).call(async move { shell.with(|core| core.release(bytes)) }).await;
        }
    }

    /// Returns when everything acknowledged before the call is durable. Callers share rounds.
    ///
    /// # Errors
    /// `ReadOnly` if it can't be made durable: the store then takes no changes until it is reopened.
    pub async fn sync(&self) -> Result<(), WriteError> {
        self.shared.common.sync().await
    }

    /// The greatest number such that it and all smaller ones have been handed to the kernel.
    pub fn settled_number(&self) -> Number {
        self.shared.common.order.settled()
    }

    /// Compaction spares segments that hold a number greater than this (so that `Recovered::changed_after` this number
    /// is complete). Unless told, it spares none.
    pub fn retain_after(&self, number: Number) {
        self.shared.common.order.set_retain_after(number);
    }

    /// Goes on to fresh segments where the active ones have dead records, so that what was written so far can be compacted.
    ///
    /// # Errors
    /// `Full` if there is no room for another segment; `ReadOnly`.
    pub async fn rotate(&self) -> Result<(), WriteError> {
        for one in &self.shared.partitions {
            let shell: Arc<Shell> = one.shell.clone();
            let rotated = one.call(async move { shell.rotate_if_worth_it().await }).await;
            rotated.unwrap_or(Err(WriteError::Gone))?;
        }
        Ok(())
    }

    /// Compacts one partition, or all, now; returns how many bytes the files shrank by. Segments with hardly any dead bytes are left alone.
    ///
    /// # Errors
    /// `Full` if there is no room for the active segment's successor; `ReadOnly`.
    pub async fn compact(&self, partition: Option<PartitionId>) -> Result<u64, WriteError> {
        let mut reclaimed_bytes = 0;
        let mut failed = None;
        for one in &self.shared.partitions {
            if partition.is_none_or(|id| id == one.id()) {
                let shell: Arc<Shell> = one.shell.clone();
                let compacted = one.call(async move { shell.compact_by_hand().await }).await;
                match compacted.unwrap_or(Err(WriteError::Gone)) {
                    Ok(bytes) => reclaimed_bytes += bytes,
                    // The others may make the room that it lacks.
                    Err(error) => failed = Some(error),
                }
            }
        }
        failed.map_or(Ok(reclaimed_bytes), Err)
    }

    /// Changes a setting of compaction while the store runs. What runs takes notice with its next slice.
    pub fn tune(&self, change: Tune) {
        let common = &self.shared.common;
        common.tuning.change(change);
        for one in &self.shared.partitions {
            let shell = one.shell.clone();
            one.submit(async move { shell.consider_compaction() }).detach();
        }
    }

    /// The settings of compaction that are in effect now, each as the change that would make it so.
    pub fn tuned(&self) -> [Tune; 6] {
        self.shared.common.tuning.all()
    }

    /// How far compaction is, partition by partition; without entering any partition's turn.
    pub fn compaction_stats(&self) -> Vec<CompactionStats> {
        let common = &self.shared.common;
        let now_ns = common.clock.monotonic_ns();
        let counters = common.partition_counters.iter().enumerate();
        counters.map(|(index, counters)| counters.progress.show(index as u16, now_ns)).collect()
    }

    /// Starts to verify everything that lies on the disk, at no more than so many bytes a second (0: without limit), or goes on where it was
    /// stopped. The task tells what it came to; detach it to go on without waiting. None if one runs already.
    pub fn start_scrub(&self, bytes_per_second: u64) -> Option<FallibleTask<ScrubStats>> {
        let running = self.shared.scrub.claim(&self.shared.common, bytes_per_second)?;
        let shells: Vec<Arc<Shell>> = self.shared.partitions.iter().map(|one| one.shell.clone()).collect();
        Some(self.shared.partitions[0].call(Scrub::run(shells, running)))
    }

    /// Stops the verification that runs, if one does, within a moment. The next goes on where it was.
    pub fn stop_scrub(&self) {
        self.shared.scrub.stop();
    }

    /// How far the verification is, or what the last one came to, also in an earlier life; without entering any partition's turn.
    pub fn scrub_stats(&self) -> ScrubStats {
        self.shared.scrub.stats()
    }

    /// Why the store takes no changes, if so.
    pub fn read_only_reason(&self) -> Option<String> {
        self.shared.common.order.latch_reason()
    }

    /// What was made durable and is lost, each in a line; there is something only in a store that was opened for salvage.
    pub fn losses(&self) -> &[String] {
        &self.shared.common.losses
    }

    /// The last integrity errors, oldest first.
    pub fn integrity_errors(&self) -> Vec<IntegrityError> {
        let mut errors: Vec<IntegrityError> = Vec::new();
        for counters in &self.shared.common.partition_counters {
            errors.extend(counters.errors.lock().iter().cloned());
        }
        errors.sort_by_key(|error| error.noticed_ns);
        errors
    }

    /// All numbers, without entering any partition's turn.
    pub fn stats(&self) -> StoreStats {
        let common = &self.shared.common;
        let partitions: Vec<PartitionStats> =
            (0..common.partition_count()).map(|i| partition_stats(common, i)).collect();
        let mut stats = StoreStats {
            syncs: common.counters.syncs.get(),
            sync_rounds: common.counters.sync_rounds.get(),
            sync_p50_us: common.counters.sync_latency.percentile_us(0.5),
            sync_p99_us: common.counters.sync_latency.percentile_us(0.99),
            sync_times: common.counters.sync_latency.distribution(),
            torn_tail_bytes: common.counters.torn_tail_bytes.get(),
            recovery_ns: common.counters.recovery_ns.get(),
            recovery_keys: common.counters.recovery_keys.get(),
            last_number: common.order.newest().0,
            settled: common.order.settled().0,
            stable: common.order.stable().0,
            ..StoreStats::default()
        };
        for (row, counters) in partitions.iter().zip(&common.partition_counters) {
            stats.keys += row.keys;
            stats.keydir_bytes += row.keydir_bytes;
            stats.live_bytes += row.live_bytes;
            stats.dead_bytes += row.dead_bytes;
            stats.file_bytes += row.file_bytes;
            stats.puts += counters.puts.get();
            stats.gets += counters.gets.get();
            stats.misses += counters.misses.get();
            stats.deletes += counters.deletes.get();
            stats.bytes_written += counters.bytes_written.get();
            stats.user_bytes_written += counters.user_bytes_written.get();
            stats.bytes_read += counters.bytes_read.get();
            stats.compactions += counters.compactions.get();
            stats.compaction_failures += counters.compaction_failures.get();
            stats.compaction_bytes_reclaimed += counters.compaction_bytes_reclaimed.get();
            stats.compaction_bytes_copied += counters.compaction_bytes_copied.get();
            stats.segments_removed += counters.segments_removed.get();
            stats.cleanup_failures += counters.cleanup_failures.get();
            stats.rotations += counters.rotations.get();
            stats.crc_errors += counters.crc_errors.get();
            stats.reserve_bytes += counters.reserve_bytes.get();
        }
        stats.partitions = partitions;
        stats
    }

    /// A row for each segment.
    pub fn segment_stats(&self) -> Vec<SegmentStats> {
        let mut rows = Vec::new();
        for (index, counters) in self.shared.common.partition_counters.iter().enumerate() {
            rows.extend(counters.segments.lock().iter().map(|(id, segment)| SegmentStats {
                partition: index as u16,
                segment: id.0,
                state: segment.state(),
                live_records: segment.live_records.get(),
                live_bytes: segment.live_bytes.get(),
                dead_bytes: segment.dead_bytes.get(),
                file_bytes: segment.file_bytes.get(),
            }));
        }
        rows
    }

    /// Refuses new changes, syncs, writes the last watermark and the hints, lets go of everything. Waits for the disk.
    ///
    /// # Errors
    /// If not everything could be made durable; the store is closed all the same.
    pub fn close(&self) -> Result<(), WriteError> {
        let common = &self.shared.common;
        common.begin_closing();
        while !self.is_simulated() && self.shared.scrub.is_running() {
            std::thread::sleep(SCRUB_POLL);
        }
        let synced = super::close::close(common, self.shared.partitions.iter().map(|p| &p.shell));
        common.order.close();
        common.disk.shut_down();
        synced
    }
}

fn partition_stats(common: &Common, index: usize) -> PartitionStats {
    let counters = &common.partition_counters[index];
    let turn = &common.turns[index];
    let segments = counters.segments.lock();
    PartitionStats {
        partition: index as u16,
        keys: counters.keys.get(),
        keydir_bytes: counters.keydir_bytes.get(),
        queue_depth: turn.mail_count() as u64,
        operations: counters.operations.get(),
        live_bytes: segments.values().map(|segment| segment.live_bytes.get()).sum(),
        dead_bytes: segments.values().map(|segment| segment.dead_bytes.get()).sum(),
        file_bytes: segments.values().map(|segment| segment.file_bytes.get()).sum(),
        segments: segments.len() as u64,
        unsynced_bytes: counters.unsynced_bytes.get(),
        passed_on: turn.passed_on_count(),
        panics: turn.panic_count(),
    }
}
