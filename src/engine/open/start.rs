//! Starting a partition on what recovery left: segments, keydir, log, turn.

use crate::engine::common::Common;
use crate::engine::core::Core;
use crate::engine::disk::{FileHandle, NoFile};
use crate::engine::error::OpenError;
use crate::engine::log::Log;
use crate::engine::recovery::failed;
use crate::engine::recovery::index::{Account, Index};
use crate::engine::recovery::load::{LoadedPartition, LoadedSegment};
use crate::engine::segment::{FileLanes, NewSegment, Segment, data_path, hint_path};
use crate::engine::shell::Shell;
use crate::engine::stats::{SegmentCounters, SegmentState};
use crate::engine::turn::Turn;
use crate::engine::types::{PartitionId, SegmentId};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// What must be left in a segment so that going on in it is worth it, in bytes.
const ROOM_MIN_BYTES: u64 = 4096;

/// The segment that a partition's log goes on in: the unsealed one with the newest frame, unless it is full.
pub(super) fn goes_on_in(partition: &LoadedPartition, segment_bytes: u64) -> Option<SegmentId> {
    let unsealed = partition.segments.iter().filter(|segment| !segment.is_sealed());
    let tail = unsealed.max_by_key(|segment| segment.last_number())?;
    (tail.end() + ROOM_MIN_BYTES < segment_bytes).then_some(tail.id)
}

/// Also tells which segments are full and have no seal.
pub(super) fn start_partition(
    common: &Arc<Common>,
    partition: LoadedPartition,
    index: Index,
    fresh: Option<NewSegment>,
) -> Result<(Arc<Shell>, Vec<SegmentId>), OpenError> {
    let id = partition.partition;
    let next_segment = SegmentId(partition.last_segment.0 + 1);
    let tail = goes_on_in(&partition, common.config.segment_bytes);
    let mut segments = BTreeMap::new();
    let mut log = None;
    let mut full = Vec::new();
    for loaded in partition.segments {
        let state = match loaded.is_sealed() {
            true => SegmentState::Sealed,
            false if Some(loaded.id) == tail => SegmentState::Active,
            false => SegmentState::Full,
        };
        let segment = adopt(&loaded, state, &index.accounts);
        match state {
            SegmentState::Active => {
                log = Some(resume(common, id, &segment)?);
            }
            SegmentState::Full => full.push(segment.id),
            _ => {}
        }
        segments.insert(segment.id, segment);
    }
    let log = match log {
        Some(log) => log,
        None => {
            // Where nothing can be written nothing was made.
            let new = fresh.unwrap_or_else(|| nothing(next_segment));
            segments.insert(new.id, Segment::from_new(&new, SegmentState::Active));
            Log::new(new.id, new.file, new.salt, new.header_bytes, new.file_bytes, true)
        }
    };
    let turn = common.turns[id.index()].clone();
    let mut core = Core::new(id, common.clone(), index.keydir, segments, next_segment, log);
    core.unsealed = full.len();
    let shell = Shell::new(id, turn.clone(), common.clone(), core);
    connect(&turn, &shell);
    Ok((shell, full))
}

fn connect(turn: &Turn, shell: &Arc<Shell>) {
    let leaving: Weak<Shell> = Arc::downgrade(shell);
    let passing = leaving.clone();
    turn.connect(
        Box::new(move || {
            if let Some(shell) = leaving.upgrade() {
                shell.with(Core::leave);
            }
        }),
        Box::new(move |turn| match passing.upgrade() {
            Some(shell) => shell.pass_on(turn),
            None => turn.hold(),
        }),
    );
}

fn adopt(loaded: &LoadedSegment, state: SegmentState, accounts: &BTreeMap<SegmentId, Account>) -> Segment {
    let account = accounts.get(&loaded.id).copied().unwrap_or_default();
    let counters = Arc::new(SegmentCounters::default());
    counters.set_state(state);
    counters.live_bytes.set(account.live_bytes);
    counters.dead_bytes.set(account.dead_bytes);
    counters.live_records.set(account.live_records);
    counters.file_bytes.set(loaded.file_bytes);
    Segment {
        id: loaded.id,
        file: loaded.file.clone(),
        lanes: FileLanes::default(),
        salt: loaded.header.salt,
        form: loaded.header.origin.form(),
        header_bytes: loaded.frames_start(),
        end: loaded.end(),
        last_number: loaded.last_number(),
        counters,
    }
}

/// Goes on in a segment: its space is taken again, or it is used as far as it goes.
fn resume(common: &Common, id: PartitionId, segment: &Segment) -> Result<Log, OpenError> {
    let mut file_bytes = common.config.segment_bytes;
    if !common.config.read_only
        && let Err(error) = segment.file.allocate(file_bytes)
    {
        tracing::warn!("partition {id}: no space to go on in segment {}: {error}", segment.id);
        segment.file.set_length(segment.end).map_err(failed(data_path(id, segment.id)))?;
        file_bytes = segment.end;
    }
    segment.counters.file_bytes.set(file_bytes);
    if !common.config.read_only {
        // What the last close left describes less than there will be. It would not be trusted; this spares the warning.
        let _ = common.disk.remove(&hint_path(id, segment.id));
    }
    Ok(Log::new(segment.id, segment.file.clone(), segment.salt, segment.end, file_bytes, false))
}

/// The log of a partition that takes nothing.
fn nothing(id: SegmentId) -> NewSegment {
    let file: FileHandle = Arc::new(NoFile);
    NewSegment { id, file, salt: 0, header_bytes: 0, file_bytes: 0 }
}
