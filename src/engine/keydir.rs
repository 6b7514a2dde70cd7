//! The keydir: every key of a partition, in order, with where its newest record lies. Owns keys and stale counts; knows
//! nothing of files.
//!
//! *A tombstone lives as long as what it buries.* Each key carries a stale count: how many dead puts of it still lie in
//! segments. A removed key stays in the keydir, as its tombstone, while that count isn't zero; then the tombstone is garbage
//! itself and both go.

mod key;
mod leaves;
mod row;

pub(crate) use self::key::Key;

use self::leaves::Leaves;
use super::types::SegmentId;

/// Where a record lies, and what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Location {
    pub(crate) segment: SegmentId,
    /// Of the record's first byte in its segment.
    pub(crate) offset: u32,
    pub(crate) value_length: u32,
    pub(crate) tombstone: bool,
}

/// A location and a stale count in 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    segment: u32,
    offset: u32,
    /// Bit 31: tombstone.
    value_length: u32,
    pub(crate) stale: u32,
}

const TOMBSTONE: u32 = 1 << 31;
const _: () = assert!(std::mem::size_of::<Entry>() == 16 && std::mem::size_of::<Key>() == 24);
const _: () = assert!(super::limits::VALUE_BYTES_MAX < TOMBSTONE as usize);

impl Entry {
    pub(crate) fn new(location: Location, stale: u32) -> Self {
        let flag = if location.tombstone { TOMBSTONE } else { 0 };
        Entry {
            segment: location.segment.0,
            offset: location.offset,
            value_length: location.value_length | flag,
            stale,
        }
    }

    pub(crate) fn location(&self) -> Location {
        Location {
            segment: SegmentId(self.segment),
            offset: self.offset,
            value_length: self.value_length & !TOMBSTONE,
            tombstone: self.is_tombstone(),
        }
    }

    pub(crate) fn is_tombstone(&self) -> bool {
        self.value_length & TOMBSTONE != 0
    }
}

/// What a change did to the key's former newest record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Superseded {
    /// The record that is dead now.
    pub(crate) location: Location,
}

/// All keys of a partition.
#[derive(Default)]
pub(crate) struct Keydir {
    leaves: Leaves,
    live_count: usize,
}

impl Keydir {
    /// Builds the keydir from entries sorted by key, each key once: denser and faster than inserting them.
    pub(crate) fn from_sorted(entries: impl Iterator<Item = (Key, Entry)>) -> Self {
        let mut live_count = 0;
        let counted = entries.inspect(|(_, entry)| live_count += usize::from(!entry.is_tombstone()));
        let leaves = Leaves::from_sorted(counted);
        Keydir { leaves, live_count }
    }

    /// All that it knows, in the order of the keys: tombstones that still bury something included.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.leaves.from(b"")
    }

    /// The newest record of a key, tombstones included.
    pub(crate) fn entry(&self, key: &[u8]) -> Option<&Entry> {
        self.leaves.get(key)
    }

    /// Where a key's value lies; None if it has none.
    pub(crate) fn live(&self, key: &[u8]) -> Option<Location> {
        self.leaves.get(key).filter(|entry| !entry.is_tombstone()).map(Entry::location)
    }

    /// Tells of keys that are about to be inserted: for many, this and the insertions are faster than the insertions alone.
    pub(crate) fn expect<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        self.leaves.expect(keys);
    }

    /// Notes a key's new newest record. A tombstone that has nothing to bury isn't kept: its own record is then
    /// garbage at once (`Change::useless`).
    pub(crate) fn insert(&mut self, key: &[u8], location: Location) -> Inserted {
        let mut inserted = Inserted { superseded: None, useless: false };
        self.leaves.upsert(key, |entry| match entry {
            Some(entry) => {
                let before = entry.location();
                inserted.superseded = Some(Superseded { location: before });
                self.live_count += usize::from(before.tombstone);
                self.live_count -= usize::from(location.tombstone);
                Some(Entry::new(location, entry.stale + u32::from(!before.tombstone)))
            }
            None if location.tombstone => {
                inserted.useless = true;
                None
            }
            None => {
                self.live_count += 1;
                Some(Entry::new(location, 0))
            }
        });
        inserted
    }

    /// Compaction moved a record: follows it, if it is still the newest.
    pub(crate) fn relocate(&mut self, key: &[u8], from: Location, to: Location) -> bool {
        match self.leaves.get_mut(key) {
            Some(entry) if entry.location() == from => {
                *entry = Entry::new(to, entry.stale);
                true
            }
            _ => false,
        }
    }

    /// A dead put of the key is gone from the disk for good. Returns the tombstone that has nothing left to bury, if it is
    /// the newest record: the key has then left the keydir.
    pub(crate) fn buried_one_less(&mut self, key: &[u8]) -> Option<Location> {
        let entry = self.leaves.get_mut(key)?;
        debug_assert!(entry.stale > 0, "a dead record that was never counted");
        entry.stale = entry.stale.saturating_sub(1);
        if entry.stale == 0 && entry.is_tombstone() {
            let location = entry.location();
            self.forget(key);
            return Some(location);
        }
        None
    }

    fn forget(&mut self, key: &[u8]) {
        if let Some(entry) = self.leaves.remove(key) {
            self.live_count -= usize::from(!entry.is_tombstone());
        }
    }

    /// Live keys that start with `prefix` and are greater than `after`, in order.
    pub(crate) fn list<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a [u8], Location)> {
        let from = after.filter(|after| *after >= prefix).unwrap_or(prefix);
        self.leaves
            .from(from)
            .skip_while(move |(key, _)| after == Some(*key))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .filter(|(_, entry)| !entry.is_tombstone())
            .map(|(key, entry)| (key, entry.location()))
    }

    /// How many keys it knows, removed ones that still bury something included.
    #[cfg(test)]
    pub(crate) fn entry_count(&self) -> usize {
        self.leaves.from(b"").count()
    }

    /// How many keys have a value.
    pub(crate) fn live_count(&self) -> usize {
        self.live_count
    }

    /// Memory that the keydir takes, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.leaves.memory_bytes()
    }
}

/// What [`Keydir::insert`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Inserted {
    /// The record that was the newest before.
    pub(crate) superseded: Option<Superseded>,
    /// The new record is a tombstone with nothing to bury.
    pub(crate) useless: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(segment: u32, offset: u32) -> Location {
        Location { segment: SegmentId(segment), offset, value_length: 10, tombstone: false }
    }
    fn tombstone(segment: u32, offset: u32) -> Location {
        Location { segment: SegmentId(segment), offset, value_length: 0, tombstone: true }
    }

    #[test]
    fn a_tombstone_lives_as_long_as_what_it_buries() {
        let mut keydir = Keydir::default();
        keydir.insert(b"k", put(1, 0));
        keydir.insert(b"k", put(1, 50));
        keydir.insert(b"k", tombstone(2, 0));
        assert_eq!(keydir.live(b"k"), None);
        assert_eq!(keydir.live_count(), 0);
        assert_eq!(keydir.buried_one_less(b"k"), None);
        assert!(keydir.entry(b"k").is_some(), "one dead put is left");
        assert_eq!(keydir.buried_one_less(b"k"), Some(tombstone(2, 0)));
        assert!(keydir.entry(b"k").is_none());
    }

    #[test]
    fn a_tombstone_with_nothing_to_bury_is_useless_at_once() {
        let mut keydir = Keydir::default();
        assert!(keydir.insert(b"never", tombstone(1, 0)).useless);
        assert!(keydir.entry(b"never").is_none());
    }

    #[test]
    fn lists_by_prefix_in_order_without_tombstones() {
        let mut keydir = Keydir::default();
        for (i, key) in
            ["a", "b1", "b2", "b3-a-name-that-is-longer-than-twenty-two-bytes", "c"].iter().enumerate()
        {
            keydir.insert(key.as_bytes(), put(1, i as u32));
        }
        keydir.insert(b"b2", tombstone(1, 99));
        let listed: Vec<_> = keydir.list(b"b", None).map(|(key, _)| key.to_vec()).collect();
        assert_eq!(listed, [b"b1".to_vec(), b"b3-a-name-that-is-longer-than-twenty-two-bytes".to_vec()]);
        let listed: Vec<_> = keydir.list(b"b", Some(b"b1")).map(|(key, _)| key.to_vec()).collect();
        assert_eq!(listed.len(), 1);
    }

    #[test]
    fn relocation_follows_only_the_newest_record() {
        let mut keydir = Keydir::default();
        keydir.insert(b"k", put(1, 0));
        assert!(keydir.relocate(b"k", put(1, 0), put(7, 64)));
        keydir.insert(b"k", put(2, 0));
        assert!(!keydir.relocate(b"k", put(7, 64), put(8, 64)));
        assert_eq!(keydir.entry(b"k").unwrap().stale, 1);
    }
}
