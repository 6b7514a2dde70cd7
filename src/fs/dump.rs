//! All of a filesystem as a stream, and a store out of such a stream. The format is in docs/DUMP.md; `format` has its bytes.

mod format;

pub use format::Header;

use super::attributes::InodeRecord;
use super::keys;
use super::reshard::{Dealer, counter_end, wait};
use super::types::{Inode, Time};
use super::volume::{CHUNK_BYTES_RANGE, CHUNK_OPTION, Volume};
use crate::engine::types::PartitionId;
use crate::engine::{Config, Number, Store, World, reshard};
use format::{Reader, Writer};
use std::collections::BTreeMap;
use std::io::{Read, Write};

/// Writes everything; returns how many records that are. Nobody may use the volume meanwhile. `told` hears how many were written and how many bytes they
/// have, now and then. Waits for the disk; memory is constant.
///
/// # Errors
/// One line that says why not everything could be read or written.
pub fn dump(volume: &Volume, to: impl Write, mut told: impl FnMut(u64, u64)) -> Result<u64, String> {
    let store = volume.store();
    let header = Header {
        chunk_bytes: volume.chunk_bytes(),
        counter_end: counter_end(volume)?,
        store: store.id(),
        made_ns: store.clock().wall_ns(),
        partitions: store.partition_count(),
    };
    let unwritten = |error| format!("writing the dump: {error}");
    let mut writer = Writer::new(to, &header).map_err(unwritten)?;
    let (mut records, mut bytes) = (0, 0);
    let unwritten_times = unwritten_times(volume)?;
    reshard::each(store, |partition, slice| {
        for (key, value) in slice {
            if key == keys::meta() {
                continue;
            }
            let value = match keys::parse_inode(&key) {
                Some(inode) if key[0] == b'I' && keys::is_directory(inode) => {
                    shown(volume, partition, inode)?
                }
                Some(inode) if key[0] == b'I' => match unwritten_times.get(&inode) {
                    Some(time) => changed_at(value, *time),
                    None => value,
                },
                _ => value,
            };
            writer.put(&key, &value).map_err(unwritten)?;
            records += 1;
            bytes += (key.len() + value.len()) as u64;
        }
        told(records, bytes);
        Ok(())
    })?;
    writer.finish().map_err(unwritten)
}

/// When files were renamed whose records may not know of it yet.
fn unwritten_times(volume: &Volume) -> Result<BTreeMap<Inode, Time>, String> {
    let mut all = BTreeMap::new();
    for part in volume.store().partitions() {
        let inside = part.clone();
        let look = async move { inside.with(|_, state| state.unwritten_times().collect::<Vec<_>>()) };
        all.extend(wait(part.call(look))?);
    }
    Ok(all)
}

/// A file's record, not changed before `time`.
fn changed_at(value: Vec<u8>, time: Time) -> Vec<u8> {
    match InodeRecord::decode(&value) {
        Some((record, content)) => {
            InodeRecord { changed: record.changed.max(time), ..record }.encode(content)
        }
        None => value,
    }
}

/// A directory's record, with the times that it shows: the record itself may not know yet of the last changes in it.
fn shown(volume: &Volume, partition: PartitionId, directory: Inode) -> Result<Vec<u8>, String> {
    let part = volume.store().partition(partition);
    let (inside, volume) = (part.clone(), volume.clone());
    let loaded = wait(part.call(async move { volume.load(&inside, directory).await }))?;
    let record = loaded.map_err(|_| format!("the record of directory {} can't be read", directory.0))?;
    // The numbers of the store that this is loaded into are others.
    Ok(InodeRecord { overruled: Number::ZERO, ..record }.encode(&[]))
}

/// Makes a new store out of a dump, in a directory that is empty, and closes it, durable; returns how many records were read. `told` hears how many, now and
/// then. Waits for the disk; memory is that of a store of this size.
///
/// # Errors
/// One line that says why. What was made until then isn't to be used.
pub fn load(from: impl Read, world: World, config: Config, mut told: impl FnMut(u64)) -> Result<u64, String> {
    let (mut reader, header) = Reader::new(from)?;
    if !header.chunk_bytes.is_power_of_two() || !CHUNK_BYTES_RANGE.contains(&header.chunk_bytes) {
        return Err(format!("the dump has chunks of {} bytes, which can't be", header.chunk_bytes));
    }
    let config = Config {
        create: true,
        partitions: Some(config.partitions.unwrap_or(header.partitions)),
        options: vec![(CHUNK_OPTION.to_string(), header.chunk_bytes.to_string())],
        ..config
    };
    let store = Store::<()>::open(world, config, |_| Ok(())).map_err(|error| error.to_string())?;
    let filled = fill(&store, &mut reader, header.counter_end, &mut told);
    let closed = store.close().map_err(|error| format!("making the new store durable: {error}"));
    let records = filled?;
    closed?;
    Ok(records)
}

fn fill(
    store: &Store<()>,
    reader: &mut Reader<impl Read>,
    counter_end: u64,
    told: &mut impl FnMut(u64),
) -> Result<u64, String> {
    let mut dealer = Dealer::new(counter_end);
    let mut records = 0;
    while let Some(block) = reader.next()? {
        let mut dealt = Vec::with_capacity(block.len());
        for (key, mut value) in block {
            let slot = dealer.deal(|slot| store.route(slot), &key, &mut value)?;
            dealt.push((slot.ok_or("the dump has a record of no known kind")?, key, value));
        }
        records += dealt.len() as u64;
        reshard::put_all(store, dealt.into_iter())?;
        told(records);
    }
    dealer.finish(store)?;
    Ok(records)
}
