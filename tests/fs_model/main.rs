//! Random histories on the filesystem and on a plain tree in memory: every answer, attribute, listing and content is the same; after
//! reopening too; and the checker finds nothing.

mod model;
mod steps;

use self::model::{Model, NAMES};
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
                        4 => {
                            let whiteout = RenameMode::Whiteout { replace: true };
                            let mode = random.one_of(&[RenameMode::Replace, RenameMode::Replace, whiteout]);
                            let _ = run(&volume, Near::Name(root, &near), |v| async move {
                                v.rename(ROOT_CALLER, root, &name, root, &other, mode).await
                            });
                        }
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
