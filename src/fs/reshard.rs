//! Dealing a filesystem's records out to another number of partitions: where each key belongs, and what each partition says of itself.

use super::keys::{self, EntryRecord, MetaRecord};
use super::lookup::position_in;
use super::volume::Volume;
use crate::engine::{Batch, Slot, Store, reshard};
use std::time::Duration;

/// How long what was removed while it was open may take to be cleared away.
const RECLAIM_MAX: Duration = Duration::from_secs(600);

/// Copies a whole filesystem into a store without keys, and makes it durable there; returns how many records there are now. Nobody may use the
/// volume meanwhile. `told` hears how many were copied, now and then. Waits for the disk.
///
/// # Errors
/// One line that says what is in the way.
pub fn copy<T: Send + 'static>(volume: &Volume, to: &Store<T>, told: impl FnMut(u64)) -> Result<u64, String> {
    // What is half removed must not be copied by half.
    if !volume.come_to_rest(RECLAIM_MAX) {
        return Err("files that were removed while they were open can't be cleared away: see the log".into());
    }
    let flushed = volume.flush_and_wait();
    flushed.map_err(|error| {
        format!("writing the times of directories: {}", std::io::Error::from_raw_os_error(error.0))
    })?;
    let mut counter_end = 0;
    for part in volume.store().partitions() {
        let inside = part.clone();
        let read = part.call(async move { inside.get(&keys::meta()).await });
        let bytes =
            wait(read)?.map_err(|error| format!("a partition's own record can't be read: {error}"))?;
        let meta = bytes.map(|bytes| MetaRecord::decode(&bytes).ok_or("a partition's own record is unknown"));
        counter_end = counter_end.max(meta.transpose()?.unwrap_or_default().counter_end);
    }
    // Names that come together from several partitions may have had the same number there: each gets a fresh one.
    let mut number = counter_end;
    let deal = |key: &[u8], value: &mut Vec<u8>| {
        let Some(slot) = slot_of(key) else { return Ok(None) };
        if keys::parse_entry(key).is_some() {
            let mut entry = EntryRecord::decode(value).ok_or("a name's record is unknown")?;
            entry.position = position_in(to.route(slot), number);
            number += 1;
            *value = entry.encode();
        }
        Ok(Some(slot))
    };
    let copied = reshard::copy(volume.store(), to, deal, told)?;
    // Times of directories are in their records: none has to be looked for among the entries.
    let meta = MetaRecord { counter_end: number, absorbed: to.settled_number() };
    for part in to.partitions() {
        let mut batch = Batch::new();
        batch.put(keys::meta(), meta.encode());
        let inside = part.clone();
        let committed = wait(part.call(async move { inside.commit(batch).await }))?;
        committed.map_err(|error| format!("writing the new store: {error}"))?;
    }
    Ok(copied + u64::from(to.partition_count()))
}

fn wait<R>(task: impl Future<Output = Option<R>>) -> Result<R, String> {
    reshard::wait(task).ok_or_else(|| "an operation ended before its end: see the log".to_string())
}

/// The slot of a key; None for what each partition has of its own.
fn slot_of(key: &[u8]) -> Option<Slot> {
    if let Some((parent, name)) = keys::parse_entry(key) {
        return Some(keys::slot_of_entry(parent, name));
    }
    let inode = keys::parse_chunk(key)
        .map(|(inode, _)| inode)
        .or_else(|| keys::parse_xattr(key).map(|(inode, _)| inode))
        .or_else(|| keys::parse_inode(key))?;
    Some(keys::slot_of_inode(inode))
}
