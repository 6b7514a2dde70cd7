//! Names that go: unlink and rmdir; and what all commits on names share: taking the locks, hiding, letting an inode's link go.

use super::attributes::InodeRecord;
use super::errno::Errno;
use super::keys;
use super::operation::Operation;
use super::state::Part;
use super::state::{Guard, LockKey};
use super::types::*;
use super::volume::{Parts, Volume, at};
use crate::engine::locks::lock;
use std::sync::atomic::Ordering;

/// Locks that an operation holds, with the partition of each.
pub(super) struct Locked {
    pub(super) guards: Vec<(Part, LockKey, Guard)>,
}

/// An inode whose links change.
pub(super) struct Target {
    pub(super) record: InodeRecord,
    pub(super) content: Vec<u8>,
    pub(super) orphan: bool,
    /// It has never had a name.
    pub(super) unborn: bool,
    /// It isn't there: what was left of it is the name.
    pub(super) missing: bool,
}

impl Volume {
    /// Locks names, in the order that all keep.
    pub(super) async fn lock_names(&self, here: &Part, names: Vec<(Inode, Vec<u8>)>) -> Answer<Locked> {
        let keys = names
            .into_iter()
            .map(|(parent, name)| (self.part_of_entry(parent, &name).clone(), LockKey::Entry(parent, name)));
        self.lock_all(here, Locked::nothing(), keys.collect()).await
    }

    /// Locks inodes as well, in the order that all keep: after the names.
    pub(super) async fn lock_inodes(
        &self,
        here: &Part,
        locked: Locked,
        inodes: Vec<Inode>,
    ) -> Answer<Locked> {
        let keys = inodes.into_iter().map(|inode| (self.part_of_inode(inode).clone(), LockKey::Inode(inode)));
        self.lock_all(here, locked, keys.collect()).await
    }

    async fn lock_all(
        &self,
        here: &Part,
        mut locked: Locked,
        mut keys: Vec<(Part, LockKey)>,
    ) -> Answer<Locked> {
        keys.sort_by(|(part_a, key_a), (part_b, key_b)| (part_a.id(), key_a).cmp(&(part_b.id(), key_b)));
        keys.dedup_by(|(_, key_a), (_, key_b)| key_a == key_b);
        for (part, key) in keys {
            let (there, wanted) = (part.clone(), key.clone());
            let guard = at(here, &part, move || async move { Ok(lock(&there, wanted).await) }).await?;
            locked.guards.push((part, key, guard));
        }
        Ok(locked)
    }

    /// Commits, and lets nobody answer from what is locked until the commit is acknowledged.
    pub(super) async fn commit_hidden(&self, here: &Part, locked: &Locked, parts: Parts) -> Answer<()> {
        for (part, key, _) in &locked.guards {
            let (there, key) = (part.clone(), key.clone());
            at(here, part, move || async move {
                there.with(|_, state| state.locks.hide(&key));
                Ok(())
            })
            .await?;
        }
        self.commit(here, parts).await
    }

    /// What an operation must know of an inode whose links it changes. The caller holds its lock.
    pub(super) async fn target(&self, here: &Part, inode: Inode, loses_a_name: bool) -> Answer<Target> {
        let there = self.part_of_inode(inode).clone();
        let (volume, inside) = (self.clone(), there.clone());
        at(here, &there, move || async move {
            let record = match volume.load(&inside, inode).await {
                // How many names it had is lost with the rest; the others lead nowhere from now on, and can be removed as well.
                Err(Errno::EIO | Errno::ESTALE) if loses_a_name && !keys::is_directory(inode) => {
                    let missing = inside.with(|core, _| !core.contains(&keys::inode(inode)));
                    let record = InodeRecord::unknown(Kind::File);
                    return Ok(Target { record, content: Vec::new(), orphan: false, unborn: false, missing });
                }
                other => other?,
            };
            // What is about to go needn't be read: also what is damaged can be removed.
            let content = match loses_a_name && is_last_link(&record) {
                true => Vec::new(),
                false => volume.content_to_keep(&inside, inode, &record).await?,
            };
            let (orphan, unborn) = inside.with(|core, state| {
                let unborn = state.live.get(&inode).is_some_and(|live| live.unborn);
                (core.contains(&keys::orphan(inode)), unborn)
            });
            Ok(Target { record, content, orphan, unborn, missing: false })
        })
        .await
    }

    /// One name less for an inode, as part of a commit.
    pub(super) fn add_unlink(&self, parts: &mut Parts, inode: Inode, target: &Target, now: Time) {
        if target.missing {
            return;
        }
        let batch = parts.of(self.part_of_inode(inode));
        if is_last_link(&target.record) {
            batch.put(keys::orphan(inode), []);
        } else {
            let mut record = target.record;
            record.links -= 1;
            record.changed = now;
            batch.put(keys::inode(inode), record.encode(&target.content));
        }
        batch.free_space();
    }

    /// What [`add_unlink`](Self::add_unlink) wrote, in memory. An inode that nobody holds goes at once.
    pub(super) async fn apply_unlink(
        &self,
        here: &Part,
        inode: Inode,
        target: &Target,
        now: Time,
    ) -> Answer<()> {
        if target.missing {
            return Ok(());
        }
        let there = self.part_of_inode(inode).clone();
        let last = is_last_link(&target.record);
        if last {
            self.inner.tally.orphans.fetch_add(1, Ordering::Relaxed);
        }
        let (volume, inside) = (self.clone(), there.clone());
        at(here, &there, move || async move {
            let held = inside.with(|_, state| {
                let Some(live) = state.live.get_mut(&inode) else { return false };
                live.record.links = live.record.links.saturating_sub(1);
                live.record.changed = now;
                live.orphan = last;
                // Bars and listings of a directory go when the kernel lets go of it.
                live.listed |= last && keys::is_directory(inode);
                live.lookups > 0
            });
            if last && !held {
                if keys::is_directory(inode) {
                    volume.drop_listings(inode);
                }
                volume.clear_away_soon(&inside, inode);
            }
            Ok(())
        })
        .await
    }

    /// Removes a name that is no directory's.
    pub async fn unlink(&self, parent: Inode, name: &[u8]) -> Answer<()> {
        Operation::on_name("unlink", parent, name).begins();
        if let Some(unlinked) = self.unlink_at_once(parent, name).await {
            return unlinked;
        }
        // Kept elsewhere, so that what is done at once is small.
        Box::pin(self.unlink_locked(parent, name)).await
    }

    /// The long way.
    async fn unlink_locked(&self, parent: Inode, name: &[u8]) -> Answer<()> {
        let here = &self.part_of_entry(parent, name).clone();
        let locked = self.lock_names(here, vec![(parent, name.to_vec())]).await?;
        let entry = self.entry(here, parent, name).await?.ok_or(Errno::ENOENT)?;
        if entry.kind == Kind::Directory {
            return Err(Errno::EISDIR);
        }
        let locked = self.lock_inodes(here, locked, vec![entry.inode]).await?;
        let target = self.target(here, entry.inode, true).await?;
        let now = self.now();
        let mut parts = Parts::default();
        parts.of(here).remove_with_note(keys::entry(parent, name), note(now)).free_space();
        self.add_unlink(&mut parts, entry.inode, &target, now);
        let changing = self.changing();
        self.commit_hidden(here, &locked, parts).await?;
        self.touch(parent, now);
        drop(changing);
        self.apply_unlink(here, entry.inode, &target, now).await
    }

    /// Removes an empty directory.
    pub async fn rmdir(&self, parent: Inode, name: &[u8]) -> Answer<()> {
        Operation::on_name("rmdir", parent, name).begins();
        let here = self.part_of_entry(parent, name).clone();
        let locked = self.lock_names(&here, vec![(parent, name.to_vec())]).await?;
        let entry = self.entry(&here, parent, name).await?.ok_or(Errno::ENOENT)?;
        if entry.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let locked = self.lock_inodes(&here, locked, vec![parent, entry.inode]).await?;
        let target = self.target(&here, entry.inode, true).await?;
        if !self.bar_if_empty(&here, entry.inode).await? {
            return Err(Errno::ENOTEMPTY);
        }
        let now = self.now();
        let mut parts = Parts::default();
        parts.of(&here).remove_with_note(keys::entry(parent, name), note(now)).free_space();
        self.add_unlink(&mut parts, entry.inode, &target, now);
        let committed = match self.add_link_change(&here, &mut parts, parent, -1, now).await {
            Ok(()) => self.commit_hidden(&here, &locked, parts).await,
            Err(error) => Err(error),
        };
        self.unbar(entry.inode, committed.is_ok());
        committed?;
        self.apply_link_change(&here, parent, -1, now).await?;
        self.apply_unlink(&here, entry.inode, &target, now).await
    }
}

/// The last name of a file, or the only one of a directory.
pub(super) fn is_last_link(record: &InodeRecord) -> bool {
    record.kind == Kind::Directory || record.links <= 1
}

/// What the tombstone of a name tells: when it went.
pub(super) fn note(now: Time) -> Vec<u8> {
    let mut note = Vec::with_capacity(keys::TIME_BYTES);
    keys::put_time(&mut note, now);
    note
}
