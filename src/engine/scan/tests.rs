//! Tests of the scan: in whatever pieces a file is read, it holds the same.

use super::*;
use crate::engine::disk::sim::{Dice, SimDisk};
use crate::engine::disk::{Disk, FileHandle};
use crate::engine::types::Epoch;

const SALT: u32 = 0x5ca9;
const START: u64 = 64;

/// Commits, watermarks, gaps between them, zeros and other things behind.
fn random_segment(dice: &mut Dice) -> Vec<u8> {
    let mut file = vec![0xaa; START as usize];
    for number in 1..=dice.between(1, 40) {
        if dice.percent(10) {
            let junk = dice.index(30) * ALIGNMENT_BYTES;
            file.resize(file.len() + junk, 0x5e);
        }
        let start = file.len();
        file.resize(start + FRAME_HEADER_BYTES, 0);
        let kind = if dice.percent(15) { FrameKind::Watermark } else { FrameKind::Commit };
        let mut records = 0;
        if kind == FrameKind::Watermark {
            file.extend(frame::encode_watermark(&[Number(number), Number(3)], SALT));
        } else {
            for _ in 0..dice.below(4) {
                let mut value = vec![0; dice.index(700)];
                dice.fill(&mut value);
                record::append(&mut file, SALT, RecordKind::Put, b"key", &value);
                records += 1;
            }
        }
        let length = frame::padded_length(file.len() - start);
        file.resize(start + length, 0);
        let (stable, epoch) = (Number(number / 2), Epoch(1));
        let header = FrameHeader {
            length: length as u32,
            number: Number(number),
            stable,
            commit: 0,
            epoch,
            parts: 1,
            kind,
            records,
        };
        header.encode_into(&mut file[start..], SALT);
    }
    for _ in 0..dice.below(4) {
        let at = START as usize + dice.index(file.len() - START as usize);
        file[at] ^= 1 << dice.below(8);
    }
    let behind = dice.index(3) * 300;
    file.resize(file.len() + behind, 0);
    if dice.percent(30) {
        file.push(7);
    }
    file
}

fn file_with(disk: &SimDisk, name: &str, content: &[u8]) -> FileHandle {
    let file = disk.create(name).unwrap();
    file.write_at(0, content).unwrap();
    file
}

#[test]
fn a_file_read_in_pieces_holds_what_it_holds_in_memory() {
    let disk = SimDisk::new(1);
    let (mut gaps, mut tails) = (0, 0);
    for seed in 0..600 {
        let mut dice = Dice::new(seed);
        let content = random_segment(&mut dice);
        let file = file_with(&disk, &format!("{seed}"), &content);
        let whole = scan(&mut &content[..], START, SALT).unwrap();
        for piece in [FRAME_HEADER_BYTES, 50, 64, 1000, 1 << 20] {
            let mut window = Window::with_piece(&file, content.len() as u64, piece);
            assert_eq!(scan(&mut window, START, SALT).unwrap(), whole, "seed {seed}, pieces of {piece}");
        }
        gaps += whole.gaps.len();
        tails += usize::from(whole.tail_bytes > 0);
    }
    assert!(gaps > 100 && tails > 100, "{gaps} gaps, {tails} tails");
}

/// Of a large file, no more than a piece is in memory, and of a large frame, the frame.
#[test]
fn memory_is_bounded_by_a_piece_and_the_largest_frame() {
    let disk = SimDisk::new(1);
    let mut dice = Dice::new(1);
    let mut content = random_segment(&mut dice);
    content.resize(content.len() + (8 << 20), 0);
    let file = file_with(&disk, "large", &content);
    let mut window = Window::over(&file, content.len() as u64);
    scan(&mut window, START, SALT).unwrap();
    assert!(window.held_bytes() <= 1 << 20, "{} bytes", window.held_bytes());
}
