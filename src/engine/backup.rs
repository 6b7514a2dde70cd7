//! A copy of a store while it is used: whole segments by hard links, the tails by their bytes. Knows what belongs to the copy, and of which moment it is;
//! not where it goes.
//!
//! What is captured must be what a crash could have left. Partitions are looked at one after the other, so frames behind S, what is stable, may be
//! there of one and missing of another: recovery cuts them, as it would after a crash. But no frame may claim that something is stable
//! which wasn't captured. So no sync round runs while it is looked; and then
//! * everything up to S is with the kernel before the first look, so all of it is captured,
//! * every frame and every seal that is captured claims S at most,
//! * nothing sealed has a number behind S, and no output of a compaction misses a record because of a change behind S.
//!
//! Bytes that a log has once are never changed, and neither is a sealed segment: they can be copied after the look, while all goes on. A segment
//! that a compaction removes before it is linked is missed: then it is looked once more.

use super::common::{Common, partition_dir};
use super::core::Core;
use super::disk::FileHandle;
use super::error::WriteError;
use super::planted::{Bug, planted};
use super::segment::{data_path, hint_path};
use super::stats::SegmentState;
use super::store::Store;
use super::types::Number;
use std::io;
use std::sync::Arc;

/// How often it is looked again, when compactions come in between.
const LOOKS_MAX: usize = 20;
/// How much of a tail is copied at a time, in bytes.
const STEP_BYTES: u64 = 1024 * 1024;

/// Where a copy goes. Paths are relative to the store, and to the copy.
pub trait Shelf: Send {
    /// Makes a directory; fine if it is there already.
    fn create_dir(&mut self, path: &str) -> io::Result<()>;
    /// Gives a file of the store this path in the copy as well. NotFound if the store doesn't have it any more.
    fn link(&mut self, path: &str) -> io::Result<()>;
    /// Makes a new file.
    fn create(&mut self, path: &str) -> io::Result<Box<dyn io::Write + '_>>;
    /// Makes durable what was made so far.
    fn sync(&mut self) -> io::Result<()>;
    /// Removes what was made so far.
    fn clear(&mut self) -> io::Result<()>;
}

/// What a copy came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BackupStats {
    /// Everything up to this number is in it.
    pub stable: u64,
    /// Segments that it shares with the store.
    pub segments_linked: u64,
    /// Bytes that were copied.
    pub bytes_copied: u64,
}

/// Why there is no copy. What was begun has been removed, as far as that could be.
#[derive(Debug)]
pub enum BackupError {
    /// The store could not be made durable first.
    Store(WriteError),
    /// What was copied could not be read or written.
    Io(io::Error),
    /// Compactions removed segments faster than they could be linked.
    Busy,
}

impl std::fmt::Display for BackupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BackupError::Store(error) => error.fmt(f),
            BackupError::Io(error) => error.fmt(f),
            BackupError::Busy => write!(f, "compaction is in the way; pause it meanwhile"),
        }
    }
}
impl std::error::Error for BackupError {}

/// What belongs to the copy.
#[derive(Default)]
struct Capture {
    /// Data and hint of whole segments.
    whole: Vec<(String, String)>,
    tails: Vec<Tail>,
}

/// A segment that isn't sealed.
struct Tail {
    path: String,
    file: FileHandle,
    /// As much of it as counts.
    length: u64,
}

impl Core {
    fn capture(&self, capture: &mut Capture) {
        for segment in self.segments.values() {
            let path = data_path(self.partition, segment.id);
            match segment.state() {
                SegmentState::Sealed | SegmentState::Damaged => {
                    capture.whole.push((path, hint_path(self.partition, segment.id)));
                }
                SegmentState::Active | SegmentState::Full => {
                    let is_log = segment.id == self.active();
                    let length = if is_log { self.log().written() } else { segment.end };
                    // Without a frame it is nothing.
                    if length > segment.header_bytes {
                        capture.tails.push(Tail { path, file: segment.file.clone(), length });
                    }
                }
            }
        }
    }
}

impl<S: Send + 'static> Store<S> {
    /// Copies the store as it is at one moment, not earlier than the call, while it is used; returns when the copy is durable. The shelf is made, and
    /// works, on the store's background thread.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub async fn backup<T: Shelf + 'static>(
        &self,
        make: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<BackupStats, BackupError> {
        self.sync().await.or_else(|error| match error {
            // What takes no changes has nothing to sync.
            WriteError::ReadOnly(_) if self.config().read_only => Ok(()),
            error => Err(BackupError::Store(error)),
        })?;
        let mut shelf = self.common().background(move |_| make()).await.map_err(BackupError::Io)?;
        for _ in 0..LOOKS_MAX {
            let (stable, capture) = self.capture().await?;
            let common = self.common();
            let placing = common.clone();
            let placed = common.background(move |_| {
                let placed = place(&placing, &capture, &mut shelf);
                let cleared = if placed.is_ok() { Ok(()) } else { shelf.clear() };
                Ok((placed, cleared, shelf))
            });
            let (placed, cleared, back) = placed.await.map_err(BackupError::Io)?;
            match placed {
                Ok(stats) => return Ok(BackupStats { stable: stable.0, ..stats }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => cleared.map_err(BackupError::Io)?,
                Err(error) => return Err(BackupError::Io(error)),
            }
            shelf = back;
        }
        Err(BackupError::Busy)
    }

    async fn capture(&self) -> Result<(Number, Capture), BackupError> {
        let common = self.common();
        let _held = match planted(Bug::LookWhileSyncing) {
            true => None,
            false => Some(common.rounds.hold().await),
        };
        let stable = common.order.stable();
        let mut capture = Capture::default();
        for part in self.partitions() {
            let inside = part.clone();
            let looked = part.call(async move {
                let mut own = Capture::default();
                inside.with(|core, _| core.capture(&mut own));
                own
            });
            let own = looked.await.ok_or(BackupError::Store(WriteError::Gone))?;
            capture.whole.extend(own.whole);
            capture.tails.extend(own.tails);
        }
        Ok((stable, capture))
    }
}

/// Puts everything where it goes; last the file that makes it a store.
fn place(common: &Arc<Common>, capture: &Capture, shelf: &mut impl Shelf) -> io::Result<BackupStats> {
    let mut stats = BackupStats::default();
    for index in 0..common.partition_count() {
        shelf.create_dir(&partition_dir(super::types::PartitionId(index as u16)))?;
    }
    for (data, hint) in &capture.whole {
        shelf.link(data)?;
        stats.segments_linked += 1;
        match shelf.link(hint) {
            // It is only an index.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    for tail in &capture.tails {
        copy(tail, &mut *shelf.create(&tail.path)?)?;
        stats.bytes_copied += tail.length;
    }
    shelf.sync()?;
    let manifest = super::recovery::load::read_file(&*common.disk, "MANIFEST")?;
    shelf.create("MANIFEST")?.write_all(&manifest)?;
    shelf.sync()?;
    Ok(stats)
}

fn copy(tail: &Tail, to: &mut dyn io::Write) -> io::Result<()> {
    let mut offset = 0;
    while offset < tail.length {
        let mut bytes = vec![0; STEP_BYTES.min(tail.length - offset) as usize];
        if tail.file.read_at(offset, &mut bytes)? < bytes.len() {
            return Err(io::Error::other(format!("{} is shorter than it was", tail.path)));
        }
        to.write_all(&bytes)?;
        offset += bytes.len() as u64;
    }
    Ok(())
}
