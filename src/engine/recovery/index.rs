//! From records to a keydir: for each key the newest record, and how many dead puts lie behind it. Knows nothing of tails.

use super::decide::{Decision, Verdict};
use super::load::{Content, LoadedSegment};
use crate::engine::error::OpenError;
use crate::engine::format::hint;
use crate::engine::format::record::{self, RecordKind};
use crate::engine::keydir::{Entry, Key, Location};
use crate::engine::scan::FoundRecord;
use crate::engine::types::{Epoch, Number, SegmentId};
use std::collections::BTreeMap;

/// A record on its way into the keydir.
struct Record {
    key: Key,
    number: Number,
    location: Location,
}

/// What a segment's records came to.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) live_bytes: u64,
    pub(crate) dead_bytes: u64,
    pub(crate) live_records: u64,
}

/// The newest record of each key, tombstones with something to bury included, in order of keys.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) entries: Vec<IndexEntry>,
    pub(crate) accounts: BTreeMap<SegmentId, Account>,
}

/// A key with the number of its newest record.
pub(crate) struct IndexEntry {
    pub(crate) key: Key,
    pub(crate) number: Number,
    pub(crate) entry: Entry,
}

/// Builds the index of a partition. In unsealed segments only frames that count are looked at.
pub(crate) fn build(
    segments: &[LoadedSegment],
    decision: &Decision,
    owns: impl Fn(Epoch, Number) -> bool,
) -> Result<Index, OpenError> {
    let mut records = Vec::new();
    for segment in segments {
        collect(segment, decision, &owns, &mut records)?;
    }
    records.sort_unstable_by(|a, b| {
        (&a.key, a.number, a.location.offset).cmp(&(&b.key, b.number, b.location.offset))
    });
    Ok(fold(records))
}

fn collect(
    segment: &LoadedSegment,
    decision: &Decision,
    owns: impl Fn(Epoch, Number) -> bool,
    records: &mut Vec<Record>,
) -> Result<(), OpenError> {
    let mut push = |number, offset, kind, value_length, key: &[u8]| {
        let tombstone = kind == RecordKind::Tombstone;
        let location = Location { segment: segment.id, offset, value_length, tombstone };
        records.push(Record { key: Key::new(key), number, location });
    };
    match &segment.content {
        Content::Hinted { bytes, .. } => {
            let damaged = |damage| OpenError::Damaged(format!("hint of segment {}: {damage}", segment.id));
            for entry in hint::decode(bytes).map_err(damaged)?.entries() {
                let entry = entry.map_err(damaged)?;
                push(entry.number, entry.offset, entry.kind, entry.value_length, entry.key);
            }
        }
        Content::Scanned(scan) => {
            let sealed = scan.is_sealed();
            for frame in &scan.frames {
                let owned = owns(frame.header.epoch, frame.header.number);
                if sealed || decision.verdict(frame, owned) == Verdict::Counts {
                    for record in &frame.records {
                        let FoundRecord { number, kind, value_length, .. } = *record;
                        push(number, record.offset as u32, kind, value_length, &record.key);
                    }
                }
            }
        }
        Content::Packed(index) => {
            for view in index.views() {
                for entry in view.entries().map_while(Result::ok) {
                    push(entry.number, entry.offset, entry.kind, entry.value_length, entry.key);
                }
            }
        }
    }
    Ok(())
}

/// Of sorted records, the last of each key is the newest.
fn fold(records: Vec<Record>) -> Index {
    let mut index = Index::default();
    let mut stale = 0;
    let mut records = records.into_iter().peekable();
    while let Some(Record { key, number, location }) = records.next() {
        let newest = records.peek().is_none_or(|next| next.key != key);
        let account = index.accounts.entry(location.segment).or_default();
        let bytes = record::encoded_length(key.as_slice().len(), location.value_length as usize) as u64;
        let useless = location.tombstone && stale == 0;
        if !newest || useless {
            account.dead_bytes += bytes;
            stale += u32::from(!location.tombstone);
        } else {
            account.live_bytes += bytes;
            account.live_records += 1;
            index.entries.push(IndexEntry { key, number, entry: Entry::new(location, stale) });
        }
        if newest {
            stale = 0;
        }
    }
    index
}
