//! `bitkv ls PATH...`: names, sorted by their bytes.

use super::json::array;
use super::tree::{Access, Node, Opened, Tree, open, said, show, walk};
use super::{control, finish};
use crate::fs::types::Kind;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// How names are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Names.
    Short,
    /// Names with what they are.
    Long,
    /// An array of objects.
    Json,
}

/// Lists directories, and other things by themselves; returns the exit code.
pub fn run(paths: &[PathBuf], format: Format) -> i32 {
    finish("bitkv ls", list(paths, format))
}

fn list(paths: &[PathBuf], format: Format) -> Result<(), String> {
    let opened = open(paths, Access::Read)?;
    match format {
        Format::Json => {
            let mut objects = Vec::new();
            each(&opened, |node, name| {
                objects.push(show::object(node).bytes("name", name).line());
                Ok(())
            })?;
            control::print(&format!("{}\n", array(objects)))?;
        }
        Format::Short => each(&opened, |_, name| control::print_bytes(&[name, b"\n"].concat()))?,
        Format::Long => each(&opened, |node, name| control::print_bytes(&long(&*opened.tree, node, name)?))?,
    }
    opened.tree.close().map_err(|error| error.to_string())
}

/// Everything that is listed, with its name.
fn each(opened: &Opened, mut told: impl FnMut(&Node, &[u8]) -> Result<(), String>) -> Result<(), String> {
    let tree = &*opened.tree;
    for path in &opened.paths {
        let node = walk(tree, path, true)?.node;
        if node.kind() != Kind::Directory {
            told(&node, node.path.as_os_str().as_bytes())?;
            continue;
        }
        for name in tree.names(&node).map_err(|error| said(&node.path, &error))? {
            match tree.child(&node, OsStr::from_bytes(&name)) {
                Ok(child) => told(&child, &name)?,
                // It went meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(said(&node.path.join(OsStr::from_bytes(&name)), &error)),
            }
        }
    }
    Ok(())
}

fn long(tree: &dyn Tree, node: &Node, name: &[u8]) -> Result<Vec<u8>, String> {
    let found = &node.attributes;
    let mut line = format!(
        "{}{:04o} {:>3} {:>5} {:>5} {:>12} {} ",
        show::kind_letter(found.kind),
        found.permissions,
        found.links,
        found.uid,
        found.gid,
        found.size,
        show::moment(found.modified),
    )
    .into_bytes();
    line.extend_from_slice(name);
    if found.kind == Kind::Symlink {
        line.extend_from_slice(b" -> ");
        line.extend_from_slice(&tree.target(node).map_err(|error| said(&node.path, &error))?);
    }
    line.push(b'\n');
    Ok(line)
}
