//! Tests of the parity of an index.

use super::super::super::record::RecordKind;
use super::super::super::testing::{Random, each_flip, each_truncation};
use super::super::IndexWriter;
use super::*;
use crate::engine::types::Epoch;

const SALT: u32 = 0x5a17_0003;
const HEAD: IndexHead = IndexHead { last_number: Number(900), stable: Number(950), epoch: Epoch(3) };

/// An index of so many frames of different lengths, without its seal.
fn index(frames: usize) -> Vec<u8> {
    let mut random = Random::new(frames as u64);
    let mut writer = IndexWriter::new(SALT, HEAD, 64);
    let mut closed = 0;
    while closed < frames {
        let key_length = 1 + random.below(200);
        let value_length = random.below(60_000) as u32;
        let before = writer.frames();
        writer.push(
            Number(1 + random.below(1000) as u64),
            RecordKind::Put,
            value_length,
            &random.bytes(key_length),
        );
        closed += writer.frames() - before;
    }
    writer.finish()
}

/// The frames of one kind.
fn places(index: &[u8], kind: FrameKind) -> Vec<Range<usize>> {
    let (mut at, mut found) = (0, Vec::new());
    while at < index.len() {
        let header = frame_at(&index[at..], SALT).unwrap();
        let end = at + header.length as usize;
        if header.kind == kind {
            found.push(at..end);
        }
        at = end;
    }
    found
}

fn damaged(index: &[u8], hole: Range<usize>) -> Vec<u8> {
    let mut damaged = index.to_vec();
    damaged[hole].iter_mut().for_each(|byte| *byte = !*byte);
    damaged
}

fn is_mended(index: &[u8], mut damaged: Vec<u8>) -> bool {
    mend(&mut damaged, SALT);
    damaged == index
}

#[test]
fn one_frame_and_two_neighbours_are_given_back() {
    for count in [1, 2, 3, 31, 32, 33, 70] {
        let index = index(count);
        let frames = places(&index, FrameKind::Index);
        assert_eq!((frames.len(), places(&index, FrameKind::Parity).len()), (count, count.div_ceil(32)));
        let mut untouched = index.clone();
        mend(&mut untouched, SALT);
        assert!(untouched == index);
        for frame in &frames {
            assert!(is_mended(&index, damaged(&index, frame.clone())));
            assert!(is_mended(&index, damaged(&index, frame.start..frame.start + 4)));
            assert!(is_mended(&index, damaged(&index, frame.end - 9..frame.end)));
        }
        // What lies across the border of two frames that stand in one group.
        for pair in frames.windows(2).filter(|pair| pair[0].end == pair[1].start) {
            assert!(is_mended(&index, damaged(&index, pair[0].end - 9..pair[1].start + 9)));
            assert!(is_mended(&index, damaged(&index, pair[0].start..pair[1].end)));
        }
    }
}

#[test]
fn what_cannot_be_given_back_is_left() {
    let index = index(40);
    let frames = places(&index, FrameKind::Index);
    // Two of a lane; three in a row; a frame and its parity.
    for holes in [[3..4, 5..6], [3..4, 4..6]] {
        let mut broken = index.clone();
        for frame in holes.into_iter().flatten() {
            broken = damaged(&broken, frames[frame].clone());
        }
        assert!(!is_mended(&index, broken.clone()));
        let mut again = broken.clone();
        mend(&mut again, SALT);
        assert!(again == broken);
    }
    // One of each lane, apart; and one in each group.
    let apart = damaged(&damaged(&index, frames[3].clone()), frames[8].clone());
    assert!(is_mended(&index, apart));
    let each = damaged(&damaged(&index, frames[3].clone()), frames[35].clone());
    assert!(is_mended(&index, each));
    let parity = places(&index, FrameKind::Parity)[0].clone();
    assert!(!is_mended(&index, damaged(&damaged(&index, frames[3].clone()), parity.clone())));
    let other_group = damaged(&damaged(&index, frames[35].clone()), parity.clone());
    let mut mended = other_group.clone();
    mend(&mut mended, SALT);
    assert!(mended == damaged(&index, parity), "the second group has its own");
}

#[test]
fn every_flip_and_truncation_is_an_error() {
    let mut writer = IndexWriter::new(SALT, HEAD, 64);
    writer.push(Number(3), RecordKind::Put, 7, b"key");
    let index = writer.finish();
    let place = places(&index, FrameKind::Parity)[0].clone();
    let header = FrameHeader::decode(&index[place.clone()], SALT).unwrap();
    let body = &index[place][FRAME_HEADER_BYTES..];
    each_flip(body, |byte, body| assert!(decode_parity(&header, body, SALT).is_err(), "byte {byte}"));
    each_truncation(body, |body| assert!(decode_parity(&header, body, SALT).is_err()));
    assert!(decode_parity(&header, body, SALT + 1).is_err());
}

/// Else it would be found again where the parity frame's own header is damaged.
#[test]
fn a_lane_of_one_frame_is_no_frame() {
    let index = index(1);
    let frames =
        (0..index.len()).step_by(ALIGNMENT_BYTES).filter(|at| frame_at(&index[*at..], SALT).is_some());
    assert_eq!(frames.count(), 2);
}

/// Whatever lies there, mending comes to an end and changes nothing that it can't prove.
#[test]
fn any_bytes_are_left_alone() {
    let mut random = Random::new(5);
    for _ in 0..200 {
        let length = random.below(3000);
        let bytes = random.bytes(length);
        let mut mended = bytes.clone();
        mend(&mut mended, SALT);
        assert!(mended == bytes);
    }
}
