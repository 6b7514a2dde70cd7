//! `bitkv load DATA`: a new store out of a dump. It gets its name when it is complete and durable.

use super::progress::{Progress, Unit};
use super::{USAGE, complain, finish, say};
use crate::engine::clock::RealClock;
use crate::engine::disk::uring::UringDisk;
use crate::engine::limits::PARTITIONS_MAX;
use crate::engine::{Config, Durability, Policy, World};
use crate::fs::dump;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const PROGRAM: &str = "bitkv load";

/// Loads a dump from a file, or from standard input, into a directory that isn't there yet, or is empty; returns the exit code.
pub fn run(data: &Path, input: Option<&Path>, partitions: Option<u16>) -> i32 {
    if partitions.is_some_and(|count| count == 0 || count > PARTITIONS_MAX) {
        complain(PROGRAM, &format!("a store has 1 to {PARTITIONS_MAX} partitions"));
        return USAGE;
    }
    finish(PROGRAM, load(data, input, partitions))
}

fn load(data: &Path, input: Option<&Path>, partitions: Option<u16>) -> Result<(), String> {
    let source: Box<dyn Read> = match input {
        Some(path) => Box::new(File::open(path).map_err(|error| format!("{}: {error}", path.display()))?),
        None => Box::new(io::stdin().lock()),
    };
    let staging = Staging::beside(data)?;
    let records = fill(&staging.path, BufReader::new(source), partitions)?;
    staging.switch(data)?;
    say(&format!("{PROGRAM}: {}: {records} records", data.display()));
    Ok(())
}

fn fill(directory: &Path, source: impl Read, partitions: Option<u16>) -> Result<u64, String> {
    let failed = |error| format!("{}: {error}", directory.display());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let disk = UringDisk::open(directory, workers, false).map_err(failed)?;
    let seed = disk.random_seed().map_err(failed)?;
    let world = World { disk, clock: RealClock::new(), seed, policy: Policy::Inline };
    let config =
        Config { partitions, auto_compact: false, durability: Durability::Explicit, ..Config::default() };
    let mut progress = Progress::new(PROGRAM, Unit::Records, 0);
    dump::load(source, world, config, |records| progress.at(records))
}

/// The directory of a store that isn't complete yet; it goes if nothing comes of it.
struct Staging {
    path: PathBuf,
}

impl Staging {
    fn beside(data: &Path) -> Result<Self, String> {
        let name = data.display();
        if fs::read_dir(data).is_ok_and(|mut found| found.next().is_some()) {
            return Err(format!(
                "{name}: not empty; a dump is loaded into a directory that is empty, or not there yet"
            ));
        }
        let absolute = std::path::absolute(data).map_err(|error| format!("{name}: {error}"))?;
        let mut staged = absolute.file_name().ok_or(format!("{name}: no place for a store"))?.to_os_string();
        staged.push(".loading");
        let path = absolute.with_file_name(staged);
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            let advice = match error.kind() {
                io::ErrorKind::AlreadyExists => "; an earlier load was broken off there: remove it",
                _ => "",
            };
            format!("{}: {error}{advice}", path.display())
        })?;
        Ok(Staging { path })
    }

    /// From now on it is the store.
    fn switch(&self, data: &Path) -> Result<(), String> {
        let failed = |error| format!("{}: {error}", data.display());
        fs::rename(&self.path, data).map_err(failed)?;
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        File::open(parent).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After the switch there is nothing.
        let _ = fs::remove_dir_all(&self.path);
    }
}
