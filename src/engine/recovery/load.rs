//! Reading one partition's files, as they are. Changes nothing but half-made files, which it removes.

use super::failed;
use super::salvage::header_of_frames;
use crate::engine::common::partition_dir;
use crate::engine::disk::{Disk, FileHandle};
use crate::engine::error::OpenError;
use crate::engine::format::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::engine::format::hint::{self, Hint};
use crate::engine::format::segment::{Origin, SEGMENT_HEADER_BYTES_MAX, SegmentHeader};
use crate::engine::format::{Damage, Form, segment};
use crate::engine::opening::Opening;
use crate::engine::planted::{Bug, planted};
use crate::engine::scan::packed::PackedIndex;
use crate::engine::scan::{Scan, Window, scan};
use crate::engine::segment::{FileKind, data_path, hint_path, parse_name};
use crate::engine::types::{Epoch, Number, PartitionId, SegmentId, StoreId};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// What a segment holds, and how that is known.
pub(crate) enum Content {
    /// From its hint, which was right in every respect.
    Hinted { hint: Hint, bytes: Vec<u8> },
    /// From reading all of it.
    Scanned(Scan),
    /// From its own index: it is packed.
    Packed(PackedIndex),
}

/// A segment as it was found.
pub(crate) struct LoadedSegment {
    pub(crate) id: SegmentId,
    pub(crate) file: FileHandle,
    pub(crate) header: SegmentHeader,
    pub(crate) file_bytes: u64,
    pub(crate) content: Content,
}

impl LoadedSegment {
    pub(crate) fn is_sealed(&self) -> bool {
        match &self.content {
            Content::Hinted { hint, .. } => hint.sealed,
            Content::Scanned(scan) => scan.is_sealed(),
            // It got its name only after its seal.
            Content::Packed(_) => true,
        }
    }

    pub(crate) fn stable(&self) -> Number {
        match &self.content {
            Content::Hinted { hint, .. } => hint.stable,
            Content::Scanned(scan) => scan.stable(),
            Content::Packed(index) => index.stable,
        }
    }

    /// The greatest number that the segment has or stands for.
    pub(crate) fn last_number(&self) -> Number {
        match &self.content {
            Content::Hinted { hint, .. } => hint.last_number,
            Content::Scanned(scan) => {
                scan.frames.iter().map(|frame| frame.header.number).max().unwrap_or(Number::ZERO)
            }
            Content::Packed(index) => index.last_number,
        }
    }

    /// The smallest epoch of its frames.
    pub(crate) fn first_epoch(&self) -> Option<Epoch> {
        match &self.content {
            Content::Hinted { hint, .. } => Some(hint.first_epoch),
            Content::Scanned(scan) => scan.frames.iter().map(|frame| frame.header.epoch).min(),
            Content::Packed(_) => None,
        }
    }

    /// Where its frames end.
    pub(crate) fn end(&self) -> u64 {
        match &self.content {
            Content::Hinted { hint, .. } => hint.data_length,
            Content::Scanned(scan) => scan.end,
            Content::Packed(index) => index.end,
        }
    }

    /// Where its first frame begins.
    pub(crate) fn frames_start(&self) -> u64 {
        match &self.content {
            Content::Hinted { .. } | Content::Scanned(_) => self.header.encoded_length() as u64,
            Content::Packed(index) => index.offset,
        }
    }

    pub(crate) fn has_frames(&self) -> bool {
        self.end() > self.header.encoded_length() as u64
    }
}

/// A partition as it was found.
pub(crate) struct LoadedPartition {
    pub(crate) partition: PartitionId,
    pub(crate) segments: Vec<LoadedSegment>,
    /// The greatest id that any file had.
    pub(crate) last_segment: SegmentId,
    /// Segments that can't be read at all, each in a line.
    pub(crate) losses: Vec<String>,
}

/// Reads a partition's directory.
pub(crate) fn load(
    disk: &dyn Disk,
    store: StoreId,
    partition: PartitionId,
    read_only: bool,
    opening: &Opening,
) -> Result<LoadedPartition, OpenError> {
    let directory = partition_dir(partition);
    let mut data = BTreeSet::new();
    let mut hints = BTreeSet::new();
    let names = disk.list(&directory).map_err(failed(format!("reading directory {directory}")))?;
    for name in names {
        match parse_name(&name) {
            FileKind::Data(id) => drop(data.insert(id)),
            FileKind::Hint(id) => drop(hints.insert(id)),
            FileKind::Temporary if !read_only => {
                let path = format!("{directory}/{name}");
                disk.remove(&path).map_err(failed(format!("removing half-made {path}")))?;
            }
            FileKind::Temporary => {}
            FileKind::Unknown => tracing::warn!("{directory}/{name} is none of ours; left alone"),
        }
    }
    let last_segment = data.iter().chain(&hints).max().copied().unwrap_or(SegmentId(0));
    let mut headers = BTreeMap::new();
    let mut losses = Vec::new();
    for id in &data {
        match open_segment(disk, store, partition, *id) {
            Err(OpenError::Damaged(what)) => match without_header(disk, store, partition, *id) {
                Some(found) => {
                    losses.push(format!("{what}; its records can be read without it"));
                    headers.insert(*id, found);
                }
                None => losses.push(format!("{what}; all of its records are lost")),
            },
            opened => drop(headers.insert(*id, opened?)),
        }
    }
    // A compaction output got its name only when it was complete: what it names has been replaced.
    let victims: BTreeSet<SegmentId> = headers
        .values()
        .filter(|(_, header)| header.origin != Origin::Log)
        .flat_map(|(_, header)| header.victims.iter().copied())
        .collect();
    if !read_only && victims.iter().any(|id| data.contains(id)) {
        // The output's name may be with the kernel only: a power loss must not take it back and leave what it replaces removed.
        disk.sync_dir(&directory).map_err(failed(format!("syncing directory {directory}")))?;
    }
    for (id, (file, _)) in headers.iter().filter(|(id, _)| !victims.contains(id)) {
        opening.expect(file.length().map_err(failed(data_path(partition, *id)))?);
    }
    let mut segments = Vec::new();
    for (id, (file, header)) in headers {
        if victims.contains(&id) {
            if !read_only {
                remove_segment(disk, partition, id).map_err(failed(format!("removing segment {id}")))?;
            }
            continue;
        }
        let file_bytes = file.length().map_err(failed(data_path(partition, id)))?;
        let hinted = || load_hint(disk, partition, &file, &header, file_bytes);
        let content = if header.origin.form() == Form::Bare {
            PackedIndex::read(&file, &header, file_bytes).map(Content::Packed)
        } else if let Some(content) = hints.contains(&id).then(hinted).flatten() {
            Ok(content)
        } else {
            scan_file(&file, &header, file_bytes).map(Content::Scanned)
        };
        let content = content.map_err(failed(data_path(partition, id)))?;
        opening.did(file_bytes);
        segments.push(LoadedSegment { id, file, header, file_bytes, content });
    }
    if !read_only {
        for orphan in hints.iter().filter(|id| !data.contains(id)) {
            // A hint without its segment says nothing; leaving it would do no harm either.
            let _ = disk.remove(&hint_path(partition, *orphan));
        }
    }
    if !read_only && !victims.is_empty() {
        disk.sync_dir(&directory).map_err(failed(format!("syncing directory {directory}")))?;
    }
    Ok(LoadedPartition { partition, segments, last_segment, losses })
}

/// Removes a segment's files: the hint first, so that none is left that describes nothing.
pub(crate) fn remove_segment(disk: &dyn Disk, partition: PartitionId, id: SegmentId) -> io::Result<()> {
    for path in [hint_path(partition, id), data_path(partition, id)] {
        match disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn open_segment(
    disk: &dyn Disk,
    store: StoreId,
    partition: PartitionId,
    id: SegmentId,
) -> Result<(FileHandle, SegmentHeader), OpenError> {
    let path = data_path(partition, id);
    let file = disk.open(&path).map_err(failed(format!("opening {path}")))?;
    let mut bytes = vec![0; SEGMENT_HEADER_BYTES_MAX];
    let count = file.read_at(0, &mut bytes).map_err(failed(format!("reading {path}")))?;
    // A segment is durable, header and all, before it gets its name: a bad header is never the work of a crash.
    let header = segment::SegmentHeader::decode(&bytes[..count])
        .and_then(|header| header.check_home(store, partition, id).map(|()| header));
    match header {
        Ok(header) => Ok((file, header)),
        Err(Damage::Version(version)) => {
            Err(OpenError::Newer(format!("{path} has format version {version}")))
        }
        Err(Damage::Foreign) => Err(OpenError::Foreign(format!("{path} belongs to another store or place"))),
        Err(damage) => Err(OpenError::Damaged(format!("header of {path}: {damage}"))),
    }
}

/// A segment whose header is damaged, if what follows tells what it said.
fn without_header(
    disk: &dyn Disk,
    store: StoreId,
    partition: PartitionId,
    id: SegmentId,
) -> Option<(FileHandle, SegmentHeader)> {
    let file = disk.open(&data_path(partition, id)).ok()?;
    let header = header_of_frames(&file, store, partition, id).ok()??;
    Some((file, header))
}

/// The hint of a segment, if it is right and agrees with what the segment really has. Else none: then all of it is read.
fn load_hint(
    disk: &dyn Disk,
    partition: PartitionId,
    file: &FileHandle,
    header: &SegmentHeader,
    file_bytes: u64,
) -> Option<Content> {
    let path = hint_path(partition, header.segment);
    let bytes = match read_file(disk, &path) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::warn!("{path} can't be read ({error}); reading the segment instead");
            return None;
        }
    };
    match check_hint(&bytes, file, header, file_bytes) {
        Ok(hint) => Some(Content::Hinted { hint, bytes }),
        Err(damage) => {
            tracing::warn!("{path} is not to be trusted ({damage}); reading the segment instead");
            None
        }
    }
}

fn check_hint(
    bytes: &[u8],
    file: &FileHandle,
    header: &SegmentHeader,
    file_bytes: u64,
) -> Result<Hint, Damage> {
    let view = hint::decode(bytes)?;
    view.hint.check_segment(header)?;
    for entry in view.entries() {
        entry?;
    }
    let hint = view.hint;
    if hint.sealed {
        if file_bytes < hint.data_length {
            return Err(Damage::TooShort);
        }
        let mut seal = [0; FRAME_HEADER_BYTES];
        let offset = hint.data_length.checked_sub(FRAME_HEADER_BYTES as u64).ok_or(Damage::Length)?;
        let count = file.read_at(offset, &mut seal).map_err(|_| Damage::TooShort)?;
        // The seal was durable before the hint was written: if it isn't there, it has rotted since, and the hint is what
        // still tells of the keys. Whatever else has rotted shows when it is read.
        let seal = FrameHeader::decode(&seal[..count], header.salt);
        if !seal.is_ok_and(|seal| seal.kind == FrameKind::Seal && seal.number == hint.last_number) {
            tracing::error!("the seal of segment {} is damaged; its hint is trusted", header.segment);
        }
    } else if (file_bytes != hint.data_length || hint.stable < hint.last_number) && !planted(Bug::TrustHint) {
        // Of the active segment, on a clean close: everything in it is stable, and nothing has come since.
        return Err(Damage::Length);
    }
    Ok(hint)
}

/// All bytes of a file.
pub(crate) fn read_file(disk: &dyn Disk, path: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    read_whole(&file, file.length()?)
}

fn read_whole(file: &FileHandle, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let count = file.read_at(0, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Reads a segment from front to end.
pub(crate) fn scan_file(file: &FileHandle, header: &SegmentHeader, file_bytes: u64) -> io::Result<Scan> {
    scan(&mut Window::over(file, file_bytes), header.encoded_length() as u64, header.salt)
}
