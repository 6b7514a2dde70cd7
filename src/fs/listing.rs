//! Listing names: in the order of their keys, slice by slice, so that a directory of a million takes no more memory than one of a
//! thousand, and names that come and go meanwhile don't move the others.
//!
//! A caller goes on from the position of the last name that it took. Positions are birth ordinals and say nothing of where a key lies; so the
//! names of the last slices are kept, with their positions, until the kernel lets go of the directory. A position from longer ago is
//! looked for among all names.

use super::errno::Errno;
use super::keys::{self, EntryRecord};
use super::operation::Operation;
use super::state::Part;
use super::types::*;
use super::volume::{Volume, at};
use crate::engine::PartitionId;

/// How many names one step reads at most.
const SLICE: usize = 1024;
/// A position holds the partition in the bits from here on.
const POSITION_SHIFT: u32 = 48;

impl Volume {
    /// At most `count_max` names of a directory behind `position` (0: from the start). `.` and `..` are not among them. Names that stay are
    /// seen once, whatever comes and goes meanwhile; unless the name at `position` has gone and was listed long ago: then names may be seen
    /// once more. With `attributes`, each comes with its attributes and a raised lookup count, where the inode is still there.
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
        for (index, part) in self.inner.store.partitions().iter().enumerate().skip(first) {
            let left = count_max - entries.len();
            if left == 0 {
                break;
            }
            // Within the partition of the position, behind it; in those that follow, from the start.
            let from = if index == first { position } else { 0 };
            let (volume, there) = (self.clone(), part.clone());
            let names =
                at(&here, part, move || async move { volume.names_in(&there, directory, from, left).await });
            entries.extend(names.await?);
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
        let mut after = match position >> POSITION_SHIFT {
            0 => None,
            _ => self.key_at(part, directory, position).await?,
        };
        let mut entries = Vec::new();
        while entries.is_empty() {
            let slice = names_behind(part, directory, after.as_deref(), count_max.min(SLICE)).await?;
            // Empty before the last key: all of them went meanwhile.
            let Some(last) = slice.last else { break };
            after = Some(last);
            entries = slice.entries;
        }
        if !entries.is_empty() {
            part.with(|_, state| state.listings.entry(directory).or_default().remember(&entries));
        }
        part.settled().await?;
        Ok(entries)
    }

    /// The key of the name at a position; None, for the start, if that can't be found.
    async fn key_at(&self, part: &Part, directory: Inode, position: u64) -> Answer<Option<Vec<u8>>> {
        let remembered = part.with(|_, state| {
            state.listings.get(&directory)?.name_at(position).map(|name| keys::entry(directory, name))
        });
        if remembered.is_some() {
            return Ok(remembered);
        }
        let mut after = None;
        loop {
            let slice = names_behind(part, directory, after.as_deref(), SLICE).await?;
            if let Some(found) = slice.entries.iter().find(|entry| entry.position == position) {
                return Ok(Some(keys::entry(directory, &found.name)));
            }
            match slice.last {
                Some(last) => after = Some(last),
                None => return Ok(None),
            }
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
            let found = at(here, part, move || async move {
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
                    state.listings.remove(&directory);
                    if state.bars.get(&directory).is_some_and(|bar| bar.removed) {
                        state.bars.remove(&directory);
                    }
                });
            })
            .detach();
        }
    }
}

/// Names that follow each other.
struct Slice {
    entries: Vec<Entry>,
    /// The last key that was looked at; None if there was none.
    last: Option<Vec<u8>>,
}

async fn names_behind(
    part: &Part,
    directory: Inode,
    after: Option<&[u8]>,
    count_max: usize,
) -> Answer<Slice> {
    let keys = part.with(|core, _| core.list(&keys::entries_of(directory), after, count_max));
    let mut entries = Vec::with_capacity(keys.len());
    for (key, value) in keys.iter().zip(part.get_many(&keys).await) {
        // None: it went meanwhile.
        let (Some(bytes), Some((_, name))) = (value?, keys::parse_entry(key)) else { continue };
        let EntryRecord { inode, kind, position, .. } = EntryRecord::decode(&bytes).ok_or(Errno::EIO)?;
        entries.push(Entry { position, name: name.to_vec(), inode, kind, attributes: None });
    }
    Ok(Slice { entries, last: keys.last().cloned() })
}

/// The position of a name that is new in a partition. From 3 on: 0 to 2 mean the start, `.` and `..`.
pub(super) fn new_position(part: &Part, number: u64) -> u64 {
    position_in(part.id(), number)
}

/// The position of a name in a partition, by a number that no other name there ever had.
pub(super) fn position_in(partition: PartitionId, number: u64) -> u64 {
    (u64::from(partition.0) + 1) << POSITION_SHIFT | number
}
