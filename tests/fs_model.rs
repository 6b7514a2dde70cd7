//! Random histories on the filesystem and on a plain tree in memory: every answer, attribute, listing and content is the same; after
//! reopening too; and the checker finds nothing.

use bitkv::engine::clock::RealClock;
use bitkv::engine::disk::uring::UringDisk;
use bitkv::engine::{Config, Durability, Policy, World};
use bitkv::fs::errno::Errno;
use bitkv::fs::types::*;
use bitkv::fs::volume::Near;
use bitkv::fs::{Volume, VolumeConfig};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

struct Random(u64);
impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    fn one_of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize].clone()
    }
}

fn open(directory: &Path, partitions: u16) -> Volume {
    let disk = UringDisk::open(directory, 2, false).unwrap();
    let world = World { disk, clock: RealClock::new(), seed: 1, policy: Policy::Inline };
    let config = Config {
        partitions: Some(partitions),
        segment_bytes: 4 << 20,
        durability: Durability::Interval(Duration::from_millis(50)),
        lock_wait: Duration::from_secs(5),
        ..Config::default()
    };
    Volume::open(world, config, VolumeConfig { chunk_bytes: 4096, ..VolumeConfig::default() }).unwrap()
}

/// Runs an operation where it belongs, and waits for its answer on this thread.
fn run<T: Send + 'static, F: Future<Output = Answer<T>> + Send + 'static>(
    volume: &Volume,
    near: Near<'_>,
    operation: impl FnOnce(Volume) -> F,
) -> Answer<T> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let future = operation(volume.clone());
    volume.dispatch(near, async move { drop(sender.send(future.await)) });
    receiver.recv_timeout(Duration::from_secs(30)).expect("an operation never answered")
}

const ROOT_CALLER: Caller = Caller { uid: 0, gid: 0 };

/// A node of the plain tree.
#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    content: Vec<u8>,
    permissions: u16,
    children: BTreeMap<Vec<u8>, usize>,
    links: u32,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The same node in the filesystem, and how often it was looked up.
    inode: Inode,
    lookups: u64,
}

struct Model {
    nodes: Vec<Node>,
    volume: Volume,
    random: Random,
}

const NAMES: [&[u8]; 7] = [b"a", b"b", b"c", b"dd", b"eee", b"a-longer-name-that-is-kept-on-the-heap", b"g"];

impl Model {
    fn new(volume: Volume, seed: u64) -> Self {
        let root = Node {
            kind: Kind::Directory,
            content: Vec::new(),
            permissions: 0o755,
            children: BTreeMap::new(),
            links: 2,
            xattrs: BTreeMap::new(),
            inode: Inode::ROOT,
            lookups: 1,
        };
        Model { nodes: vec![root], volume, random: Random(seed * 2 + 1) }
    }

    /// A directory that still has a name, with its index.
    fn directory(&mut self) -> usize {
        let reachable = self.reachable();
        let directories: Vec<usize> =
            reachable.into_iter().filter(|index| self.nodes[*index].kind == Kind::Directory).collect();
        self.random.one_of(&directories)
    }

    fn reachable(&self) -> Vec<usize> {
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
    fn file(&mut self) -> Option<usize> {
        let files: Vec<usize> = (0..self.nodes.len())
            .filter(|i| self.nodes[*i].kind == Kind::File && self.nodes[*i].lookups > 0)
            .collect();
        (!files.is_empty()).then(|| self.random.one_of(&files))
    }

    fn contains(&self, directory: usize, wanted: usize) -> bool {
        directory == wanted
            || self.nodes[directory].children.values().any(|child| self.contains(*child, wanted))
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0..=2 => self.make(),
            3 => self.lookup(),
            4 => self.unlink(),
            5 => self.rmdir(),
            6..=7 => self.rename(),
            8 => self.link(),
            9..=11 => self.write(),
            12 => self.truncate(),
            13 => self.forget(),
            14 => self.xattr(),
            _ => self.punch(),
        }
    }

    fn make(&mut self) {
        let parent = self.directory();
        let name = self.random.one_of(&NAMES).to_vec();
        let kind = self.random.one_of(&[Kind::File, Kind::File, Kind::Directory, Kind::Symlink, Kind::Fifo]);
        let target = if kind == Kind::Symlink { b"where/ever".to_vec() } else { Vec::new() };
        let new = NewInode { kind, permissions: 0o640, umask: 0, device: 0, target: target.clone() };
        let (at, made_name) = (self.nodes[parent].inode, name.clone());
        let near = name.clone();
        let got = run(&self.volume, Near::Name(at, &near), |v| async move {
            v.make(ROOT_CALLER, at, &made_name, new).await
        });
        if self.nodes[parent].children.contains_key(&name) {
            assert_eq!(got, Err(Errno::EEXIST));
            return;
        }
        let attributes = got.unwrap();
        assert_eq!((attributes.kind, attributes.permissions), (kind, 0o640));
        let directory = kind == Kind::Directory;
        self.nodes.push(Node {
            kind,
            content: target,
            permissions: 0o640,
            children: BTreeMap::new(),
            links: if directory { 2 } else { 1 },
            xattrs: BTreeMap::new(),
            inode: attributes.inode,
            lookups: 1,
        });
        let index = self.nodes.len() - 1;
        self.nodes[parent].children.insert(name, index);
        self.nodes[parent].links += u32::from(directory);
    }

    fn lookup(&mut self) {
        let parent = self.directory();
        let name = self.random.one_of(&NAMES).to_vec();
        let (at, wanted) = (self.nodes[parent].inode, name.clone());
        let got = run(&self.volume, Near::Name(at, &name), |v| async move { v.lookup(at, &wanted).await });
        match self.nodes[parent].children.get(&name).copied() {
            None => assert_eq!(got, Err(Errno::ENOENT)),
            Some(child) => {
                let attributes = got.unwrap();
                self.nodes[child].lookups += 1;
                self.compare(child, &attributes);
            }
        }
    }

    fn compare(&self, index: usize, attributes: &Attributes) {
        let node = &self.nodes[index];
        assert_eq!(attributes.inode, node.inode);
        assert_eq!(attributes.kind, node.kind);
        assert_eq!(attributes.links, node.links, "links of {node:?}");
        assert_eq!(attributes.permissions, node.permissions);
        if node.kind == Kind::File {
            assert_eq!(attributes.size, node.content.len() as u64);
        }
    }

    fn drop_name(&mut self, parent: usize, name: &[u8]) {
        let child = self.nodes[parent].children.remove(name).unwrap();
        if self.nodes[child].kind == Kind::Directory {
            self.nodes[child].links = 0;
            self.nodes[parent].links -= 1;
        } else {
            self.nodes[child].links -= 1;
        }
    }

    fn unlink(&mut self) {
        let parent = self.directory();
        let name = self.random.one_of(&NAMES).to_vec();
        let (at, wanted) = (self.nodes[parent].inode, name.clone());
        let got = run(&self.volume, Near::Name(at, &name), |v| async move { v.unlink(at, &wanted).await });
        let expected = match self.nodes[parent].children.get(&name) {
            None => Err(Errno::ENOENT),
            Some(child) if self.nodes[*child].kind == Kind::Directory => Err(Errno::EISDIR),
            Some(_) => Ok(()),
        };
        assert_eq!(got, expected);
        if got.is_ok() {
            self.drop_name(parent, &name);
        }
    }

    fn rmdir(&mut self) {
        let parent = self.directory();
        let name = self.random.one_of(&NAMES).to_vec();
        let (at, wanted) = (self.nodes[parent].inode, name.clone());
        let got = run(&self.volume, Near::Name(at, &name), |v| async move { v.rmdir(at, &wanted).await });
        let expected = match self.nodes[parent].children.get(&name) {
            None => Err(Errno::ENOENT),
            Some(child) if self.nodes[*child].kind != Kind::Directory => Err(Errno::ENOTDIR),
            Some(child) if !self.nodes[*child].children.is_empty() => Err(Errno::ENOTEMPTY),
            Some(_) => Ok(()),
        };
        assert_eq!(got, expected);
        if got.is_ok() {
            self.drop_name(parent, &name);
        }
    }

    fn rename(&mut self) {
        let (from, to) = (self.directory(), self.directory());
        let (name, new_name) = (self.random.one_of(&NAMES).to_vec(), self.random.one_of(&NAMES).to_vec());
        let mode = self.random.one_of(&[
            RenameMode::Replace,
            RenameMode::Replace,
            RenameMode::NoReplace,
            RenameMode::Exchange,
        ]);
        let source = self.nodes[from].children.get(&name).copied();
        let target = self.nodes[to].children.get(&new_name).copied();
        // The kernel refuses to move a directory below itself, or to put something in its place that contains it.
        if source.is_some_and(|s| self.contains(s, to)) || target.is_some_and(|t| self.contains(t, from)) {
            return;
        }
        let (old_parent, new_parent) = (self.nodes[from].inode, self.nodes[to].inode);
        let (old, new) = (name.clone(), new_name.clone());
        let got = run(&self.volume, Near::Name(old_parent, &name), |v| async move {
            v.rename(old_parent, &old, new_parent, &new, mode).await
        });
        let is_directory = |index: usize| self.nodes[index].kind == Kind::Directory;
        let expected = match (source, target, mode) {
            (None, _, _) => Err(Errno::ENOENT),
            (Some(_), Some(_), RenameMode::NoReplace) => Err(Errno::EEXIST),
            (Some(_), None, RenameMode::Exchange) => Err(Errno::ENOENT),
            (Some(s), Some(t), _) if s == t => Ok(()),
            (Some(_), _, RenameMode::Exchange) => Ok(()),
            (Some(s), Some(t), _) if is_directory(s) && !is_directory(t) => Err(Errno::ENOTDIR),
            (Some(s), Some(t), _) if !is_directory(s) && is_directory(t) => Err(Errno::EISDIR),
            (Some(_), Some(t), _) if is_directory(t) && !self.nodes[t].children.is_empty() => {
                Err(Errno::ENOTEMPTY)
            }
            _ => Ok(()),
        };
        assert_eq!(got, expected, "{mode:?} {source:?} {target:?}");
        let (Ok(()), Some(source)) = (got, source) else { return };
        if Some(source) == target {
            return;
        }
        let moved_directory = self.nodes[source].kind == Kind::Directory;
        if mode == RenameMode::Exchange {
            let target = target.unwrap();
            let other_directory = self.nodes[target].kind == Kind::Directory;
            self.nodes[from].children.insert(name, target);
            self.nodes[to].children.insert(new_name, source);
            self.nodes[from].links =
                self.nodes[from].links + u32::from(other_directory) - u32::from(moved_directory);
            self.nodes[to].links =
                self.nodes[to].links + u32::from(moved_directory) - u32::from(other_directory);
            return;
        }
        if target.is_some() {
            self.drop_name(to, &new_name);
        }
        self.nodes[from].children.remove(&name);
        self.nodes[from].links -= u32::from(moved_directory);
        self.nodes[to].children.insert(new_name, source);
        self.nodes[to].links += u32::from(moved_directory);
    }

    fn link(&mut self) {
        let Some(file) = self.file() else { return };
        let parent = self.directory();
        let name = self.random.one_of(&NAMES).to_vec();
        let (inode, at, wanted) = (self.nodes[file].inode, self.nodes[parent].inode, name.clone());
        let got =
            run(&self.volume, Near::Name(at, &name), |v| async move { v.link(inode, at, &wanted).await });
        if self.nodes[parent].children.contains_key(&name) {
            assert_eq!(got, Err(Errno::EEXIST));
        } else if self.nodes[file].links == 0 {
            assert_eq!(got, Err(Errno::ENOENT));
        } else {
            self.nodes[file].links += 1;
            self.nodes[file].lookups += 1;
            self.nodes[parent].children.insert(name, file);
            self.compare(file, &got.unwrap());
        }
    }

    fn write(&mut self) {
        let Some(file) = self.file() else { return };
        let offset = self.random.one_of(&[0, 1, 100, 4000, 4096, 5000, 12288, 20000]) + self.random.below(50);
        let length = self.random.one_of(&[0, 1, 10, 500, 4096, 9000]);
        let byte = self.random.next() as u8;
        let data: Vec<u8> = (0..length).map(|i| byte.wrapping_add(i as u8)).collect();
        let (inode, written) = (self.nodes[file].inode, data.clone());
        let got = run(&self.volume, Near::Inode(inode), |v| async move {
            v.write(ROOT_CALLER, inode, offset, written, WriteEffects::default()).await
        });
        assert_eq!(got, Ok(length as u32));
        let content = &mut self.nodes[file].content;
        let end = offset as usize + data.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset as usize..end].copy_from_slice(&data);
        self.read_back(file);
    }

    fn truncate(&mut self) {
        let Some(file) = self.file() else { return };
        let size = self.random.one_of(&[0, 1, 100, 4095, 4096, 4097, 10_000, 30_000]);
        let inode = self.nodes[file].inode;
        let set = SetAttributes { size: Some(size), ..SetAttributes::default() };
        let got =
            run(
                &self.volume,
                Near::Inode(inode),
                |v| async move { v.setattr(ROOT_CALLER, inode, set).await },
            );
        self.nodes[file].content.resize(size as usize, 0);
        self.compare(file, &got.unwrap());
        self.read_back(file);
    }

    fn punch(&mut self) {
        let Some(file) = self.file() else { return };
        let (offset, length) = (self.random.below(20_000), 1 + self.random.below(10_000));
        let inode = self.nodes[file].inode;
        let grow = self.random.below(2) == 0;
        let mode = if grow { AllocateMode::ZeroRange { keep_size: false } } else { AllocateMode::PunchHole };
        let got = run(&self.volume, Near::Inode(inode), |v| async move {
            v.fallocate(ROOT_CALLER, inode, offset, length, mode).await
        });
        assert_eq!(got, Ok(()));
        let content = &mut self.nodes[file].content;
        let end = (offset + length) as usize;
        if grow && content.len() < end {
            content.resize(end, 0);
        }
        let (from, to) = ((offset as usize).min(content.len()), end.min(content.len()));
        content[from..to].fill(0);
        self.read_back(file);
    }

    fn read_back(&self, file: usize) {
        let inode = self.nodes[file].inode;
        let got = run(&self.volume, Near::Inode(inode), |v| async move { v.read(inode, 0, 1 << 20).await })
            .unwrap();
        assert!(got == self.nodes[file].content, "content of node {file} differs");
    }

    fn forget(&mut self) {
        let held: Vec<usize> = (1..self.nodes.len()).filter(|index| self.nodes[*index].lookups > 0).collect();
        if held.is_empty() {
            return;
        }
        let index = self.random.one_of(&held);
        // The kernel keeps what lies on the way to what it holds.
        if self.nodes[index].kind == Kind::Directory {
            return;
        }
        self.volume.forget(self.nodes[index].inode, self.nodes[index].lookups);
        self.nodes[index].lookups = 0;
    }

    fn xattr(&mut self) {
        let Some(file) = self.file() else { return };
        let inode = self.nodes[file].inode;
        let name = self.random.one_of(&[&b"user.one"[..], b"user.two", b"user.three"]).to_vec();
        let wanted = name.clone();
        if self.random.below(3) == 0 {
            let got = run(&self.volume, Near::Inode(inode), |v| async move {
                v.removexattr(ROOT_CALLER, inode, &wanted).await
            });
            let there = self.nodes[file].xattrs.remove(&name).is_some();
            assert_eq!(got, if there { Ok(()) } else { Err(Errno::ENODATA) });
        } else {
            let value = vec![self.random.next() as u8; self.random.below(200) as usize];
            let set = value.clone();
            let got = run(&self.volume, Near::Inode(inode), |v| async move {
                v.setxattr(ROOT_CALLER, inode, &wanted, &set, XattrMode::Any, None).await
            });
            assert_eq!(got, Ok(()));
            self.nodes[file].xattrs.insert(name, value);
        }
    }

    /// Everything that has a name, by way of listings and reads.
    fn compare_all(&mut self) {
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

    fn compare_listing(&self, index: usize) {
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
    fn reopen(&mut self, directory: &Path, partitions: u16) {
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

#[test]
fn histories_agree_with_a_plain_tree() {
    for seed in 1..=12 {
        let directory = tempfile::tempdir().unwrap();
        let partitions = 1 + (seed % 3) as u16;
        let mut model = Model::new(open(directory.path(), partitions), seed);
        for _ in 0..3 {
            for _ in 0..250 {
                model.step();
            }
            model.compare_all();
            model.reopen(directory.path(), partitions);
            model.compare_all();
        }
        model.volume.close().unwrap();
    }
}

#[test]
fn many_threads_in_shared_directories_leave_a_sound_store() {
    let directory = tempfile::tempdir().unwrap();
    let volume = open(directory.path(), 2);
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let volume = volume.clone();
            scope.spawn(move || {
                let mut random = Random(thread * 7919 + 3);
                for _ in 0..400 {
                    let name = random.one_of(&NAMES).to_vec();
                    let other = random.one_of(&NAMES).to_vec();
                    let near = name.clone();
                    let root = Inode::ROOT;
                    match random.below(6) {
                        0 | 1 => {
                            let kind = random.one_of(&[Kind::File, Kind::Directory]);
                            let new = NewInode {
                                kind,
                                permissions: 0o755,
                                umask: 0,
                                device: 0,
                                target: Vec::new(),
                            };
                            let made = run(&volume, Near::Name(root, &near), |v| async move {
                                v.make(ROOT_CALLER, root, &name, new).await
                            });
                            if let Ok(made) = made {
                                volume.forget(made.inode, 1);
                            }
                        }
                        2 => drop(run(&volume, Near::Name(root, &near), |v| async move {
                            v.unlink(root, &name).await
                        })),
                        3 => drop(run(&volume, Near::Name(root, &near), |v| async move {
                            v.rmdir(root, &name).await
                        })),
                        4 => drop(run(&volume, Near::Name(root, &near), |v| async move {
                            v.rename(root, &name, root, &other, RenameMode::Replace).await
                        })),
                        _ => {
                            let entries = run(&volume, Near::Inode(root), |v| async move {
                                v.readdir(root, 0, 100, true).await
                            });
                            for entry in entries.unwrap() {
                                if entry.attributes.is_some() {
                                    volume.forget(entry.inode, 1);
                                }
                            }
                        }
                    }
                }
            });
        }
    });
    let findings = run(&volume, Near::Inode(Inode::ROOT), |v| async move { Ok(v.check().await) }).unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
    volume.close().unwrap();
    let volume = open(directory.path(), 2);
    let findings = run(&volume, Near::Inode(Inode::ROOT), |v| async move { Ok(v.check().await) }).unwrap();
    assert!(findings.is_empty(), "after reopening: {findings:#?}");
    volume.close().unwrap();
}
