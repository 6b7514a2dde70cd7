//! From names to inodes, and listing names. Changes nothing but lookup counts.

use super::attributes::InodeRecord;
use super::errno::Errno;
use super::keys::{self, EntryRecord, NAME_BYTES_MAX};
use super::operation::Operation;
use super::state::LockKey;
use super::state::{DirectoryIndex, IndexedName, Part};
use super::types::*;
use super::volume::{Volume, at};
use crate::engine::PartitionId;
use crate::engine::locks::visible;
use std::ops::Bound;
use std::task::Poll;

/// How many names one step of gathering a listing reads.
const GATHER_SLICE: usize = 1024;

impl Volume {
    /// Finds a name; raises the inode's lookup count by one.
    pub async fn lookup(&self, parent: Inode, name: &[u8]) -> Answer<Attributes> {
        Operation::on_name("lookup", parent, name).begins();
        if name.len() > NAME_BYTES_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let here = self.part_of_entry(parent, name).clone();
        let key = LockKey::Entry(parent, name.to_vec());
        loop {
            visible(&here, &key).await;
            let entry = self.entry(&here, parent, name).await?;
            here.settled().await?;
            let Some(entry) = entry else { return Err(Errno::ENOENT) };
            let there = self.part_of_inode(entry.inode).clone();
            let (volume, inside) = (self.clone(), there.clone());
            match at(&here, &there, async move { volume.look_at(&inside, entry.inode, 1).await }).await {
                // Its last name went while we were on the way: the name leads elsewhere now, or nowhere.
                Err(Errno::ESTALE) if self.has_changed(&here, parent, name, entry).await => {}
                // A name without an inode is damage; it must not look like an empty place.
                Err(Errno::ESTALE | Errno::EIO) => {
                    self.explain(entry.inode).await;
                    return match entry.kind {
                        Kind::Directory => Err(Errno::EIO),
                        // The kernel removes only what can be looked up.
                        _ => Ok(InodeRecord::unknown(entry.kind)
                            .attributes(entry.inode, self.inner.chunk_bytes.max(4096))),
                    };
                }
                other => return other,
            }
        }
    }

    async fn has_changed(&self, here: &Part, parent: Inode, name: &[u8], before: EntryRecord) -> bool {
        self.entry(here, parent, name).await.is_ok_and(|entry| entry != Some(before))
    }

    /// What a name leads to, if it is there.
    pub(super) async fn entry(&self, here: &Part, parent: Inode, name: &[u8]) -> Answer<Option<EntryRecord>> {
        match here.get(&keys::entry(parent, name)).await? {
            None => Ok(None),
            Some(bytes) => EntryRecord::decode(&bytes).map(Some).ok_or(Errno::EIO),
        }
    }

    /// At most `count_max` names of a directory behind `position` (0: from the start), in order of positions. `.` and `..` are not among
    /// them. Names that stay are seen once, whatever comes and goes meanwhile. With `attributes`, each comes with its attributes and
    /// a raised lookup count, where the inode is still there.
    pub async fn readdir(
        &self,
        directory: Inode,
        position: u64,
        count_max: usize,
        attributes: bool,
    ) -> Answer<Vec<Entry>> {
        Operation::on("readdir", directory).begins();
        let here = self.part_of_inode(directory).clone();
        let record = self.load(&here, directory).await?;
        if record.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        here.with(|_, state| {
            if let Some(live) = state.live.get_mut(&directory) {
                live.listed = true;
            }
        });
        let first = (position >> POSITION_SHIFT).saturating_sub(1) as usize;
        let mut entries = Vec::new();
        for part in self.inner.store.partitions().iter().skip(first) {
            let left = count_max - entries.len();
            if left == 0 {
                break;
            }
            let (volume, there) = (self.clone(), part.clone());
            let gathered =
                at(&here, part, async move { volume.names_in(&there, directory, position, left).await });
            entries.extend(gathered.await?);
        }
        if attributes {
            self.add_attributes(&here, &mut entries).await?;
        }
        Ok(entries)
    }

    async fn names_in(
        &self,
        part: &Part,
        directory: Inode,
        position: u64,
        count_max: usize,
    ) -> Answer<Vec<Entry>> {
        self.gather(part, directory).await?;
        let entries = part.with(|_, state| {
            let Some(index) = state.indexes.get(&directory) else { return Vec::new() };
            let behind = index.names.range((Bound::Excluded(position), Bound::Unbounded));
            let entry = |(position, named): (&u64, &IndexedName)| Entry {
                position: *position,
                name: named.name.to_vec(),
                inode: named.inode,
                kind: named.kind,
                attributes: None,
            };
            behind.take(count_max).map(entry).collect()
        });
        part.settled().await?;
        Ok(entries)
    }

    /// Sees to it that this partition has a complete index of the directory. What comes and goes meanwhile goes into the index at once; a
    /// position is never used twice, so what was read late can't bring back what has gone.
    async fn gather(&self, part: &Part, directory: Inode) -> Answer<()> {
        let fresh = part.with(|_, state| {
            let fresh = !state.indexes.contains_key(&directory);
            state.indexes.entry(directory).or_insert_with(DirectoryIndex::default);
            fresh
        });
        if !fresh {
            return wait_until_complete(part, directory).await;
        }
        let gathered = self.gather_all(part, directory).await;
        part.with(|_, state| {
            let waiters = match &gathered {
                Ok(()) => state.indexes.get_mut(&directory).map(|index| {
                    index.complete = true;
                    index.removed.clear();
                    std::mem::take(&mut index.waiters)
                }),
                Err(_) => state.indexes.remove(&directory).map(|index| index.waiters),
            };
            for waiter in waiters.into_iter().flatten() {
                waiter.wake();
            }
        });
        gathered
    }

    async fn gather_all(&self, part: &Part, directory: Inode) -> Answer<()> {
        let prefix = keys::entries_of(directory);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let keys = part.with(|core, _| core.list(&prefix, after.as_deref(), GATHER_SLICE));
            let Some(last) = keys.last() else { return Ok(()) };
            after = Some(last.clone());
            let values = part.get_many(&keys).await;
            let mut read = Vec::with_capacity(keys.len());
            for (key, value) in keys.iter().zip(values) {
                // None: it went meanwhile.
                if let Some(bytes) = value? {
                    let record = EntryRecord::decode(&bytes).ok_or(Errno::EIO)?;
                    read.push((key, record));
                }
            }
            part.with(|_, state| {
                let Some(index) = state.indexes.get_mut(&directory) else { return };
                for (key, record) in read {
                    if let Some((_, name)) = keys::parse_entry(key)
                        && !index.removed.contains(&record.position)
                    {
                        let (name, inode, kind) = (name.into(), record.inode, record.kind);
                        index.names.entry(record.position).or_insert(IndexedName { name, inode, kind });
                    }
                }
            });
        }
    }

    /// Attributes and lookup counts for a listing, partition by partition.
    async fn add_attributes(&self, here: &Part, entries: &mut [Entry]) -> Answer<()> {
        for part in self.inner.store.partitions() {
            let id = part.id();
            let wanted: Vec<(usize, Inode)> = entries
                .iter()
                .enumerate()
                .filter(|(_, entry)| self.part_of_inode(entry.inode).id() == id)
                .map(|(index, entry)| (index, entry.inode))
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let (volume, there) = (self.clone(), part.clone());
            let found = at(here, part, async move {
                let mut found = Vec::with_capacity(wanted.len());
                for (index, inode) in wanted {
                    // Gone meanwhile, or damaged: the name is listed, and whoever looks it up is told.
                    if let Ok(attributes) = volume.look_at(&there, inode, 1).await {
                        found.push((index, attributes));
                    }
                }
                Ok(found)
            });
            for (index, attributes) in found.await? {
                entries[index].attributes = Some(attributes);
            }
        }
        Ok(())
    }

    /// The kernel has let go of a directory: nobody is in the middle of listing it, and nothing can be made in it.
    pub(super) fn drop_listings(&self, directory: Inode) {
        for part in self.inner.store.partitions() {
            let inside = part.clone();
            part.submit(async move {
                inside.with(|_, state| {
                    if state.indexes.get(&directory).is_some_and(|index| index.complete) {
                        state.indexes.remove(&directory);
                    }
                    if state.bars.get(&directory).is_some_and(|bar| bar.removed) {
                        state.bars.remove(&directory);
                    }
                });
            })
            .detach();
        }
    }
}

/// A position holds the partition in its high bits.
pub(super) const POSITION_SHIFT: u32 = 48;

/// The position of a name that is new in a partition. From 3 on: 0 to 2 mean the start, `.` and `..`.
pub(super) fn new_position(part: &Part, number: u64) -> u64 {
    position_in(part.id(), number)
}

/// The position of a name in a partition, by a number that no other name there ever had.
pub(super) fn position_in(partition: PartitionId, number: u64) -> u64 {
    (u64::from(partition.0) + 1) << POSITION_SHIFT | number
}

async fn wait_until_complete(part: &Part, directory: Inode) -> Answer<()> {
    std::future::poll_fn(|context| {
        part.with(|_, state| match state.indexes.get_mut(&directory) {
            // Gathering failed for whoever did it.
            None => Poll::Ready(Err(Errno::EIO)),
            Some(index) if index.complete => Poll::Ready(Ok(())),
            Some(index) => {
                index.waiters.push(context.waker().clone());
                Poll::Pending
            }
        })
    })
    .await
}
