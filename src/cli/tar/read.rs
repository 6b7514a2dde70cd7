//! An archive into a tree.

use super::records::Tape;
use super::{XATTR_PREFIX, sparse, times};
use crate::cli::tree::{Node, Tree, said};
use crate::fs::acl::AclKind;
use crate::fs::types::{Kind, NewInode, SetAttributes, SetTime, Time};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use tar::{Archive, EntryType};

/// How much is written at a time, in bytes; and of files with holes that the archive doesn't map, what is left out if it is zero.
const STEP_BYTES: usize = 256 * 1024;

/// What was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::cli) struct Imported {
    pub(in crate::cli) entries: u64,
    pub(in crate::cli) bytes: u64,
    /// What the tree can't hold.
    pub(in crate::cli) left_out: u64,
}

/// Unpacks an archive into a tree. What is there already is replaced if `overwrite` says so (directories are kept in any case), owners are taken over
/// if `owners` says so. `told` hears how much was read, now and then; `warn` what is left out.
///
/// # Errors
/// One line that says what is in the way. What was unpacked until then stays.
pub(in crate::cli) fn import(
    tree: &dyn Tree,
    from: impl Read,
    overwrite: bool,
    owners: bool,
    mut told: impl FnMut(&Imported),
    mut warn: impl FnMut(&str),
) -> Result<Imported, String> {
    let root = tree.root().map_err(|error| said(Path::new(""), &error))?;
    let mut target =
        Target { tree, trail: vec![root], times: Vec::new(), overwrite, owners, done: Imported::default() };
    let (tape, listener) = Tape::new(from);
    let mut archive = Archive::new(tape);
    for entry in archive.entries().map_err(unread)? {
        let mut entry = entry.map_err(unread)?;
        let records = listener.records().map_err(unread)?;
        if let Some(item) = Item::of(&entry, records)? {
            target.add(&item, &mut entry, &mut warn)?;
            target.done.entries += 1;
            told(&target.done);
        }
        // Whatever nobody wanted: what is read from here on is of the next entry.
        io::copy(&mut entry, &mut io::sink()).map_err(unread)?;
        listener.listen();
    }
    // Last, and the deepest first: what comes into a directory changes its times.
    for (node, times) in target.times.iter().rev() {
        tree.set(node, *times).map_err(|error| said(&node.path, &error))?;
    }
    Ok(target.done)
}

fn unread(error: io::Error) -> String {
    format!("reading the archive: {error}")
}

/// What an archive says of one thing.
struct Item {
    /// Names from the root.
    path: Vec<OsString>,
    kind: EntryType,
    permissions: u16,
    uid: u32,
    gid: u32,
    device: u32,
    link: Vec<u8>,
    modified: Time,
    accessed: Option<Time>,
    xattrs: Vec<(String, Vec<u8>)>,
    holes: Holes,
}

/// How the holes of a file are told.
#[derive(Default)]
struct Holes {
    size: Option<u64>,
    /// The map stands before the data.
    before_data: bool,
    /// Or here.
    numbers: Vec<u64>,
}

impl Item {
    /// None if it is nothing by itself.
    fn of<R: Read>(
        entry: &tar::Entry<'_, R>,
        records: Vec<(String, Vec<u8>)>,
    ) -> Result<Option<Item>, String> {
        let header = entry.header();
        let kind = header.entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(None);
        }
        let number = |value: io::Result<u64>| value.map(|value| value as u32).map_err(unread);
        // Of everything else there may be anything in these fields.
        let device = match kind {
            EntryType::Char | EntryType::Block => {
                let major = header.device_major().map_err(unread)?.unwrap_or(0);
                let minor = header.device_minor().map_err(unread)?.unwrap_or(0);
                nix::sys::stat::makedev(major.into(), minor.into()) as u32
            }
            _ => 0,
        };
        let mut item = Item {
            path: Vec::new(),
            kind,
            permissions: (header.mode().map_err(unread)? & 0o7777) as u16,
            uid: number(header.uid())?,
            gid: number(header.gid())?,
            device,
            link: entry.link_name_bytes().unwrap_or_default().into_owned(),
            modified: Time { seconds: header.mtime().map_err(unread)? as i64, nanoseconds: 0 },
            accessed: None,
            xattrs: Vec::new(),
            holes: Holes::default(),
        };
        let mut path = entry.path_bytes().into_owned();
        for (key, value) in records {
            item.take(&key, value, &mut path)
                .ok_or_else(|| format!("{}: its record {key} is wrong", String::from_utf8_lossy(&path)))?;
        }
        item.path = components(&path)?;
        Ok(Some(item))
    }

    /// A pax record; None if its value makes no sense.
    fn take(&mut self, key: &str, value: Vec<u8>, path: &mut Vec<u8>) -> Option<()> {
        let text = || std::str::from_utf8(&value).ok();
        match key {
            "mtime" => self.modified = times::decode(text()?)?,
            "atime" => self.accessed = Some(times::decode(text()?)?),
            "uid" => self.uid = text()?.parse().ok()?,
            "gid" => self.gid = text()?.parse().ok()?,
            // Of a file with holes, the other name comes first.
            "path" if self.holes.size.is_none() && !self.holes.before_data => *path = value,
            "path" => {}
            "linkpath" => self.link = value,
            "GNU.sparse.name" => *path = value,
            "GNU.sparse.major" => self.holes.before_data = text()? == "1",
            "GNU.sparse.size" | "GNU.sparse.realsize" => self.holes.size = Some(text()?.parse().ok()?),
            "GNU.sparse.map" => {
                let numbers: Result<Vec<u64>, _> = text()?.split(',').map(str::parse).collect();
                self.holes.numbers = numbers.ok()?;
            }
            "GNU.sparse.offset" | "GNU.sparse.numbytes" => self.holes.numbers.push(text()?.parse().ok()?),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                    self.xattrs.push((name.to_string(), value));
                }
            }
        }
        Some(())
    }

    fn times(&self) -> SetAttributes {
        let accessed = self.accessed.unwrap_or(self.modified);
        SetAttributes {
            accessed: Some(SetTime::At(accessed)),
            modified: Some(SetTime::At(self.modified)),
            ..SetAttributes::default()
        }
    }

    fn new_inode(&self, kind: Kind) -> NewInode {
        let (permissions, target) = match kind {
            Kind::Symlink => (0o777, self.link.clone()),
            _ => (0o700, Vec::new()),
        };
        NewInode { kind, permissions, umask: 0, device: self.device, target }
    }
}

/// The names of a path. One that would lead out of the tree is refused.
fn components(path: &[u8]) -> Result<Vec<OsString>, String> {
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                return Err(format!("{}: leads out of where it is unpacked", String::from_utf8_lossy(path)));
            }
            name => names.push(OsString::from_vec(name.to_vec())),
        }
    }
    Ok(names)
}

struct Target<'a> {
    tree: &'a dyn Tree,
    /// The directory that was unpacked into last, and those above it.
    trail: Vec<Node>,
    /// Of directories, to be set in the end.
    times: Vec<(Node, SetAttributes)>,
    overwrite: bool,
    owners: bool,
    done: Imported,
}

impl Target<'_> {
    fn add(
        &mut self,
        item: &Item,
        content: &mut impl Read,
        warn: &mut impl FnMut(&str),
    ) -> Result<(), String> {
        let path: PathBuf = item.path.iter().collect();
        let kind = match item.kind {
            EntryType::Directory => {
                let directory = self.directory(&item.path)?;
                self.attributes(item, &directory, warn)?;
                self.times.push((directory, item.times()));
                return Ok(());
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char => Kind::CharDevice,
            EntryType::Block => Kind::BlockDevice,
            EntryType::Link => return self.add_link(item),
            other => {
                self.done.left_out += 1;
                warn(&format!("/{}: of a kind that isn't known ({:?})", path.display(), other));
                return Ok(());
            }
        };
        let (directory, name) = self.free(&item.path)?;
        let failed = |error: io::Error| said(&path, &error);
        let node = self.tree.make(&directory, &name, item.new_inode(kind)).map_err(failed)?;
        if kind == Kind::File {
            self.content(item, &node, content)?;
        }
        self.attributes(item, &node, warn)?;
        self.tree.set(&node, item.times()).map_err(failed)
    }

    fn add_link(&mut self, item: &Item) -> Result<(), String> {
        let mut file = self.trail[0].clone();
        for name in components(&item.link)? {
            let path = file.path.join(&name);
            file = self.tree.child(&file, &name).map_err(|error| said(&path, &error))?;
        }
        let (directory, name) = self.free(&item.path)?;
        let path = directory.path.join(&name);
        self.tree.link(&file, &directory, &name).map_err(|error| said(&path, &error))
    }

    /// A directory, which is made if it is missing. No symbolic link is followed: it could lead anywhere.
    fn directory(&mut self, path: &[OsString]) -> Result<Node, String> {
        let same =
            self.trail[1..].iter().zip(path).take_while(|(node, name)| node.path.file_name() == Some(name));
        let same = same.count();
        self.trail.truncate(1 + same);
        for name in &path[same..] {
            let directory = &self.trail[self.trail.len() - 1];
            let path = directory.path.join(name);
            let node = match self.tree.child(directory, name) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    let new = NewInode {
                        kind: Kind::Directory,
                        permissions: 0o755,
                        umask: 0,
                        device: 0,
                        target: Vec::new(),
                    };
                    self.tree.make(directory, name, new)
                }
                other => other,
            };
            let node = node.map_err(|error| said(&path, &error))?;
            if node.kind() != Kind::Directory {
                return Err(said(&path, &io::Error::from_raw_os_error(libc::ENOTDIR)));
            }
            self.trail.push(node);
        }
        Ok(self.trail[self.trail.len() - 1].clone())
    }

    /// The directory and the name of something that isn't there; if it is, and may be replaced, it is removed.
    fn free(&mut self, path: &[OsString]) -> Result<(Node, OsString), String> {
        let (name, above) = path.split_last().ok_or("the archive has something without a name")?;
        let directory = self.directory(above)?;
        let path = directory.path.join(name);
        let failed = |error: io::Error| said(&path, &error);
        match self.tree.child(&directory, name) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(failed(error)),
            Ok(_) if !self.overwrite => {
                return Err(format!("/{}: is there already; say --overwrite to replace it", path.display()));
            }
            Ok(found) => self.tree.remove(&directory, name, found.kind()).map_err(failed)?,
        }
        Ok((directory, name.clone()))
    }

    fn attributes(&mut self, item: &Item, node: &Node, warn: &mut impl FnMut(&str)) -> Result<(), String> {
        self.disinherit(item, node).map_err(|error| said(&node.path, &error))?;
        for (name, value) in &item.xattrs {
            if let Err(error) = self.tree.set_xattr(node, name.as_bytes(), value) {
                self.done.left_out += 1;
                warn(&format!("/{}: attribute {name}: {error}", node.path.display()));
            }
        }
        let changes = SetAttributes {
            permissions: (node.kind() != Kind::Symlink).then_some(item.permissions),
            uid: self.owners.then_some(item.uid),
            gid: self.owners.then_some(item.gid),
            ..SetAttributes::default()
        };
        self.tree.set(node, changes).map_err(|error| said(&node.path, &error))
    }

    /// Takes off the access control lists that it has from its directory, not from the archive.
    fn disinherit(&self, item: &Item, node: &Node) -> io::Result<()> {
        let has = |name: &[u8]| item.xattrs.iter().any(|(own, _)| own.as_bytes() == name);
        for name in self.tree.xattr_names(node)? {
            if AclKind::of(&name).is_some() && !has(&name) {
                self.tree.remove_xattr(node, &name)?;
            }
        }
        Ok(())
    }

    fn content(&mut self, item: &Item, node: &Node, content: &mut impl Read) -> Result<(), String> {
        let holes = &item.holes;
        let Some(size) = holes.size else {
            // What the archive doesn't map but has holes comes with zeros in their place.
            let end = self.copy(node, 0, None, item.kind == EntryType::GNUSparse, content)?;
            return self.grow(node, end);
        };
        let extents = match holes.before_data {
            true => sparse::decode(content, size),
            false => sparse::from_numbers(&holes.numbers, size),
        };
        for (begin, length) in extents.map_err(|error| said(&node.path, &error))? {
            self.copy(node, begin, Some(length), false, content)?;
        }
        self.grow(node, size)
    }

    /// Copies so many bytes, or all; returns the offset behind them.
    fn copy(
        &mut self,
        node: &Node,
        begin: u64,
        length: Option<u64>,
        skip_zeros: bool,
        content: &mut impl Read,
    ) -> Result<u64, String> {
        let mut limited = content.take(length.unwrap_or(u64::MAX));
        let mut offset = begin;
        loop {
            let mut step = Vec::new();
            limited.by_ref().take(STEP_BYTES as u64).read_to_end(&mut step).map_err(unread)?;
            if step.is_empty() {
                break;
            }
            if !skip_zeros || step.iter().any(|byte| *byte != 0) {
                self.tree.write(node, offset, &step).map_err(|error| said(&node.path, &error))?;
            }
            offset += step.len() as u64;
            self.done.bytes += step.len() as u64;
        }
        if length.is_some_and(|length| begin + length != offset) {
            return Err(format!("/{}: the archive has less of it than it says", node.path.display()));
        }
        Ok(offset)
    }

    /// A hole at the end has no bytes of its own.
    fn grow(&self, node: &Node, size: u64) -> Result<(), String> {
        let set = SetAttributes { size: Some(size), ..SetAttributes::default() };
        self.tree.set(node, set).map_err(|error| said(&node.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(components(b"./a//b/").unwrap(), ["a", "b"]);
        assert_eq!(components(b"/etc/passwd").unwrap(), ["etc", "passwd"]);
        assert!(components(b"./").unwrap().is_empty());
        for wrong in [&b"../x"[..], b"a/../../x", b"a/.."] {
            assert!(components(wrong).is_err());
        }
    }
}
