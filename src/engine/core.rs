//! What a partition owns: keydir, log, segments, and who waits for what. Plain `&mut`, reached only inside the turn.
//!
//! On every way out of the turn (`leave`) the frames that were appended get their numbers, go to the kernel with one write,
//! and whoever waits for an answer that is settled by now is woken.

mod room;

pub(crate) use self::room::{Room, Spares};

use super::batch::{Batch, Change, ChangeView};
use super::common::Common;
use super::compaction::CompactionState;
use super::disk::FileHandle;
use super::error::WriteError;
use super::format::record;
use super::keydir::{Keydir, Location};
use super::limits::APPEND_BUFFER_BYTES_MAX;
use super::log::{Log, Outline, Part};
use super::planted::{Bug, planted};
use super::segment::Segment;
use super::stats::PartitionCounters;
use super::types::{Number, PartitionId, SegmentId};
use super::vicinity::Vicinity;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Names what was appended, to wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(crate) u64);

/// What was appended and handed over: whether it may be acknowledged by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is settled.
    Settled,
    /// Smaller numbers of other partitions are still to be handed over (or the store has failed): wait for this ticket.
    Owed {
        /// What to wait for.
        ticket: Ticket,
        /// It is settled when everything up to this number has been handed over.
        last: Number,
    },
}

/// From so many changes on it is faster to tell the keydir of them first.
const EXPECTED_CHANGES_MIN: usize = 8;

/// Frames that left the turn together.
struct Mark {
    ticket: u64,
    last: Number,
}

/// What a partition owns.
pub struct Core {
    pub(crate) partition: PartitionId,
    pub(crate) common: Arc<Common>,
    pub(crate) counters: Arc<PartitionCounters>,
    pub(crate) keydir: Keydir,
    pub(crate) segments: BTreeMap<SegmentId, Segment>,
    pub(crate) vicinity: Vicinity,
    pub(crate) next_segment: SegmentId,
    log: Log,
    /// Frames appended, settled: counted from the opening.
    appended: u64,
    settled: u64,
    marks: VecDeque<Mark>,
    waiters: Vec<(u64, Waker)>,
    /// Log space promised to parts of commits over several partitions, in bytes.
    spoken_for: usize,
    /// Who waits for some of that to be released.
    crowd: Vec<Waker>,
    pub(crate) spares: Spares,
    /// Segments with bytes that were not synced yet, oldest first.
    unsynced: Vec<Unsynced>,
    /// The first number that was handed over since the sync under way began.
    unsynced_first: Option<Number>,
    pub(crate) compaction: CompactionState,
    /// Of full segments that wait for their seals.
    pub(crate) outlines: BTreeMap<SegmentId, Outline>,
    /// How many full segments are being sealed, or will be.
    pub(crate) unsealed: usize,
    /// Who waits for one of them.
    pub(crate) seal_waiters: Vec<Waker>,
}

/// A segment with bytes that were not synced yet.
struct Unsynced {
    segment: SegmentId,
    file: FileHandle,
    /// Written to since the sync under way began.
    written: bool,
}

impl Core {
    pub(crate) fn new(
        partition: PartitionId,
        common: Arc<Common>,
        keydir: Keydir,
        segments: BTreeMap<SegmentId, Segment>,
        next_segment: SegmentId,
        log: Log,
    ) -> Self {
        let counters = common.partition_counters[partition.index()].clone();
        let shown = segments.iter().map(|(id, segment)| (*id, segment.counters.clone()));
        counters.segments.lock().extend(shown);
        let core = Core {
            partition,
            common,
            counters,
            keydir,
            segments,
            vicinity: Vicinity::new(),
            next_segment,
            log,
            appended: 0,
            settled: 0,
            marks: VecDeque::new(),
            waiters: Vec::new(),
            spoken_for: 0,
            crowd: Vec::new(),
            spares: Spares::default(),
            unsynced: Vec::new(),
            unsynced_first: None,
            compaction: CompactionState::default(),
            outlines: BTreeMap::new(),
            unsealed: 0,
            seal_waiters: Vec::new(),
        };
        core.publish();
        core
    }

    // ---- keys -------------------------------------------------------------------------------------------------------

    /// Whether the key has a value.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.keydir.live(key).is_some()
    }

    /// The length of a key's value in bytes, without reading it.
    pub fn value_length(&self, key: &[u8]) -> Option<usize> {
        self.keydir.live(key).map(|location| location.value_length as usize)
    }

    /// Changes whenever the key's value does (and sometimes when it doesn't); None if it has none.
    pub fn stamp(&self, key: &[u8]) -> Option<u64> {
        let location = self.keydir.live(key)?;
        Some(u64::from(location.segment.0) << 32 | u64::from(location.offset))
    }

    /// Which segment the newest record of a key lies in, and how many bytes it takes there; None if the key has no value.
    pub fn place(&self, key: &[u8]) -> Option<(SegmentId, u64)> {
        let location = self.keydir.live(key)?;
        Some((location.segment, record_bytes(key, location)))
    }

    /// The keys that start with `prefix` and are greater than `after` (if given), in order, at most `count_max`.
    pub fn list(&self, prefix: &[u8], after: Option<&[u8]>, count_max: usize) -> Vec<Vec<u8>> {
        self.keydir.list(prefix, after).take(count_max).map(|(key, _)| key.to_vec()).collect()
    }

    // ---- appending --------------------------------------------------------------------------------------------------

    /// Appends one commit and makes it visible in this partition. There must be room (see
    /// [`Partition::room`](super::partition::Partition::room)); then this can't fail.
    pub fn append(&mut self, batch: &Batch) -> Ticket {
        self.append_part(batch, None)
    }

    pub(crate) fn append_part(&mut self, batch: &Batch, part: Option<Part>) -> Ticket {
        self.append_changes(batch.records_bytes(), batch.changes().iter().map(Change::view), part)
    }

    /// Appends and hands over, if there is room without waiting for any; else nothing happens.
    pub(crate) fn append_now<'a>(
        &mut self,
        records_bytes: usize,
        changes: impl ExactSizeIterator<Item = ChangeView<'a>> + Clone,
    ) -> Option<Appended> {
        if !self.has_room_now(records_bytes) {
            return None;
        }
        let ticket = self.append_changes(records_bytes, changes, None);
        self.leave();
        let last = self.marks.back().map(|mark| mark.last).filter(|_| !self.is_settled(ticket));
        Some(last.map_or(Appended::Settled, |last| Appended::Owed { ticket, last }))
    }

    /// Appends a commit, or one part of one over several partitions, and hands it over; there must be room.
    pub(crate) fn append_part_now<'a>(
        &mut self,
        records_bytes: usize,
        changes: impl ExactSizeIterator<Item = ChangeView<'a>> + Clone,
        part: Option<Part>,
    ) -> Result<Ticket, WriteError> {
        // Behind a write that failed nothing can be appended any more.
        self.common.order.check()?;
        let ticket = self.append_changes(records_bytes, changes, part);
        self.leave();
        Ok(ticket)
    }

    fn append_changes<'a>(
        &mut self,
        records_bytes: usize,
        changes: impl ExactSizeIterator<Item = ChangeView<'a>> + Clone,
        part: Option<Part>,
    ) -> Ticket {
        assert!(self.log.fits(records_bytes, 0), "appended without room");
        let segment = self.log.segment();
        let mut fresh_bytes = (0, 0, 0);
        let (count, mut removed, mut user_bytes) = (changes.len() as u64, 0, 0);
        let (keydir, segments) = (&mut self.keydir, &self.segments);
        if changes.len() >= EXPECTED_CHANGES_MIN {
            keydir.expect(changes.clone().map(|change| change.key));
        }
        self.log.append(changes, part, |change, location| {
            removed += u64::from(change.remove);
            user_bytes += change.key.len() + change.value.len();
            let bytes = record_bytes(change.key, location);
            let inserted = keydir.insert(change.key, location);
            if let Some(superseded) = inserted.superseded {
                let dead = superseded.location;
                let dead_bytes = record_bytes(change.key, dead);
                if dead.segment == segment {
                    fresh_bytes.0 -= dead_bytes as i64;
                    fresh_bytes.1 += dead_bytes as i64;
                    fresh_bytes.2 -= 1;
                } else if let Some(segment) = segments.get(&dead.segment) {
                    segment.record_died(dead_bytes);
                }
            }
            if inserted.useless {
                fresh_bytes.1 += bytes as i64;
            } else {
                fresh_bytes.0 += bytes as i64;
                fresh_bytes.2 += 1;
            }
        });
        if let Some(segment) = segments.get(&segment) {
            segment.account(fresh_bytes.0, fresh_bytes.1, fresh_bytes.2);
        }
        self.counters.deletes.add(removed);
        self.counters.puts.add(count - removed);
        self.counters.user_bytes_written.add(user_bytes as u64);
        self.appended += 1;
        let ticket = Ticket(self.appended);
        if self.log.buffered_bytes() > APPEND_BUFFER_BYTES_MAX {
            self.flush();
        }
        ticket
    }

    pub(crate) fn append_watermark(&mut self) -> Option<Ticket> {
        let last_numbers = self.common.order.last_numbers();
        if !self.log.fits(8 + 8 * last_numbers.len(), self.spoken_for) {
            return None;
        }
        self.log.append_watermark(&last_numbers);
        self.appended += 1;
        Some(Ticket(self.appended))
    }

    pub(crate) fn adopt(&mut self, segment: Segment) {
        self.counters.segments.lock().insert(segment.id, segment.counters.clone());
        self.segments.insert(segment.id, segment);
    }

    /// A segment isn't part of the store any more: no key leads there.
    pub(crate) fn part_with(&mut self, id: SegmentId) {
        self.counters.segments.lock().remove(&id);
        self.segments.remove(&id);
        self.vicinity.forget(id);
    }

    pub(crate) fn active(&self) -> SegmentId {
        self.log.segment()
    }

    pub(crate) fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn next_segment_id(&mut self) -> SegmentId {
        let id = self.next_segment;
        if planted(Bug::ReuseSegmentNumber)
            && let Some(free) = (1..id.0).map(SegmentId).find(|id| !self.segments.contains_key(id))
        {
            return free;
        }
        self.next_segment = SegmentId(id.0 + 1);
        id
    }

    // ---- the way out ------------------------------------------------------------------------------------------------

    /// Run on every way out of the turn.
    pub(crate) fn leave(&mut self) {
        self.flush();
        self.answer();
    }

    /// What was appended gets its numbers and goes to the kernel.
    pub(crate) fn flush(&mut self) {
        self.take_numbers();
        self.hand_over();
    }

    /// First step: the appended frames get their numbers.
    pub(crate) fn take_numbers(&mut self) {
        let count = self.log.pending_count();
        if count == 0 || self.common.order.is_latched() {
            return;
        }
        let order = &self.common.order;
        let first = order.take(self.partition.index(), count);
        self.log.number(first, order.stable(), order.epoch());
    }

    /// Second step: the kernel gets the bytes. Between the two lies nothing.
    pub(crate) fn hand_over(&mut self) {
        let Some((first, last)) = self.log.numbered() else { return };
        if self.common.order.is_latched() {
            return;
        }
        let bytes = self.log.buffered_bytes() as u64;
        if let Err(error) = self.log.hand_over() {
            let what = format!("writing to partition {} failed: {error}", self.partition);
            self.common.latch(&what);
            return;
        }
        let active = self.log.segment();
        match self.unsynced.last_mut() {
            Some(unsynced) if unsynced.segment == active => unsynced.written = true,
            _ => {
                self.unsynced.push(Unsynced { segment: active, file: self.log.file().clone(), written: true })
            }
        }
        self.unsynced_first.get_or_insert(first);
        if let Some(segment) = self.segments.get_mut(&active) {
            segment.end = self.log.end();
            segment.last_number = last;
        }
        self.counters.bytes_written.add(bytes);
        self.counters.unsynced_bytes.add(bytes);
        self.marks.push_back(Mark { ticket: self.appended, last });
        self.common.order.handed_over(self.partition.index(), first, last);
        self.common.note_unsynced();
        let settled = self.common.order.settled();
        for index in self.common.order.uncovered(self.partition.index(), settled) {
            self.common.turns[index].poke();
        }
    }

    /// Third step: who waits for what is settled by now goes on.
    pub(crate) fn answer(&mut self) {
        let order = &self.common.order;
        let index = self.partition.index();
        // Nothing has been handed over since all was settled, as after an operation that only reads: whoever waits, waits for something else.
        if self.marks.is_empty() && !order.is_latched() {
            self.publish();
            return;
        }
        loop {
            let settled = order.settled();
            while self.marks.front().is_some_and(|mark| mark.last <= settled || planted(Bug::AckEarly)) {
                self.settled = self.marks.pop_front().map_or(self.settled, |mark| mark.ticket);
            }
            // Only for those who have to be woken: a neighbour would have to come in here for it.
            let waits_for = self.marks.front().map(|mark| mark.last).filter(|_| !self.waiters.is_empty());
            order.publish_waiting(index, waits_for);
            // Once more: a neighbour may have handed over before it could see that we wait.
            match waits_for {
                Some(number) if order.settled() >= number => {}
                _ => break,
            }
        }
        let (settled, latched) = (self.settled, order.is_latched());
        if self.waiters.iter().any(|(ticket, _)| *ticket <= settled || latched) {
            let (ready, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiters)
                .into_iter()
                .partition(|(ticket, _)| *ticket <= settled || latched);
            self.waiters = left;
            for (_, waker) in ready {
                waker.wake();
            }
        }
        if latched {
            for waker in std::mem::take(&mut self.spares.waiters) {
                waker.wake();
            }
            std::mem::take(&mut self.crowd).into_iter().for_each(Waker::wake);
        }
        self.publish();
    }

    /// Ready when the ticket's frame is settled.
    pub(crate) fn poll_settled(
        &mut self,
        ticket: Ticket,
        context: &Context<'_>,
    ) -> Poll<Result<(), WriteError>> {
        if self.is_settled(ticket) {
            return Poll::Ready(Ok(()));
        }
        if let Err(error) = self.common.order.check() {
            return Poll::Ready(Err(error));
        }
        self.waiters.push((ticket.0, context.waker().clone()));
        Poll::Pending
    }

    /// The ticket of the newest frame, for those who read.
    pub(crate) fn newest_ticket(&self) -> Ticket {
        Ticket(self.appended)
    }

    /// Whether everything that was appended is settled: then what is seen here may be told.
    pub(crate) fn is_all_settled(&self) -> bool {
        self.is_settled(self.newest_ticket())
    }

    pub(crate) fn is_settled(&self, ticket: Ticket) -> bool {
        let is_by_now = |mark: &Mark| mark.ticket >= ticket.0 && mark.last <= self.common.order.settled();
        ticket.0 <= self.settled || self.marks.back().is_some_and(is_by_now)
    }

    // ---- syncing ----------------------------------------------------------------------------------------------------

    /// The files that a sync must cover now. Everything numbered so far has been handed over.
    pub(crate) fn begin_sync(&mut self) -> Vec<FileHandle> {
        if !self.unsynced.is_empty()
            && let Err(error) = self.log.fill_ahead()
        {
            self.common.latch(&format!("writing ahead in partition {} failed: {error}", self.partition));
        }
        self.unsynced_first = None;
        self.counters.unsynced_bytes.set(0);
        self.unsynced.iter_mut().for_each(|unsynced| unsynced.written = false);
        self.unsynced.iter().map(|unsynced| unsynced.file.clone()).collect()
    }

    /// They are synced. What was written to meanwhile isn't.
    pub(crate) fn end_sync(&mut self) {
        self.unsynced.retain(|unsynced| unsynced.written);
        self.common.order.synced(self.partition.index(), self.unsynced_first);
    }

    // ---- accounting -------------------------------------------------------------------------------------------------

    /// Shows the numbers to those who read statistics from outside.
    pub(crate) fn publish(&self) {
        self.counters.keys.set(self.keydir.live_count() as u64);
        self.counters.keydir_bytes.set(self.keydir.memory_bytes() as u64);
    }
}

/// What a key's record takes in its segment.
pub(crate) fn record_bytes(key: &[u8], location: Location) -> u64 {
    record::encoded_length(key.len(), location.value_length as usize) as u64
}
