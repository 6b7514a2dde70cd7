//! Names of the simulated disk: what the process sees, what is durable, and the changes between. Knows nothing of content.

use super::dice::Dice;
use super::inode::Loss;
use std::collections::BTreeMap;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Node {
    File(u64),
    Directory,
}

#[derive(Clone, Debug)]
enum Change {
    Create(String, Node),
    Rename { from: String, to: String, node: Node },
    Remove(String, Node),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    pub(super) names: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    changes: Vec<Change>,
}

impl Directory {
    pub(super) fn create(&mut self, name: &str, node: Node) {
        self.note(Change::Create(name.to_string(), node));
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, node: Node) {
        self.note(Change::Rename { from: from.to_string(), to: to.to_string(), node });
    }

    pub(super) fn remove(&mut self, name: &str, node: Node) {
        self.note(Change::Remove(name.to_string(), node));
    }

    fn note(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }

    pub(super) fn sync(&mut self) {
        self.durable = self.names.clone();
        self.changes.clear();
    }

    /// Any subset of the changes reaches the disk, in their order.
    fn keep_some(&mut self, kept_percent: u64, dice: &mut Dice) {
        for change in &self.changes {
            if dice.percent(kept_percent) {
                apply(&mut self.durable, change);
            }
        }
    }

    /// A sync that failed: some of it reached the disk. Unlike a file's bytes, names go through a journal in order: a later sync that
    /// succeeds covers them too.
    pub(super) fn fail_sync(&mut self, dice: &mut Dice) {
        self.keep_some(50, dice);
    }

    pub(super) fn lose_power(&mut self, loss: Loss, dice: &mut Dice) {
        self.keep_some(loss.kept_percent, dice);
        self.changes.clear();
        self.names = self.durable.clone();
    }

    /// All files that have a name now.
    pub(super) fn named_files(&self) -> impl Iterator<Item = u64> {
        self.names.values().filter_map(|node| match node {
            Node::File(inode) => Some(*inode),
            Node::Directory => None,
        })
    }

    /// All files that any name, old or new, still leads to.
    pub(super) fn files(&self) -> impl Iterator<Item = u64> {
        files(self.names.values().chain(self.durable.values()))
    }

    /// The files of names that have come and gone since the last sync: a power loss may keep the coming alone.
    pub(super) fn files_of_changes(&self) -> impl Iterator<Item = u64> {
        files(self.changes.iter().map(|change| match change {
            Change::Create(_, node) | Change::Rename { node, .. } | Change::Remove(_, node) => node,
        }))
    }
}

fn files<'a>(nodes: impl Iterator<Item = &'a Node>) -> impl Iterator<Item = u64> {
    nodes.filter_map(|node| match node {
        Node::File(inode) => Some(*inode),
        Node::Directory => None,
    })
}

fn apply(names: &mut BTreeMap<String, Node>, change: &Change) {
    match change {
        Change::Create(name, node) => drop(names.insert(name.clone(), *node)),
        Change::Rename { from, to, node } => {
            // The old name may never have become durable, or may be another file's by now.
            if names.get(from) == Some(node) {
                names.remove(from);
            }
            names.insert(to.clone(), *node);
        }
        Change::Remove(name, node) => {
            if names.get(name) == Some(node) {
                names.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_is_never_half_done() {
        for seed in 0..200 {
            let mut dice = Dice::new(seed);
            let mut directory = Directory::default();
            directory.create("old", Node::File(1));
            directory.create("new", Node::File(2));
            directory.sync();
            directory.rename("old", "new", Node::File(1));
            let loss = Loss::by(&mut dice);
            directory.lose_power(loss, &mut dice);
            match directory.names.get("new") {
                Some(Node::File(1)) => assert_eq!(directory.names.get("old"), None),
                Some(Node::File(2)) => assert_eq!(directory.names.get("old"), Some(&Node::File(1))),
                other => panic!("{other:?}"),
            }
        }
    }
}
