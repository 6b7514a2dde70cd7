//! Opening a store: `bench_recovery DIRECTORY [KEYS [VALUE_BYTES]]`. Fills a store in a process of its own and leaves it closed, then killed, then
//! compacted; each is opened in a process of its own, cold (as root, who may drop the kernel's caches) and warm. Prints seconds, keys a second of
//! processor time, the memory that the process has grown by beside what `keydir_bytes` says, and what a key takes beyond its own bytes.

use bitkv::{Batch, Engine, EngineOptions};
use nix::sys::resource::{UsageWho, getrusage};
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const BATCH: u64 = 100;
const KEY_BYTES: usize = 16;

fn mix(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Keys in no order.
fn key(index: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&mix(index).to_be_bytes());
    key[8..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Processor time that this process has taken, in seconds.
fn processor_seconds() -> Result<f64, Box<dyn Error>> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = [usage.user_time(), usage.system_time()];
    Ok(seconds.iter().map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).sum())
}

/// A line of /proc/self/status that counts memory, in bytes.
fn memory_bytes(name: &str) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
    let kilobytes: u64 = line.split_whitespace().next().ok_or("no number")?.parse()?;
    Ok(kilobytes * 1024)
}

fn drop_caches() -> bool {
    nix::unistd::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

fn options() -> EngineOptions {
    EngineOptions { auto_compact: false, ..EngineOptions::default() }
}

fn leave(directory: &Path, keys: u64, value_bytes: usize, how: &str) -> Result<(), Box<dyn Error>> {
    let engine = Engine::open(directory, options())?;
    let value = vec![7; value_bytes];
    for _ in 0..if how == "compacted" { 2 } else { 1 } {
        for first in (0..keys).step_by(BATCH as usize) {
            let mut batch = Batch::new();
            for index in first..(first + BATCH).min(keys) {
                batch.put(key(index), value.as_slice());
            }
            engine.commit(batch)?;
        }
    }
    match how {
        "killed" => {
            nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::SIGKILL)?;
        }
        "compacted" => while engine.compact()? > 0 {},
        _ => {}
    }
    Ok(engine.close()?)
}

fn reopen(directory: &Path, keys: u64, how: &str) -> Result<(), Box<dyn Error>> {
    let before_bytes = memory_bytes("RssAnon:")?;
    let (start, processor_start) = (Instant::now(), processor_seconds()?);
    let engine = Engine::open(directory, options())?;
    assert!(engine.get(&key(0))?.is_some(), "a key is lost");
    let (seconds, processor) = (start.elapsed().as_secs_f64(), processor_seconds()? - processor_start);
    let grown_bytes = memory_bytes("RssAnon:")?.saturating_sub(before_bytes);
    let peak_bytes = memory_bytes("VmHWM:")?;
    let stats = engine.stats();
    assert_eq!(stats.keys, keys);
    println!(
        "{how}: {seconds:.3} s, {:.2} million keys a second of a processor; memory grew by {:.1} MB, {:.3} of keydir_bytes; \
         {:.1} bytes a key beyond its own; peak {:.1} MB",
        keys as f64 / processor / 1e6,
        grown_bytes as f64 / 1e6,
        grown_bytes as f64 / stats.keydir_bytes as f64,
        stats.keydir_bytes as f64 / keys as f64 - KEY_BYTES as f64,
        peak_bytes as f64 / 1e6,
    );
    Ok(engine.close()?)
}

fn child(arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    Command::new(std::env::current_exe()?).arg("--child").args(arguments).status()?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, work, directory, keys, value_bytes, how] = &arguments[..]
        && flag == "--child"
    {
        let directory = Path::new(directory);
        return match work.as_str() {
            "leave" => leave(directory, keys.parse()?, value_bytes.parse()?, how),
            _ => reopen(directory, keys.parse()?, how),
        };
    }
    let directory = arguments.first().ok_or("bench_recovery DIRECTORY [KEYS [VALUE_BYTES]]")?;
    let keys = arguments.get(1).map_or("1000000", String::as_str);
    let value_bytes = arguments.get(2).map_or("100", String::as_str);
    for how in ["closed", "killed", "compacted"] {
        let store = Path::new(directory).join(format!("bench-recovery-{}", std::process::id()));
        let path = store.to_str().ok_or("a directory whose name is text")?;
        child(&["leave", path, keys, value_bytes, how])?;
        // Each time it is opened as it was left.
        let kept = store.with_extension("kept");
        std::fs::rename(&store, &kept)?;
        for cold in [true, false] {
            copy(&kept, &store)?;
            let name = if cold && drop_caches() { "cold" } else { "warm" };
            child(&["reopen", path, keys, value_bytes, &format!("{how}, {name}")])?;
            std::fs::remove_dir_all(&store)?;
        }
        std::fs::remove_dir_all(&kept)?;
    }
    Ok(())
}

/// Copies a directory and all in it.
fn copy(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => drop(std::fs::copy(entry.path(), &target)?),
        }
    }
    Ok(())
}
