//! The filesystem as transports see it: one async function an operation, in our own types. A handle; clones share it.
//!
//! Every operation runs inside the partition of what it names first (`Near`): use [`Volume::dispatch`] or [`Volume::call`] with the same
//! inode or name. What it needs of other partitions it asks of them.

use super::attributes::InodeRecord;
use super::chunk;
use super::directory::Flush;
use super::errno::Errno;
use super::keys::{self, MetaRecord, NAME_BYTES_MAX};
use super::operation::Operation;
use super::paths::Paths;
use super::state::{Counter, Part, VolumeState};
use super::types::*;
use crate::engine::reshard::wait;
use crate::engine::{
    Batch, Blockers, Config, Number, OpenError, PartitionId, Policy, Recovered, Store, World, WriteError,
};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often it is looked whether everything has come to rest.
const REST_POLL: Duration = Duration::from_millis(2);
/// Name of the option under which a store keeps the size of its chunks.
pub(super) const CHUNK_OPTION: &str = "chunk-bytes";
/// Sizes of chunks that can be asked for, in bytes: powers of two in this range.
pub const CHUNK_BYTES_RANGE: std::ops::RangeInclusive<u32> = 4096..=1024 * 1024;
/// The size of chunks unless told otherwise, in bytes.
pub const CHUNK_BYTES_DEFAULT: u32 = 16 * 1024;

/// An open filesystem.
#[derive(Clone)]
pub struct Volume {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Store<VolumeState>,
    pub(super) chunk_bytes: u32,
    pub(super) tally: Arc<Tally>,
    pub(super) flush: Flush,
    pub(super) paths: Paths,
    /// How many files were born without a name.
    pub(super) names_drawn: AtomicU64,
    blockers: Arc<Blockers>,
}

/// Inodes in use, counted as they come and go.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) files: AtomicU64,
    pub(super) directories: AtomicU64,
    pub(super) orphans: AtomicU64,
    pub(super) orphans_reclaimed: AtomicU64,
}

/// How many inodes of which sort there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Everything but directories.
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Inodes without a name that the kernel still holds.
    pub orphans: u64,
    /// Inodes without a name that an earlier life left behind and this one has removed.
    pub orphans_reclaimed: u64,
}

/// Settings of the filesystem.
#[derive(Clone, Debug)]
pub struct VolumeConfig {
    /// New store: size of a content chunk, in bytes: a power of two of 4 KiB to 1 MiB.
    pub chunk_bytes: u32,
    /// Owner of the root directory of a new store.
    pub root_uid: u32,
    /// Group of the root directory of a new store.
    pub root_gid: u32,
    /// How many of the threads that dispatch operations may wait for the disk at once.
    pub blocking_threads_max: usize,
    /// The volume is to be repaired, and nothing else happens in it: it opens although its root can't be read, and nothing goes by itself.
    pub repairing: bool,
}

impl Default for VolumeConfig {
    fn default() -> Self {
        VolumeConfig {
            chunk_bytes: CHUNK_BYTES_DEFAULT,
            root_uid: 0,
            root_gid: 0,
            blocking_threads_max: 0,
            repairing: false,
        }
    }
}

/// What an operation will touch first.
#[derive(Clone, Copy, Debug)]
pub enum Near<'a> {
    /// An inode.
    Inode(Inode),
    /// A name in a directory.
    Name(Inode, &'a [u8]),
}

impl Volume {
    /// Opens the store and the filesystem in it, or makes them. Removes what unlinked-open files a crash left behind.
    ///
    /// # Errors
    /// As [`Store::open`], and if the store holds something else than a filesystem.
    pub fn open(world: World, mut config: Config, volume: VolumeConfig) -> Result<Volume, OpenError> {
        if !volume.chunk_bytes.is_power_of_two() || !CHUNK_BYTES_RANGE.contains(&volume.chunk_bytes) {
            return Err(OpenError::Config(format!(
                "a chunk has a power of two from 4096 to 1048576 bytes, not {}",
                volume.chunk_bytes
            )));
        }
        let policy = world.policy;
        config.options.push((CHUNK_OPTION.to_string(), volume.chunk_bytes.to_string()));
        let tally = Arc::new(Tally::default());
        let mut orphans = Vec::new();
        let store = Store::open_together(world, config, |partitions| {
            orphans = partitions.iter().map(orphans_of).collect();
            states_of(partitions, &tally)
        })?;
        let chunk_bytes = store.option(CHUNK_OPTION).and_then(|text| text.parse().ok());
        let chunk_bytes = chunk_bytes.ok_or_else(|| {
            OpenError::Foreign(format!("the store has no {CHUNK_OPTION}: it holds no filesystem"))
        })?;
        let flush = Flush::new(store.partition_count());
        let blockers = Blockers::new(volume.blocking_threads_max);
        let volume_config = volume;
        let volume = Volume {
            inner: Arc::new(Inner {
                store,
                chunk_bytes,
                tally,
                flush,
                paths: Paths::default(),
                names_drawn: AtomicU64::new(0),
                blockers,
            }),
        };
        volume.start(&volume_config, policy, orphans)?;
        Ok(volume)
    }

    /// The root is there before anything is served; orphans go in the background.
    fn start(
        &self,
        config: &VolumeConfig,
        policy: Policy,
        orphans: Vec<Vec<Inode>>,
    ) -> Result<(), OpenError> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let volume = self.clone();
        let (uid, gid) = (config.root_uid, config.root_gid);
        let part = self.part_of_inode(Inode::ROOT);
        part.submit(async move {
            // Nobody waits in a simulated world.
            let _ = sender.send(volume.ensure_root(uid, gid).await);
        })
        .detach();
        if policy == Policy::Inline {
            match receiver.recv() {
                Ok(Ok(())) => {}
                Ok(Err(Errno::EIO)) if config.repairing => {}
                Ok(Err(error)) => {
                    let reason = std::io::Error::from_raw_os_error(error.0);
                    return Err(OpenError::Io("making the root directory".to_string(), reason));
                }
                Err(_) => return Err(OpenError::Damaged("the root directory can't be read".to_string())),
            }
        }
        if self.inner.store.config().read_only {
            return Ok(());
        }
        let orphans = if config.repairing { Vec::new() } else { orphans };
        for (part, orphans) in self.inner.store.partitions().iter().zip(orphans) {
            let (volume, inside) = (self.clone(), part.clone());
            part.submit(async move {
                for inode in orphans {
                    if volume.reclaim(&inside, inode).await.is_ok() {
                        volume.inner.tally.orphans_reclaimed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
            .detach();
        }
        // Until the first flush nothing may be compacted that could still be needed for times.
        self.inner.store.retain_after(Number::ZERO);
        self.arm_flush();
        Ok(())
    }

    /// Flushes what is kept in memory (times), removes files without a name that nobody holds, and closes the store. No operation may be under way.
    ///
    /// # Errors
    /// If not everything could be made durable; it is closed all the same.
    pub fn close(&self) -> Answer<()> {
        let flushed = if self.inner.store.config().read_only { Ok(()) } else { self.flush_and_wait() };
        self.inner.store.close()?;
        flushed
    }

    /// Waits until what goes on by itself has come to its end, so long at most: inodes that were let go of, files without a name that are
    /// cleared away. Whether it has. For who dispatches nothing meanwhile.
    pub fn come_to_rest(&self, wait_max: Duration) -> bool {
        let mut waited = Duration::ZERO;
        loop {
            for part in self.inner.store.partitions() {
                // Behind everything that was posted before.
                wait(part.call(async {}));
            }
            let read_only = self.inner.store.config().read_only;
            if read_only || self.counts().orphans == 0 || waited >= wait_max {
                return read_only || self.counts().orphans == 0;
            }
            std::thread::sleep(REST_POLL);
            waited += REST_POLL;
        }
    }

    /// The store below.
    pub fn store(&self) -> &Store<VolumeState> {
        &self.inner.store
    }

    /// Size of a chunk of content, in bytes.
    pub fn chunk_bytes(&self) -> u32 {
        self.inner.chunk_bytes
    }

    /// How many inodes there are. Enters no partition.
    pub fn counts(&self) -> Counts {
        let tally = &self.inner.tally;
        Counts {
            files: tally.files.load(Ordering::Relaxed),
            directories: tally.directories.load(Ordering::Relaxed),
            orphans: tally.orphans.load(Ordering::Relaxed),
            orphans_reclaimed: tally.orphans_reclaimed.load(Ordering::Relaxed),
        }
    }

    /// Starts an operation, on this thread if its partition is free; it answers by itself. `near` is what it names first.
    pub fn dispatch(&self, near: Near<'_>, operation: impl Future<Output = ()> + Send + 'static) {
        self.dispatch_made(self.partition_near(near), move || operation);
    }

    /// The same in the partition that [`partition_near`](Self::partition_near) tells, for an operation that is made where it will stay: see
    /// [`Partition::dispatch_made`](crate::engine::Partition::dispatch_made).
    pub fn dispatch_made<F: Future<Output = ()> + Send + 'static>(
        &self,
        near: PartitionId,
        make: impl FnOnce() -> F,
    ) {
        let part = self.inner.store.partition(near);
        self.inner.blockers.dispatch(|| part.dispatch_made(make));
    }

    /// Like [`dispatch`](Self::dispatch), for awaiting: EIO if the operation panicked.
    pub async fn call<T: Send + 'static>(
        &self,
        near: Near<'_>,
        operation: impl Future<Output = Answer<T>> + Send + 'static,
    ) -> Answer<T> {
        let call = self.part_near(near).call(operation);
        call.await.unwrap_or(Err(Errno::EIO))
    }

    /// The partition that an operation starts in.
    pub fn partition_near(&self, near: Near<'_>) -> PartitionId {
        self.part_near(near).id()
    }

    fn part_near(&self, near: Near<'_>) -> &Part {
        match near {
            Near::Inode(inode) => self.part_of_inode(inode),
            Near::Name(parent, name) => self.part_of_entry(parent, name),
        }
    }

    pub(super) fn part_of_inode(&self, inode: Inode) -> &Part {
        let store = &self.inner.store;
        store.partition(store.route(keys::slot_of_inode(inode)))
    }

    pub(super) fn part_of_entry(&self, parent: Inode, name: &[u8]) -> &Part {
        let store = &self.inner.store;
        store.partition(store.route(keys::slot_of_entry(parent, name)))
    }

    pub(super) fn now(&self) -> Time {
        let ns = self.inner.store.clock().wall_ns();
        Time { seconds: ns.div_euclid(1_000_000_000), nanoseconds: ns.rem_euclid(1_000_000_000) as u32 }
    }

    pub(super) fn size_max(&self) -> u64 {
        chunk::size_max(self.inner.chunk_bytes)
    }

    /// Makes everything acknowledged durable (fsync, fsyncdir, syncfs).
    pub async fn sync(&self) -> Answer<()> {
        Operation::on("sync", Inode::ROOT).begins();
        match self.inner.store.sync().await {
            // What can't be made durable is an I/O error to whoever asked for it.
            Err(WriteError::ReadOnly(_)) if !self.inner.store.config().read_only => Err(Errno::EIO),
            other => Ok(other?),
        }
    }

    /// True numbers.
    pub async fn statfs(&self) -> Answer<Statistics> {
        Operation::on("statfs", Inode::ROOT).begins();
        let space = self.inner.store.space().map_err(|_| Errno::EIO)?;
        let counts = self.counts();
        Ok(Statistics {
            total_bytes: space.total_bytes,
            available_bytes: space.available_bytes,
            inodes: counts.files + counts.directories,
        })
    }

    /// Commits what an operation has prepared, as one. `here` is the partition that the caller is in.
    pub(super) async fn commit(&self, here: &Part, parts: Parts) -> Answer<()> {
        let mut parts = parts.batches;
        if parts.len() == 1
            && let Some(batch) = parts.remove(&here.id())
        {
            return Ok(here.commit(batch).await?);
        }
        Ok(self.inner.store.commit_from(here, parts.into_iter().collect()).await?)
    }
}

/// The batches of a commit, by partition.
#[derive(Default)]
pub(super) struct Parts {
    batches: BTreeMap<PartitionId, Batch>,
}

impl Parts {
    pub(super) fn of(&mut self, part: &Part) -> &mut Batch {
        self.batches.entry(part.id()).or_default()
    }

    /// The commit may use the reserve when the disk is full: it frees space, or takes next to none.
    pub(super) fn allow_reserve(&mut self) {
        for batch in self.batches.values_mut() {
            batch.free_space();
        }
    }
}

/// Runs something inside another partition; directly, if that is the one where the caller is. It is made here: what is given as a
/// future would be kept twice, as it was given and as it is awaited.
pub(super) async fn at<T: Send + 'static, F: Future<Output = Answer<T>> + Send + 'static>(
    here: &Part,
    there: &Part,
    make: impl FnOnce() -> F,
) -> Answer<T> {
    if here.id() == there.id() {
        return make().await;
    }
    here.ask(there, make).await.unwrap_or(Err(Errno::EIO))
}

/// What may be a name.
pub(super) fn check_name(name: &[u8]) -> Answer<()> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

fn orphans_of(recovered: &Recovered<'_>) -> Vec<Inode> {
    recovered.live_keys(b"O").filter_map(keys::parse_inode).collect()
}

/// The states that partitions start with: counters, counts, and the times that directories owe to their entries.
fn states_of(partitions: &[Recovered<'_>], tally: &Tally) -> Result<Vec<VolumeState>, OpenError> {
    let metas: Vec<MetaRecord> = partitions.iter().map(meta_of).collect::<Result<_, _>>()?;
    let mut states: Vec<VolumeState> = metas
        .iter()
        .map(|meta| VolumeState {
            counter: Counter {
                next: meta.counter_end.max(1),
                end: meta.counter_end,
                promised: meta.counter_end,
                ..Counter::default()
            },
            absorbed: meta.absorbed,
            ..VolumeState::default()
        })
        .collect();
    let oldest = metas.iter().map(|meta| meta.absorbed).min().unwrap_or_default();
    for recovered in partitions {
        for key in recovered.live_keys(b"I") {
            let directory = keys::parse_inode(key).is_some_and(keys::is_directory);
            let counter = if directory { &tally.directories } else { &tally.files };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let orphans = recovered.live_keys(b"O").count() as u64;
        tally.orphans.fetch_add(orphans, Ordering::Relaxed);
        for changed in recovered.changed_after(oldest) {
            let Some((parent, _)) = keys::parse_entry(&changed.key) else { continue };
            let home = |inode: Inode| usize::from(keys::slot_of_inode(inode).0) % partitions.len();
            let value = match recovered.read(&changed.key) {
                // The time is lost with the record; what else that costs, whoever reads it is told.
                Err(OpenError::Damaged(_)) => continue,
                read => read?.unwrap_or_default(),
            };
            let entry = if changed.removed { None } else { keys::EntryRecord::decode(&value) };
            let time = match changed.removed {
                true => keys::get_time(&value, 0),
                false => entry.map(|entry| entry.time),
            };
            let Some(time) = time else { continue };
            // A directory's own name is part of its own record.
            if let Some(file) = entry.map(|entry| entry.inode).filter(|inode| !keys::is_directory(*inode))
                && changed.number > metas[home(file)].absorbed
            {
                states[home(file)].owe_time(file, time);
            }
            // Times that were set by hand overrule what happened before.
            let own = partitions[home(parent)].read(&keys::inode(parent)).ok().flatten();
            let overruled =
                own.and_then(|bytes| Some(InodeRecord::decode(&bytes)?.0.overruled)).unwrap_or_default();
            if changed.number > metas[home(parent)].absorbed.max(overruled) {
                states[home(parent)].owe_time(parent, time);
            }
        }
    }
    Ok(states)
}

fn meta_of(recovered: &Recovered<'_>) -> Result<MetaRecord, OpenError> {
    match recovered.read(&keys::meta())? {
        None => Ok(MetaRecord::default()),
        Some(bytes) => MetaRecord::decode(&bytes).ok_or_else(|| {
            OpenError::Foreign("the store holds no filesystem that this version knows".to_string())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::{RealClock, SimClock};
    use crate::engine::disk::sim::SimDisk;
    use crate::fs::traffic::Traffic;

    const KEPT_BYTES: usize = 4000;

    /// An operation that keeps a lot over an await.
    async fn large() -> Answer<u8> {
        let mut kept = [0; KEPT_BYTES];
        std::future::poll_fn(|_| {
            kept[0] += 1;
            std::task::Poll::Ready(())
        })
        .await;
        Ok(kept[KEPT_BYTES - 1])
    }

    #[test]
    fn an_operation_is_kept_once_by_whoever_runs_it() {
        let disk = Arc::new(SimDisk::new(1));
        let world = World { disk, clock: SimClock::new(), seed: 1, policy: Policy::Manual };
        let config = Config { create: true, partitions: Some(2), ..Config::default() };
        let volume = Volume::open(world, config, VolumeConfig::default()).unwrap();
        let parts = volume.inner.store.partitions();
        assert!(std::mem::size_of_val(&at(&parts[0], &parts[1], large)) < KEPT_BYTES + 300);
        let passage = Traffic::new(RealClock::new(), 1).enter(PartitionId(0)).unwrap();
        let carried = passage.carry(|| async { assert!(large().await.is_ok()) });
        assert!(std::mem::size_of_val(&carried) < KEPT_BYTES + 700);
    }
}
