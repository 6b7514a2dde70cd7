//! `bitkv put PATH`: replaces the content of a file with standard input, whole or not at all.

use super::finish;
use super::tree::{Access, Node, Tree, open, parent, said, walk};
use crate::fs::types::{Kind, NewInode, SetAttributes};
use nix::sys::stat::{Mode, umask};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// How much is written at a time, in bytes.
const STEP_BYTES: u64 = 1024 * 1024;

/// Puts what standard input (or a file) holds; returns the exit code. It is durable when this returns.
pub fn run(paths: &[PathBuf], from: Option<&Path>) -> i32 {
    finish("bitkv put", put(paths, from))
}

fn put(paths: &[PathBuf], from: Option<&Path>) -> Result<(), String> {
    let mut source: Box<dyn Read> = match from {
        Some(path) => Box::new(File::open(path).map_err(|error| format!("{}: {error}", path.display()))?),
        None => Box::new(io::stdin().lock()),
    };
    let opened = open(paths, Access::Write)?;
    let [path] = &opened.paths[..] else { return Err("name one file".to_string()) };
    let done = place_of(&*opened.tree, path)
        .and_then(|place| replace(&*opened.tree, &place, &mut *source))
        .and_then(|()| opened.tree.sync().map_err(|error| said(path, &error)));
    let closed = opened.tree.close().map_err(|error| said(path, &error));
    done.and(closed)
}

/// Where the new content goes.
struct Place {
    directory: Node,
    name: OsString,
    /// What is there now.
    before: Option<Node>,
}

/// Through a symbolic link, if there is one: it is the file that gets new content.
fn place_of(tree: &dyn Tree, path: &Path) -> Result<Place, String> {
    let (directory, name) = parent(tree, path)?;
    match tree.child(&directory, name) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            return Ok(Place { directory, name: name.to_os_string(), before: None });
        }
        other => other.map_err(|error| said(path, &error))?,
    };
    let found = walk(tree, path, true)?;
    match found.node.kind() {
        Kind::File => {}
        Kind::Directory => return Err(said(&found.node.path, &io::Error::from_raw_os_error(libc::EISDIR))),
        _ => return Err(format!("/{}: not a file with content", found.node.path.display())),
    }
    let name = found.node.path.file_name().unwrap_or_default().to_os_string();
    Ok(Place { directory: found.directory, name, before: Some(found.node) })
}

/// Under another name first: until it is all there, the old content is what everybody sees.
fn replace(tree: &dyn Tree, place: &Place, source: &mut dyn Read) -> Result<(), String> {
    let directory = &place.directory;
    let path = directory.path.join(&place.name);
    let failed = |error: io::Error| said(&path, &error);
    let temporary = OsString::from(format!(".bitkv-put.{}", std::process::id()));
    // As somebody else's, nobody else may look at it before it is as it shall be.
    let permissions = if place.before.is_some() { 0o600 } else { 0o666 };
    let new =
        NewInode { kind: Kind::File, permissions, umask: current_umask(), device: 0, target: Vec::new() };
    let file = tree.make(directory, &temporary, new).map_err(failed)?;
    let filled = fill(tree, &file, source, &path)
        .and_then(|()| match &place.before {
            Some(before) => take_over(tree, before, &file).map_err(failed),
            None => Ok(()),
        })
        .and_then(|()| tree.rename(directory, &temporary, OsStr::new(&place.name)).map_err(failed));
    if filled.is_err() {
        // The first failure is the one to tell.
        let _ = tree.remove(directory, &temporary, Kind::File);
    }
    filled
}

fn fill(tree: &dyn Tree, file: &Node, source: &mut dyn Read, path: &Path) -> Result<(), String> {
    let mut offset = 0;
    loop {
        let mut step = Vec::new();
        source
            .take(STEP_BYTES)
            .read_to_end(&mut step)
            .map_err(|error| format!("reading the input: {error}"))?;
        if step.is_empty() {
            return Ok(());
        }
        tree.write(file, offset, &step).map_err(|error| said(path, &error))?;
        offset += step.len() as u64;
    }
}

/// The attributes of the file that was there, also those by name, of which one may say who may do what with it; but not those of `security.`, which
/// go with content.
fn take_over(tree: &dyn Tree, before: &Node, file: &Node) -> io::Result<()> {
    let attributes = before.attributes;
    let set = SetAttributes {
        permissions: Some(attributes.permissions),
        uid: Some(attributes.uid),
        gid: Some(attributes.gid),
        ..SetAttributes::default()
    };
    tree.set(file, set)?;
    let names = tree.xattr_names(before)?;
    for inherited in tree.xattr_names(file)? {
        if !names.contains(&inherited) {
            tree.remove_xattr(file, &inherited)?;
        }
    }
    for name in names.iter().filter(|name| !name.starts_with(b"security.")) {
        if let Some(value) = tree.xattr(before, name)? {
            tree.set_xattr(file, name, &value)?;
        }
    }
    Ok(())
}

fn current_umask() -> u16 {
    // It can only be read by setting it; nothing else runs here that makes files.
    let mask = umask(Mode::empty());
    umask(mask);
    (mask.bits() & 0o777) as u16
}
