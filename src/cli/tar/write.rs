//! A tree into an archive.

use super::{XATTR_PREFIX, sparse, times};
use crate::cli::tree::{Node, Tree, said};
use crate::fs::types::{Kind, Time};
use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::io::{self, Cursor, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// How much is read at a time, in bytes.
const STEP_BYTES: u64 = 1024 * 1024;
/// The longest name that a header itself can hold, in bytes.
const NAME_BYTES_MAX: usize = 100;
/// From this size on it is said in a pax record, too.
const PLAIN_SIZE_MAX: u64 = 0o777_7777_7777;

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::cli) struct Exported {
    pub(in crate::cli) entries: u64,
    pub(in crate::cli) bytes: u64,
    /// What archives can't hold.
    pub(in crate::cli) left_out: u64,
}

/// Writes everything in a tree. `told` hears how much that is, now and then; `warn` what is left out.
///
/// # Errors
/// One line that says what is in the way.
pub(in crate::cli) fn export(
    tree: &dyn Tree,
    out: impl Write,
    mut told: impl FnMut(&Exported),
    mut warn: impl FnMut(&str),
) -> Result<Exported, String> {
    let mut archive =
        Archive { tree, builder: Builder::new(out), linked: HashMap::new(), done: Exported::default() };
    let root = tree.root().map_err(|error| said(Path::new(""), &error))?;
    archive.add(&root, &mut warn)?;
    let names = |node: &Node| tree.names(node).map_err(|error| said(&node.path, &error));
    // Without recursion: directories can be nested more deeply than a stack.
    let mut open = vec![(root.clone(), names(&root)?.into_iter())];
    while let Some((directory, left)) = open.last_mut() {
        let Some(name) = left.next() else {
            open.pop();
            continue;
        };
        let name = OsStr::from_bytes(&name);
        let node = tree.child(directory, name).map_err(|error| said(&directory.path.join(name), &error))?;
        archive.add(&node, &mut warn)?;
        told(&archive.done);
        if node.kind() == Kind::Directory {
            let inside = names(&node)?.into_iter();
            open.push((node, inside));
        }
    }
    let mut out = archive.builder.into_inner().map_err(unwritten)?;
    out.flush().map_err(unwritten)?;
    Ok(archive.done)
}

fn unwritten(error: io::Error) -> String {
    format!("writing the archive: {error}")
}

struct Archive<'a, W: Write> {
    tree: &'a dyn Tree,
    builder: Builder<W>,
    /// First names of files that have several.
    linked: HashMap<u64, Vec<u8>>,
    done: Exported,
}

impl<W: Write> Archive<'_, W> {
    fn add(&mut self, node: &Node, warn: &mut impl FnMut(&str)) -> Result<(), String> {
        let failed = |error: io::Error| said(&node.path, &error);
        if node.kind() == Kind::Socket {
            self.done.left_out += 1;
            warn(&format!("/{}: a socket; archives don't hold those", node.path.display()));
            return Ok(());
        }
        let name = name_of(node);
        let mut entry = Entry::new(node);
        if node.kind() != Kind::Directory && node.attributes.links > 1 {
            if let Some(first) = self.linked.get(&node.attributes.inode.0) {
                entry.header.set_entry_type(EntryType::Link);
                entry.link(first);
                entry.name(&name);
                return self.append(entry, io::empty()).map_err(unwritten);
            }
            self.linked.insert(node.attributes.inode.0, name.clone());
        }
        for xattr in self.tree.xattr_names(node).map_err(failed)? {
            let Some(value) = self.tree.xattr(node, &xattr).map_err(failed)? else { continue };
            match std::str::from_utf8(&xattr) {
                Ok(text) if !text.contains('=') => entry.pax.push((format!("{XATTR_PREFIX}{text}"), value)),
                _ => {
                    self.done.left_out += 1;
                    let (path, name) = (node.path.display(), String::from_utf8_lossy(&xattr));
                    warn(&format!("/{path}: attribute {name}: archives can't hold its name"));
                }
            }
        }
        match node.kind() {
            Kind::File => return self.add_content(node, entry, &name),
            Kind::Symlink => entry.link(&self.tree.target(node).map_err(failed)?),
            _ => {}
        }
        entry.name(&name);
        self.append(entry, io::empty()).map_err(unwritten)
    }

    fn add_content(&mut self, node: &Node, mut entry: Entry, name: &[u8]) -> Result<(), String> {
        let size = node.attributes.size;
        let extents = self.extents(node).map_err(|error| said(&node.path, &error))?;
        let stored: u64 = extents.iter().map(|(_, length)| length).sum();
        let mut map = Vec::new();
        if stored < size {
            map = sparse::encode(&extents, size);
            for (key, value) in
                [("major", "1".to_string()), ("minor", "0".to_string()), ("realsize", size.to_string())]
            {
                entry.pax.push((format!("GNU.sparse.{key}"), value.into_bytes()));
            }
            entry.pax.push(("GNU.sparse.name".to_string(), name.to_vec()));
            // For those who don't know of holes: what they unpack isn't the file.
            let last = node.path.file_name().unwrap_or_default().as_bytes();
            entry.name(&[b"GNUSparseFile.0/", &last[..last.len().min(NAME_BYTES_MAX - 16)]].concat());
        } else {
            entry.name(name);
        }
        entry.size(map.len() as u64 + stored);
        let content = Content { tree: self.tree, node, left: extents.into(), bytes: Cursor::default() };
        self.append(entry, Cursor::new(map).chain(content)).map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<Unreadable>() => inner.to_string(),
            _ => unwritten(error),
        })?;
        self.done.bytes += stored;
        Ok(())
    }

    fn extents(&self, node: &Node) -> io::Result<Vec<sparse::Extent>> {
        let mut extents = Vec::new();
        let mut offset = 0;
        while offset < node.attributes.size {
            let Some((begin, end)) = self.tree.stored_from(node, offset)? else { break };
            let end = end.min(node.attributes.size);
            extents.push((begin, end - begin));
            offset = end;
        }
        Ok(extents)
    }

    fn append(&mut self, mut entry: Entry, content: impl Read) -> io::Result<()> {
        let pax = entry.pax.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        if !entry.pax.is_empty() {
            self.builder.append_pax_extensions(pax)?;
        }
        entry.header.set_cksum();
        self.builder.append(&entry.header, content)?;
        self.done.entries += 1;
        Ok(())
    }
}

/// As archives have it: from the root, which is `./`; of a directory with a stroke at its end.
fn name_of(node: &Node) -> Vec<u8> {
    let mut name = node.path.as_os_str().as_bytes().to_vec();
    if name.is_empty() {
        name.push(b'.');
    }
    if node.kind() == Kind::Directory {
        name.push(b'/');
    }
    name
}

/// A header, and the pax records before it.
struct Entry {
    header: Header,
    pax: Vec<(String, Vec<u8>)>,
}

impl Entry {
    fn new(node: &Node) -> Self {
        let found = &node.attributes;
        let mut header = Header::new_ustar();
        header.set_entry_type(match found.kind {
            Kind::File | Kind::Socket => EntryType::Regular,
            Kind::Directory => EntryType::Directory,
            Kind::Symlink => EntryType::Symlink,
            Kind::Fifo => EntryType::Fifo,
            Kind::CharDevice => EntryType::Char,
            Kind::BlockDevice => EntryType::Block,
        });
        header.set_mode(u32::from(found.permissions));
        header.set_uid(found.uid.into());
        header.set_gid(found.gid.into());
        header.set_size(0);
        if matches!(found.kind, Kind::CharDevice | Kind::BlockDevice) {
            let device = u64::from(found.device);
            // A ustar header has these fields.
            let _ = header.set_device_major(nix::sys::stat::major(device) as u32);
            let _ = header.set_device_minor(nix::sys::stat::minor(device) as u32);
        }
        let mut entry = Entry { header, pax: Vec::new() };
        entry.header.set_mtime(u64::try_from(found.modified.seconds).unwrap_or(0));
        entry.time("mtime", found.modified);
        entry.time("atime", found.accessed);
        entry
    }

    fn time(&mut self, key: &str, time: Time) {
        self.pax.push((key.to_string(), times::encode(time).into_bytes()));
    }

    fn name(&mut self, name: &[u8]) {
        let kept = put(&mut self.header.as_old_mut().name, name);
        if kept < name.len() {
            self.first("path", name);
        }
    }

    /// Before the attributes: some readers give up where a value holds a line end.
    fn first(&mut self, key: &str, value: &[u8]) {
        self.pax.insert(0, (key.to_string(), value.to_vec()));
    }

    fn link(&mut self, target: &[u8]) {
        let kept = put(&mut self.header.as_old_mut().linkname, target);
        if kept < target.len() {
            self.first("linkpath", target);
        }
    }

    fn size(&mut self, size: u64) {
        self.header.set_size(size);
        if size > PLAIN_SIZE_MAX {
            self.first("size", size.to_string().as_bytes());
        }
    }
}

/// As much as fits; returns how much that is.
fn put(field: &mut [u8; NAME_BYTES_MAX], bytes: &[u8]) -> usize {
    let kept = bytes.len().min(NAME_BYTES_MAX);
    field[..kept].copy_from_slice(&bytes[..kept]);
    kept
}

/// What is stored of a file, extent after extent.
struct Content<'a> {
    tree: &'a dyn Tree,
    node: &'a Node,
    left: VecDeque<sparse::Extent>,
    bytes: Cursor<Vec<u8>>,
}

/// A failure of the tree, not of the archive.
#[derive(Debug)]
struct Unreadable(String);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for Unreadable {}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        if count > 0 {
            return Ok(count);
        }
        while self.left.front().is_some_and(|(_, length)| *length == 0) {
            self.left.pop_front();
        }
        let Some((begin, length)) = self.left.front_mut() else { return Ok(0) };
        let step = (*length).min(STEP_BYTES);
        let read = self.tree.read(self.node, *begin, step as usize);
        let read = read.map_err(|error| io::Error::other(Unreadable(said(&self.node.path, &error))))?;
        if (read.len() as u64) < step {
            let shorter = format!("/{}: is shorter than it was", self.node.path.display());
            return Err(io::Error::other(Unreadable(shorter)));
        }
        (*begin, *length) = (*begin + step, *length - step);
        self.bytes = Cursor::new(read);
        self.bytes.read(buffer)
    }
}
