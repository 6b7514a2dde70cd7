//! Reading a whole segment out of memory, of whichever form: a plain way beside those of the engine.

use crate::engine::format::Form;
use crate::engine::format::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::engine::format::index::decode_index;
use crate::engine::format::segment::SegmentHeader;
use crate::engine::scan::{Condition, FoundFrame, FoundRecord, Walked, walk};

/// What a segment holds.
#[derive(Default)]
pub(super) struct Found {
    pub(super) frames: Vec<FoundFrame>,
    pub(super) walked: Walked,
}

impl Found {
    pub(super) fn is_sealed(&self) -> bool {
        self.frames.last().is_some_and(|frame| frame.header.kind == FrameKind::Seal)
    }
}

/// A segment's header and what it holds; None if the header isn't right.
pub(super) fn read_segment(bytes: &[u8]) -> Option<(SegmentHeader, Found)> {
    let header = SegmentHeader::decode(bytes).ok()?;
    let found = match header.origin.form() {
        Form::Whole => {
            let mut found = Found::default();
            let start = header.encoded_length() as u64;
            found.walked =
                walk(&mut &bytes[..], start, header.salt, |frame| found.frames.push(frame)).ok()?;
            found
        }
        Form::Bare => read_packed(bytes, header.salt).unwrap_or_default(),
    };
    Some((header, found))
}

fn read_packed(bytes: &[u8], salt: u32) -> Option<Found> {
    let seal = FrameHeader::decode(bytes.get(bytes.len().checked_sub(FRAME_HEADER_BYTES)?..)?, salt).ok()?;
    let mut found = Found::default();
    let mut at = (seal.commit as usize).next_multiple_of(8);
    while at < bytes.len() {
        let header = FrameHeader::decode(&bytes[at..], salt).ok()?;
        let end = at + header.length as usize;
        let mut frame = FoundFrame {
            offset: at as u64,
            header,
            condition: Condition::Whole,
            records: Vec::new(),
            last_numbers: Vec::new(),
        };
        if header.kind == FrameKind::Index {
            let view = decode_index(&header, &bytes[at + FRAME_HEADER_BYTES..end], salt).ok()?;
            for entry in view.entries() {
                let entry = entry.ok()?;
                let start = entry.offset as usize;
                let length = Form::Bare.length(entry.key.len(), entry.value_length as usize);
                frame.records.push(FoundRecord {
                    offset: start as u64,
                    number: entry.number,
                    kind: entry.kind,
                    key: entry.key.to_vec(),
                    value_length: entry.value_length,
                    value_is_right: Form::Bare.value(&bytes[start..start + length], entry.key, salt).is_ok(),
                });
            }
        }
        found.frames.push(frame);
        at = end;
    }
    Some(found)
}
