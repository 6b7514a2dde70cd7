//! One random step, on both sides.

use super::model::{Model, NAMES, Node};
use super::*;

impl Model {
    pub(super) fn step(&mut self) {
        match self.random.below(17) {
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
            15 => self.nameless(),
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
        let links = if directory { 2 } else { 1 };
        self.nodes.push(Node { content: target, ..Node::new(kind, 0o640, links, attributes.inode) });
        let index = self.nodes.len() - 1;
        self.nodes[parent].children.insert(name, index);
        self.nodes[parent].links += u32::from(directory);
    }

    /// A file that has no name yet; `link` may give it one.
    fn nameless(&mut self) {
        let parent = self.directory();
        let at = self.nodes[parent].inode;
        let near = self.volume.any_name();
        let new = NewInode { kind: Kind::File, permissions: 0o640, umask: 0, device: 0, target: Vec::new() };
        let got = run(&self.volume, Near::Name(at, &near), |v| async move {
            v.make_nameless(ROOT_CALLER, at, near, new).await
        });
        let inode = got.unwrap().inode;
        self.nodes.push(Node { unborn: true, ..Node::new(Kind::File, 0o640, 0, inode) });
        let index = self.nodes.len() - 1;
        self.compare(index, &got.unwrap());
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
            RenameMode::Whiteout { replace: true },
            RenameMode::Whiteout { replace: false },
        ]);
        let keeps_target = matches!(mode, RenameMode::NoReplace | RenameMode::Whiteout { replace: false });
        let source = self.nodes[from].children.get(&name).copied();
        let target = self.nodes[to].children.get(&new_name).copied();
        // The kernel refuses to move a directory below itself, or to put something in its place that contains it.
        if source.is_some_and(|s| self.contains(s, to)) || target.is_some_and(|t| self.contains(t, from)) {
            return;
        }
        let (old_parent, new_parent) = (self.nodes[from].inode, self.nodes[to].inode);
        let (old, new) = (name.clone(), new_name.clone());
        let got = run(&self.volume, Near::Name(old_parent, &name), |v| async move {
            v.rename(ROOT_CALLER, old_parent, &old, new_parent, &new, mode).await
        });
        let is_directory = |index: usize| self.nodes[index].kind == Kind::Directory;
        let expected = match (source, target, mode) {
            (None, _, _) => Err(Errno::ENOENT),
            (Some(_), Some(_), _) if keeps_target => Err(Errno::EEXIST),
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
        if let RenameMode::Whiteout { .. } = mode {
            self.find_whiteout(from, name);
        }
    }

    /// What a renaming has left behind is known to nobody until it is looked up.
    fn find_whiteout(&mut self, parent: usize, name: Vec<u8>) {
        let (at, wanted) = (self.nodes[parent].inode, name.clone());
        let got = run(&self.volume, Near::Name(at, &name), |v| async move { v.lookup(at, &wanted).await });
        let attributes = got.unwrap();
        let shown = (attributes.kind, attributes.permissions, attributes.links, attributes.device);
        assert_eq!(shown, (Kind::CharDevice, 0, 1, 0));
        let index = self.nodes.len();
        self.nodes.push(Node::new(Kind::CharDevice, 0, 1, attributes.inode));
        self.nodes[parent].children.insert(name, index);
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
        } else if self.nodes[file].links == 0 && !self.nodes[file].unborn {
            assert_eq!(got, Err(Errno::ENOENT));
        } else {
            self.nodes[file].links += 1;
            self.nodes[file].lookups += 1;
            self.nodes[file].unborn = false;
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

    pub(super) fn read_back(&self, file: usize) {
        let inode = self.nodes[file].inode;
        // The room for it may hold anything.
        let read = |v: Volume| async move {
            let mut room = vec![0xee; 1 << 16];
            let count = v.read_into(inode, 0, &mut room).await?;
            room.truncate(count);
            Ok(room)
        };
        let got = run(&self.volume, Near::Inode(inode), read).unwrap();
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
}
