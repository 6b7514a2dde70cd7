//! Opening a store: lock, MANIFEST, recovery, the new epoch, the first segments; in this order, and synced in this order.

use super::common::{Common, Random, partition_dir};
use super::config::{Config, World};
use super::core::Core;
use super::disk::{Disk, FileHandle, Lock, Pool};
use super::error::OpenError;
use super::format::Damage;
use super::format::manifest::Manifest;
use super::format::segment::Origin;
use super::keydir::{Key, Keydir, Location};
use super::limits::{PARTITIONS_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use super::log::Log;
use super::order::Order;
use super::recovery::decide::{Decision, Tail, decide};
use super::recovery::index::{self, Index, IndexEntry};
use super::recovery::load::{Content, LoadedPartition, LoadedSegment, load, read_file};
use super::recovery::{failed, repair};
use super::segment::{NewSegment, Recipe, Segment, data_path, hint_path};
use super::shell::Shell;
use super::stats::{PartitionCounters, SegmentCounters, SegmentState, StoreCounters};
use super::turn::{Policy, Turn};
use super::types::{Epoch, Number, PartitionId, SegmentId, StoreId};
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

const MANIFEST: &str = "MANIFEST";
const MANIFEST_TEMPORARY: &str = "MANIFEST.tmp";
/// How often a lock that somebody else holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// What a partition holds right after recovery, shown once to whoever builds the state beside it.
pub struct Recovered<'a> {
    partition: PartitionId,
    entries: &'a [IndexEntry],
    segments: &'a [LoadedSegment],
}

/// A key as recovery found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredKey {
    /// The key.
    pub key: Vec<u8>,
    /// The number of the commit that changed it last.
    pub number: Number,
    /// Whether that commit removed it (only removals whose tombstone still has something to bury are listed).
    pub removed: bool,
}

impl Recovered<'_> {
    /// Which partition it is.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Keys changed or removed by commits with a number greater than `after`, in key order.
    pub fn changed_after(&self, after: Number) -> Vec<RecoveredKey> {
        let newer = self.entries.iter().filter(|entry| entry.number > after);
        newer
            .map(|entry| RecoveredKey {
                key: entry.key.as_slice().to_vec(),
                number: entry.number,
                removed: entry.entry.is_tombstone(),
            })
            .collect()
    }

    /// The number of the commit that changed the key last; None if the key isn't known.
    pub fn number(&self, key: &[u8]) -> Option<Number> {
        let position = self.entries.binary_search_by(|entry| entry.key.as_slice().cmp(key)).ok()?;
        Some(self.entries[position].number)
    }

    /// The value that a key has, or the note of its tombstone. Waits for the disk.
    ///
    /// # Errors
    /// If the disk fails or the record is damaged.
    pub fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, OpenError> {
        let Ok(position) = self.entries.binary_search_by(|entry| entry.key.as_slice().cmp(key)) else {
            return Ok(None);
        };
        self.read_at(key, self.entries[position].entry.location()).map(Some)
    }

    fn read_at(&self, key: &[u8], location: Location) -> Result<Vec<u8>, OpenError> {
        use super::format::record;
        let segment = self.segments.iter().find(|segment| segment.id == location.segment);
        let segment =
            segment.ok_or_else(|| OpenError::Damaged(format!("segment {} is gone", location.segment)))?;
        let path = data_path(self.partition, segment.id);
        let mut bytes = vec![0; record::encoded_length(key.len(), location.value_length as usize)];
        let count =
            segment.file.read_at(u64::from(location.offset), &mut bytes).map_err(failed(path.as_str()))?;
        match record::decode(&bytes[..count], segment.header.salt) {
            Ok(record) if record.key == key => Ok(record.value.to_vec()),
            _ => Err(OpenError::Damaged(format!(
                "{path}: the record at offset {} fails its checksum",
                location.offset
            ))),
        }
    }

    /// The live keys that start with a prefix, in order.
    pub fn live_keys<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.live(prefix).map(|entry| entry.key.as_slice())
    }

    fn live<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a IndexEntry> {
        let from = self.entries.partition_point(|entry| entry.key.as_slice() < prefix);
        self.entries[from..]
            .iter()
            .take_while(move |entry| entry.key.as_slice().starts_with(prefix))
            .filter(|entry| !entry.entry.is_tombstone())
    }
}

/// A store that was recovered and serves nothing yet.
pub(crate) struct Opened {
    pub(crate) common: Arc<Common>,
    pub(crate) shells: Vec<Arc<Shell>>,
    pub(crate) options: Vec<(String, String)>,
}

/// Opens or makes a store; `look` is shown all partitions before anything is served.
pub(crate) fn open(
    world: &World,
    config: Config,
    look: impl FnOnce(&[Recovered<'_>]) -> Result<(), OpenError>,
) -> Result<Opened, OpenError> {
    check_config(&config)?;
    let world = &World { disk: Pool::over(world.disk.clone(), config.open_files_max), ..world.clone() };
    let started_ns = world.clock.monotonic_ns();
    let disk = &*world.disk;
    let mut random = Random(world.seed);
    // A directory of somebody else's is left as it is: without a lock file of ours, for one.
    if read_manifest(disk)?.is_none() {
        check_is_empty(disk)?;
    }
    lock(disk, config.lock_wait)?;
    let mut manifest = match read_manifest(disk)? {
        Some(manifest) => manifest,
        None => create(disk, &config, &mut random)?,
    };
    check_manifest(&manifest, &config)?;

    let store = manifest.store;
    let ids: Vec<PartitionId> = (0..manifest.partitions).map(PartitionId).collect();
    let mut loaded = for_each(world.policy, ids, |id| load(disk, store, id, config.read_only))?;
    let decision = decide_all(&loaded, &manifest)?;
    let counters = StoreCounters::default();
    if !config.read_only {
        for partition in &mut loaded {
            repair_partition(disk, partition, &decision, &manifest, &counters)?;
        }
        begin_epoch(disk, &mut manifest, &loaded, &decision)?;
    }
    let owns = |epoch, number| manifest.owns(epoch, number);
    let indexed = for_each(world.policy, loaded, |partition| {
        let index = index::build(&partition.segments, &decision, owns)?;
        Ok((partition, index))
    })?;
    let recovered: Vec<Recovered<'_>> = indexed
        .iter()
        .map(|(partition, index)| Recovered {
            partition: partition.partition,
            entries: &index.entries,
            segments: &partition.segments,
        })
        .collect();
    look(&recovered)?;
    counters.recovery_keys.add(recovered.iter().map(|recovered| recovered.entries.len() as u64).sum());
    drop(recovered);

    let last: Vec<Number> = indexed.iter().map(|(partition, _)| last_number(partition)).collect();
    let epoch = manifest.epochs.last().map_or(Epoch(0), |life| life.0);
    let turns: Vec<_> = indexed.iter().map(|_| Turn::new(world.policy)).collect();
    let partition_counters = indexed.iter().map(|_| Arc::new(PartitionCounters::default())).collect();
    counters.recovery_ns.set(world.clock.monotonic_ns().saturating_sub(started_ns));
    let order = Order::new(epoch, decision.cut.next(), &last);
    if config.read_only {
        order.latch("it was opened read-only");
    }
    let common = Common::new(store, config, world, order, turns, partition_counters, counters, random);
    let common = Arc::new(common);
    let mut shells = Vec::new();
    let mut unsealed = Vec::new();
    for (partition, index) in indexed {
        let (shell, full) = start_partition(&common, partition, index)?;
        unsealed.extend(full.into_iter().map(|segment| (shell.clone(), segment)));
        shells.push(shell);
    }
    common.connect(&shells);
    let rounds = Arc::downgrade(&common);
    common.rounds.connect(Box::new(move || {
        if let Some(common) = rounds.upgrade() {
            let running = common.clone();
            common.spawn(0, async move { running.run_rounds().await });
        }
    }));
    // Only now that nothing can fail any more: an operation that nobody runs would keep what it was meant for.
    if !common.config.read_only {
        for (shell, segment) in unsealed {
            shell.clone().submit(async move { shell.seal(segment).await }).detach();
        }
    }
    Ok(Opened { common, shells, options: manifest.options })
}

fn check_config(config: &Config) -> Result<(), OpenError> {
    if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&config.segment_bytes) {
        return Err(OpenError::Config(format!(
            "a segment has {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} bytes, not {}",
            config.segment_bytes
        )));
    }
    if config.partitions.is_some_and(|count| count == 0 || count > PARTITIONS_MAX) {
        return Err(OpenError::Config(format!("a store has 1 to {PARTITIONS_MAX} partitions")));
    }
    Ok(())
}

/// Takes the store's lock, and waits for it as long as it was told to.
fn lock(disk: &dyn Disk, wait: Duration) -> Result<(), OpenError> {
    let started = Instant::now();
    loop {
        match disk.lock().map_err(failed("locking the store"))? {
            Lock::Ours => return Ok(()),
            Lock::Theirs(holder) if started.elapsed() >= wait => return Err(OpenError::Locked(holder)),
            Lock::Theirs(_) => std::thread::sleep(LOCK_RETRY.min(wait)),
        }
    }
}

fn read_manifest(disk: &dyn Disk) -> Result<Option<Manifest>, OpenError> {
    let bytes = match read_file(disk, MANIFEST) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::Io(format!("reading {MANIFEST}"), error)),
    };
    match Manifest::decode(&bytes) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(Damage::Version(version)) => {
            Err(OpenError::Newer(format!("{MANIFEST} has format version {version}")))
        }
        Err(damage) => Err(OpenError::Damaged(format!("{MANIFEST}: {damage}"))),
    }
}

/// Makes a store in an empty directory. It is there once MANIFEST is.
fn create(disk: &dyn Disk, config: &Config, random: &mut Random) -> Result<Manifest, OpenError> {
    if !config.create || config.read_only {
        return Err(OpenError::Foreign("there is no MANIFEST".to_string()));
    }
    check_is_empty(disk)?;
    let partitions = config.partitions.unwrap_or_else(default_partitions);
    for index in 0..partitions {
        let directory = partition_dir(PartitionId(index));
        disk.create_dir(&directory).map_err(failed(format!("creating {directory}")))?;
    }
    disk.sync_dir("").map_err(failed("syncing the directory"))?;
    let mut store = [0; 16];
    store[..8].copy_from_slice(&random.next().to_le_bytes());
    store[8..].copy_from_slice(&random.next().to_le_bytes());
    let manifest = Manifest {
        store: StoreId(store),
        partitions,
        features: Vec::new(),
        options: config.options.clone(),
        epochs: Vec::new(),
    };
    manifest.check().map_err(|damage| OpenError::Config(format!("an option can't be kept: {damage}")))?;
    write_manifest(disk, &manifest)?;
    Ok(manifest)
}

/// An error if there is anything that we would not have put there ourselves.
fn check_is_empty(disk: &dyn Disk) -> Result<(), OpenError> {
    let names = disk.list("").map_err(failed("reading the directory"))?;
    for name in names {
        let ours = ["LOCK", MANIFEST_TEMPORARY, "lost+found"].contains(&name.as_str());
        // A crash while a store was being made leaves empty partition directories behind.
        let begun = name.starts_with("partition_") && disk.list(&name).is_ok_and(|names| names.is_empty());
        if !ours && !begun {
            return Err(OpenError::Foreign(format!(
                "there is no MANIFEST, and the directory isn't empty ({name})"
            )));
        }
    }
    Ok(())
}

fn default_partitions() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.min(usize::from(PARTITIONS_MAX)) as u16
}

fn write_manifest(disk: &dyn Disk, manifest: &Manifest) -> Result<(), OpenError> {
    let write = || -> io::Result<()> {
        match disk.remove(MANIFEST_TEMPORARY) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(MANIFEST_TEMPORARY)?;
        file.write_at(0, manifest.encode().as_bytes())?;
        file.sync_data()?;
        disk.rename(MANIFEST_TEMPORARY, MANIFEST)?;
        disk.sync_dir("")
    };
    write().map_err(failed(format!("writing {MANIFEST}")))
}

fn check_manifest(manifest: &Manifest, config: &Config) -> Result<(), OpenError> {
    if let Some(feature) = manifest.unknown_feature(&[]) {
        return Err(OpenError::Newer(format!("it uses the feature {feature}")));
    }
    match config.partitions {
        Some(count) if count != manifest.partitions => Err(OpenError::Mismatch(format!(
            "the store was made with {} partitions, not {count}: open it without naming a count, or change it with bitkv reshard DATA --partitions {count}",
            manifest.partitions
        ))),
        _ => Ok(()),
    }
}

/// Does the same for several partitions: at once in the real world, one after the other in a simulated one.
fn for_each<T: Send, R: Send>(
    policy: Policy,
    inputs: Vec<T>,
    work: impl Fn(T) -> Result<R, OpenError> + Sync,
) -> Result<Vec<R>, OpenError> {
    if policy == Policy::Manual {
        return inputs.into_iter().map(work).collect();
    }
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = inputs.into_iter().map(|input| scope.spawn(move || work(input))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

fn decide_all(loaded: &[LoadedPartition], manifest: &Manifest) -> Result<Decision, OpenError> {
    for partition in loaded {
        check_sealed(partition)?;
    }
    let sealed =
        |segment: &&LoadedSegment| segment.is_sealed() || matches!(segment.content, Content::Hinted { .. });
    // Before its first number was given out, a life had everything before that number synced.
    let before_this_life =
        manifest.epochs.last().map_or(Number::ZERO, |life| Number(life.1.0.saturating_sub(1)));
    let w = loaded
        .iter()
        .flat_map(|partition| &partition.segments)
        .filter(sealed)
        .map(LoadedSegment::stable)
        .max()
        .unwrap_or(Number::ZERO)
        .max(before_this_life);
    let tails: Vec<Tail<'_>> = loaded
        .iter()
        .map(|partition| Tail {
            scans: partition.segments.iter().filter_map(tail_scan).collect(),
            sealed_last: partition
                .segments
                .iter()
                .filter(sealed)
                .map(LoadedSegment::last_number)
                .max()
                .unwrap_or(Number::ZERO),
        })
        .collect();
    // Lives are forgotten once they have nothing in an unsealed segment: such a frame's segment was sealed.
    let oldest = manifest.epochs.first().map_or(Epoch(0), |life| life.0);
    let frames = tails.iter().flat_map(|tail| &tail.scans).flat_map(|scan| &scan.frames);
    if let Some(frame) = frames.map(|frame| frame.header).find(|header| header.epoch < oldest) {
        return Err(OpenError::Damaged(format!(
            "the seal of the segment that holds number {} of life {} can't be read",
            frame.number, frame.epoch.0
        )));
    }
    decide(&tails, w, |epoch, number| manifest.owns(epoch, number)).map_err(OpenError::Damaged)
}

fn tail_scan(segment: &LoadedSegment) -> Option<&super::scan::Scan> {
    match &segment.content {
        Content::Scanned(scan) if !scan.is_sealed() => Some(scan),
        _ => None,
    }
}

/// Everything in a sealed segment was stable: what can't be read there hides keys.
fn check_sealed(partition: &LoadedPartition) -> Result<(), OpenError> {
    use super::scan::Condition;
    for segment in &partition.segments {
        let Content::Scanned(scan) = &segment.content else { continue };
        if !scan.is_sealed() {
            // An output got its name only after its seal.
            if segment.header.origin == Origin::Compaction {
                let path = data_path(partition.partition, segment.id);
                return Err(OpenError::Damaged(format!("{path}: its seal can't be read")));
            }
            continue;
        }
        let hidden = scan.frames.iter().find(|frame| frame.condition == Condition::KeysHidden);
        let offset = hidden.map(|frame| frame.offset).or(scan.gaps.first().map(|gap| gap.offset));
        if let Some(offset) = offset {
            return Err(OpenError::Damaged(format!(
                "{} at offset {offset}: which keys are there can't be read",
                data_path(partition.partition, segment.id)
            )));
        }
    }
    Ok(())
}

fn repair_partition(
    disk: &dyn Disk,
    partition: &mut LoadedPartition,
    decision: &Decision,
    manifest: &Manifest,
    counters: &StoreCounters,
) -> Result<(), OpenError> {
    // First, for their space: on a full disk what follows may need it.
    remove_empty(disk, partition)?;
    for segment in &mut partition.segments {
        if segment.is_sealed() {
            repair::confirm_seal(partition.partition, segment)?;
            continue;
        }
        let torn_bytes = repair::repair(disk, partition.partition, segment, decision, |epoch, number| {
            manifest.owns(epoch, number)
        })?;
        counters.torn_tail_bytes.add(torn_bytes);
    }
    remove_empty(disk, partition)
}

/// Removes segments made ahead, and tails of which nothing counts.
fn remove_empty(disk: &dyn Disk, partition: &mut LoadedPartition) -> Result<(), OpenError> {
    let id = partition.partition;
    let empty: Vec<_> =
        partition.segments.iter().filter(|s| !s.is_sealed() && !s.has_frames()).map(|s| s.id).collect();
    for segment in &empty {
        super::recovery::load::remove_segment(disk, id, *segment)
            .map_err(failed(format!("removing {}", data_path(id, *segment))))?;
    }
    partition.segments.retain(|segment| !empty.contains(&segment.id));
    Ok(())
}

/// The new life owns the numbers behind the cut; lives that left nothing in a tail are forgotten.
fn begin_epoch(
    disk: &dyn Disk,
    manifest: &mut Manifest,
    loaded: &[LoadedPartition],
    decision: &Decision,
) -> Result<(), OpenError> {
    let epoch = manifest.epochs.last().map_or(Epoch(1), |life| Epoch(life.0.0 + 1));
    // Also of tails that are known by their hints now: another time the hint may be gone.
    let unsealed =
        loaded.iter().flat_map(|partition| &partition.segments).filter(|segment| !segment.is_sealed());
    let oldest = unsealed.filter_map(LoadedSegment::first_epoch).min().unwrap_or(epoch);
    manifest.epochs.retain(|life| life.0 >= oldest);
    manifest.epochs.push((epoch, decision.cut.next()));
    write_manifest(disk, manifest)
}

fn last_number(partition: &LoadedPartition) -> Number {
    partition.segments.iter().map(LoadedSegment::last_number).max().unwrap_or(Number::ZERO)
}

/// Also tells which segments are full and have no seal.
fn start_partition(
    common: &Arc<Common>,
    partition: LoadedPartition,
    index: Index,
) -> Result<(Arc<Shell>, Vec<SegmentId>), OpenError> {
    let id = partition.partition;
    let mut next_segment = SegmentId(partition.last_segment.0 + 1);
    // The log goes on in the unsealed segment with the newest frame.
    let tail =
        partition.segments.iter().filter(|segment| !segment.is_sealed()).max_by_key(|s| s.last_number());
    let tail = tail.map(|segment| segment.id);
    let segment_bytes = common.config.segment_bytes;
    let mut segments = std::collections::BTreeMap::new();
    let mut log = None;
    let mut full = Vec::new();
    for loaded in partition.segments {
        let state = match loaded.is_sealed() {
            true => SegmentState::Sealed,
            false if Some(loaded.id) == tail && loaded.end() + 4096 < segment_bytes => SegmentState::Active,
            false => SegmentState::Full,
        };
        let segment = adopt(&loaded, state, &index);
        match state {
            SegmentState::Active => {
                log = Some(resume(common, id, &segment)?);
            }
            SegmentState::Full => full.push(segment.id),
            _ => {}
        }
        segments.insert(segment.id, segment);
    }
    let log = match log {
        Some(log) => log,
        None => {
            let new = first_segment(common, id, next_segment)?;
            next_segment = SegmentId(next_segment.0 + 1);
            segments.insert(new.id, Segment::from_new(&new, SegmentState::Active));
            Log::new(new.id, new.file, new.salt, new.header_bytes, new.file_bytes, true)
        }
    };
    let entries = index.entries.into_iter().map(|entry| (entry.key, entry.entry));
    let keydir = Keydir::from_sorted(entries.collect::<Vec<(Key, _)>>());
    let turn = common.turns[id.index()].clone();
    let core = Core::new(id, common.clone(), keydir, segments, next_segment, log);
    let shell = Shell::new(id, turn.clone(), common.clone(), core);
    connect(&turn, &shell);
    Ok((shell, full))
}

fn connect(turn: &Turn, shell: &Arc<Shell>) {
    let leaving: Weak<Shell> = Arc::downgrade(shell);
    let passing = leaving.clone();
    turn.connect(
        Box::new(move || {
            if let Some(shell) = leaving.upgrade() {
                shell.with(Core::leave);
            }
        }),
        Box::new(move |turn| match passing.upgrade() {
            Some(shell) => shell.pass_on(turn),
            None => turn.hold(),
        }),
    );
}

fn adopt(loaded: &LoadedSegment, state: SegmentState, index: &Index) -> Segment {
    let account = index.accounts.get(&loaded.id).copied().unwrap_or_default();
    let counters = Arc::new(SegmentCounters::default());
    counters.set_state(state);
    counters.live_bytes.set(account.live_bytes);
    counters.dead_bytes.set(account.dead_bytes);
    counters.live_records.set(account.live_records);
    counters.file_bytes.set(loaded.file_bytes);
    Segment {
        id: loaded.id,
        file: loaded.file.clone(),
        salt: loaded.header.salt,
        header_bytes: loaded.header.encoded_length() as u64,
        end: loaded.end(),
        last_number: loaded.last_number(),
        counters,
    }
}

/// Goes on in a segment: its space is taken again, or it is used as far as it goes.
fn resume(common: &Common, id: PartitionId, segment: &Segment) -> Result<Log, OpenError> {
    let mut file_bytes = common.config.segment_bytes;
    if !common.config.read_only
        && let Err(error) = segment.file.allocate(file_bytes)
    {
        tracing::warn!("partition {id}: no space to go on in segment {}: {error}", segment.id);
        segment.file.set_length(segment.end).map_err(failed(data_path(id, segment.id)))?;
        file_bytes = segment.end;
    }
    segment.counters.file_bytes.set(file_bytes);
    if !common.config.read_only {
        // What the last close left describes less than there will be. It would not be trusted; this spares the warning.
        let _ = common.disk.remove(&hint_path(id, segment.id));
    }
    Ok(Log::new(segment.id, segment.file.clone(), segment.salt, segment.end, file_bytes, false))
}

fn first_segment(common: &Common, id: PartitionId, segment: SegmentId) -> Result<NewSegment, OpenError> {
    if common.config.read_only {
        let file: FileHandle = Arc::new(super::disk::NoFile);
        return Ok(NewSegment { id: segment, file, salt: 0, header_bytes: 0, file_bytes: 0 });
    }
    let recipe = Recipe::new(common, id, segment, common.config.segment_bytes);
    recipe.make(&*common.disk).map_err(failed(format!("creating {}", data_path(id, segment))))
}
