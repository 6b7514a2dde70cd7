//! The plain tree that the filesystem is held against, and the operations on it. Paths are names from the root.

use crate::engine::disk::sim::Dice;
use crate::fs::types::{Kind, RenameMode};
use std::collections::BTreeMap;

pub(super) type Path = Vec<&'static str>;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What a name leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    Directory,
    /// By its number.
    File(u64),
    Whiteout,
}

/// Names, and contents of files.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Tree {
    pub(super) names: BTreeMap<Path, What>,
    pub(super) contents: BTreeMap<u64, Vec<u8>>,
    next_file: u64,
}

/// One operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Create(Path),
    MakeDirectory(Path),
    Write(Path, u64, Vec<u8>),
    Truncate(Path, u64),
    Unlink(Path),
    RemoveDirectory(Path),
    Rename(Path, Path, RenameMode),
    Link(Path, Path),
    /// A file is made without a name, written, and then given one, unless it is let go of without.
    Nameless(Option<Path>, Vec<u8>),
}

impl Tree {
    fn paths(&self, wanted: impl Fn(What) -> bool) -> Vec<Path> {
        let wanted = self.names.iter().filter(|(_, what)| wanted(**what));
        wanted.map(|(path, _)| path.clone()).collect()
    }

    fn any_directory(&self, dice: &mut Dice) -> Path {
        let mut directories = self.paths(is_directory);
        directories.push(Vec::new());
        directories.swap_remove(dice.index(directories.len()))
    }

    fn free_path(&self, dice: &mut Dice) -> Option<Path> {
        let mut path = self.any_directory(dice);
        path.push(NAMES[dice.index(NAMES.len())]);
        (path.len() <= 3 && !self.names.contains_key(&path)).then_some(path)
    }

    fn any(&self, wanted: impl Fn(What) -> bool, dice: &mut Dice) -> Option<Path> {
        let mut paths = self.paths(wanted);
        (!paths.is_empty()).then(|| paths.swap_remove(dice.index(paths.len())))
    }

    fn is_empty(&self, directory: &Path) -> bool {
        !self.names.keys().any(|path| path.len() > directory.len() && path.starts_with(directory))
    }

    /// An operation that will succeed.
    pub(super) fn choose(&self, dice: &mut Dice) -> Option<Operation> {
        Some(match dice.below(13) {
            0..=1 => Operation::Create(self.free_path(dice)?),
            2 => Operation::MakeDirectory(self.free_path(dice)?),
            3..=5 => {
                let offset = [0, 10, 3000, 4096, 9000][dice.index(5)];
                let length = [1, 100, 2000, 5000][dice.index(4)];
                let byte = dice.below(256) as u8;
                Operation::Write(self.any(is_file, dice)?, offset, vec![byte; length])
            }
            6 => Operation::Truncate(self.any(is_file, dice)?, [0, 5, 4097, 9000][dice.index(4)]),
            7 => Operation::Unlink(self.any(|what| !is_directory(what), dice)?),
            8 => Operation::RemoveDirectory(self.any(is_directory, dice).filter(|path| self.is_empty(path))?),
            9..=10 => self.choose_rename(dice)?,
            11 => Operation::Link(self.any(is_file, dice)?, self.free_path(dice)?),
            _ => {
                let path = if dice.percent(70) { Some(self.free_path(dice)?) } else { None };
                Operation::Nameless(path, vec![dice.below(256) as u8; [1, 5000][dice.index(2)]])
            }
        })
    }

    fn choose_rename(&self, dice: &mut Dice) -> Option<Operation> {
        let directories = dice.percent(30);
        let same_sort = |what| is_directory(what) == directories;
        let from = self.any(same_sort, dice)?;
        let to = if dice.percent(50) { self.free_path(dice)? } else { self.any(same_sort, dice)? };
        let depth = self
            .names
            .keys()
            .filter(|path| path.starts_with(&from))
            .map(|path| path.len() - from.len())
            .max();
        let inside = to.starts_with(&from) || from.starts_with(&to);
        let exchange = self.names.contains_key(&to) && dice.percent(30);
        let mode = match exchange {
            true => RenameMode::Exchange,
            false if dice.percent(30) => RenameMode::Whiteout { replace: true },
            false => RenameMode::Replace,
        };
        let blocked = directories && !exchange && self.names.contains_key(&to) && !self.is_empty(&to);
        let too_deep = to.len() + depth.unwrap_or(0) > 3 || exchange && directories;
        (!inside && !blocked && !too_deep).then_some(Operation::Rename(from, to, mode))
    }

    /// The tree after an operation.
    pub(super) fn after(&self, operation: &Operation) -> Tree {
        let mut tree = self.clone();
        match operation {
            Operation::Create(path) => {
                tree.next_file += 1;
                tree.names.insert(path.clone(), What::File(tree.next_file));
                tree.contents.insert(tree.next_file, Vec::new());
            }
            Operation::MakeDirectory(path) => drop(tree.names.insert(path.clone(), What::Directory)),
            Operation::Write(path, offset, data) => {
                let content = tree.content(path);
                let (start, end) = (*offset as usize, *offset as usize + data.len());
                content.resize(content.len().max(end), 0);
                content[start..end].copy_from_slice(data);
            }
            Operation::Truncate(path, size) => tree.content(path).resize(*size as usize, 0),
            Operation::Unlink(path) | Operation::RemoveDirectory(path) => drop(tree.names.remove(path)),
            Operation::Nameless(None, _) => {}
            Operation::Nameless(Some(path), content) => {
                tree.next_file += 1;
                tree.names.insert(path.clone(), What::File(tree.next_file));
                tree.contents.insert(tree.next_file, content.clone());
            }
            Operation::Link(from, to) => drop(tree.names.insert(to.clone(), tree.names[from])),
            Operation::Rename(from, to, RenameMode::Exchange) => {
                let (a, b) = (tree.names[from], tree.names[to]);
                tree.names.insert(from.clone(), b);
                tree.names.insert(to.clone(), a);
            }
            // Two names of one file stay as they are.
            Operation::Rename(from, to, _)
                if is_file(tree.names[from]) && tree.names.get(to) == tree.names.get(from) => {}
            Operation::Rename(from, to, mode) => {
                tree.names.remove(to);
                let moved: Vec<Path> =
                    tree.names.keys().filter(|path| path.starts_with(from)).cloned().collect();
                for path in moved {
                    let what = tree.names.remove(&path).expect("just listed");
                    let mut new = to.clone();
                    new.extend_from_slice(&path[from.len()..]);
                    tree.names.insert(new, what);
                }
                if let RenameMode::Whiteout { .. } = mode {
                    tree.names.insert(from.clone(), What::Whiteout);
                }
            }
        }
        tree
    }

    fn content(&mut self, path: &Path) -> &mut Vec<u8> {
        match self.names[path] {
            What::File(file) => self.contents.get_mut(&file).expect("it has content"),
            what => unreachable!("{path:?} is a {what:?}"),
        }
    }

    /// What can be seen of the tree: a line a name.
    pub(super) fn show(&self) -> Vec<String> {
        let links = |file: u64| self.names.values().filter(|other| **other == What::File(file)).count();
        let line = |(path, what): (&Path, &What)| match what {
            What::Directory => {
                let within = |other: &Path| other.len() == path.len() + 1 && other.starts_with(path);
                let inside = self.paths(is_directory).into_iter().filter(within).count();
                show_line(path, Kind::Directory, 2 + inside as u32, &[])
            }
            What::File(file) => show_line(path, Kind::File, links(*file) as u32, &self.contents[file]),
            What::Whiteout => show_line(path, Kind::CharDevice, 1, &[]),
        };
        self.names.iter().map(line).collect()
    }
}

fn is_directory(what: What) -> bool {
    what == What::Directory
}

fn is_file(what: What) -> bool {
    matches!(what, What::File(_))
}

/// One name as it can be seen.
pub(super) fn show_line<S: AsRef<str>>(path: &[S], kind: Kind, links: u32, content: &[u8]) -> String {
    let path: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
    let sum = xxhash_rust::xxh3::xxh3_64(content);
    format!("{} {kind:?} {links} links {} bytes {sum:x}", path.join("/"), content.len())
}
