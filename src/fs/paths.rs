//! From an inode back to a path, for people who must be told which file is damaged. There is no index for that: names are searched,
//! which is slow and rare.

use super::keys::{self, EntryRecord};
use super::state::Part;
use super::types::Inode;
use super::volume::Volume;
use parking_lot::Mutex;
use std::collections::HashMap;

/// How many names one step of the search reads.
const SEARCH_SLICE: usize = 1024;
/// In a store with more files than this, nobody waits for the search.
const WAITED_FOR_FILES_MAX: u64 = 100_000;
/// How many paths are remembered.
const PATHS_KEPT: usize = 1024;

/// Paths that were found.
#[derive(Default)]
pub(super) struct Paths {
    found: Mutex<HashMap<Inode, String>>,
}

impl Volume {
    /// A read of the inode has failed: finds its path, for the list of errors and the log.
    pub(super) async fn explain(&self, inode: Inode) {
        let volume = self.clone();
        let search = self.inner.store.partitions()[0].submit(async move { volume.find_path(inode).await });
        if self.counts().files <= WAITED_FOR_FILES_MAX {
            search.fallible().await;
        } else {
            search.detach();
        }
    }

    /// Finds the paths of what is damaged, for the list of errors and the log. One search an inode: slow, and rare.
    pub async fn name_damages(&self) {
        let errors = self.inner.store.integrity_errors();
        let mut inodes: Vec<Inode> = errors.iter().filter_map(|error| belongs_to(&error.key)).collect();
        inodes.sort_unstable_by_key(|inode| inode.0);
        inodes.dedup();
        for inode in inodes.into_iter().take(PATHS_KEPT) {
            self.find_path(inode).await;
        }
    }

    /// What a key stands for, in words. Enters no partition.
    pub fn describe(&self, key: &[u8]) -> String {
        if key.is_empty() {
            return "structure of the segment; whose records are there can't be seen".to_string();
        }
        let parsed = keys::parse_entry(key)
            .map(|(parent, name)| (parent, format!("name {} in ", String::from_utf8_lossy(name))))
            .or_else(|| keys::parse_chunk(key).map(|(inode, index)| (inode, format!("chunk {index} of "))))
            .or_else(|| keys::parse_xattr(key).map(|(inode, _)| (inode, "attribute of ".to_string())))
            .or_else(|| keys::parse_inode(key).map(|inode| (inode, String::new())));
        let Some((inode, what)) = parsed else { return "a record of the filesystem itself".to_string() };
        match self.inner.paths.found.lock().get(&inode) {
            Some(path) => format!("{what}{path}\tinode {}", inode.0),
            None => format!("{what}inode {}", inode.0),
        }
    }

    /// Remembers an inode's path.
    async fn find_path(&self, inode: Inode) {
        if self.inner.paths.found.lock().contains_key(&inode) {
            return;
        }
        let path = self.search(inode).await;
        tracing::error!("damaged: {path} (inode {})", inode.0);
        let mut found = self.inner.paths.found.lock();
        if found.len() < PATHS_KEPT {
            found.insert(inode, path);
        }
    }

    /// One pass over all names: those of directories, and the one that is looked for.
    async fn search(&self, inode: Inode) -> String {
        let mut parents: HashMap<Inode, (Inode, Vec<u8>)> = HashMap::new();
        for part in self.inner.store.partitions() {
            let inside = part.clone();
            let found = part.call(async move { names_towards(&inside, inode).await }).await;
            parents.extend(found.unwrap_or_default());
        }
        let mut names = Vec::new();
        let mut at = inode;
        while at != Inode::ROOT {
            let Some((parent, name)) = parents.remove(&at) else {
                return format!("a file without a name ({})", inode.0);
            };
            names.push(String::from_utf8_lossy(&name).into_owned());
            at = parent;
        }
        names.reverse();
        format!("/{}", names.join("/"))
    }
}

async fn names_towards(part: &Part, inode: Inode) -> Vec<(Inode, (Inode, Vec<u8>))> {
    let mut found = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let keys = part.with(|core, _| core.list(b"D", after.as_deref(), SEARCH_SLICE));
        let Some(last) = keys.last() else { return found };
        after = Some(last.clone());
        let values = part.get_many(&keys).await;
        for (key, value) in keys.iter().zip(values) {
            let record = value.ok().flatten().and_then(|bytes| EntryRecord::decode(&bytes));
            if let (Some(record), Some((parent, name))) = (record, keys::parse_entry(key))
                && (record.inode == inode || keys::is_directory(record.inode))
            {
                found.push((record.inode, (parent, name.to_vec())));
            }
        }
    }
}

/// Which inode a key is about: of a name, the directory that it is in.
fn belongs_to(key: &[u8]) -> Option<Inode> {
    keys::parse_entry(key)
        .map(|(parent, _)| parent)
        .or_else(|| keys::parse_chunk(key).map(|(inode, _)| inode))
        .or_else(|| keys::parse_xattr(key).map(|(inode, _)| inode))
        .or_else(|| keys::parse_inode(key))
}
