//! A range of bytes as pieces of chunks. Pure.

/// The part of a range that lies in one chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Which chunk.
    pub index: u32,
    /// Where in the chunk it begins, in bytes.
    pub chunk_offset: usize,
    /// Where in the range it begins, in bytes.
    pub range_offset: usize,
    /// How long it is, in bytes.
    pub length: usize,
}

/// The pieces of `length` bytes at `offset`. The range must lie below [`size_max`].
pub fn pieces(offset: u64, length: usize, chunk_bytes: u32) -> impl Iterator<Item = Piece> {
    let chunk = u64::from(chunk_bytes);
    let end = offset + length as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let chunk_offset = at % chunk;
        let piece_bytes = (chunk - chunk_offset).min(end - at);
        let piece = Piece {
            index: (at / chunk) as u32,
            chunk_offset: chunk_offset as usize,
            range_offset: (at - offset) as usize,
            length: piece_bytes as usize,
        };
        at += piece_bytes;
        Some(piece)
    })
}

/// The largest file, in bytes: indexes have 32 bits, and offsets must stay positive as the kernel counts them.
pub fn size_max(chunk_bytes: u32) -> u64 {
    (u64::from(chunk_bytes) << 32).min(i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_range_once() {
        for (offset, length) in [(0u64, 0usize), (0, 1), (3, 10), (4, 4), (7, 100), (1 << 30, 9)] {
            let mut covered = 0;
            for piece in pieces(offset, length, 4) {
                assert_eq!(piece.range_offset, covered);
                assert_eq!(u64::from(piece.index) * 4 + piece.chunk_offset as u64, offset + covered as u64);
                assert!(piece.length > 0 && piece.chunk_offset + piece.length <= 4);
                covered += piece.length;
            }
            assert_eq!(covered, length);
        }
    }
}
