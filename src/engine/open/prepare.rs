//! Making the disk agree with what was decided, so that the store can go on from there: tails repaired, the new epoch, logs to go on
//! in. Each step is durable before the next one begins.

use super::manifest::write_manifest;
use super::start::goes_on_in;
use crate::engine::common::{Random, partition_dir};
use crate::engine::config::{Config, World};
use crate::engine::disk::Disk;
use crate::engine::error::OpenError;
use crate::engine::format::manifest::Manifest;
use crate::engine::recovery::decide::Decision;
use crate::engine::recovery::load::{LoadedPartition, LoadedSegment, remove_segment};
use crate::engine::recovery::{failed, repair};
use crate::engine::segment::{NewSegment, Recipe, data_path};
use crate::engine::stats::StoreCounters;
use crate::engine::types::{Epoch, SegmentId, StoreId};
use std::io;

/// The smallest segment that a store on a full disk begins with, in bytes.
const FIRST_BYTES_MIN: u64 = 32 * 1024;

/// What was read and decided, and what the store goes on with.
pub(super) struct Ready {
    pub(super) manifest: Manifest,
    pub(super) partitions: Vec<LoadedPartition>,
    pub(super) decision: Decision,
    /// For each partition whose log can't go on in a segment that is there: a new one.
    pub(super) fresh: Vec<Option<NewSegment>>,
    /// What was made durable and can't be read, each in a line.
    pub(super) losses: Vec<String>,
}

/// Waits for the disk. If it fails, what is there can be recovered all the same another time.
pub(super) fn prepare(
    world: &World,
    config: &Config,
    ready: &mut Ready,
    counters: &StoreCounters,
    random: &mut Random,
) -> Result<(), OpenError> {
    let disk = &*world.disk;
    let Ready { manifest, partitions, decision, fresh, .. } = ready;
    // First, in all of them, for their space: on a full disk what follows may need it.
    for partition in partitions.iter_mut() {
        remove_empty(disk, partition)?;
    }
    for partition in partitions.iter_mut() {
        repair_partition(disk, partition, decision, manifest, counters)?;
    }
    begin_epoch(disk, manifest, partitions, decision)?;
    for (partition, fresh) in partitions.iter_mut().zip(fresh) {
        if goes_on_in(partition, config.segment_bytes).is_none() {
            let new = first_segment(world, config, manifest.store, partition, random)?;
            partition.last_segment = new.id;
            *fresh = Some(new);
        }
    }
    Ok(())
}

/// A segment for a partition whose log has none to go on in.
fn first_segment(
    world: &World,
    config: &Config,
    store: StoreId,
    partition: &LoadedPartition,
    random: &mut Random,
) -> Result<NewSegment, OpenError> {
    let mut recipe = Recipe {
        store,
        partition: partition.partition,
        id: SegmentId(partition.last_segment.0 + 1),
        salt: random.next() as u32,
        created_ns: world.clock.wall_ns(),
        file_bytes: config.segment_bytes,
    };
    loop {
        match recipe.make(&*world.disk) {
            // On a full disk a small one will do: it is enough to remove things.
            Err(error)
                if error.kind() == io::ErrorKind::StorageFull && recipe.file_bytes > FIRST_BYTES_MIN =>
            {
                recipe.file_bytes /= 2;
            }
            made => {
                return made.map_err(failed(format!("creating {}", data_path(recipe.partition, recipe.id))));
            }
        }
    }
}

fn repair_partition(
    disk: &dyn Disk,
    partition: &mut LoadedPartition,
    decision: &Decision,
    manifest: &Manifest,
    counters: &StoreCounters,
) -> Result<(), OpenError> {
    for segment in &mut partition.segments {
        if segment.is_sealed() {
            repair::confirm_seal(partition.partition, segment)?;
            continue;
        }
        let torn_bytes = repair::repair(disk, partition.partition, segment, decision, |epoch, number| {
            manifest.owns(epoch, number)
        })?;
        counters.torn_tail_bytes.add(torn_bytes);
    }
    remove_empty(disk, partition)?;
    // A recovery before this one may have died between giving a tail that it wrote anew its name and syncing that.
    let directory = partition_dir(partition.partition);
    disk.sync_dir(&directory).map_err(failed(format!("syncing directory {directory}")))
}

/// Removes segments made ahead, and tails of which nothing counts.
fn remove_empty(disk: &dyn Disk, partition: &mut LoadedPartition) -> Result<(), OpenError> {
    let id = partition.partition;
    let empty: Vec<_> =
        partition.segments.iter().filter(|s| !s.is_sealed() && !s.has_frames()).map(|s| s.id).collect();
    for segment in &empty {
        remove_segment(disk, id, *segment)
            .map_err(failed(format!("removing {}", data_path(id, *segment))))?;
    }
    if !empty.is_empty() {
        // Before this their space may not be free.
        let directory = partition_dir(id);
        disk.sync_dir(&directory).map_err(failed(format!("syncing directory {directory}")))?;
    }
    partition.segments.retain(|segment| !empty.contains(&segment.id));
    Ok(())
}

/// The new life owns the numbers behind the cut; lives that left nothing in a tail are forgotten.
fn begin_epoch(
    disk: &dyn Disk,
    manifest: &mut Manifest,
    loaded: &[LoadedPartition],
    decision: &Decision,
) -> Result<(), OpenError> {
    let epoch = manifest.epochs.last().map_or(Epoch(1), |life| Epoch(life.0.0 + 1));
    // Also of tails that are known by their hints now: another time the hint may be gone.
    let unsealed =
        loaded.iter().flat_map(|partition| &partition.segments).filter(|segment| !segment.is_sealed());
    let oldest = unsealed.filter_map(LoadedSegment::first_epoch).min().unwrap_or(epoch);
    manifest.epochs.retain(|life| life.0 >= oldest);
    manifest.epochs.push((epoch, decision.cut.next()));
    write_manifest(disk, manifest)
}
