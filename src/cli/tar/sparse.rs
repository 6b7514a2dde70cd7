//! Files with holes in archives, as GNU tar writes them in pax archives (version 1.0: the map stands before the data), and, for reading, the older ways
//! with the map in pax records. Pure.

use std::io::{self, Read};

/// The map is filled up to a multiple of this.
const BLOCK_BYTES: usize = 512;
/// No line of the map is longer: a number of 64 bits, and its end.
const LINE_BYTES_MAX: usize = 21;

/// Where bytes lie: begin and length.
pub(super) type Extent = (u64, u64);

/// The map of a file of `size` bytes, filled up.
pub(super) fn encode(extents: &[Extent], size: u64) -> Vec<u8> {
    // A hole at the end is told by an extent without bytes there.
    let ends_in_hole = extents.last().is_none_or(|(begin, length)| begin + length < size);
    let end = ends_in_hole.then_some((size, 0));
    let mut map = format!("{}\n", extents.len() + usize::from(ends_in_hole));
    for (begin, length) in extents.iter().copied().chain(end) {
        map += &format!("{begin}\n{length}\n");
    }
    let mut bytes = map.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    bytes
}

/// Reads a map; what follows in the stream is data.
pub(super) fn decode(from: &mut impl Read, size: u64) -> io::Result<Vec<Extent>> {
    let mut lines = Lines { from, read_bytes: 0 };
    let count = lines.number()?;
    let mut extents = Vec::new();
    for _ in 0..count {
        extents.push((lines.number()?, lines.number()?));
    }
    let fill = lines.read_bytes.next_multiple_of(BLOCK_BYTES) - lines.read_bytes;
    from.read_exact(&mut vec![0; fill])?;
    check(extents, size)
}

/// Extents out of numbers in a row: of `GNU.sparse.map`, or gathered from `GNU.sparse.offset` and `GNU.sparse.numbytes`.
pub(super) fn from_numbers(numbers: &[u64], size: u64) -> io::Result<Vec<Extent>> {
    let pairs = numbers.chunks(2).map(|pair| match pair {
        [begin, length] => Ok((*begin, *length)),
        _ => Err(wrong()),
    });
    check(pairs.collect::<io::Result<_>>()?, size)
}

fn check(extents: Vec<Extent>, size: u64) -> io::Result<Vec<Extent>> {
    let mut end = 0;
    for (begin, length) in &extents {
        let next = begin.checked_add(*length).ok_or_else(wrong)?;
        if *begin < end || next > size {
            return Err(wrong());
        }
        end = next;
    }
    Ok(extents)
}

fn wrong() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the map of its holes is wrong")
}

struct Lines<'a, R: Read> {
    from: &'a mut R,
    read_bytes: usize,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> io::Result<u64> {
        let mut line = String::new();
        loop {
            let mut byte = [0];
            self.from.read_exact(&mut byte)?;
            self.read_bytes += 1;
            match byte[0] {
                b'\n' => return line.parse().map_err(|_| wrong()),
                digit if digit.is_ascii_digit() && line.len() < LINE_BYTES_MAX => {
                    line.push(char::from(digit))
                }
                _ => return Err(wrong()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_as_they_are_written() {
        for (extents, size) in [
            (vec![], 10),
            (vec![(0, 10)], 10),
            (vec![(5, 5)], 1 << 40),
            ((0..1000).map(|n| (n * 100, 50)).collect(), 100_000),
        ] {
            let bytes = encode(&extents, size);
            assert_eq!(bytes.len() % BLOCK_BYTES, 0);
            let mut stream = [&bytes[..], b"data"].concat();
            let mut from = &stream[..];
            let mut read = decode(&mut from, size).unwrap();
            read.retain(|(_, length)| *length > 0);
            assert_eq!((read, from), (extents, &b"data"[..]));
            stream.truncate(bytes.len() - 1);
            assert!(decode(&mut &stream[..], size).is_err());
        }
        assert_eq!(encode(&[(512, 7)], 1000)[..16], *b"2\n512\n7\n1000\n0\n\0");
    }

    #[test]
    fn wrong_maps_are_refused() {
        for map in ["x\n", "1\n5\n", "1\n0\n11\n", "2\n5\n1\n0\n1\n", "1\n18446744073709551615\n1\n", "-1\n"]
        {
            let mut bytes = map.as_bytes().to_vec();
            bytes.resize(512, 0);
            assert!(decode(&mut &bytes[..], 10).is_err(), "{map:?}");
        }
        assert!(from_numbers(&[1], 10).is_err() && from_numbers(&[1, 2, 2, 1], 10).is_err());
        assert_eq!(from_numbers(&[1, 2, 3, 1], 10).unwrap(), [(1, 2), (3, 1)]);
    }
}
