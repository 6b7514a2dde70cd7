//! The plain tree, and how it is compared with the filesystem.

use super::*;

/// A node of the plain tree.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) content: Vec<u8>,
    pub(super) permissions: u16,
    pub(super) children: BTreeMap<Vec<u8>, usize>,
    pub(super) links: u32,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The same node in the filesystem, and how often it was looked up.
    pub(super) inode: Inode,
    pub(super) lookups: u64,
    /// It has never had a name.
    pub(super) unborn: bool,
}

impl Node {
    /// An empty one, looked up once.
    pub(super) fn new(kind: Kind, permissions: u16, links: u32, inode: Inode) -> Node {
        Node {
            kind,
            content: Vec::new(),
            permissions,
            children: BTreeMap::new(),
            links,
            xattrs: BTreeMap::new(),
            inode,
            lookups: 1,
            unborn: false,
        }
    }
}

pub(super) struct Model {
    pub(super) nodes: Vec<Node>,
    pub(super) volume: Volume,
    pub(super) random: Random,
}

pub(super) const NAMES: [&[u8]; 7] =
    [b"a", b"b", b"c", b"dd", b"eee", b"a-longer-name-that-is-kept-on-the-heap", b"g"];

impl Model {
    pub(super) fn new(volume: Volume, seed: u64) -> Self {
        let root = Node::new(Kind::Directory, 0o755, 2, Inode::ROOT);
        Model { nodes: vec![root], volume, random: Random(seed * 2 + 1) }
    }

    /// A directory that still has a name, with its index.
    pub(super) fn directory(&mut self) -> usize {
        let reachable = self.reachable();
        let directories: Vec<usize> =
            reachable.into_iter().filter(|index| self.nodes[*index].kind == Kind::Directory).collect();
        self.random.one_of(&directories)
    }

    pub(super) fn reachable(&self) -> Vec<usize> {
        let mut found = vec![0];
        let mut at = 0;
        while at < found.len() {
            found.extend(
                self.nodes[found[at]]
                    .children
                    .values()
                    .filter(|child| !found.contains(child))
                    .collect::<Vec<_>>(),
            );
            at += 1;
        }
        found
    }

    /// A file that somebody can still reach: by name, or because it is held.
    pub(super) fn file(&mut self) -> Option<usize> {
        let files: Vec<usize> = (0..self.nodes.len())
            .filter(|i| self.nodes[*i].kind == Kind::File && self.nodes[*i].lookups > 0)
            .collect();
        (!files.is_empty()).then(|| self.random.one_of(&files))
    }

    pub(super) fn contains(&self, directory: usize, wanted: usize) -> bool {
        directory == wanted
            || self.nodes[directory].children.values().any(|child| self.contains(*child, wanted))
    }

    pub(super) fn compare(&self, index: usize, attributes: &Attributes) {
        let node = &self.nodes[index];
        assert_eq!(attributes.inode, node.inode);
        assert_eq!(attributes.kind, node.kind);
        assert_eq!(attributes.links, node.links, "links of {node:?}");
        assert_eq!(attributes.permissions, node.permissions);
        if node.kind == Kind::File {
            assert_eq!(attributes.size, node.content.len() as u64);
        }
    }

    /// Everything that has a name, by way of listings and reads.
    pub(super) fn compare_all(&mut self) {
        for index in self.reachable() {
            let inode = self.nodes[index].inode;
            let attributes =
                run(&self.volume, Near::Inode(inode), |v| async move { v.getattr(inode).await }).unwrap();
            self.compare(index, &attributes);
            match self.nodes[index].kind {
                Kind::File => self.read_back(index),
                Kind::Symlink => {
                    let got =
                        run(&self.volume, Near::Inode(inode), |v| async move { v.readlink(inode).await });
                    assert_eq!(got.as_ref(), Ok(&self.nodes[index].content));
                }
                Kind::Directory => self.compare_listing(index),
                _ => {}
            }
            for (name, value) in self.nodes[index].xattrs.clone() {
                let got =
                    run(&self.volume, Near::Inode(inode), |v| async move { v.getxattr(inode, &name).await });
                assert_eq!(got, Ok(value));
            }
        }
        let findings =
            run(&self.volume, Near::Inode(Inode::ROOT), |v| async move { Ok(v.check().await) }).unwrap();
        assert!(findings.is_empty(), "{findings:#?}");
    }

    pub(super) fn compare_listing(&self, index: usize) {
        let inode = self.nodes[index].inode;
        let mut listed = BTreeMap::new();
        let mut position = 0;
        loop {
            let entries = run(&self.volume, Near::Inode(inode), |v| async move {
                v.readdir(inode, position, 3, false).await
            });
            let entries = entries.unwrap();
            let Some(last) = entries.last() else { break };
            position = last.position;
            for entry in entries {
                assert_eq!(listed.insert(entry.name, entry.inode), None, "listed twice");
            }
        }
        let expected: BTreeMap<_, _> = self.nodes[index]
            .children
            .iter()
            .map(|(name, child)| (name.clone(), self.nodes[*child].inode))
            .collect();
        assert_eq!(listed, expected);
    }

    /// The kernel forgets everything, the store is closed and opened again.
    pub(super) fn reopen(&mut self, directory: &Path, partitions: u16) {
        self.volume.close().unwrap();
        self.volume = open(directory, partitions);
        for node in self.nodes.iter_mut().skip(1) {
            node.lookups = 0;
        }
        // Inodes without a name are gone now.
        let reachable = self.reachable();
        for index in reachable {
            let children: Vec<_> =
                self.nodes[index].children.iter().map(|(name, child)| (name.clone(), *child)).collect();
            for (name, child) in children {
                let at = self.nodes[index].inode;
                let near = name.clone();
                run(&self.volume, Near::Name(at, &near), |v| async move { v.lookup(at, &name).await })
                    .unwrap();
                self.nodes[child].lookups += 1;
            }
        }
    }
}
