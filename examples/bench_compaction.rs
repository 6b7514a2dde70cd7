//! What readers and those who sync notice of compaction: the same works without and with it, by turns, in one run: `bench_compaction DIRECTORY`.
//!
//! Each round overwrites half of the keys, at random, so that segments are partly dead; measures random reads and durable puts for a while without compaction;
//! then lets automatic compaction loose and measures as long as it runs. Percentiles are over all operations of all rounds; the last column
//! is how many times as long it takes with compaction as without.
//!
//! Options: `--rounds N` (5), `--keys N` (60000, of 1 KiB), `--seconds N` without compaction a round (3), `--rate BYTES` a second (52428800, the
//! default of a mount; 0 is without limit), `--pause` (control: compaction is paused, so both columns should be the same), `--by-hand` (one compaction of all
//! a round, as `echo all > .bitkv/compact` does).

use bitkv::engine::progress::CompactionPhase;
use bitkv::engine::{Durability, Tune};
use bitkv::{Engine, EngineOptions};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const VALUE_BYTES: usize = 1024;
/// Clients come by so often, instead of one request right after the other: a server at its limit measures queues.
const THINK_TIME: Duration = Duration::from_micros(200);

struct Options {
    directory: PathBuf,
    rounds: usize,
    keys: u64,
    seconds: u64,
    rate: u64,
    pause: bool,
    by_hand: bool,
}

/// Latencies of one kind of work.
#[derive(Default)]
struct Samples {
    reads: Vec<Duration>,
    syncs: Vec<Duration>,
}

fn options() -> Result<Options, String> {
    let (mut rounds, mut keys, mut seconds, mut rate) = (5, 60_000, 3, 50 << 20);
    let (mut pause, mut by_hand, mut directory) = (false, false, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let text = words.next().ok_or(format!("{word} wants a value"))?;
            text.parse().map_err(|error| format!("{text}: {error}"))
        };
        match word.as_str() {
            "--rounds" => rounds = number()?.max(1) as usize,
            "--keys" => keys = number()?.max(100),
            "--seconds" => seconds = number()?.max(1),
            "--rate" => rate = number()?,
            "--pause" => pause = true,
            "--by-hand" => by_hand = true,
            _ if word.starts_with('-') => return Err(format!("unknown option {word}")),
            _ => directory = Some(PathBuf::from(word)),
        }
    }
    let directory = directory.ok_or("name a directory")?.join(format!("bench{}", std::process::id()));
    Ok(Options { directory, rounds, keys, seconds, rate, pause, by_hand })
}

/// xorshift64*.
fn random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// One reader and one who syncs, until `over` says so.
fn work(
    engine: &Engine,
    options: &Options,
    over: impl Fn() -> bool,
    samples: &mut Samples,
) -> Result<(), String> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut state = Instant::now().elapsed().as_nanos() as u64 | 0x9e37_79b9;
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let key = format!("key{}", random(&mut state) % options.keys);
                let started = Instant::now();
                let got = engine.get(key.as_bytes()).map_err(|error| error.to_string())?;
                times.push(started.elapsed());
                if got.is_none_or(|value| value.len() != VALUE_BYTES) {
                    return Err(format!("{key} is gone"));
                }
                std::thread::sleep(THINK_TIME);
            }
            Ok::<_, String>(times)
        });
        let syncer = scope.spawn(|| {
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let started = Instant::now();
                engine.put(b"synced", &[1; VALUE_BYTES]).map_err(|error| error.to_string())?;
                engine.sync().map_err(|error| error.to_string())?;
                times.push(started.elapsed());
                std::thread::sleep(THINK_TIME);
            }
            Ok::<_, String>(times)
        });
        while !over() {
            std::thread::sleep(Duration::from_millis(2));
        }
        stop.store(true, Ordering::Relaxed);
        let panicked = |_| Err("a thread panicked".to_string());
        samples.reads.extend(reader.join().unwrap_or_else(panicked)?);
        samples.syncs.extend(syncer.join().unwrap_or_else(panicked)?);
        Ok(())
    })
}

fn fill(engine: &Engine, options: &Options, round: usize) -> Result<(), String> {
    let mut state = round as u64 + 1;
    for key in 0..options.keys {
        // All keys at first, then half of them at random: so each segment is partly dead.
        if round > 0 && random(&mut state).is_multiple_of(2) {
            continue;
        }
        engine
            .put(format!("key{key}").as_bytes(), &[round as u8; VALUE_BYTES])
            .map_err(|error| error.to_string())?;
    }
    engine.sync().map_err(|error| error.to_string())
}

fn is_busy(engine: &Engine) -> bool {
    let busy = [CompactionPhase::Copying, CompactionPhase::Finishing];
    engine.compaction_stats().iter().any(|one| busy.contains(&one.phase))
}

fn run(options: &Options) -> Result<(), String> {
    let settings = EngineOptions {
        durability: Durability::Explicit,
        auto_compact: false,
        compact_start_delay: Duration::ZERO,
        compact_cooldown: Duration::ZERO,
        compact_threshold: 0.3,
        compact_bytes_per_second: options.rate,
        segment_bytes: 16 << 20,
        ..EngineOptions::default()
    };
    let engine = Engine::open(&options.directory, settings).map_err(|error| error.to_string())?;
    engine.tune(Tune::Paused(options.pause));
    fill(&engine, options, 0)?;
    let (mut without, mut with) = (Samples::default(), Samples::default());
    let (mut copied, mut reclaimed, mut busy_time) = (0, 0, Duration::ZERO);
    for round in 1..=options.rounds {
        fill(&engine, options, round)?;
        let started = Instant::now();
        let quiet = Duration::from_secs(options.seconds);
        work(&engine, options, || started.elapsed() > quiet, &mut without)?;
        let before = engine.stats();
        let started = Instant::now();
        if options.by_hand {
            by_hand(&engine, options, &mut with)?;
            busy_time += started.elapsed();
            let after = engine.stats();
            copied += after.compaction_bytes_copied - before.compaction_bytes_copied;
            reclaimed += after.compaction_bytes_reclaimed - before.compaction_bytes_reclaimed;
            continue;
        }
        engine.tune(Tune::AutoCompact(true));
        // It ends when nothing has been going on for a moment.
        let last_busy = std::cell::Cell::new(Instant::now());
        let over = || {
            if is_busy(&engine) {
                last_busy.set(Instant::now());
            }
            match options.pause {
                true => started.elapsed() > quiet,
                false => last_busy.get().elapsed() > Duration::from_millis(50),
            }
        };
        work(&engine, options, over, &mut with)?;
        busy_time += last_busy.get() - started;
        engine.tune(Tune::AutoCompact(false));
        let after = engine.stats();
        copied += after.compaction_bytes_copied - before.compaction_bytes_copied;
        reclaimed += after.compaction_bytes_reclaimed - before.compaction_bytes_reclaimed;
    }
    println!(
        "{} rounds, {} keys of {VALUE_BYTES} bytes, rate {}; compaction ran {:.1} s, copied {} MiB, reclaimed {} MiB",
        options.rounds,
        options.keys,
        options.rate,
        busy_time.as_secs_f64(),
        copied >> 20,
        reclaimed >> 20
    );
    println!("{:<16} {:>12} {:>12} {:>8}   operations", "", "without", "with", "ratio");
    print("read", &mut without.reads, &mut with.reads);
    print("put + sync", &mut without.syncs, &mut with.syncs);
    engine.close().map_err(|error| error.to_string())
}

/// Works as long as a compaction by hand takes.
fn by_hand(engine: &Engine, options: &Options, samples: &mut Samples) -> Result<(), String> {
    std::thread::scope(|scope| {
        let compaction = scope.spawn(|| engine.compact().map_err(|error| error.to_string()));
        work(engine, options, || compaction.is_finished(), samples)?;
        let panicked = |_| Err("compaction panicked".to_string());
        compaction.join().unwrap_or_else(panicked).map(|_| ())
    })
}

fn print(name: &str, without: &mut [Duration], with: &mut [Duration]) {
    without.sort();
    with.sort();
    for (label, share) in [("p50", 0.5), ("p99", 0.99)] {
        let at = |times: &[Duration]| {
            let index = (times.len() as f64 * share) as usize;
            times
                .get(index.min(times.len().saturating_sub(1)))
                .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
        };
        let (a, b) = (at(without), at(with));
        let counts = format!("{} and {}", without.len(), with.len());
        println!("{:<16} {a:>9.1} us {b:>9.1} us {:>8.2}   {counts}", format!("{name} {label}"), b / a);
    }
}

fn main() -> std::process::ExitCode {
    let done = options().and_then(|options| {
        std::fs::create_dir_all(&options.directory).map_err(|error| error.to_string())?;
        let done = run(&options);
        std::fs::remove_dir_all(&options.directory).map_err(|error| error.to_string()).and(done)
    });
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench_compaction: {message}");
            std::process::ExitCode::FAILURE
        }
    }
}
