//! A whole store as the engine's user sees it: its partitions, syncing, statistics, closing; commits over several partitions have a room of their own (`commit`).

mod commit;

pub(crate) use self::commit::{Owed, Piece};

use super::clock::Clock;
use super::common::{Common, route};
use super::config::{Config, World};
use super::disk::Space;
use super::error::{OpenError, WriteError};
use super::open::{Recovered, open};
use super::partition::Partition;
use super::progress::CompactionStats;
use super::scrub::{Scrub, ScrubStats};
use super::shell::Shell;
use super::stats::{IntegrityError, PartitionStats, SegmentStats, StoreStats};
use super::tuning::Tune;
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
            stats.gets += counters.read_sum(|reads| &reads.gets);
            stats.misses += counters.read_sum(|reads| &reads.misses);
            stats.deletes += counters.deletes.get();
            stats.bytes_written += counters.bytes_written.get();
            stats.user_bytes_written += counters.user_bytes_written.get();
            stats.bytes_read += counters.read_sum(|reads| &reads.bytes_read);
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
