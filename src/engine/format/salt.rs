//! The salt of a segment, from any frame in it: for when its header can't be read.
//!
//! Owns: running the checksum backwards. For each frame header there is one salt, and no other, with which its checksum is right; so a salt that was
//! found this way says nothing by itself, and must be tried on something else.

use super::frame::FRAME_HEADER_BYTES;
use super::get;

/// The polynomial of CRC32C, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The salt with which the checksum of the frame header at the begin of the bytes is right.
pub fn salt_of(bytes: &[u8]) -> Option<u32> {
    let header = bytes.get(..FRAME_HEADER_BYTES)?;
    let table = table();
    let after_all = !u32::from_le_bytes(get(header, 0));
    let after_salt = header[4..].iter().rev().fold(after_all, |state, byte| back(&table, state, *byte));
    // Taking in four bytes is the same as adding them to the state and taking in zeros.
    let salted = [0; 4].iter().fold(after_salt, |state, byte| back(&table, state, *byte));
    Some(!salted)
}

fn table() -> [u32; 256] {
    std::array::from_fn(|index| {
        (0..8).fold(index as u32, |crc, _| if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ POLYNOMIAL })
    })
}

/// The state before a byte was taken in.
fn back(table: &[u32; 256], state: u32, byte: u8) -> u32 {
    let index = table.iter().position(|entry| entry >> 24 == state >> 24).unwrap_or(0);
    (state ^ table[index]) << 8 | index as u32 ^ u32::from(byte)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Random;
    use super::super::{FrameHeader, FrameKind};
    use super::*;
    use crate::engine::types::{Epoch, Number};

    #[test]
    fn a_frame_tells_its_salt() {
        let mut random = Random::new(1);
        for salt in [0, 1, u32::MAX].into_iter().chain((0..200).map(|n| n * 0x9e37_79b9 % u32::MAX)) {
            let header = FrameHeader {
                length: 48,
                number: Number(random.next() | 1),
                stable: Number(random.next()),
                commit: 0,
                epoch: Epoch(random.next() as u32),
                parts: 1,
                kind: FrameKind::Void,
                records: 0,
            };
            assert_eq!(salt_of(&header.encode(salt)), Some(salt));
        }
        assert_eq!(salt_of(&[0; 47]), None);
    }
}
