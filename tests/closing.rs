//! A clean close leaves hints that hold, and a store that opens again, however often.
//!
//! What happened once: the last watermark was appended in a turn that had not been left when the close went on. The hint then told of one
//! frame less than there was, its number was given out a second time, and the opening after that refused a healthy store.

use bitkv::{Engine, EngineOptions};
use std::time::Duration;

#[test]
fn many_short_lives() {
    let directory = tempfile::tempdir().unwrap();
    let options = || EngineOptions {
        partitions: Some(2),
        segment_bytes: 1 << 20,
        lock_wait: Duration::from_secs(5),
        ..EngineOptions::default()
    };
    let mut last_number = 0;
    for life in 0..60u64 {
        let engine = Engine::open(directory.path(), options()).unwrap();
        let stats = engine.stats();
        assert!(stats.last_number >= last_number, "life {life}: numbers went back");
        assert_eq!(stats.torn_tail_bytes, 0, "life {life}: the close before left something torn");
        for key in 0..life {
            assert_eq!(
                engine.get(format!("key{key}").as_bytes()).unwrap().as_deref(),
                Some(&key.to_le_bytes()[..])
            );
        }
        engine.put(format!("key{life}").as_bytes(), &life.to_le_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(life % 4));
        engine.close().unwrap();
        last_number = engine.stats().last_number;
        for partition in 0..2 {
            let dir = directory.path().join(format!("partition_{partition:03}"));
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "hint") {
                    // Of the active segment: everything that it tells of is stable.
                    let bytes = std::fs::read(&path).unwrap();
                    let hint = bitkv::engine::format::hint::decode(&bytes).unwrap().hint;
                    assert!(hint.stable >= hint.last_number, "life {life}: {hint:?}");
                    assert_eq!(
                        hint.data_length,
                        std::fs::metadata(path.with_extension("data")).unwrap().len()
                    );
                }
            }
        }
    }
}
