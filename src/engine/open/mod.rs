//! Opening a store: lock, MANIFEST, recovery, the new epoch, the first segments; in this order, and synced in this order. Then the
//! partitions start.
//!
//! A disk that is full to the last byte may lack even the little that recovery writes. The store is then opened all the same, for reading
//! only, and says why.

mod manifest;
mod prepare;
mod recovered;
mod start;

pub use self::recovered::{Recovered, RecoveredKey};

use self::manifest::{check_is_empty, check_manifest, create, read_manifest};
use self::prepare::{Ready, prepare};
use self::start::start_partition;
use crate::engine::common::{Common, Random};
use crate::engine::config::{Config, World};
use crate::engine::disk::{Disk, Lock, Pool};
use crate::engine::error::OpenError;
use crate::engine::format::manifest::Manifest;
use crate::engine::format::segment::Origin;
use crate::engine::limits::{PARTITIONS_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::engine::opening::Opening;
use crate::engine::order::Order;
use crate::engine::recovery::decide::{Decision, Tail, decide};
use crate::engine::recovery::failed;
use crate::engine::recovery::index;
use crate::engine::recovery::load::{Content, LoadedPartition, LoadedSegment, load};
use crate::engine::recovery::salvage::manifest_of_segments;
use crate::engine::segment::data_path;
use crate::engine::shell::Shell;
use crate::engine::stats::{PartitionCounters, StoreCounters};
use crate::engine::turn::{Policy, Turn};
use crate::engine::types::{Epoch, Number, PartitionId};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a lock that somebody else holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// A store that was recovered and serves nothing yet.
pub(crate) struct Opened {
    pub(crate) common: Arc<Common>,
    pub(crate) shells: Vec<Arc<Shell>>,
    pub(crate) options: Vec<(String, String)>,
}

/// Opens or makes a store; `look` is shown all partitions before anything is served.
pub(crate) fn open(
    world: &World,
    mut config: Config,
    look: impl FnOnce(&[Recovered<'_>]) -> Result<(), OpenError>,
) -> Result<Opened, OpenError> {
    check_config(&config)?;
    config.read_only |= config.salvage;
    let world = &World { disk: Pool::over(world.disk.clone(), config.open_files_max), ..world.clone() };
    let started_ns = world.clock.monotonic_ns();
    let disk = &*world.disk;
    let mut random = Random(world.seed);
    // A directory of somebody else's is left as it is: without a lock file of ours, for one.
    if !config.salvage && read_manifest(disk)?.is_none() {
        check_is_empty(disk)?;
    }
    lock(disk, config.lock_wait)?;
    let opening = Opening::begin(world.clock.clone(), config.opening_watch.clone());
    let mut lost_manifest = None;
    let manifest = match read_manifest(disk) {
        Ok(Some(manifest)) => manifest,
        Ok(None) if !config.salvage => create(disk, &config, &mut random)?,
        Err(error) if !config.salvage || !matches!(error, OpenError::Damaged(_)) => return Err(error),
        lost => {
            let why = lost.err().unwrap_or_else(|| OpenError::Foreign("there is no MANIFEST".to_string()));
            let found = manifest_of_segments(disk, &config.options, &opening)?;
            let manifest = found.ok_or_else(|| OpenError::Damaged(why.to_string()))?;
            lost_manifest = Some(format!(
                "MANIFEST ({why}): the store is taken for one of {} partitions, with the options of a new one",
                manifest.partitions
            ));
            manifest
        }
    };
    check_manifest(&manifest, &config)?;

    let counters = StoreCounters::default();
    let mut read_only_reason = config.read_only.then(|| "it was opened read-only".to_string());
    let ready = match recover(world, &config, manifest, &counters, &mut random, &opening) {
        Err(OpenError::Io(what, error))
            if error.kind() == io::ErrorKind::StorageFull && !config.read_only =>
        {
            let reason = format!("the disk is full ({what}); make room and open the store again");
            tracing::error!("the store is read-only: {reason}");
            read_only_reason = Some(reason);
            config.read_only = true;
            let manifest = read_manifest(disk)?.ok_or(OpenError::Io(what, error))?;
            recover(world, &config, manifest, &counters, &mut random, &opening)?
        }
        ready => ready?,
    };
    let Ready { manifest, partitions, decision, fresh, mut losses } = ready;
    losses.extend(lost_manifest);
    if config.salvage && !losses.is_empty() {
        for loss in &losses {
            tracing::error!("lost: {loss}");
        }
        read_only_reason =
            Some(format!("opened for salvage; {} losses, see the log and errors", losses.len()));
    }
    let owns = |epoch, number| manifest.owns(epoch, number);
    let indexed = for_each(world.policy, partitions, |partition| {
        let index = index::build(&partition.segments, &decision, owns)?;
        opening.did(partition.segments.iter().map(|segment| segment.file_bytes).sum());
        Ok((partition, index))
    })?;
    let recovered: Vec<Recovered<'_>> = indexed
        .iter()
        .map(|(partition, index)| Recovered {
            partition: partition.partition,
            keydir: &index.keydir,
            numbers: &index.numbers,
            removals: &index.removals,
            segments: &partition.segments,
        })
        .collect();
    look(&recovered)?;
    counters.recovery_keys.add(recovered.iter().map(|recovered| recovered.numbers.len() as u64).sum());
    drop(recovered);

    let last: Vec<Number> = indexed.iter().map(|(partition, _)| last_number(partition)).collect();
    let epoch = manifest.epochs.last().map_or(Epoch(0), |life| life.0);
    let turns: Vec<_> = indexed.iter().map(|_| Turn::new(world.policy)).collect();
    let partition_counters = indexed.iter().map(|_| Arc::new(PartitionCounters::default())).collect();
    counters.recovery_ns.set(world.clock.monotonic_ns().saturating_sub(started_ns));
    let order = Order::new(epoch, decision.cut.next(), &last);
    if let Some(reason) = &read_only_reason {
        order.begin_read_only(reason);
    }
    let store = manifest.store;
    let common =
        Common::new(store, config, world, order, turns, partition_counters, counters, random, losses);
    let common = Arc::new(common);
    let mut shells = Vec::new();
    let mut unsealed = Vec::new();
    for ((partition, index), fresh) in indexed.into_iter().zip(fresh) {
        let (shell, full) = start_partition(&common, partition, index, fresh)?;
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

/// Reads what is there and decides what counts; makes the disk agree with it, unless it is opened for reading only.
fn recover(
    world: &World,
    config: &Config,
    manifest: Manifest,
    counters: &StoreCounters,
    random: &mut Random,
    opening: &Opening,
) -> Result<Ready, OpenError> {
    let ids: Vec<PartitionId> = (0..manifest.partitions).map(PartitionId).collect();
    let partitions =
        for_each(world.policy, ids, |id| load(&*world.disk, manifest.store, id, config.read_only, opening))?;
    let (decision, losses) = decide_all(&partitions, &manifest);
    if let (false, Some(first)) = (config.salvage, losses.first()) {
        let more = match losses.len() {
            1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        return Err(OpenError::Damaged(format!(
            "{first}{more}; an older value would come back in its place. What is left can be read with the option salvage"
        )));
    }
    let fresh = partitions.iter().map(|_| None).collect();
    let mut ready = Ready { manifest, partitions, decision, fresh, losses };
    if !config.read_only {
        prepare(world, config, &mut ready, counters, random)?;
    }
    Ok(ready)
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

/// What counts, and what was made durable and is lost.
fn decide_all(loaded: &[LoadedPartition], manifest: &Manifest) -> (Decision, Vec<String>) {
    let mut losses = Vec::new();
    for partition in loaded {
        losses.extend_from_slice(&partition.losses);
        check_sealed(partition, &mut losses);
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
        losses.push(format!(
            "the seal of the segment that holds number {} of life {} can't be read",
            frame.number, frame.epoch.0
        ));
    }
    let (decision, of_tails) = decide(&tails, w, |epoch, number| manifest.owns(epoch, number));
    losses.extend(of_tails);
    (decision, losses)
}

fn tail_scan(segment: &LoadedSegment) -> Option<&crate::engine::scan::Scan> {
    match &segment.content {
        Content::Scanned(scan) if !scan.is_sealed() => Some(scan),
        _ => None,
    }
}

/// Everything in a sealed segment was stable: what can't be read there hides keys.
fn check_sealed(partition: &LoadedPartition, losses: &mut Vec<String>) {
    use crate::engine::scan::Condition;
    for segment in &partition.segments {
        let path = data_path(partition.partition, segment.id);
        if let Content::Packed(index) = &segment.content {
            losses.extend(index.hidden.iter().map(|(offset, places)| {
                let count = places.end - places.start;
                format!("{path} at offset {offset}: whose {count} bytes of values are can't be read")
            }));
        }
        let Content::Scanned(scan) = &segment.content else { continue };
        if !scan.is_sealed() {
            // An output got its name only after its seal.
            if segment.header.origin != Origin::Log {
                losses.push(format!("{path}: its seal can't be read"));
            }
            continue;
        }
        let hidden = scan.frames.iter().filter(|frame| frame.condition == Condition::KeysHidden);
        losses.extend(hidden.map(|frame| {
            let (offset, number) = (frame.offset, frame.header.number);
            format!("{path} at offset {offset}: which keys number {number} has can't be read")
        }));
        losses.extend(scan.gaps.iter().map(|gap| {
            let behind = scan.frames[gap.before_frame].header.number;
            format!(
                "{path} at offset {}: which keys are there, up to number {behind}, can't be read",
                gap.offset
            )
        }));
    }
}

fn last_number(partition: &LoadedPartition) -> Number {
    partition.segments.iter().map(LoadedSegment::last_number).max().unwrap_or(Number::ZERO)
}
