//! The same works in two directories, alternating, in one run: `bench_mount PLAIN MOUNT [ROUNDS]`. Prints medians of both and their ratio. What
//! is timed is what a program sees: system calls through the kernel.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FILES: usize = 400;
const LARGE_BYTES: usize = 64 << 20;
const RANDOM_READS: usize = 2000;

struct Random(u64);
impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// One piece of work: times of single operations, in the order of `NAMES`.
fn timed(times: &mut Vec<Duration>, operation: impl FnOnce()) {
    let started = Instant::now();
    operation();
    times.push(started.elapsed());
}

fn file(directory: &Path, thread: usize, index: usize) -> PathBuf {
    directory.join(format!("t{thread}-file{index:05}"))
}

/// A work gets a directory, the number of its thread, and where to put its times.
type Work = fn(&Path, usize, &mut Vec<Duration>);

fn create(directory: &Path, thread: usize, times: &mut Vec<Duration>) {
    let content = [7u8; 1024];
    for index in 0..FILES {
        timed(times, || File::create(file(directory, thread, index)).unwrap().write_all(&content).unwrap());
    }
}

fn create_synced(directory: &Path, thread: usize, times: &mut Vec<Duration>) {
    let content = [7u8; 1024];
    for index in 0..FILES / 4 {
        timed(times, || {
            let mut file = File::create(directory.join(format!("t{thread}-synced{index:05}"))).unwrap();
            file.write_all(&content).unwrap();
            file.sync_all().unwrap();
        });
    }
    for index in 0..FILES / 4 {
        fs::remove_file(directory.join(format!("t{thread}-synced{index:05}"))).unwrap();
    }
}

fn stat(directory: &Path, thread: usize, times: &mut Vec<Duration>) {
    for index in 0..FILES {
        timed(times, || drop(fs::metadata(file(directory, thread, index)).unwrap()));
    }
}

fn open_read(directory: &Path, thread: usize, times: &mut Vec<Duration>) {
    let mut content = Vec::new();
    for index in 0..FILES {
        timed(times, || {
            content.clear();
            File::open(file(directory, thread, index)).unwrap().read_to_end(&mut content).unwrap();
        });
        assert_eq!(content.len(), 1024);
    }
}

fn rename(directory: &Path, thread: usize, times: &mut Vec<Duration>) {
    for index in 0..FILES {
        let to = directory.join(format!("t{thread}-renamed{index:05}"));
        timed(times, || fs::rename(file(directory, thread, index), &to).unwrap());
        fs::rename(&to, file(directory, thread, index)).unwrap();
    }
}

fn unlink(directory: &Path, thread: usize, times: &mut Vec<Duration>) {
    for index in 0..FILES {
        timed(times, || fs::remove_file(file(directory, thread, index)).unwrap());
    }
}

fn random_read(directory: &Path, thread: usize, times: &mut Vec<Duration>) {
    let large = File::open(directory.join("large")).unwrap();
    let mut random = Random(thread as u64 * 77 + 5);
    let mut buffer = [0; 4096];
    for _ in 0..RANDOM_READS {
        let at = random.below(LARGE_BYTES / 4096) as u64 * 4096;
        timed(times, || large.read_exact_at(&mut buffer, at).unwrap());
    }
}

fn overwrite(directory: &Path, thread: usize, times: &mut Vec<Duration>) {
    let large = OpenOptions::new().write(true).open(directory.join("large")).unwrap();
    let mut random = Random(thread as u64 * 99 + 5);
    for _ in 0..RANDOM_READS / 4 {
        let at = random.below(LARGE_BYTES / 4096) as u64 * 4096;
        timed(times, || large.write_all_at(&[9; 4096], at).unwrap());
    }
}

const WORKS: &[(&str, Work)] = &[
    ("create + write 1 KiB + close", create),
    ("the same with fsync", create_synced),
    ("stat, first", stat),
    ("stat, again", stat),
    ("open + read 1 KiB, first", open_read),
    ("open + read 1 KiB, again", open_read),
    ("rename", rename),
    ("random 4 KiB read, first", random_read),
    ("random 4 KiB overwrite", overwrite),
    ("unlink", unlink),
];

/// Runs a work with so many threads; single times of all threads, and operations a second in all.
fn run(work: Work, directory: &Path, threads: usize) -> (Vec<Duration>, f64) {
    let started = Instant::now();
    let times: Vec<Vec<Duration>> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mut times = Vec::new();
                    work(directory, thread, &mut times);
                    times
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let times: Vec<Duration> = times.into_iter().flatten().collect();
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    (times, rate)
}

fn median<T: Copy + PartialOrd>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    values[values.len() / 2]
}

/// Drops what the kernel has cached; true if it may.
fn drop_caches() -> bool {
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

fn sequential(directory: &Path) -> (f64, f64) {
    let content: Vec<u8> = (0..LARGE_BYTES).map(|i| (i / 7) as u8).collect();
    let path = directory.join("large");
    let started = Instant::now();
    let mut file = File::create(&path).unwrap();
    for piece in content.chunks(1 << 20) {
        file.write_all(piece).unwrap();
    }
    file.sync_all().unwrap();
    let write = LARGE_BYTES as f64 / 1e6 / started.elapsed().as_secs_f64();
    drop_caches();
    let started = Instant::now();
    let mut read = Vec::with_capacity(LARGE_BYTES);
    File::open(&path).unwrap().read_to_end(&mut read).unwrap();
    assert!(read == content, "what was read isn't what was written");
    (write, LARGE_BYTES as f64 / 1e6 / started.elapsed().as_secs_f64())
}

fn main() {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [plain, mount, rest @ ..] = &arguments[..] else {
        eprintln!("usage: bench_mount PLAIN_DIRECTORY MOUNTED_DIRECTORY [ROUNDS]");
        std::process::exit(2);
    };
    let rounds: usize = rest.first().and_then(|text| text.to_str()?.parse().ok()).unwrap_or(5);
    for threads in [1, 8] {
        let unit = if threads == 1 { "us, median" } else { "operations/s" };
        println!("\n{threads} thread(s), {unit:<17} {:>10} {:>10} {:>8}", "plain", "mount", "ratio");
        // [work][directory] -> a value a round
        let mut values = vec![[Vec::new(), Vec::new()]; WORKS.len()];
        let mut rates = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            let mut order = [(0, plain), (1, mount)];
            if round % 2 == 1 {
                order.reverse();
            }
            for (which, directory) in order {
                let directory = directory.join(format!("bench-{threads}-{round}"));
                fs::create_dir(&directory).unwrap();
                rates[which].push(sequential(&directory));
                for (index, (name, work)) in WORKS.iter().enumerate() {
                    if name.ends_with("first") {
                        drop_caches();
                    }
                    let (times, rate) = run(*work, &directory, threads);
                    let value = if threads == 1 { median(times).as_nanos() as f64 / 1e3 } else { rate };
                    values[index][which].push(value);
                }
                fs::remove_dir_all(&directory).unwrap();
            }
        }
        for ((name, _), [a, b]) in WORKS.iter().zip(values) {
            let (a, b) = (median(a), median(b));
            println!("{name:<32} {a:>10.1} {b:>10.1} {:>8.2}", b / a);
        }
        if threads == 1 {
            let pick = |which: usize, of: fn(&(f64, f64)) -> f64| {
                median(rates[which].iter().map(of).collect::<Vec<_>>())
            };
            for (name, of) in [
                ("sequential write + fsync, MB/s", (|r| r.0) as fn(&(f64, f64)) -> f64),
                ("sequential read, cold, MB/s", |r| r.1),
            ] {
                let (a, b) = (pick(0, of), pick(1, of));
                println!("{name:<32} {a:>10.1} {b:>10.1} {:>8.2}", b / a);
            }
        }
    }
}
