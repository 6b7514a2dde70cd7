//! The hot paths of the library, alone: puts, batches, gets from memory by one and two threads, and durable puts beside what the disk itself takes
//! for one durable write: `bench_hot DIRECTORY [ROUNDS]`.
//!
//! Values of 100 bytes, keys of 16. Medians over the rounds; the ratio of a durable put is the median of ratios within a round.

use bitkv::{Batch, Engine, EngineOptions};
use nix::sys::resource::{UsageWho, getrusage};
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

const KEYS: u64 = 300_000;
const VALUE_BYTES: usize = 100;
const BATCH: usize = 100;
const GETS: u64 = 600_000;
const DURABLE_PUTS: u64 = 200;
const POOL_BYTES: usize = 256 << 10;
const BASELINE_BYTES: u64 = 32 << 20;

fn mix(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Keys in no order.
fn key(index: u64) -> [u8; 16] {
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

    fn value(&self, index: u64) -> &[u8] {
        let start = mix(index) as usize % (POOL_BYTES - VALUE_BYTES);
        &self.0[start..start + VALUE_BYTES]
    }
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Processor time that this process has taken, in seconds.
fn processor_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("of this process it can be had");
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
        .sum()
}

/// Gets a second, of random keys, all threads together; and the processor time of one, in microseconds.
fn gets(engine: &Engine, pool: &Pool, threads: u64, round: u64) -> (f64, f64) {
    let (start, processor_start) = (Instant::now(), processor_seconds());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for index in 0..GETS / threads {
                    let index = mix(index << 8 | thread << 4 | round) % KEYS;
                    let found = engine.get(&key(index)).expect("a get");
                    assert!(found.is_some_and(|found| found[..8] == pool.value(index)[..8]), "a wrong value");
                }
            });
        }
    });
    let each = (processor_seconds() - processor_start) / GETS as f64 * 1e6;
    (GETS as f64 / start.elapsed().as_secs_f64(), each)
}

/// A file whose blocks are written, to be overwritten durably.
fn baseline(path: &Path) -> std::io::Result<File> {
    let mut zeros = File::create(path)?;
    zeros.write_all(&vec![0; BASELINE_BYTES as usize])?;
    zeros.sync_all()?;
    OpenOptions::new().write(true).custom_flags(libc::O_DSYNC).open(path)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let directory = words.next().ok_or("name a directory")?;
    let rounds: u64 = words.next().map_or(Ok(7), |word| word.parse())?;
    let directory = Path::new(&directory).join(format!("bench{}", std::process::id()));
    let engine = Engine::open(&directory, EngineOptions::default())?;
    let pool = Pool::new();
    let start = Instant::now();
    for index in 0..KEYS {
        engine.put(&key(index), pool.value(index))?;
    }
    println!("puts a second\t{:.0}", KEYS as f64 / start.elapsed().as_secs_f64());
    engine.sync()?;
    let (mut rates, mut times) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..rounds {
        for threads in [1, 2] {
            let (rate, time) = gets(&engine, &pool, threads, round);
            rates[threads as usize - 1].push(rate);
            times[threads as usize - 1].push(time);
        }
    }
    let mut scaling: Vec<f64> = rates[1].iter().zip(&rates[0]).map(|(two, one)| two / one).collect();
    println!("hot gets a second, one thread\t{:.0}", median(&mut rates[0]));
    println!("hot gets a second, two threads\t{:.0}", median(&mut rates[1]));
    println!("two threads / one\t{:.2}", median(&mut scaling));
    // On a machine that others use too, this says more than the rates.
    println!("processor time of a hot get, one thread, us\t{:.2}", median(&mut times[0]));
    println!("processor time of a hot get, two threads, us\t{:.2}", median(&mut times[1]));

    let mut batches = Vec::new();
    for round in 0..rounds {
        let first = KEYS * (1 + round);
        let (start, processor_start) = (Instant::now(), processor_seconds());
        for first in (first..first + KEYS).step_by(BATCH) {
            let mut batch = Batch::new();
            for index in first..first + BATCH as u64 {
                batch.put(key(index), pool.value(index));
            }
            engine.commit(batch)?;
        }
        let taken = (start.elapsed().as_secs_f64(), processor_seconds() - processor_start);
        batches.push(KEYS as f64 / taken.0);
        println!(
            "round {round}: batches of {BATCH}, keys a second\t{:.0}\tprocessor us a key\t{:.2}",
            KEYS as f64 / taken.0,
            taken.1 / KEYS as f64 * 1e6
        );
    }
    println!("batches of {BATCH}, keys a second\t{:.0}", median(&mut batches));
    engine.sync()?;
    let file = baseline(&directory.join("baseline"))?;
    let (mut ours, mut raw, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut written = 0;
    let mut put: u64 = 0;
    // By turns, a few at a time, so that both see the same luck.
    for _ in 0..rounds * 4 {
        let (mut put_time, mut raw_time) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..DURABLE_PUTS / 4 {
            let start = Instant::now();
            engine.put(&key(put), pool.value(put))?;
            engine.sync()?;
            put_time += start.elapsed();
            put += 1;
        }
        for _ in 0..DURABLE_PUTS / 4 {
            let start = Instant::now();
            file.write_all_at(pool.value(written), written % (BASELINE_BYTES / 2))?;
            raw_time += start.elapsed();
            written += VALUE_BYTES as u64;
        }
        ours.push(put_time.as_secs_f64());
        raw.push(raw_time.as_secs_f64());
        ratios.push(put_time.as_secs_f64() / raw_time.as_secs_f64());
    }
    let each = |samples: &mut [f64]| median(samples) / (DURABLE_PUTS / 4) as f64 * 1e6;
    println!("durable put, us\t{:.0}", each(&mut ours));
    println!("O_DSYNC overwrite, us\t{:.0}", each(&mut raw));
    println!("durable put / O_DSYNC overwrite\t{:.2}", median(&mut ratios));
    engine.close()?;
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}
