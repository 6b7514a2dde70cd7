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
