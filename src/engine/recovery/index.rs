//! From records to a keydir: for each key the newest record, and how many dead puts lie behind it. Knows nothing of tails.
//!
//! Records stay where they were read, in the bytes of their hints; what is sorted are 32 bytes for each, in place. All of it lies
//! in few large blocks that go back to the system as a whole; while it is there, it is up to twice what recovery leaves.

use super::decide::{Decision, Verdict};
use super::load::{Content, LoadedSegment};
use crate::engine::error::OpenError;
use crate::engine::format::hint::{self, HintEntry};
use crate::engine::format::record::{self, RecordKind};
use crate::engine::keydir::{Entry, Key, Keydir, Location};
use crate::engine::scan::ScannedFrame;
use crate::engine::types::{Epoch, Number, SegmentId};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// What a segment's records came to.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) live_bytes: u64,
    pub(crate) dead_bytes: u64,
    pub(crate) live_records: u64,
}

/// The newest record of each key, tombstones with something to bury included.
pub(crate) struct Index {
    pub(crate) keydir: Keydir,
    /// The numbers of those records, in the order of their keys.
    pub(crate) numbers: Vec<Number>,
    /// Removals that bury nothing any more, in the order of their keys; not those in packed segments, whose numbers nobody needs
    /// (compaction spares what somebody does).
    pub(crate) removals: Vec<Removal>,
    pub(crate) accounts: BTreeMap<SegmentId, Account>,
}

/// A key's newest record, which is a tombstone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Removal {
    pub(crate) key: Key,
    pub(crate) number: Number,
    pub(crate) location: Location,
}

/// The records of a segment, as entries of a hint.
struct Source<'a> {
    segment: SegmentId,
    is_packed: bool,
    entries: Cow<'a, [u8]>,
    count: usize,
}

/// A record on its way into the keydir.
#[derive(Clone, Copy)]
struct Reference {
    /// The begin of its key, with zeros behind: compared as three numbers, it decides nearly always.
    words: [u64; 3],
    source: u32,
    /// Where its entry begins.
    at: u32,
}

fn words(key: &[u8]) -> [u64; 3] {
    let mut bytes = [0; 24];
    let length = key.len().min(bytes.len());
    bytes[..length].copy_from_slice(&key[..length]);
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_be_bytes(word)
    };
    [word(0), word(8), word(16)]
}

/// Builds the index of a partition. In unsealed segments only frames that count are looked at.
pub(crate) fn build(
    segments: &[LoadedSegment],
    decision: &Decision,
    owns: impl Fn(Epoch, Number) -> bool,
) -> Result<Index, OpenError> {
    let sources: Vec<Source<'_>> =
        segments.iter().map(|segment| source_of(segment, decision, &owns)).collect::<Result<_, _>>()?;
    let references = sorted(&sources);
    let mut fold = Fold {
        sources: &sources,
        references: &references,
        next: 0,
        stale: 0,
        accounts: vec![Account::default(); sources.len()],
        numbers: Vec::with_capacity(references.len()),
        removals: Vec::new(),
    };
    let keydir = Keydir::from_sorted(&mut fold);
    let accounts = sources.iter().zip(fold.accounts).map(|(source, account)| (source.segment, account));
    Ok(Index { keydir, numbers: fold.numbers, removals: fold.removals, accounts: accounts.collect() })
}

fn source_of<'a>(
    segment: &'a LoadedSegment,
    decision: &Decision,
    owns: impl Fn(Epoch, Number) -> bool,
) -> Result<Source<'a>, OpenError> {
    let is_packed = matches!(segment.content, Content::Packed(_));
    let mut source = Source { segment: segment.id, is_packed, entries: Cow::default(), count: 0 };
    match &segment.content {
        Content::Hinted { bytes, .. } => {
            let view = hint::decode(bytes)
                .map_err(|damage| OpenError::Damaged(format!("hint of segment {}: {damage}", segment.id)))?;
            source.entries = Cow::Borrowed(view.body());
            source.count = view.hint.entries as usize;
        }
        Content::Scanned(scan) => {
            let sealed = scan.is_sealed();
            let counts = |frame: &&ScannedFrame| {
                let owned = owns(frame.header.epoch, frame.header.number);
                sealed || decision.verdict(frame, owned) == Verdict::Counts
            };
            source.entries = match scan.frames.iter().all(|frame| counts(&frame)) {
                true => Cow::Borrowed(&scan.records[..]),
                false => scan
                    .frames
                    .iter()
                    .filter(counts)
                    .flat_map(|frame| scan.records_of(frame))
                    .copied()
                    .collect(),
            };
            source.count = entries(&source.entries).count();
        }
        Content::Packed(index) => {
            for entry in index.views().flat_map(|view| view.entries()).map_while(Result::ok) {
                let (number, offset, kind) = (entry.number, entry.offset, entry.kind);
                let entry =
                    HintEntry { number, offset, kind, value_length: entry.value_length, key: entry.key };
                hint::append_entry(source.entries.to_mut(), &entry);
                source.count += 1;
            }
        }
    }
    Ok(source)
}

/// All records: by key, then from the oldest to the newest.
fn sorted(sources: &[Source<'_>]) -> Vec<Reference> {
    let count = sources.iter().map(|source| source.count).sum();
    let mut references = Vec::with_capacity(count);
    for (index, source) in sources.iter().enumerate() {
        references.extend(entries(&source.entries).map(|(at, entry)| Reference {
            words: words(entry.key),
            source: index as u32,
            at: at as u32,
        }));
    }
    references.sort_unstable_by(|a, b| match a.words[0].cmp(&b.words[0]) {
        Ordering::Equal => a.words.cmp(&b.words).then_with(|| compare(sources, a, b)),
        different => different,
    });
    references
}

/// Entries, and where each begins.
fn entries(bytes: &[u8]) -> impl Iterator<Item = (usize, HintEntry<'_>)> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let at = next;
        let (entry, length) = hint::entry_at(bytes, at)?;
        next += length;
        Some((at, entry))
    })
}

#[cold]
fn compare(sources: &[Source<'_>], a: &Reference, b: &Reference) -> Ordering {
    let (a, b) = (entry_of(sources, a), entry_of(sources, b));
    (a.key, a.number, a.offset).cmp(&(b.key, b.number, b.offset))
}

fn entry_of<'a>(sources: &'a [Source<'_>], reference: &Reference) -> HintEntry<'a> {
    let entries = &sources[reference.source as usize].entries;
    hint::entry_at(entries, reference.at as usize).expect("it was read there before").0
}

/// Of sorted records, the last of each key is the newest: those come out.
struct Fold<'a> {
    sources: &'a [Source<'a>],
    references: &'a [Reference],
    next: usize,
    /// Dead puts of the key seen so far.
    stale: u32,
    accounts: Vec<Account>,
    numbers: Vec<Number>,
    removals: Vec<Removal>,
}

impl Iterator for &mut Fold<'_> {
    type Item = (Key, Entry);

    fn next(&mut self) -> Option<(Key, Entry)> {
        while let Some(reference) = self.references.get(self.next) {
            self.next += 1;
            let HintEntry { number, offset, kind, value_length, key } = entry_of(self.sources, reference);
            let is_newest = self
                .references
                .get(self.next)
                .is_none_or(|next| next.words != reference.words || entry_of(self.sources, next).key != key);
            let tombstone = kind == RecordKind::Tombstone;
            let bytes = record::encoded_length(key.len(), value_length as usize) as u64;
            let stale = self.stale;
            let account = &mut self.accounts[reference.source as usize];
            self.stale += u32::from(!tombstone);
            if is_newest {
                self.stale = 0;
            }
            let source = &self.sources[reference.source as usize];
            let location = Location { segment: source.segment, offset, value_length, tombstone };
            // A tombstone that buries nothing is dead itself.
            if !is_newest || (tombstone && stale == 0) {
                account.dead_bytes += bytes;
                if is_newest && !source.is_packed {
                    self.removals.push(Removal { key: Key::new(key), number, location });
                }
                continue;
            }
            account.live_bytes += bytes;
            account.live_records += 1;
            self.numbers.push(number);
            return Some((Key::new(key), Entry::new(location, stale)));
        }
        None
    }
}

#[cfg(test)]
mod tests;
