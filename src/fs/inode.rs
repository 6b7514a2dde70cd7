//! Inodes: in memory while the kernel knows them, attributes, and their end. Knows nothing of names.

use super::acl::AclKind;
use super::attributes::{InodeRecord, RECORD_BYTES_MIN};
use super::errno::Errno;
use super::keys;
use super::operation::Operation;
use super::state::LockKey;
use super::state::{Live, Part, VolumeState};
use super::types::*;
use super::volume::Volume;
use crate::engine::format::record;
use crate::engine::locks::{lock, visible};
use crate::engine::{Batch, Core, Number};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How many records one commit removes, when a large file goes.
const RECLAIM_SLICE: usize = 16 * 1024;
/// How long an inode that nobody holds any more waits for others that go in the same commit.
const CLEAR_DELAY_NS: u64 = 2_000_000;
/// When what removes inodes takes so many bytes in the log, no other one joins them.
const CLEAR_BYTES: usize = 32 * 1024;

/// Forgets what nobody uses: not looked up, nothing unsaved.
pub(super) fn evict_if_idle(state: &mut VolumeState, inode: Inode) {
    if state.live.get(&inode).is_some_and(|live| live.lookups == 0) && !state.dirty.contains(&inode) {
        state.let_go(inode);
    }
}

impl Volume {
    /// Makes the root directory of a new store, and keeps it in memory for good.
    pub(super) async fn ensure_root(&self, uid: u32, gid: u32) -> Answer<()> {
        let part = self.part_of_inode(Inode::ROOT).clone();
        if !part.with(|core, _| core.contains(&keys::inode(Inode::ROOT))) {
            let now = self.now();
            let record = InodeRecord {
                kind: Kind::Directory,
                permissions: 0o755,
                inline: false,
                links: 2,
                uid,
                gid,
                device: 0,
                size: 0,
                stored_bytes: 0,
                xattrs: 0,
                accessed: now,
                modified: now,
                changed: now,
                born: now,
                overruled: Number::ZERO,
            };
            let mut batch = Batch::new();
            batch.put(keys::inode(Inode::ROOT), record.encode(&[]));
            part.commit(batch).await?;
            self.inner.store.sync().await?;
            self.inner.tally.directories.fetch_add(1, Ordering::Relaxed);
        }
        self.load(&part, Inode::ROOT).await?;
        part.with(|_, state| {
            if let Some(live) = state.live.get_mut(&Inode::ROOT) {
                live.lookups += 1;
            }
        });
        Ok(())
    }

    /// The record of an inode, from memory or from the log; it is in memory afterwards, until the next await.
    pub(super) async fn load(&self, part: &Part, inode: Inode) -> Answer<InodeRecord> {
        loop {
            let live = part.with(|_, state| {
                state.take_over_time(inode);
                state.live.get(&inode).map(|live| live.record)
            });
            if let Some(record) = live {
                return Ok(record);
            }
            let key = keys::inode(inode);
            let stamp = part.with(|core, _| core.stamp(&key)).ok_or(Errno::ESTALE)?;
            let Some(bytes) = part.get(&key).await? else { continue };
            let (record, _) = InodeRecord::decode(&bytes).ok_or(Errno::EIO)?;
            let loaded = part.with(|core, state| {
                // Somebody else may have loaded, changed and dropped it meanwhile.
                if core.stamp(&key) != Some(stamp) {
                    return None;
                }
                let orphan = core.contains(&keys::orphan(inode));
                let live = Live { record, lookups: 0, orphan, unborn: false, listed: false };
                state.live.entry(inode).or_insert(live);
                state.take_over_time(inode);
                state.live.get(&inode).map(|live| live.record)
            });
            if let Some(record) = loaded {
                return Ok(record);
            }
        }
    }

    /// The content behind an inode's attributes: a small file's, or a symlink's target.
    pub(super) async fn inline_content(&self, part: &Part, inode: Inode) -> Answer<Vec<u8>> {
        let bytes = part.get(&keys::inode(inode)).await?.ok_or(Errno::ESTALE)?;
        let (_, content) = InodeRecord::decode(&bytes).ok_or(Errno::EIO)?;
        Ok(content.to_vec())
    }

    /// The content that must be written again with the attributes; nothing is read if there can't be any.
    pub(super) async fn content_to_keep(
        &self,
        part: &Part,
        inode: Inode,
        record: &InodeRecord,
    ) -> Answer<Vec<u8>> {
        if record.inline && record.size > 0 { self.inline_content(part, inode).await } else { Ok(Vec::new()) }
    }

    /// Raises an inode's lookup count, and shows its attributes. ESTALE if it is gone.
    pub(super) async fn look_at(&self, part: &Part, inode: Inode, lookups: u64) -> Answer<Attributes> {
        visible(part, &LockKey::Inode(inode)).await;
        self.load(part, inode).await?;
        let attributes = part.with(|_, state| {
            let live = state.live.get_mut(&inode)?;
            live.lookups += lookups;
            let (attributes, is_idle) = (self.shown(inode, live), live.lookups == 0);
            if is_idle {
                evict_if_idle(state, inode);
            }
            Some(attributes)
        });
        let attributes = attributes.ok_or(Errno::ESTALE)?;
        part.settled().await?;
        Ok(attributes)
    }

    pub(super) fn shown(&self, inode: Inode, live: &Live) -> Attributes {
        let mut attributes = live.record.attributes(inode, self.inner.chunk_bytes.max(4096));
        if live.orphan {
            attributes.links = 0;
        }
        attributes
    }

    /// Attributes.
    pub async fn getattr(&self, inode: Inode) -> Answer<Attributes> {
        Operation::on("getattr", inode).begins();
        self.look_at(self.part_of_inode(inode), inode, 0).await
    }

    /// [`let_go`](Self::let_go) by itself, sometime.
    pub fn forget(&self, inode: Inode, count: u64) {
        let volume = self.clone();
        self.part_of_inode(inode).submit(async move { volume.let_go(inode, count).await }).detach();
    }

    /// The kernel lets go of `count` lookups; a file without a name goes with the last.
    pub async fn let_go(&self, inode: Inode, count: u64) {
        Operation::on("forget", inode).begins();
        let part = self.part_of_inode(inode);
        let (orphan, listed) = part.with(|_, state| {
            let Some(live) = state.live.get_mut(&inode) else { return (false, false) };
            live.lookups = live.lookups.saturating_sub(count);
            if live.lookups > 0 {
                return (false, false);
            }
            let found = (live.orphan, live.listed);
            if !live.orphan {
                evict_if_idle(state, inode);
            }
            found
        });
        if listed {
            self.drop_listings(inode);
        }
        if orphan {
            self.clear_away_soon(part, inode);
        }
    }

    /// Removes an inode without a name, with all others that come to it in the next moment. In that partition.
    pub(super) fn clear_away_soon(&self, part: &Part, inode: Inode) {
        let is_first = part.with(|_, state| {
            state.departed.insert(inode);
            state.departed.len() == 1
        });
        if is_first {
            // Nobody's timer keeps a store alive that everybody else has let go of.
            let weak = Arc::downgrade(&self.inner);
            let sleep = self.inner.store.clock().sleep(CLEAR_DELAY_NS);
            let inside = part.clone();
            part.submit(async move {
                sleep.await;
                if let Some(inner) = weak.upgrade() {
                    Volume { inner }.clear_away(&inside).await;
                }
            })
            .detach();
        }
    }

    /// Removes the inodes that wait for that.
    pub(super) async fn clear_away(&self, part: &Part) {
        loop {
            let departed = part.with(|_, state| std::mem::take(&mut state.departed));
            if departed.is_empty() {
                return;
            }
            // What can't be removed now is found again at the next opening.
            let _ = self.reclaim_all(part, departed).await;
        }
    }

    /// Removes an inode without a name, and everything that belongs to it, unless somebody still holds it or has given it one.
    pub(super) async fn reclaim(&self, part: &Part, inode: Inode) -> Answer<()> {
        self.reclaim_all(part, BTreeSet::from([inode])).await
    }

    /// The same for several, as many at once as one commit should remove.
    async fn reclaim_all(&self, part: &Part, mut inodes: BTreeSet<Inode>) -> Answer<()> {
        while !inodes.is_empty() {
            let (mut batch, mut going, mut guards) = (Batch::new(), Vec::new(), Vec::new());
            // In the order in which all take locks.
            while batch.records_bytes() < CLEAR_BYTES
                && let Some(inode) = inodes.pop_first()
            {
                guards.push(lock(part, LockKey::Inode(inode)).await);
                match part.with(|core, state| leftovers(core, state, inode)) {
                    Leftovers::Held => drop(guards.pop()),
                    Leftovers::All(keys) => {
                        going.push(inode);
                        remove_all(&mut batch, keys);
                    }
                    Leftovers::Some(keys) => {
                        remove_all(&mut batch, keys);
                        // Once more for the rest.
                        inodes.insert(inode);
                        break;
                    }
                }
            }
            if batch.is_empty() {
                continue;
            }
            part.room_to_free(batch.records_bytes()).await?;
            let ticket = part.with(|core, state| {
                for inode in &going {
                    state.let_go(*inode);
                    state.dirty.remove(inode);
                }
                core.append(&batch)
            });
            part.settle(ticket).await?;
            let tally = &self.inner.tally;
            for inode in going {
                let counter = if keys::is_directory(inode) { &tally.directories } else { &tally.files };
                counter.fetch_sub(1, Ordering::Relaxed);
                tally.orphans.fetch_sub(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Changes attributes.
    pub async fn setattr(&self, caller: Caller, inode: Inode, set: SetAttributes) -> Answer<Attributes> {
        Operation::on("setattr", inode).begins();
        let part = self.part_of_inode(inode).clone();
        let _guard = lock(&part, LockKey::Inode(inode)).await;
        let mut record = self.load(&part, inode).await?;
        if let Some(size) = set.size {
            match record.kind {
                Kind::File => {}
                Kind::Directory => return Err(Errno::EISDIR),
                _ => return Err(Errno::EINVAL),
            }
            if size > self.size_max() {
                return Err(Errno::EFBIG);
            }
        }
        if nothing_to_change(&set) {
            return self.change_of_nothing(&part, caller, inode, record, set.changed).await;
        }
        let now = self.now();
        let list = match set.permissions {
            Some(permissions) => self.acl_after_chmod(&part, inode, &record, permissions).await?,
            None => None,
        };
        match set.size {
            Some(size) => {
                // The kernel never sets both at once, and one commit couldn't hold what may have to be removed besides.
                if list.is_some() {
                    return Err(Errno::EINVAL);
                }
                apply(&mut record, caller, &set, now);
                self.resize(&part, inode, record, size).await?;
            }
            None => {
                let settled = self.inner.store.settled_number();
                let change = move |record: &mut InodeRecord| {
                    apply(record, caller, &set, now);
                    if set.modified.is_some() && record.kind == Kind::Directory {
                        record.overruled = settled;
                    }
                };
                let mut batch = Batch::new();
                if let Some(list) = list {
                    batch.put(keys::xattr(inode, AclKind::Access.name()), list.encode());
                }
                self.update(&part, inode, batch, change).await?;
            }
        }
        let attributes = part.with(|_, state| state.live.get(&inode).map(|live| self.shown(inode, live)));
        attributes.ok_or(Errno::ESTALE)
    }

    /// A `setattr` that names no field is what chown(-1, -1) comes to: it counts as a change, and clears set-id bits for those who may
    /// change them.
    async fn change_of_nothing(
        &self,
        part: &Part,
        caller: Caller,
        inode: Inode,
        record: InodeRecord,
        changed: Option<Time>,
    ) -> Answer<Attributes> {
        let changed = changed.unwrap_or_else(|| self.now());
        let may_strip = caller.uid == 0 || caller.uid == record.uid;
        self.update(part, inode, Batch::new(), move |live| {
            if may_strip {
                live.strip_set_id(caller.uid, caller.gid);
            }
            live.changed = changed;
        })
        .await?;
        self.look_at(part, inode, 0).await
    }

    /// Changes an inode's record, and what else the batch says, as one commit. The caller holds its lock. The change is made to
    /// the record as it is then: a directory's times may move meanwhile.
    pub(super) async fn update(
        &self,
        part: &Part,
        inode: Inode,
        mut batch: Batch,
        change: impl FnOnce(&mut InodeRecord) + Send,
    ) -> Answer<()> {
        let record = self.load(part, inode).await?;
        let content = self.content_to_keep(part, inode, &record).await?;
        let record_bytes = record::encoded_length(9, RECORD_BYTES_MIN + content.len());
        let bytes = batch.records_bytes() + record_bytes;
        match batch.frees_space() && !batch.is_empty() {
            true => part.room_to_free(bytes).await?,
            false => part.room(bytes).await?,
        }
        let ticket = part.with(|core, state| {
            let live = state.live.entry(inode).or_insert(Live {
                record,
                lookups: 0,
                orphan: false,
                unborn: false,
                listed: false,
            });
            change(&mut live.record);
            batch.put(keys::inode(inode), live.record.encode(&content));
            core.append(&batch)
        });
        part.settle(ticket).await?;
        Ok(())
    }

    /// Where a symlink leads.
    pub async fn readlink(&self, inode: Inode) -> Answer<Vec<u8>> {
        Operation::on("readlink", inode).begins();
        let part = self.part_of_inode(inode).clone();
        let record = self.load(&part, inode).await?;
        if record.kind != Kind::Symlink {
            return Err(Errno::EINVAL);
        }
        let target = self.inline_content(&part, inode).await?;
        part.settled().await?;
        Ok(target)
    }
}

/// The records that there are of an inode without a name.
enum Leftovers {
    /// Somebody holds it, or has given it a name.
    Held,
    /// All of them.
    All(Vec<Vec<u8>>),
    /// As many as one commit removes: the chunks come before the attributes.
    Some(Vec<Vec<u8>>),
}

fn remove_all(batch: &mut Batch, keys: Vec<Vec<u8>>) {
    for key in keys {
        batch.remove(key);
    }
}

fn leftovers(core: &Core, state: &VolumeState, inode: Inode) -> Leftovers {
    let is_held = state.live.get(&inode).is_some_and(|live| live.lookups > 0);
    if is_held || !core.contains(&keys::orphan(inode)) {
        return Leftovers::Held;
    }
    let mut keys = core.list(&keys::chunks_of(inode), None, RECLAIM_SLICE);
    if keys.len() == RECLAIM_SLICE {
        return Leftovers::Some(keys);
    }
    keys.extend(core.list(&keys::xattrs_of(inode), None, usize::MAX));
    keys.extend([keys::inode(inode), keys::orphan(inode)]);
    Leftovers::All(keys)
}

fn nothing_to_change(set: &SetAttributes) -> bool {
    let SetAttributes { permissions, uid, gid, size, accessed, modified, changed: _, kill_set_id: _ } = set;
    permissions.is_none()
        && uid.is_none()
        && gid.is_none()
        && size.is_none()
        && accessed.is_none()
        && modified.is_none()
}

/// The rules of set-id bits: a new mode is taken as it is; a change of owner or group clears them whoever makes it; a change of size clears
/// them unless root makes it.
fn apply(record: &mut InodeRecord, caller: Caller, set: &SetAttributes, now: Time) {
    let time = |set: SetTime| match set {
        SetTime::Now => now,
        SetTime::At(time) => time,
    };
    record.uid = set.uid.unwrap_or(record.uid);
    if let Some(gid) = set.gid {
        record.gid = gid;
    }
    match set.permissions {
        Some(permissions) => record.permissions = permissions & 0o7777,
        None if set.uid.is_some() || set.gid.is_some() || set.kill_set_id => {
            record.strip_set_id(caller.uid, caller.gid);
        }
        None if set.size.is_some() && caller.uid != 0 => record.strip_set_id(caller.uid, caller.gid),
        None => {}
    }
    if let Some(accessed) = set.accessed {
        record.accessed = time(accessed);
    }
    if set.size.is_some() {
        record.modified = now;
    }
    if let Some(modified) = set.modified {
        record.modified = time(modified);
    }
    record.changed = set.changed.unwrap_or(now);
}
