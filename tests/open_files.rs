//! Thousands of segments and few descriptors, on a real disk.

use bitkv::engine::clock::RealClock;
use bitkv::engine::disk::uring::UringDisk;
use bitkv::engine::{Batch, Config, Durability, PartitionId, Policy, Store, World};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const SEGMENTS_MIN: u64 = 3_000;
const OPEN_FILES_MAX: usize = 64;
/// Being written to, made ahead or sealed; and directories that are being synced.
const OTHERS_MAX: usize = 16;
/// Four of them fill a segment.
const VALUE_BYTES: usize = 15_000;
const KEYS: usize = 13_000;

fn open(directory: &Path) -> Store<()> {
    let world = World {
        disk: UringDisk::open(directory, 1, false).unwrap(),
        clock: RealClock::new(),
        seed: 7,
        policy: Policy::Inline,
    };
    let config = Config {
        partitions: Some(1),
        segment_bytes: 64 * 1024,
        durability: Durability::Explicit,
        auto_compact: false,
        open_files_max: OPEN_FILES_MAX,
        ..Config::default()
    };
    Store::open(world, config, |_| Ok(())).unwrap()
}

fn wait<T: Send + 'static>(store: &Store<()>, operation: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    store.partition(PartitionId(0)).submit(async move { drop(sender.send(operation.await)) }).detach();
    receiver.recv().expect("an answer")
}

/// Descriptors that lead into the directory, and how many of them to files that were removed.
fn descriptors(directory: &Path) -> (usize, usize) {
    let links =
        fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let ours: Vec<_> = links.filter(|path| path.starts_with(directory)).collect();
    let removed = ours.iter().filter(|path| path.to_string_lossy().ends_with(" (deleted)")).count();
    (ours.len(), removed)
}

/// The most descriptors that were seen while something went on.
fn watched(directory: &Path, work: impl FnOnce()) -> usize {
    let (over, most) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(descriptors(directory).0, Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        work();
        over.store(true, Ordering::Relaxed);
    });
    most.into_inner()
}

fn wait_for_seals(store: &Store<()>) {
    let full = || store.segment_stats().iter().filter(|row| row.state.name() == "full").count();
    while full() > 4 {
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
}

fn value(key: usize) -> Vec<u8> {
    vec![key as u8; VALUE_BYTES]
}

fn read_all(store: &Store<()>) {
    // Far apart, so that hardly any two lie in one segment.
    for index in 0..KEYS {
        let key = index * 7919 % KEYS;
        let partition = store.partition(PartitionId(0)).clone();
        let got = wait(store, async move { partition.get(format!("key{key}").as_bytes()).await });
        assert_eq!(got.unwrap(), Some(value(key)), "key{key}");
    }
}

/// The same by threads that look things up without the partition's turn.
fn read_all_at_once(store: &Store<()>) {
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || {
                for index in 0..KEYS {
                    let key = (index + thread) * 7919 % KEYS;
                    let name = format!("key{key}");
                    // Somebody may just be in the turn.
                    let got = std::iter::repeat_with(|| {
                        store.partition(PartitionId(0)).try_get(name.as_bytes(), |()| true)
                    });
                    assert_eq!(got.take(1000).flatten().next(), Some(Some(value(key))), "{name}");
                }
            });
        }
    });
}

#[test]
fn thousands_of_segments_need_few_descriptors_and_removed_ones_none() {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    let directory = tempfile::tempdir_in(place).unwrap();
    let path = directory.path().canonicalize().unwrap();
    let store = open(&path);
    let write_all = |store: &Store<()>, remove: bool| {
        for key in 0..KEYS {
            let mut batch = Batch::new();
            match remove {
                true => batch.remove(format!("key{key}")),
                false => batch.put(format!("key{key}"), value(key)),
            };
            let partition = store.partition(PartitionId(0)).clone();
            wait(store, async move { partition.commit(batch).await }).unwrap();
            // Full segments stay open until they are sealed; memory is written to faster than that.
            if key % 8 == 0 {
                wait_for_seals(store);
            }
        }
    };
    let most = watched(&path, || {
        write_all(&store, false);
        read_all(&store);
    });
    let segments = store.stats().partitions[0].segments;
    assert!(segments > SEGMENTS_MIN, "{segments} segments");
    assert!(most > 0 && most <= OPEN_FILES_MAX + OTHERS_MAX, "{most} descriptors, written and read");
    store.close().unwrap();
    drop(store);

    let mut opened = None;
    let most = watched(&path, || {
        let store = open(&path);
        read_all(&store);
        read_all_at_once(&store);
        opened = Some(store);
    });
    assert!(most > 0 && most <= OPEN_FILES_MAX + OTHERS_MAX, "{most} descriptors, opened again");

    let store = opened.unwrap();
    let most = watched(&path, || {
        write_all(&store, true);
        let compacting = store.clone();
        wait(&store, async move { compacting.compact(None).await }).unwrap();
    });
    assert!(most <= OPEN_FILES_MAX + OTHERS_MAX, "{most} descriptors, compacted");
    let removed = store.stats().segments_removed;
    assert!(removed > SEGMENTS_MIN, "{removed} segments removed");
    assert_eq!(descriptors(&path).1, 0, "descriptors of removed files");
    store.close().unwrap();
}

#[test]
fn threads_that_read_have_descriptors_of_their_own_and_none_of_what_was_removed() {
    const SEGMENTS: usize = 8;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap();
    let options = bitkv::EngineOptions {
        partitions: Some(1),
        segment_bytes: 1024 * 1024,
        auto_compact: false,
        durability: Durability::Explicit,
        ..Config::default()
    };
    let engine = bitkv::Engine::open(&path, options).unwrap();
    let keys: Vec<Vec<u8>> = (0..SEGMENTS * 64).map(|key| format!("key{key}").into_bytes()).collect();
    for (key, name) in keys.iter().enumerate() {
        engine.put(name, &value(key)).unwrap();
    }
    let before = descriptors(&path).0;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (key, name) in keys.iter().enumerate() {
                    assert_eq!(engine.get(name).unwrap(), Some(value(key)));
                }
            });
        }
    });
    let segments = engine.stats().partitions[0].segments as usize;
    let lanes = std::thread::available_parallelism().map_or(1, usize::from).next_power_of_two().min(8);
    let opened = descriptors(&path).0 - before;
    // Besides, one may just be sealed or made.
    let opened_max = segments * lanes + OTHERS_MAX;
    assert!(segments >= SEGMENTS && opened > 0 && opened <= opened_max, "{opened} of {segments}");
    for name in &keys {
        engine.delete(name).unwrap();
    }
    engine.compact().unwrap();
    assert!(engine.stats().segments_removed as usize >= SEGMENTS - 1);
    assert_eq!(descriptors(&path).1, 0, "descriptors of removed files");
    engine.close().unwrap();
}
