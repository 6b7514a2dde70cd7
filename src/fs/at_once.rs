//! Names that change at once. What most changes of names need is free and in memory: then a plain function does all of it inside the turns of all
//! partitions that have a part in it, and there is nothing to lock or to hide, since nobody sees the middle. In whatever isn't that simple (somebody else
//! is there or has a lock, a directory moves, a name is replaced or was one of several, a record must be read from the disk, there is no room) nothing
//! is done here, and the change goes the long way: `rename`, `unlink`.

use super::attributes::InodeRecord;
use super::keys::{self, EntryRecord};
use super::listing::new_position;
use super::state::{LockKey, Part, VolumeState};
use super::types::*;
use super::unlink::{is_last_link, note};
use super::volume::Volume;
use crate::engine::store::{Owed, Piece};
use crate::engine::{ChangeView, WriteError};
use std::sync::atomic::Ordering;

impl Volume {
    /// Gives a file another name that nobody has. None if that isn't to be had at once.
    pub(super) async fn rename_at_once(
        &self,
        (parent, name): (Inode, &[u8]),
        (new_parent, new_name): (Inode, &[u8]),
    ) -> Option<Answer<()>> {
        let here = self.part_of_entry(parent, name);
        let there = self.part_of_entry(new_parent, new_name);
        let (now, changing) = (self.now(), self.changing());
        let renamed = self.inner.store.try_together(here, there, || {
            if is_locked(here, || LockKey::Entry(parent, name.to_vec()))
                || is_locked(there, || LockKey::Entry(new_parent, new_name.to_vec()))
            {
                return None;
            }
            let (key, new_key) = (keys::entry(parent, name), keys::entry(new_parent, new_name));
            let source = EntryRecord::decode(&here.get_now(&key)??)?;
            if source.kind == Kind::Directory {
                return None;
            }
            let number = there.with(|core, state| {
                let is_free = !state.bars.contains_key(&new_parent) && !core.contains(&new_key);
                if is_free { state.counter.at_once() } else { None }
            });
            let entry = EntryRecord { position: new_position(there, number?), time: now, ..source }.encode();
            let note = note(now);
            let changes = [ChangeView::remove_with_note(&key, &note), ChangeView::put(&new_key, &entry)];
            let (leaves, comes) = changes.split_at(1);
            let committed = match here.id() == there.id() {
                true => self.inner.store.commit_now(&[Piece::new(here.id(), &changes)]),
                false => {
                    let pieces = [Piece::new(here.id(), leaves), Piece::new(there.id(), comes)];
                    self.inner.store.commit_now(&pieces)
                }
            };
            Some((committed?, source.inode))
        });
        let (committed, inode) = renamed?;
        let acknowledged = self.acknowledge(committed).await;
        if acknowledged.is_ok() {
            self.touch(parent, now);
            if new_parent != parent {
                self.touch(new_parent, now);
            }
            self.touch(inode, now);
        }
        drop(changing);
        Some(acknowledged)
    }

    /// Removes the only name of a file that the kernel knows. None if that isn't to be had at once.
    pub(super) async fn unlink_at_once(&self, parent: Inode, name: &[u8]) -> Option<Answer<()>> {
        let here = self.part_of_entry(parent, name);
        if is_locked(here, || LockKey::Entry(parent, name.to_vec())) {
            return None;
        }
        let key = keys::entry(parent, name);
        let inode = EntryRecord::decode(&here.get_now(&key)??)?.inode;
        let there = self.part_of_inode(inode);
        let (now, changing) = (self.now(), self.changing());
        let unlinked = self.inner.store.try_together(here, there, || {
            let may_go = |record: &InodeRecord| record.kind != Kind::Directory && is_last_link(record);
            let is_simple = there.with(|_, state| {
                state.live.get(&inode).is_some_and(|live| may_go(&live.record) && !live.orphan)
            });
            if !is_simple || is_locked(there, || LockKey::Inode(inode)) {
                return None;
            }
            let (note, orphan) = (note(now), keys::orphan(inode));
            let changes = [ChangeView::remove_with_note(&key, &note), ChangeView::put(&orphan, &[])];
            let (leaves, stays) = changes.split_at(1);
            let committed = match here.id() == there.id() {
                true => self.inner.store.commit_now(&[Piece::new(here.id(), &changes)]),
                false => {
                    let pieces = [Piece::new(here.id(), leaves), Piece::new(there.id(), stays)];
                    self.inner.store.commit_now(&pieces)
                }
            }?;
            // Whoever looks at it answers once all of this partition is settled.
            let is_held = committed.is_ok() && there.with(|_, state| lose_last_name(state, inode, now));
            Some((committed, is_held))
        });
        let (committed, is_held) = unlinked?;
        let is_gone = committed.is_ok();
        if is_gone {
            self.inner.tally.orphans.fetch_add(1, Ordering::Relaxed);
        }
        let acknowledged = self.acknowledge(committed).await;
        if acknowledged.is_ok() {
            self.touch(parent, now);
        }
        drop(changing);
        if is_gone && !is_held {
            let (volume, inside) = (self.clone(), there.clone());
            there.submit(async move { volume.clear_away_soon(&inside, inode) }).detach();
        }
        Some(acknowledged)
    }

    async fn acknowledge(&self, committed: Result<Owed, WriteError>) -> Answer<()> {
        match committed {
            // Mostly: then there is nothing to wait for.
            Ok(owed) => Ok(self.inner.store.settle_owed(owed).await?),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether somebody has or wants the lock.
fn is_locked(part: &Part, key: impl FnOnce() -> LockKey) -> bool {
    part.with(|_, state| !state.locks.is_empty() && state.locks.is_held(&key()))
}

/// In memory; returns whether the kernel holds the inode.
fn lose_last_name(state: &mut VolumeState, inode: Inode, now: Time) -> bool {
    let Some(live) = state.live.get_mut(&inode) else { return false };
    live.record.links = live.record.links.saturating_sub(1);
    live.record.changed = now;
    live.orphan = true;
    live.lookups > 0
}

#[cfg(test)]
mod tests {
    use super::super::errno::Errno;
    use super::super::state::Bar;
    use super::super::volume::{Near, VolumeConfig};
    use super::*;
    use crate::engine::clock::SimClock;
    use crate::engine::disk::sim::SimDisk;
    use crate::engine::locks::lock;
    use crate::engine::simulator::Player;
    use crate::engine::{Config, Policy, World};
    use parking_lot::Mutex;
    use std::sync::Arc;

    const STEPS_MAX: u64 = 10_000;
    const CALLER: Caller = Caller { uid: 0, gid: 0 };

    struct Rig {
        volume: Volume,
        player: Player,
    }

    impl Rig {
        fn new() -> Self {
            let (disk, clock) = (SimDisk::new(1), SimClock::new());
            let world =
                World { disk: Arc::new(disk.clone()), clock: clock.clone(), seed: 1, policy: Policy::Manual };
            let config = Config { create: true, partitions: Some(2), ..Config::default() };
            let volume = Volume::open(world, config, VolumeConfig::default()).unwrap();
            let mut player = Player::new(volume.store(), &disk, &clock, 1);
            player.run_until(STEPS_MAX, || volume.counts().directories > 0);
            let mut rig = Rig { volume, player };
            // Both partitions need numbers, which are set aside with the first ones.
            for name in ["u", "v", "w", "x", "y", "z"] {
                rig.make(name, Kind::File);
            }
            rig
        }

        /// Runs something near a name in the root.
        fn run<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
            &mut self,
            name: &str,
            operation: impl FnOnce(Volume) -> F,
        ) -> T {
            let slot = Arc::new(Mutex::new(None));
            let (answer, future) = (slot.clone(), operation(self.volume.clone()));
            let near = Near::Name(Inode::ROOT, name.as_bytes());
            self.volume.dispatch(near, async move { *answer.lock() = Some(future.await) });
            self.player.run_until(STEPS_MAX, || slot.lock().is_some());
            slot.lock().take().expect("it ends")
        }

        fn make(&mut self, name: &'static str, kind: Kind) -> Inode {
            let new = NewInode { kind, permissions: 0o644, umask: 0, device: 0, target: Vec::new() };
            let made = self.run(name, move |volume| async move {
                volume.make(CALLER, Inode::ROOT, name.as_bytes(), new).await
            });
            made.unwrap().inode
        }

        /// Tries it until the simulator, which shuts neighbours by dice, has let it go beside; None if it never goes.
        fn tried<F: Future<Output = Option<Answer<()>>> + Send + 'static>(
            &mut self,
            name: &str,
            attempt: impl Fn(Volume) -> F,
        ) -> Option<Answer<()>> {
            (0..50).find_map(|_| self.run(name, &attempt))
        }

        fn rename(&mut self, name: &'static str, new_name: &'static str) -> Option<Answer<()>> {
            self.tried(name, move |volume| async move {
                let (from, to) = ((Inode::ROOT, name.as_bytes()), (Inode::ROOT, new_name.as_bytes()));
                volume.rename_at_once(from, to).await
            })
        }

        fn unlink(&mut self, name: &'static str) -> Option<Answer<()>> {
            self.tried(name, move |volume| async move {
                volume.unlink_at_once(Inode::ROOT, name.as_bytes()).await
            })
        }

        fn inode_of(&mut self, name: &'static str) -> Answer<Inode> {
            let found = self
                .run(name, move |volume| async move { volume.lookup(Inode::ROOT, name.as_bytes()).await });
            found.map(|found| found.inode)
        }
    }

    /// Names of the root that live in both partitions.
    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

    #[test]
    fn what_is_simple_changes_at_once() {
        let mut rig = Rig::new();
        let homes = NAMES.map(|name| rig.volume.part_of_entry(Inode::ROOT, name.as_bytes()).id());
        assert!(homes.iter().any(|home| *home != homes[0]), "all in one partition tell nothing");
        for pair in NAMES.windows(2) {
            let inode = rig.make(pair[0], Kind::File);
            assert_eq!(rig.rename(pair[0], pair[1]), Some(Ok(())));
            assert_eq!((rig.inode_of(pair[0]), rig.inode_of(pair[1])), (Err(Errno::ENOENT), Ok(inode)));
            assert_eq!(rig.unlink(pair[1]), Some(Ok(())));
            assert_eq!(rig.inode_of(pair[1]), Err(Errno::ENOENT));
        }
        assert_eq!(rig.volume.counts().orphans, NAMES.len() as u64 - 1, "the kernel holds them");
    }

    #[test]
    fn what_is_not_simple_goes_the_long_way() {
        let mut rig = Rig::new();
        rig.make("a", Kind::Directory);
        let file = rig.make("b", Kind::File);
        assert_eq!((rig.rename("a", "new"), rig.unlink("a")), (None, None), "a directory");
        assert_eq!(rig.rename("b", "a"), None, "a name that is taken");
        assert_eq!((rig.rename("c", "new"), rig.unlink("c")), (None, None), "a name that isn't there");
        assert_eq!(rig.rename("b", "b"), None, "the same name");
        let linked = rig.run("c", move |volume| async move { volume.link(file, Inode::ROOT, b"c").await });
        assert_eq!(linked.unwrap().links, 2);
        assert_eq!(rig.unlink("b"), None, "one of two names");
        let bar = |volume: Volume, present: bool| async move {
            for part in volume.inner.store.partitions() {
                let inside = part.clone();
                part.call(async move {
                    inside.with(|_, state| match present {
                        true => drop(state.bars.insert(Inode::ROOT, Bar::default())),
                        false => drop(state.bars.remove(&Inode::ROOT)),
                    });
                })
                .await;
            }
        };
        rig.run("b", move |volume| bar(volume, true));
        assert_eq!(rig.rename("b", "new"), None, "into a directory that is about to go");
        rig.run("b", move |volume| bar(volume, false));
        assert_eq!(rig.rename("b", "new"), Some(Ok(())));
    }

    #[test]
    fn what_is_locked_goes_the_long_way() {
        for locked in ["from", "to", "inode"] {
            let mut rig = Rig::new();
            let inode = rig.make("from", Kind::File);
            let key = match locked {
                "inode" => LockKey::Inode(inode),
                name => LockKey::Entry(Inode::ROOT, name.as_bytes().to_vec()),
            };
            let near = if locked == "inode" { "from" } else { locked };
            let guard = rig.run(near, move |volume| async move {
                let part = volume.part_of_entry(Inode::ROOT, near.as_bytes()).clone();
                lock(&part, key).await
            });
            let mut attempt = || match locked {
                "inode" => rig.unlink("from"),
                _ => rig.rename("from", "to"),
            };
            assert_eq!(attempt(), None, "{locked}");
            drop(guard);
            assert_eq!(attempt(), Some(Ok(())), "{locked}");
        }
    }
}
