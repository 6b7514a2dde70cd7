//! New names: making inodes, and linking ones that are there.
//!
//! A new file touches one partition: entry and inode are born together, with one commit. A new directory also raises its parent's link
//! count, which is part of the same commit. A file can be born without a name (O_TMPFILE), with the mark of those that lost theirs; the commit
//! that gives it one takes the mark away.

use super::acl::{Acl, AclKind};
use super::attributes::InodeRecord;
use super::bars::{Intent, pass_bar};
use super::errno::Errno;
use super::keys::{self, EntryRecord};
use super::listing::new_position;
use super::operation::Operation;
use super::state::LockKey;
use super::state::{Live, Part};
use super::types::*;
use super::unlink::Locked;
use super::volume::{Parts, Volume, at, check_name};
use crate::engine::locks::free;
use crate::engine::{Batch, Number, Ticket};
use std::sync::atomic::Ordering;

/// The longest symlink target, in bytes.
const TARGET_BYTES_MAX: usize = 4095;
/// The most names of one inode, and directories in one directory.
const LINKS_MAX: u32 = i32::MAX as u32;

/// Everything about an inode to be made.
pub(super) struct Birth {
    parent: Inode,
    name: Vec<u8>,
    inode: Inode,
    record: InodeRecord,
    content: Vec<u8>,
    entry: EntryRecord,
    /// Access control lists that it is born with.
    lists: Vec<(AclKind, Acl)>,
}

impl Birth {
    /// As part of a commit, in the partition of its name.
    pub(super) fn add_to(&self, batch: &mut Batch) {
        batch
            .put(keys::entry(self.parent, &self.name), self.entry.encode())
            .put(keys::inode(self.inode), self.record.encode(&self.content));
        add_lists(batch, self.inode, &self.lists);
    }

    pub(super) fn time(&self) -> Time {
        self.entry.time
    }

    fn live(&self) -> Live {
        Live { record: self.record, lookups: 1, orphan: false, unborn: false, listed: false }
    }
}

fn add_lists(batch: &mut Batch, inode: Inode, lists: &[(AclKind, Acl)]) {
    for (kind, list) in lists {
        batch.put(keys::xattr(inode, kind.name()), list.encode());
    }
}

/// The directory that something is born in.
struct Parent {
    inode: Inode,
    record: InodeRecord,
    /// What is made in it starts with this list.
    default: Option<Acl>,
}

impl Parent {
    /// The permissions and the lists of what is made in it. With a default list here, that says what is taken off what was asked for, not the
    /// umask. A symbolic link has neither.
    fn pass_on(&self, new: &NewInode) -> (u16, Vec<(AclKind, Acl)>) {
        let asked = new.permissions & 0o7777;
        let Some(default) = self.default.as_ref().filter(|_| new.kind != Kind::Symlink) else {
            return (asked & !new.umask, Vec::new());
        };
        let access = default.inherited(asked);
        let permissions = asked & 0o7000 | access.permissions();
        let mut lists = Vec::new();
        if access.is_extended() {
            lists.push((AclKind::Access, access));
        }
        if new.kind == Kind::Directory {
            lists.push((AclKind::Default, default.clone()));
        }
        (permissions, lists)
    }
}

/// What came of an attempt.
enum Attempt {
    Done(Ticket),
    Exists,
    /// Somebody is at work on the name or the directory.
    Again,
}

impl Volume {
    /// Makes a file, directory, symlink or special file; raises its lookup count by one. EEXIST if the name is taken.
    pub async fn make(
        &self,
        caller: Caller,
        parent: Inode,
        name: &[u8],
        new: NewInode,
    ) -> Answer<Attributes> {
        Operation::on_name("make", parent, name).begins();
        check_name(name)?;
        if new.kind == Kind::Symlink && new.target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if new.target.len() > TARGET_BYTES_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let here = self.part_of_entry(parent, name);
        let parent = self.parent(here, parent).await?;
        let number = self.next_number(here).await?;
        let birth = self.birth(here, caller, &parent, name, new, number);
        let attributes = self.shown(birth.inode, &birth.live());
        if birth.record.kind == Kind::Directory {
            Box::pin(self.make_directory(here, birth)).await?;
            self.inner.tally.directories.fetch_add(1, Ordering::Relaxed);
        } else {
            self.make_alone(here, birth).await?;
            self.inner.tally.files.fetch_add(1, Ordering::Relaxed);
        }
        Ok(attributes)
    }

    /// What a name that moves away is to leave behind. It keeps the position in listings. The caller holds the name's lock.
    pub(super) async fn whiteout(
        &self,
        here: &Part,
        caller: Caller,
        parent: Inode,
        name: &[u8],
        position: u64,
    ) -> Answer<Birth> {
        let parent = self.parent(here, parent).await?;
        let number = self.next_number(here).await?;
        let new =
            NewInode { kind: Kind::CharDevice, permissions: 0, umask: 0, device: 0, target: Vec::new() };
        let birth = self.birth(here, caller, &parent, name, new, number);
        Ok(Birth { entry: EntryRecord { position, ..birth.entry }, ..birth })
    }

    /// The directory in which a name is to be made.
    async fn parent(&self, here: &Part, parent: Inode) -> Answer<Parent> {
        let there = self.part_of_inode(parent).clone();
        let (volume, inside) = (self.clone(), there.clone());
        let (record, orphan, default) = at(here, &there, move || async move {
            let record = volume.load(&inside, parent).await?;
            let orphan = inside.with(|_, state| state.live.get(&parent).is_some_and(|live| live.orphan));
            let default = volume.acl(&inside, parent, &record, AclKind::Default).await?;
            Ok((record, orphan, default))
        })
        .await?;
        match record.kind {
            Kind::Directory if orphan => Err(Errno::ENOENT),
            Kind::Directory => Ok(Parent { inode: parent, record, default }),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn birth(
        &self,
        here: &Part,
        caller: Caller,
        parent: &Parent,
        name: &[u8],
        new: NewInode,
        number: u64,
    ) -> Birth {
        let inode =
            keys::new_inode(number, keys::slot_of_entry(parent.inode, name), new.kind == Kind::Directory);
        let (record, lists) = self.newborn(caller, parent, &new);
        let (kind, time) = (new.kind, record.born);
        let entry = EntryRecord { inode, kind, position: new_position(here, number), time };
        let (parent, name, content) = (parent.inode, name.to_vec(), new.target);
        Birth { parent, name, inode, record, content, entry, lists }
    }

    /// What a new inode is at first, and the access control lists that it is born with.
    fn newborn(&self, caller: Caller, parent: &Parent, new: &NewInode) -> (InodeRecord, Vec<(AclKind, Acl)>) {
        let now = self.now();
        let directory = new.kind == Kind::Directory;
        let inherits = parent.record.permissions & 0o2000 != 0;
        let set_gid = if inherits && directory { 0o2000 } else { 0 };
        let (permissions, lists) = parent.pass_on(new);
        let record = InodeRecord {
            kind: new.kind,
            permissions: permissions | set_gid,
            inline: matches!(new.kind, Kind::File | Kind::Symlink),
            links: if directory { 2 } else { 1 },
            uid: caller.uid,
            gid: if inherits { parent.record.gid } else { caller.gid },
            device: if matches!(new.kind, Kind::CharDevice | Kind::BlockDevice) { new.device } else { 0 },
            size: new.target.len() as u64,
            stored_bytes: 0,
            xattrs: lists.len() as u32,
            accessed: now,
            modified: now,
            changed: now,
            born: now,
            overruled: Number::ZERO,
        };
        (record, lists)
    }

    /// A name for what has none. Where such a file lives follows from it, so that they spread over the partitions.
    pub fn any_name(&self) -> [u8; 8] {
        self.inner.names_drawn.fetch_add(1, Ordering::Relaxed).to_le_bytes()
    }

    /// Makes a file without a name, near [`any_name`](Self::any_name) in the directory; raises its lookup count by one. [`link`](Self::link) can
    /// give it a name as long as the kernel holds it; else it goes when the kernel lets go of it, or with a crash.
    pub async fn make_nameless(
        &self,
        caller: Caller,
        parent: Inode,
        near: [u8; 8],
        new: NewInode,
    ) -> Answer<Attributes> {
        Operation::on("tmpfile", parent).begins();
        let slot = keys::slot_of_entry(parent, &near);
        let here = self.part_of_entry(parent, &near).clone();
        let parent = self.parent(&here, parent).await?;
        let inode = keys::new_inode(self.next_number(&here).await?, slot, false);
        let (record, lists) = self.newborn(caller, &parent, &new);
        let record = InodeRecord { links: 0, ..record };
        let live = Live { record, lookups: 1, orphan: true, unborn: true, listed: false };
        let mut batch = Batch::new();
        batch.put(keys::inode(inode), record.encode(&[])).put(keys::orphan(inode), []);
        add_lists(&mut batch, inode, &lists);
        here.room(batch.records_bytes()).await?;
        let ticket = here.with(|core, state| {
            state.live.insert(inode, live);
            core.append(&batch)
        });
        here.settle(ticket).await?;
        self.inner.tally.files.fetch_add(1, Ordering::Relaxed);
        self.inner.tally.orphans.fetch_add(1, Ordering::Relaxed);
        Ok(self.shown(inode, &live))
    }

    async fn make_alone(&self, here: &Part, birth: Birth) -> Answer<()> {
        let key = LockKey::Entry(birth.parent, birth.name.clone());
        let entry_key = keys::entry(birth.parent, &birth.name);
        let mut batch = Batch::new();
        birth.add_to(&mut batch);
        let _changing = self.changing();
        let ticket = loop {
            free(here, &key).await;
            pass_bar(here, birth.parent).await?;
            here.room(batch.records_bytes()).await?;
            let attempt = here.with(|core, state| {
                if state.locks.is_held(&key) || state.bars.contains_key(&birth.parent) {
                    return Attempt::Again;
                }
                if core.contains(&entry_key) {
                    return Attempt::Exists;
                }
                state.live.insert(birth.inode, birth.live());
                Attempt::Done(core.append(&batch))
            });
            match attempt {
                Attempt::Done(ticket) => break ticket,
                Attempt::Exists => return Err(Errno::EEXIST),
                Attempt::Again => {}
            }
        };
        here.settle(ticket).await?;
        self.touch(birth.parent, birth.entry.time);
        Ok(())
    }

    async fn make_directory(&self, here: &Part, birth: Birth) -> Answer<()> {
        let parent = birth.parent;
        let now = birth.entry.time;
        let locked = self.lock_names(here, vec![(parent, birth.name.clone())]).await?;
        let _intent = Intent::announce(here, parent).await?;
        if here.with(|core, _| core.contains(&keys::entry(parent, &birth.name))) {
            return Err(Errno::EEXIST);
        }
        let locked = self.lock_inodes(here, locked, vec![parent]).await?;
        let mut parts = Parts::default();
        birth.add_to(parts.of(here));
        self.add_link_change(here, &mut parts, parent, 1, now).await?;
        self.commit_hidden(here, &locked, parts).await?;
        here.with(|_, state| {
            state.live.insert(birth.inode, birth.live());
        });
        self.apply_link_change(here, parent, 1, now).await
    }

    /// The parent's record with another link count, as part of a commit. The caller holds the parent's lock.
    pub(super) async fn add_link_change(
        &self,
        here: &Part,
        parts: &mut Parts,
        directory: Inode,
        change: i32,
        now: Time,
    ) -> Answer<()> {
        let there = self.part_of_inode(directory).clone();
        let (volume, inside) = (self.clone(), there.clone());
        let mut record =
            at(here, &there, move || async move { volume.load(&inside, directory).await }).await?;
        record.links = record
            .links
            .checked_add_signed(change)
            .filter(|links| *links <= LINKS_MAX)
            .ok_or(Errno::EMLINK)?;
        record.modified = now;
        record.changed = now;
        record.overruled = Number::ZERO;
        parts.of(&there).put(keys::inode(directory), record.encode(&[]));
        Ok(())
    }

    /// What [`add_link_change`](Self::add_link_change) wrote, in memory.
    pub(super) async fn apply_link_change(
        &self,
        here: &Part,
        directory: Inode,
        change: i32,
        now: Time,
    ) -> Answer<()> {
        let there = self.part_of_inode(directory).clone();
        let inside = there.clone();
        at(here, &there, move || async move {
            inside.with(|_, state| {
                if let Some(live) = state.live.get_mut(&directory) {
                    live.record.links = live.record.links.saturating_add_signed(change);
                    live.record.modified = now;
                    live.record.overruled = Number::ZERO;
                    live.record.changed = now;
                }
            });
            Ok(())
        })
        .await
    }

    /// Gives an inode another name; raises its lookup count by one. Near the new name.
    pub async fn link(&self, inode: Inode, new_parent: Inode, new_name: &[u8]) -> Answer<Attributes> {
        Operation::on_name("link", new_parent, new_name).begins();
        check_name(new_name)?;
        let here = self.part_of_entry(new_parent, new_name).clone();
        self.parent(&here, new_parent).await?;
        let locked = self.lock_names(&here, vec![(new_parent, new_name.to_vec())]).await?;
        let _intent = Intent::announce(&here, new_parent).await?;
        if here.with(|core, _| core.contains(&keys::entry(new_parent, new_name))) {
            return Err(Errno::EEXIST);
        }
        let locked = self.lock_inodes(&here, locked, vec![inode]).await?;
        let target = self.target(&here, inode, false).await?;
        match target.record.kind {
            Kind::Directory => return Err(Errno::EPERM),
            _ if target.orphan && !target.unborn => return Err(Errno::ENOENT),
            _ if target.record.links >= LINKS_MAX => return Err(Errno::EMLINK),
            _ => {}
        }
        let kind = target.record.kind;
        let now = self.now();
        let number = self.next_number(&here).await?;
        let entry = EntryRecord { inode, kind, position: new_position(&here, number), time: now };
        let there = self.part_of_inode(inode).clone();
        let mut record = target.record;
        record.links += 1;
        record.changed = now;
        let mut parts = Parts::default();
        parts.of(&here).put(keys::entry(new_parent, new_name), entry.encode());
        parts.of(&there).put(keys::inode(inode), record.encode(&target.content));
        if target.unborn {
            parts.of(&there).remove(keys::orphan(inode));
        }
        let changing = self.changing();
        self.commit_hidden(&here, &locked, parts).await?;
        self.touch(new_parent, now);
        drop(changing);
        if target.unborn {
            self.inner.tally.orphans.fetch_sub(1, Ordering::Relaxed);
        }
        let (volume, inside) = (self.clone(), there.clone());
        at(&here, &there, move || async move {
            volume.load(&inside, inode).await?;
            inside.with(|_, state| {
                let live = state.live.get_mut(&inode).ok_or(Errno::ESTALE)?;
                live.record.links = record.links;
                live.record.changed = now;
                live.lookups += 1;
                (live.orphan, live.unborn) = (false, false);
                Ok(volume.shown(inode, live))
            })
        })
        .await
    }
}

impl Locked {
    /// Nothing is locked yet.
    pub(super) fn nothing() -> Self {
        Locked { guards: Vec::new() }
    }
}
