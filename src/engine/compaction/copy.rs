//! Copies what lives of a victim, a slice at a time: read and checked on the background thread, decided in the turn, copied and written on the
//! background thread again.

use super::output::Output;
use super::read::Slice;
use super::victims::Victim;
use super::{Failure, Run, yield_now};
use crate::engine::format::record::RecordKind;
use crate::engine::keydir::Location;
use crate::engine::planted::{Bug, planted};
use crate::engine::scan::{FoundFrame, FoundRecord};
use crate::engine::shell::Shell;
use crate::engine::stats::SegmentState;
use crate::engine::types::SegmentId;

/// Records looked at before others may go first.
const SLICE_RECORDS: usize = 32;

/// What lives of a frame: its index in the slice, and which of its records.
pub(super) struct Kept {
    pub(super) frame: usize,
    pub(super) records: Vec<usize>,
}

/// Where a record of a victim lies.
pub(super) fn location(victim: SegmentId, found: &FoundRecord) -> Location {
    Location {
        segment: victim,
        offset: found.offset as u32,
        value_length: found.value_length,
        tombstone: found.kind == RecordKind::Tombstone,
    }
}

impl Shell {
    pub(super) async fn copy_victim(
        &self,
        victim: &Victim,
        output: &mut Output,
        run: &Run,
    ) -> Result<(), Failure> {
        let mut offset = victim.source.start;
        let mut sealed = false;
        while offset < victim.source.end {
            let source = victim.source.clone();
            let read = self.common.background(move |_| source.read_slice(offset)).await?;
            let Some(slice) = read else {
                self.set_apart(victim.id);
                return Err(Failure::Damaged);
            };
            let worked_bytes = slice.worked_bytes();
            offset = slice.end;
            sealed = slice.ends_with_seal();
            let kept = self.decide_slice(victim.id, &slice, output).await?;
            if !kept.is_empty() {
                self.write_copies(output, victim.id, slice, kept).await?;
            }
            self.breathe(run).await?;
            self.pay(worked_bytes, run).await?;
        }
        if !sealed {
            self.set_apart(victim.id);
            return Err(Failure::Damaged);
        }
        Ok(())
    }

    async fn decide_slice(
        &self,
        victim: SegmentId,
        slice: &Slice,
        output: &mut Output,
    ) -> Result<Vec<Kept>, Failure> {
        let mut kept = Vec::new();
        let mut looked_at = 0;
        for (index, frame) in slice.frames.iter().enumerate() {
            let records = self.decide(victim, frame, output)?;
            if !records.is_empty() {
                kept.push(Kept { frame: index, records });
            }
            looked_at += frame.records.len();
            if looked_at >= SLICE_RECORDS {
                looked_at = 0;
                yield_now().await;
            }
        }
        Ok(kept)
    }

    /// Which records of a frame live, by index. Notes those that don't.
    fn decide(
        &self,
        victim: SegmentId,
        frame: &FoundFrame,
        output: &mut Output,
    ) -> Result<Vec<usize>, Failure> {
        let mut kept = Vec::new();
        let mut damaged = None;
        self.with(|core| {
            for (index, found) in frame.records.iter().enumerate() {
                let location = location(victim, found);
                let lives = core.keydir.entry(&found.key).is_some_and(|entry| entry.location() == location);
                if lives && !found.value_is_right {
                    core.note_damage(&found.key, victim, found.offset);
                    damaged = Some(Failure::Damaged);
                    return;
                }
                if location.tombstone && planted(Bug::DropTombstones) {
                    continue;
                }
                if lives {
                    kept.push(index);
                } else if !location.tombstone {
                    output.dropped.push(found.key.clone());
                }
            }
        });
        match damaged {
            None => Ok(kept),
            Some(failure) => {
                self.set_apart(victim);
                Err(failure)
            }
        }
    }

    fn set_apart(&self, victim: SegmentId) {
        tracing::error!("partition {}: segment {victim} has damaged records and is set apart", self.id);
        self.with(|core| {
            if let Some(segment) = core.segments.get_mut(&victim) {
                segment.set_state(SegmentState::Damaged);
            }
        });
    }
}
