//! How a store is opened.

use super::clock::Clock;
use super::disk::Disk;
use super::limits;
use super::opening::OpeningWatch;
use super::turn::Policy;
use super::window::Window;
use std::sync::Arc;
use std::time::Duration;

/// When an operation is answered, and how often the store syncs by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Answered when settled; a sync round every so often while there is something to sync.
    Interval(Duration),
    /// Every change is answered after its sync.
    Always,
    /// Only explicit syncs and closing sync.
    Explicit,
}

/// Settings of an opening. What is fixed when a store is made says so.
#[derive(Clone, Debug)]
pub struct Config {
    /// New store: how many partitions. None: one per core. An existing store opened with another count is refused.
    pub partitions: Option<u16>,
    /// Make the store if there is none.
    pub create: bool,
    /// Take no changes, touch nothing on the disk.
    pub read_only: bool,
    /// Open a store even if damage hides some of what had been made durable, for reading only: with everything that can be read, and a report of what
    /// is lost ([`Store::losses`](super::Store::losses)). Keys that were changed by what is lost may show an older value, or come back.
    pub salvage: bool,
    /// When changes become durable.
    pub durability: Durability,
    /// Size of new segments, in bytes.
    pub segment_bytes: u64,
    /// New store: what its user wants to find again, as name and value.
    pub options: Vec<(String, String)>,
    /// Compact segments by itself.
    pub auto_compact: bool,
    /// From which share of dead bytes on a segment is compacted by itself: 0 to 1.
    pub compact_threshold: f64,
    /// The most bytes of segments that automatic compaction works through in a second, in all partitions together (so it reads no more than
    /// that, and writes less), and compaction by hand while the store is used by others; 0 is without limit.
    pub compact_bytes_per_second: u64,
    /// How long after opening nothing is compacted by itself, unless the disk is full.
    pub compact_start_delay: Duration,
    /// How long a partition rests after an automatic compaction, unless the disk is full.
    pub compact_cooldown: Duration,
    /// When automatic compaction may start and go on, in UTC; None: at any time. A full disk doesn't wait for it.
    pub compact_window: Option<Window>,
    /// How many segment files are kept open at most, those being written to not counted. Never more than a quarter of the descriptors that
    /// the process may have.
    pub open_files_max: usize,
    /// How long to wait for another process to let go of the store.
    pub lock_wait: Duration,
    /// Who is told how far an opening is that takes long.
    pub opening_watch: OpeningWatch,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            partitions: None,
            create: true,
            read_only: false,
            salvage: false,
            durability: Durability::Interval(Duration::from_secs(1)),
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            options: Vec::new(),
            auto_compact: true,
            compact_threshold: 0.5,
            compact_bytes_per_second: 50 * 1024 * 1024,
            compact_start_delay: Duration::from_secs(10),
            compact_cooldown: Duration::from_secs(1),
            compact_window: None,
            open_files_max: 512,
            lock_wait: Duration::ZERO,
            opening_watch: OpeningWatch::default(),
        }
    }
}

/// The world that a store lives in: the real one, or a simulated one.
#[derive(Clone)]
pub struct World {
    /// Its disk.
    pub disk: Arc<dyn Disk>,
    /// Its time.
    pub clock: Arc<dyn Clock>,
    /// Where its random numbers start (store id, salts).
    pub seed: u64,
    /// Who runs the partitions' mail.
    pub policy: Policy,
}
