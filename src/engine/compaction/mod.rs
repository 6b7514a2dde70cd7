//! Compaction: copies what lives out of segments with dead records, and removes them. A guest in its partition: it works in small
//! slices, reads and writes on the store's background thread, and lets others go first between slices.
//!
//! Order, and why:
//! 1. Copy what lives into an output under a temporary name, checking every checksum; seal it; sync it; read it back. (`copy`, `output`)
//! 2. Sync the store: what made the dropped records dead must not be lost while they are.
//! 3. Give the output its name, sync the directory. This is the commit: its header names the victims, and from now on recovery
//!    removes them if we can't.
//! 4. Move the keydir over, slice by slice. Victims still serve reads. (`finish`)
//! 5. Remove the victims, sync the directory.
//! 6. Only now count their dead puts as gone. A tombstone with nothing left to bury becomes garbage itself; the next compaction drops it.
//!
//! Only sealed segments whose numbers are all stable (and needed by no one, see `retain_after`) are touched. (`victims`)
//! When it runs and how fast is `pace`'s to say, whether there is room for an output `space`'s. An output is never larger than a segment: what
//! doesn't fit waits for the next one.
//!
//! As long as something that was replaced can't be removed, nothing more is: it would take room without giving any back, and what comes
//! back after a crash must not find that its tombstones have gone.

mod copy;
mod finish;
mod output;
mod pace;
mod read;
mod space;
mod victims;

pub(crate) use self::pace::{Pace, yield_now};

use self::finish::Leftovers;
use super::core::Core;
use super::error::WriteError;
use super::format::segment::{Origin, SegmentHeader};
use super::progress::{CompactionPhase, Progress};
use super::segment::temporary_path;
use super::shell::Shell;
use super::types::SegmentId;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use self::victims::{Victim, Worth};

/// By hand, hardly anything has to be dead.
const BY_HAND: Worth = Worth { dead_ratio: 0.01, packs: true };
/// How often by hand it is looked again for what the passes before have made garbage.
const FURTHER_PASSES: usize = 2;
/// When that is worth it.
const FURTHER: Worth = Worth { dead_ratio: 0.1, packs: true };
/// How often it is looked whether a compaction that runs has ended.
const RUNNING_POLL_NS: u64 = 2_000_000;

/// Why a compaction gave up. Nothing was lost.
enum Failure {
    Io(io::Error),
    Write(WriteError),
    /// A victim has a damaged live record; it was set apart.
    Damaged,
    /// There is no room for an output.
    Space {
        needed_bytes: u64,
        free_bytes: u64,
    },
    /// What was replaced before can't be removed.
    Leftovers(String),
    /// The store is closing.
    Closing,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Io(error) => error.fmt(f),
            Failure::Write(error) => error.fmt(f),
            Failure::Damaged => write!(f, "a segment is damaged"),
            Failure::Space { needed_bytes, free_bytes } => {
                write!(
                    f,
                    "no space: copying what lives takes {needed_bytes} bytes, and {free_bytes} are free"
                )
            }
            Failure::Leftovers(reason) => write!(f, "replaced segments can't be removed: {reason}"),
            Failure::Closing => write!(f, "the store is closing"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

/// What a partition knows of its compaction.
#[derive(Default)]
pub(crate) struct CompactionState {
    running: Arc<AtomicBool>,
    /// Replaced segments whose files could not be removed yet.
    leftovers: Option<Leftovers>,
    /// Something is due and waits for its time.
    timer: bool,
    /// Automatic ones rest until then, unless the disk is full, by the store's clock.
    rests_until_ns: u64,
    /// After a failure, they rest until then in any case.
    given_up_until_ns: u64,
}

impl CompactionState {
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn has_leftovers(&self) -> bool {
        self.leftovers.is_some()
    }
}

/// Says that a compaction runs; not any more when it is dropped, also by a panic.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// One run, over as many outputs as it takes.
struct Run {
    by_hand: bool,
    worth: Worth,
    /// Segments from here on are outputs of this very run, or newer: they aren't looked at.
    end: SegmentId,
    /// There is hardly any space: the next output has one victim, and nobody else takes space while it is written.
    tight: bool,
}

/// What a run came to.
#[derive(Default)]
struct Outcome {
    reclaimed_bytes: u64,
    refused: bool,
}

impl Shell {
    fn progress(&self) -> &Progress {
        &self.common.partition_counters[self.id.index()].progress
    }

    /// Compacts all that is worth it, the active segment included. Returns how many bytes the files shrank by.
    pub(crate) async fn compact_by_hand(self: &Arc<Self>) -> Result<u64, WriteError> {
        match self.rotate_if_worth_it().await {
            // On a full disk the active segment has to wait; the others are what makes room.
            Ok(()) | Err(WriteError::Full) => {}
            Err(error) => return Err(error),
        }
        self.common.sync().await?;
        let mut outcome = self.compact_next(BY_HAND).await;
        // Tombstones of which the first pass removed what they buried are garbage now.
        for _ in 0..FURTHER_PASSES {
            let further = self.compact_next(FURTHER).await;
            outcome.reclaimed_bytes += further.reclaimed_bytes;
            outcome.refused |= further.refused;
        }
        if outcome.refused { Err(WriteError::Full) } else { Ok(outcome.reclaimed_bytes) }
    }

    /// Compacts once what runs already has come to an end.
    async fn compact_next(self: &Arc<Self>, worth: Worth) -> Outcome {
        while self.with(|core| core.compaction.is_running()) {
            self.common.clock.sleep(RUNNING_POLL_NS).await;
        }
        self.compact(true, worth).await
    }

    /// Goes on to a fresh segment if the active one is worth compacting.
    pub(crate) async fn rotate_if_worth_it(self: &Arc<Self>) -> Result<(), WriteError> {
        let wants_rotation = self.with(|core| {
            let active = &core.segments[&core.active()];
            BY_HAND.is_met_by(active, core.log().end())
        });
        if wants_rotation { self.rotate_now().await } else { Ok(()) }
    }

    /// Goes on to a fresh segment, and seals the one that was active.
    async fn rotate_now(self: &Arc<Self>) -> Result<(), WriteError> {
        loop {
            self.common.order.check()?;
            if self.with(|core| core.is_log_empty()) {
                // Somebody else went on meanwhile.
                return Ok(());
            }
            match self.with(Core::rotate_if_possible) {
                Some(full) => {
                    self.clone().seal(full).await;
                    return Ok(());
                }
                None => {
                    self.make_spare();
                    self.wait_for_spare().await;
                    if self.with(|core| core.spares.next.is_none() && core.spares.failure.is_some()) {
                        return Err(WriteError::Full);
                    }
                }
            }
        }
    }

    /// Compacts until nothing is worth it. One at a time a partition.
    async fn compact(self: &Arc<Self>, by_hand: bool, worth: Worth) -> Outcome {
        let Some((running, end)) = self.with(|core| {
            let running = core.compaction.running.clone();
            (!running.swap(true, Ordering::Relaxed)).then(|| (Running(running), core.next_segment))
        }) else {
            return Outcome::default();
        };
        let mut run = Run { by_hand, worth, end, tight: false };
        let mut reclaimed_bytes = 0;
        let mut was_tight = false;
        let failure = loop {
            let compacted = self.compact_once(&mut run).await;
            was_tight |= run.tight;
            match compacted {
                Ok(Some(bytes)) => {
                    reclaimed_bytes += bytes;
                    run.tight = false;
                    self.with(|core| core.counters.compactions.add(1));
                    self.progress().set_trouble(None);
                }
                Ok(None) => break None,
                // It is out of the way now.
                Err(Failure::Damaged) => {}
                Err(Failure::Io(error)) if error.kind() == io::ErrorKind::StorageFull && !run.tight => {
                    run.tight = true;
                }
                Err(failure) => break Some(failure),
            }
        };
        self.with(|core| core.counters.compaction_bytes_reclaimed.add(reclaimed_bytes));
        self.progress().set_phase(CompactionPhase::Idle);
        if was_tight {
            // Writers may have been refused: there may be room for a segment now.
            self.make_spare();
        }
        self.rest(failure.as_ref());
        drop(running);
        let refused = matches!(failure, Some(Failure::Space { .. }));
        if failure.is_none() && reclaimed_bytes > 0 {
            self.consider_compaction();
        }
        Outcome { reclaimed_bytes, refused }
    }

    /// One output's worth. None if nothing is worth it, or its time is over.
    async fn compact_once(self: &Arc<Self>, run: &mut Run) -> Result<Option<u64>, Failure> {
        self.clean_up().await?;
        if !run.by_hand && self.window_wait_ns() > 0 {
            return Ok(None);
        }
        let mut victims = self.with(|core| core.victims(run.worth));
        victims.retain(|victim| victim.id < run.end);
        if victims.is_empty() {
            return Ok(None);
        }
        if run.tight || !self.has_room_for(&victims).await {
            run.tight = true;
            self.replace_one_alone(victims, run).await.map(Some)
        } else {
            self.replace(victims, run).await.map(Some)
        }
    }

    /// Puts one output in the place of the victims; returns how many bytes the files shrank by.
    async fn replace(self: &Arc<Self>, victims: Vec<Victim>, run: &Run) -> Result<u64, Failure> {
        let before_bytes: u64 = victims.iter().map(|victim| victim.source.end).sum();
        let ids: Vec<SegmentId> = victims.iter().map(|victim| victim.id).collect();
        self.progress().begin(ids.len() as u64, before_bytes, self.common.clock.monotonic_ns());
        let header = self.with(|core| SegmentHeader {
            store: core.common.store,
            partition: self.id,
            origin: Origin::Packed,
            segment: core.next_segment_id(),
            salt: core.common.random_u32(),
            created_ns: core.common.clock.wall_ns(),
            victims: ids.clone(),
        });
        let temporary = temporary_path(self.id, header.segment, "data");
        let output = match self.write_output(&victims, header, &temporary, run).await {
            Ok(output) => output,
            Err(failure) => {
                // Best effort: what is left is removed when the store opens.
                let _ = self.common.background(move |disk| disk.remove(&temporary)).await;
                return Err(failure);
            }
        };
        let after_bytes = output.end;
        self.switch_over(&output).await;
        drop(victims);
        self.remove_victims(ids, output.dropped).await;
        Ok(before_bytes.saturating_sub(after_bytes))
    }
}
