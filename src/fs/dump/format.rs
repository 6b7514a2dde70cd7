//! The format of a dump, as docs/DUMP.md has it: bytes to values and back. Reads and writes streams; knows nothing of stores.

use std::io::{self, Read, Write};

const MAGIC: &[u8; 8] = b"BITKVDMP";
const VERSION: u32 = 1;
/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 64;
const BLOCK_HEADER_BYTES: usize = 8;
const RECORD_HEADER_BYTES: usize = 8;
/// A block is written once it has so many bytes.
const BLOCK_BYTES: usize = 1 << 20;
/// No block is longer: the largest value, the longest key, and what was in the block before.
const BLOCK_BYTES_MAX: u32 = 17_000_000;
const _: () = assert!(16 * (1 << 20) + 65_536 < BLOCK_BYTES_MAX as usize);

/// What a dump says of its store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Size of a chunk of content, in bytes.
    pub chunk_bytes: u32,
    /// No number from here on was ever given out.
    pub counter_end: u64,
    /// The store's id.
    pub store: [u8; 16],
    /// When it was made, in nanoseconds since 1970.
    pub made_ns: i64,
    /// How many partitions it had.
    pub partitions: u16,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.chunk_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.counter_end.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.store);
        bytes[40..48].copy_from_slice(&self.made_ns.to_le_bytes());
        bytes[48..50].copy_from_slice(&self.partitions.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, String> {
        if &bytes[..8] != MAGIC {
            return Err("this is no dump of a store".to_string());
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(format!("the dump has version {version}, and this program knows version {VERSION}"));
        }
        if u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return Err("the dump's header is damaged".to_string());
        }
        Ok(Header {
            chunk_bytes: u32_at(bytes, 12),
            counter_end: u64_at(bytes, 16),
            store: bytes[24..40].try_into().expect("16 bytes"),
            made_ns: u64_at(bytes, 40) as i64,
            partitions: u16::from_le_bytes([bytes[48], bytes[49]]),
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn block_crc(number: u64, length: u32, body: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), &length.to_le_bytes());
    crc32c::crc32c_append(crc, body)
}

fn end_crc(blocks: u64, records: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&blocks.to_le_bytes()), &records.to_le_bytes())
}

/// Writes a dump.
pub(super) struct Writer<W: Write> {
    out: W,
    body: Vec<u8>,
    blocks: u64,
    records: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(mut out: W, header: &Header) -> io::Result<Self> {
        out.write_all(&header.encode())?;
        Ok(Writer { out, body: Vec::with_capacity(BLOCK_BYTES), blocks: 0, records: 0 })
    }

    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let record_bytes = RECORD_HEADER_BYTES + key.len() + value.len();
        if !self.body.is_empty() && self.body.len() + record_bytes > BLOCK_BYTES {
            self.end_block()?;
        }
        self.body.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.body.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.body.extend_from_slice(key);
        self.body.extend_from_slice(value);
        self.records += 1;
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let length = self.body.len() as u32;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&block_crc(self.blocks, length, &self.body).to_le_bytes())?;
        self.out.write_all(&self.body)?;
        self.body.clear();
        self.blocks += 1;
        Ok(())
    }

    /// Writes the end; returns how many records there are.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        if !self.body.is_empty() {
            self.end_block()?;
        }
        self.out.write_all(&0u32.to_le_bytes())?;
        self.out.write_all(&end_crc(self.blocks, self.records).to_le_bytes())?;
        self.out.write_all(&self.records.to_le_bytes())?;
        self.out.flush()?;
        Ok(self.records)
    }
}

/// Keys with their values.
pub(super) type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads a dump.
pub(super) struct Reader<R: Read> {
    from: R,
    blocks: u64,
    records: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(mut from: R) -> Result<(Self, Header), String> {
        let mut bytes = [0; HEADER_BYTES];
        read(&mut from, &mut bytes)?;
        Ok((Reader { from, blocks: 0, records: 0 }, Header::decode(&bytes)?))
    }

    /// The records of the next block; None at the end, which is then all that there is.
    pub(super) fn next(&mut self) -> Result<Option<Records>, String> {
        let mut header = [0; BLOCK_HEADER_BYTES];
        read(&mut self.from, &mut header)?;
        let (length, crc) = (u32_at(&header, 0), u32_at(&header, 4));
        if length == 0 {
            return self.end(crc).map(|()| None);
        }
        let damaged = || format!("block {} of the dump is damaged", self.blocks);
        if length > BLOCK_BYTES_MAX {
            return Err(damaged());
        }
        let mut body = vec![0; length as usize];
        read(&mut self.from, &mut body)?;
        if block_crc(self.blocks, length, &body) != crc {
            return Err(damaged());
        }
        let records = records(&body).ok_or_else(damaged)?;
        self.blocks += 1;
        self.records += records.len() as u64;
        Ok(Some(records))
    }

    fn end(&mut self, crc: u32) -> Result<(), String> {
        let mut count = [0; 8];
        read(&mut self.from, &mut count)?;
        let count = u64::from_le_bytes(count);
        if end_crc(self.blocks, count) != crc || count != self.records {
            return Err("the dump's end is damaged, or something before it is missing".to_string());
        }
        let mut more = [0; 1];
        match self.from.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err("something follows the dump's end".to_string()),
            Err(error) => Err(format!("reading the dump: {error}")),
        }
    }
}

fn read(from: &mut impl Read, bytes: &mut [u8]) -> Result<(), String> {
    from.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "the dump is incomplete: it ends too early".to_string(),
        _ => format!("reading the dump: {error}"),
    })
}

fn records(body: &[u8]) -> Option<Records> {
    let mut records = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (header, behind) = rest.split_at_checked(RECORD_HEADER_BYTES)?;
        let (key, behind) = behind.split_at_checked(u32_at(header, 0) as usize)?;
        let (value, behind) = behind.split_at_checked(u32_at(header, 4) as usize)?;
        records.push((key.to_vec(), value.to_vec()));
        rest = behind;
    }
    Some(records)
}

#[cfg(test)]
mod tests;
