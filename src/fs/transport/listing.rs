//! Listings: `.` and `..`, then the names behind a position, as many as fit into the reply.

use super::answer::GENERATION;
use super::convert::{self, FOR_EVER, errno};
use crate::fs::control::Control;
use crate::fs::types::*;
use crate::fs::volume::Volume;
use fuser::{FileType, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// How many names one request is answered with at most.
const NAMES_MAX: usize = 1024;
/// The same for names with attributes, which take more room.
const NAMES_PLUS_MAX: usize = 256;
/// Positions of the two names that every directory has; those of the volume and the control directory lie behind.
const DOTS: [(u64, &[u8]); 2] = [(1, b"."), (2, b"..")];

/// Adds `.` and `..` to a listing that starts before them; true if the reply is full. Both show the directory's own number: the kernel
/// knows the parent, and programs ask it.
fn add_dots(offset: u64, mut add: impl FnMut(u64, &OsStr) -> bool) -> bool {
    DOTS.iter().filter(|(position, _)| *position > offset).any(|(at, name)| add(*at, OsStr::from_bytes(name)))
}

fn add_name(reply: &mut ReplyDirectory, entry: &Entry) -> bool {
    let name = OsStr::from_bytes(&entry.name);
    reply.add(INodeNo(entry.inode.0), entry.position, convert::kind(entry.kind), name)
}

/// An entry that is a name only: with node 0 nothing has been looked up.
fn add_bare(reply: &mut ReplyDirectoryPlus, inode: Inode, kind: Kind, position: u64, name: &OsStr) -> bool {
    let attributes = convert::name_only(inode, kind);
    reply.add(INodeNo(0), position, name, &Duration::ZERO, &attributes, GENERATION)
}

fn add_dots_to(reply: &mut ReplyDirectory, directory: Inode, offset: u64) -> bool {
    add_dots(offset, |at, name| reply.add(INodeNo(directory.0), at, FileType::Directory, name))
}

fn add_dots_to_plus(reply: &mut ReplyDirectoryPlus, directory: Inode, offset: u64) -> bool {
    add_dots(offset, |at, name| add_bare(reply, directory, Kind::Directory, at, name))
}

/// Names in the control directory.
pub(super) fn control_names(control: &Control, directory: Inode, offset: u64, mut reply: ReplyDirectory) {
    if !add_dots_to(&mut reply, directory, offset) {
        // Stops at the first that doesn't fit.
        control.list(offset).iter().any(|entry| add_name(&mut reply, entry));
    }
    reply.ok();
}

/// The same for a reader who would take attributes: a control file has none before it is opened.
pub(super) fn control_names_plus(
    control: &Control,
    directory: Inode,
    offset: u64,
    mut reply: ReplyDirectoryPlus,
) {
    if !add_dots_to_plus(&mut reply, directory, offset) {
        control.list(offset).iter().any(|entry| {
            let name = OsStr::from_bytes(&entry.name);
            add_bare(&mut reply, entry.inode, entry.kind, entry.position, name)
        });
    }
    reply.ok();
}

/// Names in a directory.
pub(super) async fn names(volume: Volume, directory: Inode, offset: u64, mut reply: ReplyDirectory) {
    match volume.readdir(directory, offset, NAMES_MAX, false).await {
        Ok(entries) => {
            if !add_dots_to(&mut reply, directory, offset) {
                entries.iter().any(|entry| add_name(&mut reply, entry));
            }
            reply.ok();
        }
        Err(error) => reply.error(errno(error)),
    }
}

/// Names in a directory with their attributes. Each that comes with attributes has been looked up; those that don't fit are forgotten.
pub(super) async fn names_plus(volume: Volume, directory: Inode, offset: u64, mut reply: ReplyDirectoryPlus) {
    let entries = match volume.readdir(directory, offset, NAMES_PLUS_MAX, true).await {
        Ok(entries) => entries,
        Err(error) => return reply.error(errno(error)),
    };
    let mut full = add_dots_to_plus(&mut reply, directory, offset);
    for entry in entries {
        if !full {
            let name = OsStr::from_bytes(&entry.name);
            full = match &entry.attributes {
                Some(attributes) => {
                    let (node, attributes) = (INodeNo(entry.inode.0), convert::attributes(attributes));
                    reply.add(node, entry.position, name, &FOR_EVER, &attributes, GENERATION)
                }
                None => add_bare(&mut reply, entry.inode, entry.kind, entry.position, name),
            };
        }
        if full && entry.attributes.is_some() {
            volume.forget(entry.inode, 1);
        }
    }
    reply.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_come_first_and_once() {
        let from = |offset| {
            let mut seen = Vec::new();
            add_dots(offset, |at, name| {
                seen.push((at, name.to_str().unwrap().to_string()));
                false
            });
            seen
        };
        assert_eq!(from(0), [(1, ".".to_string()), (2, "..".to_string())]);
        assert_eq!(from(1), [(2, "..".to_string())]);
        assert!(from(2).is_empty() && from(3).is_empty());
    }

    #[test]
    fn a_full_reply_takes_no_more() {
        let mut asked = 0;
        assert!(add_dots(0, |_, _| {
            asked += 1;
            true
        }));
        assert_eq!(asked, 1);
    }
}
