//! Renaming: one commit over all partitions that have a part in it, so after a crash it has happened or it hasn't.

use super::attributes::InodeRecord;
use super::bars::Intent;
use super::errno::Errno;
use super::keys::{self, EntryRecord};
use super::listing::new_position;
use super::make::Birth;
use super::operation::Operation;
use super::state::Part;
use super::types::*;
use super::unlink::{Locked, Target, note};
use super::volume::{Parts, Volume, at, check_name};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// A name in a directory.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    parent: Inode,
    name: Vec<u8>,
}

impl Volume {
    /// Renames. Near the old name. That a directory doesn't become its own ancestor is the kernel's to see to: it has the whole path.
    pub async fn rename(
        &self,
        caller: Caller,
        parent: Inode,
        name: &[u8],
        new_parent: Inode,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Answer<()> {
        Operation::on_name("rename", parent, name).begins();
        check_name(new_name)?;
        if matches!(mode, RenameMode::Replace | RenameMode::NoReplace)
            && let Some(renamed) = self.rename_at_once((parent, name), (new_parent, new_name)).await
        {
            return renamed;
        }
        let from = Place { parent, name: name.to_vec() };
        let to = Place { parent: new_parent, name: new_name.to_vec() };
        // Kept elsewhere, so that what is done at once is small.
        Box::pin(self.rename_locked(caller, from, to, mode)).await
    }

    /// The long way.
    async fn rename_locked(&self, caller: Caller, from: Place, to: Place, mode: RenameMode) -> Answer<()> {
        let here = &self.part_of_entry(from.parent, &from.name).clone();
        let there = self.part_of_entry(to.parent, &to.name).clone();
        let names = vec![(from.parent, from.name.clone()), (to.parent, to.name.clone())];
        let locked = self.lock_names(here, names).await?;
        let source = self.entry(here, from.parent, &from.name).await?.ok_or(Errno::ENOENT)?;
        let keeps_target = matches!(mode, RenameMode::NoReplace | RenameMode::Whiteout { replace: false });
        if from == to {
            return if keeps_target { Err(Errno::EEXIST) } else { Ok(()) };
        }
        let (volume, inside, wanted) = (self.clone(), there.clone(), to.clone());
        let found = at(here, &there, move || async move {
            let intent = Intent::announce(&inside, wanted.parent).await?;
            let replaced = volume.entry(&inside, wanted.parent, &wanted.name).await?;
            // A name that stays keeps its position: whoever is listing sees it once.
            let position = match &replaced {
                Some(replaced) => replaced.position,
                None => new_position(&inside, volume.next_number(&inside).await?),
            };
            Ok((intent, replaced, position))
        });
        let (_intent, replaced, position) = found.await?;
        match (mode, replaced) {
            (_, Some(_)) if keeps_target => return Err(Errno::EEXIST),
            (RenameMode::Exchange, None) => return Err(Errno::ENOENT),
            // Two names of one file stay as they are.
            (_, Some(replaced)) if replaced.inode == source.inode => return Ok(()),
            _ => {}
        }
        if source.inode == to.parent {
            return Err(Errno::EINVAL);
        }
        match (mode, replaced) {
            (RenameMode::Exchange, Some(other)) => {
                self.exchange(here, locked, (from, source), (to, other)).await
            }
            (_, replaced) => {
                let left = match mode {
                    RenameMode::Whiteout { .. } => {
                        Some(self.whiteout(here, caller, from.parent, &from.name, source.position).await?)
                    }
                    _ => None,
                };
                let source = EntryRecord { position, ..source };
                self.replace(here, &there, locked, (from, source), (to, replaced), left).await
            }
        }
    }

    /// The source's position is already that of the new name. What is `left` takes the old one.
    async fn replace(
        &self,
        here: &Part,
        there: &Part,
        locked: Locked,
        (from, source): (Place, EntryRecord),
        (to, replaced): (Place, Option<EntryRecord>),
        left: Option<Birth>,
    ) -> Answer<()> {
        let moves_directory = source.kind == Kind::Directory;
        if let Some(replaced) = replaced {
            match (moves_directory, replaced.kind == Kind::Directory) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                _ => {}
            }
        }
        let mut links = BTreeMap::new();
        if moves_directory {
            *links.entry(from.parent).or_insert(0) -= 1;
            *links.entry(to.parent).or_insert(0) += 1;
            if replaced.is_some() {
                *links.entry(to.parent).or_insert(0) -= 1;
            }
        }
        let mut inodes = Vec::from_iter(moves_directory.then_some(source.inode));
        inodes.extend(replaced.map(|replaced| replaced.inode));
        inodes.extend(links.keys());
        let locked = self.lock_inodes(here, locked, inodes).await?;
        let victim = match replaced {
            Some(replaced) => Some((replaced.inode, self.target(here, replaced.inode, true).await?)),
            None => None,
        };
        let barred = match &victim {
            Some((inode, _)) if moves_directory => {
                if !self.bar_if_empty(here, *inode).await? {
                    return Err(Errno::ENOTEMPTY);
                }
                Some(*inode)
            }
            _ => None,
        };
        let moved =
            self.replace_barred(here, there, &locked, (&from, source), &to, links, victim, left).await;
        if let Some(inode) = barred {
            self.unbar(inode, moved.is_ok());
        }
        moved
    }

    #[expect(clippy::too_many_arguments, reason = "the second half of one function: what it has found out")]
    async fn replace_barred(
        &self,
        here: &Part,
        there: &Part,
        locked: &Locked,
        (from, source): (&Place, EntryRecord),
        to: &Place,
        links: BTreeMap<Inode, i32>,
        victim: Option<(Inode, Target)>,
        left: Option<Birth>,
    ) -> Answer<()> {
        let now = left.as_ref().map_or_else(|| self.now(), Birth::time);
        let entry = EntryRecord { time: now, ..source };
        let mut parts = Parts::default();
        match &left {
            Some(birth) => birth.add_to(parts.of(here)),
            None => drop(parts.of(here).remove_with_note(keys::entry(from.parent, &from.name), note(now))),
        }
        parts.of(there).put(keys::entry(to.parent, &to.name), entry.encode());
        self.add_changed(here, &mut parts, source, now).await?;
        if let Some((inode, target)) = &victim {
            self.add_unlink(&mut parts, *inode, target, now);
        }
        self.add_parents(here, &mut parts, [from.parent, to.parent], &links, now).await?;
        if left.is_none() {
            parts.allow_reserve();
        }
        let changing = self.changing();
        self.commit_hidden(here, locked, parts).await?;
        self.touch_parents([from.parent, to.parent], &links, now);
        self.touch_if_file(source, now);
        drop(changing);
        if left.is_some() {
            self.inner.tally.files.fetch_add(1, Ordering::Relaxed);
        }
        self.apply_changed(here, source, now).await?;
        for (parent, change) in links.into_iter().filter(|(_, change)| *change != 0) {
            self.apply_link_change(here, parent, change, now).await?;
        }
        if let Some((inode, target)) = &victim {
            self.apply_unlink(here, *inode, target, now).await?;
        }
        Ok(())
    }

    async fn exchange(
        &self,
        here: &Part,
        locked: Locked,
        (from, source): (Place, EntryRecord),
        (to, other): (Place, EntryRecord),
    ) -> Answer<()> {
        let mut links = BTreeMap::new();
        for (entry, leaves, enters) in [(source, from.parent, to.parent), (other, to.parent, from.parent)] {
            if entry.kind == Kind::Directory {
                *links.entry(leaves).or_insert(0) -= 1;
                *links.entry(enters).or_insert(0) += 1;
            }
        }
        let mut inodes = vec![source.inode, other.inode];
        inodes.extend(links.keys());
        let locked = self.lock_inodes(here, locked, inodes).await?;
        let now = self.now();
        let there = self.part_of_entry(to.parent, &to.name).clone();
        let at_from = EntryRecord { position: source.position, time: now, ..other };
        let at_to = EntryRecord { position: other.position, time: now, ..source };
        let mut parts = Parts::default();
        parts.of(here).put(keys::entry(from.parent, &from.name), at_from.encode());
        parts.of(&there).put(keys::entry(to.parent, &to.name), at_to.encode());
        for moved in [source, other] {
            self.add_changed(here, &mut parts, moved, now).await?;
        }
        self.add_parents(here, &mut parts, [from.parent, to.parent], &links, now).await?;
        let changing = self.changing();
        self.commit_hidden(here, &locked, parts).await?;
        self.touch_parents([from.parent, to.parent], &links, now);
        for moved in [source, other] {
            self.touch_if_file(moved, now);
        }
        drop(changing);
        for moved in [source, other] {
            self.apply_changed(here, moved, now).await?;
        }
        for (parent, change) in links.into_iter().filter(|(_, change)| *change != 0) {
            self.apply_link_change(here, parent, change, now).await?;
        }
        Ok(())
    }

    /// Parents whose link counts change are part of the commit; the others hear of it afterwards.
    async fn add_parents(
        &self,
        here: &Part,
        parts: &mut Parts,
        parents: [Inode; 2],
        links: &BTreeMap<Inode, i32>,
        now: Time,
    ) -> Answer<()> {
        for parent in parents {
            match links.get(&parent) {
                Some(change) if *change != 0 => {
                    self.add_link_change(here, parts, parent, *change, now).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn touch_parents(&self, parents: [Inode; 2], links: &BTreeMap<Inode, i32>, now: Time) {
        for parent in parents {
            if links.get(&parent).is_none_or(|change| *change == 0) {
                self.touch(parent, now);
            }
        }
    }

    /// A file that was renamed hears of it afterwards, as directories do of names in them.
    fn touch_if_file(&self, moved: EntryRecord, now: Time) {
        if moved.kind != Kind::Directory {
            self.touch(moved.inode, now);
        }
    }

    /// The record of a directory that moves with a new time of change, as part of a commit. The caller holds its lock.
    async fn add_changed(&self, here: &Part, parts: &mut Parts, moved: EntryRecord, now: Time) -> Answer<()> {
        if moved.kind == Kind::Directory {
            let target = self.target(here, moved.inode, false).await?;
            let record = InodeRecord { changed: now, ..target.record };
            parts.of(self.part_of_inode(moved.inode)).put(keys::inode(moved.inode), record.encode(&[]));
        }
        Ok(())
    }

    async fn apply_changed(&self, here: &Part, moved: EntryRecord, now: Time) -> Answer<()> {
        if moved.kind != Kind::Directory {
            return Ok(());
        }
        let (inode, there) = (moved.inode, self.part_of_inode(moved.inode).clone());
        let inside = there.clone();
        at(here, &there, move || async move {
            inside.with(|_, state| {
                if let Some(live) = state.live.get_mut(&inode) {
                    live.record.changed = now;
                }
            });
            Ok(())
        })
        .await
    }
}
