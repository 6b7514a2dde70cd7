//! The checker: whether what the filesystem keeps agrees with itself. For a store in which nothing happens; reads everything. Changes nothing.
//!
//! * every name leads to an inode of the same kind; every inode but the root and orphans has a name
//! * link counts agree with the names; a directory has one name only, and is reached from the root
//! * no chunk without its file, or behind the file's end; bytes stored in chunks are what the record says
//! * extended attributes belong to an inode, which knows how many there are
//! * all numbers in use are below what the counters have reserved

use super::attributes::InodeRecord;
use super::keys::{self, EntryRecord, MetaRecord};
use super::state::Part;
use super::types::*;
use super::volume::Volume;
use std::collections::{BTreeMap, HashSet};

/// How many records one step reads.
const SLICE: usize = 1024;

/// Everything that the checker gathers before it compares.
#[derive(Default)]
struct Gathered {
    inodes: BTreeMap<Inode, InodeRecord>,
    orphans: HashSet<Inode>,
    entries: Vec<(Inode, Vec<u8>, EntryRecord)>,
    chunks: BTreeMap<Inode, (u64, u64)>,
    chunks_behind: Vec<(Inode, u32)>,
    xattrs: BTreeMap<Inode, u32>,
    findings: Vec<String>,
}

impl Volume {
    /// Checks everything; what doesn't agree, a line each. Only while nothing else happens.
    pub async fn check(&self) -> Vec<String> {
        let mut all = Gathered::default();
        for part in self.inner.store.partitions() {
            let (volume, inside) = (self.clone(), part.clone());
            match part.call(async move { volume.gather_partition(&inside).await }).await {
                Some(gathered) => all.join(gathered),
                None => all.findings.push(format!("partition {} can't be checked", part.id())),
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
                    Err(error) => gathered.findings.push(format!("{}: {error}", self.describe(key))),
                }
            }
        }
        // What is in memory may be ahead of the record: directory times and nothing else.
        for inode in gathered.inodes.keys() {
            let counter = inode.0 >> 13;
            if *inode != Inode::ROOT && reserved.is_none_or(|reserved| counter >= reserved) {
                gathered.findings.push(format!("inode {} is beyond the reserved numbers", inode.0));
            }
        }
        gathered
    }
}

impl Gathered {
    fn take(&mut self, key: &[u8], value: &[u8]) {
        if let Some((parent, name)) = keys::parse_entry(key) {
            match EntryRecord::decode(value) {
                Some(record) => self.entries.push((parent, name.to_vec(), record)),
                None => {
                    self.findings.push(format!("a name in directory {} has no readable record", parent.0))
                }
            }
        } else if let Some((inode, index)) = keys::parse_chunk(key) {
            let (count, bytes) = self.chunks.entry(inode).or_default();
            *count += 1;
            *bytes += value.len() as u64;
            self.chunks_behind.push((inode, index));
        } else if let Some((inode, _)) = keys::parse_xattr(key) {
            *self.xattrs.entry(inode).or_default() += 1;
        } else if key[0] == b'O' {
            self.orphans.extend(keys::parse_inode(key));
        } else if let Some(inode) = keys::parse_inode(key) {
            match InodeRecord::decode(value) {
                Some((record, content)) => {
                    if record.inline && record.size != content.len() as u64 {
                        let (size, stored) = (record.size, content.len());
                        self.findings.push(format!("inode {} says {size} bytes and has {stored}", inode.0));
                    }
                    self.inodes.insert(inode, record);
                }
                None => self.findings.push(format!("inode {} has no readable record", inode.0)),
            }
        } else {
            self.findings.push(format!("a key of no known kind: {key:?}"));
        }
    }

    fn join(&mut self, other: Gathered) {
        self.inodes.extend(other.inodes);
        self.orphans.extend(other.orphans);
        self.entries.extend(other.entries);
        self.chunks.extend(other.chunks);
        self.chunks_behind.extend(other.chunks_behind);
        self.xattrs.extend(other.xattrs);
        self.findings.extend(other.findings);
    }

    fn compare(&mut self, chunk_bytes: u32) {
        self.compare_names();
        let mut findings = Vec::new();
        for (inode, index) in &self.chunks_behind {
            let begins = u64::from(*index) * u64::from(chunk_bytes);
            match self.inodes.get(inode) {
                None => findings.push(format!("chunk {index} of inode {}, which isn't there", inode.0)),
                Some(record) if record.inline || begins >= record.size => {
                    findings.push(format!("chunk {index} of inode {} lies behind its end", inode.0));
                }
                _ => {}
            }
        }
        for (inode, count) in &self.xattrs {
            if self.inodes.get(inode).is_none_or(|record| record.xattrs != *count) {
                findings
                    .push(format!("inode {} has {count} extended attributes, and says otherwise", inode.0));
            }
        }
        for (inode, record) in &self.inodes {
            let stored = self.chunks.get(inode).map_or(0, |(_, bytes)| *bytes);
            if !record.inline && record.stored_bytes != stored {
                let says = record.stored_bytes;
                findings.push(format!("inode {} says {says} bytes in chunks and has {stored}", inode.0));
            }
        }
        self.findings.extend(findings);
    }

    fn compare_names(&mut self) {
        let mut names: BTreeMap<Inode, u32> = BTreeMap::new();
        let mut directories_in: BTreeMap<Inode, u32> = BTreeMap::new();
        let mut parents: BTreeMap<Inode, Inode> = BTreeMap::new();
        let mut findings = Vec::new();
        for (parent, name, entry) in &self.entries {
            let name = String::from_utf8_lossy(name);
            match self.inodes.get(&entry.inode) {
                None => {
                    findings.push(format!("name {name} leads to inode {}, which isn't there", entry.inode.0))
                }
                Some(record) if record.kind != entry.kind => {
                    findings.push(format!("name {name} and inode {} differ in kind", entry.inode.0));
                }
                _ => {}
            }
            if self.inodes.get(parent).is_none_or(|record| record.kind != Kind::Directory) {
                findings.push(format!("name {name} is in {}, which is no directory", parent.0));
            }
            *names.entry(entry.inode).or_default() += 1;
            if entry.kind == Kind::Directory {
                *directories_in.entry(*parent).or_default() += 1;
                parents.insert(entry.inode, *parent);
            }
        }
        for (inode, record) in &self.inodes {
            let found = names.get(inode).copied().unwrap_or(0);
            let orphan = self.orphans.contains(inode);
            let expected = match record.kind {
                Kind::Directory => 2 + directories_in.get(inode).copied().unwrap_or(0),
                _ => found,
            };
            if *inode != Inode::ROOT && (found == 0) != orphan {
                findings.push(format!("inode {} has {found} names, orphan: {orphan}", inode.0));
            }
            if record.kind == Kind::Directory && found > 1 {
                findings.push(format!("directory {} has {found} names", inode.0));
            }
            if !orphan && record.links != expected {
                findings.push(format!("inode {} says {} links and has {expected}", inode.0, record.links));
            }
            if record.kind == Kind::Directory && !orphan && !leads_to_root(*inode, &parents) {
                findings.push(format!("directory {} isn't reached from the root", inode.0));
            }
        }
        for orphan in self.orphans.iter().filter(|orphan| !self.inodes.contains_key(orphan)) {
            findings.push(format!("orphan {} isn't there", orphan.0));
        }
        self.findings.extend(findings);
    }
}

fn leads_to_root(inode: Inode, parents: &BTreeMap<Inode, Inode>) -> bool {
    let mut at = inode;
    for _ in 0..=parents.len() {
        if at == Inode::ROOT {
            return true;
        }
        match parents.get(&at) {
            Some(parent) => at = *parent,
            None => return false,
        }
    }
    false
}
