//! What a damaged frame of an index is made again from. An index is the only place that knows its keys, so that one rotten byte must not cost
//! hundreds of them.
//!
//! Behind every group of index frames stands a parity frame: the exclusive or of the even ones and that of the odd ones, each as long as the longest. One
//! frame of each is given back, and two neighbours always are: what a disk loses may lie across the border of two.
//!
//! Owns: the body of such a frame.
//!
//! Promises: what is given back is right: it has checksums of its own.

use super::{IndexHead, decode_index};
use crate::engine::format::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::engine::format::{ALIGNMENT_BYTES, Damage, crc, get, is_zero, put, tiles};
use crate::engine::types::Number;
use std::ops::Range;

/// What a lane without frames is: not zero, else a lane of a single frame would look like that frame.
const EMPTY: u8 = 0xff;

/// The most index frames that a parity frame stands for.
pub(in crate::engine::format) const GROUP_FRAMES_MAX: usize = 32;

/// Offsets in the body, as in the byte table.
mod at {
    pub const CRC: usize = 0;
    pub const EVEN_LENGTH: usize = 4;
    pub const ODD_LENGTH: usize = 8;
    pub const RESERVED: usize = 12;
    pub const LANES: usize = 16;
}
const _: () =
    assert!(tiles(&[(at::CRC, 4), (at::EVEN_LENGTH, 4), (at::ODD_LENGTH, 4), (at::RESERVED, 4)], at::LANES));

/// Appends the parity frame of a group of frames in `out`.
pub(super) fn append(out: &mut Vec<u8>, group: &[Range<usize>], salt: u32, head: &IndexHead, number: Number) {
    let lane = |first: usize| {
        let frames = group.iter().skip(first).step_by(2);
        let mut lane = vec![EMPTY; frames.clone().map(Range::len).max().unwrap_or(0)];
        frames.for_each(|frame| add(&mut lane, &out[frame.clone()]));
        lane
    };
    let (even, odd) = (lane(0), lane(1));
    let begin = out.len();
    let body = begin + FRAME_HEADER_BYTES;
    out.resize(body + at::LANES, 0);
    put(&mut out[body..], at::EVEN_LENGTH, (even.len() as u32).to_le_bytes());
    put(&mut out[body..], at::ODD_LENGTH, (odd.len() as u32).to_le_bytes());
    out.extend(even);
    out.extend(odd);
    let crc = crc(Some(salt), &[&out[body + at::EVEN_LENGTH..]]);
    put(&mut out[body..], at::CRC, crc.to_le_bytes());
    let header = FrameHeader {
        length: (out.len() - begin) as u32,
        number,
        stable: head.stable,
        commit: head.last_number.0,
        epoch: head.epoch,
        parts: 1,
        kind: FrameKind::Parity,
        records: group.len() as u32,
    };
    header.encode_into(&mut out[begin..], salt);
}

/// The even and the odd lane of a parity frame's body.
pub fn decode_parity<'a>(header: &FrameHeader, body: &'a [u8], salt: u32) -> Result<[&'a [u8]; 2], Damage> {
    if header.kind != FrameKind::Parity {
        return Err(Damage::Kind);
    }
    let (fixed, lanes) = body.split_at_checked(at::LANES).ok_or(Damage::TooShort)?;
    let [even, odd] = [at::EVEN_LENGTH, at::ODD_LENGTH].map(|at| u32::from_le_bytes(get(fixed, at)) as usize);
    if even.saturating_add(odd) != lanes.len() {
        return Err(Damage::Length);
    }
    if crc(Some(salt), &[&body[at::EVEN_LENGTH..]]) != u32::from_le_bytes(get(body, at::CRC)) {
        return Err(Damage::Checksum("parity"));
    }
    if !is_zero(&fixed[at::RESERVED..]) {
        return Err(Damage::Reserved);
    }
    let (even, odd) = lanes.split_at(even);
    Ok([even, odd])
}

fn add(lane: &mut [u8], frame: &[u8]) {
    lane.iter_mut().zip(frame).for_each(|(sum, byte)| *sum ^= byte);
}

/// A good frame at the begin of the bytes, with its body verified.
fn frame_at(bytes: &[u8], salt: u32) -> Option<FrameHeader> {
    let header = FrameHeader::decode(bytes, salt).ok()?;
    let body = bytes.get(FRAME_HEADER_BYTES..header.length as usize)?;
    let is_right = match header.kind {
        FrameKind::Index => decode_index(&header, body, salt).is_ok(),
        FrameKind::Parity => decode_parity(&header, body, salt).is_ok(),
        FrameKind::Seal => true,
        _ => false,
    };
    is_right.then_some(header)
}

/// Makes damaged frames again where that can be done. `index` is all of it, from its first frame on; what is given back is written over
/// what was there.
pub fn mend(index: &mut [u8], salt: u32) {
    let (mut group, mut holes, mut at) = (Vec::new(), Vec::new(), 0);
    while at < index.len() {
        let Some(header) = frame_at(&index[at..], salt) else {
            let next = (at + ALIGNMENT_BYTES..index.len())
                .step_by(ALIGNMENT_BYTES)
                .find(|next| frame_at(&index[*next..], salt).is_some());
            let next = next.unwrap_or(index.len());
            if group.len() == GROUP_FRAMES_MAX {
                // It can only be the group's own parity frame.
                (group, holes, at) = (Vec::new(), Vec::new(), next);
                continue;
            }
            holes.push((group.len(), at..next));
            at = next;
            continue;
        };
        let frame = at..at + header.length as usize;
        at = frame.end;
        match header.kind {
            FrameKind::Index => group.push(frame),
            _ => {
                if header.kind == FrameKind::Parity {
                    // Best effort: where it can't be done, the frame stays what it is.
                    let _ = mend_group(index, salt, &group, &holes, &header, frame);
                }
                (group, holes) = (Vec::new(), Vec::new());
            }
        }
    }
}

/// Fills the holes of a group; each comes with how many good frames lie before it.
fn mend_group(
    index: &mut [u8],
    salt: u32,
    group: &[Range<usize>],
    holes: &[(usize, Range<usize>)],
    header: &FrameHeader,
    parity: Range<usize>,
) -> Option<()> {
    let missing = (header.records as usize).checked_sub(group.len()).filter(|missing| *missing > 0)?;
    // Either all are in one hole, or each is in one of its own.
    let in_each = match holes.len() {
        1 => missing,
        count if count == missing => 1,
        _ => return None,
    };
    let body = index[parity.start + FRAME_HEADER_BYTES..parity.end].to_vec();
    let mut lanes = decode_parity(header, &body, salt).ok()?.map(<[u8]>::to_vec);
    lanes.iter_mut().flatten().for_each(|byte| *byte ^= EMPTY);
    // The place in the group of the n-th good frame.
    let place = |n: usize| n + holes.iter().filter(|(before, _)| *before <= n).count() * in_each;
    for (n, frame) in group.iter().enumerate() {
        add(&mut lanes[place(n) % 2], &index[frame.clone()]);
    }
    let mut found = Vec::new();
    for (nth, (before, hole)) in holes.iter().enumerate() {
        let mut at = hole.start;
        for which in 0..in_each {
            // A lane gives back one; taken, it has nothing more to give.
            let frame = std::mem::take(&mut lanes[(before + nth * in_each + which) % 2]);
            let length =
                frame_at(&frame, salt).filter(|header| header.kind == FrameKind::Index)?.length as usize;
            found.push((at, frame[..length].to_vec()));
            at += length;
        }
        if at != hole.end {
            return None;
        }
    }
    for (at, frame) in found {
        index[at..at + frame.len()].copy_from_slice(&frame);
    }
    Some(())
}

#[cfg(test)]
mod tests;
