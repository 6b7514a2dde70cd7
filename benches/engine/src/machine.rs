//! What is asked of the machine: caches dropped, memory and space measured, the disk's own speed beside an engine's.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

/// Forgets everything that the kernel has cached. Needs root.
pub fn drop_caches() -> bool {
    // SAFETY: no arguments, no failure.
    unsafe { libc::sync() };
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// Memory of this process that belongs to no file, in bytes.
pub fn anonymous_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Processor time that this process has taken, in seconds.
pub fn processor_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec, which is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Bytes that this process has had read from the disk.
pub fn disk_read_bytes() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find(|line| line.starts_with("read_bytes:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Space that the files below a directory take on the disk, in bytes.
pub fn space_bytes(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => space_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// A file of written blocks, overwritten durably piece by piece: what the disk itself takes for one durable write.
pub struct Baseline {
    file: File,
    offset: u64,
}

const BASELINE_BYTES: u64 = 32 * 1024 * 1024;

impl Baseline {
    pub fn new(path: &Path) -> std::io::Result<Self> {
        let mut zeros = File::create(path)?;
        for _ in 0..BASELINE_BYTES / (1024 * 1024) {
            zeros.write_all(&vec![0; 1024 * 1024])?;
        }
        zeros.sync_all()?;
        let file = OpenOptions::new().write(true).custom_flags(libc::O_DSYNC).open(path)?;
        Ok(Baseline { file, offset: 0 })
    }

    /// Overwrites `count` pieces, one behind the other; returns the seconds that one took.
    pub fn overwrite(&mut self, count: usize, piece: &[u8]) -> f64 {
        let start = Instant::now();
        for _ in 0..count {
            if self.offset + piece.len() as u64 > BASELINE_BYTES {
                self.offset = 0;
            }
            self.file.write_all_at(piece, self.offset).expect("the baseline's file can be written");
            self.offset += piece.len() as u64;
        }
        start.elapsed().as_secs_f64() / count as f64
    }
}

/// One line: processor, cores, memory, kernel, filesystem.
pub fn describe(directory: &Path) -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = read("/proc/meminfo");
    let kilobytes = memory.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let mounts = read("/proc/mounts");
    let path = directory.canonicalize().unwrap_or_default();
    let mount = mounts
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.len() > 2 && path.starts_with(fields[1]))
        .max_by_key(|fields| fields[1].len());
    format!(
        "{} x {}, {} GiB, Linux {}, {}",
        cores,
        model.unwrap_or("processor"),
        (kilobytes + 512 * 1024) / (1024 * 1024),
        read("/proc/sys/kernel/osrelease").trim(),
        mount.map_or("?", |fields| fields[2])
    )
}
