//! Answers as replies of the binding.

use super::convert::{self, FOR_EVER, errno};
use super::dispatch::{Keep, Opened, Reply, Value};
use super::request::Listing;
use crate::fs::errno::Errno;
use crate::fs::types::*;
use fuser::{
    FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// Inode numbers are never used twice.
const GENERATION: Generation = Generation(0);
/// The unit of what `statfs` shows, in bytes.
const BLOCK: u64 = 4096;

/// What a callback was given to answer with.
pub(super) enum Answerer {
    Entry(ReplyEntry),
    Created(ReplyCreate),
    Opened(ReplyOpen),
    Attributes(ReplyAttr),
    Bytes(ReplyData),
    /// Content, and the room for it.
    Content(ReplyData, Vec<u8>),
    Nothing(ReplyEmpty),
    Count(ReplyWrite),
    Statistics(ReplyStatfs),
    Xattr(ReplyXattr),
    Position(ReplyLseek),
    Names(ReplyDirectory),
    NamesPlus(ReplyDirectoryPlus),
}

impl Answerer {
    fn fail(self, error: Errno) {
        let error = errno(error);
        match self {
            Answerer::Entry(reply) => reply.error(error),
            Answerer::Created(reply) => reply.error(error),
            Answerer::Opened(reply) => reply.error(error),
            Answerer::Attributes(reply) => reply.error(error),
            Answerer::Bytes(reply) | Answerer::Content(reply, _) => reply.error(error),
            Answerer::Nothing(reply) => reply.error(error),
            Answerer::Count(reply) => reply.error(error),
            Answerer::Statistics(reply) => reply.error(error),
            Answerer::Xattr(reply) => reply.error(error),
            Answerer::Position(reply) => reply.error(error),
            Answerer::Names(reply) => reply.error(error),
            Answerer::NamesPlus(reply) => reply.error(error),
        }
    }
}

impl Reply for Answerer {
    fn answer(self, answer: Answer<Value>) {
        let value = match answer {
            Ok(value) => value,
            Err(error) => return self.fail(error),
        };
        match (self, value) {
            (Answerer::Entry(reply), Value::Entry(found, name, keep)) => {
                reply.entry_with_ttls(&time(keep), &time(name), &convert::attributes(&found), GENERATION);
            }
            (Answerer::Entry(reply), Value::NoEntry) => {
                reply.entry(&FOR_EVER, &convert::nothing(), GENERATION);
            }
            (Answerer::Created(reply), Value::Created(made)) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
                reply.created(&FOR_EVER, &convert::attributes(&made), GENERATION, FileHandle(0), flags);
            }
            (Answerer::Opened(reply), Value::Opened(opened)) => {
                let flags = match opened {
                    Opened::File => FopenFlags::FOPEN_KEEP_CACHE,
                    Opened::Directory => FopenFlags::empty(),
                    Opened::Control => FopenFlags::FOPEN_DIRECT_IO,
                };
                reply.opened(FileHandle(0), flags);
            }
            (Answerer::Attributes(reply), Value::Attributes(found, keep)) => {
                reply.attr(&time(keep), &convert::attributes(&found));
            }
            (Answerer::Bytes(reply) | Answerer::Content(reply, _), Value::Bytes(bytes)) => reply.data(&bytes),
            (Answerer::Nothing(reply), Value::Nothing) => reply.ok(),
            (Answerer::Count(reply), Value::Count(count)) => reply.written(count),
            (Answerer::Statistics(reply), Value::Statistics(found)) => {
                let free = found.available_bytes / BLOCK;
                let free_inodes = found.available_bytes / 1024;
                let (total, inodes) = (found.total_bytes / BLOCK, found.inodes + free_inodes);
                reply.statfs(total, free, free, inodes, free_inodes, BLOCK as u32, 255, BLOCK as u32);
            }
            (Answerer::Xattr(reply), Value::Count(count)) => reply.size(count),
            (Answerer::Xattr(reply), Value::Bytes(value)) => reply.data(&value),
            (Answerer::Position(reply), Value::Position(position)) => reply.offset(position as i64),
            // No callback asks for something else than what it can answer with.
            (answerer, _) => answerer.fail(Errno::EIO),
        }
    }

    fn room(&mut self, bytes: usize) -> &mut [u8] {
        let Answerer::Content(_, room) = self else { return &mut [] };
        *room = vec![0; bytes];
        room
    }

    fn filled(self, count: Answer<usize>) {
        match (self, count) {
            (Answerer::Content(reply, room), Ok(count)) => reply.data(&room[..count]),
            (answerer, count) => answerer.fail(count.err().unwrap_or(Errno::EIO)),
        }
    }

    fn names(self, directory: Inode, listing: Listing, names: &[Entry]) -> usize {
        match self {
            Answerer::Names(mut reply) => {
                let taken = take(listing, directory, names, |entry| {
                    let name = OsStr::from_bytes(&entry.name);
                    !reply.add(INodeNo(entry.inode.0), entry.position, convert::kind(entry.kind), name)
                });
                reply.ok();
                taken
            }
            Answerer::NamesPlus(mut reply) => {
                let taken = take(listing, directory, names, |entry| !add_plus(&mut reply, entry));
                reply.ok();
                taken
            }
            answerer => {
                answerer.fail(Errno::EIO);
                0
            }
        }
    }
}

/// The dots, then names, as long as `add` has room for them; returns how many of the names it had.
fn take(listing: Listing, directory: Inode, names: &[Entry], mut add: impl FnMut(&Entry) -> bool) -> usize {
    if !listing.dots(directory).all(|dot| add(&dot)) {
        return 0;
    }
    names.iter().take_while(|name| add(name)).count()
}

/// A name with attributes; without them nothing has been looked up, which node 0 says. True if there is no room for it.
fn add_plus(reply: &mut ReplyDirectoryPlus, entry: &Entry) -> bool {
    let name = OsStr::from_bytes(&entry.name);
    match &entry.attributes {
        Some(found) => {
            let (node, attributes) = (INodeNo(entry.inode.0), convert::attributes(found));
            reply.add(node, entry.position, name, &FOR_EVER, &attributes, GENERATION)
        }
        None => {
            let attributes = convert::name_only(entry.inode, entry.kind);
            reply.add(INodeNo(0), entry.position, name, &Duration::ZERO, &attributes, GENERATION)
        }
    }
}

fn time(keep: Keep) -> Duration {
    if keep == Keep::ForEver { FOR_EVER } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_reply_takes_no_more() {
        let listing = Listing { offset: 0, size: 0, attributes: false };
        let name = Entry {
            position: 3,
            name: b"name".to_vec(),
            inode: Inode(5),
            kind: Kind::File,
            attributes: None,
        };
        for (room, taken) in [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 2)] {
            let mut asked = 0;
            let add = |_: &Entry| {
                asked += 1;
                asked <= room
            };
            assert_eq!(take(listing, Inode::ROOT, &[name.clone(), name.clone()], add), taken);
            assert_eq!(asked, (room + 1).min(4), "who has said that it is full is asked no more");
        }
    }
}
