//! What has gone wrong in Bitcasks before ours, each as a test, on real files. Those of merges are in `simulator/tests/compaction_bugs.rs`
//! and `compaction_pace.rs`; a crash between rename and create at rotation is one of `a_crash_at_every_single_io`; two keys with one
//! hash are in `keydir/leaves.rs`; a kill -9 through the mount is `scripts/tests/kill.sh`.

use bitkv::{Batch, Engine, EngineOptions};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const KEYS: u32 = 400;

fn options() -> EngineOptions {
    EngineOptions {
        partitions: Some(1),
        segment_bytes: 128 << 10,
        auto_compact: false,
        lock_wait: Duration::from_secs(5),
        ..EngineOptions::default()
    }
}

fn open(directory: &Path) -> Engine {
    Engine::open(directory, options()).expect("the store opens")
}

fn key(n: u32) -> String {
    format!("key{n:05}")
}

fn value(n: u32) -> Vec<u8> {
    n.to_le_bytes().repeat(250)
}

/// A store with several segments; what a kill leaves, unless it was closed.
fn store(closed: bool) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    for n in 0..KEYS {
        engine.put(key(n).as_bytes(), &value(n)).unwrap();
    }
    if closed {
        engine.close().unwrap();
        return directory;
    }
    engine.sync().unwrap();
    let left = tempfile::tempdir().unwrap();
    copy(directory.path(), left.path());
    engine.close().unwrap();
    left
}

/// What a kill would leave of a store in use by nobody but its own threads: what they rename meanwhile (a hint, a segment made ahead) is
/// there or not.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else if let Err(error) = fs::copy(&path, to.join(name)) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}", path.display());
        }
    }
}

/// Files with an ending, in order of their numbers.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("partition_000")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    files
}

/// Opens the store and looks at every key: none has another value than its own. Returns how many have theirs.
fn right_values(directory: &Path) -> usize {
    let engine = open(directory);
    let seen = (0..KEYS).map(|n| engine.get(key(n).as_bytes()).map(|found| (n, found)));
    let right =
        seen.flatten().filter_map(|(n, found)| found.map(|found| assert_eq!(found, value(n)))).count();
    engine.close().unwrap();
    right
}

/// No crash of ours leaves one: a segment gets its name when it is durable, header and all. So it was something else, it may have held anything
/// (the output of a compaction, whose numbers nobody misses), and to go on as if it had held nothing could bring old values back.
#[test]
fn a_newest_segment_of_length_zero() {
    for closed in [true, false] {
        let directory = store(closed);
        let empty = directory.path().join("partition_000/0000000900.data");
        fs::write(&empty, "").unwrap();
        let refused =
            Engine::open(directory.path(), options()).err().expect("it may have held anything").to_string();
        assert!(
            refused.contains("partition_000/0000000900.data") && refused.contains("salvage"),
            "{refused}"
        );
        let salvaged = Engine::open(directory.path(), EngineOptions { salvage: true, ..options() }).unwrap();
        assert!((0..KEYS).all(|n| salvaged.get(key(n).as_bytes()) == Ok(Some(value(n)))));
        salvaged.close().unwrap();
        fs::remove_file(&empty).unwrap();
        assert_eq!(right_values(directory.path()), KEYS as usize, "nothing was changed by refusing");
        // Half-made ones have other names, and go by themselves.
        let half_made = directory.path().join("partition_000/0000000901.data.tmp");
        fs::write(&half_made, "").unwrap();
        assert_eq!(right_values(directory.path()), KEYS as usize);
        assert!(!half_made.exists());
    }
}

#[test]
fn a_hint_that_is_short_or_corrupt_or_of_another_segment() {
    let directory = store(true);
    let hints = files(directory.path(), ".hint");
    assert!(hints.len() > 2, "{hints:?}");
    let whole: Vec<Vec<u8>> = hints.iter().map(|path| fs::read(path).unwrap()).collect();
    let (first, second) = (&whole[0], &whole[1]);
    let mut damaged: Vec<Vec<u8>> =
        [0, 1, 16, first.len() / 2, first.len() - 1].map(|end| first[..end].to_vec()).into();
    damaged.push(second.clone());
    damaged.push([&first[..], b"and more"].concat());
    for at in (0..first.len()).step_by(first.len() / 23) {
        let mut flipped = first.clone();
        flipped[at] ^= 0x10;
        damaged.push(flipped);
    }
    for bytes in damaged {
        fs::write(&hints[0], &bytes).unwrap();
        assert_eq!(right_values(directory.path()), KEYS as usize, "a hint of {} bytes", bytes.len());
    }
    for hint in &hints {
        let _ = fs::remove_file(hint);
    }
    assert_eq!(right_values(directory.path()), KEYS as usize, "without any hint");
}

/// The hint is whole and of this segment, but its data has been cut: it must not be believed.
#[test]
fn a_hint_that_points_beyond_its_data() {
    let directory = store(true);
    let data = files(directory.path(), ".data");
    let length = fs::metadata(&data[0]).unwrap().len();
    fs::OpenOptions::new().write(true).open(&data[0]).unwrap().set_len(length / 2).unwrap();
    match Engine::open(directory.path(), options()) {
        Err(error) => assert!(error.to_string().contains("damaged"), "{error}"),
        Ok(engine) => {
            engine.close().unwrap();
            assert!(right_values(directory.path()) < KEYS as usize);
        }
    }
    let salvaged = EngineOptions { salvage: true, ..options() };
    let engine = Engine::open(directory.path(), salvaged).unwrap();
    let right = (0..KEYS).filter(|n| engine.get(key(*n).as_bytes()) == Ok(Some(value(*n)))).count();
    assert!(right > KEYS as usize / 2 && right < KEYS as usize, "{right} of {KEYS}");
    engine.close().unwrap();
}

#[test]
fn no_record_is_loaded_without_its_checksum() {
    for with_hints in [true, false] {
        let directory = store(true);
        let data = files(directory.path(), ".data");
        let mut bytes = fs::read(&data[1]).unwrap();
        let wanted = value(150);
        let at = bytes.windows(wanted.len()).position(|window| window == wanted).expect("it lies there");
        bytes[at + 500] ^= 1;
        fs::write(&data[1], &bytes).unwrap();
        if !with_hints {
            files(directory.path(), ".hint").iter().for_each(|hint| fs::remove_file(hint).unwrap());
        }
        assert_eq!(right_values(directory.path()), KEYS as usize - 1);
        let engine = open(directory.path());
        assert!(engine.get(key(150).as_bytes()).is_err(), "an error, and not another value or none");
        engine.close().unwrap();
    }
}

#[test]
fn a_lock_that_is_stale_or_empty_or_nonsense() {
    let directory = store(true);
    for text in ["", "999999999\n", "1\n", "not a number", "\0\0\0\0"] {
        fs::write(directory.path().join("LOCK"), text).unwrap();
        assert_eq!(right_values(directory.path()), KEYS as usize, "{text:?}");
    }
    fs::remove_file(directory.path().join("LOCK")).unwrap();
    assert_eq!(right_values(directory.path()), KEYS as usize);
}

#[test]
fn a_copy_that_somebody_has_left_is_no_segment() {
    let directory = store(true);
    let old = files(directory.path(), ".data")[0].clone();
    let engine = open(directory.path());
    (0..KEYS).for_each(|n| engine.put(key(n).as_bytes(), b"newer").unwrap());
    engine.close().unwrap();
    let name = old.file_name().unwrap().to_string_lossy().into_owned();
    for name in [format!("{name}.bak"), format!("{name}~"), format!("copy-{name}"), "1.data".to_string()] {
        fs::copy(&old, old.with_file_name(name)).unwrap();
    }
    for _ in 0..2 {
        let engine = open(directory.path());
        for n in 0..KEYS {
            assert_eq!(engine.get(key(n).as_bytes()), Ok(Some(b"newer".to_vec())));
        }
        engine.compact().unwrap();
        engine.close().unwrap();
    }
    assert!(old.with_file_name(format!("{name}.bak")).exists(), "what isn't ours is left alone");
}

/// Cut at every length of the last record, or overwritten from there on with what disks leave: only that one is gone.
#[test]
fn a_torn_tail() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    (0..20).for_each(|n| engine.put(key(n).as_bytes(), &value(n)).unwrap());
    engine.sync().unwrap();
    engine.put(b"last", b"the tail").unwrap();
    let left = tempfile::tempdir().unwrap();
    copy(directory.path(), left.path());
    engine.close().unwrap();
    let tail = files(left.path(), ".data")
        .into_iter()
        .find(|path| fs::read(path).unwrap().windows(8).any(|window| window == b"the tail"));
    let tail = tail.expect("it was handed to the kernel");
    let name = tail.strip_prefix(left.path()).unwrap();
    let bytes = fs::read(&tail).unwrap();
    let end = bytes.windows(8).position(|window| window == b"the tail").unwrap() + 8;
    for cut in end - 60..end {
        for filling in [None, Some(0), Some(0xff)] {
            let torn = tempfile::tempdir().unwrap();
            copy(left.path(), torn.path());
            let mut bytes = bytes.clone();
            match filling {
                None => bytes.truncate(cut),
                Some(byte) => bytes[cut..end + 512].fill(byte),
            }
            fs::write(torn.path().join(name), &bytes).unwrap();
            let engine = open(torn.path());
            (0..20).for_each(|n| assert_eq!(engine.get(key(n).as_bytes()), Ok(Some(value(n)))));
            let last = engine.get(b"last").unwrap();
            assert!(last.is_none() || last.as_deref() == Some(b"the tail"), "{last:?}");
            engine.put(b"next", b"life").unwrap();
            engine.close().unwrap();
            assert_eq!(open(torn.path()).get(b"next"), Ok(Some(b"life".to_vec())));
        }
    }
}

/// Which of two records is the newer is not a matter of time.
#[test]
fn many_records_in_one_tick_of_the_clock() {
    let directory = tempfile::tempdir().unwrap();
    for life in 0..3u32 {
        let engine = open(directory.path());
        for n in 0..2000u32 {
            engine.put(b"key", &(life * 10_000 + n).to_le_bytes()).unwrap();
        }
        if life == 1 {
            engine.delete(b"key").unwrap();
        }
        engine.close().unwrap();
        let engine = open(directory.path());
        let expected = (life != 1).then(|| (life * 10_000 + 1999).to_le_bytes().to_vec());
        assert_eq!(engine.get(b"key"), Ok(expected));
        engine.close().unwrap();
    }
}

/// Whatever stands where a size should be: no opening takes memory for it, and no value is wrong.
#[test]
fn sizes_that_would_take_gigabytes() {
    let directory = store(true);
    files(directory.path(), ".hint").iter().for_each(|hint| fs::remove_file(hint).unwrap());
    let data = files(directory.path(), ".data")[0].clone();
    let whole = fs::read(&data).unwrap();
    for at in (0..400).step_by(4) {
        let mut bytes = whole.clone();
        bytes[at..at + 4].fill(0x7f);
        fs::write(&data, &bytes).unwrap();
        match Engine::open(directory.path(), EngineOptions { salvage: true, ..options() }) {
            Ok(engine) => {
                for n in 0..KEYS {
                    let found = engine.get(key(n).as_bytes());
                    assert!(matches!(&found, Ok(None) | Err(_)) || found == Ok(Some(value(n))), "at {at}");
                }
                engine.close().unwrap();
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    let peak_kilobytes: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
    assert!(peak_kilobytes < 1 << 20, "{peak_kilobytes} KiB at the peak");
}

/// Whoever is in the middle of something gets an answer, a true one, and so does whoever comes later.
#[test]
fn operations_during_and_after_closing() {
    let directory = tempfile::tempdir().unwrap();
    let open = |directory: &Path| {
        Engine::open(directory, EngineOptions { partitions: Some(3), ..options() }).expect("the store opens")
    };
    for life in 0..10u64 {
        let engine = open(directory.path());
        let acknowledged: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for (thread, last) in acknowledged.iter().enumerate() {
                let engine = engine.clone();
                scope.spawn(move || {
                    let key = format!("life{life} thread{thread}");
                    for n in 1u64.. {
                        // Threads with odd numbers change several partitions at once.
                        let mut batch = Batch::new();
                        batch.put(key.as_str(), n.to_le_bytes());
                        for more in 0..thread % 2 * 3 {
                            batch.put(format!("{key} {more}"), n.to_le_bytes());
                        }
                        if engine.commit(batch).is_err() {
                            break;
                        }
                        last.store(n, Ordering::SeqCst);
                        let _ = engine.get(key.as_bytes()).map(|found| assert!(found.is_some()));
                    }
                    assert!(engine.put(key.as_bytes(), b"late").is_err());
                    let _ = (engine.sync(), engine.get(key.as_bytes()), engine.list(b""));
                    let _ = (engine.compact(), engine.stats());
                });
            }
            std::thread::sleep(Duration::from_millis(20));
            engine.close().unwrap();
        });
        assert_eq!(engine.sync(), Ok(()), "there is nothing left to sync");
        drop(engine);
        let engine = open(directory.path());
        let number = |key: String| {
            let found = engine.get(key.as_bytes()).unwrap();
            found.map_or(0, |found| u64::from_le_bytes(found.try_into().unwrap()))
        };
        for (thread, last) in acknowledged.iter().enumerate() {
            let (found, last) = (number(format!("life{life} thread{thread}")), last.load(Ordering::SeqCst));
            assert!(found == last || found == last + 1, "{found} where {last} was acknowledged");
            for more in 0..thread % 2 * 3 {
                assert_eq!(number(format!("life{life} thread{thread} {more}")), found, "half of a batch");
            }
        }
        engine.close().unwrap();
    }
}

#[test]
fn statistics_while_everything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(
        directory.path(),
        EngineOptions { partitions: Some(2), auto_compact: true, ..options() },
    );
    let engine = engine.unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3u32 {
            let (engine, stop) = (&engine, &stop);
            scope.spawn(move || {
                for n in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    let key = format!("{thread} {}", n % 300);
                    match n % 7 {
                        0 => engine.delete(key.as_bytes()).unwrap(),
                        1 if n % 500 == 1 => engine.sync().unwrap(),
                        2 if n % 900 == 2 => drop(engine.compact().unwrap()),
                        _ => engine.put(key.as_bytes(), &value(n)).unwrap(),
                    }
                }
            });
        }
        let mut puts = 0;
        for _ in 0..2000 {
            let stats = engine.stats();
            assert!(stats.puts >= puts && stats.keys <= 900, "{stats:?}");
            assert!(stats.live_bytes <= 2 * 900 * 1100 && stats.keydir_bytes < 10 << 20, "{stats:?}");
            puts = stats.puts;
        }
        stop.store(true, Ordering::Relaxed);
    });
    let model: BTreeMap<Vec<u8>, Vec<u8>> = engine
        .list(b"")
        .unwrap()
        .into_iter()
        .map(|key| (key.clone(), engine.get(&key).unwrap().unwrap()))
        .collect();
    assert_eq!(engine.stats().keys, model.len() as u64);
    engine.close().unwrap();
}
