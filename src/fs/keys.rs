//! The key table: everything that the filesystem keeps, and under which key. Pure.
//!
//! | key | value | lives in the partition of |
//! |---|---|---|
//! | `D` parent (8) name | [`EntryRecord`]; a tombstone's note: when it was removed | the slot of hash(parent, name) |
//! | `I` inode (8) | attributes, and the content of a small file or a symlink's target | the inode's slot |
//! | `C` inode (8) index (4) | a chunk of content; a shorter one is followed by zeros | the inode's slot |
//! | `X` inode (8) name | value of an extended attribute | the inode's slot |
//! | `O` inode (8) | nothing: the inode has no name left, and waits for the kernel to let go of it | the inode's slot |
//! | `M` | [`MetaRecord`] of the partition | each partition |
//!
//! Numbers in keys are big-endian, so that keys sort as their numbers do.
//!
//! An inode's number is counter (51 bits), directory flag (1 bit), slot (12 bits). A new inode gets the slot of its first entry, so
//! both live in one partition. The root is 1: a directory although its flag isn't set.

use super::types::{Inode, Kind, Time};
use crate::engine::{Number, Slot};
use xxhash_rust::xxh3::xxh3_64;

const SLOT_BITS: u32 = 12;
const DIRECTORY_FLAG: u64 = 1 << SLOT_BITS;
const COUNTER_SHIFT: u32 = SLOT_BITS + 1;
const _: () = assert!(crate::engine::limits::SLOTS as u64 == 1 << SLOT_BITS);

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// The slot of a name in a directory.
pub fn slot_of_entry(parent: Inode, name: &[u8]) -> Slot {
    const PARENT_BYTES: usize = 8;
    // At once it takes a quarter of the time of piece by piece. What is longer isn't a name, but may be asked for.
    let mut bytes = [0; PARENT_BYTES + NAME_BYTES_MAX];
    let name = &name[..name.len().min(NAME_BYTES_MAX)];
    bytes[..PARENT_BYTES].copy_from_slice(&parent.0.to_le_bytes());
    bytes[PARENT_BYTES..][..name.len()].copy_from_slice(name);
    let hash = xxh3_64(&bytes[..PARENT_BYTES + name.len()]);
    Slot((hash & (DIRECTORY_FLAG - 1)) as u16)
}

/// The slot of an inode.
pub fn slot_of_inode(inode: Inode) -> Slot {
    Slot((inode.0 & (DIRECTORY_FLAG - 1)) as u16)
}

/// The number of a new inode.
pub fn new_inode(counter: u64, slot: Slot, directory: bool) -> Inode {
    Inode(counter << COUNTER_SHIFT | u64::from(directory) << SLOT_BITS | u64::from(slot.0))
}

/// The counter's value that an inode's number was made of.
pub fn counter_of(inode: Inode) -> u64 {
    inode.0 >> COUNTER_SHIFT
}

/// Whether a number is a directory's.
pub fn is_directory(inode: Inode) -> bool {
    inode == Inode::ROOT || inode.0 & DIRECTORY_FLAG != 0
}

/// Prefix of all names in a directory.
pub fn entries_of(parent: Inode) -> Vec<u8> {
    with_number(b'D', parent)
}

/// Key of a name.
pub fn entry(parent: Inode, name: &[u8]) -> Vec<u8> {
    with_number_and(b'D', parent, name)
}

/// Parent and name of an entry's key; None if it isn't one.
pub fn parse_entry(key: &[u8]) -> Option<(Inode, &[u8])> {
    match key {
        [b'D', rest @ ..] if rest.len() > 8 => {
            let (parent, name) = rest.split_at(8);
            Some((Inode(u64::from_be_bytes(parent.try_into().ok()?)), name))
        }
        _ => None,
    }
}

/// Key of an inode.
pub fn inode(inode: Inode) -> Vec<u8> {
    with_number(b'I', inode)
}

/// Key of the mark of an inode without a name.
pub fn orphan(inode: Inode) -> Vec<u8> {
    with_number(b'O', inode)
}

/// The inode of a key of the kinds `I` and `O`; None if it is another.
pub fn parse_inode(key: &[u8]) -> Option<Inode> {
    match key {
        [b'I' | b'O', number @ ..] => Some(Inode(u64::from_be_bytes(number.try_into().ok()?))),
        _ => None,
    }
}

/// Prefix of all chunks of a file.
pub fn chunks_of(inode: Inode) -> Vec<u8> {
    with_number(b'C', inode)
}

/// Key of a chunk.
pub fn chunk(inode: Inode, index: u32) -> Vec<u8> {
    with_number_and(b'C', inode, &index.to_be_bytes())
}

/// Inode and index of a chunk's key; None if it isn't one.
pub fn parse_chunk(key: &[u8]) -> Option<(Inode, u32)> {
    match key {
        [b'C', rest @ ..] if rest.len() == 12 => {
            let (inode, index) = rest.split_at(8);
            let inode = Inode(u64::from_be_bytes(inode.try_into().ok()?));
            Some((inode, u32::from_be_bytes(index.try_into().ok()?)))
        }
        _ => None,
    }
}

/// Prefix of all extended attributes of an inode.
pub fn xattrs_of(inode: Inode) -> Vec<u8> {
    with_number(b'X', inode)
}

/// Key of an extended attribute.
pub fn xattr(inode: Inode, name: &[u8]) -> Vec<u8> {
    with_number_and(b'X', inode, name)
}

/// Inode and name of an extended attribute's key; None if it isn't one.
pub fn parse_xattr(key: &[u8]) -> Option<(Inode, &[u8])> {
    match key {
        [b'X', rest @ ..] if rest.len() > 8 => {
            let (inode, name) = rest.split_at(8);
            Some((Inode(u64::from_be_bytes(inode.try_into().ok()?)), name))
        }
        _ => None,
    }
}

/// Key of a partition's own record.
pub fn meta() -> Vec<u8> {
    b"M".to_vec()
}

fn with_number(kind: u8, inode: Inode) -> Vec<u8> {
    with_number_and(kind, inode, &[])
}

fn with_number_and(kind: u8, inode: Inode, rest: &[u8]) -> Vec<u8> {
    let number = inode.0.to_be_bytes();
    let mut key = Vec::with_capacity(1 + number.len() + rest.len());
    key.push(kind);
    key.extend_from_slice(&number);
    key.extend_from_slice(rest);
    key
}

/// Bytes of a time in records: seconds (8), nanoseconds (4).
pub const TIME_BYTES: usize = 12;

/// Appends a time to a record.
pub fn put_time(out: &mut Vec<u8>, time: Time) {
    out.extend_from_slice(&time.seconds.to_le_bytes());
    out.extend_from_slice(&time.nanoseconds.to_le_bytes());
}

/// Reads a time at an offset of a record.
pub fn get_time(bytes: &[u8], offset: usize) -> Option<Time> {
    let seconds = i64::from_le_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?);
    let nanoseconds = u32::from_le_bytes(bytes.get(offset + 8..offset + 12)?.try_into().ok()?);
    Some(Time { seconds, nanoseconds })
}

/// One byte for each kind of inode.
pub fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::File => 1,
        Kind::Directory => 2,
        Kind::Symlink => 3,
        Kind::Fifo => 4,
        Kind::Socket => 5,
        Kind::CharDevice => 6,
        Kind::BlockDevice => 7,
    }
}

/// The kind of a byte.
pub fn kind_from_code(code: u8) -> Option<Kind> {
    Some(match code {
        1 => Kind::File,
        2 => Kind::Directory,
        3 => Kind::Symlink,
        4 => Kind::Fifo,
        5 => Kind::Socket,
        6 => Kind::CharDevice,
        7 => Kind::BlockDevice,
        _ => return None,
    })
}

/// What a name leads to: inode (8), kind (1), position in listings (8), when the name came (12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryRecord {
    /// The inode.
    pub inode: Inode,
    /// What it is.
    pub kind: Kind,
    /// Where a listing continues behind it.
    pub position: u64,
    /// When the name came to be what it is.
    pub time: Time,
}

impl EntryRecord {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(29);
        out.extend_from_slice(&self.inode.0.to_le_bytes());
        out.push(kind_code(self.kind));
        out.extend_from_slice(&self.position.to_le_bytes());
        put_time(&mut out, self.time);
        out
    }

    /// Reads a record; None if it isn't one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 17 + TIME_BYTES {
            return None;
        }
        Some(EntryRecord {
            inode: Inode(u64::from_le_bytes(bytes[0..8].try_into().ok()?)),
            kind: kind_from_code(bytes[8])?,
            position: u64::from_le_bytes(bytes[9..17].try_into().ok()?),
            time: get_time(bytes, 17)?,
        })
    }
}

/// A partition's own record: the counter's reserved end (8), the number up to which times are absorbed (8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MetaRecord {
    /// Counter values below this may have been used.
    pub counter_end: u64,
    /// Every change of a directory living here with a number up to this is in the directory's own record.
    pub absorbed: Number,
}

impl MetaRecord {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        [self.counter_end.to_le_bytes(), self.absorbed.0.to_le_bytes()].concat()
    }

    /// Reads a record; None if it isn't one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 16 {
            return None;
        }
        Some(MetaRecord {
            counter_end: u64::from_le_bytes(bytes[..8].try_into().ok()?),
            absorbed: Number(u64::from_le_bytes(bytes[8..].try_into().ok()?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_can_be_read_back_and_are_what_they_always_were() {
        let parent = Inode(0x0102_0304_0506_0708);
        assert_eq!(entry(parent, b"a"), b"D\x01\x02\x03\x04\x05\x06\x07\x08a");
        assert_eq!(parse_entry(&entry(parent, b"name")), Some((parent, &b"name"[..])));
        assert_eq!(chunk(Inode(1), 258), b"C\0\0\0\0\0\0\0\x01\0\0\x01\x02");
        assert_eq!(parse_chunk(&chunk(parent, 7)), Some((parent, 7)));
        assert_eq!(parse_xattr(&xattr(parent, b"user.a")), Some((parent, &b"user.a"[..])));
        assert_eq!(parse_inode(&inode(parent)), Some(parent));
        assert_eq!(slot_of_entry(Inode(1), b"hello"), Slot(3299));
        assert_eq!(slot_of_entry(parent, &[b'n'; NAME_BYTES_MAX]), Slot(3338));
    }

    #[test]
    fn records_are_what_they_always_were() {
        let record = EntryRecord {
            inode: Inode(0x1122),
            kind: Kind::Symlink,
            position: 5,
            time: Time { seconds: -1, nanoseconds: 9 },
        };
        let bytes = record.encode();
        assert_eq!(
            bytes,
            [
                0x22, 0x11, 0, 0, 0, 0, 0, 0, 3, 5, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255,
                255, 9, 0, 0, 0
            ]
        );
        assert_eq!(EntryRecord::decode(&bytes), Some(record));
        for length in 0..bytes.len() {
            assert_eq!(EntryRecord::decode(&bytes[..length]), None);
        }
        let meta = MetaRecord { counter_end: 7, absorbed: Number(9) };
        assert_eq!(MetaRecord::decode(&meta.encode()), Some(meta));
    }

    #[test]
    fn an_inode_is_born_where_its_entry_lives() {
        let slot = slot_of_entry(Inode(1), b"file");
        for directory in [true, false] {
            let inode = new_inode(77, slot, directory);
            assert_eq!(slot_of_inode(inode), slot);
            assert_eq!(is_directory(inode), directory);
        }
    }
}
