//! Children in the order of their fences, a fence being the least key that a child may have. What a search reads lies side by side: of each fence
//! the eight bytes that follow what all of them begin with, so that keys with long common beginnings are told apart as fast as others, and the
//! fences themselves are looked at only where those bytes are the same.
//!
//! The first fence is never compared with: whatever is less than the second belongs to the first child.

use super::key::Key;

/// A row of at least one child.
pub(super) struct Row<T> {
    /// How many bytes all fences but the first begin with in common.
    common_bytes: usize,
    /// Of each fence the eight bytes behind that, as a number that sorts like them.
    words: Vec<u64>,
    fences: Vec<Key>,
    children: Vec<T>,
}

impl<T> Row<T> {
    /// With room for so many children.
    pub(super) fn with_capacity(count: usize) -> Self {
        Row {
            common_bytes: usize::MAX,
            words: Vec::with_capacity(count),
            fences: Vec::with_capacity(count),
            children: Vec::with_capacity(count),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.children.len()
    }

    /// Memory that the row takes for each child that it has room for, what they own not included, in bytes.
    pub(super) const CHILD_BYTES: usize = size_of::<u64>() + size_of::<Key>() + size_of::<T>();

    /// How many children it has room for.
    pub(super) fn capacity(&self) -> usize {
        self.children.capacity()
    }

    pub(super) fn fence(&self, index: usize) -> &Key {
        &self.fences[index]
    }

    pub(super) fn children(&self) -> &[T] {
        &self.children
    }

    pub(super) fn child_mut(&mut self, index: usize) -> &mut T {
        &mut self.children[index]
    }

    /// Which child a key belongs to.
    pub(super) fn position(&self, key: &[u8]) -> usize {
        let Some((_, words)) = self.words.split_first() else { return 0 };
        let Some(fence) = self.fences.get(1) else { return 0 };
        let common = &fence.as_slice()[..self.common_bytes];
        let beginning = &key[..key.len().min(common.len())];
        if beginning != common {
            // A key that ends within the common bytes is less than what begins with them.
            return if beginning < common { 0 } else { words.len() };
        }
        let word = word_behind(key, self.common_bytes);
        let first = words.partition_point(|known| *known < word);
        let mut alike = first;
        if words.get(first) == Some(&word) {
            let count = words[first..].partition_point(|known| *known == word);
            let fences = &self.fences[1 + first..1 + first + count];
            alike += fences.partition_point(|fence| fence.as_slice() <= key);
        }
        alike
    }

    /// Puts a child to where its fence belongs: behind the child `index - 1`, before the child `index`.
    pub(super) fn insert(&mut self, index: usize, fence: Key, child: T) {
        self.words.insert(index, word_behind(fence.as_slice(), self.common_bytes));
        self.fences.insert(index, fence);
        self.children.insert(index, child);
        let keeps_common = match (index, self.fences.get(1)) {
            // The former first one counts now; or there was none to have anything in common with.
            (0, _) | (_, None) => false,
            (1, _) => self.fences.get(2).is_some_and(|next| self.shares_common(next, &self.fences[1])),
            (_, Some(second)) => self.shares_common(second, &self.fences[index]),
        };
        if !keeps_common {
            self.find_common();
        }
    }

    pub(super) fn push(&mut self, fence: Key, child: T) {
        self.insert(self.count(), fence, child);
    }

    pub(super) fn remove(&mut self, index: usize) -> (Key, T) {
        self.words.remove(index);
        let removed = (self.fences.remove(index), self.children.remove(index));
        // What the rest has in common may be more, which isn't worth a look; unless there is no rest.
        if self.count() < 2 {
            self.find_common();
        }
        removed
    }

    /// Gives up the children from `index` on to another row, which has the room of this one.
    pub(super) fn split(&mut self, index: usize) -> Self {
        let mut upper = Row::with_capacity(self.capacity());
        upper.words.extend(self.words.drain(index..));
        upper.fences.extend(self.fences.drain(index..));
        upper.children.extend(self.children.drain(index..));
        upper.find_common();
        self.find_common();
        upper
    }

    /// Takes the children of a row in that come behind its own.
    pub(super) fn append(&mut self, mut behind: Self) {
        self.words.append(&mut behind.words);
        self.fences.append(&mut behind.fences);
        self.children.append(&mut behind.children);
        self.find_common();
    }

    /// Whether a fence begins with what `known` and all others have in common.
    fn shares_common(&self, known: &Key, fence: &Key) -> bool {
        let common = &known.as_slice()[..self.common_bytes];
        fence.as_slice().starts_with(common)
    }

    fn find_common(&mut self) {
        // They are in order: what the second and the last begin with, all between them do.
        self.common_bytes = match (self.fences.get(1), self.fences.last()) {
            (Some(second), Some(last)) => {
                let pairs = second.as_slice().iter().zip(last.as_slice());
                pairs.take_while(|(one, other)| one == other).count()
            }
            _ => 0,
        };
        for (word, fence) in self.words.iter_mut().zip(&self.fences) {
            *word = word_behind(fence.as_slice(), self.common_bytes);
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let fences = &self.fences[1..];
        assert!(fences.is_sorted_by(|one, other| one < other));
        assert!(self.fences.len() == self.words.len() && self.words.len() == self.children.len());
        for (fence, word) in fences.iter().zip(&self.words[1..]) {
            assert!(self.shares_common(&fences[0], fence));
            assert_eq!(word_behind(fence.as_slice(), self.common_bytes), *word);
        }
    }
}

/// The eight bytes from `start` on, zeros where there are none.
fn word_behind(key: &[u8], start: usize) -> u64 {
    let rest = key.get(start..).unwrap_or_default();
    match rest.first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => rest.iter().rev().fold(0, |word, byte| word >> 8 | u64::from(*byte) << 56),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::disk::sim::Dice;
    use std::collections::BTreeSet;

    /// Keys that begin alike for long, end early, or are the beginnings of others.
    fn random_key(dice: &mut Dice) -> Vec<u8> {
        let mut key = vec![7; dice.below(3) as usize * 9];
        let letters = dice.between(1, 3);
        key.extend((0..dice.below(12)).map(|_| dice.below(letters) as u8));
        key
    }

    #[test]
    fn a_key_belongs_to_the_last_child_whose_fence_is_not_greater() {
        for seed in 0..300 {
            let mut dice = Dice::new(seed);
            let mut row = Row::with_capacity(1);
            let mut fences = BTreeSet::from([vec![]]);
            row.push(Key::new(b""), 0u8);
            let mut cut: Option<(Row<u8>, BTreeSet<Vec<u8>>)> = None;
            for _ in 0..200 {
                let key = random_key(&mut dice);
                let known = fences.iter().filter(|fence| **fence <= key).count();
                // What is less than the first fence belongs to it too.
                let expected = known.saturating_sub(1);
                assert_eq!(row.position(&key), expected, "{key:?} among {fences:?}");
                if dice.percent(60)
                    && known > 0
                    && cut.as_ref().is_none_or(|(_, behind)| Some(&key) < behind.first())
                {
                    if fences.insert(key.clone()) {
                        row.insert(expected + 1, Key::new(&key), 0);
                    }
                } else if dice.percent(30) && row.count() > 1 {
                    let index = dice.between(1, row.count() as u64 - 1) as usize;
                    assert!(fences.remove(row.remove(index).0.as_slice()));
                } else if dice.percent(10) {
                    match cut.take() {
                        Some((behind, mut others)) => {
                            row.append(behind);
                            fences.append(&mut others);
                        }
                        None if row.count() > 1 => {
                            let index = dice.between(1, row.count() as u64 - 1) as usize;
                            let first = row.fence(index).as_slice().to_vec();
                            cut = Some((row.split(index), fences.split_off(&first)));
                        }
                        None => {}
                    }
                }
                row.check();
            }
        }
    }
}
