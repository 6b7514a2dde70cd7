//! From names to inodes. Changes nothing but lookup counts.

use super::attributes::InodeRecord;
use super::errno::Errno;
use super::keys::{self, EntryRecord, NAME_BYTES_MAX};
use super::operation::Operation;
use super::state::LockKey;
use super::state::Part;
use super::types::*;
use super::volume::{Volume, at};
use crate::engine::locks::visible;

impl Volume {
    /// Finds a name; raises the inode's lookup count by one.
    pub async fn lookup(&self, parent: Inode, name: &[u8]) -> Answer<Attributes> {
        Operation::on_name("lookup", parent, name).begins();
        if name.len() > NAME_BYTES_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let here = self.part_of_entry(parent, name);
        loop {
            if here.with(|_, state| !state.locks.is_empty()) {
                visible(here, &LockKey::Entry(parent, name.to_vec())).await;
            }
            let entry = self.entry(here, parent, name).await?;
            here.settled().await?;
            let Some(entry) = entry else { return Err(Errno::ENOENT) };
            let there = self.part_of_inode(entry.inode);
            let looked = match there.id() == here.id() {
                // As `at` does it, without what it needs to go elsewhere.
                true => self.look_at(here, entry.inode, 1).await,
                false => {
                    let (volume, inside) = (self.clone(), there.clone());
                    at(here, there, move || async move { volume.look_at(&inside, entry.inode, 1).await })
                        .await
                }
            };
            match looked {
                // Its last name went while we were on the way: the name leads elsewhere now, or nowhere.
                Err(Errno::ESTALE) if self.has_changed(here, parent, name, entry).await => {}
                // A name without an inode is damage; it must not look like an empty place.
                Err(Errno::ESTALE | Errno::EIO) => {
                    self.explain(entry.inode).await;
                    return match entry.kind {
                        Kind::Directory => Err(Errno::EIO),
                        // The kernel removes only what can be looked up.
                        _ => Ok(InodeRecord::unknown(entry.kind)
                            .attributes(entry.inode, self.inner.chunk_bytes.max(4096))),
                    };
                }
                other => return other,
            }
        }
    }

    async fn has_changed(&self, here: &Part, parent: Inode, name: &[u8], before: EntryRecord) -> bool {
        self.entry(here, parent, name).await.is_ok_and(|entry| entry != Some(before))
    }

    /// What a name leads to, if it is there.
    pub(super) async fn entry(&self, here: &Part, parent: Inode, name: &[u8]) -> Answer<Option<EntryRecord>> {
        match here.get(&keys::entry(parent, name)).await? {
            None => Ok(None),
            Some(bytes) => EntryRecord::decode(&bytes).map(Some).ok_or(Errno::EIO),
        }
    }
}
