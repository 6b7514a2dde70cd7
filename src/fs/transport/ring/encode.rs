//! Answers as bytes of a reply. Pure.

use crate::fs::transport::dispatch::Opened;
use crate::fs::types::*;

/// As good as for ever, in seconds: the kernel may keep what only it can change.
pub(super) const FOR_EVER: u64 = u32::MAX as u64;

/// Bytes of an entry, as LOOKUP answers it.
const ENTRY_BYTES: usize = 128;
/// Bytes of a name in a listing, without the name.
const NAME_HEADER_BYTES: usize = 24;

/// A reply that is being filled.
pub(super) struct Filling<'a> {
    bytes: &'a mut [u8],
    limit: usize,
    length: usize,
}

impl<'a> Filling<'a> {
    /// Into these bytes.
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Filling { limit: bytes.len(), bytes, length: 0 }
    }

    /// Whoever asked has only so much room.
    pub(super) fn limit(&mut self, bytes: usize) {
        self.limit = self.limit.min(bytes);
    }

    /// Bytes so far.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// So many bytes, nothing else, have been put there already.
    pub(super) fn is_filled(&mut self, bytes: usize) {
        self.length = bytes.min(self.limit);
    }

    /// Adds bytes, as many as there is room for.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let room = &mut self.bytes[self.length..self.limit];
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.length += count;
    }

    pub(super) fn word(&mut self, value: u32) {
        self.put(&value.to_ne_bytes());
    }

    pub(super) fn long(&mut self, value: u64) {
        self.put(&value.to_ne_bytes());
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.limit - self.length >= bytes
    }
}

/// The type bits of a mode.
fn type_bits(kind: Kind) -> u32 {
    match kind {
        Kind::File => libc::S_IFREG,
        Kind::Directory => libc::S_IFDIR,
        Kind::Symlink => libc::S_IFLNK,
        Kind::Fifo => libc::S_IFIFO,
        Kind::Socket => libc::S_IFSOCK,
        Kind::CharDevice => libc::S_IFCHR,
        Kind::BlockDevice => libc::S_IFBLK,
    }
}

fn attributes_only(to: &mut Filling<'_>, attributes: &Attributes) {
    let a = attributes;
    let times = [a.accessed, a.modified, a.changed];
    to.long(a.inode.0);
    to.long(a.size);
    to.long(a.blocks);
    times.iter().for_each(|time| to.long(time.seconds as u64));
    times.iter().for_each(|time| to.word(time.nanoseconds));
    to.word(type_bits(a.kind) | u32::from(a.permissions));
    to.word(a.links);
    to.word(a.uid);
    to.word(a.gid);
    to.word(a.device);
    to.word(a.block_bytes);
    to.word(0);
}

/// GETATTR and SETATTR; the kernel may keep it for so many seconds.
pub(super) fn attributes(to: &mut Filling<'_>, seconds: u64, attributes: &Attributes) {
    to.long(seconds);
    to.long(0);
    attributes_only(to, attributes);
}

/// LOOKUP and whatever makes an inode; how long the name and the attributes may be kept.
pub(super) fn entry(to: &mut Filling<'_>, name_seconds: u64, seconds: u64, attributes: &Attributes) {
    to.long(attributes.inode.0);
    // Inode numbers are never used twice.
    to.long(0);
    to.long(name_seconds);
    to.long(seconds);
    to.long(0);
    attributes_only(to, attributes);
}

/// That a name isn't there may be kept as well.
pub(super) fn no_entry(to: &mut Filling<'_>) {
    to.put(&[0; 16]);
    to.long(FOR_EVER);
    to.put(&[0; ENTRY_BYTES - 24]);
}

/// Flags of what is open: `FOPEN_*`.
const DIRECT_IO: u32 = 1 << 0;
const KEEP_CACHE: u32 = 1 << 1;
const NO_FLUSH: u32 = 1 << 5;

/// What CREATE adds to its entry: the pages may be kept, and closing needs no request.
pub(super) fn created(to: &mut Filling<'_>) {
    to.long(0);
    to.word(KEEP_CACHE | NO_FLUSH);
    to.word(0);
}

/// OPEN and OPENDIR.
pub(super) fn opened(to: &mut Filling<'_>, opened: Opened) {
    to.long(0);
    to.word(match opened {
        Opened::File => KEEP_CACHE,
        Opened::Directory => 0,
        Opened::Control => DIRECT_IO,
    });
    to.word(0);
}

/// STATX, with the time of birth.
pub(super) fn statx(to: &mut Filling<'_>, attributes: &Attributes) {
    let a = attributes;
    to.long(FOR_EVER);
    to.put(&[0; 24]);
    to.word(libc::STATX_BASIC_STATS | libc::STATX_BTIME);
    to.word(a.block_bytes);
    to.long(0);
    to.word(a.links);
    to.word(a.uid);
    to.word(a.gid);
    to.put(&(type_bits(a.kind) as u16 | a.permissions).to_ne_bytes());
    to.put(&[0; 2]);
    to.long(a.inode.0);
    to.long(a.size);
    to.long(a.blocks);
    to.long(0);
    for time in [a.accessed, a.born, a.changed, a.modified] {
        to.long(time.seconds as u64);
        to.word(time.nanoseconds);
        to.word(0);
    }
    // As the kernel packs device numbers in requests: twelve bits of major number in the middle.
    to.word((a.device >> 8) & 0xfff);
    to.word((a.device & 0xff) | ((a.device >> 12) & 0xfff00));
    to.put(&[0; 120]);
}

/// STATFS.
pub(super) fn statistics(to: &mut Filling<'_>, found: &Statistics) {
    const BLOCK: u64 = 4096;
    let free = found.available_bytes / BLOCK;
    let free_inodes = found.available_bytes / 1024;
    to.long(found.total_bytes / BLOCK);
    to.long(free);
    to.long(free);
    to.long(found.inodes + free_inodes);
    to.long(free_inodes);
    to.word(BLOCK as u32);
    to.word(255);
    to.word(BLOCK as u32);
    to.put(&[0; 28]);
}

/// A name in a listing; false if there is no room for it.
pub(super) fn name(to: &mut Filling<'_>, entry: &Entry) -> bool {
    let room = (NAME_HEADER_BYTES + entry.name.len()).next_multiple_of(8);
    if !to.has_room(room) {
        return false;
    }
    to.long(entry.inode.0);
    to.long(entry.position);
    to.word(entry.name.len() as u32);
    to.word(type_bits(entry.kind) >> 12);
    to.put(&entry.name);
    to.put(&[0; 8][..room - NAME_HEADER_BYTES - entry.name.len()]);
    true
}

/// A name in a listing with attributes; without them nothing has been looked up, which node 0 says.
pub(super) fn name_plus(to: &mut Filling<'_>, found: &Entry) -> bool {
    let room = (NAME_HEADER_BYTES + found.name.len()).next_multiple_of(8);
    if !to.has_room(ENTRY_BYTES + room) {
        return false;
    }
    match &found.attributes {
        Some(attributes) => entry(to, FOR_EVER, FOR_EVER, attributes),
        None => to.put(&[0; ENTRY_BYTES]),
    }
    name(to, found)
}
