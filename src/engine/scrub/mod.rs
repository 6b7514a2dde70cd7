//! Verification of everything that lies on the disk, while the store is used: every frame and every record of every segment, and the hints of the
//! sealed ones. Reads on the store's background thread, a piece at a time, no faster than it was told to, and lets others go first. A guest like
//! compaction: inside a turn it only asks what lives.
//!
//! What it finds: values that fail their checksum are noted with their keys, as if somebody had read them. Where it can't be seen which
//! keys are there, those that the keydir knows to live there are read one by one. A hint that doesn't say what its segment holds is written anew, an index that is damaged
//! is mended where that can be done.
//!
//! A verification that was stopped, or whose store was closed, goes on where it was. Segments made since it began are left for the next.
//! What the kernel has in memory is verified there: what reads would give, not what the platter has.

mod hint;
mod index;
mod piece;
mod position;
mod segment;

use super::common::Common;
use super::shell::Shell;
use super::stats::SegmentState;
use super::types::SegmentId;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// How fast a verification reads unless told otherwise, in bytes a second.
pub const SCRUB_BYTES_PER_SECOND: u64 = 50 * 1024 * 1024;

/// Where a verification is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ScrubPhase {
    /// There never was one.
    #[default]
    Never,
    /// It runs.
    Running,
    /// It was stopped before its end: the next goes on there.
    Stopped,
    /// It has seen everything.
    Done,
}

impl ScrubPhase {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            ScrubPhase::Never => "never",
            ScrubPhase::Running => "running",
            ScrubPhase::Stopped => "stopped",
            ScrubPhase::Done => "done",
        }
    }
}

/// How far a verification is, or what the last one came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubStats {
    /// Where it is in its life.
    pub phase: ScrubPhase,
    /// The partition that it is in.
    pub partition: u64,
    /// The segment that comes next there.
    pub segment: u64,
    /// Segments that it has seen.
    pub segments_done: u64,
    /// Bytes that it has seen.
    pub bytes_done: u64,
    /// Bytes that there are to see, as far as known when it began.
    pub bytes_total: u64,
    /// Records that it has seen, dead ones included.
    pub records: u64,
    /// Keys whose value, or tombstone, is damaged. Each is among the integrity errors, as far as those go back.
    pub damaged_values: u64,
    /// Damaged records that nothing needs any more.
    pub damaged_dead: u64,
    /// Places where it can't be seen which keys are there.
    pub damaged_places: u64,
    /// Hints that didn't say what their segment holds, and indexes of packed segments that had to be mended.
    pub hints_rewritten: u64,
    /// How long it has run, in nanoseconds.
    pub elapsed_ns: u64,
    /// When it ended, in seconds since 1970; 0 while it runs.
    pub ended_seconds: u64,
    /// Why it stopped by itself, if so.
    pub trouble: Option<String>,
}

impl ScrubStats {
    /// Whether anything that is needed is damaged.
    pub fn found_damage(&self) -> bool {
        self.damaged_values > 0 || self.damaged_places > 0
    }
}

/// The verification of a store. At most one runs.
#[derive(Default)]
pub(crate) struct Scrub {
    running: AtomicBool,
    stop: AtomicBool,
    bytes_per_second: AtomicU64,
    /// When all that was read is paid for, by the store's clock.
    paid_ns: AtomicU64,
    stats: Mutex<ScrubStats>,
}

/// Says that one runs; not any more when it is dropped, also by a panic.
pub(crate) struct Running {
    scrub: Arc<Scrub>,
    /// How long it has run in earlier goes, in nanoseconds.
    before_ns: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.scrub.note(|stats| {
            if stats.phase == ScrubPhase::Running {
                stats.phase = ScrubPhase::Stopped;
            }
        });
        self.scrub.running.store(false, Relaxed);
    }
}

/// Why a verification ended before its end.
enum Halt {
    /// It was told to, or the store is closing.
    Asked,
    Trouble(io::Error),
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        Halt::Trouble(error)
    }
}

impl Scrub {
    /// What earlier lives of the store have left. Waits for the disk.
    pub(crate) fn recall(common: &Common) -> Arc<Scrub> {
        let stats = position::recall(&*common.disk).unwrap_or_default();
        Arc::new(Scrub { stats: Mutex::new(stats), ..Scrub::default() })
    }

    /// None if one runs already.
    pub(crate) fn claim(self: &Arc<Self>, common: &Common, bytes_per_second: u64) -> Option<Running> {
        if self.running.swap(true, Relaxed) {
            return None;
        }
        self.stop.store(false, Relaxed);
        self.bytes_per_second.store(bytes_per_second, Relaxed);
        let before_ns = self.begin(common);
        Some(Running { scrub: self.clone(), before_ns })
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    pub(crate) fn stats(&self) -> ScrubStats {
        self.stats.lock().clone()
    }

    fn note(&self, change: impl FnOnce(&mut ScrubStats)) {
        change(&mut self.stats.lock());
    }

    /// Runs to the end, or until it is stopped. Inside an operation of any partition.
    pub(crate) async fn run(shells: Vec<Arc<Shell>>, running: Running) -> ScrubStats {
        let (scrub, common) = (running.scrub.clone(), shells[0].common.clone());
        let clock = common.clock.clone();
        let started_ns = clock.monotonic_ns();
        // A store that is closed already has no thread left to keep anything.
        let was_closing = common.is_closing();
        let result = scrub.over_all(&shells).await;
        let ended_seconds = clock.wall_ns().div_euclid(1_000_000_000).max(0) as u64;
        scrub.note(|stats| {
            stats.elapsed_ns = running.before_ns + clock.monotonic_ns().saturating_sub(started_ns);
            stats.ended_seconds = ended_seconds;
            stats.phase = if result.is_ok() { ScrubPhase::Done } else { ScrubPhase::Stopped };
            if let Err(Halt::Trouble(error)) = &result {
                stats.trouble = Some(error.to_string());
            }
            if result.is_ok() {
                (stats.partition, stats.segment, stats.bytes_total) = (0, 0, stats.bytes_done);
            }
        });
        if !was_closing {
            scrub.keep(&common).await;
        }
        scrub.stats()
    }

    /// Goes on where the last one was stopped, or starts anew; how long it has run before, in nanoseconds.
    fn begin(&self, common: &Common) -> u64 {
        let mut stats = self.stats.lock();
        if stats.phase != ScrubPhase::Stopped || stats.partition >= common.partition_count() as u64 {
            *stats = ScrubStats::default();
        }
        let mut left_bytes = 0;
        for (partition, counters) in common.partition_counters.iter().enumerate() {
            for (id, segment) in counters.segments.lock().iter() {
                if (partition as u64, u64::from(id.0)) >= (stats.partition, stats.segment) {
                    left_bytes += match segment.state() {
                        // Made ahead, longer than what is in it.
                        SegmentState::Active => segment.live_bytes.get() + segment.dead_bytes.get(),
                        _ => segment.file_bytes.get(),
                    };
                }
            }
        }
        stats.bytes_total = stats.bytes_done + left_bytes;
        (stats.phase, stats.ended_seconds, stats.trouble) = (ScrubPhase::Running, 0, None);
        stats.elapsed_ns
    }

    async fn over_all(self: &Arc<Self>, shells: &[Arc<Shell>]) -> Result<(), Halt> {
        let first = self.stats().partition as usize;
        for shell in &shells[first..] {
            self.check(&shell.common)?;
            let (inside, scrub) = (shell.clone(), self.clone());
            let seen = shell.submit(async move { inside.scrub(&scrub).await }).fallible().await;
            seen.unwrap_or_else(|| Err(io::Error::other("a bug ended it").into()))?;
            self.note(|stats| (stats.partition, stats.segment) = (stats.partition + 1, 0));
        }
        Ok(())
    }

    /// Best effort: without it, the next life starts anew.
    async fn keep(&self, common: &Common) {
        if common.config.read_only || common.order.is_latched() {
            return;
        }
        let stats = self.stats();
        let kept = common.background(move |disk| position::keep(disk, &stats)).await;
        if let Err(error) = kept {
            tracing::warn!("how far the scrub is could not be kept: {error}");
        }
    }

    fn check(&self, common: &Common) -> Result<(), Halt> {
        if self.stop.load(Relaxed) || common.is_closing() { Err(Halt::Asked) } else { Ok(()) }
    }
}

impl Shell {
    /// Verifies the segments of this partition that there are now, from where the verification is.
    async fn scrub(self: Arc<Self>, scrub: &Scrub) -> Result<(), Halt> {
        let end = self.with(|core| core.next_segment);
        loop {
            let from = SegmentId(u32::try_from(scrub.stats().segment).unwrap_or(u32::MAX));
            let next = self.with(|core| core.segments.range(from..end.max(from)).next().map(|(id, _)| *id));
            let Some(id) = next else { return Ok(()) };
            let before = scrub.stats();
            if let Err(halt) = self.scrub_segment(id, scrub).await {
                // The next one begins with this segment.
                scrub.note(|stats| *stats = before);
                return Err(halt);
            }
            scrub.note(|stats| {
                stats.segment = u64::from(id.0) + 1;
                stats.segments_done += 1;
            });
            scrub.keep(&self.common).await;
        }
    }
}
