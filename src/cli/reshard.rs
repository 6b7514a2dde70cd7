//! `bitkv reshard DATA --partitions N`: gives a store that isn't mounted another number of partitions.
//!
//! The new store is made beside the old one, as DATA.reshard, complete and durable; then the two directories change places in one step. Until then
//! the old store is what it was, from then on the new one counts: whatever happens in between, one of them is there whole.

use super::mounts;
use super::{DONE, FAILED, USAGE, complain, control};
use crate::engine::clock::RealClock;
use crate::engine::disk::Disk;
use crate::engine::disk::uring::UringDisk;
use crate::engine::limits::PARTITIONS_MAX;
use crate::engine::{Config, Durability, Policy, Store, World, library, reshard};
use crate::fs::reshard as filesystem;
use crate::fs::volume::{Volume, VolumeConfig};
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PROGRAM: &str = "bitkv reshard";
/// In a directory that was begun and isn't the store yet: we may remove it.
const MARK: &str = "RESHARD";
/// How often it is told how far the copying is.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Reshards; returns the exit code.
pub fn run(data: &Path, partitions: u16, yes: bool) -> i32 {
    let name = data.display();
    if partitions == 0 || partitions > PARTITIONS_MAX {
        complain(PROGRAM, &format!("a store has 1 to {PARTITIONS_MAX} partitions, not {partitions}"));
        return USAGE;
    }
    if !yes {
        complain(
            PROGRAM,
            &format!(
                "{name}: this copies the whole store beside itself and then replaces it; unmount it first, and say --yes"
            ),
        );
        return USAGE;
    }
    match reshard(data, partitions).and_then(|text| control::print(&text)) {
        Ok(()) => DONE,
        Err(reason) => {
            complain(PROGRAM, &format!("{name}: {reason}"));
            FAILED
        }
    }
}

fn reshard(data: &Path, partitions: u16) -> Result<String, String> {
    let data = data.canonicalize().map_err(|error| error.to_string())?;
    let manifest = fs::read_to_string(data.join("MANIFEST"))
        .map_err(|error| format!("MANIFEST: {error}; name the directory of a store"))?;
    if let Some(mounted) = mounts::of(&data) {
        return Err(format!("it is mounted on {}: unmount it first", mounted.mountpoint.display()));
    }
    let staging = Staging::beside(&data)?;
    let world = world_of(&data)?;
    // An opening that writes leaves a line in MANIFEST: this one's is the last until the switch.
    let (before, now) = if manifest.lines().any(|line| line.starts_with("option chunk-bytes ")) {
        let volume = Volume::open(world.clone(), config(), VolumeConfig::default())
            .map_err(|error| error.to_string())?;
        let copied = fill(&data, &staging, &world, volume.store(), partitions, |to, told| {
            filesystem::copy(&volume, to, told)
        });
        let closed = volume.close();
        let copied = copied?;
        closed.map_err(|error| std::io::Error::from_raw_os_error(error.0).to_string())?;
        copied
    } else {
        let store =
            Store::<()>::open(world.clone(), config(), |_| Ok(())).map_err(|error| error.to_string())?;
        let copied = fill(&data, &staging, &world, &store, partitions, |to, told| {
            reshard::copy(&store, to, |key, _| Ok(Some(library::slot_of(key))), told)
        });
        let closed = store.close();
        let copied = copied?;
        closed.map_err(|error| error.to_string())?;
        copied
    };
    staging.switch(&data, &now.manifest)?;
    Ok(format!("{}: {} partitions, were {before}; {} records\n", data.display(), partitions, now.records))
}

/// What a store was found to be, and came to.
struct Copied {
    /// The old store's MANIFEST while it was copied.
    manifest: Vec<u8>,
    records: u64,
}

/// Makes the new store in its place, complete, durable and closed; and looks whether everything is there. Returns how many partitions there were.
fn fill<S: Send + 'static>(
    data: &Path,
    staging: &Staging,
    world: &World,
    from: &Store<S>,
    partitions: u16,
    copy: impl FnOnce(&Store<()>, &mut dyn FnMut(u64)) -> Result<u64, String>,
) -> Result<(u16, Copied), String> {
    if from.partition_count() == partitions {
        return Err(format!("it has {partitions} partitions already"));
    }
    let manifest = fs::read(data.join("MANIFEST")).map_err(|error| format!("MANIFEST: {error}"))?;
    let stats = from.stats();
    let space = from.space().map_err(|error| format!("the space below: {error}"))?;
    let needed = stats.live_bytes + u64::from(partitions) * config().segment_bytes * 2;
    if space.available_bytes < needed {
        return Err(format!(
            "the copy needs {needed} bytes, and {} are free: make room first",
            space.available_bytes
        ));
    }
    staging.make(data)?;
    let new = world_of(&staging.path)?;
    let seed = [new.seed, new.seed.rotate_left(32) ^ world.seed];
    reshard::found(from, &*world.disk, &*new.disk, partitions, seed).map_err(|error| error.to_string())?;
    let to = Store::<()>::open(new, config(), |_| Ok(())).map_err(|error| error.to_string())?;
    let mut told = Instant::now();
    let copied = copy(&to, &mut |copied| {
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            eprintln!("{PROGRAM}: copied {copied} of {} records", stats.keys);
        }
    });
    let closed = to.close();
    let records = copied?;
    closed.map_err(|error| format!("making the new store durable: {error}"))?;
    let again =
        Store::<()>::open(world_of(&staging.path)?, Config { read_only: true, ..config() }, |_| Ok(()));
    let again = again.map_err(|error| format!("the new store can't be opened: {error}"))?;
    let found = again.stats().keys;
    let _ = again.close();
    if found != records {
        return Err(format!("the new store has {found} records where {records} were copied: this is a bug"));
    }
    Ok((from.partition_count(), Copied { manifest, records }))
}

fn config() -> Config {
    Config { create: false, auto_compact: false, durability: Durability::Explicit, ..Config::default() }
}

/// The real world of a store's directory.
fn world_of(directory: &Path) -> Result<World, String> {
    let failed = |error| format!("{}: {error}", directory.display());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let disk = UringDisk::open(directory, workers, false).map_err(failed)?;
    let seed = disk.random_seed().map_err(failed)?;
    let disk: Arc<dyn Disk> = disk;
    Ok(World { disk, clock: RealClock::new(), seed, policy: Policy::Inline })
}

/// The place of the new store before it is the store, and of the old one after that.
struct Staging {
    path: PathBuf,
}

impl Staging {
    /// A free place; what an interrupted resharding has left there is removed.
    fn beside(data: &Path) -> Result<Staging, String> {
        let mut name = data.file_name().ok_or("it has no name, and so no place beside it")?.to_os_string();
        name.push(".reshard");
        let path = data.with_file_name(name);
        if path.join(MARK).exists() {
            fs::remove_dir_all(&path).map_err(|error| format!("removing {}: {error}", path.display()))?;
        } else if path.exists() {
            return Err(format!(
                "{} is in the way: if it is what an earlier resharding has replaced, remove it",
                path.display()
            ));
        }
        Ok(Staging { path })
    }

    /// Makes the directory, like the store's.
    fn make(&self, data: &Path) -> Result<(), String> {
        let make = || {
            let like = fs::metadata(data)?;
            fs::DirBuilder::new().mode(0o700).create(&self.path)?;
            fs::write(self.path.join(MARK), "half-made by bitkv reshard\n")?;
            std::os::unix::fs::chown(&self.path, Some(like.uid()), Some(like.gid()))?;
            fs::set_permissions(&self.path, fs::Permissions::from_mode(like.mode() & 0o7777))
        };
        make().map_err(|error: std::io::Error| format!("making {}: {error}", self.path.display()))
    }

    /// The one step: from now on the new store is the store. `manifest` is the old one's, as it was while it was copied.
    fn switch(&self, data: &Path, manifest: &[u8]) -> Result<(), String> {
        let lock = File::open(data.join("LOCK")).map_err(|error| format!("LOCK: {error}"))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| "somebody has opened the store meanwhile; it is unchanged".to_string())?;
        if fs::read(data.join("MANIFEST")).is_ok_and(|bytes| bytes != manifest) {
            return Err("somebody has used the store meanwhile; it is unchanged".to_string());
        }
        let sync = |path: &Path| File::open(path).and_then(|directory| directory.sync_all());
        let exchange = || {
            fs::remove_file(self.path.join(MARK))?;
            sync(&self.path)?;
            let flags = RenameFlags::RENAME_EXCHANGE;
            renameat2(AT_FDCWD, &self.path, AT_FDCWD, data, flags)?;
            data.parent().map_or(Ok(()), sync)
        };
        exchange().map_err(|error: std::io::Error| {
            let (new, old) = (self.path.display(), data.display());
            format!("{new} and {old} can't change places: {error}; the filesystem must know RENAME_EXCHANGE, and neither may be a mountpoint")
        })?;
        fs::remove_dir_all(&self.path).map_err(|error| {
            format!("done, but the old store in {} can't be removed: {error}", self.path.display())
        })
    }
}
