//! Access control lists of inodes: set, passed on to what is new, and kept in step with the permission bits. Whom they let in is the kernel's to say.

use super::acl::{Acl, AclKind};
use super::attributes::InodeRecord;
use super::errno::Errno;
use super::keys;
use super::state::{LockKey, Part};
use super::types::*;
use super::volume::Volume;
use crate::engine::Batch;
use crate::engine::locks::lock;

impl Volume {
    /// Sets one of an inode's lists, or removes it if there is nothing in it. Setting the access list sets the permission bits; one that says no
    /// more than they can isn't kept.
    pub(super) async fn set_acl(
        &self,
        caller: Caller,
        inode: Inode,
        kind: AclKind,
        value: &[u8],
        kill_set_gid: Option<bool>,
    ) -> Answer<()> {
        let list = Acl::decode(value)?;
        let part = self.part_of_inode(inode).clone();
        let _guard = lock(&part, LockKey::Inode(inode)).await;
        let record = self.load(&part, inode).await?;
        match (record.kind, kind) {
            (Kind::Symlink, _) => return Err(Errno::EOPNOTSUPP),
            (Kind::Directory, _) | (_, AclKind::Access) => {}
            (_, AclKind::Default) if list.is_none() => return Ok(()),
            (_, AclKind::Default) => return Err(Errno::EACCES),
        }
        let key = keys::xattr(inode, kind.name());
        let exists = part.with(|core, _| core.contains(&key));
        if list.is_none() && !exists {
            return Ok(());
        }
        let permissions = list.as_ref().filter(|_| kind == AclKind::Access).map(Acl::permissions);
        let kept = list.filter(|list| kind == AclKind::Default || list.is_extended());
        let mut batch = Batch::new();
        let keeps = kept.is_some();
        match kept {
            Some(list) => drop(batch.put(key, list.encode())),
            None if exists => drop(batch.remove(key)),
            None => {}
        }
        let now = self.now();
        self.update(&part, inode, batch, move |record| {
            record.xattrs = (record.xattrs + u32::from(keeps)).saturating_sub(u32::from(exists));
            if let Some(permissions) = permissions {
                record.permissions = record.permissions & 0o7000 | permissions;
                // Who isn't of the file's group can't leave it a program with that group's rights.
                if kill_set_gid.unwrap_or(caller.uid != 0 && caller.gid != record.gid) {
                    record.permissions &= !0o2000;
                }
            }
            record.changed = now;
        })
        .await
    }

    /// The access list as it must be once the permission bits are these; None if there is none.
    pub(super) async fn acl_after_chmod(
        &self,
        part: &Part,
        inode: Inode,
        record: &InodeRecord,
        permissions: u16,
    ) -> Answer<Option<Acl>> {
        let list = self.acl(part, inode, record, AclKind::Access).await?;
        Ok(list.map(|list| list.with_permissions(permissions)))
    }

    /// One of an inode's lists. Nothing is read if there can't be one.
    pub(super) async fn acl(
        &self,
        part: &Part,
        inode: Inode,
        record: &InodeRecord,
        kind: AclKind,
    ) -> Answer<Option<Acl>> {
        if record.xattrs == 0 {
            return Ok(None);
        }
        let key = keys::xattr(inode, kind.name());
        if !part.with(|core, _| core.contains(&key)) {
            return Ok(None);
        }
        let Some(bytes) = part.get(&key).await? else { return Ok(None) };
        Acl::decode(&bytes).map_err(|_| Errno::EIO)
    }
}
