//! The files of a store, the same whether it is mounted or not: what commands work on. `find` tells which store a path means; `walk` follows the path.

mod find;
mod mounted;
pub(super) mod show;
pub(super) mod unmounted;

pub(super) use find::{Access, Opened, open};

use crate::fs::types::{Attributes, Kind, NewInode, SetAttributes};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// How many symbolic links a path may lead over.
const LINKS_MAX: usize = 40;

/// Something in a tree.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it was found, from the tree's root: empty for the root itself.
    pub(super) path: PathBuf,
    /// What it is.
    pub(super) attributes: Attributes,
}

impl Node {
    pub(super) fn kind(&self) -> Kind {
        self.attributes.kind
    }
}

/// The files of one store. Nothing here follows a symbolic link. Errors are the system's, without the path, which the caller knows.
pub(super) trait Tree {
    /// The root directory.
    fn root(&self) -> io::Result<Node>;
    /// What a name in a directory leads to.
    fn child(&self, directory: &Node, name: &OsStr) -> io::Result<Node>;
    /// The names in a directory, sorted by their bytes.
    fn names(&self, directory: &Node) -> io::Result<Vec<Vec<u8>>>;
    /// Where a symbolic link leads to.
    fn target(&self, link: &Node) -> io::Result<Vec<u8>>;
    /// Content; less than `length` bytes only at its end.
    fn read(&self, file: &Node, offset: u64, length: usize) -> io::Result<Vec<u8>>;
    /// The value of an extended attribute; None if there is none.
    fn xattr(&self, node: &Node, name: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// The names of the extended attributes.
    fn xattr_names(&self, node: &Node) -> io::Result<Vec<Vec<u8>>>;
    /// The next bytes of a file that are stored, at or behind an offset: where they begin and end. None: from there on all is a hole.
    fn stored_from(&self, file: &Node, offset: u64) -> io::Result<Option<(u64, u64)>>;

    /// Makes something in a directory, in the name of who runs this.
    fn make(&self, directory: &Node, name: &OsStr, new: NewInode) -> io::Result<Node>;
    /// Writes all of it.
    fn write(&self, file: &Node, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Gives a file another name in a directory.
    fn link(&self, file: &Node, directory: &Node, name: &OsStr) -> io::Result<()>;
    /// Sets an extended attribute.
    fn set_xattr(&self, node: &Node, name: &[u8], value: &[u8]) -> io::Result<()>;
    /// Removes an extended attribute.
    fn remove_xattr(&self, node: &Node, name: &[u8]) -> io::Result<()>;
    /// Changes attributes.
    fn set(&self, node: &Node, changes: SetAttributes) -> io::Result<()>;
    /// Renames within a directory, replacing what is there.
    fn rename(&self, directory: &Node, from: &OsStr, to: &OsStr) -> io::Result<()>;
    /// Removes a name; of a directory only if it is empty.
    fn remove(&self, directory: &Node, name: &OsStr, kind: Kind) -> io::Result<()>;
    /// Makes everything durable.
    fn sync(&self) -> io::Result<()>;
    /// Ends the work. What isn't durable by then is an error.
    fn close(self: Box<Self>) -> io::Result<()>;
}

/// What a path leads to, and the directory that it is in (of the root: itself).
pub(super) struct Found {
    pub(super) directory: Node,
    pub(super) node: Node,
}

/// Follows a path from the root; `follow` tells whether the last name may be a symbolic link that leads further.
///
/// # Errors
/// What is in the way, with the path up to there.
pub(super) fn walk(tree: &dyn Tree, path: &Path, follow: bool) -> Result<Found, String> {
    let root = tree.root().map_err(|error| said(path, &error))?;
    let mut trail = vec![root];
    let mut left: Vec<PathBuf> = components(path);
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name.as_os_str() == ".." {
            // Above the root is the root.
            trail.truncate((trail.len() - 1).max(1));
            continue;
        }
        let directory = &trail[trail.len() - 1];
        let node = tree
            .child(directory, name.as_os_str())
            .map_err(|error| said(&directory.path.join(&name), &error))?;
        if node.kind() != Kind::Symlink || (left.is_empty() && !follow) {
            trail.push(node);
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(said(path, &io::Error::from_raw_os_error(libc::ELOOP)));
        }
        let target = tree.target(&node).map_err(|error| said(&node.path, &error))?;
        let target = Path::new(OsStr::from_bytes(&target));
        if target.is_absolute() {
            return Err(format!(
                "/{} is a symbolic link to {}, which leads out of the store; name what it means",
                node.path.display(),
                target.display()
            ));
        }
        left.extend(components(target));
    }
    let node = trail.pop().expect("the root is there");
    Ok(Found { directory: trail.pop().unwrap_or_else(|| node.clone()), node })
}

/// The names of a path, the first one last.
fn components(path: &Path) -> Vec<PathBuf> {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    let mut names: Vec<PathBuf> = names.map(|part| PathBuf::from(part.as_os_str())).collect();
    names.reverse();
    names
}

/// The directory that a path's last name is in, which needn't be there, and that name.
///
/// # Errors
/// If there is no name, or no such directory.
pub(super) fn parent<'a>(tree: &dyn Tree, path: &'a Path) -> Result<(Node, &'a OsStr), String> {
    let name = path.file_name().ok_or("it names no file: name one in it")?;
    let directory = walk(tree, path.parent().unwrap_or(Path::new("")), true)?.node;
    match directory.kind() {
        Kind::Directory => Ok((directory, name)),
        _ => Err(said(&directory.path, &io::Error::from_raw_os_error(libc::ENOTDIR))),
    }
}

/// A failure in words, with the path in the store and, where there is something, what to do.
pub(super) fn said(path: &Path, error: &io::Error) -> String {
    let advice = match error.raw_os_error() {
        Some(libc::EIO) => "; see the errors that the store has noticed: .bitkv/errors, or bitkv fsck",
        Some(libc::ENOSPC) => "; remove something first",
        Some(libc::EROFS) => "; the store takes no changes, see bitkv status",
        Some(libc::EACCES | libc::EPERM) => "; ask as its owner, or as root",
        _ => "",
    };
    let path = path.strip_prefix("/").unwrap_or(path);
    format!("/{}: {error}{advice}", path.display())
}
