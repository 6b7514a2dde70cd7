//! Names that change at once. What most changes of names need is free and in memory: then a plain function does all of it inside the turns of all
//! partitions that have a part in it, and there is nothing to lock or to hide, since nobody sees the middle. In whatever isn't that simple (somebody else
//! is there or has a lock, a directory moves, a name is replaced or was one of several, a record must be read from the disk, there is no room) nothing
//! is done here, and the change goes the long way: `rename`, `unlink`.

use super::attributes::InodeRecord;
use super::keys::{self, EntryRecord};
use super::listing::new_position;
use super::rename::Place;
use super::state::{LockKey, Part, VolumeState};
use super::types::*;
use super::unlink::{is_last_link, note};
use super::volume::Volume;
use crate::engine::store::Owed;
use crate::engine::{Batch, WriteError};
use std::sync::atomic::Ordering;

impl Volume {
    /// Gives a file another name that nobody has. None if that isn't to be had at once.
    pub(super) async fn rename_at_once(&self, here: &Part, from: &Place, to: &Place) -> Option<Answer<()>> {
        let there = self.part_of_entry(to.parent, &to.name);
        let (now, changing) = (self.now(), self.changing());
        let renamed = self.inner.store.try_together(here, there, || {
            let keys = (keys::entry(from.parent, &from.name), keys::entry(to.parent, &to.name));
            if is_locked(here, || from.lock_key()) || is_locked(there, || to.lock_key()) || keys.0 == keys.1 {
                return None;
            }
            let source = EntryRecord::decode(&here.get_now(&keys.0)??)?;
            if source.kind == Kind::Directory {
                return None;
            }
            let number = there.with(|core, state| {
                let free = !state.bars.contains_key(&to.parent) && !core.contains(&keys.1);
                if free { state.counter.at_once() } else { None }
            });
            let entry = EntryRecord { position: new_position(there, number?), time: now, ..source };
            let mut parts = Vec::with_capacity(2);
            let mut batch = Batch::new();
            batch.remove_with_note(keys.0, note(now));
            if there.id() != here.id() {
                parts.push((here.id(), std::mem::take(&mut batch)));
            }
            batch.put(keys.1, entry.encode());
            parts.push((there.id(), batch));
            Some((self.inner.store.commit_now(&parts)?, source.inode))
        });
        let (committed, inode) = renamed?;
        let acknowledged = self.acknowledge(committed).await;
        if acknowledged.is_ok() {
            self.touch(from.parent, now);
            if to.parent != from.parent {
                self.touch(to.parent, now);
            }
            self.touch(inode, now);
        }
        drop(changing);
        Some(acknowledged)
    }

    /// Removes the only name of a file that the kernel knows. None if that isn't to be had at once.
    pub(super) async fn unlink_at_once(&self, here: &Part, place: &Place) -> Option<Answer<()>> {
        let key = keys::entry(place.parent, &place.name);
        if is_locked(here, || place.lock_key()) {
            return None;
        }
        let entry = EntryRecord::decode(&here.get_now(&key)??)?;
        let inode = entry.inode;
        let there = self.part_of_inode(inode);
        let (now, changing) = (self.now(), self.changing());
        let unlinked = self.inner.store.try_together(here, there, || {
            if is_locked(there, || LockKey::Inode(inode)) {
                return None;
            }
            let may_go = |record: &InodeRecord| record.kind != Kind::Directory && is_last_link(record);
            let is_simple = there.with(|_, state| {
                state.live.get(&inode).is_some_and(|live| may_go(&live.record) && !live.orphan)
            });
            if !is_simple {
                return None;
            }
            let mut parts = Vec::with_capacity(2);
            let mut batch = Batch::new();
            batch.remove_with_note(key, note(now));
            if there.id() != here.id() {
                parts.push((here.id(), std::mem::take(&mut batch)));
            }
            batch.put(keys::orphan(inode), []).free_space();
            parts.push((there.id(), batch));
            let committed = self.inner.store.commit_now(&parts)?;
            // Whoever looks at it answers once all of this partition is settled.
            let is_held = committed.is_ok() && there.with(|_, state| lose_last_name(state, inode, now));
            Some((committed, is_held))
        });
        let (committed, is_held) = unlinked?;
        let gone = committed.is_ok();
        if gone {
            self.inner.tally.orphans.fetch_add(1, Ordering::Relaxed);
        }
        let acknowledged = self.acknowledge(committed).await;
        if acknowledged.is_ok() {
            self.touch(place.parent, now);
        }
        drop(changing);
        if gone && !is_held {
            let inside = there.clone();
            let volume = self.clone();
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
