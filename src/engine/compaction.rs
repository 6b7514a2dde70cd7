//! Compaction: copies what lives out of segments with dead records, and removes them. A guest in its partition: it works in small
//! slices, reads and writes on the store's background thread, and lets others go first between slices.
//!
//! Order, and why:
//! 1. Copy what lives into an output under a temporary name, checking every checksum; seal it; sync it.
//! 2. Sync the store: what made the dropped records dead must not be lost while they are.
//! 3. Give the output its name, sync the directory. This is the commit: its header names the victims, and from now on recovery
//!    removes them if we can't.
//! 4. Move the keydir over, slice by slice. Victims still serve reads.
//! 5. Remove the victims, sync the directory.
//! 6. Only now count their dead puts as gone. A tombstone with nothing left to bury becomes garbage itself; the next compaction drops it.
//!
//! Only sealed segments whose numbers are all stable (and needed by no one, see `retain_after`) are touched.

use super::common::partition_dir;
use super::core::{Core, record_bytes};
use super::disk::FileHandle;
use super::error::WriteError;
use super::format::frame::{self, FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use super::format::record::{self, RecordKind};
use super::format::segment::{Origin, SegmentHeader};
use super::keydir::Location;
use super::planted::{Bug, planted};
use super::recovery::load::remove_segment;
use super::scan::{Condition, FoundFrame, Scan, scan};
use super::seal::write_hint;
use super::segment::{Segment, data_path, temporary_path};
use super::shell::Shell;
use super::stats::{SegmentCounters, SegmentState};
use super::types::{Number, SegmentId};
use std::io;
use std::sync::Arc;
use std::task::Poll;

/// Records looked at, or moved over, before others may go first.
const SLICE_RECORDS: usize = 512;
/// Bytes copied before others may go first.
const SLICE_BYTES: usize = 1024 * 1024;
/// The most victims of one output, what couldn't be removed before not counted.
const VICTIMS_MAX: usize = 64;
/// By hand, a segment is worth it from this share of dead bytes on.
const BY_HAND_THRESHOLD: f64 = 0.01;

/// How often by hand it is looked again for what the passes before have made garbage.
const FURTHER_PASSES: usize = 2;
/// From which share of dead bytes on that is worth it.
const FURTHER_THRESHOLD: f64 = 0.1;
/// How often it is looked whether a compaction that runs has ended.
const RUNNING_POLL_NS: u64 = 2_000_000;

/// Why a compaction gave up. Nothing was lost.
enum Failure {
    Io(io::Error),
    Write(WriteError),
    /// A victim has a damaged live record; it was set apart.
    Damaged,
    /// The store is closing.
    Closing,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Io(error) => error.fmt(f),
            Failure::Write(error) => error.fmt(f),
            Failure::Damaged => write!(f, "a segment is damaged"),
            Failure::Closing => write!(f, "the store is closing"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

/// A segment to be replaced.
struct Victim {
    id: SegmentId,
    file: FileHandle,
    salt: u32,
    header_bytes: u64,
    end: u64,
    last_number: Number,
}

/// A record that was copied: from where to where.
struct Moved {
    key: Vec<u8>,
    from: Location,
    to: Location,
}

/// The segment under construction.
struct Output {
    header: SegmentHeader,
    file: FileHandle,
    end: u64,
    moved: Vec<Moved>,
    /// Keys of dead puts that were left behind, once for each put.
    dropped: Vec<Vec<u8>>,
}

impl Shell {
    /// Starts a compaction if one is due and allowed.
    pub(crate) fn consider_compaction(self: &Arc<Self>) {
        let config = &self.common.config;
        if !config.auto_compact || self.common.is_closing() {
            return;
        }
        let threshold = config.compact_threshold;
        let due = self.with(|core| !core.compaction.running && !core.victims(threshold).is_empty());
        if due {
            let shell = self.clone();
            self.submit(async move {
                shell.compact(threshold, shell.common.config.compact_bytes_per_second).await
            })
            .detach();
        }
    }

    /// Compacts all that is worth it, the active segment included. Returns how many bytes the files shrank by.
    pub(crate) async fn compact_by_hand(self: &Arc<Self>) -> Result<u64, WriteError> {
        match self.rotate_if_worth_it().await {
            // On a full disk the active segment has to wait; the others are what makes room.
            Ok(()) | Err(WriteError::Full) => {}
            Err(error) => return Err(error),
        }
        self.common.sync().await?;
        let mut reclaimed_bytes = self.compact_next(BY_HAND_THRESHOLD).await;
        // Tombstones of which the first pass removed what they buried are garbage now.
        for _ in 0..FURTHER_PASSES {
            reclaimed_bytes += self.compact_next(FURTHER_THRESHOLD).await;
        }
        Ok(reclaimed_bytes)
    }

    /// Compacts once what runs already has come to an end.
    async fn compact_next(self: &Arc<Self>, threshold: f64) -> u64 {
        while self.with(|core| core.compaction.running) {
            self.common.clock.sleep(RUNNING_POLL_NS).await;
        }
        self.compact(threshold, 0).await
    }

    /// Goes on to a fresh segment if the active one has dead records.
    pub(crate) async fn rotate_if_worth_it(self: &Arc<Self>) -> Result<(), WriteError> {
        let wants_rotation = self.with(|core| {
            let active = &core.segments[&core.active()];
            active.counters.dead_bytes.get() > 0 && active.dead_ratio() >= BY_HAND_THRESHOLD
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
    async fn compact(self: &Arc<Self>, threshold: f64, bytes_per_second: u64) -> u64 {
        if self.with(|core| std::mem::replace(&mut core.compaction.running, true)) {
            return 0;
        }
        let mut reclaimed_bytes = 0;
        // What is there now: outputs of this very run aren't looked at again.
        let newest = self.with(|core| core.next_segment);
        let mut disk_is_full = false;
        loop {
            let victims = self.with(|core| core.victims(threshold));
            let mut victims: Vec<_> = victims.into_iter().filter(|victim| victim.id < newest).collect();
            if disk_is_full {
                victims.truncate(1);
            }
            if victims.is_empty() {
                break;
            }
            match self.compact_victims(victims, bytes_per_second).await {
                Ok(bytes) => {
                    reclaimed_bytes += bytes;
                    self.with(|core| core.counters.compactions.add(1));
                }
                Err(Failure::Damaged) => {}
                Err(Failure::Closing) => break,
                Err(Failure::Io(error)) if error.kind() == io::ErrorKind::StorageFull && !disk_is_full => {
                    // One victim at a time, the deadest first, in the room that the reserve leaves.
                    disk_is_full = true;
                    self.release_reserve().await;
                }
                Err(failure) => {
                    tracing::warn!("partition {}: compaction gave up: {failure}", self.id);
                    self.with(|core| core.counters.compaction_failures.add(1));
                    break;
                }
            }
        }
        if disk_is_full {
            self.make_spare();
        }
        self.with(|core| {
            core.compaction.running = false;
            core.counters.compaction_bytes_reclaimed.add(reclaimed_bytes);
        });
        reclaimed_bytes
    }

    async fn compact_victims(
        self: &Arc<Self>,
        victims: Vec<Victim>,
        bytes_per_second: u64,
    ) -> Result<u64, Failure> {
        let before_bytes: u64 = victims.iter().map(|victim| victim.end).sum();
        let mut ids: Vec<SegmentId> = victims.iter().map(|victim| victim.id).collect();
        // Named again until they are gone: the output that named them first may itself be replaced.
        ids.extend(self.with(|core| core.compaction.leftovers.clone()));
        let header = self.with(|core| SegmentHeader {
            store: core.common.store,
            partition: self.id,
            origin: Origin::Compaction,
            segment: core.next_segment_id(),
            salt: core.common.random_u32(),
            created_ns: core.common.clock.wall_ns(),
            victims: ids.clone(),
        });
        let temporary = temporary_path(self.id, header.segment, "data");
        let output = self.write_output(&victims, header.clone(), &temporary, bytes_per_second).await;
        let output = match output {
            Ok(output) => output,
            Err(failure) => {
                // Best effort: what is left is removed when the store opens.
                let _ = self.common.background(move |disk| disk.remove(&temporary)).await;
                return Err(failure);
            }
        };
        let after_bytes = output.end;
        self.switch_over(&output, &victims).await;
        self.remove_victims(&ids, output.dropped).await;
        Ok(before_bytes.saturating_sub(after_bytes))
    }

    /// Steps 1 to 3.
    async fn write_output(
        self: &Arc<Self>,
        victims: &[Victim],
        header: SegmentHeader,
        temporary: &str,
        bytes_per_second: u64,
    ) -> Result<Output, Failure> {
        let encoded = header.encode();
        let end = encoded.len() as u64;
        let path = temporary.to_string();
        let file = self
            .common
            .background(move |disk| {
                let file = disk.create(&path)?;
                file.write_at(0, &encoded)?;
                Ok(file)
            })
            .await?;
        let mut output = Output { header, file, end, moved: Vec::new(), dropped: Vec::new() };
        for victim in victims {
            self.copy_victim(victim, &mut output, bytes_per_second).await?;
        }
        let last_number = victims.iter().map(|victim| victim.last_number).max().unwrap_or(Number::ZERO);
        let stable = self.common.order.stable();
        let epoch = self.common.order.epoch();
        let seal = FrameHeader {
            length: FRAME_HEADER_BYTES as u32,
            number: last_number,
            stable,
            commit: 0,
            epoch,
            parts: 1,
            kind: FrameKind::Seal,
            records: 0,
        };
        let seal = seal.encode(output.header.salt);
        let (file, header, end, partition) =
            (output.file.clone(), output.header.clone(), output.end, self.id);
        self.common
            .background(move |disk| {
                file.write_at(end, &seal)?;
                if !planted(Bug::SkipOutputSync) {
                    file.sync_data()?;
                }
                let bytes = read_range(&file, 0, end + seal.len() as u64)?;
                let scan = scan(&bytes, header.encoded_length() as u64, header.salt);
                if !scan.is_sealed() || scan.frames.iter().any(|frame| frame.condition != Condition::Whole) {
                    return Err(io::Error::other("what was read back is not what was written"));
                }
                write_hint(disk, partition, header.segment, &header, &scan, true, stable)
            })
            .await?;
        output.end += FRAME_HEADER_BYTES as u64;
        // What made records dead may still be without a number, if this turn has been going on since: a sync wouldn't wait for it.
        self.with(Core::flush);
        if !planted(Bug::SkipStoreSync) {
            self.common.sync().await.map_err(Failure::Write)?;
        }
        let (from, to) = (temporary.to_string(), data_path(self.id, output.header.segment));
        let named = self
            .common
            .background(move |disk| {
                disk.rename(&from, &to)?;
                disk.sync_dir(&partition_dir(partition))
            })
            .await;
        if let Err(error) = named {
            self.disown(output.header.segment).await;
            return Err(error.into());
        }
        Ok(output)
    }

    /// An output that may have got its name, or may get it back after a crash, and isn't used: its copies must not come back
    /// when what they are copies of has changed.
    async fn disown(&self, output: SegmentId) {
        let partition = self.id;
        let removed = self
            .common
            .background(move |disk| {
                remove_segment(disk, partition, output)?;
                disk.sync_dir(&partition_dir(partition))
            })
            .await;
        if removed.is_err() {
            self.with(|core| core.compaction.leftovers.push(output));
        }
    }

    async fn copy_victim(
        self: &Arc<Self>,
        victim: &Victim,
        output: &mut Output,
        bytes_per_second: u64,
    ) -> Result<(), Failure> {
        let (file, salt, start, end) = (victim.file.clone(), victim.salt, victim.header_bytes, victim.end);
        let (bytes, scan) = self
            .common
            .background(move |_| {
                let bytes = read_range(&file, 0, end)?;
                let scan = scan(&bytes, start, salt);
                Ok((bytes, scan))
            })
            .await?;
        if !is_readable(&scan) {
            self.set_apart(victim.id);
            return Err(Failure::Damaged);
        }
        let mut copied = Vec::new();
        let mut looked_at = 0;
        for frame in &scan.frames {
            let keep = self.decide(victim.id, frame, output)?;
            if !keep.is_empty() {
                copy_frame(frame, &keep, &bytes, victim, output, &mut copied);
            }
            looked_at += frame.records.len();
            if looked_at >= SLICE_RECORDS || copied.len() >= SLICE_BYTES {
                looked_at = 0;
                if copied.len() >= SLICE_BYTES {
                    self.append(output, std::mem::take(&mut copied), bytes_per_second).await?;
                } else {
                    yield_now().await;
                }
                if self.common.is_closing() {
                    return Err(Failure::Closing);
                }
            }
        }
        self.append(output, copied, bytes_per_second).await
    }

    /// Which records of a frame live, by index. Notes those that don't.
    fn decide(
        &self,
        victim: SegmentId,
        frame: &FoundFrame,
        output: &mut Output,
    ) -> Result<Vec<usize>, Failure> {
        let mut keep = Vec::new();
        for (index, found) in frame.records.iter().enumerate() {
            let tombstone = found.kind == RecordKind::Tombstone;
            let location = Location {
                segment: victim,
                offset: found.offset as u32,
                value_length: found.value_length,
                tombstone,
            };
            let lives = self
                .with(|core| core.keydir.entry(&found.key).is_some_and(|entry| entry.location() == location));
            if lives && !found.value_is_right {
                self.with(|core| core.note_damage(&found.key, victim, found.offset));
                self.set_apart(victim);
                return Err(Failure::Damaged);
            }
            if tombstone && planted(Bug::DropTombstones) {
                continue;
            }
            if lives {
                keep.push(index);
            } else if !tombstone {
                output.dropped.push(found.key.clone());
            }
        }
        Ok(keep)
    }

    fn set_apart(&self, victim: SegmentId) {
        tracing::error!("partition {}: segment {victim} has damaged records and is set apart", self.id);
        self.with(|core| {
            if let Some(segment) = core.segments.get_mut(&victim) {
                segment.set_state(SegmentState::Damaged);
            }
        });
    }

    async fn append(
        &self,
        output: &mut Output,
        bytes: Vec<u8>,
        bytes_per_second: u64,
    ) -> Result<(), Failure> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (file, offset, count) =
            (output.file.clone(), output.end - bytes.len() as u64, bytes.len() as u64);
        self.common.background(move |_| file.write_at(offset, &bytes)).await?;
        self.with(|core| {
            core.counters.compaction_bytes_copied.add(count);
            core.counters.bytes_written.add(count);
        });
        if let Some(wait_ns) = (count * 1_000_000_000).checked_div(bytes_per_second) {
            self.common.clock.sleep(wait_ns).await;
        }
        Ok(())
    }

    /// Step 4.
    async fn switch_over(&self, output: &Output, victims: &[Victim]) {
        let counters = Arc::new(SegmentCounters::default());
        counters.set_state(SegmentState::Sealed);
        counters.file_bytes.set(output.end);
        let last_number = victims.iter().map(|victim| victim.last_number).max().unwrap_or(Number::ZERO);
        self.with(|core| {
            core.adopt(Segment {
                id: output.header.segment,
                file: output.file.clone(),
                salt: output.header.salt,
                header_bytes: output.header.encoded_length() as u64,
                end: output.end,
                last_number,
                counters: counters.clone(),
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

    /// Steps 5 and 6.
    async fn remove_victims(&self, ids: &[SegmentId], dropped: Vec<Vec<u8>>) {
        self.with(|core| {
            for id in ids {
                core.segments.remove(id);
                core.counters.segments.lock().remove(id);
            }
        });
        let (victims, partition) = (ids.to_vec(), self.id);
        let removed = self
            .common
            .background(move |disk| {
                for id in victims {
                    remove_segment(disk, partition, id)?;
                }
                disk.sync_dir(&partition_dir(partition))
            })
            .await;
        if let Err(error) = removed {
            // The output names them: the next opening removes them. Until then their dead records must count.
            tracing::warn!("partition {partition}: replaced segments could not be removed: {error}");
            self.with(|core| {
                core.counters.cleanup_failures.add(1);
                core.compaction.leftovers = ids.to_vec();
            });
            return;
        }
        self.with(|core| {
            core.counters.segments_removed.add(ids.len() as u64);
            core.compaction.leftovers.clear();
        });
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

impl Core {
    /// Sealed segments worth compacting, the deadest first, together no larger than one output.
    fn victims(&self, threshold: f64) -> Vec<Victim> {
        let limit = self.common.order.stable().min(self.common.order.retain_after());
        let mut candidates: Vec<&Segment> = self
            .segments
            .values()
            .filter(|segment| segment.state() == SegmentState::Sealed && segment.last_number <= limit)
            .filter(|segment| segment.counters.dead_bytes.get() > 0 && segment.dead_ratio() >= threshold)
            .collect();
        candidates.sort_by(|a, b| b.dead_ratio().total_cmp(&a.dead_ratio()).then(a.id.cmp(&b.id)));
        let mut room = self.common.config.segment_bytes as i64 - 4096;
        let mut victims = Vec::new();
        for segment in candidates {
            // Frames and headers make what lives a little larger than its records.
            let records = segment.counters.live_records.get();
            let live_bytes = segment.counters.live_bytes.get() + records * (FRAME_HEADER_BYTES as u64 + 8);
            room -= (live_bytes.min(segment.end)) as i64;
            if victims.len() == VICTIMS_MAX || (room < 0 && !victims.is_empty()) {
                break;
            }
            victims.push(Victim {
                id: segment.id,
                file: segment.file.clone(),
                salt: segment.salt,
                header_bytes: segment.header_bytes,
                end: segment.end,
                last_number: segment.last_number,
            });
        }
        victims
    }
}

/// Whether every key of a sealed segment can be trusted.
fn is_readable(scan: &Scan) -> bool {
    scan.gaps.is_empty()
        && scan.is_sealed()
        && scan.frames.iter().all(|frame| frame.condition != Condition::KeysHidden)
}

/// Appends a copy of a frame with the records that live. Its number and epoch are the original's.
fn copy_frame(
    frame: &FoundFrame,
    keep: &[usize],
    bytes: &[u8],
    victim: &Victim,
    output: &mut Output,
    copied: &mut Vec<u8>,
) {
    let (salt, segment) = (output.header.salt, output.header.segment);
    let begin = copied.len();
    let base = output.end;
    copied.resize(begin + FRAME_HEADER_BYTES, 0);
    for index in keep {
        let found = &frame.records[*index];
        let value_start = found.offset as usize + record::RECORD_HEADER_BYTES + found.key.len();
        let value = &bytes[value_start..value_start + found.value_length as usize];
        let offset = (base + (copied.len() - begin) as u64) as u32;
        record::append(copied, salt, found.kind, &found.key, value);
        let from = Location {
            segment: victim.id,
            offset: found.offset as u32,
            value_length: found.value_length,
            tombstone: found.kind == RecordKind::Tombstone,
        };
        output.moved.push(Moved { key: found.key.clone(), from, to: Location { segment, offset, ..from } });
    }
    let length = frame::padded_length(copied.len() - begin);
    copied.resize(begin + length, 0);
    let header = FrameHeader {
        length: length as u32,
        kind: FrameKind::Copy,
        commit: 0,
        parts: 1,
        records: keep.len() as u32,
        ..frame.header
    };
    header.encode_into(&mut copied[begin..], salt);
    output.end += length as u64;
}

fn read_range(file: &FileHandle, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let count = file.read_at(offset, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Lets all mail that waits now go first.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
