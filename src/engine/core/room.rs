//! Room in the log: whether the next commit fits, what has been promised to whom, and going on to the segment made ahead.

use super::Core;
use crate::engine::error::WriteError;
use crate::engine::format::frame::FRAME_HEADER_BYTES;
use crate::engine::limits::UNSEALED_SEGMENTS_MAX;
use crate::engine::log::{Log, frame_bytes};
use crate::engine::segment::{NewSegment, Segment};
use crate::engine::stats::SegmentState;
use crate::engine::types::SegmentId;
use std::io;
use std::task::Waker;

/// Segments made ahead.
#[derive(Default)]
pub(crate) struct Spares {
    pub(crate) next: Option<NewSegment>,
    /// Small; only for changes that free space, when there is no other.
    pub(crate) reserve: Option<NewSegment>,
    pub(crate) creating: bool,
    pub(crate) failure: Option<WriteError>,
    /// A warning about that stands in the log already.
    warned: bool,
    pub(crate) waiters: Vec<Waker>,
}

/// What [`Core::make_room`] found.
pub(crate) enum Room {
    Ready,
    /// Went on to another segment; the full one wants a seal.
    Rotated(SegmentId),
    Wait,
    /// Too many full segments have no seal yet: one of them has to get it first.
    Unsealed,
    /// A fresh segment wouldn't help: what others have reserved must be used first.
    Crowded,
    Refused(WriteError),
}

impl Core {
    /// Whether so many bytes of records can be appended without waiting for anything.
    pub(crate) fn has_room_now(&self, records_bytes: usize) -> bool {
        self.common.order.check_open().is_ok()
            && !self.wants_spare()
            && self.log.fits(records_bytes, self.spoken_for)
    }

    /// Makes sure that the next `append` of so many record bytes has room, or says what must happen first. `has_waited`: for a segment to be made. Before
    /// that nobody is refused: it may be long ago that one could not be made.
    pub(crate) fn make_room(&mut self, records_bytes: usize, freeing: bool, has_waited: bool) -> Room {
        if let Err(error) = self.common.order.check_open() {
            return Room::Refused(error);
        }
        if frame_bytes(records_bytes) as u64 + 4096 > self.common.config.segment_bytes {
            return Room::Refused(WriteError::Size("the change is larger than a segment"));
        }
        if self.log.fits(records_bytes, self.spoken_for) {
            return Room::Ready;
        }
        // What is left to be numbered goes first: a log that can't be written is not left behind.
        self.flush();
        if let Err(error) = self.common.order.check() {
            return Room::Refused(error);
        }
        let wanted = frame_bytes(records_bytes) + self.spoken_for;
        let fits = |spare: &mut NewSegment| {
            spare.header_bytes + (wanted + FRAME_HEADER_BYTES) as u64 <= spare.file_bytes
        };
        if self.is_log_empty() || self.spares.next.as_mut().is_some_and(|spare| !fits(spare)) {
            return Room::Crowded;
        }
        if self.unsealed >= UNSEALED_SEGMENTS_MAX {
            return Room::Unsealed;
        }
        let spare = match self.spares.next.take() {
            None if freeing && self.spares.failure.is_some() => {
                let reserve = self.spares.reserve.take_if(fits);
                self.counters
                    .reserve_bytes
                    .set(self.spares.reserve.as_ref().map_or(0, |kept| kept.file_bytes));
                reserve
            }
            spare => spare,
        };
        if let Some(spare) = spare {
            return Room::Rotated(self.rotate(spare));
        }
        match self.spares.failure.take() {
            Some(error) if has_waited && !self.spares.creating => Room::Refused(error),
            _ => Room::Wait,
        }
    }

    /// Segments were made, or not.
    pub(crate) fn spares_made(
        &mut self,
        made: io::Result<(Option<NewSegment>, io::Result<Option<NewSegment>>)>,
    ) {
        self.spares.creating = false;
        let outcome = made.and_then(|(reserve, next)| {
            if let Some(reserve) = reserve {
                self.set_reserve(reserve);
            }
            next
        });
        match outcome {
            Ok(next) => {
                self.spares.next = next.or(self.spares.next.take());
                self.spares.failure = None;
                self.spares.warned = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.spares.warned, true) {
                    tracing::warn!("partition {}: no new segment: {error}", self.partition);
                }
                // Whatever the reason, nothing was changed and there is no room.
                self.spares.failure = Some(WriteError::Full);
            }
        }
        for waker in std::mem::take(&mut self.spares.waiters) {
            waker.wake();
        }
    }

    pub(crate) fn set_reserve(&mut self, reserve: NewSegment) {
        self.counters.reserve_bytes.set(reserve.file_bytes);
        self.spares.reserve = Some(reserve);
    }

    /// Whether the active segment has no frame yet.
    pub(crate) fn is_log_empty(&self) -> bool {
        self.segments.get(&self.log.segment()).is_some_and(|segment| segment.header_bytes == self.log.end())
    }

    /// Goes on to the spare segment, if there is one; returns the one that is full now.
    pub(crate) fn rotate_if_possible(&mut self) -> Option<SegmentId> {
        self.flush();
        if self.common.order.is_latched() {
            return None;
        }
        let spare = self.spares.next.take()?;
        Some(self.rotate(spare))
    }

    /// Whether a spare segment should be made now.
    pub(crate) fn wants_spare(&self) -> bool {
        self.spares.next.is_none() && !self.spares.creating && self.log.is_filling_up()
    }

    /// Promises log space to a part of a commit over several partitions. There must be room.
    pub(crate) fn reserve(&mut self, records_bytes: usize) {
        self.spoken_for += frame_bytes(records_bytes);
    }

    pub(crate) fn release(&mut self, records_bytes: usize) {
        self.spoken_for -= frame_bytes(records_bytes);
        std::mem::take(&mut self.crowd).into_iter().for_each(Waker::wake);
    }

    /// Told at the next release.
    pub(crate) fn join_crowd(&mut self, waker: Waker) {
        self.crowd.push(waker);
    }

    /// Everything must have been flushed.
    fn rotate(&mut self, spare: NewSegment) -> SegmentId {
        let full = self.log.segment();
        if let Some(segment) = self.segments.get_mut(&full) {
            segment.end = self.log.end();
            segment.set_state(SegmentState::Full);
        }
        let next =
            Log::new(spare.id, spare.file.clone(), spare.salt, spare.header_bytes, spare.file_bytes, true);
        self.outlines.insert(full, self.log.take_outline());
        self.unsealed += 1;
        self.log = next;
        self.adopt(Segment::from_new(&spare, SegmentState::Active));
        self.counters.rotations.add(1);
        full
    }

    /// A full segment has got its seal, or won't get one in this life.
    pub(crate) fn seal_ended(&mut self) {
        self.unsealed -= 1;
        std::mem::take(&mut self.seal_waiters).into_iter().for_each(Waker::wake);
    }
}
