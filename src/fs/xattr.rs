//! Extended attributes: one record each, and their count in the inode's record, so that "there is none" costs nothing.

use super::acl::AclKind;
use super::attributes::InodeRecord;
use super::errno::Errno;
use super::keys;
use super::operation::Operation;
use super::state::{LockKey, Part};
use super::types::*;
use super::volume::Volume;
use crate::engine::Batch;
use crate::engine::locks::{lock, visible};

/// The longest value, in bytes.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// All names of an inode together, each with a zero byte, in bytes: what one listing can hold, less what access control lists may add.
const NAMES_BYTES_MAX: usize = 64 * 1024 - 64;
/// How many names are listed before others have a turn.
const LIST_SLICE: usize = 256;
/// Of ours, see [`Volume::made_up`].
const OWN_PREFIX: &[u8] = b"user.bitkv.";

impl Volume {
    /// An extended attribute; ENODATA if there is none. Those that begin with `user.bitkv.` are made up when asked for, and never listed:
    /// `partition`, `segment`, `records`, `born`, and `crc32c` where that is cheap.
    pub async fn getxattr(&self, inode: Inode, name: &[u8]) -> Answer<Vec<u8>> {
        Operation::on_name("getxattr", inode, name).begins();
        let part = self.part_of_inode(inode).clone();
        check_namespace(name)?;
        visible(&part, &LockKey::Inode(inode)).await;
        let record = self.load(&part, inode).await?;
        if let Some(own) = name.strip_prefix(OWN_PREFIX) {
            return self.made_up(&part, inode, &record, own).await;
        }
        if record.xattrs == 0 {
            return Err(Errno::ENODATA);
        }
        let value = part.get(&keys::xattr(inode, name)).await?;
        part.settled().await?;
        value.ok_or(Errno::ENODATA)
    }

    /// Names of the extended attributes, each followed by a zero byte. Those of `trusted.` are for root's eyes.
    pub async fn listxattr(&self, caller: Caller, inode: Inode) -> Answer<Vec<u8>> {
        Operation::on("listxattr", inode).begins();
        let part = self.part_of_inode(inode).clone();
        visible(&part, &LockKey::Inode(inode)).await;
        let record = self.load(&part, inode).await?;
        let names = self.names_of(&part, inode, &record).await;
        part.settled().await?;
        let hidden = |name: &[u8]| caller.uid != 0 && name.starts_with(b"trusted.");
        let shown = names.split_inclusive(|byte| *byte == 0).filter(|name| !hidden(name));
        Ok(shown.flatten().copied().collect())
    }

    /// Names of all extended attributes, each followed by a zero byte.
    async fn names_of(&self, part: &Part, inode: Inode, record: &InodeRecord) -> Vec<u8> {
        if record.xattrs == 0 {
            return Vec::new();
        }
        let prefix = keys::xattrs_of(inode);
        let mut names = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let listed = part.with(|core, _| core.list(&prefix, after.as_deref(), LIST_SLICE));
            for (_, name) in listed.iter().filter_map(|key| keys::parse_xattr(key)) {
                names.extend_from_slice(name);
                names.push(0);
            }
            if listed.len() < LIST_SLICE {
                return names;
            }
            after = listed.into_iter().last();
            part.give_way().await;
        }
    }

    /// Sets an extended attribute. That of an access control list sets permission bits as well; whether set-group-ID goes with that the kernel may
    /// have said, who knows all of the caller's groups.
    pub async fn setxattr(
        &self,
        caller: Caller,
        inode: Inode,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        kill_set_gid: Option<bool>,
    ) -> Answer<()> {
        Operation::on_name("setxattr", inode, name).begins();
        check_namespace(name)?;
        if let Some(list) = AclKind::of(name) {
            return self.set_acl(caller, inode, list, value, kill_set_gid).await;
        }
        check_writable(name)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(Errno::E2BIG);
        }
        let part = self.part_of_inode(inode).clone();
        let _guard = lock(&part, LockKey::Inode(inode)).await;
        let record = self.load(&part, inode).await?;
        let key = keys::xattr(inode, name);
        let exists = part.with(|core, _| core.contains(&key));
        match mode {
            XattrMode::Create if exists => return Err(Errno::EEXIST),
            XattrMode::Replace if !exists => return Err(Errno::ENODATA),
            _ => {}
        }
        // Looked at only where it could be: with so many of the longest names.
        let crowded = !exists && (record.xattrs as usize + 1) * (NAME_BYTES_MAX + 1) > NAMES_BYTES_MAX;
        if crowded && self.names_of(&part, inode, &record).await.len() + name.len() + 1 > NAMES_BYTES_MAX {
            return Err(Errno::ENOSPC);
        }
        let now = self.now();
        let mut batch = Batch::new();
        batch.put(key, value);
        self.update(&part, inode, batch, move |record| {
            record.xattrs += u32::from(!exists);
            record.changed = now;
        })
        .await
    }

    /// Removes an extended attribute; ENODATA if there is none.
    pub async fn removexattr(&self, caller: Caller, inode: Inode, name: &[u8]) -> Answer<()> {
        Operation::on_name("removexattr", inode, name).begins();
        check_namespace(name)?;
        check_writable(name)?;
        if let Some(list) = AclKind::of(name) {
            return self.set_acl(caller, inode, list, &[], None).await;
        }
        let part = self.part_of_inode(inode).clone();
        let _guard = lock(&part, LockKey::Inode(inode)).await;
        self.load(&part, inode).await?;
        let key = keys::xattr(inode, name);
        if !part.with(|core, _| core.contains(&key)) {
            return Err(Errno::ENODATA);
        }
        let now = self.now();
        let mut batch = Batch::new();
        batch.remove(key);
        self.update(&part, inode, batch, move |record| {
            record.xattrs = record.xattrs.saturating_sub(1);
            record.changed = now;
        })
        .await
    }
}

fn check_namespace(name: &[u8]) -> Answer<()> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Errno::ERANGE);
    }
    let known = [&b"user."[..], b"trusted.", b"security."];
    match known.iter().find(|prefix| name.starts_with(prefix)) {
        Some(prefix) if name.len() == prefix.len() => Err(Errno::EINVAL),
        Some(_) => Ok(()),
        None if AclKind::of(name).is_some() => Ok(()),
        None => Err(Errno::EOPNOTSUPP),
    }
}

fn check_writable(name: &[u8]) -> Answer<()> {
    if name.starts_with(OWN_PREFIX) { Err(Errno::EPERM) } else { Ok(()) }
}
