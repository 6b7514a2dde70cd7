//! How far compaction is, partition by partition. Written inside the turns, read by anybody at any time.

use super::stats::Counter;
use parking_lot::Mutex;

/// What compaction does in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CompactionPhase {
    /// Nothing, and nothing is due.
    #[default]
    Idle,
    /// Something is due; it waits for the start delay, the cooldown or the window.
    Waiting,
    /// Copies what lives.
    Copying,
    /// The output is complete: it is made durable, and what it replaces is removed.
    Finishing,
}

impl CompactionPhase {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            CompactionPhase::Idle => "idle",
            CompactionPhase::Waiting => "waiting",
            CompactionPhase::Copying => "copying",
            CompactionPhase::Finishing => "finishing",
        }
    }
}

/// How far compaction is in one partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompactionStats {
    /// In which partition.
    pub partition: u16,
    /// What it does.
    pub phase: CompactionPhase,
    /// Segments that are being replaced by one output.
    pub victims: u64,
    /// How much of them has been worked through, in bytes.
    pub bytes_done: u64,
    /// How much there is to work through, in bytes.
    pub bytes_total: u64,
    /// How long it has been at them, in nanoseconds.
    pub elapsed_ns: u64,
    /// Why the last attempt came to nothing, until one succeeds.
    pub trouble: Option<String>,
}

impl CompactionStats {
    /// How much is worked through in a second, in bytes; 0 before anything was.
    pub fn bytes_per_second(&self) -> u64 {
        match self.elapsed_ns {
            0 => 0,
            elapsed_ns => (u128::from(self.bytes_done) * 1_000_000_000 / u128::from(elapsed_ns)) as u64,
        }
    }
}

#[derive(Default, Debug)]
pub(crate) struct Progress {
    phase: Counter,
    victims: Counter,
    bytes_done: Counter,
    bytes_total: Counter,
    started_ns: Counter,
    trouble: Mutex<Option<String>>,
}

impl Progress {
    /// Begins to replace segments.
    pub(crate) fn begin(&self, victims: u64, bytes_total: u64, now_ns: u64) {
        self.victims.set(victims);
        self.bytes_done.set(0);
        self.bytes_total.set(bytes_total);
        self.started_ns.set(now_ns);
        self.set_phase(CompactionPhase::Copying);
    }

    pub(crate) fn done(&self, bytes: u64) {
        self.bytes_done.add(bytes);
    }

    pub(crate) fn set_phase(&self, phase: CompactionPhase) {
        self.phase.set(phase as u64);
    }

    pub(crate) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock() = trouble;
    }

    pub(crate) fn show(&self, partition: u16, now_ns: u64) -> CompactionStats {
        let phase = match self.phase.get() {
            0 => CompactionPhase::Idle,
            1 => CompactionPhase::Waiting,
            2 => CompactionPhase::Copying,
            _ => CompactionPhase::Finishing,
        };
        let trouble = self.trouble.lock().clone();
        if !matches!(phase, CompactionPhase::Copying | CompactionPhase::Finishing) {
            return CompactionStats { partition, phase, trouble, ..CompactionStats::default() };
        }
        CompactionStats {
            partition,
            phase,
            victims: self.victims.get(),
            bytes_done: self.bytes_done.get(),
            bytes_total: self.bytes_total.get(),
            elapsed_ns: now_ns.saturating_sub(self.started_ns.get()),
            trouble,
        }
    }
}
