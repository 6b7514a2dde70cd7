//! `bitkv stat PATH...`: what is known of a file. A symbolic link is shown itself.

use super::tree::{Access, open, said, show, walk};
use super::{control, finish};
use crate::fs::types::Kind;
use std::path::PathBuf;

/// Shows it, a value a line or one object a line for each path; returns the exit code.
pub fn run(paths: &[PathBuf], json: bool) -> i32 {
    finish("bitkv stat", shown(paths, json))
}

fn shown(paths: &[PathBuf], json: bool) -> Result<(), String> {
    let opened = open(paths, Access::Read)?;
    for path in &opened.paths {
        let node = walk(&*opened.tree, path, false)?.node;
        let target = match node.kind() {
            Kind::Symlink => Some(opened.tree.target(&node).map_err(|error| said(&node.path, &error))?),
            _ => None,
        };
        let text = match (json, &target) {
            (true, None) => (show::object(&node).line() + "\n").into_bytes(),
            (true, Some(target)) => (show::object(&node).bytes("target", target).line() + "\n").into_bytes(),
            (false, None) => show::lines(&node),
            (false, Some(target)) => [&show::lines(&node), &b"target: "[..], target, b"\n"].concat(),
        };
        control::print_bytes(&text)?;
    }
    opened.tree.close().map_err(|error| error.to_string())
}
