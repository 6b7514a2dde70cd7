//! An ordered map of keys for which looking one up costs few cache misses, since that is what a get from memory costs most: leaves of up to 64 keys
//! each in rows of up to 128, and the rows in a row of their own. A leaf has a byte of each key's hash beside each other, so that a look at one
//! line of memory says where in the leaf a key is. Inside of a leaf keys are in no order: a new one goes to the end, without a search for its
//! place and without moving others. Who lists them puts a leaf's keys in order, unless they came in order.
//!
//! The row of rows has no bound: 100 million keys make it 20,000 long, and moving half of it once in 4,096 insertions costs less than those.
//!
//! Owns order and memory; knows nothing of what an entry means.

use super::Entry;
use super::key::{Key, heap_block_bytes};
use super::row::Row;

/// The most keys of a leaf.
const LEAF_KEYS_MAX: usize = 64;
/// A leaf with fewer keys joins its neighbour, if both fit.
const LEAF_KEYS_MIN: usize = 16;
/// Two leaves become one if they have no more keys together: it shouldn't be split again at once.
const JOINED_KEYS_MAX: usize = 48;
/// How many keys a leaf made from sorted ones gets: some room is left.
const BUILT_KEYS: usize = 56;
/// The most leaves of a row.
const ROW_LEAVES_MAX: usize = 128;
/// A row with fewer leaves joins its neighbour, if both fit.
const ROW_LEAVES_MIN: usize = 32;
/// Two rows become one if they have no more leaves together.
const JOINED_LEAVES_MAX: usize = 96;
/// How many leaves a row made from sorted keys gets.
const BUILT_LEAVES: usize = 112;
/// A leaf that loses keys gives its memory back when it has so much more room than keys, and keeps half of that. (One that gains keys has room for all
/// that it can ever have: growing it in steps, each with a call of the allocator and mostly a copy, took a ninth of what a batch takes.)
const SPARE_KEYS_MAX: usize = 32;

/// Of how many keys at once the leaves are brought near: more would push each other out again.
const EXPECTED_KEYS_MAX: usize = 256;

type Pair = (Key, Entry);

struct Leaf {
    /// One byte of each key's hash, in the order of the pairs.
    tags: [u8; LEAF_KEYS_MAX],
    pairs: Vec<Pair>,
    /// Whether the pairs are known to be in the order of their keys.
    is_sorted: bool,
}

/// All keys, in order.
pub(super) struct Leaves {
    rows: Row<Row<Box<Leaf>>>,
    count: usize,
    /// Of long keys, and of the leaves' own blocks.
    heap_bytes: usize,
}

impl Default for Leaves {
    fn default() -> Self {
        Self::from_sorted(std::iter::empty())
    }
}

fn tag(key: &[u8]) -> u8 {
    (xxhash_rust::xxh3::xxh3_64(key) >> 56) as u8
}

impl Leaf {
    fn new(pairs: Vec<Pair>, is_sorted: bool) -> Box<Self> {
        let mut leaf = Box::new(Leaf { tags: [0; LEAF_KEYS_MAX], pairs, is_sorted });
        leaf.tag_all();
        leaf
    }

    fn tag_all(&mut self) {
        for (slot, (key, _)) in self.tags.iter_mut().zip(&self.pairs) {
            *slot = tag(key.as_slice());
        }
    }

    /// Where the key is.
    fn position(&self, key: &[u8], tag: u8) -> Option<usize> {
        const ONES: u64 = 0x0101_0101_0101_0101;
        let count = self.pairs.len();
        for (index, word) in self.tags[..count.next_multiple_of(8)].chunks_exact(8).enumerate() {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            // Bytes that are equal become zero; the trick that finds zero bytes may find one too many above a true one, which the
            // keys themselves tell apart.
            let different = u64::from_le_bytes(bytes) ^ (ONES * u64::from(tag));
            let mut found = different.wrapping_sub(ONES) & !different & (ONES << 7);
            while found != 0 {
                let position = index * 8 + (found.trailing_zeros() / 8) as usize;
                if self.pairs.get(position).is_some_and(|(known, _)| known.as_slice() == key) {
                    return Some(position);
                }
                found &= found - 1;
            }
        }
        None
    }

    fn heap_bytes(&self) -> usize {
        heap_block_bytes(size_of::<Leaf>()) + heap_block_bytes(self.pairs.capacity() * size_of::<Pair>())
    }

    /// There must be room for one more.
    fn push(&mut self, pair: Pair, tag: u8) {
        if self.pairs.len() == self.pairs.capacity() {
            self.pairs.reserve_exact(LEAF_KEYS_MAX - self.pairs.len());
        }
        self.is_sorted = self.is_sorted && self.pairs.last().is_none_or(|(last, _)| *last < pair.0);
        self.tags[self.pairs.len()] = tag;
        self.pairs.push(pair);
    }

    fn remove(&mut self, position: usize) -> Pair {
        let last = self.pairs.len() - 1;
        self.is_sorted &= position == last;
        self.tags[position] = self.tags[last];
        let pair = self.pairs.swap_remove(position);
        if self.pairs.capacity() > self.pairs.len() + SPARE_KEYS_MAX {
            self.pairs.shrink_to(self.pairs.len() + SPARE_KEYS_MAX / 2);
        }
        pair
    }

    /// Keeps the lesser half of the pairs, and gives up the greater one, the least of which is the first.
    fn split(&mut self) -> Vec<Pair> {
        let middle = self.pairs.len() / 2;
        if !self.is_sorted {
            self.pairs.select_nth_unstable_by(middle, |(a, _), (b, _)| a.cmp(b));
        }
        let mut upper = Vec::with_capacity(LEAF_KEYS_MAX);
        upper.extend(self.pairs.drain(middle..));
        self.tag_all();
        upper
    }

    /// The pairs in the order of their keys.
    fn in_order(&self) -> impl Iterator<Item = &Pair> {
        let mut order: [u8; LEAF_KEYS_MAX] = std::array::from_fn(|index| index as u8);
        let order_used = &mut order[..self.pairs.len()];
        if !self.is_sorted {
            let key = |index: u8| &self.pairs[index as usize].0;
            order_used.sort_unstable_by(|a, b| key(*a).cmp(key(*b)));
        }
        order.into_iter().take(self.pairs.len()).map(|index| &self.pairs[index as usize])
    }
}

impl Leaves {
    /// From pairs sorted by key, each key once: denser and faster than inserting them.
    pub(super) fn from_sorted(mut sorted: impl Iterator<Item = Pair>) -> Self {
        let mut leaves = Leaves { rows: Row::with_capacity(1), count: 0, heap_bytes: 0 };
        let mut row = Row::with_capacity(ROW_LEAVES_MAX);
        loop {
            let mut pairs = Vec::with_capacity(BUILT_KEYS);
            pairs.extend(sorted.by_ref().take(BUILT_KEYS));
            if (pairs.is_empty() && row.count() > 0) || row.count() == BUILT_LEAVES {
                let full = std::mem::replace(&mut row, Row::with_capacity(ROW_LEAVES_MAX));
                leaves.rows.push(full.fence(0).clone(), full);
            }
            if pairs.is_empty() && leaves.rows.count() > 0 {
                return leaves;
            }
            pairs.shrink_to_fit();
            leaves.count += pairs.len();
            leaves.heap_bytes += pairs.iter().map(|(key, _)| key.heap_bytes()).sum::<usize>();
            let least = pairs.first().map_or(Key::new(b""), |(key, _)| key.clone());
            let leaf = Leaf::new(pairs, true);
            leaves.heap_bytes += leaf.heap_bytes() + least.heap_bytes();
            row.push(least, leaf);
        }
    }

    /// The row and the place in it of the leaf that a key is in, if it is in any.
    fn position(&self, key: &[u8]) -> (usize, usize) {
        let row = self.rows.position(key);
        (row, self.rows.children()[row].position(key))
    }

    fn leaf(&self, key: &[u8]) -> &Leaf {
        let (row, place) = self.position(key);
        &self.rows.children()[row].children()[place]
    }

    fn leaf_mut(&mut self, key: &[u8]) -> &mut Leaf {
        let (row, place) = self.position(key);
        self.rows.child_mut(row).child_mut(place)
    }

    /// Has what looking for each of the keys reads first brought near, for all of them at once: one after the other each look would wait for the memory.
    pub(super) fn expect<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        let leaves: Vec<&Leaf> = keys.take(EXPECTED_KEYS_MAX).map(|key| self.leaf(key)).collect();
        let mut seen = 0;
        for leaf in &leaves {
            seen ^= usize::from(leaf.tags[0]) ^ leaf.pairs.len();
        }
        for leaf in leaves {
            seen ^= leaf.pairs.last().map_or(0, |(_, entry)| entry.stale as usize);
        }
        std::hint::black_box(seen);
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        let leaf = self.leaf(key);
        leaf.position(key, tag(key)).map(|position| &leaf.pairs[position].1)
    }

    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Entry> {
        let leaf = self.leaf_mut(key);
        leaf.position(key, tag(key)).map(|position| &mut leaf.pairs[position].1)
    }

    /// Gives a key its entry: `change` makes it from the one that it has. None from it: the key isn't taken in, or stays as it is.
    pub(super) fn upsert(&mut self, key: &[u8], change: impl FnOnce(Option<&Entry>) -> Option<Entry>) {
        let tag = tag(key);
        let (row, place) = self.position(key);
        let leaf = self.rows.child_mut(row).child_mut(place);
        if let Some(position) = leaf.position(key, tag) {
            let entry = &mut leaf.pairs[position].1;
            *entry = change(Some(entry)).unwrap_or(*entry);
            return;
        }
        let Some(entry) = change(None) else { return };
        let pair = (Key::new(key), entry);
        let added_bytes = pair.0.heap_bytes();
        let before_bytes = leaf.heap_bytes();
        let mut next = None;
        if leaf.pairs.len() < LEAF_KEYS_MAX {
            leaf.push(pair, tag);
        } else if leaf.is_sorted && leaf.pairs.last().is_some_and(|(last, _)| *last < pair.0) {
            // Keys that come in order fill their leaves.
            next = Some(Leaf::new(vec![pair], true));
        } else {
            let is_sorted = leaf.is_sorted;
            let mut upper = Leaf::new(leaf.split(), is_sorted);
            let half = if pair.0 < upper.pairs[0].0 { &mut *leaf } else { &mut *upper };
            half.push(pair, tag);
            next = Some(upper);
        }
        let after_bytes = leaf.heap_bytes();
        self.count += 1;
        self.heap_bytes = self.heap_bytes + added_bytes + after_bytes - before_bytes;
        if let Some(leaf) = next {
            self.insert_leaf(row, place + 1, leaf);
        }
    }

    /// What was split off begins with its least key.
    fn insert_leaf(&mut self, row: usize, place: usize, leaf: Box<Leaf>) {
        let least = leaf.pairs[0].0.clone();
        self.heap_bytes += leaf.heap_bytes() + least.heap_bytes();
        let leaves = self.rows.child_mut(row);
        leaves.insert(place, least, leaf);
        if leaves.count() == ROW_LEAVES_MAX {
            // Keys that come in order fill their rows.
            let is_at_end = place + 1 == ROW_LEAVES_MAX;
            let upper = leaves.split(if is_at_end { place } else { ROW_LEAVES_MAX / 2 });
            self.rows.insert(row + 1, upper.fence(0).clone(), upper);
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let (row, place) = self.position(key);
        let leaf = self.rows.child_mut(row).child_mut(place);
        let position = leaf.position(key, tag(key))?;
        let before_bytes = leaf.heap_bytes();
        let (key, entry) = leaf.remove(position);
        let (after_bytes, is_small) = (leaf.heap_bytes(), leaf.pairs.len() < LEAF_KEYS_MIN);
        self.count -= 1;
        self.heap_bytes = self.heap_bytes + after_bytes - before_bytes - key.heap_bytes();
        if is_small {
            self.join_leaves(row, place);
        }
        Some(entry)
    }

    /// A leaf and the one behind it in its row (or, of the last, the one before) become one, if they are small enough together.
    fn join_leaves(&mut self, row: usize, place: usize) {
        let leaves = self.rows.child_mut(row);
        let Some(first) = first_of_two(place, leaves.count()) else { return };
        let keys = |place: usize| leaves.children()[place].pairs.len();
        if keys(first) + keys(first + 1) > JOINED_KEYS_MAX {
            return;
        }
        let (least, mut behind) = leaves.remove(first + 1);
        let gone_bytes = behind.heap_bytes() + least.heap_bytes();
        let leaf = leaves.child_mut(first);
        let (before_bytes, count) = (leaf.heap_bytes(), leaf.pairs.len());
        let all_count = count + behind.pairs.len();
        leaf.tags[count..all_count].copy_from_slice(&behind.tags[..all_count - count]);
        leaf.pairs.reserve_exact(behind.pairs.len());
        leaf.pairs.append(&mut behind.pairs);
        leaf.is_sorted &= behind.is_sorted;
        let after_bytes = leaf.heap_bytes();
        self.heap_bytes = self.heap_bytes + after_bytes - before_bytes - gone_bytes;
        if leaves.count() < ROW_LEAVES_MIN {
            self.join_rows(row);
        }
    }

    /// The same for rows.
    fn join_rows(&mut self, row: usize) {
        let Some(first) = first_of_two(row, self.rows.count()) else { return };
        let leaves = |row: usize| self.rows.children()[row].count();
        if leaves(first) + leaves(first + 1) <= JOINED_LEAVES_MAX {
            let (_, behind) = self.rows.remove(first + 1);
            self.rows.child_mut(first).append(behind);
        }
    }

    /// The pairs from a key on, in order.
    pub(super) fn from<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a Entry)> {
        let (row, place) = self.position(key);
        let rows = &self.rows.children()[row..];
        let (first, further) = (&rows[0].children()[place..], &rows[1..]);
        let leaves = first.iter().chain(further.iter().flat_map(|row| row.children()));
        let pairs = leaves.flat_map(|leaf| leaf.in_order());
        // Only the first leaf has some that are less.
        pairs.map(|(known, entry)| (known.as_slice(), entry)).skip_while(move |(known, _)| *known < key)
    }

    /// Memory that all of it takes, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let row_bytes = ROW_LEAVES_MAX * Row::<Box<Leaf>>::CHILD_BYTES;
        let rows_bytes = self.rows.capacity() * Row::<Row<Box<Leaf>>>::CHILD_BYTES;
        self.heap_bytes + self.rows.count() * row_bytes + rows_bytes
    }

    #[cfg(test)]
    fn check(&self) {
        let (mut heap_bytes, mut count) = (0, 0);
        let mut last: Option<&Key> = None;
        self.rows.check();
        let rows = self.rows.children();
        rows.iter().for_each(Row::check);
        let leaves = rows
            .iter()
            .flat_map(|row| (0..row.count()).map(|place| (row.fence(place), &row.children()[place])));
        let leaves: Vec<_> = leaves.collect();
        for (index, (least, leaf)) in leaves.iter().enumerate() {
            heap_bytes += leaf.heap_bytes() + least.heap_bytes();
            count += leaf.pairs.len();
            assert!(leaf.pairs.len() <= LEAF_KEYS_MAX);
            assert!(!leaf.is_sorted || leaf.pairs.is_sorted_by(|(a, _), (b, _)| a < b));
            assert!(leaf.pairs.iter().zip(leaf.tags).all(|((key, _), found)| found == tag(key.as_slice())));
            for (key, _) in leaf.in_order() {
                assert!(last.is_none_or(|last| last < key) && (index == 0 || key >= least));
                assert!(leaves.get(index + 1).is_none_or(|(next, _)| key < next));
                heap_bytes += key.heap_bytes();
                last = Some(key);
            }
        }
        assert!(rows.iter().all(|row| (1..ROW_LEAVES_MAX).contains(&row.count())));
        assert_eq!((count, heap_bytes), (self.count, self.heap_bytes));
    }
}

/// Of two neighbours one of which is at `index`, the first.
fn first_of_two(index: usize, count: usize) -> Option<usize> {
    Some(index.min(count.checked_sub(2)?))
}

#[cfg(test)]
mod tests {
    use super::super::Location;
    use super::*;
    use crate::engine::disk::sim::Dice;
    use crate::engine::types::SegmentId;
    use std::collections::BTreeMap;

    fn entry(offset: u32) -> Entry {
        Entry::new(Location { segment: SegmentId(1), offset, value_length: 1, tombstone: false }, 0)
    }

    fn random_key(dice: &mut Dice, keys: u64) -> Vec<u8> {
        let index = dice.below(keys);
        let mut key = format!("{:x}", index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes();
        key.resize(key.len() + (index % 9) as usize, 0);
        key
    }

    /// Against the standard library's map, with more and with fewer keys by turns.
    #[test]
    fn it_is_an_ordered_map() {
        for seed in 0..20 {
            let mut dice = Dice::new(seed);
            let (mut leaves, mut model) = (Leaves::default(), BTreeMap::new());
            let keys = dice.between(1, 3000);
            for phase in 0..6 {
                let remove_percent = [10, 80, 30, 95, 5, 60][phase];
                for step in 0..2000 {
                    let key = random_key(&mut dice, keys);
                    if dice.percent(remove_percent) {
                        assert_eq!(leaves.remove(&key), model.remove(&key));
                    } else {
                        leaves.upsert(&key, |_| Some(entry(step)));
                        model.insert(key, entry(step));
                    }
                }
                leaves.check();
                assert_eq!(leaves.count, model.len());
                for _ in 0..200 {
                    let key = random_key(&mut dice, keys);
                    assert_eq!(leaves.get(&key), model.get(&key));
                    let listed = leaves.from(&key).take(100).map(|(key, entry)| (key.to_vec(), *entry));
                    let expected =
                        model.range(key.clone()..).take(100).map(|(key, entry)| (key.clone(), *entry));
                    assert!(listed.eq(expected));
                }
                let sorted = model.iter().map(|(key, entry)| (Key::new(key), *entry));
                leaves = if dice.percent(50) { Leaves::from_sorted(sorted) } else { leaves };
                leaves.check();
            }
        }
    }

    /// Rows are split while keys come, and join while they go.
    #[test]
    fn many_keys_come_and_go() {
        let key =
            |index: u64| format!("user:{:016x}", index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes();
        let mut leaves = Leaves::default();
        let empty_bytes = leaves.memory_bytes();
        for index in 0..50_000 {
            leaves.upsert(&key(index), |_| Some(entry(index as u32)));
        }
        leaves.check();
        assert!(leaves.rows.count() > 8);
        for index in 0..50_000 {
            assert_eq!(leaves.get(&key(index)), Some(&entry(index as u32)));
        }
        assert!(leaves.from(b"").map(|(key, _)| key).is_sorted());
        for index in 0..50_000 {
            assert_eq!(leaves.remove(&key(index)), Some(entry(index as u32)));
            if index % 5_000 == 0 {
                leaves.check();
            }
        }
        leaves.check();
        assert!(leaves.memory_bytes() < 2 * empty_bytes, "what was emptied is given back");
    }

    /// Whatever a hash says, keys are compared as a whole.
    #[test]
    fn two_keys_with_one_hash_are_two_keys() {
        let wanted = tag(b"first");
        let mut others = (0..100_000u32).map(|index| index.to_be_bytes()).filter(|key| tag(key) == wanted);
        let second = others.next().unwrap();
        let absent = others.next().unwrap();
        let mut leaves = Leaves::default();
        leaves.upsert(b"first", |_| Some(entry(1)));
        leaves.upsert(&second, |known| {
            assert!(known.is_none(), "another key was taken for it");
            Some(entry(2))
        });
        assert_eq!((leaves.get(b"first"), leaves.get(&second)), (Some(&entry(1)), Some(&entry(2))));
        assert_eq!(leaves.get(&absent), None);
        assert_eq!(leaves.remove(&absent), None);
        assert_eq!(leaves.remove(&second), Some(entry(2)));
        assert_eq!(leaves.get(b"first"), Some(&entry(1)));
        leaves.check();
    }

    #[test]
    fn keys_in_order_fill_their_leaves() {
        let mut leaves = Leaves::default();
        for index in 0..10_000u32 {
            leaves.upsert(&index.to_be_bytes(), |_| Some(entry(index)));
        }
        leaves.check();
        let count: usize = leaves.rows.children().iter().map(Row::count).sum();
        assert_eq!(count, 10_000usize.div_ceil(LEAF_KEYS_MAX));
    }
}
