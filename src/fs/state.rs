//! What a partition keeps in memory for the filesystem. Plain data, reached only inside the partition's turn.

use super::attributes::InodeRecord;
use super::keys;
use super::types::{Entry, Inode, Time};
use crate::engine::locks::{self, HasLocks, Locks};
use crate::engine::{Number, Partition};
use foldhash::HashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::Waker;

/// A partition as the filesystem uses it.
pub(super) type Part = Partition<VolumeState>;

/// What a lock is on. Names come before inodes in the order that all keep, then partitions, then keys.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum LockKey {
    /// A name in a directory.
    Entry(Inode, Vec<u8>),
    /// An inode.
    Inode(Inode),
}

/// A lock that is held.
pub(super) type Guard = locks::Guard<LockKey, VolumeState>;

impl HasLocks<LockKey> for VolumeState {
    fn locks(&mut self) -> &mut Locks<LockKey> {
        &mut self.locks
    }
}

/// What one partition keeps for the filesystem, inside its turn.
#[derive(Default)]
pub struct VolumeState {
    /// Inodes in use: looked up by the kernel, or with something unsaved.
    pub(super) live: HashMap<Inode, Live>,
    pub(super) locks: Locks<LockKey>,
    /// Directories in which nothing may be made at the moment, or ever again.
    pub(super) bars: HashMap<Inode, Bar>,
    /// Names that are about to be made in a directory by operations that have passed its bar.
    pub(super) intents: HashMap<Inode, u32>,
    /// Directories that are being listed.
    pub(super) listings: HashMap<Inode, Listing>,
    pub(super) counter: Counter,
    /// Inodes living here whose times aren't in their records yet.
    pub(super) dirty: BTreeSet<Inode>,
    /// Times of inodes that aren't in memory: from messages, or found in entries by opening. They go into the inode when it is
    /// loaded, so whoever looks at it sees them.
    pub(super) owed_times: BTreeMap<Inode, Time>,
    /// What the partition's own record says about that.
    pub(super) absorbed: Number,
    /// Inodes without a name that nobody holds, about to be removed.
    pub(super) departed: BTreeSet<Inode>,
}

/// A table of inodes that has room for no more than so many keeps it.
const ROOM_KEPT: usize = 1024;

impl VolumeState {
    /// An inode isn't in use any more. The room of very many that were gives way to that of few.
    pub(super) fn let_go(&mut self, inode: Inode) {
        self.live.remove(&inode);
        if self.live.capacity() > ROOM_KEPT && self.live.len() < self.live.capacity() / 8 {
            self.live.shrink_to(self.live.len() * 2);
        }
    }
}

/// An inode in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) record: InodeRecord,
    /// How often the kernel has looked it up and not forgotten it.
    pub(super) lookups: u64,
    /// It has no name left, or none yet.
    pub(super) orphan: bool,
    /// It has never had a name, and may be given one.
    pub(super) unborn: bool,
    /// Partitions may hold listings or bars for it.
    pub(super) listed: bool,
}

/// A directory in which nothing may be made.
#[derive(Default)]
pub(super) struct Bar {
    /// It is gone for good.
    pub(super) removed: bool,
    pub(super) waiters: Vec<Waker>,
}

/// How many slices of a directory are remembered: as many readers of one large directory go on without a search.
const SLICES_KEPT: usize = 16;

/// The slices of a directory that were listed last in a partition.
#[derive(Default)]
pub(super) struct Listing {
    slices: VecDeque<Vec<(u64, Box<[u8]>)>>,
}

impl Listing {
    pub(super) fn remember(&mut self, entries: &[Entry]) {
        self.slices.truncate(SLICES_KEPT - 1);
        self.slices.push_front(entries.iter().map(|entry| (entry.position, entry.name[..].into())).collect());
    }

    pub(super) fn name_at(&self, position: u64) -> Option<&[u8]> {
        let mut names = self.slices.iter().flatten();
        names.find(|(at, _)| *at == position).map(|(_, name)| &**name)
    }
}

/// Where new numbers come from.
#[derive(Default)]
pub(super) struct Counter {
    pub(super) next: u64,
    /// Durably reserved up to here.
    pub(super) end: u64,
    /// What the partition's record says; ahead of `end` while that isn't durable yet, and never to be taken back.
    pub(super) promised: u64,
    pub(super) reserving: bool,
    pub(super) failure: Option<super::errno::Errno>,
    pub(super) waiters: Vec<Waker>,
}

impl VolumeState {
    /// A name in a directory has changed, or the name of a file.
    pub(super) fn owe_time(&mut self, inode: Inode, time: Time) {
        let owed = if self.owed_times.is_empty() { None } else { self.owed_times.remove(&inode) };
        let time = owed.map_or(time, |owed| owed.max(time));
        if !self.change_time(inode, time) {
            self.owed_times.insert(inode, time);
        }
    }

    /// When files have changed, as far as their records may not know of it yet.
    pub(super) fn unwritten_times(&self) -> impl Iterator<Item = (Inode, Time)> {
        let owed = self.owed_times.iter().map(|(inode, time)| (*inode, *time));
        let dirty =
            self.dirty.iter().filter_map(|inode| Some((*inode, self.live.get(inode)?.record.changed)));
        owed.chain(dirty).filter(|(inode, _)| !keys::is_directory(*inode))
    }

    /// What an inode is owed goes into its attributes, if they are in memory.
    pub(super) fn take_over_time(&mut self, inode: Inode) {
        if !self.owed_times.is_empty()
            && let Some(time) = self.owed_times.get(&inode).copied()
            && self.change_time(inode, time)
        {
            self.owed_times.remove(&inode);
        }
    }

    /// False if its attributes aren't in memory.
    fn change_time(&mut self, inode: Inode, time: Time) -> bool {
        let Some(live) = self.live.get_mut(&inode) else { return false };
        match keys::is_directory(inode) {
            true => live.record.name_changed_at(time),
            // Its name has been what it is since before the record was written.
            false if time <= live.record.changed => return true,
            false => live.record.changed = time,
        }
        self.dirty.insert(inode);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::types::Kind;

    #[test]
    fn the_room_of_many_inodes_is_given_up() {
        let mut state = VolumeState::default();
        let record = InodeRecord::unknown(Kind::File);
        let live = Live { record, lookups: 0, orphan: false, unborn: false, listed: false };
        let inodes = || (0..100_000).map(Inode);
        state.live.extend(inodes().map(|inode| (inode, live)));
        inodes().skip(1000).for_each(|inode| state.let_go(inode));
        assert_eq!(state.live.len(), 1000);
        assert!(state.live.capacity() < 16_000, "{}", state.live.capacity());
    }

    #[test]
    fn the_last_slices_are_remembered_and_no_more() {
        let mut listing = Listing::default();
        let slice = |number: u64| {
            let entry = |position: u64| Entry {
                position,
                name: format!("name {position}").into_bytes(),
                inode: Inode(9),
                kind: Kind::File,
                attributes: None,
            };
            [entry(number * 2), entry(number * 2 + 1)]
        };
        for number in 0..40 {
            listing.remember(&slice(number));
        }
        assert_eq!(listing.slices.len(), SLICES_KEPT);
        assert_eq!(listing.name_at(79), Some(&b"name 79"[..]));
        assert_eq!(listing.name_at(48), Some(&b"name 48"[..]));
        assert_eq!(listing.name_at(47), None);
    }
}
