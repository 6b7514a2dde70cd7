//! Dealing the keys of one store out to the partitions of another, new one. Knows how records move; not where the stores lie, nor which of them counts.
//!
//! Numbers go on: every number of the new store is greater than any of the old one, so what compares numbers can go on comparing.

use super::batch::Batch;
use super::common::partition_dir;
use super::disk::Disk;
use super::error::OpenError;
use super::format::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use super::format::manifest::Manifest;
use super::format::segment::{Origin, SegmentHeader};
use super::recovery::failed;
use super::recovery::load::read_file;
use super::segment::data_path;
use super::store::Store;
use super::types::{Epoch, Number, PartitionId, SegmentId, Slot, StoreId};
use super::wait::block_on;
use std::collections::BTreeMap;
use std::io;

/// How many keys are looked at in one turn.
const SLICE_KEYS: usize = 1024;
/// How many bytes of values are copied at a time, unless one value alone is more.
const SLICE_BYTES: usize = 1024 * 1024;

/// Makes an empty directory a store without keys: with so many partitions, and otherwise what `from` is, whose disk is `from_disk`. Durable when this
/// returns. Waits for the disk.
///
/// # Errors
/// If a file can't be read or written.
pub fn found<S: Send + 'static>(
    from: &Store<S>,
    from_disk: &dyn Disk,
    disk: &dyn Disk,
    partitions: u16,
    seed: [u64; 2],
) -> Result<(), OpenError> {
    let bytes = read_file(from_disk, "MANIFEST").map_err(failed("reading MANIFEST"))?;
    let mut manifest =
        Manifest::decode(&bytes).map_err(|damage| OpenError::Damaged(format!("MANIFEST: {damage}")))?;
    let mut store = [0; 16];
    store[..8].copy_from_slice(&seed[0].to_le_bytes());
    store[8..].copy_from_slice(&seed[1].to_le_bytes());
    manifest.store = StoreId(store);
    manifest.partitions = partitions;
    let last = from.settled_number();
    manifest.epochs = manifest.epochs.last().map(|life| (life.0, last.next())).into_iter().collect();
    let epoch = manifest.epochs.last().map_or(Epoch(0), |life| life.0);
    let header = SegmentHeader {
        store: manifest.store,
        partition: PartitionId(0),
        origin: Origin::Log,
        segment: SegmentId(1),
        salt: seed[0] as u32,
        created_ns: from.clock().wall_ns(),
        victims: Vec::new(),
    };
    let write = || -> io::Result<()> {
        for index in 0..partitions {
            disk.create_dir(&partition_dir(PartitionId(index)))?;
        }
        if last > Number::ZERO {
            write_sealed(disk, &header, last, epoch)?;
        }
        let file = disk.create("MANIFEST")?;
        file.write_at(0, manifest.encode().as_bytes())?;
        file.sync_data()?;
        disk.sync_dir("")
    };
    write().map_err(failed("making the new store"))
}

/// A segment without records that accounts for all numbers so far: a store in which numbers are missing would be taken for a damaged one.
fn write_sealed(disk: &dyn Disk, header: &SegmentHeader, last: Number, epoch: Epoch) -> io::Result<()> {
    let seal = FrameHeader {
        length: FRAME_HEADER_BYTES as u32,
        number: last,
        stable: last,
        commit: 0,
        epoch,
        parts: 1,
        kind: FrameKind::Seal,
        records: 0,
    };
    let mut bytes = header.encode();
    bytes.extend_from_slice(&seal.encode(header.salt));
    let file = disk.create(&data_path(header.partition, header.segment))?;
    file.write_at(0, &bytes)?;
    file.sync_data()?;
    disk.sync_dir(&partition_dir(header.partition))
}

/// Waits on this thread, which must be none of a store's.
pub fn wait<R>(task: impl Future<Output = R>) -> R {
    block_on(task)
}

/// Reads all keys and values, partition by partition in the order of keys, and passes them on in slices. Nobody may change anything meanwhile. Waits
/// for the disk.
///
/// # Errors
/// One line that says why not everything could be read; what `told` says.
pub fn each<S: Send + 'static>(
    from: &Store<S>,
    mut told: impl FnMut(PartitionId, Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), String>,
) -> Result<(), String> {
    for part in from.partitions() {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (inside, from_key) = (part.clone(), after.clone());
            let slice = block_on(part.call(async move {
                let keys = inside.with(|core, _| {
                    let mut bytes = 0;
                    let mut keys = core.list(b"", from_key.as_deref(), SLICE_KEYS);
                    let fitting = keys.iter().take_while(|key| {
                        let fits = bytes < SLICE_BYTES;
                        bytes += core.value_length(key).unwrap_or(0);
                        fits
                    });
                    let count = fitting.count();
                    keys.truncate(count);
                    keys
                });
                let values = inside.get_many(&keys).await;
                keys.into_iter().zip(values).collect::<Vec<_>>()
            }));
            let slice = slice.ok_or("reading the store failed: see its log")?;
            let Some((last, _)) = slice.last() else { break };
            after = Some(last.clone());
            let mut read = Vec::with_capacity(slice.len());
            for (key, value) in slice {
                let value = value.map_err(|error| {
                    format!("a value can't be copied: {error}; remove what it belongs to, or restore it")
                })?;
                read.extend(value.map(|value| (key, value)));
            }
            told(part.id(), read)?;
        }
    }
    Ok(())
}

/// Writes records, each into the partition of its slot, as one commit for each partition. Waits until they are with the kernel.
///
/// # Errors
/// One line that says why they can't be written.
pub fn put_all<T: Send + 'static>(
    to: &Store<T>,
    records: impl Iterator<Item = (Slot, Vec<u8>, Vec<u8>)>,
) -> Result<(), String> {
    let mut batches: BTreeMap<PartitionId, Batch> = BTreeMap::new();
    for (slot, key, value) in records {
        batches.entry(to.route(slot)).or_default().put(key, value);
    }
    for (id, batch) in batches {
        let part = to.partition(id).clone();
        let committed = block_on(to.partition(id).call(async move { part.commit(batch).await }));
        let committed = committed.ok_or("writing the new store failed")?;
        committed.map_err(|error| format!("writing the new store: {error}"))?;
    }
    Ok(())
}

/// Copies all keys for which `deal` gives a slot, each to the partition of its slot; returns how many. `deal` may change the value. Nobody may change
/// anything meanwhile. `told` hears how many were copied, now and then. Waits for the disk.
///
/// # Errors
/// One line that says why not everything could be copied: a value that fails its checksum, a full disk.
pub fn copy<S: Send + 'static, T: Send + 'static>(
    from: &Store<S>,
    to: &Store<T>,
    mut deal: impl FnMut(&[u8], &mut Vec<u8>) -> Result<Option<Slot>, String>,
    mut told: impl FnMut(u64),
) -> Result<u64, String> {
    let mut copied = 0;
    each(from, |_, slice| {
        let mut dealt = Vec::with_capacity(slice.len());
        for (key, mut value) in slice {
            if let Some(slot) = deal(&key, &mut value)? {
                dealt.push((slot, key, value));
            }
        }
        copied += dealt.len() as u64;
        put_all(to, dealt.into_iter())?;
        told(copied);
        Ok(())
    })?;
    Ok(copied)
}
