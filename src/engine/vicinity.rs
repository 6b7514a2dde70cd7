//! What lies behind the record that was read last, as far as the same look into the kernel's memory brings it along. What was made by one commit, or one
//! after the other, lies together and is often asked for together (a name, and the attributes that it leads to): the second record costs no system
//! call then.
//!
//! Reading on costs something too, where the kernel's memory isn't in the processor's cache. So who is asked for records here and there reads no
//! further than they go: the reach is halved by each record that lies elsewhere, and whole again as soon as a neighbour is asked for.
//!
//! Owns a copy of bytes of one segment. They had been handed over when they were copied, so they never change, and nothing is here that lay behind the
//! segment's end at that time. Promises: what it gives out is verified, each time; what isn't right here counts as not being here, and is read from
//! the file again. Knows nothing of where records are.

use super::format::Form;
use super::keydir::Location;
use super::limits::{VICINITY_BYTES_MAX, VICINITY_BYTES_MIN};
use super::segment::Segment;
use super::types::SegmentId;

/// What begins no further behind what was read last is a neighbour, in bytes.
const NEAR_BYTES: usize = VICINITY_BYTES_MAX + VICINITY_BYTES_MIN;

pub(crate) struct Vicinity {
    segment: SegmentId,
    salt: u32,
    form: Form,
    offset: u64,
    bytes: Box<[u8]>,
    /// How many of the bytes are there.
    length: usize,
    /// How many are read at once.
    reach: usize,
}

impl Vicinity {
    /// Nothing is in it yet.
    pub(crate) fn new() -> Self {
        let bytes = vec![0; VICINITY_BYTES_MAX].into_boxed_slice();
        Vicinity { segment: SegmentId(0), salt: 0, form: Form::Whole, offset: 0, bytes, length: 0, reach: 0 }
    }

    /// The value of a key's record, if all of the record is here and right.
    pub(crate) fn value(&mut self, key: &[u8], location: Location) -> Option<&[u8]> {
        let start = self.distance(location)?;
        let length = self.form.length(key.len(), location.value_length as usize);
        let place = self.bytes[..self.length].get(start..)?.get(..length)?;
        let value = self.form.value(place, key, self.salt).ok()?;
        if start > 0 {
            self.reach = VICINITY_BYTES_MAX;
        }
        Some(value)
    }

    /// Reads a key's record, and on as far as seems worth it. Returns how many bytes that were; None if the record isn't in the kernel's memory, or is
    /// too long.
    pub(crate) fn read(&mut self, segment: &Segment, key: &[u8], location: Location) -> Option<usize> {
        let length = segment.form.length(key.len(), location.value_length as usize);
        let offset = u64::from(location.offset);
        let handed_over = usize::try_from(segment.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let most = handed_over.min(VICINITY_BYTES_MAX);
        if length > most {
            return None;
        }
        self.reach = match self.distance(location) {
            // It could have been here, or begins close behind.
            Some(1..=NEAR_BYTES) => VICINITY_BYTES_MAX,
            _ if self.reach > VICINITY_BYTES_MIN => self.reach / 2,
            _ => 0,
        };
        let wanted = self.reach.clamp(length, most);
        self.length = 0;
        let count = segment.file.try_read_at(offset, &mut self.bytes[..wanted], length)?.ok()?;
        (self.segment, self.salt, self.form) = (segment.id, segment.salt, segment.form);
        (self.offset, self.length) = (offset, count);
        Some(count)
    }

    /// A segment isn't part of the store any more.
    pub(crate) fn forget(&mut self, segment: SegmentId) {
        if self.segment == segment {
            self.length = 0;
        }
    }

    /// How far behind what was read last a record begins, in bytes.
    fn distance(&self, location: Location) -> Option<usize> {
        let offset = u64::from(location.offset);
        (location.segment == self.segment)
            .then(|| offset.checked_sub(self.offset))
            .flatten()
            .map(|bytes| bytes as usize)
    }
}

#[cfg(test)]
mod tests;
