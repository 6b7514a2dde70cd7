//! What the tests of the formats share: seeded randomness, every flip of a bit, every truncation, hexadecimal.

use crate::engine::types::StoreId;

/// A xorshift generator: the same seed gives the same test.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to `end`, exclusive.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    pub(crate) fn store(&mut self) -> StoreId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.bytes(16));
        StoreId(id)
    }
}

/// Calls `see` with every copy of the bytes that differs in one bit, and the index of the byte that it is in.
pub(crate) fn each_flip(bytes: &[u8], mut see: impl FnMut(usize, &[u8])) {
    let mut flipped = bytes.to_vec();
    for index in 0..bytes.len() {
        for bit in 0..8 {
            flipped[index] ^= 1 << bit;
            see(index, &flipped);
            flipped[index] ^= 1 << bit;
        }
    }
}

/// Calls `see` with every proper beginning of the bytes.
pub(crate) fn each_truncation(bytes: &[u8], see: impl FnMut(&[u8])) {
    (0..bytes.len()).map(|length| &bytes[..length]).for_each(see);
}

/// The bytes in hexadecimal, two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
