//! What a partition holds right after recovery, as whoever builds the state beside it sees it: once, before anything is served.

use crate::engine::error::OpenError;
use crate::engine::keydir::{Keydir, Location};
use crate::engine::recovery::failed;
use crate::engine::recovery::index::Removal;
use crate::engine::recovery::load::LoadedSegment;
use crate::engine::segment::data_path;
use crate::engine::types::{Number, PartitionId};

/// What a partition holds right after recovery, shown once to whoever builds the state beside it.
pub struct Recovered<'a> {
    pub(super) partition: PartitionId,
    pub(super) keydir: &'a Keydir,
    /// Of the keydir's entries, in their order.
    pub(super) numbers: &'a [Number],
    pub(super) removals: &'a [Removal],
    pub(super) segments: &'a [LoadedSegment],
}

/// A key as recovery found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredKey {
    /// The key.
    pub key: Vec<u8>,
    /// The number of the commit that changed it last.
    pub number: Number,
    /// Whether that commit removed it. (Removals that bury nothing any more are listed unless compaction has copied their tombstone: then nobody was
    /// to need them, see [`retain_after`](crate::engine::Store::retain_after).)
    pub removed: bool,
}

impl Recovered<'_> {
    /// Which partition it is.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Keys changed or removed by commits with a number greater than `after`, in no particular order.
    pub fn changed_after(&self, after: Number) -> Vec<RecoveredKey> {
        let numbered = self.keydir.entries().zip(self.numbers.iter().copied());
        let known = numbered.map(|((key, entry), number)| (key, number, entry.is_tombstone()));
        let removals = self.removals.iter().map(|removal| (removal.key.as_slice(), removal.number, true));
        let newer = known.chain(removals).filter(|(_, number, _)| *number > after);
        newer.map(|(key, number, removed)| RecoveredKey { key: key.to_vec(), number, removed }).collect()
    }

    /// The value that a key has, or the note of its tombstone. Waits for the disk.
    ///
    /// # Errors
    /// If the disk fails or the record is damaged.
    pub fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, OpenError> {
        let removal = || {
            let found = self.removals.binary_search_by(|removal| removal.key.as_slice().cmp(key));
            found.ok().map(|index| self.removals[index].location)
        };
        let location = self.keydir.entry(key).map(|entry| entry.location()).or_else(removal);
        location.map(|location| self.read_at(key, location)).transpose()
    }

    fn read_at(&self, key: &[u8], location: Location) -> Result<Vec<u8>, OpenError> {
        let segment = self.segments.iter().find(|segment| segment.id == location.segment);
        let segment =
            segment.ok_or_else(|| OpenError::Damaged(format!("segment {} is gone", location.segment)))?;
        let path = data_path(self.partition, segment.id);
        let form = segment.header.origin.form();
        let mut bytes = vec![0; form.length(key.len(), location.value_length as usize)];
        let count =
            segment.file.read_at(u64::from(location.offset), &mut bytes).map_err(failed(path.as_str()))?;
        match form.value(&bytes[..count], key, segment.header.salt) {
            Ok(value) => Ok(value.to_vec()),
            Err(_) => Err(OpenError::Damaged(format!(
                "{path}: the record at offset {} fails its checksum",
                location.offset
            ))),
        }
    }

    /// The live keys that start with a prefix, in order.
    pub fn live_keys<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.keydir.list(prefix, None).map(|(key, _)| key)
    }
}
