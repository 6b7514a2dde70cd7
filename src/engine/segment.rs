//! Segments: their names, their lives, their accounting. Makes new ones; knows nothing of keys.

use super::common::{Common, partition_dir};
use super::disk::{Disk, FileHandle};
use super::format::Form;
use super::format::segment::{Origin, SegmentHeader};
use super::lanes::Lanes;
use super::planted::{Bug, planted};
use super::stats::{SegmentCounters, SegmentState};
use super::types::{Number, PartitionId, SegmentId, StoreId};
use std::io;
use std::sync::{Arc, OnceLock};

/// A segment that is part of the store.
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    pub(crate) file: FileHandle,
    pub(crate) lanes: FileLanes,
    pub(crate) salt: u32,
    pub(crate) form: Form,
    /// Offset of the first frame.
    pub(crate) header_bytes: u64,
    /// Where its frames end.
    pub(crate) end: u64,
    /// The greatest number in it.
    pub(crate) last_number: Number,
    pub(crate) counters: Arc<SegmentCounters>,
}

/// The file opened again, once for each lane of threads that look things up: threads that read through one descriptor write to one counter of the
/// kernel's, and to one of ours, which costs a read from memory a quarter of its time. (None where it could not be opened.)
#[derive(Default)]
pub(crate) struct FileLanes(Lanes<OnceLock<Option<FileHandle>>>);

/// A segment that is durably there and has no frame yet.
#[derive(Clone)]
pub(crate) struct NewSegment {
    pub(crate) id: SegmentId,
    pub(crate) file: FileHandle,
    pub(crate) salt: u32,
    pub(crate) header_bytes: u64,
    /// Size of the file, all of it allocated.
    pub(crate) file_bytes: u64,
}

impl Segment {
    pub(crate) fn from_new(new: &NewSegment, state: SegmentState) -> Self {
        let counters = Arc::new(SegmentCounters::default());
        counters.set_state(state);
        counters.file_bytes.set(new.file_bytes);
        Segment {
            id: new.id,
            file: new.file.clone(),
            lanes: FileLanes::default(),
            salt: new.salt,
            form: Form::Whole,
            header_bytes: new.header_bytes,
            end: new.header_bytes,
            last_number: Number::ZERO,
            counters,
        }
    }

    /// The file for the calling thread, and whether its lane should have one of its own.
    pub(crate) fn file_here(&self) -> (&FileHandle, bool) {
        match self.lanes.0.mine().get() {
            Some(own) => (own.as_ref().unwrap_or(&self.file), false),
            None => (&self.file, true),
        }
    }

    /// From now on the calling thread's lane has its own.
    pub(crate) fn set_lane(&self, opened: Option<FileHandle>) {
        // A thread of the same lane may have been faster.
        let _ = self.lanes.0.mine().set(opened);
    }

    pub(crate) fn state(&self) -> SegmentState {
        self.counters.state()
    }

    pub(crate) fn set_state(&self, state: SegmentState) {
        self.counters.set_state(state);
    }

    /// A live record of that many bytes is dead now.
    pub(crate) fn record_died(&self, bytes: u64) {
        self.account(-(bytes as i64), bytes as i64, -1);
    }

    pub(crate) fn account(&self, live_bytes: i64, dead_bytes: i64, live_records: i64) {
        for (counter, change) in [
            (&self.counters.live_bytes, live_bytes),
            (&self.counters.dead_bytes, dead_bytes),
            (&self.counters.live_records, live_records),
        ] {
            if change >= 0 {
                counter.add(change as u64);
            } else {
                counter.subtract(change.unsigned_abs());
            }
        }
    }

    /// Share of its record bytes that are dead, 0 to 1. A segment with no live record is all dead.
    pub(crate) fn dead_ratio(&self) -> f64 {
        let (live, dead) = (self.counters.live_bytes.get(), self.counters.dead_bytes.get());
        if live == 0 { 1.0 } else { dead as f64 / (live + dead) as f64 }
    }
}

/// What a record takes less, at least, once it is packed: most of its header stands in the index once for many. In bytes.
const PACKING_BYTES: u64 = 12;

impl Segment {
    /// Which share of its frames a packed copy of what lives would save, 0 to 1; of a segment that is packed itself, nothing.
    pub(crate) fn packing_ratio(&self, end: u64) -> f64 {
        let (live_bytes, frames_bytes) =
            (self.counters.live_bytes.get(), end.saturating_sub(self.header_bytes));
        match self.form {
            Form::Bare => 0.0,
            Form::Whole if frames_bytes == 0 => 0.0,
            Form::Whole => {
                let packed_bytes =
                    live_bytes.saturating_sub(PACKING_BYTES * self.counters.live_records.get());
                1.0 - (packed_bytes as f64 / frames_bytes as f64).min(1.0)
            }
        }
    }
}

pub(crate) fn data_path(partition: PartitionId, segment: SegmentId) -> String {
    format!("{}/{:010}.data", partition_dir(partition), segment.0)
}

pub(crate) fn hint_path(partition: PartitionId, segment: SegmentId) -> String {
    format!("{}/{:010}.hint", partition_dir(partition), segment.0)
}

pub(crate) fn temporary_path(partition: PartitionId, segment: SegmentId, what: &str) -> String {
    format!("{}/{:010}.{what}.tmp", partition_dir(partition), segment.0)
}

/// What a file name in a partition's directory is. Only names that we would write ourselves are ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileKind {
    Data(SegmentId),
    Hint(SegmentId),
    Temporary,
    Unknown,
}

pub(crate) fn parse_name(name: &str) -> FileKind {
    let Some((stem, extension)) = name.split_once('.') else { return FileKind::Unknown };
    let id = (stem.len() == 10).then(|| stem.parse::<u32>().ok()).flatten().filter(|id| *id > 0);
    match (id, extension) {
        (Some(id), "data") => FileKind::Data(SegmentId(id)),
        (Some(id), "hint") => FileKind::Hint(SegmentId(id)),
        (Some(_), other) if other.ends_with("tmp") => FileKind::Temporary,
        _ => FileKind::Unknown,
    }
}

/// Everything needed to make a log segment.
pub(crate) struct Recipe {
    pub(crate) store: StoreId,
    pub(crate) partition: PartitionId,
    pub(crate) id: SegmentId,
    pub(crate) salt: u32,
    pub(crate) created_ns: i64,
    pub(crate) file_bytes: u64,
}

impl Recipe {
    pub(crate) fn new(common: &Common, partition: PartitionId, id: SegmentId, file_bytes: u64) -> Self {
        Recipe {
            store: common.store,
            partition,
            id,
            salt: common.random_u32(),
            created_ns: common.clock.wall_ns(),
            file_bytes,
        }
    }

    /// Makes the segment. It is durably there (space, header, name) when this returns. Waits for the disk. Running out
    /// of disk shows here, before any number is given out; nothing is left behind then.
    pub(crate) fn make(&self, disk: &dyn Disk) -> io::Result<NewSegment> {
        let temporary = temporary_path(self.partition, self.id, "data");
        let made = self.make_under(disk, &temporary);
        if made.is_err() {
            // Best effort: what is left is removed when the store opens.
            let _ = disk.remove(&temporary);
        }
        made
    }

    fn make_under(&self, disk: &dyn Disk, temporary: &str) -> io::Result<NewSegment> {
        let header = SegmentHeader {
            store: self.store,
            partition: self.partition,
            origin: Origin::Log,
            segment: self.id,
            salt: self.salt,
            created_ns: self.created_ns,
            victims: Vec::new(),
        };
        let header = header.encode();
        let file = disk.create(temporary)?;
        file.allocate(self.file_bytes)?;
        file.write_at(0, &header)?;
        file.sync_data()?;
        disk.rename(temporary, &data_path(self.partition, self.id))?;
        if !planted(Bug::SkipDirectorySync) {
            disk.sync_dir(&partition_dir(self.partition))?;
        }
        Ok(NewSegment {
            id: self.id,
            file,
            salt: self.salt,
            header_bytes: header.len() as u64,
            file_bytes: self.file_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_ours() {
        assert_eq!(parse_name("0000000007.data"), FileKind::Data(SegmentId(7)));
        assert_eq!(parse_name("0000000007.hint"), FileKind::Hint(SegmentId(7)));
        assert_eq!(parse_name("0000000007.data.tmp"), FileKind::Temporary);
        for name in
            ["0000000007.data.bak", "7.data", "0000000000.data", "0000000007", "x.data", "0000000007.data~"]
        {
            assert_eq!(parse_name(name), FileKind::Unknown, "{name}");
        }
    }
}
