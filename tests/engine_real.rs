//! The engine over a real disk.

use bitkv::engine::clock::RealClock;
use bitkv::engine::disk::uring::UringDisk;
use bitkv::engine::{Batch, Config, Durability, PartitionId, Policy, Store, World};
use std::path::Path;
use std::time::Duration;

fn world(directory: &Path) -> World {
    World {
        disk: UringDisk::open(directory, 2, false).unwrap(),
        clock: RealClock::new(),
        seed: 7,
        policy: Policy::Inline,
    }
}

fn open(directory: &Path, config: Config) -> Store<()> {
    Store::open(world(directory), config, |_| Ok(())).unwrap()
}

fn config() -> Config {
    Config {
        partitions: Some(2),
        segment_bytes: 1 << 20,
        lock_wait: Duration::from_secs(5),
        ..Config::default()
    }
}

/// Waits on this thread.
fn wait<T: Send + 'static>(
    store: &Store<()>,
    id: u16,
    operation: impl Future<Output = T> + Send + 'static,
) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    store.partition(PartitionId(id)).submit(async move { drop(sender.send(operation.await)) }).detach();
    receiver.recv_timeout(Duration::from_secs(20)).expect("no answer")
}

#[test]
fn what_is_begun_at_once_and_has_to_wait_goes_on_later() {
    let scratch = tempfile::tempdir().unwrap();
    let store = open(scratch.path(), Config { create: true, ..config() });
    let (here, there) = (store.partition(PartitionId(0)).clone(), store.partition(PartitionId(1)).clone());
    let (answer, answered) = std::sync::mpsc::channel();
    // Somebody is in the neighbour's turn until he is told to go.
    let (go, told) = std::sync::mpsc::channel::<()>();
    let (inside, is_inside) = std::sync::mpsc::channel();
    let blocker = there.clone();
    let blocking = std::thread::spawn(move || {
        blocker.dispatch_made(move || async move {
            inside.send(()).unwrap();
            told.recv().unwrap();
        });
    });
    is_inside.recv().unwrap();
    for number in 0..3u8 {
        let (here, there, answer) = (here.clone(), there.clone(), answer.clone());
        here.clone().dispatch_made(move || async move {
            let mut batch = Batch::new();
            batch.put(vec![number], vec![number]);
            let inside = there.clone();
            there.call(async move { inside.commit(batch).await }).await.unwrap().unwrap();
            // Back in its own partition, in whose turn it began.
            here.with(|_, ()| ());
            answer.send(number).unwrap();
        });
        assert!(answered.try_recv().is_err(), "the neighbour is busy");
    }
    go.send(()).unwrap();
    let mut numbers: Vec<u8> =
        (0..3).map(|_| answered.recv_timeout(Duration::from_secs(20)).expect("no answer")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2]);
    blocking.join().unwrap();
    store.close().unwrap();
}

fn put(store: &Store<()>, id: u16, key: &str, value: Vec<u8>) {
    let partition = store.partition(PartitionId(id)).clone();
    let mut batch = Batch::new();
    batch.put(key, value);
    wait(store, id, async move { partition.commit(batch).await }).unwrap();
}

fn remove(store: &Store<()>, id: u16, key: &str) {
    let partition = store.partition(PartitionId(id)).clone();
    let mut batch = Batch::new();
    batch.remove(key);
    wait(store, id, async move { partition.commit(batch).await }).unwrap();
}

fn get(store: &Store<()>, id: u16, key: &str) -> Option<Vec<u8>> {
    let partition = store.partition(PartitionId(id)).clone();
    let key = key.as_bytes().to_vec();
    wait(store, id, async move { partition.get(&key).await }).unwrap()
}

#[test]
fn values_come_back_after_closing_and_after_a_drop() {
    let directory = tempfile::tempdir().unwrap();
    for clean in [true, false, true] {
        let store = open(directory.path(), config());
        for i in 0..3000 {
            put(&store, i % 2, &format!("key{i}"), vec![i as u8; 1000 + usize::from(i % 7)]);
        }
        if clean {
            store.close().unwrap();
        } else {
            // What a killed process leaves behind; the lock goes with the disk.
            wait(&store, 0, async {});
        }
        drop(store);
        std::thread::sleep(Duration::from_millis(50));
        let store = open(directory.path(), config());
        for i in 0..3000 {
            assert_eq!(
                get(&store, i % 2, &format!("key{i}")).unwrap(),
                vec![i as u8; 1000 + usize::from(i % 7)]
            );
        }
        assert_eq!(store.stats().keys, 3000);
        store.close().unwrap();
    }
}

#[test]
fn compaction_gives_space_back_and_no_deleted_key_returns() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), Config { auto_compact: false, ..config() });
    for i in 0..8000u16 {
        put(&store, i % 2, &format!("key{i}"), vec![i as u8; 1000]);
    }
    for i in (0..8000u16).step_by(4).chain((1..8000).step_by(4)) {
        remove(&store, i % 2, &format!("key{i}"));
    }
    let before = store.stats();
    let compacting = store.clone();
    wait(&store, 0, async move { compacting.compact(None).await }).unwrap();
    let after = store.stats();
    assert!(after.dead_bytes < before.dead_bytes / 10, "{before:?} {after:?}");
    store.close().unwrap();
    drop(store);
    let store = open(directory.path(), config());
    for i in 0..8000u16 {
        let expected = (i % 4 > 1).then(|| vec![i as u8; 1000]);
        assert_eq!(get(&store, i % 2, &format!("key{i}")), expected, "key{i}");
    }
    assert_eq!(store.stats().keys, 4000);
    store.close().unwrap();
}

#[test]
fn commits_over_several_partitions_and_syncs_from_many_threads() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), Config { durability: Durability::Explicit, ..config() });
    std::thread::scope(|scope| {
        for thread in 0..8u16 {
            let store = store.clone();
            scope.spawn(move || {
                for i in 0..100u16 {
                    let (mut a, mut b) = (Batch::new(), Batch::new());
                    a.put(format!("{thread}-{i}"), vec![1; 100]);
                    b.put(format!("{thread}-{i}"), vec![2; 100]);
                    let inside = store.clone();
                    wait(&store, thread % 2, async move {
                        inside.commit(vec![(PartitionId(0), a), (PartitionId(1), b)]).await?;
                        inside.sync().await
                    })
                    .unwrap();
                }
            });
        }
    });
    let stats = store.stats();
    assert_eq!((stats.keys, stats.stable), (1600, stats.last_number));
    assert!(stats.sync_rounds <= 800, "{stats:?}");
    store.close().unwrap();
}

#[test]
fn a_second_opening_is_refused_with_the_holder() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), config());
    let impatient = Config { lock_wait: Duration::ZERO, ..config() };
    let refused = Store::<()>::open(world(directory.path()), impatient, |_| Ok(())).err().unwrap();
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    store.close().unwrap();
    let other = Config { partitions: Some(3), ..config() };
    let refused = Store::<()>::open(world(directory.path()), other, |_| Ok(())).err().unwrap();
    assert!(refused.to_string().contains("2 partitions"), "{refused}");
}
