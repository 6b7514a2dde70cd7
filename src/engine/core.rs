//! STAND-IN with the final interface: values in memory. The real core (keydir, log, compaction) replaces it.
use super::batch::Batch;
use std::collections::BTreeMap;

/// Names what was appended, to wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(crate) u64);

/// What a partition owns: keydir, log, compaction. Plain `&mut` inside the turn.
pub struct Core {
    pub(crate) values: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Core {
    /// Whether the key has a value.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.values.contains_key(key)
    }

    /// Appends one commit and makes it visible in this partition. There must be room (see
    /// [`Partition::room`](super::partition::Partition::room)); then this can't fail.
    pub fn append(&mut self, batch: &Batch) -> Ticket {
        for change in batch.changes() {
            if change.remove {
                self.values.remove(&change.key);
            } else {
                self.values.insert(change.key.clone(), change.value.clone());
            }
        }
        Ticket(0)
    }

    /// The keys that start with `prefix` and are greater than `after` (if given), in order, at most `count_max`.
    pub fn list(&self, prefix: &[u8], after: Option<&[u8]>, count_max: usize) -> Vec<Vec<u8>> {
        use std::ops::Bound;
        let from = match after {
            Some(key) if key >= prefix => Bound::Excluded(key),
            _ => Bound::Included(prefix),
        };
        self.values
            .range::<[u8], _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(count_max)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The length of a key's value in bytes, without reading it.
    pub fn value_length(&self, key: &[u8]) -> Option<usize> {
        self.values.get(key).map(Vec::len)
    }
}
