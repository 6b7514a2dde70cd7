//! Counters: a counter an event. Written inside the turns, read by anybody at any time without entering one.

use super::lanes::Lanes;
use super::progress::Progress;
use super::types::SegmentId;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Something that is counted.
#[derive(Default, Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
    pub(crate) fn subtract(&self, count: u64) {
        self.0.fetch_sub(count, Relaxed);
    }
}

/// Where a segment is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentState {
    /// Frames are appended to it.
    Active,
    /// Full; waits for its seal.
    Full,
    /// Sealed: can be compacted.
    Sealed,
    /// Has a damaged live record: set apart, never removed.
    Damaged,
}

impl SegmentState {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            SegmentState::Active => "active",
            SegmentState::Full => "full",
            SegmentState::Sealed => "sealed",
            SegmentState::Damaged => "damaged",
        }
    }
}

/// What is counted of one segment.
#[derive(Default, Debug)]
pub(crate) struct SegmentCounters {
    pub(crate) live_bytes: Counter,
    pub(crate) dead_bytes: Counter,
    pub(crate) live_records: Counter,
    pub(crate) file_bytes: Counter,
    state: Counter,
}

impl SegmentCounters {
    pub(crate) fn set_state(&self, state: SegmentState) {
        self.state.set(state as u64);
    }
    pub(crate) fn state(&self) -> SegmentState {
        match self.state.get() {
            0 => SegmentState::Active,
            1 => SegmentState::Full,
            2 => SegmentState::Sealed,
            _ => SegmentState::Damaged,
        }
    }
}

/// What is counted of looking things up, by any number of threads at a time.
#[derive(Default, Debug)]
pub(crate) struct ReadCounters {
    pub(crate) gets: Counter,
    pub(crate) misses: Counter,
    pub(crate) bytes_read: Counter,
}

/// What is counted of one partition.
#[derive(Default, Debug)]
pub(crate) struct PartitionCounters {
    pub(crate) keys: Counter,
    pub(crate) keydir_bytes: Counter,
    pub(crate) operations: Counter,
    pub(crate) puts: Counter,
    pub(crate) deletes: Counter,
    pub(crate) bytes_written: Counter,
    pub(crate) user_bytes_written: Counter,
    pub(crate) reads: Lanes<ReadCounters>,
    pub(crate) unsynced_bytes: Counter,
    pub(crate) rotations: Counter,
    pub(crate) crc_errors: Counter,
    pub(crate) compactions: Counter,
    pub(crate) compaction_failures: Counter,
    pub(crate) compaction_bytes_reclaimed: Counter,
    pub(crate) compaction_bytes_copied: Counter,
    pub(crate) segments_removed: Counter,
    pub(crate) cleanup_failures: Counter,
    pub(crate) reserve_bytes: Counter,
    pub(crate) progress: Progress,
    pub(crate) segments: Mutex<BTreeMap<SegmentId, Arc<SegmentCounters>>>,
    pub(crate) errors: Mutex<std::collections::VecDeque<IntegrityError>>,
}

impl PartitionCounters {
    /// What all lanes have counted together.
    pub(crate) fn read_sum(&self, of: impl Fn(&ReadCounters) -> &Counter) -> u64 {
        self.reads.iter().map(|lane| of(lane).get()).sum()
    }
}

/// One record that failed its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntegrityError {
    /// In which partition.
    pub partition: u16,
    /// In which segment.
    pub segment: u32,
    /// At which offset, in bytes.
    pub offset: u64,
    /// Whose value it was.
    pub key: Vec<u8>,
    /// When it was noticed, nanoseconds since 1970.
    pub noticed_ns: i64,
}

/// How many integrity errors a partition remembers.
pub(crate) const ERRORS_KEPT: usize = 256;

/// What is counted of the store as a whole.
#[derive(Default, Debug)]
pub(crate) struct StoreCounters {
    pub(crate) syncs: Counter,
    pub(crate) sync_rounds: Counter,
    pub(crate) sync_latency: CachePadded<Histogram>,
    pub(crate) recovery_ns: Counter,
    pub(crate) recovery_keys: Counter,
    pub(crate) torn_tail_bytes: Counter,
}

/// Latencies in buckets that grow by a quarter of a power of two; from 1 us to about an hour.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; Self::BUCKETS],
    sum_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum_ns: AtomicU64::new(0) }
    }
}

/// How long things took, in classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Bounds in microseconds, each with how many took less.
    pub below: Vec<(u64, u64)>,
    /// How many there were.
    pub count: u64,
    /// How long all of them took together, in nanoseconds.
    pub sum_ns: u64,
}

impl Histogram {
    const BUCKETS: usize = 128;

    fn bucket(us: u64) -> usize {
        if us < 4 {
            return us as usize;
        }
        let power = us.ilog2() as usize;
        let quarter = (us >> (power - 2)) as usize & 3;
        (4 + (power - 2) * 4 + quarter).min(Self::BUCKETS - 1)
    }

    /// The smallest value that falls into the bucket.
    fn floor_us(bucket: usize) -> u64 {
        if bucket < 4 {
            return bucket as u64;
        }
        let power = (bucket - 4) / 4 + 2;
        (4 + (bucket - 4) as u64 % 4) << (power - 2)
    }

    pub(crate) fn record_ns(&self, ns: u64) {
        self.buckets[Self::bucket(ns / 1000)].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    /// With bounds that are powers of four, from 1 us to 67 s.
    pub(crate) fn distribution(&self) -> Distribution {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let below = |bound_us: u64| (bound_us, counts[..Self::bucket(bound_us)].iter().sum());
        Distribution {
            below: (0..=13).map(|power| below(1 << (2 * power))).collect(),
            count: counts.iter().sum(),
            sum_ns: self.sum_ns.load(Relaxed),
        }
    }

    /// The value below which `share` (0 to 1) of the recorded lie, in microseconds; 0 if there are none.
    pub(crate) fn percentile_us(&self, share: f64) -> u64 {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let wanted = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                return Self::floor_us(bucket);
            }
        }
        0
    }
}

/// One partition's numbers.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the names are those of the user's table, which documents them
pub struct PartitionStats {
    pub partition: u16,
    pub keys: u64,
    pub keydir_bytes: u64,
    pub queue_depth: u64,
    pub operations: u64,
    pub live_bytes: u64,
    pub dead_bytes: u64,
    pub file_bytes: u64,
    pub segments: u64,
    pub unsynced_bytes: u64,
    pub passed_on: u64,
    pub panics: u64,
}

/// One segment's numbers.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct SegmentStats {
    pub partition: u16,
    pub segment: u32,
    pub state: SegmentState,
    pub live_records: u64,
    pub live_bytes: u64,
    pub dead_bytes: u64,
    pub file_bytes: u64,
}

/// A store's numbers at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct StoreStats {
    pub keys: u64,
    pub keydir_bytes: u64,
    pub live_bytes: u64,
    pub dead_bytes: u64,
    pub file_bytes: u64,
    pub reserve_bytes: u64,
    pub puts: u64,
    pub gets: u64,
    pub misses: u64,
    pub deletes: u64,
    pub bytes_written: u64,
    pub user_bytes_written: u64,
    pub bytes_read: u64,
    pub syncs: u64,
    pub sync_rounds: u64,
    pub sync_p50_us: u64,
    pub sync_p99_us: u64,
    pub sync_times: Distribution,
    pub compactions: u64,
    pub compaction_failures: u64,
    pub compaction_bytes_reclaimed: u64,
    pub compaction_bytes_copied: u64,
    pub segments_removed: u64,
    pub cleanup_failures: u64,
    pub rotations: u64,
    pub crc_errors: u64,
    pub torn_tail_bytes: u64,
    pub recovery_ns: u64,
    pub recovery_keys: u64,
    pub last_number: u64,
    pub settled: u64,
    pub stable: u64,
    pub partitions: Vec<PartitionStats>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_counts_what_is_below_its_bounds() {
        let histogram = Histogram::default();
        for us in [0, 3, 4, 5, 1023, 1024, 100_000_000] {
            histogram.record_ns(us * 1000 + 999);
        }
        let distribution = histogram.distribution();
        let below = |bound| distribution.below.iter().find(|(us, _)| *us == bound).unwrap().1;
        assert_eq!(
            [below(1), below(4), below(16), below(1024), below(4096), below(1 << 26)],
            [1, 2, 4, 5, 6, 6]
        );
        assert_eq!((distribution.count, distribution.sum_ns), (7, 100_002_059_000 + 7 * 999));
    }

    #[test]
    fn percentiles_are_within_a_quarter() {
        let histogram = Histogram::default();
        for us in 1..=1000 {
            histogram.record_ns(us * 1000);
        }
        for (share, exact) in [(0.5, 500.0), (0.99, 990.0)] {
            let got = histogram.percentile_us(share) as f64;
            assert!(got <= exact && got >= exact * 0.75, "{share}: {got}");
        }
    }
}
