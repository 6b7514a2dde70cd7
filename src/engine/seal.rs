//! Sealing: a full segment gets its last frame once everything in it is stable, and then its hint. Also the hint that a clean
//! close leaves beside the active segment.

use super::common::partition_dir;
use super::core::Core;
use super::disk::{Disk, FileHandle};
use super::format::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use super::format::hint::{self, Hint, HintWriter};
use super::format::segment::SegmentHeader;
use super::log::Outline;
use super::recovery::load::scan_file;
use super::scan::Scan;
use super::segment::{data_path, hint_path, temporary_path};
use super::shell::Shell;
use super::stats::SegmentState;
use super::types::{Epoch, Number, PartitionId, SegmentId};
use std::io;
use std::sync::Arc;

impl Shell {
    /// Seals a full segment. Failing is no harm: the next opening finds a full segment without a seal, and tries again.
    pub(crate) async fn seal(self: Arc<Self>, id: SegmentId) {
        self.seal_segment(id).await;
        self.with(Core::seal_ended);
        self.consider_compaction();
    }

    async fn seal_segment(&self, id: SegmentId) {
        // Everything that was numbered before the rotation is stable after this.
        if self.common.sync().await.is_err() {
            return;
        }
        let found = self.with(|core| {
            let outline = core.outlines.remove(&id).filter(|outline| outline.complete);
            let segment = core.segments.get(&id)?;
            Some((segment.file.clone(), segment.end, segment.last_number, outline))
        });
        let Some((file, end, last_number, outline)) = found else { return };
        let order = &self.common.order;
        debug_assert!(last_number <= order.stable(), "sealed before it was stable");
        let seal =
            Seal { partition: self.id, id, end, last_number, stable: order.stable(), epoch: order.epoch() };
        let partition = self.id;
        let sealed = self
            .common
            .background(move |disk| {
                let file_bytes = seal.apply(disk, &file, outline)?;
                // Nobody writes to it any more: from now on it may be closed while nobody reads.
                Ok((file_bytes, disk.open(&data_path(partition, id)).unwrap_or(file)))
            })
            .await;
        self.with(|core| match (sealed, core.segments.get_mut(&id)) {
            (Ok((file_bytes, file)), Some(segment)) => {
                segment.file = file;
                segment.end = file_bytes;
                segment.counters.file_bytes.set(file_bytes);
                segment.set_state(SegmentState::Sealed);
            }
            (Err(error), _) => {
                tracing::warn!("partition {partition}: segment {id} could not be sealed: {error}")
            }
            (Ok(_), None) => {}
        });
    }
}

/// What is known of a segment that gets no more commits.
pub(crate) struct Seal {
    pub(crate) partition: PartitionId,
    pub(crate) id: SegmentId,
    pub(crate) end: u64,
    pub(crate) last_number: Number,
    pub(crate) stable: Number,
    pub(crate) epoch: Epoch,
}

impl Seal {
    /// Writes seal and hint; returns the file's length. Waits for the disk.
    fn apply(&self, disk: &dyn Disk, file: &FileHandle, outline: Option<Outline>) -> io::Result<u64> {
        let header = read_header(file)?;
        let seal = FrameHeader {
            length: FRAME_HEADER_BYTES as u32,
            number: self.last_number,
            stable: self.stable,
            commit: 0,
            epoch: self.epoch,
            parts: 1,
            kind: FrameKind::Seal,
            records: 0,
        };
        file.write_at(self.end, &seal.encode(header.salt))?;
        let length = self.end + u64::from(seal.length);
        file.set_length(length)?;
        file.sync_data()?;
        match outline {
            Some(outline) => {
                let bytes = self.hint(outline, &header, length, true);
                put_hint(disk, self.partition, self.id, &bytes)?;
            }
            None => {
                let scan = scan_file(file, &header, length)?;
                if !scan.is_sealed() || !scan.gaps.is_empty() {
                    return Err(io::Error::other("what was read back is not what was written"));
                }
                write_hint(disk, self.partition, self.id, &header, &scan, true, self.stable)?;
            }
        }
        Ok(length)
    }

    /// A hint out of what was gathered while the segment was filled.
    fn hint(&self, outline: Outline, header: &SegmentHeader, data_length: u64, sealed: bool) -> Vec<u8> {
        let entries = outline.entries.entries();
        outline.entries.finish(Hint {
            store: header.store,
            partition: self.partition,
            segment: self.id,
            salt: header.salt,
            sealed,
            data_length,
            last_number: self.last_number,
            first_number: outline.first_number,
            stable: self.stable,
            first_epoch: outline.first_epoch,
            entries,
        })
    }

    /// Leaves the hint of a segment that isn't full, on a clean close. Waits for the disk.
    pub(crate) fn leave_open(&self, disk: &dyn Disk, file: &FileHandle, outline: Outline) -> io::Result<()> {
        let header = read_header(file)?;
        if outline.complete {
            return put_hint(disk, self.partition, self.id, &self.hint(outline, &header, self.end, false));
        }
        let scan = scan_file(file, &header, self.end)?;
        if scan.end != self.end || !scan.gaps.is_empty() {
            return Err(io::Error::other("what was read back is not what was written"));
        }
        write_hint(disk, self.partition, self.id, &header, &scan, false, self.stable)
    }
}

pub(crate) fn read_header(file: &FileHandle) -> io::Result<SegmentHeader> {
    let mut bytes = vec![0; super::format::segment::SEGMENT_HEADER_BYTES_MAX];
    let count = file.read_at(0, &mut bytes)?;
    SegmentHeader::decode(&bytes[..count]).map_err(io::Error::other)
}

/// Writes the hint of a segment, from what was read of it. Every record must count.
pub(crate) fn write_hint(
    disk: &dyn Disk,
    partition: PartitionId,
    id: SegmentId,
    header: &SegmentHeader,
    scan: &Scan,
    sealed: bool,
    stable: Number,
) -> io::Result<()> {
    let mut writer = HintWriter::new();
    let mut at = 0;
    while let Some((entry, length)) = hint::entry_at(&scan.records, at) {
        writer.push(entry.number, entry.offset, entry.kind, entry.value_length, entry.key);
        at += length;
    }
    let numbers = || scan.frames.iter().map(|frame| frame.header.number);
    let hint = Hint {
        store: header.store,
        partition,
        segment: id,
        salt: header.salt,
        sealed,
        data_length: scan.end,
        last_number: numbers().max().unwrap_or(Number::ZERO),
        first_number: numbers().min().unwrap_or(Number::ZERO),
        stable,
        first_epoch: scan.frames.iter().map(|frame| frame.header.epoch).min().unwrap_or(Epoch(0)),
        entries: writer.entries(),
    };
    put_hint(disk, partition, id, &writer.finish(hint))
}

/// Gives a hint its name once it is whole.
pub(crate) fn put_hint(
    disk: &dyn Disk,
    partition: PartitionId,
    id: SegmentId,
    bytes: &[u8],
) -> io::Result<()> {
    let temporary = temporary_path(partition, id, "hint");
    let written = write_file(disk, &temporary, bytes);
    let renamed = written.and_then(|()| disk.rename(&temporary, &hint_path(partition, id)));
    if renamed.is_err() {
        // Best effort: what is left is removed when the store opens.
        let _ = disk.remove(&temporary);
    }
    renamed?;
    // Not durable by name yet: a hint that a power loss takes away is made again from its segment.
    disk.sync_dir(&partition_dir(partition))
}

fn write_file(disk: &dyn Disk, path: &str, bytes: &[u8]) -> io::Result<()> {
    let file = disk.create(path)?;
    file.write_at(0, bytes)?;
    file.sync_data()
}
