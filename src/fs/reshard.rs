//! Dealing a filesystem's records out to another number of partitions: where each key belongs, and what each partition says of itself.

use super::keys::{self, EntryRecord, MetaRecord};
use super::listing::position_in;
use super::volume::Volume;
use crate::engine::{Batch, PartitionId, Slot, Store, reshard};
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
    let mut dealer = Dealer::new(counter_end(volume)?);
    let copied =
        reshard::copy(volume.store(), to, |key, value| dealer.deal(|slot| to.route(slot), key, value), told)?;
    Ok(copied + dealer.finish(to)?)
}

/// The end of the numbers that any partition has reserved.
///
/// # Errors
/// If a partition's own record can't be read.
pub(super) fn counter_end(volume: &Volume) -> Result<u64, String> {
    let mut counter_end = 0;
    for part in volume.store().partitions() {
        let inside = part.clone();
        let read = part.call(async move { inside.get(&keys::meta()).await });
        let bytes =
            wait(read)?.map_err(|error| format!("a partition's own record can't be read: {error}"))?;
        let meta = bytes.map(|bytes| MetaRecord::decode(&bytes).ok_or("a partition's own record is unknown"));
        counter_end = counter_end.max(meta.transpose()?.unwrap_or_default().counter_end);
    }
    Ok(counter_end)
}

/// Deals records out to the partitions of another store.
pub(super) struct Dealer {
    /// Names that come together from several partitions may have had the same number there: each gets a fresh one.
    number: u64,
}

impl Dealer {
    /// `counter_end`: no number from here on was ever given out.
    pub(super) fn new(counter_end: u64) -> Self {
        Dealer { number: counter_end }
    }

    /// The slot of a record, whose value may change; None for what each partition has of its own.
    ///
    /// # Errors
    /// If the value isn't what its key says.
    pub(super) fn deal(
        &mut self,
        route: impl Fn(Slot) -> PartitionId,
        key: &[u8],
        value: &mut Vec<u8>,
    ) -> Result<Option<Slot>, String> {
        let Some(slot) = slot_of(key) else { return Ok(None) };
        if keys::parse_entry(key).is_some() {
            let mut entry = EntryRecord::decode(value).ok_or("a name's record is unknown")?;
            entry.position = position_in(route(slot), self.number);
            self.number += 1;
            *value = entry.encode();
        }
        Ok(Some(slot))
    }

    /// Everything is dealt: writes what each partition has of its own; returns how many records that are.
    ///
    /// # Errors
    /// If that can't be written.
    pub(super) fn finish<T: Send + 'static>(self, to: &Store<T>) -> Result<u64, String> {
        // Times of directories are in their records: none has to be looked for among the entries.
        let meta = MetaRecord { counter_end: self.number, absorbed: to.settled_number() };
        for part in to.partitions() {
            let mut batch = Batch::new();
            batch.put(keys::meta(), meta.encode());
            let inside = part.clone();
            let committed = wait(part.call(async move { inside.commit(batch).await }))?;
            committed.map_err(|error| format!("writing the new store: {error}"))?;
        }
        Ok(u64::from(to.partition_count()))
    }
}

pub(super) fn wait<R>(task: impl Future<Output = Option<R>>) -> Result<R, String> {
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
