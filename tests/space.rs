//! Space on the disk, as the filesystem below counts it: after everything was overwritten twice and compacted, a store takes little more than
//! the keys and values that live in it.

use bitkv::{Engine, EngineOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What all files below a directory take.
fn space_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    let sizes = entries.map(|entry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => space_bytes(&entry.path()),
        metadata => metadata.blocks() * 512,
    });
    sizes.sum()
}

/// Bytes that don't repeat.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..bytes.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(bytes).collect()
}

#[test]
fn what_is_overwritten_and_compacted_takes_a_tenth_more_than_what_lives() {
    for (value_bytes, keys) in [(100, 60_000u64), (1024, 10_000), (16 * 1024, 1_000)] {
        let directory = tempfile::tempdir().unwrap();
        // Several segments that have nothing dead in them are among what is compacted.
        let options =
            EngineOptions { partitions: Some(2), segment_bytes: 4 << 20, ..EngineOptions::default() };
        let engine = Engine::open(directory.path(), options).unwrap();
        for version in 0..3 {
            for n in 0..keys {
                engine.put(&noise(n, 16), &noise(n * 3 + version, value_bytes)).unwrap();
            }
        }
        engine.sync().unwrap();
        while engine.compact().unwrap() > 0 {}
        engine.close().unwrap();
        let live_bytes = keys * (16 + value_bytes as u64);
        let ratio = space_bytes(directory.path()) as f64 / live_bytes as f64;
        println!("values of {value_bytes} bytes: {ratio:.3} of what lives");
        assert!(ratio <= 1.1, "values of {value_bytes} bytes: {ratio}");
    }
}
