//! Repairs: of a store in which nothing else happens. What is found is settled turn by turn, and looked for anew after each turn, as one
//! repair may bring up the next: a name that led to nothing goes, and only then is the link count of its directory known.
//!
//! Every repair is a commit of its own, so a repair that is broken off leaves a store that can be repaired.

use super::Finding;
use super::finding::{Named, is_access_list};
use crate::engine::Batch;
use crate::fs::attributes::InodeRecord;
use crate::fs::errno::Errno;
use crate::fs::keys::{self, EntryRecord, MetaRecord};
use crate::fs::listing::new_position;
use crate::fs::state::Part;
use crate::fs::types::*;
use crate::fs::volume::{Near, Volume};

/// Where what has lost its name goes.
const LOST_AND_FOUND: &[u8] = b"lost+found";
/// How often everything is looked at; more than there are turns, as each may bring up an earlier one once.
const ROUNDS_MAX: usize = 20;
/// How many records one commit removes.
const SLICE: usize = 16 * 1024;

/// What a repair has done.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// What was found and settled.
    pub done: Vec<Finding>,
    /// What is left.
    pub left: Vec<Finding>,
}

impl Volume {
    /// Checks everything, and repairs what can be. To be called in a volume that was opened for repairing.
    ///
    /// # Errors
    /// If the store takes no changes, or has no room for them. What was done until then stays done.
    pub async fn repair(&self) -> Answer<Repaired> {
        let mut done = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let left = self.check().await;
            let Some(turn) = left.iter().filter_map(Finding::turn).min() else {
                return Ok(Repaired { done, left });
            };
            for finding in left.into_iter().filter(|finding| finding.turn() == Some(turn)) {
                self.settle_finding(&finding).await?;
                done.push(finding);
            }
        }
        Ok(Repaired { done, left: self.check().await })
    }

    async fn settle_finding(&self, finding: &Finding) -> Answer<()> {
        match finding {
            Finding::Unreadable { key, .. } => self.replace_record(key).await,
            Finding::Unreserved(inode) => self.reserve_up_to(*inode).await,
            Finding::Size { inode, has, .. } => {
                let has = *has;
                self.mend(*inode, move |record| record.size = has).await
            }
            Finding::NameOfNothing(named)
            | Finding::NameInNothing(named)
            | Finding::SecondName(named)
            | Finding::Unreached { name: Some(named), .. } => self.remove_name(named).await,
            Finding::KindDiffers(named, kind) => self.set_kind(named, *kind).await,
            Finding::Nameless(inode, kind) => self.name_lost(*inode, *kind).await,
            Finding::NamedOrphan(inode) | Finding::OrphanOfNothing(inode) => {
                self.remove_keys(*inode, vec![keys::orphan(*inode)]).await
            }
            Finding::Links { inode, has, .. } => {
                let has = *has;
                self.mend(*inode, move |record| record.links = has).await
            }
            Finding::Chunks { inode, first, .. } => self.remove_chunks(*inode, *first).await,
            Finding::StoredBytes { inode, has, .. } => {
                let has = *has;
                self.mend(*inode, move |record| record.stored_bytes = has).await
            }
            Finding::Permissions { inode, list, .. } => {
                let list = *list;
                self.mend(*inode, move |record| record.permissions = record.permissions & 0o7000 | list).await
            }
            Finding::Xattrs { inode, has, owned: true } => {
                let has = *has;
                self.mend(*inode, move |record| record.xattrs = has).await
            }
            Finding::Xattrs { inode, owned: false, .. } => {
                let listed = self.keys_at(*inode, keys::xattrs_of(*inode), None).await?;
                self.remove_keys(*inode, listed).await
            }
            Finding::Partition(_) | Finding::UnknownKey(_) | Finding::Unreached { name: None, .. } => Ok(()),
        }
    }

    /// Changes an inode's record, and what is in memory of it.
    async fn mend(&self, inode: Inode, change: impl FnOnce(&mut InodeRecord) + Send + 'static) -> Answer<()> {
        let (volume, part) = (self.clone(), self.part_of_inode(inode).clone());
        self.call(Near::Inode(inode), async move { volume.update(&part, inode, Batch::new(), change).await })
            .await
    }

    /// What can be had in the place of a record that can't be read.
    async fn replace_record(&self, key: &[u8]) -> Answer<()> {
        if let Some((parent, name)) = keys::parse_entry(key) {
            return self.remove_name(&Named { parent, name: name.to_vec(), inode: parent }).await;
        }
        if let Some((inode, _)) = keys::parse_xattr(key) {
            self.remove_keys(inode, vec![key.to_vec()]).await?;
            // With a list the group's bits are its mask: without, they would be more than the group had.
            return match is_access_list(key) {
                true => self.mend(inode, |record| record.permissions &= !0o070).await,
                false => Ok(()),
            };
        }
        let Some(inode) = keys::parse_inode(key) else { return Ok(()) };
        if *key == keys::orphan(inode) {
            return self.put_value(inode, keys::orphan(inode), Vec::new()).await;
        }
        let now = self.now();
        let anew = |kind, size| InodeRecord {
            size,
            accessed: now,
            modified: now,
            changed: now,
            born: now,
            ..InodeRecord::unknown(kind)
        };
        if keys::is_directory(inode) {
            let permissions = if inode == Inode::ROOT { 0o755 } else { 0o700 };
            let record = InodeRecord { permissions, inline: false, links: 2, ..anew(Kind::Directory, 0) };
            return self.put_record(inode, record).await;
        }
        let chunks = self.keys_at(inode, keys::chunks_of(inode), None).await?;
        let Some((_, index)) = chunks.last().and_then(|last| keys::parse_chunk(last)) else {
            return self.remove_keys(inode, vec![key.to_vec()]).await;
        };
        // How long it was isn't known: as long as its last chunk reaches.
        let last = keys::chunk(inode, index);
        let length = self
            .inside(inode, move |part| part.with(|core, _| core.value_length(&last).unwrap_or(0)))
            .await?;
        let size = u64::from(index) * u64::from(self.chunk_bytes()) + length as u64;
        self.put_record(inode, InodeRecord { permissions: 0o600, inline: false, ..anew(Kind::File, size) })
            .await
    }

    async fn put_record(&self, inode: Inode, record: InodeRecord) -> Answer<()> {
        self.put_value(inode, keys::inode(inode), record.encode(&[])).await?;
        self.inside(inode, move |part| {
            part.with(|_, state| {
                if let Some(live) = state.live.get_mut(&inode) {
                    live.record = record;
                }
            });
        })
        .await
    }

    async fn remove_name(&self, named: &Named) -> Answer<()> {
        let (part, parent, name) =
            (self.part_of_entry(named.parent, &named.name).clone(), named.parent, named.name.clone());
        let mut batch = Batch::new();
        batch.remove(keys::entry(parent, &name)).free_space();
        self.call(Near::Name(parent, &name), async move { Ok(part.commit(batch).await?) }).await
    }

    async fn set_kind(&self, named: &Named, kind: Kind) -> Answer<()> {
        let (volume, part) = (self.clone(), self.part_of_entry(named.parent, &named.name).clone());
        let Named { parent, name, .. } = named.clone();
        self.call(Near::Name(named.parent, &named.name), async move {
            let entry = volume.entry(&part, parent, &name).await?.ok_or(Errno::ENOENT)?;
            let mut batch = Batch::new();
            batch.put(keys::entry(parent, &name), EntryRecord { kind, ..entry }.encode());
            Ok(part.commit(batch).await?)
        })
        .await
    }

    /// Gives an inode the name `#number` in `/lost+found`, which is made if it isn't there. Link counts follow in a later turn.
    async fn name_lost(&self, inode: Inode, kind: Kind) -> Answer<()> {
        let parent = self.lost_and_found().await?;
        let name = format!("#{}", inode.0).into_bytes();
        let (volume, part) = (self.clone(), self.part_of_entry(parent, &name).clone());
        let near = name.clone();
        self.call(Near::Name(parent, &near), async move {
            let position = new_position(&part, volume.next_number(&part).await?);
            let mut batch = Batch::new();
            let entry = EntryRecord { inode, kind, position, time: volume.now() };
            batch.put(keys::entry(parent, &name), entry.encode());
            Ok(part.commit(batch).await?)
        })
        .await
    }

    async fn lost_and_found(&self) -> Answer<Inode> {
        let (volume, part) = (self.clone(), self.part_of_entry(Inode::ROOT, LOST_AND_FOUND).clone());
        self.call(Near::Name(Inode::ROOT, LOST_AND_FOUND), async move {
            match volume.entry(&part, Inode::ROOT, LOST_AND_FOUND).await? {
                Some(entry) if entry.kind == Kind::Directory => Ok(entry.inode),
                Some(_) => Err(Errno::ENOTDIR),
                None => {
                    let (caller, kind) = (Caller { uid: 0, gid: 0 }, Kind::Directory);
                    let new = NewInode { kind, permissions: 0o700, umask: 0, device: 0, target: Vec::new() };
                    Ok(volume.make(caller, Inode::ROOT, LOST_AND_FOUND, new).await?.inode)
                }
            }
        })
        .await
    }

    async fn remove_chunks(&self, inode: Inode, first: u32) -> Answer<()> {
        let after = first.checked_sub(1).map(|index| keys::chunk(inode, index));
        let chunks = self.keys_at(inode, keys::chunks_of(inode), after).await?;
        self.remove_keys(inode, chunks).await
    }

    /// Numbers up to this inode's are reserved in its partition.
    async fn reserve_up_to(&self, inode: Inode) -> Answer<()> {
        let part = self.part_of_inode(inode).clone();
        self.call(Near::Inode(inode), async move {
            let counter_end = keys::counter_of(inode) + 1;
            let record = part.with(|_, state| {
                let counter = &mut state.counter;
                counter.next = counter.next.max(counter_end);
                counter.promised = counter.promised.max(counter_end);
                MetaRecord { counter_end: counter.promised, absorbed: state.absorbed }
            });
            let mut batch = Batch::new();
            batch.put(keys::meta(), record.encode());
            Ok(part.commit(batch).await?)
        })
        .await
    }

    async fn put_value(&self, inode: Inode, key: Vec<u8>, value: Vec<u8>) -> Answer<()> {
        let part = self.part_of_inode(inode).clone();
        let mut batch = Batch::new();
        batch.put(key, value);
        self.call(Near::Inode(inode), async move { Ok(part.commit(batch).await?) }).await
    }

    async fn remove_keys(&self, inode: Inode, keys: Vec<Vec<u8>>) -> Answer<()> {
        let part = self.part_of_inode(inode).clone();
        self.call(Near::Inode(inode), async move {
            for slice in keys.chunks(SLICE) {
                let mut batch = Batch::new();
                for key in slice {
                    batch.remove(key.clone());
                }
                batch.free_space();
                part.commit(batch).await?;
            }
            Ok(())
        })
        .await
    }

    async fn keys_at(&self, inode: Inode, prefix: Vec<u8>, after: Option<Vec<u8>>) -> Answer<Vec<Vec<u8>>> {
        self.inside(inode, move |part| part.with(|core, _| core.list(&prefix, after.as_deref(), usize::MAX)))
            .await
    }

    /// Looks at something in an inode's partition.
    async fn inside<T: Send + 'static>(
        &self,
        inode: Inode,
        look: impl FnOnce(&Part) -> T + Send + 'static,
    ) -> Answer<T> {
        let part = self.part_of_inode(inode).clone();
        self.call(Near::Inode(inode), async move { Ok(look(&part)) }).await
    }
}
