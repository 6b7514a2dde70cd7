//! Whether a sealed segment's hint says what the segment holds; and if not, a hint that does.

use crate::engine::disk::Disk;
use crate::engine::format::frame::FrameHeader;
use crate::engine::format::hint::{self, HINT_HEADER_BYTES, Hint, HintWriter};
use crate::engine::format::segment::SegmentHeader;
use crate::engine::recovery::load::read_file;
use crate::engine::scan::FoundFrame;
use crate::engine::seal::put_hint;
use crate::engine::segment::{data_path, hint_path};
use crate::engine::types::{Epoch, Number};
use std::io;

/// The hint that a segment should have, gathered frame by frame.
#[derive(Default)]
pub(super) struct Wanted {
    entries: HintWriter,
    first_number: Option<Number>,
    last_number: Number,
    stable: Number,
    first_epoch: Option<Epoch>,
}

impl Wanted {
    /// The next frame of the segment, whose keys are all known.
    pub(super) fn add(&mut self, frame: &FoundFrame) {
        let FrameHeader { number, stable, epoch, .. } = frame.header;
        for record in &frame.records {
            self.entries.push(number, record.offset as u32, record.kind, record.value_length, &record.key);
        }
        self.first_number = Some(self.first_number.map_or(number, |first| first.min(number)));
        self.last_number = self.last_number.max(number);
        self.stable = self.stable.max(stable);
        self.first_epoch = Some(self.first_epoch.map_or(epoch, |first| first.min(epoch)));
    }

    /// Writes the hint of a sealed segment of `data_length` bytes anew, unless it is right; whether it has. Waits for the disk.
    pub(super) fn put_right(
        self,
        disk: &dyn Disk,
        header: &SegmentHeader,
        data_length: u64,
        read_only: bool,
    ) -> io::Result<bool> {
        let (partition, segment) = (header.partition, header.segment);
        let wanted = self.entries.finish(Hint {
            store: header.store,
            partition,
            segment,
            salt: header.salt,
            sealed: true,
            data_length,
            last_number: self.last_number,
            first_number: self.first_number.unwrap_or_default(),
            stable: self.stable,
            first_epoch: self.first_epoch.unwrap_or(Epoch(0)),
            entries: 0,
        });
        let found = read_file(disk, &hint_path(partition, segment)).unwrap_or_default();
        if says_the_same(&found, &wanted, header) || read_only {
            return Ok(false);
        }
        // Replaced by a compaction meanwhile: there is nothing left to describe.
        if disk.open(&data_path(partition, segment)).and_then(|file| file.length()).is_err() {
            return Ok(false);
        }
        tracing::warn!("{}: the hint doesn't say what is there; written anew", hint_path(partition, segment));
        put_hint(disk, partition, segment, &wanted).map(|()| true)
    }
}

/// What must agree: the entries, and how much they describe. The greatest `stable` is as known when it was written.
fn says_the_same(found: &[u8], wanted: &[u8], header: &SegmentHeader) -> bool {
    let (Ok(found_view), Ok(wanted_view)) = (hint::decode(found), hint::decode(wanted)) else { return false };
    let (one, other) = (found_view.hint, wanted_view.hint);
    one.check_segment(header).is_ok()
        && one.sealed
        && (one.data_length, one.last_number) == (other.data_length, other.last_number)
        && found[HINT_HEADER_BYTES..] == wanted[HINT_HEADER_BYTES..]
}
