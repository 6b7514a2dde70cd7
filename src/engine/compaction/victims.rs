//! Which segments are worth replacing.

use super::read::Source;
use crate::engine::core::Core;
use crate::engine::format::frame::FRAME_HEADER_BYTES;
use crate::engine::format::segment::SegmentHeader;
use crate::engine::segment::Segment;
use crate::engine::stats::SegmentState;
use crate::engine::types::{Number, SegmentId};

/// The most victims of one output. Far below what a header could name.
const VICTIMS_MAX: usize = 64;

/// A segment to be replaced.
pub(super) struct Victim {
    pub(super) id: SegmentId,
    pub(super) source: Source,
    pub(super) last_number: Number,
    /// What its live records take in an output, at most.
    pub(super) live_bytes: u64,
}

impl Victim {
    fn new(segment: &Segment) -> Self {
        let source = Source {
            file: segment.file.clone(),
            salt: segment.salt,
            form: segment.form,
            start: segment.header_bytes,
            end: segment.end,
        };
        // What is counted as the size of a record is more than it takes once it is packed.
        Victim {
            id: segment.id,
            source,
            last_number: segment.last_number,
            live_bytes: segment.counters.live_bytes.get().min(segment.end),
        }
    }
}

/// What an output of these victims takes, at most, in bytes.
pub(super) fn output_bytes_max(victims: &[Victim]) -> u64 {
    let live_bytes: u64 = victims.iter().map(|victim| victim.live_bytes).sum();
    // The index has at least a frame, and there is a seal.
    live_bytes + (SegmentHeader::encoded_length_of(victims.len()) + 3 * FRAME_HEADER_BYTES) as u64
}

impl Core {
    /// Sealed segments worth compacting, the deadest first, together no larger than one output.
    pub(super) fn victims(&self, threshold: f64) -> Vec<Victim> {
        let limit = self.common.order.stable().min(self.common.order.retain_after());
        let mut candidates: Vec<&Segment> = self
            .segments
            .values()
            .filter(|segment| segment.state() == SegmentState::Sealed && segment.last_number <= limit)
            .filter(|segment| segment.counters.dead_bytes.get() > 0 && segment.dead_ratio() >= threshold)
            .collect();
        candidates.sort_by(|a, b| b.dead_ratio().total_cmp(&a.dead_ratio()).then(a.id.cmp(&b.id)));
        let mut victims = Vec::new();
        for segment in candidates {
            victims.push(Victim::new(segment));
            let too_large = output_bytes_max(&victims) > self.common.config.segment_bytes;
            // A single one goes in any case: it may come from a time of larger segments.
            if victims.len() > 1 && (too_large || victims.len() > VICTIMS_MAX) {
                victims.pop();
                break;
            }
        }
        victims
    }
}
