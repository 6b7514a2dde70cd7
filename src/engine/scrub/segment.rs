//! Verifies one segment.

use super::hint::Wanted;
use super::index;
use super::piece::{Piece, read_piece};
use super::{Halt, Scrub};
use crate::engine::compaction::yield_now;
use crate::engine::disk::FileHandle;
use crate::engine::error::ReadError;
use crate::engine::format::record::RecordKind;
use crate::engine::format::{ALIGNMENT_BYTES, Form};
use crate::engine::keydir::Location;
use crate::engine::planted::{Bug, planted};
use crate::engine::scan::{FoundFrame, FoundRecord};
use crate::engine::seal::read_header;
use crate::engine::shell::Shell;
use crate::engine::stats::SegmentState;
use crate::engine::types::SegmentId;
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

/// Records, or keys, looked at before others may go first.
const LOOKS: usize = 128;
/// The longest that it sleeps without looking around.
const NAP_NS: u64 = 100_000_000;
/// How long it waits at a time for others who are busy, and how often before it goes on all the same.
const BUSY_NAP_NS: u64 = 200_000;
const BUSY_NAPS_MAX: usize = 20;

/// A segment as it is when its verification begins.
#[derive(Clone)]
struct Subject {
    file: FileHandle,
    salt: u32,
    form: Form,
    /// Offset of the first frame.
    start: u64,
    end: u64,
    sealed: bool,
}

/// Where records may be that no frame tells of.
struct Hidden {
    form: Form,
    ranges: Vec<Range<u64>>,
    /// In a packed segment: up to where the places are accounted for.
    known: Option<u64>,
}

impl Hidden {
    /// What a piece leaves in the dark.
    fn see(&mut self, piece: &Piece) {
        if self.form == Form::Whole {
            return self.ranges.extend_from_slice(&piece.gaps);
        }
        let records = || piece.frames.iter().flat_map(|frame| &frame.records);
        if let (Some(first), Some(last)) = (records().next(), records().next_back()) {
            self.reach(first.offset);
            let length = self.form.length(last.key.len(), last.value_length as usize);
            self.known = Some(last.offset + length as u64);
        }
    }

    /// The next place that is told of, or the end of all.
    fn reach(&mut self, offset: u64) {
        if let Some(known) = self.known.filter(|known| *known < offset) {
            self.ranges.push(known..offset);
        }
    }
}

impl Shell {
    /// Reads all of a segment; ends early if a compaction replaces it meanwhile.
    pub(super) async fn scrub_segment(&self, id: SegmentId, scrub: &Scrub) -> Result<(), Halt> {
        let Some(subject) = self.subject(id) else { return Ok(()) };
        let has_hint = subject.sealed && subject.form == Form::Whole;
        let mut wanted = has_hint.then(Wanted::default);
        let file = subject.file.clone();
        let header = self.read_for_scrub(move || read_header(&file)).await?;
        let header = header.filter(|header| {
            header.salt == subject.salt && header.check_home(self.common.store, self.id, id).is_ok()
        });
        if header.is_none() {
            if self.subject(id).is_none() {
                return Ok(());
            }
            wanted = None;
            self.note_place(scrub, id, 0);
        }
        if let (Form::Bare, Some(header)) = (subject.form, header.clone())
            && !self.is_read_only()
        {
            let (file, end) = (subject.file.clone(), subject.end);
            let mended = self.read_for_scrub(move || index::put_right(&file, &header, end)).await?;
            scrub.note(|stats| stats.hints_rewritten += u64::from(mended == Some(true)));
        }
        let known = header.as_ref().map(|header| header.encoded_length() as u64);
        let mut hidden = Hidden { form: subject.form, ranges: Vec::new(), known };
        let mut offset = subject.start;
        while offset < subject.end {
            let Subject { file, salt, form, end, .. } = subject.clone();
            let read = self.read_for_scrub(move || read_piece(&file, salt, form, offset, end)).await?;
            let piece = match read {
                Some(piece) => piece,
                None if self.subject(id).is_none() => return Ok(()),
                None => Piece::unreadable(offset, subject.end),
            };
            for frame in &piece.frames {
                self.look_at_values(scrub, id, frame).await;
                if let Some(wanted) = &mut wanted {
                    wanted.add(frame);
                }
            }
            for gap in piece.gaps.iter().filter(|_| !planted(Bug::PassOverGaps)) {
                wanted = None;
                self.note_place(scrub, id, gap.start);
            }
            hidden.see(&piece);
            let bytes = piece.end - offset + piece.values_bytes;
            scrub.note(|stats| stats.bytes_done += bytes);
            self.pay_for_scrub(bytes, scrub).await?;
            offset = piece.end;
        }
        if subject.form == Form::Bare {
            // But for what lies between the last value and its index.
            hidden.reach(subject.start.saturating_sub(ALIGNMENT_BYTES as u64 - 1));
        }
        if !hidden.ranges.is_empty() {
            self.look_for_keys(scrub, id, &hidden.ranges).await?;
        }
        if let (Some(wanted), Some(header)) = (wanted, header) {
            let (end, read_only) = (subject.end, self.is_read_only());
            let rewritten =
                self.common.background(move |disk| wanted.put_right(disk, &header, end, read_only)).await;
            match rewritten {
                Ok(rewritten) => scrub.note(|stats| stats.hints_rewritten += u64::from(rewritten)),
                // It costs the next opening time.
                Err(error) => tracing::warn!("partition {}: no hint for segment {id}: {error}", self.id),
            }
        }
        Ok(())
    }

    fn is_read_only(&self) -> bool {
        self.common.config.read_only || self.common.order.is_latched()
    }

    /// None if the segment isn't part of the store any more, or has no file: what a read-only store would append to.
    fn subject(&self, id: SegmentId) -> Option<Subject> {
        self.with(|core| {
            let segment = core.segments.get(&id).filter(|segment| segment.header_bytes > 0)?;
            Some(Subject {
                file: segment.file.clone(),
                salt: segment.salt,
                form: segment.form,
                start: segment.header_bytes,
                end: segment.end,
                sealed: matches!(segment.state(), SegmentState::Sealed | SegmentState::Damaged),
            })
        })
    }

    /// Reads on the background thread. None if what is there can't be read, for whatever reason; an error if nothing can be any more.
    async fn read_for_scrub<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<Option<T>, Halt> {
        let outcome = self.common.background(move |_| Ok(read())).await?;
        match outcome {
            Ok(read) => Ok(Some(read)),
            Err(error) => {
                tracing::warn!("partition {}: scrub: {error}", self.id);
                Ok(None)
            }
        }
    }

    /// Notes the damaged values of a frame.
    async fn look_at_values(&self, scrub: &Scrub, segment: SegmentId, frame: &FoundFrame) {
        scrub.note(|stats| stats.records += frame.records.len() as u64);
        let damaged: Vec<&FoundRecord> = frame
            .records
            .iter()
            .filter(|record| !record.value_is_right && !planted(Bug::TrustValues))
            .collect();
        for some in damaged.chunks(LOOKS) {
            let living = self.with(|core| {
                let mut living = 0;
                for found in some {
                    let location = Location {
                        segment,
                        offset: found.offset as u32,
                        value_length: found.value_length,
                        tombstone: found.kind == RecordKind::Tombstone,
                    };
                    if core.keydir.entry(&found.key).is_some_and(|entry| entry.location() == location) {
                        core.note_damage(&found.key, segment, found.offset);
                        living += 1;
                    }
                }
                living
            });
            scrub.note(|stats| {
                stats.damaged_values += living;
                stats.damaged_dead += some.len() as u64 - living;
            });
            yield_now().await;
        }
    }

    /// A place that can't be understood. Has no key: those that live there are looked for when the segment has been read.
    fn note_place(&self, scrub: &Scrub, segment: SegmentId, offset: u64) {
        self.with(|core| core.note_damage(&[], segment, offset));
        scrub.note(|stats| stats.damaged_places += 1);
    }

    /// Reads every key that lives in a gap: the records may well be right.
    async fn look_for_keys(
        &self,
        scrub: &Scrub,
        segment: SegmentId,
        gaps: &[Range<u64>],
    ) -> Result<(), Halt> {
        let mut suspects: Vec<Vec<u8>> = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let last = self.with(|core| {
                let mut last = None;
                for (key, location) in core.keydir.list(b"", after.as_deref()).take(LOOKS) {
                    let offset = u64::from(location.offset);
                    if location.segment == segment && gaps.iter().any(|gap| gap.contains(&offset)) {
                        suspects.push(key.to_vec());
                    }
                    last = Some(key);
                }
                last.map(<[u8]>::to_vec)
            });
            let Some(last) = last else { break };
            after = Some(last);
            scrub.check(&self.common)?;
            yield_now().await;
        }
        for key in suspects {
            match self.get(&key).await {
                // Noted by who has read it.
                Err(ReadError::Damaged { .. }) => scrub.note(|stats| stats.damaged_values += 1),
                Err(_) => {
                    self.with(|core| core.note_damage(&key, segment, gaps[0].start));
                    scrub.note(|stats| stats.damaged_values += 1);
                }
                Ok(_) => {}
            }
            scrub.check(&self.common)?;
            yield_now().await;
        }
        Ok(())
    }

    /// After so many bytes: waits as long as the rate demands, and lets those go first who want something of the partition.
    async fn pay_for_scrub(&self, bytes: u64, scrub: &Scrub) -> Result<(), Halt> {
        let clock = &self.common.clock;
        let rate = scrub.bytes_per_second.load(Relaxed);
        let cost_ns = if rate == 0 { 0 } else { u128::from(bytes) * 1_000_000_000 / u128::from(rate) };
        // What was read before is paid for by now, or time that nobody used is gone.
        let from_ns = scrub.paid_ns.load(Relaxed).max(clock.monotonic_ns().saturating_sub(NAP_NS));
        let paid_ns = from_ns.saturating_add(u64::try_from(cost_ns).unwrap_or(u64::MAX));
        scrub.paid_ns.store(paid_ns, Relaxed);
        loop {
            scrub.check(&self.common)?;
            let left_ns = paid_ns.saturating_sub(clock.monotonic_ns());
            if left_ns == 0 {
                break;
            }
            clock.sleep(left_ns.min(NAP_NS)).await;
        }
        yield_now().await;
        for _ in 0..BUSY_NAPS_MAX {
            scrub.check(&self.common)?;
            if self.turn.mail_count() == 0 {
                break;
            }
            clock.sleep(BUSY_NAP_NS).await;
        }
        Ok(())
    }
}
