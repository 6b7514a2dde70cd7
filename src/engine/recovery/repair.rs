//! Making a tail agree with what was decided: what lies behind the cut goes, a part that doesn't count becomes a void frame.
//! Everything that stays is synced when this returns.

use super::decide::{Decision, Verdict};
use super::failed;
use super::load::{Content, LoadedSegment, scan_file};
use crate::engine::common::partition_dir;
use crate::engine::disk::{Disk, FileHandle};
use crate::engine::error::OpenError;
use crate::engine::format::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::engine::planted::{Bug, planted};
use crate::engine::scan::ScannedFrame;
use crate::engine::segment::{data_path, temporary_path};
use crate::engine::types::{Epoch, Number, PartitionId};

/// Makes an unsealed segment hold what counts, and nothing else. Returns how many bytes of a torn tail went.
pub(crate) fn repair(
    disk: &dyn Disk,
    partition: PartitionId,
    segment: &mut LoadedSegment,
    decision: &Decision,
    owns: impl Fn(Epoch, Number) -> bool,
) -> Result<u64, OpenError> {
    let path = data_path(partition, segment.id);
    let Content::Scanned(scan) = &segment.content else { return Ok(0) };
    let verdict =
        |frame: &ScannedFrame| decision.verdict(frame, owns(frame.header.epoch, frame.header.number));
    let kept =
        scan.frames.iter().take_while(|f| matches!(verdict(f), Verdict::Counts | Verdict::Void)).count();
    // What counts lies in one piece at the front: numbers grow along a log, and a gap before one that counts was refused.
    let stray = scan.frames[kept..].iter().find(|frame| verdict(frame) == Verdict::Counts);
    if let Some(frame) = stray {
        return Err(OpenError::Damaged(format!(
            "{path}: number {} lies behind one that doesn't count",
            frame.header.number
        )));
    }
    let start = segment.header.encoded_length() as u64;
    let end = match kept {
        0 => start,
        kept => scan.frames[kept - 1].offset + u64::from(scan.frames[kept - 1].header.length),
    };
    let torn_bytes = (scan.end - end) + scan.tail_bytes;
    let frames: Vec<(ScannedFrame, bool)> =
        scan.frames[..kept].iter().map(|f| (f.clone(), verdict(f) == Verdict::Void)).collect();
    if segment.file_bytes > end {
        // Also where nothing is torn: what was allocated ahead may be needed for what follows.
        segment.file.set_length(end).map_err(failed(format!("truncating {path}")))?;
    }
    // Also where nothing was cut: what a killed process left behind may be with the kernel only.
    if !planted(Bug::SkipTailSync) {
        segment.file.sync_data().map_err(failed(format!("syncing {path}")))?;
    }
    // What lies behind W may have been synced, or the kernel may hold it for written after a sync that failed, and never write it. If the disk
    // hasn't got it, it is written once more, and into a new file, since a crash in the middle of writing over it could tear what was safe.
    let behind_w = frames.iter().find(|(frame, _)| frame.header.number > decision.w);
    let is_written = match behind_w {
        Some((frame, _)) => is_on_disk(&segment.file, frame.offset, end)
            .map_err(failed(format!("reading {path} past the page cache")))?,
        None => true,
    };
    let rewritten = !is_written || frames.iter().any(|(_, void)| *void);
    if rewritten {
        segment.file =
            rewrite(disk, partition, segment, &frames).map_err(failed(format!("rewriting {path}")))?;
        segment.file.sync_data().map_err(failed(format!("syncing {path}")))?;
    }
    segment.file_bytes = segment.file.length().map_err(failed(path.as_str()))?;
    if rewritten {
        let scan = scan_file(&segment.file, &segment.header, segment.file_bytes).map_err(failed(path))?;
        segment.content = Content::Scanned(scan);
    } else if let Content::Scanned(scan) = &mut segment.content {
        scan.cut(kept, end);
    }
    Ok(torn_bytes)
}

/// A seal that was read from the segment itself may be with the kernel only: from now on it is relied on. (One that a hint tells
/// of was synced before the hint was written.)
pub(crate) fn confirm_seal(partition: PartitionId, segment: &LoadedSegment) -> Result<(), OpenError> {
    let Content::Scanned(scan) = &segment.content else { return Ok(()) };
    let Some(seal) = scan.frames.last() else { return Ok(()) };
    let path = data_path(partition, segment.id);
    let bytes = seal.header.encode(segment.header.salt);
    segment
        .file
        .write_at(seal.offset, &bytes)
        .map_err(failed(format!("writing the seal of {path} again")))?;
    segment.file.sync_data().map_err(failed(format!("syncing {path}")))
}

/// How much is compared at once, in bytes.
const COMPARED_BYTES: u64 = 1 << 20;

/// Whether the disk has what the kernel has, between two offsets; false where that can't be known.
fn is_on_disk(file: &FileHandle, from: u64, to: u64) -> std::io::Result<bool> {
    let (mut known, mut written) = (Vec::new(), Vec::new());
    let mut offset = from;
    while offset < to {
        let length = COMPARED_BYTES.min(to - offset) as usize;
        known.resize(length, 0);
        written.resize(length, 0);
        let count = file.read_at(offset, &mut known)?;
        if file.read_from_disk(offset, &mut written)? != Some(count) || known[..count] != written[..count] {
            return Ok(false);
        }
        offset += length as u64;
    }
    Ok(true)
}

/// A new file in place of the old one, with void frames in place of the parts that don't count.
fn rewrite(
    disk: &dyn Disk,
    partition: PartitionId,
    segment: &LoadedSegment,
    frames: &[(ScannedFrame, bool)],
) -> std::io::Result<FileHandle> {
    let mut bytes = segment.header.encode();
    for (frame, void) in frames {
        if *void {
            let header = FrameHeader {
                length: FRAME_HEADER_BYTES as u32,
                kind: FrameKind::Void,
                records: 0,
                commit: 0,
                parts: 1,
                ..frame.header
            };
            bytes.extend_from_slice(&header.encode(segment.header.salt));
        } else {
            let start = bytes.len();
            bytes.resize(start + frame.header.length as usize, 0);
            segment.file.read_at(frame.offset, &mut bytes[start..])?;
        }
    }
    let temporary = temporary_path(partition, segment.id, "data");
    let file = disk.create(&temporary)?;
    file.write_at(0, &bytes)?;
    if !planted(Bug::SkipTailSync) {
        file.sync_data()?;
    }
    disk.rename(&temporary, &data_path(partition, segment.id))?;
    disk.sync_dir(&partition_dir(partition))?;
    Ok(file)
}
