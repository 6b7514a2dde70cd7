//! `bitkv get PATH`, `bitkv cat PATH...`: the content of files.

use super::tree::{Access, Node, Tree, open, said, walk};
use super::{control, finish};
use crate::fs::types::Kind;
use std::io;
use std::path::{Path, PathBuf};

/// How much is read at a time, in bytes.
const STEP_BYTES: usize = 1024 * 1024;

/// Writes the content of each file to standard output, one after the other (with `only_one`, several are refused); returns the exit code.
pub fn run(who: &str, paths: &[PathBuf], only_one: bool) -> i32 {
    finish(who, show(paths, only_one))
}

fn show(paths: &[PathBuf], only_one: bool) -> Result<(), String> {
    let opened = open(paths, Access::Read)?;
    if only_one && opened.paths.len() > 1 {
        return Err("name one file; bitkv cat takes several".to_string());
    }
    for path in &opened.paths {
        if !copy(&*opened.tree, path)? {
            return Ok(());
        }
    }
    opened.tree.close().map_err(|error| error.to_string())
}

/// Whether somebody still reads.
fn copy(tree: &dyn Tree, path: &Path) -> Result<bool, String> {
    let file = walk(tree, path, true)?.node;
    check(&file)?;
    let mut offset = 0;
    loop {
        let bytes = tree.read(&file, offset, STEP_BYTES).map_err(|error| said(&file.path, &error))?;
        if !control::print_to_reader(&bytes)? {
            return Ok(false);
        }
        offset += bytes.len() as u64;
        if bytes.len() < STEP_BYTES {
            return Ok(true);
        }
    }
}

fn check(node: &Node) -> Result<(), String> {
    match node.kind() {
        Kind::File => Ok(()),
        Kind::Directory => Err(said(&node.path, &io::Error::from_raw_os_error(libc::EISDIR))),
        _ => Err(format!("/{}: not a file with content", node.path.display())),
    }
}
