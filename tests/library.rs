//! The library's promises, without any filesystem.

use bitkv::engine::{OpenError, ReadError, WriteError};
use bitkv::{Batch, ChangeView, Engine, EngineOptions};
use std::collections::BTreeMap;
use std::time::Duration;

fn options() -> EngineOptions {
    EngineOptions {
        partitions: Some(2),
        segment_bytes: 1 << 20,
        lock_wait: Duration::from_secs(5),
        ..EngineOptions::default()
    }
}

#[test]
fn keys_and_values_of_all_sizes() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path(), options()).unwrap();
    assert_eq!(engine.put(b"", b"x"), Err(WriteError::Size("a key has at least one byte")));
    assert!(matches!(engine.put(&[1; 65_537], b"x"), Err(WriteError::Size(_))));
    assert!(matches!(engine.put(b"k", &vec![0; 2 << 20]), Err(WriteError::Size(_))), "larger than a segment");
    engine.put(b"empty", b"").unwrap();
    assert_eq!(engine.get(b"empty"), Ok(Some(Vec::new())), "an empty value is a value");
    for length in [1, 22, 23, 1000, 65_536] {
        engine.put(&vec![7; length], &vec![9; length]).unwrap();
        assert_eq!(engine.get(&vec![7; length]), Ok(Some(vec![9; length])));
    }
    engine.delete(b"never there").unwrap();
    let (good, bad) = (ChangeView::put(b"with another", b"x"), ChangeView::remove(b""));
    assert!(matches!(engine.commit_all(&[good, bad]), Err(WriteError::Size(_))));
    assert_eq!(engine.get(b"with another"), Ok(None), "all or nothing");
    engine.commit_all(&[good, ChangeView::remove(b"empty")]).unwrap();
    assert_eq!(engine.get(b"with another"), Ok(Some(b"x".to_vec())));
    assert_eq!(engine.get(b"empty"), Ok(None));
    engine.commit_all(&[]).unwrap();
    assert_eq!(engine.get(b"never there"), Ok(None));
    engine.close().unwrap();
    assert!(matches!(engine.put(b"k", b"v"), Err(WriteError::ReadOnly(_) | WriteError::Gone)));
}

#[test]
fn batches_over_partitions_are_whole_to_everybody() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path(), options()).unwrap();
    let keys: Vec<String> = (0..6).map(|i| format!("account{i}")).collect();
    let all = |value: u64| {
        let mut batch = Batch::new();
        for key in &keys {
            batch.put(key.as_str(), value.to_string());
        }
        batch
    };
    engine.commit(all(0)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (engine, all) = (&engine, &all);
            scope.spawn(move || {
                for i in 0..200 {
                    engine.commit(all(thread * 1000 + i)).unwrap();
                    if i % 20 == 0 {
                        engine.sync().unwrap();
                    }
                }
            });
        }
        scope.spawn(|| {
            let number = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap()).unwrap();
            let mut one_by_one = Batch::new();
            for step in 0..500u64 {
                one_by_one.put("first", step.to_string()).put("second", step.to_string());
                one_by_one.put("third", step.to_string());
                let batch = std::mem::take(&mut one_by_one);
                match step % 2 {
                    0 => engine.commit(batch).unwrap(),
                    _ => {
                        let views = batch.changes().iter().map(|change| change.view());
                        engine.commit_all(&views.collect::<Vec<_>>()).unwrap();
                    }
                }
                let seen =
                    ["third", "second", "first"].map(|key| number(engine.get(key.as_bytes()).unwrap()));
                assert_eq!(seen, [step.to_string(), step.to_string(), step.to_string()]);
            }
        });
    });
    let values: Vec<_> = keys.iter().map(|key| engine.get(key.as_bytes()).unwrap().unwrap()).collect();
    assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "the last batch is there whole: {values:?}");
    engine.close().unwrap();
    let engine = Engine::open(directory.path(), options()).unwrap();
    let again: Vec<_> = keys.iter().map(|key| engine.get(key.as_bytes()).unwrap().unwrap()).collect();
    assert_eq!(again, values);
    engine.close().unwrap();
}

#[test]
fn compare_and_set_lets_one_of_many_through() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path(), options()).unwrap();
    engine.put(b"counter", b"0").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut done = 0;
                while done < 250 {
                    let now = engine.get(b"counter").unwrap().unwrap();
                    let next =
                        (String::from_utf8(now.clone()).unwrap().parse::<u64>().unwrap() + 1).to_string();
                    done += u64::from(
                        engine.compare_and_set(b"counter", Some(&now), Some(next.as_bytes())).unwrap(),
                    );
                }
            });
        }
    });
    assert_eq!(engine.get(b"counter").unwrap().unwrap(), b"1000");
    assert_eq!(engine.compare_and_set(b"absent", None, Some(b"x")), Ok(true));
    assert_eq!(engine.compare_and_set(b"absent", None, Some(b"y")), Ok(false));
    engine.close().unwrap();
}

#[test]
fn a_random_history_agrees_with_a_map_through_reopenings_and_compactions() {
    let directory = tempfile::tempdir().unwrap();
    let mut map: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    for round in 0..6 {
        let engine = Engine::open(directory.path(), options()).unwrap();
        let listed: Vec<_> = map.keys().cloned().collect();
        assert_eq!(engine.list(b"").unwrap(), listed, "round {round}");
        for (key, value) in &map {
            assert_eq!(engine.get(key).unwrap().as_ref(), Some(value));
        }
        for _ in 0..3000 {
            let key = format!("key{}", random(400)).into_bytes();
            match random(10) {
                0..=5 => {
                    let value = vec![random(256) as u8; random(3000) as usize];
                    engine.put(&key, &value).unwrap();
                    map.insert(key, value);
                }
                6..=7 => {
                    engine.delete(&key).unwrap();
                    map.remove(&key);
                }
                8 => assert_eq!(engine.get(&key).unwrap(), map.get(&key).cloned()),
                _ => assert_eq!(engine.contains(&key).unwrap(), map.contains_key(&key)),
            }
        }
        engine.compact().unwrap();
        let prefix = format!("key{}", random(40)).into_bytes();
        let expected: Vec<_> = map.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
        assert_eq!(engine.list(&prefix).unwrap(), expected);
        let stats = engine.stats();
        assert_eq!(stats.keys, map.len() as u64);
        let live: u64 = map.iter().map(|(key, value)| (20 + key.len() + value.len()) as u64).sum();
        assert!(stats.live_bytes >= live && stats.live_bytes < live + 100_000, "{live} {stats:?}");
        engine.close().unwrap();
    }
}

#[test]
fn a_store_that_is_not_ours_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("letter.txt"), "dear diary").unwrap();
    let refused = Engine::open(directory.path(), options()).err().unwrap();
    assert!(
        matches!(refused, OpenError::Foreign(_)) && refused.to_string().contains("letter.txt"),
        "{refused}"
    );
    assert_eq!(std::fs::read_to_string(directory.path().join("letter.txt")).unwrap(), "dear diary");
}

#[test]
fn a_flipped_byte_is_an_error_and_costs_one_value() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path(), EngineOptions { partitions: Some(1), ..options() }).unwrap();
    for i in 0..20 {
        engine.put(format!("key{i}").as_bytes(), format!("value-{i}-MARK").as_bytes()).unwrap();
    }
    engine.close().unwrap();
    let segment = directory.path().join("partition_000/0000000001.data");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(12).position(|window| window == b"value-7-MARK").unwrap();
    bytes[at + 3] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let engine = Engine::open(directory.path(), options_for(1)).unwrap();
    assert!(matches!(engine.get(b"key7"), Err(ReadError::Damaged { .. })));
    assert_eq!(engine.get(b"key8").unwrap().unwrap(), b"value-8-MARK");
    assert_eq!(engine.stats().crc_errors, 1);
    engine.close().unwrap();
}

fn options_for(partitions: u16) -> EngineOptions {
    EngineOptions { partitions: Some(partitions), ..options() }
}

/// A bit that turns over on the disk: the scrub finds it before anybody reads it, and names the key.
#[test]
fn a_scrub_names_what_is_damaged() {
    use bitkv::engine::scrub::ScrubPhase;
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path(), options()).unwrap();
    for n in 0..3000u32 {
        engine.put(format!("key{n}").as_bytes(), &[n as u8; 1000]).unwrap();
    }
    engine.sync().unwrap();
    let stats = engine.scrub(0).unwrap().unwrap();
    assert_eq!((stats.phase, stats.found_damage(), stats.records), (ScrubPhase::Done, false, 3000));
    assert!(stats.bytes_done > 3_000_000, "{stats:?}");
    let path = directory.path().join("partition_000/0000000001.data");
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 5000).unwrap();
    file.write_all_at(&[byte[0] ^ 4], 5000).unwrap();
    let stats = engine.scrub(0).unwrap().unwrap();
    assert_eq!((stats.damaged_values, stats.damaged_places, stats.records), (1, 0, 3000), "{stats:?}");
    let errors = engine.integrity_errors();
    assert_eq!(errors.len(), 1);
    assert!(matches!(engine.get(&errors[0].key), Err(ReadError::Damaged { .. })), "{errors:?}");
    engine.close().unwrap();
    assert!(matches!(engine.scrub(0), Ok(Some(_)) | Err(_)), "after the end it doesn't hang");
}

#[test]
fn a_read_only_store_can_be_scrubbed_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path(), options()).unwrap();
    for n in 0..100u32 {
        engine.put(format!("key{n}").as_bytes(), &[n as u8; 100]).unwrap();
    }
    engine.close().unwrap();
    let engine = Engine::open(directory.path(), EngineOptions { read_only: true, ..options() }).unwrap();
    let stats = engine.scrub(0).unwrap().unwrap();
    assert_eq!((stats.found_damage(), stats.records), (false, 100), "{stats:?}");
    engine.close().unwrap();
    assert!(!directory.path().join("SCRUB").exists());
}

/// Nobody waits for a slow scrub at the end.
#[test]
fn a_scrub_keeps_to_its_rate_and_stops_when_the_store_closes() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path(), options()).unwrap();
    for n in 0..1000u32 {
        engine.put(format!("key{n}").as_bytes(), &[n as u8; 2000]).unwrap();
    }
    let started = std::time::Instant::now();
    assert!(engine.scrub(4 << 20).unwrap().unwrap().bytes_done > 2_000_000);
    assert!(started.elapsed() > Duration::from_millis(250), "2 MB at 4 MiB/s in {:?}", started.elapsed());
    let scrubbing = std::thread::spawn({
        let engine = engine.clone();
        move || engine.scrub(1024)
    });
    while engine.scrub_stats().ended_seconds != 0 {
        std::thread::yield_now();
    }
    engine.close().unwrap();
    drop(scrubbing.join().unwrap());
    assert!(started.elapsed() < Duration::from_secs(30));
}

/// Every reason for which a store is refused says what is wrong; and nothing is changed by it.
#[test]
fn a_refusal_says_why() {
    use bitkv::engine::format::Manifest;
    use std::fs;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("store");
    let engine = Engine::open(&data, options()).unwrap();
    engine.put(b"key", b"value").unwrap();
    let refused = |options: EngineOptions| Engine::open(&data, options).err().unwrap().to_string();
    let impatient = EngineOptions { lock_wait: Duration::ZERO, ..options() };
    let locked = format!("the store is in use by process {}", std::process::id());
    assert_eq!(refused(impatient), locked);
    engine.close().unwrap();
    assert_eq!(
        refused(EngineOptions { partitions: Some(7), ..options() }),
        "the store was made with 2 partitions, not 7: open it without naming a count, or change it with bitkv reshard DATA --partitions 7"
    );
    assert_eq!(
        refused(EngineOptions { segment_bytes: 1, ..options() }),
        "a segment has 65536 to 2147483648 bytes, not 1"
    );

    let path = data.join("MANIFEST");
    let whole = fs::read(&path).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    fs::write(&path, text.replace("bitkv-manifest 1", "bitkv-manifest 2")).unwrap();
    assert_eq!(refused(options()), "the store needs a newer version: MANIFEST has format version 2");
    let mut manifest = Manifest::decode(&whole).unwrap();
    manifest.features.push("telepathy".to_string());
    fs::write(&path, manifest.encode()).unwrap();
    assert_eq!(refused(options()), "the store needs a newer version: it uses the feature telepathy");
    fs::write(&path, text.replace("partitions 2", "partitions 1")).unwrap();
    assert!(refused(options()).starts_with("the store is damaged: MANIFEST: the checksum of the"));
    fs::remove_file(&path).unwrap();
    let foreign = refused(options());
    assert!(
        foreign.starts_with("not a store of ours: there is no MANIFEST, and the directory isn't empty ("),
        "{foreign}"
    );
    fs::write(&path, &whole).unwrap();

    let other = directory.path().join("other");
    let engine = Engine::open(&other, options()).unwrap();
    for n in 0..20 {
        engine.put(format!("key{n}").as_bytes(), b"other").unwrap();
    }
    engine.close().unwrap();
    let segment = "partition_000/0000000099.data";
    let source = fs::read_dir(other.join("partition_000")).unwrap().map(|entry| entry.unwrap().path());
    let source = source.into_iter().find(|path| path.extension().is_some_and(|e| e == "data")).unwrap();
    let mut bytes = fs::read(source).unwrap();
    fs::write(data.join(segment), &bytes).unwrap();
    assert_eq!(
        refused(options()),
        format!("not a store of ours: {segment} belongs to another store or place")
    );
    bytes[12] = 9;
    fs::write(data.join(segment), &bytes).unwrap();
    assert_eq!(
        refused(options()),
        format!("the store needs a newer version: {segment} has format version 9")
    );
    fs::remove_file(data.join(segment)).unwrap();

    let engine = Engine::open(&data, options()).unwrap();
    assert_eq!(engine.get(b"key"), Ok(Some(b"value".to_vec())));
    engine.close().unwrap();
}

/// What is listed over several partitions is one moment: no effect without its cause, no half of a batch.
#[test]
fn a_listing_is_one_moment() {
    let directory = tempfile::tempdir().unwrap();
    let options = EngineOptions { partitions: Some(4), ..EngineOptions::default() };
    let engine = Engine::open(directory.path(), options).unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    let is_over = || over.load(std::sync::atomic::Ordering::Relaxed);
    // Not more than so many for each listing: each would take longer than the one before, and more would be written meanwhile.
    let listings = std::sync::atomic::AtomicU64::new(0);
    let wait = |n: u64| {
        while n > 100 * (1 + listings.load(std::sync::atomic::Ordering::Relaxed)) && !is_over() {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..).take_while(|_| !is_over()) {
                wait(n);
                engine.put(format!("cause {n:06}").as_bytes(), b"").unwrap();
                engine.put(format!("effect {n:06}").as_bytes(), b"").unwrap();
            }
        });
        scope.spawn(|| {
            for n in (0..).take_while(|_| !is_over()) {
                wait(n);
                let mut batch = Batch::new();
                for part in 0..3 {
                    batch.put(format!("batch {part} {n:06}"), "");
                }
                engine.commit(batch).unwrap();
            }
        });
        scope.spawn(|| {
            let mut value = 0u64;
            while !is_over() {
                let (old, new) = (value.to_le_bytes(), (value + 1).to_le_bytes());
                let expected = (value > 0).then_some(&old[..]);
                assert!(engine.compare_and_set(b"counter", expected, Some(&new)).unwrap());
                value += 1;
            }
        });
        // At least so many, and until enough came and went beside them.
        let mut written = false;
        while listings.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 200 || !written {
            let count = |prefix: &str, listed: &[Vec<u8>]| {
                listed.iter().filter(|key| key.starts_with(prefix.as_bytes())).count()
            };
            let listed = engine.list(b"").unwrap();
            let (causes, effects) = (count("cause", &listed), count("effect", &listed));
            assert!(causes == effects || causes == effects + 1, "{causes} causes, {effects} effects");
            let parts: Vec<_> = (0..3).map(|part| count(&format!("batch {part}"), &listed)).collect();
            assert!(parts[0] == parts[1] && parts[1] == parts[2], "{parts:?} of the batches");
            written = effects > 100 && parts[0] > 20;
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    engine.close().unwrap();
}

/// Who has seen one change of a batch sees the others, in whatever partition they are.
#[test]
fn nobody_sees_a_batch_by_halves() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path(), options()).unwrap();
    let keys: Vec<String> = (0..6).map(|i| format!("account{i}")).collect();
    let number = |key: &String| -> u64 {
        String::from_utf8(engine.get(key.as_bytes()).unwrap().unwrap()).unwrap().parse().unwrap()
    };
    let commit = |step: u64, as_views: bool| {
        let value = step.to_string();
        if as_views {
            let views = keys.iter().map(|key| ChangeView::put(key.as_bytes(), value.as_bytes()));
            return engine.commit_all(&views.collect::<Vec<_>>()).unwrap();
        }
        let mut batch = Batch::new();
        for key in &keys {
            batch.put(key.as_str(), value.as_str());
        }
        engine.commit(batch).unwrap();
    };
    const STEPS: u64 = 300_000;
    commit(0, true);
    std::thread::scope(|scope| {
        scope.spawn(|| (1..=STEPS).for_each(|step| commit(step, step % 8 != 0)));
        for thread in 0..2 {
            let (keys, number) = (&keys, &number);
            scope.spawn(move || {
                let mut last = 0;
                while last < STEPS {
                    for key in keys.iter().cycle().skip(thread).take(keys.len()) {
                        let seen = number(key);
                        assert!(seen >= last, "{key} is at {seen}, and another was at {last} before");
                        last = seen;
                    }
                }
            });
        }
    });
    engine.close().unwrap();
}
