//! What is measured, one function a group of works. Each group runs in a process of its own, on a store of its own; results are
//! lines of `name TAB number`.

use crate::engines::{Engine, Key, open};
use crate::machine::{
    Baseline, anonymous_bytes, disk_read_bytes, drop_caches, processor_seconds, space_bytes,
};
use std::path::Path;
use std::time::Instant;

/// Keys of the stores that are reopened, whatever the scale of the rest.
const REOPENED_KEYS: u64 = 1_000_000;
const BATCH: usize = 100;
const POOL_BYTES: usize = 256 * 1024;

pub struct Run<'a> {
    pub engine: &'a str,
    pub directory: &'a Path,
    pub value_bytes: usize,
    /// Multiplies the counts of keys and operations.
    pub scale: f64,
}

fn mix(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Keys in no order.
fn key(index: u64) -> Key {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(index).to_be_bytes());
    key[8..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Bytes that don't compress; values are cut out of them.
struct Pool(Vec<u8>);

impl Pool {
    fn new() -> Self {
        Pool((0..POOL_BYTES as u64 / 8).flat_map(|word| mix(!word).to_le_bytes()).collect())
    }
    fn value(&self, index: u64, version: u64, bytes: usize) -> &[u8] {
        let start = mix(index ^ version << 40) as usize % (POOL_BYTES - bytes);
        &self.0[start..start + bytes]
    }
}

/// Runs `work` on every index below `count`, dealt to so many threads; returns operations a second.
fn rate(threads: u64, count: u64, work: impl Fn(u64) + Sync) -> f64 {
    let start = Instant::now();
    if threads == 1 {
        (0..count).for_each(work);
        return count as f64 / start.elapsed().as_secs_f64();
    }
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || (thread..count).step_by(threads as usize).for_each(work));
        }
    });
    count as f64 / start.elapsed().as_secs_f64()
}

fn tell(name: &str, number: f64) {
    println!("{name}\t{number}");
}

impl Run<'_> {
    fn keys(&self) -> u64 {
        let keys = match self.value_bytes {
            0..512 => 300_000.0,
            512..4096 => 150_000.0,
            _ => 15_000.0,
        };
        (keys * self.scale) as u64
    }

    fn open(&self) -> Box<dyn Engine> {
        open(self.engine, self.directory, false)
    }

    /// Deals the keys out anew: the n-th of them in another order.
    fn shuffled(index: u64, keys: u64) -> u64 {
        mix(index.wrapping_mul(31)) % keys
    }

    fn get(&self, engine: &dyn Engine, pool: &Pool, index: u64, version: u64) {
        let found = engine.get(&key(index), &mut |value| {
            let expected = pool.value(index, version, self.value_bytes);
            assert!(value.len() == expected.len() && value[..8] == expected[..8], "a wrong value");
        });
        if !found {
            eprintln!("{} has lost a key", self.engine);
            std::process::exit(1);
        }
    }

    pub fn hot(&self, threads: u64) {
        let (pool, keys, size) = (Pool::new(), self.keys(), self.value_bytes);
        let engine = self.open();
        // Processor time too: on a machine with others at work it says more than the rate.
        let cpu = std::cell::Cell::new(processor_seconds());
        let say = |work: &str, count: u64, rate: f64| {
            tell(&format!("{work}, {threads} thread(s)"), rate);
            let before = cpu.replace(processor_seconds());
            let us = (cpu.get() - before) / count as f64 * 1e6;
            tell(&format!("{work}, {threads} thread(s): processor us"), us);
        };
        say("fill", keys, rate(threads, keys, |i| engine.put(&key(i), pool.value(i, 0, size))));
        say(
            "overwrite",
            keys,
            rate(threads, keys, |i| {
                let i = Self::shuffled(i, keys);
                engine.put(&key(i), pool.value(i, 0, size));
            }),
        );
        say(
            "hot get",
            keys * 2,
            rate(threads, keys * 2, |i| self.get(&*engine, &pool, Self::shuffled(i, keys), 0)),
        );
        let batches = keys / BATCH as u64;
        say(
            "batches of 100",
            batches * BATCH as u64,
            BATCH as f64
                * rate(threads, batches, |batch| {
                    let first = keys + batch * BATCH as u64;
                    let pairs: Vec<_> =
                        (first..first + BATCH as u64).map(|i| (key(i), pool.value(i, 0, size))).collect();
                    engine.batch(&pairs);
                }),
        );
        say("delete", keys, rate(threads, keys, |i| engine.delete(&key(i))));
        engine.close();
    }

    pub fn cold(&self) {
        let (pool, size) = (Pool::new(), self.value_bytes);
        let keys = self.keys() * 2;
        let engine = self.open();
        rate(1, keys, |i| engine.put(&key(i), pool.value(i, 0, size)));
        engine.close();
        for (threads, gets) in [(1, 2_000), (8, 16_000)] {
            let engine = self.open();
            // Not the index of those engines that read theirs when they first need it.
            rate(1, 100, |i| self.get(&*engine, &pool, i, 0));
            if !drop_caches() {
                return eprintln!("cold gets need root, to drop the kernel's caches");
            }
            let before = disk_read_bytes();
            let rate = rate(threads, gets, |i| self.get(&*engine, &pool, Self::shuffled(i + 7, keys), 0));
            tell(&format!("cold get, {threads} thread(s)"), rate);
            tell(
                &format!("bytes read for a cold get, {threads} thread(s)"),
                (disk_read_bytes() - before) as f64 / gets as f64,
            );
            engine.close();
        }
    }

    pub fn durable(&self) {
        let (pool, size) = (Pool::new(), self.value_bytes);
        let engine = open(self.engine, self.directory, true);
        if !engine.put_durable(&key(0), pool.value(0, 0, size)) {
            return;
        }
        let mut baseline =
            Baseline::new(&self.directory.with_extension("baseline")).expect("a file for the baseline");
        // By turns, so that both see the same luck.
        let (rounds, piece) = (16, ((60.0 * self.scale) as u64).max(10));
        let mut ratios = Vec::new();
        let mut seconds = Vec::new();
        let mut raw = Vec::new();
        for round in 0..rounds {
            let first = 1 + round * piece;
            let durable = |i| {
                engine.put_durable(&key(first + i), pool.value(first + i, 0, size));
            };
            let ours = 1.0 / rate(1, piece, durable);
            let theirs = baseline.overwrite(piece as usize, pool.value(first, 0, size));
            ratios.push(ours / theirs);
            seconds.push(ours);
            raw.push(theirs);
        }
        tell("durable put, 1 thread(s)", 1.0 / crate::table::median(&mut seconds));
        tell("O_DSYNC overwrites beside it", 1.0 / crate::table::median(&mut raw));
        tell("time of a durable put / of an O_DSYNC overwrite", crate::table::median(&mut ratios));
        let count = (8_000.0 * self.scale) as u64;
        let durable = |i| {
            engine.put_durable(&key(1_000_000 + i), pool.value(i, 0, size));
        };
        tell("durable put, 8 thread(s)", rate(8, count, durable));
        engine.close();
    }

    /// Fills a store with a million keys and leaves it, by closing it or without.
    pub fn leave(&self, closed: bool) {
        let (pool, size) = (Pool::new(), self.value_bytes);
        let engine = self.open();
        let before = anonymous_bytes();
        for first in (0..REOPENED_KEYS).step_by(BATCH) {
            let pairs: Vec<_> =
                (first..first + BATCH as u64).map(|i| (key(i), pool.value(i, 0, size))).collect();
            engine.batch(&pairs);
        }
        tell("memory a key after filling, bytes", (anonymous_bytes() - before) as f64 / REOPENED_KEYS as f64);
        if closed {
            return engine.close();
        }
        // SAFETY: a signal to this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }

    pub fn reopen(&self, how: &str) {
        if !drop_caches() {
            return eprintln!("reopening cold needs root, to drop the kernel's caches");
        }
        let pool = Pool::new();
        let before = anonymous_bytes();
        let start = Instant::now();
        let engine = self.open();
        let missing = !engine.get(&key(0), &mut |_| {});
        tell(&format!("reopen 1 M keys cold after {how}, s"), start.elapsed().as_secs_f64());
        let grown = (anonymous_bytes() - before) as f64;
        tell(&format!("memory a key after {how} and reopening, bytes"), grown / REOPENED_KEYS as f64);
        if let Some(bytes) = engine.index_bytes() {
            let text = format!("memory / what the engine says, after {how} and reopening");
            tell(&text, grown / bytes as f64);
        }
        let lost = (0..REOPENED_KEYS).filter(|i| !engine.get(&key(*i), &mut |_| {})).count();
        tell(&format!("keys lost after {how}"), lost as f64);
        if !missing && lost == 0 {
            self.get(&*engine, &pool, 1, 0);
        }
        engine.close();
    }

    pub fn space(&self) {
        let (pool, keys, size) = (Pool::new(), self.keys() * 2, self.value_bytes);
        let mut engine = self.open();
        for version in 0..3 {
            rate(1, keys, |i| engine.put(&key(i), pool.value(i, version, size)));
        }
        engine.compact();
        let live = (keys * (size as u64 + 16)) as f64;
        tell("space / live bytes, compacted, open", space_bytes(self.directory) as f64 / live);
        engine.close();
        tell("space / live bytes, compacted, closed", space_bytes(self.directory) as f64 / live);
    }
}
