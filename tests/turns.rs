//! What looks at much lets others have their turn, and holds little at a time.

use bitkv::engine::clock::RealClock;
use bitkv::engine::disk::uring::UringDisk;
use bitkv::engine::{Config, Durability, Policy, World};
use bitkv::fs::errno::Errno;
use bitkv::fs::types::*;
use bitkv::fs::volume::Near;
use bitkv::fs::{Volume, VolumeConfig};
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

const ROOT: Caller = Caller { uid: 0, gid: 0 };
const CHUNK_BYTES: usize = 4096;

/// With one partition, in which all take turns.
fn open(directory: &Path) -> Volume {
    let disk = UringDisk::open(directory, 1, false).unwrap();
    let world = World { disk, clock: RealClock::new(), seed: 1, policy: Policy::Inline };
    let config = Config { partitions: Some(1), durability: Durability::Explicit, ..Config::default() };
    let volume = VolumeConfig { chunk_bytes: CHUNK_BYTES as u32, ..VolumeConfig::default() };
    Volume::open(world, config, volume).unwrap()
}

fn run<T: Send + 'static, F: Future<Output = Answer<T>> + Send + 'static>(
    volume: &Volume,
    operation: impl FnOnce(Volume) -> F,
) -> Answer<T> {
    let (sender, receiver) = channel();
    let future = operation(volume.clone());
    volume.dispatch(Near::Inode(Inode::ROOT), async move { drop(sender.send(future.await)) });
    receiver.recv_timeout(Duration::from_secs(60)).expect("an operation never answered")
}

fn file(volume: &Volume) -> Inode {
    let new = NewInode { kind: Kind::File, permissions: 0o644, umask: 0, device: 0, target: Vec::new() };
    run(volume, |v| async move { v.make(ROOT, Inode::ROOT, b"file", new).await }).unwrap().inode
}

/// Starts a long operation and a short one behind it in the same turn: which of them is done first.
fn first_done<T: Send + 'static>(
    volume: &Volume,
    long: impl Future<Output = Answer<T>> + Send + 'static,
) -> (&'static str, Answer<T>) {
    let (sender, done) = channel();
    let (outer, answers) = (volume.clone(), channel());
    let (answer, answered) = answers;
    volume.dispatch(Near::Inode(Inode::ROOT), async move {
        let (early, late, inner) = (sender.clone(), sender, outer.clone());
        outer.dispatch(Near::Inode(Inode::ROOT), async move {
            let found = long.await;
            let _ = early.send("long");
            let _ = answer.send(found);
        });
        outer.dispatch(Near::Inode(Inode::ROOT), async move {
            let _ = inner.getattr(Inode::ROOT).await;
            let _ = late.send("short");
        });
    });
    let first = done.recv_timeout(Duration::from_secs(60)).unwrap();
    (first, answered.recv_timeout(Duration::from_secs(60)).unwrap())
}

#[test]
fn seeking_over_many_chunks_lets_others_have_their_turn() {
    let place = tempfile::tempdir().unwrap();
    let volume = open(place.path());
    let inode = file(&volume);
    let chunks = 20_000;
    for start in (0..chunks).step_by(250) {
        let data = vec![7; 250 * CHUNK_BYTES];
        let offset = (start * CHUNK_BYTES) as u64;
        run(&volume, |v| async move { v.write(ROOT, inode, offset, data, WriteEffects::default()).await })
            .unwrap();
    }
    let end = (chunks * CHUNK_BYTES) as u64;
    let far = 1 << 40;
    run(
        &volume,
        |v| async move { v.write(ROOT, inode, far, b"far".to_vec(), WriteEffects::default()).await },
    )
    .unwrap();
    let v = volume.clone();
    let hole = async move { v.seek(inode, 0, Seek::Hole).await };
    assert_eq!(first_done(&volume, hole), ("short", Ok(end)));
    let v = volume.clone();
    let allocated = async move { v.fallocate(ROOT, inode, 0, end, AllocateMode::Grow).await };
    assert_eq!(first_done(&volume, allocated), ("short", Ok(())));
    // Over a hole of a TiB there is nothing to look at.
    let v = volume.clone();
    let data = async move { v.seek(inode, end, Seek::Data).await };
    assert_eq!(first_done(&volume, data), ("long", Ok(far)));
    volume.close().unwrap();
}

#[test]
fn listing_many_attributes_lets_others_have_their_turn_and_always_fits() {
    let place = tempfile::tempdir().unwrap();
    let volume = open(place.path());
    let inode = file(&volume);
    let set = |number: usize| {
        let name = format!("user.{number:06}{}", "n".repeat(100)).into_bytes();
        run(&volume, |v| async move { v.setxattr(ROOT, inode, &name, b"value", XattrMode::Any, None).await })
    };
    let fits = (0..).find(|number| set(*number) == Err(Errno::ENOSPC)).unwrap();
    // Those that are there can still be changed, and go.
    assert_eq!(set(0), Ok(()));
    let v = volume.clone();
    let (first, names) = first_done(&volume, async move { v.listxattr(ROOT, inode).await });
    let names = names.unwrap();
    assert_eq!(first, "short");
    assert_eq!(names.split(|byte| *byte == 0).count() - 1, fits);
    assert!((60 << 10..=64 << 10).contains(&names.len()), "{}", names.len());
    let gone = names.split(|byte| *byte == 0).next().unwrap().to_vec();
    run(&volume, |v| async move { v.removexattr(ROOT, inode, &gone).await }).unwrap();
    assert_eq!(set(fits), Ok(()));
    volume.close().unwrap();
}
