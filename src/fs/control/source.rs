//! The control directory's source: a mounted volume.

use super::report::{Damage, Finished, Pending, Report, Source};
use super::settings::{self, Change};
use crate::engine::scrub::ScrubStats;
use crate::engine::stats::SegmentStats;
use crate::engine::{Durability, PartitionId, Tune};
use crate::fs::errno::Errno;
use crate::fs::journal::Entry;
use crate::fs::traffic::{Latency, Traffic};
use crate::fs::types::{Answer, Time};
use crate::fs::volume::Volume;
use futures_channel::oneshot;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long operations are recorded for somebody who doesn't come back.
const FOLLOWED_FOR: Duration = Duration::from_secs(3);

/// A log whose level can be changed while it runs.
pub trait LogLevel: Send + Sync {
    /// The level.
    fn level(&self) -> String;
    /// Changes it; false for a word that is none.
    fn set_level(&self, level: &str) -> bool;
}

/// A volume as the control directory sees it.
pub struct VolumeSource {
    volume: Volume,
    traffic: Arc<Traffic>,
    log: Option<Box<dyn LogLevel>>,
    /// The store's directory.
    data: PathBuf,
    /// By the store's clock.
    started_ns: u64,
}

impl VolumeSource {
    /// A source for a volume that is mounted now, and whose store is in the directory `data`.
    pub fn new(volume: Volume, traffic: Arc<Traffic>, log: Option<Box<dyn LogLevel>>, data: PathBuf) -> Self {
        let started_ns = volume.store().clock().monotonic_ns();
        VolumeSource { volume, traffic, log, data, started_ns }
    }
}

impl Source for VolumeSource {
    fn now(&self) -> Time {
        self.volume.now()
    }

    fn report(&self) -> Report {
        let store = self.volume.store();
        let latencies: Vec<Latency> =
            (0..store.partition_count()).map(|id| self.traffic.latency(PartitionId(id))).collect();
        let distributions =
            (0..store.partition_count()).map(|id| self.traffic.distribution(PartitionId(id))).collect();
        let uptime_ns = store.clock().monotonic_ns().saturating_sub(self.started_ns);
        Report {
            uptime_seconds: uptime_ns / 1_000_000_000,
            store: store.stats(),
            counts: self.volume.counts(),
            latencies,
            distributions,
            slow_operations: self.traffic.journal().slow_count(),
            compactions: store.compaction_stats(),
            compaction_paused: store.tuned().contains(&Tune::Paused(true)),
            transport: self.traffic.transport(),
        }
    }

    fn segments(&self) -> Vec<SegmentStats> {
        self.volume.store().segment_stats()
    }

    fn damages(&self) -> Vec<Damage> {
        let errors = self.volume.store().integrity_errors();
        let damage = |error: &crate::engine::stats::IntegrityError| Damage {
            noticed_seconds: error.noticed_ns.div_euclid(1_000_000_000),
            partition: error.partition,
            segment: error.segment,
            offset: error.offset,
            whose: self.volume.describe(&error.key),
        };
        errors.iter().map(damage).collect()
    }

    fn losses(&self) -> Vec<String> {
        self.volume.store().losses().to_vec()
    }

    fn latch_reason(&self) -> Option<String> {
        self.volume.store().read_only_reason()
    }

    fn slow_operations(&self) -> Vec<Entry> {
        self.traffic.journal().slow()
    }

    fn followed_operations(&self) -> Vec<Entry> {
        self.traffic.journal().followed()
    }

    fn follow_operations(&self) {
        self.traffic.follow(FOLLOWED_FOR);
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        let config = self.volume.store().config();
        let mut options = vec![("partitions", self.partition_count().to_string())];
        match config.durability {
            Durability::Interval(interval) => {
                options.push(("sync", "interval".to_string()));
                options.push(("sync-interval", format!("{}ms", interval.as_millis())));
            }
            Durability::Always => options.push(("sync", "always".to_string())),
            Durability::Explicit => options.push(("sync", "fsync".to_string())),
        }
        options.extend([
            ("segment-size", config.segment_bytes.to_string()),
            ("chunk-size", self.volume.chunk_bytes().to_string()),
            ("compact-delay", format!("{}ms", config.compact_start_delay.as_millis())),
            ("open-files", config.open_files_max.to_string()),
            settings::show_threshold(self.traffic.journal().threshold()),
        ]);
        options.extend(self.volume.store().tuned().into_iter().map(settings::show));
        options.extend([
            ("read-only", config.read_only.to_string()),
            // Not options, but what whoever looks after the daemon needs.
            ("data", self.data.display().to_string()),
            ("pid", std::process::id().to_string()),
        ]);
        options
    }

    fn partition_count(&self) -> u16 {
        self.volume.store().partition_count()
    }

    fn sync(&self) -> Pending<Answer<()>> {
        // What takes no changes has nothing to sync.
        if self.volume.store().config().read_only {
            return Box::pin(async { Ok(()) });
        }
        let volume = self.volume.clone();
        Box::pin(async move { volume.sync().await })
    }

    fn backup(&self, to: PathBuf) -> Pending<Answer<()>> {
        let (volume, data) = (self.volume.clone(), self.data.clone());
        let work = async move {
            let copied = volume.backup(&data, &to).await?;
            let (linked, bytes, to) = (copied.segments_linked, copied.bytes_copied, to.display());
            tracing::info!("backup in {to}: {linked} segments linked, {bytes} bytes copied");
            Ok(())
        };
        let (sender, receiver) = oneshot::channel();
        self.volume.store().partitions()[0]
            .submit(async move {
                // Whoever gave the order may not wait for it.
                let _ = sender.send(work.await);
            })
            .detach();
        Box::pin(async move { receiver.await.unwrap_or(Err(Errno::EIO)) })
    }

    fn compact(&self, partition: Option<u16>, finished: Finished) {
        let volume = self.volume.clone();
        let finished = Telling(Some(finished));
        // In a task of its own: it goes on if the one who waits is interrupted.
        let work = async move {
            let result = volume.compact(partition.map(PartitionId)).await;
            finished.tell(result);
        };
        self.volume.store().partitions()[0].submit(work).detach();
    }

    fn set_options(&self, changes: &[(&str, &str)]) -> Answer<()> {
        let known = self.options();
        let parsed: Answer<Vec<Change>> = changes
            .iter()
            .map(|(name, value)| match settings::parse(name.trim(), value.trim()) {
                Some(change) => change.ok_or(Errno::EINVAL),
                None if known.iter().any(|(known, _)| *known == name.trim()) => Err(Errno::EPERM),
                None => Err(Errno::EINVAL),
            })
            .collect();
        for change in parsed? {
            let (name, value) = match change {
                Change::Store(change) => {
                    self.volume.store().tune(change);
                    settings::show(change)
                }
                Change::SlowThreshold(threshold) => {
                    self.traffic.journal().set_threshold(threshold);
                    settings::show_threshold(threshold)
                }
            };
            tracing::info!("changed: {name}={value}");
        }
        Ok(())
    }

    fn pause_compaction(&self, paused: bool) {
        self.volume.store().tune(Tune::Paused(paused));
    }

    fn scrub_stats(&self) -> ScrubStats {
        self.volume.store().scrub_stats()
    }

    fn start_scrub(&self, bytes_per_second: u64, finished: Finished) -> Answer<()> {
        let scrub = self.volume.store().start_scrub(bytes_per_second).ok_or(Errno::EBUSY)?;
        let volume = self.volume.clone();
        let finished = Telling(Some(finished));
        let work = async move {
            let stats = scrub.await.ok_or(Errno::EIO);
            volume.name_damages().await;
            finished.tell(stats.map(|stats| stats.damaged_values + stats.damaged_places));
        };
        self.volume.store().partitions()[0].submit(work).detach();
        Ok(())
    }

    fn stop_scrub(&self) {
        self.volume.store().stop_scrub();
    }

    fn log_level(&self) -> Option<String> {
        self.log.as_ref().map(|log| log.level())
    }

    fn set_log_level(&self, level: &str) -> Answer<()> {
        let log = self.log.as_ref().ok_or(Errno::EOPNOTSUPP)?;
        if log.set_level(level) { Ok(()) } else { Err(Errno::EINVAL) }
    }
}

/// Tells in any case, also if the work panics and is dropped.
struct Telling(Option<Finished>);

impl Telling {
    fn tell(mut self, result: Answer<u64>) {
        if let Some(finished) = self.0.take() {
            finished(result);
        }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        if let Some(finished) = self.0.take() {
            finished(Err(Errno::EIO));
        }
    }
}
