//! What can be known of a store whose MANIFEST, or of a segment whose header is lost: for salvage, which tells of it. Nothing is believed that
//! checksums don't say.

use super::load::{Content, LoadedPartition, load};
use crate::engine::common::partition_dir;
use crate::engine::disk::{Disk, FileHandle};
use crate::engine::error::OpenError;
use crate::engine::format::ALIGNMENT_BYTES;
use crate::engine::format::frame::{self, FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::engine::format::index::decode_index;
use crate::engine::format::manifest::Manifest;
use crate::engine::format::record;
use crate::engine::format::salt::salt_of;
use crate::engine::format::segment::{Origin, SEGMENT_HEADER_BYTES_MIN, SegmentHeader};
use crate::engine::limits::PARTITIONS_MAX;
use crate::engine::opening::Opening;
use crate::engine::scan::{Source, Window};
use crate::engine::segment::{FileKind, data_path, parse_name};
use crate::engine::types::{Epoch, Number, PartitionId, SegmentId, StoreId};
use std::collections::BTreeMap;
use std::io;

/// A manifest out of what partitions and segments say, with the options that a new store would get; None if there is no segment to say anything.
pub(crate) fn manifest_of_segments(
    disk: &dyn Disk,
    options: &[(String, String)],
    opening: &Opening,
) -> Result<Option<Manifest>, OpenError> {
    let names = disk.list("").map_err(super::failed("reading the directory"))?;
    let is_there = |id: &u16| names.contains(&partition_dir(PartitionId(*id)));
    let Some(last) = (0..PARTITIONS_MAX).rfind(is_there) else { return Ok(None) };
    let partitions: Vec<PartitionId> = (0..=last).map(PartitionId).collect();
    let mut stores: BTreeMap<[u8; 16], usize> = BTreeMap::new();
    for partition in &partitions {
        for header in headers(disk, *partition) {
            *stores.entry(header.store.0).or_default() += 1;
        }
    }
    let Some((store, _)) = stores.into_iter().max_by_key(|(_, count)| *count) else { return Ok(None) };
    let store = StoreId(store);
    let mut lives: BTreeMap<Epoch, Number> = BTreeMap::new();
    for partition in &partitions {
        note_lives(&load(disk, store, *partition, true, opening)?, &mut lives);
    }
    // A life owns what comes after the first number of its own.
    let mut epochs: Vec<(Epoch, Number)> = Vec::new();
    for (epoch, first) in lives {
        let least = epochs.last().map_or(Number::ZERO, |life| life.1);
        epochs.push((epoch, first.max(least)));
    }
    let (features, options) = (Vec::new(), options.to_vec());
    Ok(Some(Manifest { store, partitions: last + 1, features, options, epochs }))
}

/// The headers of a partition's segments that can be read.
fn headers(disk: &dyn Disk, partition: PartitionId) -> Vec<SegmentHeader> {
    let names = disk.list(&partition_dir(partition)).unwrap_or_default();
    let segments = names.iter().filter_map(|name| match parse_name(name) {
        FileKind::Data(id) => Some(id),
        _ => None,
    });
    segments
        .filter_map(|id| {
            let file = disk.open(&data_path(partition, id)).ok()?;
            let header = crate::engine::seal::read_header(&file).ok()?;
            (header.partition == partition && header.segment == id).then_some(header)
        })
        .collect()
}

/// The least number of each life in the logs that have no seal.
fn note_lives(loaded: &LoadedPartition, lives: &mut BTreeMap<Epoch, Number>) {
    for segment in &loaded.segments {
        let Content::Scanned(scan) = &segment.content else { continue };
        for frame in scan.frames.iter().filter(|frame| frame.header.kind != FrameKind::Seal) {
            let first = lives.entry(frame.header.epoch).or_insert(frame.header.number);
            *first = (*first).min(frame.header.number);
        }
    }
}

/// The header of a segment, as far as the rest of the segment tells; None if it doesn't. Which segments it replaces isn't told.
pub(crate) fn header_of_frames(
    file: &FileHandle,
    store: StoreId,
    partition: PartitionId,
    segment: SegmentId,
) -> io::Result<Option<SegmentHeader>> {
    let mut source = Window::over(file, file.length()?);
    let mut offset = SEGMENT_HEADER_BYTES_MIN as u64;
    while offset + FRAME_HEADER_BYTES as u64 <= source.length() {
        if let Some((salt, origin, start)) = tells(&mut source, offset)? {
            let victims = (start - SEGMENT_HEADER_BYTES_MIN as u64) / 4;
            let victims = vec![SegmentId(0); victims as usize];
            return Ok(Some(SegmentHeader {
                store,
                partition,
                origin,
                segment,
                salt,
                created_ns: 0,
                victims,
            }));
        }
        offset += ALIGNMENT_BYTES as u64;
    }
    Ok(None)
}

/// What the frame at an offset says of its segment, if there is one: the salt, the origin, and where the header ends.
fn tells(source: &mut impl Source, offset: u64) -> io::Result<Option<(u32, Origin, u64)>> {
    let head = source.bytes(offset, FRAME_HEADER_BYTES)?;
    if !frame::could_be_header(head) {
        return Ok(None);
    }
    let Some((salt, header)) =
        salt_of(head).and_then(|salt| Some((salt, FrameHeader::decode(head, salt).ok()?)))
    else {
        return Ok(None);
    };
    let frame = source.bytes(offset, header.length as usize)?;
    let Some(body) = frame.get(FRAME_HEADER_BYTES..header.length as usize) else { return Ok(None) };
    let log_start = SEGMENT_HEADER_BYTES_MIN as u64;
    // Every header has a salt that suits it: whether it is the right one is for its body to say.
    let is_record = || header.records > 0 && record::decode_head(body, salt).is_ok();
    Ok(match header.kind {
        FrameKind::Commit if is_record() => Some((salt, Origin::Log, log_start)),
        FrameKind::Watermark if frame::decode_watermark(body, salt).is_ok() => {
            Some((salt, Origin::Log, log_start))
        }
        FrameKind::Copy if is_record() => Some((salt, Origin::Compaction, offset)),
        FrameKind::Index => decode_index(&header, body, salt)
            .ok()
            .map(|view| (salt, Origin::Packed, u64::from(view.offset).max(log_start))),
        _ => None,
    })
}
