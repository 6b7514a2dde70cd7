//! A key as the keydir keeps it.

use std::cmp::Ordering;

/// A key's bytes: short ones in place, long ones on the heap. 24 bytes in either case.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    Short { length: u8, bytes: [u8; Key::SHORT_BYTES_MAX] },
    Long(Box<[u8]>),
}

impl Key {
    const SHORT_BYTES_MAX: usize = 22;

    pub(crate) fn new(bytes: &[u8]) -> Self {
        if bytes.len() > Self::SHORT_BYTES_MAX {
            return Key::Long(bytes.into());
        }
        let mut short = [0; Self::SHORT_BYTES_MAX];
        short[..bytes.len()].copy_from_slice(bytes);
        Key::Short { length: bytes.len() as u8, bytes: short }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Key::Short { length, bytes } => &bytes[..*length as usize],
            Key::Long(bytes) => bytes,
        }
    }

    /// What the key takes beyond its own 24 bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Key::Short { .. } => 0,
            Key::Long(bytes) => heap_block_bytes(bytes.len()),
        }
    }
}

/// What a block of so many bytes takes of the heap: it has a header, and is rounded up.
pub(super) fn heap_block_bytes(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16).max(32)
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Key {}
impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Key {
    /// The order of the bytes. Between short keys it is that of three words and then of the lengths: what is behind a key is zero.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Key::Short { length, bytes }, Key::Short { length: other_length, bytes: other }) => {
                words(bytes).cmp(&words(other)).then(length.cmp(other_length))
            }
            _ => self.as_slice().cmp(other.as_slice()),
        }
    }
}

fn words(bytes: &[u8; Key::SHORT_BYTES_MAX]) -> [u64; 3] {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_be_bytes(word)
    };
    // The last one overlaps with the one before.
    [word(0), word(8), word(14)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_bytes() {
        let mut keys: Vec<Vec<u8>> = vec![vec![], vec![0], vec![0, 0], vec![255], vec![255; 40]];
        for length in [1, 7, 8, 9, 15, 16, 21, 22, 23, 30] {
            for last in [0, 1, 127, 255] {
                let mut key = vec![7; length];
                key[length - 1] = last;
                keys.push(key.clone());
                key.push(0);
                keys.push(key);
            }
        }
        for a in &keys {
            for b in &keys {
                assert_eq!(Key::new(a).cmp(&Key::new(b)), a.cmp(b), "{a:?} {b:?}");
                assert_eq!(Key::new(a) == Key::new(b), a == b);
            }
        }
    }
}
