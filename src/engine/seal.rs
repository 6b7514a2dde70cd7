//! Sealing: a full segment gets its last frame once everything in it is stable, and then its hint. Also the hint that a clean
//! close leaves beside the active segment.

use super::common::partition_dir;
use super::disk::{Disk, FileHandle};
use super::format::frame::{FrameHeader, FrameKind};
use super::format::hint::{Hint, HintWriter};
use super::format::segment::SegmentHeader;
use super::recovery::load::scan_file;
use super::scan::Scan;
use super::segment::{hint_path, temporary_path};
use super::shell::Shell;
use super::stats::SegmentState;
use super::types::{Epoch, Number, PartitionId, SegmentId};
use std::io;
use std::sync::Arc;

impl Shell {
    /// Seals a full segment. Failing is no harm: the next opening finds a full segment without a seal, and tries again.
    pub(crate) async fn seal(self: Arc<Self>, id: SegmentId) {
        // Everything that was numbered before the rotation is stable after this.
        if self.common.sync().await.is_err() {
            return;
        }
        let Some((file, end, last_number)) = self.with(|core| {
            let segment = core.segments.get(&id)?;
            Some((segment.file.clone(), segment.end, segment.last_number))
        }) else {
            return;
        };
        let stable = self.common.order.stable();
        let epoch = self.common.order.epoch();
        debug_assert!(last_number <= stable, "sealed before it was stable");
        let partition = self.id;
        let sealed = self
            .common
            .background(move |disk| seal_file(disk, partition, id, &file, end, last_number, stable, epoch))
            .await;
        self.with(|core| match (sealed, core.segments.get_mut(&id)) {
            (Ok(file_bytes), Some(segment)) => {
                segment.end = file_bytes;
                segment.counters.file_bytes.set(file_bytes);
                segment.set_state(SegmentState::Sealed);
            }
            (Err(error), _) => tracing::warn!("partition {partition}: segment {id} could not be sealed: {error}"),
            (Ok(_), None) => {}
        });
        self.consider_compaction();
    }
}

#[expect(clippy::too_many_arguments, reason = "moved to another thread as they are")]
fn seal_file(
    disk: &dyn Disk,
    partition: PartitionId,
    id: SegmentId,
    file: &FileHandle,
    end: u64,
    last_number: Number,
    stable: Number,
    epoch: Epoch,
) -> io::Result<u64> {
    let header = read_header(file)?;
    let seal = FrameHeader {
        length: 48,
        number: last_number,
        stable,
        commit: 0,
        epoch,
        parts: 1,
        kind: FrameKind::Seal,
        records: 0,
    };
    file.write_at(end, &seal.encode(header.salt))?;
    let length = end + u64::from(seal.length);
    file.set_length(length)?;
    file.sync_data()?;
    let scan = scan_file(file, &header, length)?;
    if !scan.is_sealed() || !scan.gaps.is_empty() {
        return Err(io::Error::other("what was read back is not what was written"));
    }
    write_hint(disk, partition, id, &header, &scan, true, stable)?;
    Ok(length)
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
    for frame in &scan.frames {
        for record in &frame.records {
            let offset = record.offset as u32;
            writer.push(frame.header.number, offset, record.kind, record.value_length, &record.key);
        }
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
    let bytes = writer.finish(hint);
    let temporary = temporary_path(partition, id, "hint");
    let written = write_file(disk, &temporary, &bytes);
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
