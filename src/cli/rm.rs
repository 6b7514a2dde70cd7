//! `bitkv rm PATH...`: removes files, and with everything in them directories.

use super::tree::{Access, Node, Tree, open, said, walk};
use super::{USAGE, complain, finish};
use crate::fs::types::Kind;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const PROGRAM: &str = "bitkv rm";

/// Removes; returns the exit code. Whole directories only with `yes`. It is durable when this returns.
pub fn run(paths: &[PathBuf], recursive: bool, yes: bool) -> i32 {
    if recursive && !yes {
        complain(PROGRAM, "--recursive removes directories with everything in them: say --yes");
        return USAGE;
    }
    finish(PROGRAM, remove(paths, recursive))
}

fn remove(paths: &[PathBuf], recursive: bool) -> Result<(), String> {
    let opened = open(paths, Access::Write)?;
    let tree = &*opened.tree;
    let removed = opened.paths.iter().try_for_each(|path| remove_one(tree, path, recursive));
    let synced = tree.sync().map_err(|error| said(Path::new(""), &error));
    let closed = opened.tree.close().map_err(|error| said(Path::new(""), &error));
    removed.and(synced).and(closed)
}

fn remove_one(tree: &dyn Tree, path: &Path, recursive: bool) -> Result<(), String> {
    let found = walk(tree, path, false)?;
    let Some(name) = found.node.path.file_name().map(OsStr::to_os_string) else {
        return Err("/: the root stays; name what is in it".to_string());
    };
    if found.node.kind() == Kind::Directory && recursive {
        empty(tree, &found.node)?;
    } else if found.node.kind() == Kind::Directory && !names(tree, &found.node)?.is_empty() {
        return Err(format!("/{}: Directory not empty; say --recursive --yes", found.node.path.display()));
    }
    let kind = found.node.kind();
    tree.remove(&found.directory, &name, kind).map_err(|error| said(&found.node.path, &error))
}

fn names(tree: &dyn Tree, directory: &Node) -> Result<Vec<Vec<u8>>, String> {
    tree.names(directory).map_err(|error| said(&directory.path, &error))
}

/// Removes everything in a directory, deepest first; without recursion, since directories can be nested more deeply than a stack.
fn empty(tree: &dyn Tree, top: &Node) -> Result<(), String> {
    let mut open = vec![(top.clone(), names(tree, top)?)];
    while let Some((directory, left)) = open.last_mut() {
        let Some(name) = left.pop() else {
            let (done, _) = open.pop().expect("it is there");
            if let (Some((directory, _)), Some(name)) = (open.last(), done.path.file_name()) {
                tree.remove(directory, name, Kind::Directory).map_err(|error| said(&done.path, &error))?;
            }
            continue;
        };
        let name = OsStr::from_bytes(&name);
        let child = tree.child(directory, name).map_err(|error| said(&directory.path.join(name), &error))?;
        if child.kind() == Kind::Directory {
            let inside = names(tree, &child)?;
            open.push((child, inside));
        } else {
            tree.remove(directory, name, child.kind()).map_err(|error| said(&child.path, &error))?;
        }
    }
    Ok(())
}
