//! The world of one seed: a disk, a clock, lives of a filesystem, and what is known of each moment.

use super::tree::{Operation, Path, Tree, show_line};
use crate::engine::clock::SimClock;
use crate::engine::disk::sim::{Crash, Dice, SimDisk};
use crate::engine::simulator::Player;
use crate::engine::{Config, Durability, Policy, World};
use crate::fs::errno::Errno;
use crate::fs::types::*;
use crate::fs::volume::{Near, Volume, VolumeConfig};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

const STEPS_MAX: u64 = 400_000;
const CALLER: Caller = Caller { uid: 0, gid: 0 };

/// The tree at a moment between two operations, and the times of its directories and files as they were shown then.
struct Moment {
    tree: Tree,
    times: Vec<String>,
}

struct Simulation {
    disk: SimDisk,
    clock: Arc<SimClock>,
    dice: Dice,
    config: Config,
    moments: Vec<Moment>,
    /// Index of the last moment that a sync has covered.
    synced: usize,
    /// What was under way when the world ended.
    in_flight: Option<Operation>,
}

/// Runs a whole seed.
pub(super) fn run(seed: u64) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let config = Config {
        partitions: Some(dice.between(1, 3) as u16),
        durability: match dice.below(3) {
            0 => Durability::Interval(Duration::from_millis(dice.between(1, 2000))),
            _ => Durability::Explicit,
        },
        segment_bytes: 64 * 1024,
        compact_threshold: 0.3,
        ..Config::default()
    };
    let mut simulation = Simulation {
        disk: SimDisk::new(dice.roll()),
        clock: SimClock::new(),
        dice,
        config,
        moments: vec![Moment { tree: Tree::default(), times: Vec::new() }],
        synced: 0,
        in_flight: None,
    };
    let mut how = Crash::Kill;
    for life in 0..4 {
        how = simulation.live(how, life).map_err(|what| format!("life {life}, after {how:?}: {what}"))?;
    }
    Ok(())
}

impl Simulation {
    /// One life: open, judge, work, die. Returns how it died.
    fn live(&mut self, before: Crash, life: usize) -> Result<Crash, String> {
        let (volume, mut player) = loop {
            // Sometimes it dies while it opens, and once more.
            if self.dice.percent(20) {
                self.disk.crash_at(Some(self.disk.io_count() + self.dice.between(1, 25)));
            }
            match self.open() {
                Ok(volume) => {
                    let player = Player::new(volume.store(), &self.disk, &self.clock, self.dice.roll());
                    if !self.disk.is_dead() {
                        self.disk.crash_at(None);
                        break (volume, player);
                    }
                    player.bury();
                }
                Err(_) if self.disk.is_dead() => {}
                Err(error) => return Err(format!("a healthy store was refused: {error}")),
            }
            self.disk = self.disk.crash(before);
        };
        let stats = volume.store().stats();
        self.say(|| {
            format!(
                "life {life}, after {before:?}: goes on behind {}, {:?}",
                stats.last_number,
                volume.store().segment_stats()
            )
        });
        if life == 0 {
            // In the real world opening returns when a new root directory is durable.
            player.run_until(STEPS_MAX, || volume.counts().directories > 0);
        }
        self.judge(&volume, &mut player, before, life)?;
        self.in_flight = None;
        if self.dice.percent(50) {
            self.disk.crash_at(Some(self.disk.io_count() + self.dice.between(1, 150)));
        }
        for _ in 0..self.dice.between(1, 60) {
            self.act(&volume, &mut player)?;
            if self.disk.is_dead() || self.in_flight.is_some() {
                break;
            }
        }
        let how = if self.dice.percent(40) { Crash::Kill } else { Crash::Power };
        self.disk = self.disk.crash(how);
        player.bury();
        drop(volume);
        Ok(how)
    }

    fn open(&mut self) -> Result<Volume, crate::engine::OpenError> {
        let world = World {
            disk: Arc::new(self.disk.clone()),
            clock: self.clock.clone(),
            seed: self.dice.roll(),
            policy: Policy::Manual,
        };
        Volume::open(
            world,
            self.config.clone(),
            VolumeConfig { chunk_bytes: 4096, ..VolumeConfig::default() },
        )
    }

    /// What is there must be one moment, and not too early a one.
    fn judge(&mut self, volume: &Volume, player: &mut Player, how: Crash, life: usize) -> Result<(), String> {
        let (lines, times) = self.dump(volume, player)?;
        let last = self.moments.len() - 1;
        let earliest = if how == Crash::Kill { last } else { self.synced };
        let next = self.in_flight.as_ref().map(|operation| self.moments[last].tree.after(operation));
        // Several moments may look alike but for their times; some were never looked at.
        let looks_alike = |index: &usize| self.moments[*index].tree.show() == lines;
        let is_it =
            |index: &usize| self.moments[*index].times.is_empty() || self.moments[*index].times == times;
        let alike: Vec<usize> = (earliest..=last).rev().filter(looks_alike).collect();
        let found = match (alike.iter().copied().find(is_it), next) {
            (Some(index), _) => self.moments[index].tree.clone(),
            (None, Some(tree)) if tree.show() == lines => tree,
            (None, _) => {
                let end = &self.moments[last];
                let times_alike: Vec<_> = alike.iter().map(|index| &self.moments[*index].times).collect();
                return Err(format!(
                    "no moment from {earliest} to {last}: found {lines:?} {times:?}; alike were {alike:?} {times_alike:?}; the last was {:?} {:?}; in flight {:?}",
                    end.tree.show(),
                    end.times,
                    self.in_flight
                ));
            }
        };
        let findings =
            self.answer(volume, player, Near::Inode(Inode::ROOT), |v| async move { Ok(v.check().await) })?;
        let findings = findings.map_err(|error| format!("checking failed: {error:?}"))?;
        if !findings.is_empty() {
            return Err(format!("life {life}: the checker finds {findings:?}"));
        }
        player.run_until(STEPS_MAX, || volume.counts().orphans == 0);
        if volume.counts().orphans > 0 {
            return Err(format!("life {life}: files without a name stay: {:?}", volume.counts()));
        }
        self.moments = vec![Moment { tree: found, times }];
        self.synced = 0;
        Ok(())
    }

    /// Runs an operation to its end. An error is that the world ended meanwhile or that nothing goes on.
    fn answer<T: Send + 'static, F: Future<Output = Answer<T>> + Send + 'static>(
        &self,
        volume: &Volume,
        player: &mut Player,
        near: Near<'_>,
        operation: impl FnOnce(Volume) -> F,
    ) -> Result<Answer<T>, String> {
        let slot = Arc::new(Mutex::new(None));
        let (answer, future) = (slot.clone(), operation(volume.clone()));
        volume.dispatch(near, async move { *answer.lock() = Some(future.await) });
        player.run_until(STEPS_MAX, || slot.lock().is_some());
        slot.lock().take().ok_or_else(|| "an operation never answered".to_string())
    }

    /// For whoever looks into one seed.
    fn say(&self, what: impl FnOnce() -> String) {
        if std::env::var("BITKV_SEED").is_ok() {
            eprintln!("{}", what());
        }
    }

    fn act(&mut self, volume: &Volume, player: &mut Player) -> Result<(), String> {
        if self.dice.percent(10) {
            let now = self.moments.len() - 1;
            let synced = self.interruptible(volume, player, None, |v| async move { v.sync().await })?;
            if synced == Some(Ok(())) {
                let stats = volume.store().stats();
                self.say(|| format!("synced {now}: stable {} of {}", stats.stable, stats.last_number));
                self.synced = now;
            }
            return Ok(());
        }
        if self.dice.percent(4) {
            self.say(|| "compact".to_string());
            self.interruptible(volume, player, None, |v| async move { v.compact(None).await.map(drop) })?;
            return Ok(());
        }
        if self.dice.percent(10) {
            // Time passes: timers, flushes, watermarks.
            for _ in 0..self.dice.between(10, 300) {
                player.step();
            }
            return Ok(());
        }
        let tree = &self.moments.last().expect("there is one").tree;
        let Some(operation) = tree.choose(&mut self.dice) else { return Ok(()) };
        let next = tree.after(&operation);
        self.say(|| format!("moment {}: {operation:?}", self.moments.len() - 1));
        let doing = operation.clone();
        let done = self.interruptible(volume, player, Some(operation.clone()), |v| async move {
            perform(&v, doing).await
        })?;
        match done {
            None => Ok(()),
            Some(Ok(())) => {
                let dead = self.disk.is_dead();
                let seen = if dead { Err(String::new()) } else { self.dump(volume, player) };
                match seen {
                    Ok((lines, times)) => {
                        if lines != next.show() {
                            return Err(format!(
                                "after {operation:?}: {lines:#?} instead of {:#?}",
                                next.show()
                            ));
                        }
                        self.moments.push(Moment { tree: next, times });
                    }
                    // Acknowledged, and then the world ended before anybody looked.
                    Err(_) => self.moments.push(Moment { tree: next, times: Vec::new() }),
                }
                Ok(())
            }
            Some(Err(_)) if self.disk.is_dead() => {
                self.in_flight = Some(operation);
                Ok(())
            }
            Some(Err(error)) => Err(format!("{operation:?} failed: {error:?}")),
        }
    }

    /// Runs an operation to its end, or ends the world in its middle: then None.
    fn interruptible<F: Future<Output = Answer<()>> + Send + 'static>(
        &mut self,
        volume: &Volume,
        player: &mut Player,
        what: Option<Operation>,
        operation: impl FnOnce(Volume) -> F,
    ) -> Result<Option<Answer<()>>, String> {
        let slot = Arc::new(Mutex::new(None));
        let (answer, future) = (slot.clone(), operation(volume.clone()));
        volume.dispatch(Near::Inode(Inode::ROOT), async move { *answer.lock() = Some(future.await) });
        let steps = if self.dice.percent(3) { self.dice.between(1, 60) } else { STEPS_MAX };
        let disk = self.disk.clone();
        player.run_until(steps, || slot.lock().is_some() || disk.is_dead());
        let got = slot.lock().take();
        if got.is_none() {
            if steps == STEPS_MAX && !self.disk.is_dead() {
                return Err(format!("{what:?} never ends"));
            }
            // An end in the middle of nothing in particular is told by an operation that changes nothing.
            self.in_flight =
                Some(what.unwrap_or(Operation::Rename(vec!["-"], vec!["-"], RenameMode::Replace)));
            if matches!(&self.in_flight, Some(Operation::Rename(from, _, _)) if from == &vec!["-"]) {
                self.in_flight = None;
                self.disk.crash_at(Some(self.disk.io_count()));
            }
        }
        Ok(got)
    }

    /// What can be seen: a line a name, and times.
    fn dump(&self, volume: &Volume, player: &mut Player) -> Result<(Vec<String>, Vec<String>), String> {
        let near = Near::Inode(Inode::ROOT);
        let seen = self.answer(volume, player, near, |v| async move { walk(&v).await })?;
        seen.map_err(|error| format!("the tree can't be read: {error:?}"))
    }
}

/// Runs something where it belongs, from wherever the client is.
async fn within<T: Send + 'static, F: Future<Output = Answer<T>> + Send + 'static>(
    volume: &Volume,
    near: Near<'_>,
    operation: impl FnOnce(Volume) -> F,
) -> Answer<T> {
    volume.call(near, operation(volume.clone())).await
}

async fn lookup(volume: &Volume, parent: Inode, name: &str) -> Answer<Attributes> {
    let (near, name) = (name.as_bytes().to_vec(), name.as_bytes().to_vec());
    within(volume, Near::Name(parent, &near), |v| async move { v.lookup(parent, &name).await }).await
}

/// The inode at the end of a path; what was looked up is let go of by the caller.
async fn resolve(volume: &Volume, path: &[&'static str], held: &mut Vec<Inode>) -> Answer<Inode> {
    let mut at = Inode::ROOT;
    for name in path {
        at = lookup(volume, at, name).await?.inode;
        held.push(at);
    }
    Ok(at)
}

async fn perform(volume: &Volume, operation: Operation) -> Answer<()> {
    let mut held = Vec::new();
    let result = perform_held(volume, operation, &mut held).await;
    for inode in held {
        volume.forget(inode, 1);
    }
    result
}

async fn perform_held(volume: &Volume, operation: Operation, held: &mut Vec<Inode>) -> Answer<()> {
    let split = |path: &Path| (path[..path.len() - 1].to_vec(), path[path.len() - 1].as_bytes().to_vec());
    match operation {
        Operation::Create(path) | Operation::MakeDirectory(path) if path.is_empty() => Err(Errno::EINVAL),
        Operation::Create(ref path) | Operation::MakeDirectory(ref path) => {
            let kind = if matches!(operation, Operation::Create(_)) { Kind::File } else { Kind::Directory };
            let (parent, name) = split(path);
            let parent = resolve(volume, &parent, held).await?;
            let new = NewInode { kind, permissions: 0o755, umask: 0, device: 0, target: Vec::new() };
            let near = name.clone();
            let made = within(volume, Near::Name(parent, &near), |v| async move {
                v.make(CALLER, parent, &name, new).await
            });
            held.push(made.await?.inode);
            Ok(())
        }
        Operation::Write(path, offset, data) => {
            let inode = resolve(volume, &path, held).await?;
            let near = Near::Inode(inode);
            within(volume, near, |v| async move {
                v.write(CALLER, inode, offset, data, WriteEffects::default()).await
            })
            .await
            .map(drop)
        }
        Operation::Truncate(path, size) => {
            let inode = resolve(volume, &path, held).await?;
            let set = SetAttributes { size: Some(size), ..SetAttributes::default() };
            within(volume, Near::Inode(inode), |v| async move { v.setattr(CALLER, inode, set).await })
                .await
                .map(drop)
        }
        Operation::Unlink(path) => {
            let (parent, name) = split(&path);
            let parent = resolve(volume, &parent, held).await?;
            let near = name.clone();
            within(volume, Near::Name(parent, &near), |v| async move { v.unlink(parent, &name).await }).await
        }
        Operation::RemoveDirectory(path) => {
            let (parent, name) = split(&path);
            let parent = resolve(volume, &parent, held).await?;
            let near = name.clone();
            within(volume, Near::Name(parent, &near), |v| async move { v.rmdir(parent, &name).await }).await
        }
        Operation::Link(from, to) => {
            let inode = resolve(volume, &from, held).await?;
            let (parent, name) = split(&to);
            let parent = resolve(volume, &parent, held).await?;
            let near = name.clone();
            within(volume, Near::Name(parent, &near), |v| async move { v.link(inode, parent, &name).await })
                .await?;
            held.push(inode);
            Ok(())
        }
        Operation::Nameless(path, content) => {
            let parent = match &path {
                Some(path) => resolve(volume, &split(path).0, held).await?,
                None => Inode::ROOT,
            };
            let near = volume.any_name();
            let new =
                NewInode { kind: Kind::File, permissions: 0o600, umask: 0, device: 0, target: Vec::new() };
            let made = within(volume, Near::Name(parent, &near), |v| async move {
                v.make_nameless(CALLER, parent, near, new).await
            });
            let inode = made.await?.inode;
            held.push(inode);
            within(volume, Near::Inode(inode), |v| async move {
                v.write(CALLER, inode, 0, content, WriteEffects::default()).await
            })
            .await?;
            let Some(path) = path else { return Ok(()) };
            let name = split(&path).1;
            let near = name.clone();
            within(volume, Near::Name(parent, &near), |v| async move { v.link(inode, parent, &name).await })
                .await?;
            held.push(inode);
            Ok(())
        }
        Operation::Rename(from, to, mode) => {
            let (parent, name) = split(&from);
            let parent = resolve(volume, &parent, held).await?;
            let (new_parent, new_name) = split(&to);
            let new_parent = resolve(volume, &new_parent, held).await?;
            let near = name.clone();
            within(volume, Near::Name(parent, &near), |v| async move {
                v.rename(CALLER, parent, &name, new_parent, &new_name, mode).await
            })
            .await
        }
    }
}

/// Walks the whole tree, by way of listings, lookups and reads.
async fn walk(volume: &Volume) -> Answer<(Vec<String>, Vec<String>)> {
    let mut found = Vec::new();
    let mut times = Vec::new();
    let mut to_visit = vec![(Vec::<String>::new(), Inode::ROOT)];
    while let Some((path, directory)) = to_visit.pop() {
        let near = Near::Inode(directory);
        let shown = within(volume, near, |v| async move { v.getattr(directory).await }).await?;
        times.push((path.clone(), format!("{path:?} {:?} {:?}", shown.modified, shown.changed)));
        let entries =
            within(volume, near, |v| async move { v.readdir(directory, 0, 1000, false).await }).await?;
        for entry in entries {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            let attributes = lookup(volume, directory, &name).await?;
            let inode = attributes.inode;
            let mut path = path.clone();
            path.push(name);
            let content = match attributes.kind {
                Kind::File => {
                    let near = Near::Inode(inode);
                    within(volume, near, |v| async move { v.read(inode, 0, 1 << 20).await }).await?
                }
                _ => Vec::new(),
            };
            let is_directory = attributes.kind == Kind::Directory;
            if !is_directory {
                times.push((path.clone(), format!("{path:?} {:?}", attributes.changed)));
            }
            found.push((path.clone(), show_line(&path, attributes.kind, attributes.links, &content)));
            if is_directory {
                to_visit.push((path, inode));
            }
            volume.forget(inode, 1);
        }
    }
    found.sort();
    times.sort();
    Ok((found.into_iter().map(|(_, line)| line).collect(), times.into_iter().map(|(_, line)| line).collect()))
}
