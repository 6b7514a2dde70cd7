//! What follows the commit: the keydir moves over, what was replaced is removed, and its dead puts stop to count. Steps 4 to 6.

use super::output::Output;
use super::{Failure, yield_now};
use crate::engine::common::partition_dir;
use crate::engine::core::record_bytes;
use crate::engine::planted::{Bug, planted};
use crate::engine::recovery::load::remove_segment;
use crate::engine::segment::{FileLanes, Segment};
use crate::engine::shell::Shell;
use crate::engine::stats::{SegmentCounters, SegmentState};
use crate::engine::types::SegmentId;
use std::io;
use std::sync::Arc;

/// Records moved over before others may go first.
const SLICE_RECORDS: usize = 32;

/// Segments that aren't part of the store any more and whose files may still be there, or come back after a crash.
pub(super) struct Leftovers {
    ids: Vec<SegmentId>,
    /// Keys of the dead puts in them, once for each: they count as long as they can come back.
    dropped: Vec<Vec<u8>>,
}

impl Shell {
    /// Step 4.
    pub(super) async fn switch_over(&self, output: &Output) {
        let counters = Arc::new(SegmentCounters::default());
        counters.set_state(SegmentState::Sealed);
        counters.file_bytes.set(output.end);
        self.with(|core| {
            core.adopt(Segment {
                id: output.header.segment,
                file: output.file.clone(),
                lanes: FileLanes::default(),
                salt: output.header.salt,
                form: output.header.origin.form(),
                header_bytes: output.index_start,
                end: output.end,
                last_number: output.last_number,
                counters,
            });
        });
        for slice in output.moved.chunks(SLICE_RECORDS) {
            self.with(|core| {
                for moved in slice {
                    let bytes = record_bytes(&moved.key, moved.to);
                    let lives = core.keydir.relocate(&moved.key, moved.from, moved.to);
                    let segment = &core.segments[&output.header.segment];
                    if lives {
                        segment.account(bytes as i64, 0, 1);
                    } else {
                        // Superseded, or its tombstone left the keydir, while it was being copied.
                        segment.account(0, bytes as i64, 0);
                    }
                }
            });
            yield_now().await;
        }
    }

    /// Steps 5 and 6. A failure is no harm: the output names them, so that the next opening removes them.
    pub(super) async fn remove_victims(&self, ids: Vec<SegmentId>, dropped: Vec<Vec<u8>>) {
        self.with(|core| {
            for id in &ids {
                core.part_with(*id);
            }
        });
        // What it came to is told when compaction is next wanted.
        let _ = self.remove(Leftovers { ids, dropped }).await;
    }

    /// Removes what couldn't be removed before.
    pub(super) async fn clean_up(&self) -> Result<(), Failure> {
        match self.with(|core| core.compaction.leftovers.take()) {
            None => Ok(()),
            Some(leftovers) => {
                self.remove(leftovers).await.map_err(|error| Failure::Leftovers(error.to_string()))
            }
        }
    }

    /// An output that may have got its name, or may get it back after a crash, and isn't used: its copies must not come back
    /// when what they are copies of has changed.
    pub(super) async fn disown(&self, output: SegmentId) {
        let _ = self.remove(Leftovers { ids: vec![output], dropped: Vec::new() }).await;
    }

    async fn remove(&self, leftovers: Leftovers) -> io::Result<()> {
        let (ids, partition) = (leftovers.ids.clone(), self.id);
        let removed = self
            .common
            .background(move |disk| {
                // One that can't be removed doesn't keep the others.
                let results: Vec<_> = ids.iter().map(|id| remove_segment(disk, partition, *id)).collect();
                disk.sync_dir(&partition_dir(partition))?;
                results.into_iter().collect::<io::Result<()>>()
            })
            .await;
        if let Err(error) = removed {
            tracing::warn!("partition {partition}: replaced segments could not be removed: {error}");
            self.with(|core| {
                core.counters.cleanup_failures.add(1);
                core.compaction.leftovers = Some(leftovers);
            });
            return Err(error);
        }
        self.with(|core| core.counters.segments_removed.add(leftovers.ids.len() as u64));
        self.bury(&leftovers.dropped).await;
        Ok(())
    }

    /// Step 6.
    async fn bury(&self, dropped: &[Vec<u8>]) {
        if planted(Bug::KeepCounting) {
            return;
        }
        for slice in dropped.chunks(SLICE_RECORDS) {
            self.with(|core| {
                for key in slice {
                    if let Some(tombstone) = core.keydir.buried_one_less(key)
                        && let Some(segment) = core.segments.get(&tombstone.segment)
                    {
                        segment.record_died(record_bytes(key, tombstone));
                    }
                }
            });
            yield_now().await;
        }
    }
}
