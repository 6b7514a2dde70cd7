//! A batch: changes that happen together or not at all. Pure.

use super::error::WriteError;
use super::format::record;
use super::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which key.
    pub key: Vec<u8>,
    /// Its new value; or, for a removal, a note that the tombstone carries (usually empty).
    pub value: Vec<u8>,
    /// Whether the key is removed.
    pub remove: bool,
}

/// A change whose bytes are somebody else's; see [`Engine::commit_all`](super::Engine::commit_all).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeView<'a> {
    /// Which key.
    pub key: &'a [u8],
    /// Its new value, or the note of its removal.
    pub value: &'a [u8],
    /// Whether the key is removed.
    pub remove: bool,
}

impl Change {
    /// The same, borrowed.
    pub fn view(&self) -> ChangeView<'_> {
        ChangeView { key: &self.key, value: &self.value, remove: self.remove }
    }
}

impl<'a> ChangeView<'a> {
    /// Sets a key.
    pub fn put(key: &'a [u8], value: &'a [u8]) -> Self {
        ChangeView { key, value, remove: false }
    }

    /// Removes a key; removing one that isn't there is fine.
    pub fn remove(key: &'a [u8]) -> Self {
        ChangeView { key, value: &[], remove: true }
    }

    /// Removes a key and leaves a note in the tombstone, for whoever looks at what changed lately.
    pub fn remove_with_note(key: &'a [u8], note: &'a [u8]) -> Self {
        ChangeView { key, value: note, remove: true }
    }

    /// What the change takes in the log, in bytes, without the frame around it.
    pub fn record_bytes(&self) -> usize {
        record::encoded_length(self.key.len(), self.value.len())
    }

    /// An empty or oversize key and an oversize value are errors; an empty value is a value.
    pub fn validate(&self) -> Result<(), WriteError> {
        if self.key.is_empty() {
            return Err(WriteError::Size("a key has at least one byte"));
        }
        if self.key.len() > KEY_BYTES_MAX {
            return Err(WriteError::Size("a key has at most 65536 bytes"));
        }
        if self.value.len() > VALUE_BYTES_MAX {
            return Err(WriteError::Size("a value has at most 16777216 bytes"));
        }
        Ok(())
    }
}

/// Changes of one partition that happen together. A key may occur several times; the last change of it counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
    records_bytes: usize,
    frees_space: bool,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.push(Change { key: key.into(), value: value.into(), remove: false })
    }

    /// Removes a key; removing one that isn't there is fine.
    pub fn remove(&mut self, key: impl Into<Vec<u8>>) -> &mut Self {
        self.push(Change { key: key.into(), value: Vec::new(), remove: true })
    }

    /// Removes a key and leaves a note in the tombstone, for whoever looks at what changed lately.
    pub fn remove_with_note(&mut self, key: impl Into<Vec<u8>>, note: impl Into<Vec<u8>>) -> &mut Self {
        self.push(Change { key: key.into(), value: note.into(), remove: true })
    }

    fn push(&mut self, change: Change) -> &mut Self {
        self.records_bytes += record::encoded_length(change.key.len(), change.value.len());
        self.changes.push(change);
        self
    }

    /// Says that the batch frees space: when the disk is full, it may use the reserve.
    pub fn free_space(&mut self) -> &mut Self {
        self.frees_space = true;
        self
    }

    /// Whether it was said to free space, or has nothing but removals.
    pub fn frees_space(&self) -> bool {
        self.frees_space || self.changes.iter().all(|change| change.remove)
    }

    /// Bytes of keys and values.
    pub fn user_bytes(&self) -> usize {
        self.changes.iter().map(|change| change.key.len() + change.value.len()).sum()
    }

    /// The changes, in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Gives the changes up.
    pub fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What the changes take in the log, in bytes, without the frame around them.
    pub fn records_bytes(&self) -> usize {
        self.records_bytes
    }

    /// Empty and oversize keys and oversize values are errors; an empty value is a value.
    pub fn validate(&self) -> Result<(), WriteError> {
        self.changes.iter().try_for_each(|change| change.view().validate())
    }
}

impl<'a> FromIterator<ChangeView<'a>> for Batch {
    fn from_iter<I: IntoIterator<Item = ChangeView<'a>>>(changes: I) -> Self {
        let mut batch = Batch::new();
        for ChangeView { key, value, remove } in changes {
            batch.push(Change { key: key.to_vec(), value: value.to_vec(), remove });
        }
        batch
    }
}
