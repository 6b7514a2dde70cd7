//! Which segments are worth replacing.

use super::read::Source;
use crate::engine::core::Core;
use crate::engine::format::Form;
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

/// From which share of saved bytes on it is worth it, by hand, to pack what lives.
const PACKING_THRESHOLD: f64 = 0.1;

/// What makes a segment worth replacing.
#[derive(Clone, Copy)]
pub(super) struct Worth {
    /// From which share of dead bytes on.
    pub(super) dead_ratio: f64,
    /// Or what lives takes much more than it would in a packed segment, however little is dead.
    pub(super) packs: bool,
}

impl Worth {
    /// Whether it is, of a segment whose frames end there.
    pub(super) fn is_met_by(self, segment: &Segment, end: u64) -> bool {
        let is_dead = segment.counters.dead_bytes.get() > 0 && segment.dead_ratio() >= self.dead_ratio;
        is_dead || self.packs && segment.packing_ratio(end) >= PACKING_THRESHOLD
    }
}

impl Core {
    /// Sealed segments worth compacting, the deadest first, together no larger than one output.
    pub(super) fn victims(&self, worth: Worth) -> Vec<Victim> {
        let limit = self.common.order.stable().min(self.common.order.retain_after());
        let is_free =
            |segment: &&Segment| segment.state() == SegmentState::Sealed && segment.last_number <= limit;
        let mut candidates: Vec<&Segment> = self
            .segments
            .values()
            .filter(is_free)
            .filter(|segment| worth.is_met_by(segment, segment.end))
            .collect();
        candidates.sort_by(|a, b| b.dead_ratio().total_cmp(&a.dead_ratio()).then(a.id.cmp(&b.id)));
        if !candidates.is_empty() {
            // Outputs that nothing was left for go on the way: not worth an output of their own, but they would become many.
            let is_empty = |segment: &&Segment| {
                segment.form == Form::Bare
                    && segment.counters.live_bytes.get() + segment.counters.dead_bytes.get() == 0
            };
            candidates.extend(self.segments.values().filter(is_free).filter(is_empty));
        }
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
