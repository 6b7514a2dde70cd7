//! Dealing the keys of one store out to the partitions of another, new one. Knows how records move; not where the stores lie, nor which of them counts.
//!
//! Numbers go on: every number of the new store is greater than any of the old one, so what compares numbers can go on comparing.

use super::batch::Batch;
use super::common::partition_dir;
use super::disk::Disk;
use super::error::OpenError;
use super::format::manifest::Manifest;
use super::recovery::failed;
use super::recovery::load::read_file;
use super::store::Store;
use super::types::{PartitionId, Slot, StoreId};
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
    // The last life of the old store is taken as having had all numbers so far, and nothing of it is here.
    let first = from.settled_number().next();
    manifest.epochs = manifest.epochs.last().map(|life| (life.0, first)).into_iter().collect();
    let write = || -> io::Result<()> {
        for index in 0..partitions {
            disk.create_dir(&partition_dir(PartitionId(index)))?;
        }
        let file = disk.create("MANIFEST")?;
        file.write_at(0, manifest.encode().as_bytes())?;
        file.sync_data()?;
        disk.sync_dir("")
    };
    write().map_err(failed("making the new store"))
}

/// Waits on this thread, which must be none of a store's.
pub fn wait<R>(task: impl Future<Output = R>) -> R {
    block_on(task)
}

/// Copies all keys for which `slot` gives a slot, each to the partition of its slot; returns how many. Nobody may change them meanwhile. `told` hears
/// how many were copied, now and then. Waits for the disk.
///
/// # Errors
/// One line that says why not everything could be copied: a value that fails its checksum, a full disk.
pub fn copy<S: Send + 'static, T: Send + 'static>(
    from: &Store<S>,
    to: &Store<T>,
    slot: impl Fn(&[u8]) -> Option<Slot>,
    mut told: impl FnMut(u64),
) -> Result<u64, String> {
    let mut copied = 0;
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
            let slice = slice.ok_or("reading the old store failed: see its log")?;
            let Some((last, _)) = slice.last() else { break };
            after = Some(last.clone());
            let mut batches: BTreeMap<PartitionId, Batch> = BTreeMap::new();
            for (key, value) in slice {
                let value = value.map_err(|error| {
                    format!("a value can't be copied: {error}; remove what it belongs to, or restore it")
                })?;
                if let (Some(slot), Some(value)) = (slot(&key), value) {
                    batches.entry(to.route(slot)).or_default().put(key, value);
                    copied += 1;
                }
            }
            for (id, batch) in batches {
                let part = to.partition(id).clone();
                let committed = block_on(to.partition(id).call(async move { part.commit(batch).await }));
                let committed = committed.ok_or("writing the new store failed")?;
                committed.map_err(|error| format!("writing the new store: {error}"))?;
            }
            told(copied);
        }
    }
    Ok(copied)
}
