//! What the control directory needs to know, and can ask for: the seam between it and the volume. Tests have a source of their own.

use crate::engine::progress::CompactionStats;
use crate::engine::scrub::ScrubStats;
use crate::engine::stats::{Distribution, SegmentStats, StoreStats};
use crate::fs::journal::Entry;
use crate::fs::traffic::Latency;
use crate::fs::types::{Answer, Time};
use crate::fs::volume::Counts;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

/// An answer that takes its time.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// Told once what a compaction or a verification came to, also if it never ran to its end.
pub type Finished = Box<dyn FnOnce(Answer<u64>) + Send>;

/// All numbers, of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// How long the store has been mounted.
    pub uptime_seconds: u64,
    /// The store's numbers.
    pub store: StoreStats,
    /// How many inodes there are.
    pub counts: Counts,
    /// How long operations take, partition by partition.
    pub latencies: Vec<Latency>,
    /// The same in full.
    pub distributions: Vec<Distribution>,
    /// How many operations were slow.
    pub slow_operations: u64,
    /// How far compaction is, partition by partition.
    pub compactions: Vec<CompactionStats>,
    /// Whether compaction is paused.
    pub compaction_paused: bool,
    /// How requests come from the kernel.
    pub transport: &'static str,
}

/// A value that failed its checksum, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// When it was noticed, in seconds since 1970.
    pub noticed_seconds: i64,
    /// In which partition.
    pub partition: u16,
    /// In which segment.
    pub segment: u32,
    /// At which offset, in bytes.
    pub offset: u64,
    /// Whose it was: a path, as far as known.
    pub whose: String,
}

/// Where the control directory gets its numbers, and who carries out its orders. Nothing that only shows may wait for a partition.
pub trait Source: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Time;
    /// All numbers.
    fn report(&self) -> Report;
    /// A row for each segment.
    fn segments(&self) -> Vec<SegmentStats>;
    /// Damage that was noticed, oldest first.
    fn damages(&self) -> Vec<Damage>;
    /// What was made durable and is lost, each in a line.
    fn losses(&self) -> Vec<String>;
    /// Why the store takes no changes any more, if so.
    fn latch_reason(&self) -> Option<String>;
    /// The last operations that were slow, oldest first.
    fn slow_operations(&self) -> Vec<Entry>;
    /// The last operations of all, oldest first; there are some only of times when somebody followed.
    fn followed_operations(&self) -> Vec<Entry>;
    /// Somebody follows the operations from now on, for some seconds.
    fn follow_operations(&self);
    /// Options in effect, by name.
    fn options(&self) -> Vec<(&'static str, String)>;
    /// How many partitions there are.
    fn partition_count(&self) -> u16;
    /// Makes everything durable.
    fn sync(&self) -> Pending<Answer<()>>;
    /// Copies the store into another directory of the same filesystem. Goes on if whoever waits is interrupted.
    fn backup(&self, to: PathBuf) -> Pending<Answer<()>>;
    /// Starts to compact one partition or all, and tells when that is done, whoever waits for it.
    fn compact(&self, partition: Option<u16>, finished: Finished);
    /// Changes options, all of them or none.
    ///
    /// # Errors
    /// EINVAL for a name or a value that is none, EPERM for an option that can't change while the store is open.
    fn set_options(&self, changes: &[(&str, &str)]) -> Answer<()>;
    /// Holds all compaction where it is, or lets it go on.
    fn pause_compaction(&self, paused: bool);
    /// How far the verification is, or what the last one came to.
    fn scrub_stats(&self) -> ScrubStats;
    /// Starts to verify what lies on the disk, at no more than so many bytes a second (0: without limit), and tells how many damaged
    /// things were found when that is done or stopped, whoever waits for it.
    ///
    /// # Errors
    /// EBUSY if one runs already.
    fn start_scrub(&self, bytes_per_second: u64, finished: Finished) -> Answer<()>;
    /// Stops the verification that runs, if one does.
    fn stop_scrub(&self);
    /// What the log takes down; None if there is no log.
    fn log_level(&self) -> Option<String>;
    /// Changes that.
    ///
    /// # Errors
    /// EINVAL for a word that is no level, EOPNOTSUPP if there is no log.
    fn set_log_level(&self, level: &str) -> Answer<()>;
}
