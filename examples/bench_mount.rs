//! The same works in two directories, by turns, and what they cost in each: `bench_mount A B`.
//!
//! Both are worked on in one go, round after round and with the order changed each round, so that whatever else the machine does falls on both. Latencies
//! are medians over all operations of all rounds; rates are medians over rounds. Reads nothing but the clock and the two directories.
//!
//! Options: `--rounds N` (5), `--files N` a round and work (1000), `--mb N` of the large file (64), `--no-cold` (cold reads want root),
//! `--only WORD` (shows the works whose name contains it; all are run, as they build on each other).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SMALL_BYTES: usize = 1024;
const BLOCK_BYTES: usize = 4096;
const STREAM_BYTES: usize = 1024 * 1024;
const THREADS: usize = 8;

/// What is asked for on the command line.
struct Options {
    directories: [PathBuf; 2],
    rounds: usize,
    files: usize,
    large_bytes: u64,
    cold: bool,
    only: Option<String>,
}

/// What one round of one work gave: each operation's time, and the time from the first to the end of the last.
struct Sample {
    operations: Vec<Duration>,
    wall: Duration,
    bytes: u64,
}

/// A work: its name, its unit, and what it does in a directory that was prepared for the round.
struct Work {
    name: &'static str,
    stream: bool,
    run: fn(&Place) -> io::Result<Sample>,
    cold: bool,
}

/// A directory of the round, empty at first, and the sizes of the works.
struct Place {
    directory: PathBuf,
    files: usize,
    large_bytes: u64,
    seed: u64,
}

impl Place {
    fn small(&self, number: usize) -> PathBuf {
        self.directory.join(format!("small{number}"))
    }

    fn large(&self) -> PathBuf {
        self.directory.join("large")
    }
}

/// In the order in which they are run: each finds what those before it have left.
const WORKS: &[Work] = &[
    work("create + write 1 KiB + close", |p| each(p.files, |i| create(&p.small(i), false))),
    work("the same + fsync", |p| {
        each(p.files / 4, |i| create(&p.directory.join(format!("synced{i}")), true))
    }),
    cold("stat, first", |p| each(p.files, |i| fs::metadata(p.small(i)).map(drop))),
    work("stat, again", |p| each(p.files, |i| fs::metadata(p.small(i)).map(drop))),
    cold("open + read 1 KiB, cold", |p| each(p.files, |i| read(&p.small(i)))),
    work("open + read 1 KiB, warm", |p| each(p.files, |i| read(&p.small(i)))),
    work("rename", |p| each(p.files, |i| fs::rename(p.small(i), p.directory.join(format!("renamed{i}"))))),
    work("list (a directory)", |p| {
        each(5, |_| fs::read_dir(&p.directory)?.try_for_each(|entry| entry.map(drop)))
    }),
    work("unlink", |p| each(p.files, |i| fs::remove_file(p.directory.join(format!("renamed{i}"))))),
    work("8 threads: create 1 KiB", |p| threads(p, |t, i| create(&thread_file(p, t, i), false))),
    work("8 threads: create + fsync", |p| {
        threads_few(p, |t, i| create(&p.directory.join(format!("s{t}-{i}")), true))
    }),
    work("8 threads: stat", |p| threads(p, |t, i| fs::metadata(thread_file(p, t, i)).map(drop))),
    work("8 threads: open + read, warm", |p| threads(p, |t, i| read(&thread_file(p, t, i)))),
    cold("8 threads: open + read, cold", |p| threads(p, |t, i| read(&thread_file(p, t, i)))),
    work("8 threads: unlink", |p| threads(p, |t, i| fs::remove_file(thread_file(p, t, i)))),
    stream("sequential write + fsync", write_large, false),
    stream("sequential read, cold", read_large, true),
    stream("sequential read, warm", read_large, false),
    cold("random 4 KiB read, cold", |p| random(p, p.files, 1, false)),
    work("random 4 KiB read, warm", |p| random(p, p.files, 1, false)),
    work("random direct 4 KiB read, warm", |p| random_direct(p, p.files)),
    work("random 4 KiB overwrite", |p| random(p, p.files, 1, true)),
    cold("8 threads: random read, cold", |p| random(p, p.files / THREADS, THREADS, false)),
    work("8 threads: random read, warm", |p| random(p, p.files / THREADS, THREADS, false)),
    work("8 threads: random overwrite", |p| random(p, p.files / THREADS, THREADS, true)),
];

const fn work(name: &'static str, run: fn(&Place) -> io::Result<Sample>) -> Work {
    Work { name, stream: false, run, cold: false }
}

const fn cold(name: &'static str, run: fn(&Place) -> io::Result<Sample>) -> Work {
    Work { name, stream: false, run, cold: true }
}

const fn stream(name: &'static str, run: fn(&Place) -> io::Result<Sample>, cold: bool) -> Work {
    Work { name, stream: true, run, cold }
}

fn thread_file(place: &Place, thread: usize, number: usize) -> PathBuf {
    place.directory.join(format!("t{thread}-{number}"))
}

/// Text that differs from place to place, so that nothing can keep it once for all.
fn fill(buffer: &mut [u8], seed: u64) {
    let mut random = Random(seed | 1);
    for part in buffer.chunks_mut(8) {
        part.copy_from_slice(&random.next().to_le_bytes()[..part.len()]);
    }
}

/// xorshift64*: enough to spread accesses.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

fn create(path: &Path, sync: bool) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(&[b'x'; SMALL_BYTES])?;
    if sync { file.sync_all() } else { Ok(()) }
}

fn read(path: &Path) -> io::Result<()> {
    let mut buffer = [0; 2 * SMALL_BYTES];
    let length = File::open(path)?.read(&mut buffer)?;
    if length == SMALL_BYTES { Ok(()) } else { Err(io::Error::other(format!("{length} bytes read"))) }
}

fn each(count: usize, mut operation: impl FnMut(usize) -> io::Result<()>) -> io::Result<Sample> {
    let mut operations = Vec::with_capacity(count);
    let started = Instant::now();
    for number in 0..count {
        let begin = Instant::now();
        operation(number)?;
        operations.push(begin.elapsed());
    }
    Ok(Sample { operations, wall: started.elapsed(), bytes: 0 })
}

fn threads(place: &Place, operation: impl Fn(usize, usize) -> io::Result<()> + Sync) -> io::Result<Sample> {
    in_threads(place.files / THREADS, THREADS, operation)
}

fn threads_few(
    place: &Place,
    operation: impl Fn(usize, usize) -> io::Result<()> + Sync,
) -> io::Result<Sample> {
    in_threads(place.files / THREADS / 4, THREADS, operation)
}

fn in_threads(
    count: usize,
    threads: usize,
    operation: impl Fn(usize, usize) -> io::Result<()> + Sync,
) -> io::Result<Sample> {
    let started = Instant::now();
    let samples: Vec<io::Result<Sample>> = std::thread::scope(|scope| {
        let operation = &operation;
        let running: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || each(count, |number| operation(thread, number))))
            .collect();
        let panicked = |_| Err(io::Error::other("a thread panicked"));
        running.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    let wall = started.elapsed();
    let mut operations = Vec::with_capacity(count * threads);
    for sample in samples {
        operations.extend(sample?.operations);
    }
    Ok(Sample { operations, wall, bytes: 0 })
}

fn write_large(place: &Place) -> io::Result<Sample> {
    let mut buffer = vec![0; STREAM_BYTES];
    let mut file = File::create(place.large())?;
    let started = Instant::now();
    let mut written = 0;
    while written < place.large_bytes {
        fill(&mut buffer[..16], written ^ place.seed);
        file.write_all(&buffer)?;
        written += buffer.len() as u64;
    }
    file.sync_all()?;
    Ok(Sample { operations: Vec::new(), wall: started.elapsed(), bytes: written })
}

fn read_large(place: &Place) -> io::Result<Sample> {
    let mut buffer = vec![0; STREAM_BYTES];
    let mut file = File::open(place.large())?;
    let started = Instant::now();
    let mut length = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            more => length += more as u64,
        }
    }
    if length < place.large_bytes {
        return Err(io::Error::other(format!("only {length} bytes read")));
    }
    Ok(Sample { operations: Vec::new(), wall: started.elapsed(), bytes: length })
}

fn random(place: &Place, count: usize, threads: usize, write: bool) -> io::Result<Sample> {
    let file = OpenOptions::new().read(true).write(write).open(place.large())?;
    let blocks = place.large_bytes / BLOCK_BYTES as u64;
    in_threads(count, threads, |thread, number| {
        let mut random = Random((place.seed ^ ((thread as u64) << 40 | (number as u64) << 8)) | 1);
        random.next();
        let offset = random.next() % blocks * BLOCK_BYTES as u64;
        let mut buffer = [b'y'; BLOCK_BYTES];
        if write { file.write_all_at(&buffer, offset) } else { file.read_exact_at(&mut buffer, offset) }
    })
}

/// A block as reads past the kernel's cache want it: where its address is a multiple of its length.
#[repr(align(4096))]
struct Block([u8; BLOCK_BYTES]);

/// Reads past the kernel's cache of the file. On a mount each of them comes to its daemon, which has what it needs in its own files' cache.
fn random_direct(place: &Place, count: usize) -> io::Result<Sample> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(place.large())?;
    let blocks = place.large_bytes / BLOCK_BYTES as u64;
    let mut random = Random(place.seed | 1);
    let mut block = Box::new(Block([0; BLOCK_BYTES]));
    each(count, |_| file.read_exact_at(&mut block.0, random.next() % blocks * BLOCK_BYTES as u64))
}

/// Makes the kernel forget what it has of files. Only what is on disk can be forgotten, so it is written out first.
fn drop_caches(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()?;
    std::process::Command::new("sync").status()?;
    fs::write("/proc/sys/vm/drop_caches", "3")
}

fn median<T: Copy + PartialOrd>(values: &mut [T]) -> Option<T> {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len() / 2).copied()
}

fn options() -> Result<Options, String> {
    let (mut directories, mut rounds, mut files, mut mb) = (Vec::new(), 5, 1000, 64);
    let (mut cold, mut only) = (true, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        let number = |text: String| text.parse::<usize>().map_err(|error| format!("{text}: {error}"));
        match word.as_str() {
            "--rounds" => rounds = number(value()?)?.max(1),
            "--files" => files = number(value()?)?.max(THREADS * 4),
            "--mb" => mb = number(value()?)?.max(1),
            "--no-cold" => cold = false,
            "--only" => only = Some(value()?),
            _ if word.starts_with('-') => return Err(format!("unknown option {word}")),
            _ => directories.push(PathBuf::from(word)),
        }
    }
    let directories = directories.try_into().map_err(|_| "name two directories".to_string())?;
    Ok(Options { directories, rounds, files, large_bytes: mb as u64 * 1024 * 1024, cold, only })
}

/// All works in one directory; each work alternates between the two before the next begins.
fn run(options: &Options) -> Result<(), String> {
    let cold = options.cold && fs::write("/proc/sys/vm/drop_caches", "1").is_ok();
    // Samples by work and directory.
    let mut samples: Vec<[Vec<Sample>; 2]> = WORKS.iter().map(|_| [Vec::new(), Vec::new()]).collect();
    for round in 0..options.rounds {
        let places = options.directories.clone().map(|directory| Place {
            directory: directory.join(format!("bench{}-{round}", std::process::id())),
            files: options.files,
            large_bytes: options.large_bytes,
            seed: round as u64 * 0x9e37_79b9_7f4a_7c15,
        });
        for place in &places {
            fs::create_dir(&place.directory)
                .map_err(|error| format!("{}: {error}", place.directory.display()))?;
        }
        for (index, work) in WORKS.iter().enumerate() {
            for turn in 0..2 {
                let which = (turn + round + index) % 2;
                let place = &places[which];
                let told = |error| format!("{} in {}: {error}", work.name, place.directory.display());
                if work.cold {
                    if !cold {
                        continue;
                    }
                    drop_caches(&place.directory).map_err(told)?;
                }
                // The other side's cold turn has emptied the caches for both.
                if work.name.contains("warm") || work.name.contains("again") {
                    (work.run)(place).map_err(told)?;
                }
                samples[index][which].push((work.run)(place).map_err(told)?);
            }
        }
        for place in &places {
            fs::remove_dir_all(&place.directory)
                .map_err(|error| format!("{}: {error}", place.directory.display()))?;
        }
    }
    print(options, samples);
    if !cold {
        println!("cold works were left out: they want root and --no-cold not given");
    }
    Ok(())
}

fn print(options: &Options, samples: Vec<[Vec<Sample>; 2]>) {
    println!("A: {}\nB: {}", options.directories[0].display(), options.directories[1].display());
    println!(
        "{} rounds, {} files, {} MiB; B : A is how many times as fast B is",
        options.rounds,
        options.files,
        options.large_bytes >> 20
    );
    println!("{:<30} {:>10} {:>10} {:>12} {:>12} {:>7}", "", "A p50", "B p50", "A rate", "B rate", "B : A");
    for (work, sides) in WORKS.iter().zip(samples) {
        if options.only.as_ref().is_some_and(|word| !work.name.contains(word.as_str())) || sides[0].is_empty()
        {
            continue;
        }
        let [a, b] = sides.map(|side| Summary::of(work, &side));
        println!(
            "{:<30} {:>10} {:>10} {:>12} {:>12} {:>7.2}",
            work.name,
            a.latency(),
            b.latency(),
            a.rate(),
            b.rate(),
            b.per_second / a.per_second
        );
    }
}

/// One cell of the table.
struct Summary {
    p50: Option<Duration>,
    per_second: f64,
}

impl Summary {
    fn of(work: &Work, samples: &[Sample]) -> Summary {
        let mut operations: Vec<Duration> =
            samples.iter().flat_map(|sample| sample.operations.iter().copied()).collect();
        let mut rates: Vec<f64> = samples
            .iter()
            .map(|sample| {
                let done =
                    if work.stream { sample.bytes as f64 / 1e6 } else { sample.operations.len() as f64 };
                done / sample.wall.as_secs_f64()
            })
            .collect();
        Summary { p50: median(&mut operations), per_second: median(&mut rates).unwrap_or(f64::NAN) }
    }

    fn latency(&self) -> String {
        self.p50.map_or_else(String::new, |p50| format!("{:.1} us", p50.as_secs_f64() * 1e6))
    }

    fn rate(&self) -> String {
        if self.p50.is_some() {
            format!("{:.0}/s", self.per_second)
        } else {
            format!("{:.0} MB/s", self.per_second)
        }
    }
}

fn main() -> std::process::ExitCode {
    let done = options().and_then(|options| run(&options));
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench_mount: {message}");
            std::process::ExitCode::FAILURE
        }
    }
}
