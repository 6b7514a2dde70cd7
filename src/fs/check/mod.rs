//! The checker: whether what the filesystem keeps agrees with itself. For a store in which nothing happens; reads everything. Changes nothing.
//!
//! * every name leads to an inode of the same kind; every inode but the root and orphans has a name
//! * link counts agree with the names; a directory has one name only, and is reached from the root
//! * no chunk without its file, or behind the file's end; bytes stored in chunks are what the record says
//! * extended attributes belong to an inode, which knows how many there are
//! * access control lists are well-formed, and permission bits are what they say
//! * all numbers in use are below what the counters have reserved

mod finding;
mod repair;
#[cfg(test)]
mod tests;

pub use self::finding::{Finding, Named};
pub use self::repair::Repaired;

use super::acl::{Acl, AclKind};
use super::attributes::InodeRecord;
use super::keys::{self, EntryRecord, MetaRecord};
use super::state::Part;
use super::types::*;
use super::volume::Volume;
use std::collections::{BTreeMap, BTreeSet};

/// How many records one step reads.
const SLICE: usize = 1024;

/// Everything that the checker gathers before it compares.
#[derive(Default)]
struct Gathered {
    inodes: BTreeMap<Inode, InodeRecord>,
    orphans: BTreeSet<Inode>,
    entries: Vec<(Inode, Vec<u8>, EntryRecord)>,
    chunk_bytes: BTreeMap<Inode, u64>,
    chunk_places: Vec<(Inode, u32)>,
    xattrs: BTreeMap<Inode, u32>,
    /// Permission bits that access control lists say.
    lists: BTreeMap<Inode, u16>,
    findings: Vec<Finding>,
}

impl Volume {
    /// Checks everything, and returns what doesn't agree. Only while nothing else happens.
    pub async fn check(&self) -> Vec<Finding> {
        let mut all = Gathered::default();
        for part in self.inner.store.partitions() {
            let (volume, inside) = (self.clone(), part.clone());
            match part.call(async move { volume.gather_partition(&inside).await }).await {
                Some(gathered) => all.join(gathered),
                None => all.findings.push(Finding::Partition(part.id().to_string())),
            }
        }
        all.compare(self.chunk_bytes());
        all.findings
    }

    async fn gather_partition(&self, part: &Part) -> Gathered {
        let mut gathered = Gathered::default();
        let mut after: Option<Vec<u8>> = None;
        let mut reserved = None;
        loop {
            let keys = part.with(|core, _| core.list(b"", after.as_deref(), SLICE));
            let Some(last) = keys.last() else { break };
            after = Some(last.clone());
            for (key, value) in keys.iter().zip(part.get_many(&keys).await) {
                match value {
                    Ok(Some(value)) if *key == keys::meta() => {
                        reserved = MetaRecord::decode(&value).map(|meta| meta.counter_end);
                    }
                    Ok(Some(value)) => gathered.take(key, &value),
                    Ok(None) => {}
                    Err(error) => {
                        gathered.unreadable(key, format!("{}: {error}", self.describe(key)));
                        // It is there all the same, and counts.
                        let length = part.with(|core, _| core.value_length(key).unwrap_or(0));
                        gathered.count(key, length as u64);
                    }
                }
            }
        }
        // What is in memory may be ahead of the record: times and nothing else.
        for inode in gathered.inodes.keys() {
            let counter = keys::counter_of(*inode);
            if *inode != Inode::ROOT && reserved.is_none_or(|reserved| counter >= reserved) {
                gathered.findings.push(Finding::Unreserved(*inode));
            }
        }
        gathered
    }
}

impl Gathered {
    fn unreadable(&mut self, key: &[u8], reason: String) {
        self.findings.push(Finding::Unreadable { key: key.to_vec(), reason });
    }

    fn take(&mut self, key: &[u8], value: &[u8]) {
        if let Some((parent, name)) = keys::parse_entry(key) {
            match EntryRecord::decode(value) {
                Some(record) => self.entries.push((parent, name.to_vec(), record)),
                None => {
                    self.unreadable(key, format!("a name in directory {} has no readable record", parent.0))
                }
            }
        } else if self.count(key, value.len() as u64) {
            self.take_list(key, value);
        } else if let Some(inode) = keys::parse_inode(key) {
            match InodeRecord::decode(value) {
                Some((record, content)) => {
                    let has = content.len() as u64;
                    if record.inline && record.size != has {
                        self.findings.push(Finding::Size { inode, says: record.size, has });
                    }
                    self.inodes.insert(inode, record);
                }
                None => self.unreadable(key, format!("inode {} has no readable record", inode.0)),
            }
        } else {
            self.findings.push(Finding::UnknownKey(key.to_vec()));
        }
    }

    /// If it is an access control list.
    fn take_list(&mut self, key: &[u8], value: &[u8]) {
        let Some((inode, name)) = keys::parse_xattr(key) else { return };
        match (AclKind::of(name), Acl::decode(value)) {
            (None, _) => {}
            (Some(AclKind::Access), Ok(Some(list))) => drop(self.lists.insert(inode, list.permissions())),
            (Some(AclKind::Default), Ok(Some(_))) => {}
            _ => self.unreadable(key, format!("an access control list of inode {} is malformed", inode.0)),
        }
    }

    /// Counts a record that says nothing but that it is there, and how long it is; false if it is of another kind.
    fn count(&mut self, key: &[u8], length: u64) -> bool {
        if let Some((inode, index)) = keys::parse_chunk(key) {
            *self.chunk_bytes.entry(inode).or_default() += length;
            self.chunk_places.push((inode, index));
        } else if let Some((inode, _)) = keys::parse_xattr(key) {
            *self.xattrs.entry(inode).or_default() += 1;
        } else if key[0] == b'O' {
            self.orphans.extend(keys::parse_inode(key));
        } else {
            return false;
        }
        true
    }

    fn join(&mut self, other: Gathered) {
        self.inodes.extend(other.inodes);
        self.orphans.extend(other.orphans);
        self.entries.extend(other.entries);
        self.chunk_bytes.extend(other.chunk_bytes);
        self.chunk_places.extend(other.chunk_places);
        self.xattrs.extend(other.xattrs);
        self.lists.extend(other.lists);
        self.findings.extend(other.findings);
    }

    fn compare(&mut self, chunk_bytes: u32) {
        self.compare_names();
        self.compare_content(chunk_bytes);
    }

    fn compare_content(&mut self, chunk_bytes: u32) {
        let mut behind: BTreeMap<Inode, (u32, u64)> = BTreeMap::new();
        for (inode, index) in &self.chunk_places {
            let begins = u64::from(*index) * u64::from(chunk_bytes);
            if self.inodes.get(inode).is_none_or(|record| record.inline || begins >= record.size) {
                let (_, count) = behind.entry(*inode).or_insert((*index, 0));
                *count += 1;
            }
        }
        for (inode, (first, count)) in behind {
            self.findings.push(Finding::Chunks { inode, first, count });
        }
        let counted = self.xattrs.iter().map(|(inode, count)| (*inode, *count));
        let uncounted =
            self.inodes.keys().filter(|inode| !self.xattrs.contains_key(inode)).map(|inode| (*inode, 0));
        for (inode, has) in counted.chain(uncounted) {
            let record = self.inodes.get(&inode);
            if record.is_none_or(|record| record.xattrs != has) {
                self.findings.push(Finding::Xattrs { inode, has, owned: record.is_some() });
            }
        }
        for (inode, list) in &self.lists {
            let says = self.inodes.get(inode).map_or(*list, |record| record.permissions & 0o777);
            if says != *list {
                self.findings.push(Finding::Permissions { inode: *inode, says, list: *list });
            }
        }
        for (inode, record) in &self.inodes {
            let has = self.chunk_bytes.get(inode).copied().unwrap_or(0);
            if !record.inline && record.stored_bytes != has {
                self.findings.push(Finding::StoredBytes { inode: *inode, says: record.stored_bytes, has });
            }
        }
    }

    fn compare_names(&mut self) {
        let mut names: BTreeMap<Inode, u32> = BTreeMap::new();
        let mut directories_in: BTreeMap<Inode, u32> = BTreeMap::new();
        let mut homes: BTreeMap<Inode, Named> = BTreeMap::new();
        for (parent, name, entry) in &self.entries {
            let named = || Named { parent: *parent, name: name.clone(), inode: entry.inode };
            match self.inodes.get(&entry.inode) {
                None => self.findings.push(Finding::NameOfNothing(named())),
                Some(record) if record.kind != entry.kind => {
                    self.findings.push(Finding::KindDiffers(named(), record.kind));
                }
                _ => {}
            }
            if self.inodes.get(parent).is_none_or(|record| record.kind != Kind::Directory) {
                self.findings.push(Finding::NameInNothing(named()));
            }
            *names.entry(entry.inode).or_default() += 1;
            if entry.kind == Kind::Directory {
                *directories_in.entry(*parent).or_default() += 1;
                // The root needs none.
                if entry.inode == Inode::ROOT || homes.contains_key(&entry.inode) {
                    self.findings.push(Finding::SecondName(named()));
                } else {
                    homes.insert(entry.inode, named());
                }
            }
        }
        for (inode, record) in &self.inodes {
            let inode = *inode;
            let found = names.get(&inode).copied().unwrap_or(0);
            let orphan = self.orphans.contains(&inode);
            let has = match record.kind {
                Kind::Directory => 2 + directories_in.get(&inode).copied().unwrap_or(0),
                _ => found,
            };
            match (found, orphan) {
                (0, false) if inode != Inode::ROOT => {
                    self.findings.push(Finding::Nameless(inode, record.kind))
                }
                (1.., true) => self.findings.push(Finding::NamedOrphan(inode)),
                _ => {}
            }
            if !orphan && record.links != has {
                self.findings.push(Finding::Links { inode, says: record.links, has });
            }
            if record.kind == Kind::Directory && !orphan && found > 0 && !leads_to_root(inode, &homes) {
                self.findings.push(Finding::Unreached { inode, name: in_circle(inode, &homes) });
            }
        }
        let lost = self.orphans.iter().filter(|orphan| !self.inodes.contains_key(orphan));
        self.findings.extend(lost.map(|orphan| Finding::OrphanOfNothing(*orphan)));
    }
}

fn leads_to_root(inode: Inode, homes: &BTreeMap<Inode, Named>) -> bool {
    let mut at = inode;
    for _ in 0..=homes.len() {
        match homes.get(&at) {
            _ if at == Inode::ROOT => return true,
            Some(home) => at = home.parent,
            None => return false,
        }
    }
    false
}

/// A directory's name, if following the names from it comes back to it, and no other in the circle has a smaller number: it is the one that is
/// taken out.
fn in_circle(inode: Inode, homes: &BTreeMap<Inode, Named>) -> Option<Named> {
    let mut at = homes.get(&inode)?.parent;
    for _ in 0..homes.len() {
        if at == inode {
            return homes.get(&inode).cloned();
        }
        if at < inode {
            return None;
        }
        at = homes.get(&at)?.parent;
    }
    None
}
