//! Each fault, planted in a sound store: it is found, repaired, and nothing else is lost.

use super::{Finding, Repaired};
use crate::engine::clock::RealClock;
use crate::engine::disk::uring::UringDisk;
use crate::engine::{Batch, Config, Policy, World};
use crate::fs::acl::AclKind;
use crate::fs::attributes::InodeRecord;
use crate::fs::errno::Errno;
use crate::fs::keys::{self, EntryRecord, MetaRecord};
use crate::fs::types::*;
use crate::fs::volume::Near;
use crate::fs::{Volume, VolumeConfig};
use std::path::Path;
use std::time::Duration;

const ROOT: Caller = Caller { uid: 0, gid: 0 };

fn open(directory: &Path, repairing: bool) -> Volume {
    let disk = UringDisk::open(directory, 1, false).unwrap();
    let world = World { disk, clock: RealClock::new(), seed: 1, policy: Policy::Inline };
    let config = Config { partitions: Some(2), lock_wait: Duration::from_secs(5), ..Config::default() };
    let volume = VolumeConfig { chunk_bytes: 4096, repairing, ..VolumeConfig::default() };
    Volume::open(world, config, volume).unwrap()
}

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

fn make(volume: &Volume, parent: Inode, name: &'static [u8], kind: Kind) -> Inode {
    let new = NewInode { kind, permissions: 0o755, umask: 0, device: 0, target: Vec::new() };
    let made =
        run(volume, Near::Name(parent, name), |v| async move { v.make(ROOT, parent, name, new).await });
    made.unwrap().inode
}

fn lookup(volume: &Volume, parent: Inode, name: &[u8]) -> Answer<Attributes> {
    let owned = name.to_vec();
    run(volume, Near::Name(parent, name), |v| async move { v.lookup(parent, &owned).await })
}

fn read(volume: &Volume, inode: Inode) -> Vec<u8> {
    run(volume, Near::Inode(inode), |v| async move { v.read(inode, 0, 1 << 20).await }).unwrap()
}

fn write(volume: &Volume, inode: Inode, content: Vec<u8>) {
    run(volume, Near::Inode(inode), |v| async move {
        v.write(ROOT, inode, 0, content, WriteEffects::default()).await
    })
    .unwrap();
}

fn check(volume: &Volume) -> Vec<Finding> {
    run(volume, Near::Inode(Inode::ROOT), |v| async move { Ok(v.check().await) }).unwrap()
}

/// `/d/large`, `/d/sub/`, and `/small`, which is `/other` too and has an attribute.
struct Tree {
    directory: Inode,
    sub: Inode,
    large: Inode,
    small: Inode,
    /// Numbers that nothing has.
    no_file: Inode,
    no_directory: Inode,
}

fn large_content() -> Vec<u8> {
    (0..10_000u32).map(|at| (at % 251) as u8 + 1).collect()
}

impl Tree {
    fn plant(volume: &Volume) -> Tree {
        let directory = make(volume, Inode::ROOT, b"d", Kind::Directory);
        let sub = make(volume, directory, b"sub", Kind::Directory);
        let large = make(volume, directory, b"large", Kind::File);
        write(volume, large, large_content());
        let small = make(volume, Inode::ROOT, b"small", Kind::File);
        write(volume, small, b"hello".to_vec());
        let link = |v: Volume| async move { v.link(small, Inode::ROOT, b"other").await };
        run(volume, Near::Name(Inode::ROOT, b"other"), link).unwrap();
        let set = |v: Volume| async move {
            v.setxattr(ROOT, small, b"user.a", b"value", XattrMode::Any, None).await
        };
        run(volume, Near::Inode(small), set).unwrap();
        let unused = |directory| keys::new_inode(60_000, keys::slot_of_inode(small), directory);
        Tree { directory, sub, large, small, no_file: unused(false), no_directory: unused(true) }
    }
}

/// Changes records behind the filesystem's back.
struct Saboteur<'a> {
    volume: &'a Volume,
}

impl Saboteur<'_> {
    fn commit(&self, inode: Inode, batch: Batch) {
        let part = self.volume.part_of_inode(inode).clone();
        run(self.volume, Near::Inode(inode), |_| async move { Ok(part.commit(batch).await?) }).unwrap();
    }
    fn put(&self, inode: Inode, key: Vec<u8>, value: &[u8]) {
        let mut batch = Batch::new();
        batch.put(key, value);
        self.commit(inode, batch);
    }
    fn change(&self, inode: Inode, change: impl FnOnce(&mut InodeRecord)) {
        let part = self.volume.part_of_inode(inode).clone();
        let bytes =
            run(self.volume, Near::Inode(inode), |_| async move { Ok(part.get(&keys::inode(inode)).await?) });
        let bytes = bytes.unwrap().unwrap();
        let (mut record, content) = InodeRecord::decode(&bytes).unwrap();
        change(&mut record);
        self.put(inode, keys::inode(inode), &record.encode(content));
    }
    fn name(&self, parent: Inode, name: &[u8], to: Option<(Inode, Kind)>) {
        let mut batch = Batch::new();
        match to {
            Some((inode, kind)) => {
                let entry = EntryRecord { inode, kind, position: 7 << 40, time: Time::default() };
                batch.put(keys::entry(parent, name), entry.encode());
            }
            None => drop(batch.remove(keys::entry(parent, name))),
        }
        let part = self.volume.part_of_entry(parent, name).clone();
        run(self.volume, Near::Name(parent, name), |_| async move { Ok(part.commit(batch).await?) }).unwrap();
    }
}

/// Plants a fault, and repairs it: `expected` are words of what is found. Then the store is sound, and `look` looks at it.
fn repairs(plant: impl FnOnce(&Saboteur<'_>, &Tree), expected: &[&str], look: impl FnOnce(&Volume, &Tree)) {
    let directory = tempfile::tempdir().unwrap();
    let volume = open(directory.path(), false);
    let tree = Tree::plant(&volume);
    assert_eq!(check(&volume), []);
    volume.close().unwrap();
    let volume = open(directory.path(), true);
    plant(&Saboteur { volume: &volume }, &tree);
    volume.close().unwrap();

    let volume = open(directory.path(), true);
    let found: Vec<String> = check(&volume).iter().map(Finding::to_string).collect();
    for words in expected {
        assert!(found.iter().any(|finding| finding.contains(words)), "no {words:?} in {found:#?}");
    }
    let Repaired { done, left } =
        run(&volume, Near::Inode(Inode::ROOT), |v| async move { v.repair().await }).unwrap();
    assert!(!done.is_empty() && left.is_empty(), "done {done:#?}, left {left:#?}");
    volume.close().unwrap();

    let volume = open(directory.path(), false);
    assert_eq!(check(&volume), []);
    look(&volume, &tree);
    volume.close().unwrap();
}

fn in_lost_and_found(volume: &Volume, inode: Inode) -> Attributes {
    let lost = lookup(volume, Inode::ROOT, b"lost+found").unwrap().inode;
    let found = lookup(volume, lost, format!("#{}", inode.0).as_bytes()).unwrap();
    assert_eq!(found.inode, inode);
    found
}

#[test]
fn wrong_counts_are_set() {
    repairs(
        |saboteur, tree| {
            saboteur.change(tree.small, |record| (record.links, record.xattrs) = (5, 3));
            saboteur.change(tree.directory, |record| record.links = 9);
            saboteur.change(tree.large, |record| record.stored_bytes = 1);
        },
        &[
            "says 5 links and has 2",
            "says 9 links and has 3",
            "extended attributes",
            "says 1 bytes in chunks and has 10000",
        ],
        |volume, tree| {
            assert_eq!(lookup(volume, Inode::ROOT, b"small").unwrap().links, 2);
            assert_eq!(lookup(volume, Inode::ROOT, b"d").unwrap().links, 3);
            assert_eq!(read(volume, tree.large), large_content());
        },
    );
}

/// Nobody makes so many names; a record that says so is planted.
#[test]
fn no_inode_takes_more_names_than_its_record_counts() {
    repairs(
        |saboteur, tree| {
            let (small, directory) = (tree.small, tree.directory);
            saboteur.change(small, |record| record.links = i32::MAX as u32);
            saboteur.change(directory, |record| record.links = i32::MAX as u32);
            let link = |v: Volume| async move { v.link(small, Inode::ROOT, b"third").await };
            let linked = run(saboteur.volume, Near::Name(Inode::ROOT, b"third"), link);
            assert_eq!(linked.map(drop), Err(Errno::EMLINK));
            let new =
                NewInode { kind: Kind::Directory, permissions: 0, umask: 0, device: 0, target: Vec::new() };
            let make = |v: Volume| async move { v.make(ROOT, directory, b"more", new).await };
            let made = run(saboteur.volume, Near::Name(directory, b"more"), make);
            assert_eq!(made.map(drop), Err(Errno::EMLINK));
        },
        &["says 2147483647 links and has 2", "says 2147483647 links and has 3"],
        |volume, tree| {
            assert_eq!(lookup(volume, Inode::ROOT, b"third"), Err(Errno::ENOENT));
            make(volume, tree.directory, b"more", Kind::Directory);
        },
    );
}

/// What the group may is the mask, as long as there is a list; a list that is lost must not leave it to the group.
#[test]
fn permissions_are_those_of_the_access_control_list() {
    let entry = |who: u8, may: u8, id: u32| [&[who, 0, may, 0][..], &id.to_le_bytes()].concat();
    let entries = [
        entry(1, 6, u32::MAX),
        entry(2, 6, 1001),
        entry(4, 0, u32::MAX),
        entry(16, 4, u32::MAX),
        entry(32, 0, u32::MAX),
    ];
    let list = [vec![2, 0, 0, 0], entries.concat()].concat();
    repairs(
        |saboteur, tree| {
            let key = |inode| keys::xattr(inode, AclKind::Access.name());
            saboteur.put(tree.small, key(tree.small), &list);
            saboteur.change(tree.small, |record| (record.xattrs, record.permissions) = (2, 0o4666));
            saboteur.put(tree.directory, key(tree.directory), b"nonsense");
            saboteur.change(tree.directory, |record| (record.xattrs, record.permissions) = (1, 0o770));
        },
        &["says permissions 666, its access control list 640", "is malformed"],
        |volume, _| {
            assert_eq!(lookup(volume, Inode::ROOT, b"small").unwrap().permissions, 0o4640);
            assert_eq!(lookup(volume, Inode::ROOT, b"d").unwrap().permissions, 0o700);
        },
    );
}

#[test]
fn a_size_is_that_of_the_content() {
    repairs(
        |saboteur, tree| saboteur.change(tree.small, |record| record.size = 9),
        &["says 9 bytes and has 5"],
        |volume, tree| assert_eq!(read(volume, tree.small), b"hello"),
    );
}

#[test]
fn names_that_lead_nowhere_or_lie_nowhere_go() {
    repairs(
        |saboteur, tree| {
            saboteur.name(Inode::ROOT, b"ghost", Some((tree.no_file, Kind::File)));
            saboteur.name(tree.no_directory, b"inside", Some((tree.small, Kind::File)));
            saboteur.name(tree.sub, b"kind", Some((tree.large, Kind::Fifo)));
        },
        &["leads to inode", "which is no directory", "differ in kind"],
        |volume, tree| {
            assert_eq!(lookup(volume, Inode::ROOT, b"ghost"), Err(Errno::ENOENT));
            let kept = lookup(volume, tree.sub, b"kind").unwrap();
            assert_eq!((kept.inode, kept.kind, kept.links), (tree.large, Kind::File, 2));
        },
    );
}

#[test]
fn what_lost_its_name_is_in_lost_and_found() {
    repairs(
        |saboteur, tree| {
            saboteur.name(tree.directory, b"large", None);
            saboteur.name(tree.directory, b"sub", None);
        },
        &["has no name", "has no name"],
        |volume, tree| {
            assert_eq!(in_lost_and_found(volume, tree.large).links, 1);
            assert_eq!(in_lost_and_found(volume, tree.sub).links, 2);
            assert_eq!(read(volume, tree.large), large_content());
            let lost = lookup(volume, Inode::ROOT, b"lost+found").unwrap();
            assert_eq!((lost.permissions, lost.links), (0o700, 3));
        },
    );
}

#[test]
fn a_whole_tree_that_lost_its_name_stays_whole() {
    repairs(
        |saboteur, _| saboteur.name(Inode::ROOT, b"d", None),
        &["has no name"],
        |volume, tree| {
            in_lost_and_found(volume, tree.directory);
            assert_eq!(lookup(volume, tree.directory, b"large").unwrap().inode, tree.large);
        },
    );
}

#[test]
fn directories_below_themselves_are_taken_out() {
    repairs(
        |saboteur, tree| {
            saboteur.name(Inode::ROOT, b"d", None);
            saboteur.name(tree.sub, b"up", Some((tree.directory, Kind::Directory)));
        },
        &["isn't reached from the root"],
        |volume, tree| {
            let lost = lookup(volume, Inode::ROOT, b"lost+found").unwrap().inode;
            let found = [tree.directory, tree.sub]
                .into_iter()
                .filter(|inode| lookup(volume, lost, format!("#{}", inode.0).as_bytes()).is_ok());
            assert_eq!(found.count(), 1);
            assert_eq!(read(volume, tree.large), large_content());
        },
    );
}

#[test]
fn a_directory_keeps_one_name() {
    repairs(
        |saboteur, tree| saboteur.name(tree.sub, b"again", Some((tree.directory, Kind::Directory))),
        &["is a second name of directory"],
        |volume, tree| assert_eq!(lookup(volume, tree.directory, b"large").unwrap().inode, tree.large),
    );
}

#[test]
fn marks_of_orphans_that_are_none_go() {
    repairs(
        |saboteur, tree| {
            saboteur.put(tree.small, keys::orphan(tree.small), b"");
            saboteur.put(tree.no_file, keys::orphan(tree.no_file), b"");
        },
        &["has names and a mark of having none", "isn't there"],
        |volume, tree| assert_eq!(read(volume, tree.small), b"hello"),
    );
}

#[test]
fn chunks_and_attributes_of_nothing_go() {
    repairs(
        |saboteur, tree| {
            saboteur.put(tree.large, keys::chunk(tree.large, 99), b"behind the end");
            saboteur.put(tree.small, keys::chunk(tree.small, 0), b"of a file that is in its record");
            saboteur.put(tree.no_file, keys::chunk(tree.no_file, 0), b"of nothing");
            saboteur.put(tree.no_file, keys::xattr(tree.no_file, b"user.a"), b"of nothing");
        },
        &["from 99 on", "from 0 on", "1 extended attributes of inode"],
        |volume, tree| {
            assert_eq!(read(volume, tree.large), large_content());
            assert_eq!(read(volume, tree.small), b"hello");
        },
    );
}

#[test]
fn a_directory_whose_record_is_lost_keeps_its_names() {
    repairs(
        |saboteur, tree| saboteur.put(tree.directory, keys::inode(tree.directory), b"no record"),
        &["has no readable record", "which is no directory"],
        |volume, tree| {
            let found = lookup(volume, Inode::ROOT, b"d").unwrap();
            assert_eq!((found.permissions, found.uid, found.links), (0o700, 0, 3));
            assert_eq!(lookup(volume, tree.directory, b"large").unwrap().inode, tree.large);
            assert_eq!(read(volume, tree.large), large_content());
        },
    );
}

/// Without its root a store can't even be opened otherwise.
#[test]
fn the_root_s_record_is_made_anew() {
    repairs(
        |saboteur, _| saboteur.put(Inode::ROOT, keys::inode(Inode::ROOT), b"no record"),
        &["inode 1 has no readable record"],
        |volume, tree| {
            assert_eq!(lookup(volume, Inode::ROOT, b"d").unwrap().inode, tree.directory);
            assert_eq!(lookup(volume, Inode::ROOT, b"small").unwrap().links, 2);
        },
    );
}

#[test]
fn a_file_whose_record_is_lost_is_made_from_its_chunks_or_goes() {
    repairs(
        |saboteur, tree| {
            saboteur.put(tree.large, keys::inode(tree.large), b"no record");
            saboteur.put(tree.small, keys::inode(tree.small), b"no record");
        },
        &["has no readable record"],
        |volume, tree| {
            assert_eq!(lookup(volume, tree.directory, b"large").unwrap().permissions, 0o600);
            assert_eq!(read(volume, tree.large), large_content());
            assert_eq!(lookup(volume, Inode::ROOT, b"small"), Err(Errno::ENOENT));
            assert_eq!(lookup(volume, Inode::ROOT, b"other"), Err(Errno::ENOENT));
        },
    );
}

#[test]
fn what_an_unreadable_name_led_to_is_in_lost_and_found() {
    repairs(
        |saboteur, tree| {
            let mut batch = Batch::new();
            batch.put(keys::entry(tree.directory, b"large"), b"no record");
            let part = saboteur.volume.part_of_entry(tree.directory, b"large").clone();
            let near = Near::Name(tree.directory, b"large");
            run(saboteur.volume, near, |_| async move { Ok(part.commit(batch).await?) }).unwrap();
        },
        &["has no readable record", "has no name"],
        |volume, tree| {
            in_lost_and_found(volume, tree.large);
            assert_eq!(lookup(volume, tree.directory, b"large"), Err(Errno::ENOENT));
        },
    );
}

/// Else a number would be given out twice.
#[test]
fn numbers_in_use_are_reserved() {
    repairs(
        |saboteur, tree| {
            let number = keys::new_inode(9_000_000, keys::slot_of_inode(tree.small), false);
            let record = InodeRecord { links: 1, size: 0, ..InodeRecord::unknown(Kind::File) };
            saboteur.put(number, keys::inode(number), &record.encode(b""));
            saboteur.name(Inode::ROOT, b"beyond", Some((number, Kind::File)));
        },
        &["beyond the reserved numbers"],
        |volume, _| {
            let beyond = lookup(volume, Inode::ROOT, b"beyond").unwrap().inode;
            let meta = volume.part_of_inode(beyond).clone();
            let bytes =
                run(volume, Near::Inode(beyond), |_| async move { Ok(meta.get(&keys::meta()).await?) });
            assert!(MetaRecord::decode(&bytes.unwrap().unwrap()).unwrap().counter_end > 9_000_000);
        },
    );
}
