//! The hidden directory `.bitkv` in the root: it shows what is going on, and takes orders. Knows no transport.
//!
//! It isn't listed in the root, but can be reached by name. A lookup of one of its files is an opening: it makes a snapshot with a node of its own,
//! which is dropped when the kernel forgets the node. So two readers never mix, and a file's size is true. Nothing here enters a
//! partition's queue to be read, so it answers while the store is stuck, and shows that it is.

mod files;
mod render;
pub mod report;
mod settings;
pub mod source;
mod trigger;
pub mod units;

use super::errno::Errno;
use super::types::*;
use files::{FILES, File};
use parking_lot::Mutex;
use report::Source;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use trigger::Progress;

/// Name of the directory.
const NAME: &[u8] = b".bitkv";
/// Inode numbers with this bit are the control directory's.
const CONTROL_BIT: u64 = 1 << 63;
/// Snapshots have numbers from here on; below are the fixed ones.
const FIRST_SNAPSHOT: u64 = CONTROL_BIT | 1 << 16;
const DIRECTORY: Inode = Inode(CONTROL_BIT | 1);

/// Whether an inode belongs to the control directory.
pub fn is_control(inode: Inode) -> bool {
    inode.0 & CONTROL_BIT != 0
}

/// A looked-up node of the control directory.
pub struct ControlNode {
    /// What `stat` shows; the inode is the node's number.
    pub attributes: Attributes,
}

impl ControlNode {
    /// Whether it is the directory itself, which may be kept.
    pub fn is_directory(&self) -> bool {
        self.attributes.kind == Kind::Directory
    }
}

/// The control directory of a mounted volume.
pub struct Control {
    source: Box<dyn Source>,
    /// Who mounted: owner of everything here.
    uid: u32,
    gid: u32,
    snapshots: Mutex<HashMap<Inode, Snapshot>>,
    next: AtomicU64,
    progress: Arc<Progress>,
}

/// What one opening sees.
struct Snapshot {
    file: usize,
    content: Arc<[u8]>,
    lookups: u64,
    moment: Time,
}

impl Control {
    /// A control directory, owned by who mounted it.
    pub fn new(source: Box<dyn Source>, uid: u32, gid: u32) -> Self {
        Control {
            source,
            uid,
            gid,
            snapshots: Mutex::default(),
            next: AtomicU64::new(FIRST_SNAPSHOT),
            progress: Arc::default(),
        }
    }

    /// Whether a name is the control directory's to answer for: `.bitkv` in the root, and everything in it.
    pub fn owns(&self, parent: Inode, name: &[u8]) -> bool {
        is_control(parent) || (parent == Inode::ROOT && name == NAME)
    }

    /// Finds `.bitkv`, or opens a file in it.
    ///
    /// # Errors
    /// ENOENT for a name that isn't there.
    pub fn lookup(&self, parent: Inode, name: &[u8]) -> Answer<ControlNode> {
        if parent == Inode::ROOT {
            return Ok(ControlNode { attributes: self.directory() });
        }
        let file = FILES.iter().position(|file| file.name.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let content: Arc<[u8]> =
            FILES[file].render.map_or_else(Vec::new, |render| render(self).into_bytes()).into();
        let node = Inode(self.next.fetch_add(1, Ordering::Relaxed));
        let moment = self.source.now();
        let attributes = self.attributes_of(node, &FILES[file], content.len() as u64, moment);
        self.snapshots.lock().insert(node, Snapshot { file, content, lookups: 1, moment });
        Ok(ControlNode { attributes })
    }

    /// The kernel lets go of a snapshot.
    pub fn forget(&self, inode: Inode, count: u64) {
        let mut snapshots = self.snapshots.lock();
        if let Some(snapshot) = snapshots.get_mut(&inode) {
            snapshot.lookups = snapshot.lookups.saturating_sub(count);
            if snapshot.lookups == 0 {
                snapshots.remove(&inode);
            }
        }
    }

    /// Attributes; of a file those with its fixed number, the same for all snapshots.
    ///
    /// # Errors
    /// ESTALE for a snapshot that is gone.
    pub fn getattr(&self, inode: Inode) -> Answer<Attributes> {
        if inode == DIRECTORY {
            return Ok(self.directory());
        }
        let snapshots = self.snapshots.lock();
        let snapshot = snapshots.get(&inode).ok_or(Errno::ESTALE)?;
        let fixed = Inode(CONTROL_BIT | (snapshot.file as u64 + 2));
        let size = snapshot.content.len() as u64;
        Ok(self.attributes_of(fixed, &FILES[snapshot.file], size, snapshot.moment))
    }

    /// Truncation of a trigger is what a shell does before it writes: fine, and changes nothing.
    ///
    /// # Errors
    /// EPERM for everything else.
    pub fn setattr(&self, inode: Inode, set: &SetAttributes) -> Answer<Attributes> {
        let only_times = set.permissions.is_none() && set.uid.is_none() && set.gid.is_none();
        let mut attributes = self.getattr(inode)?;
        if !only_times || attributes.permissions & 0o200 == 0 || set.size.is_some_and(|size| size > 0) {
            return Err(Errno::EPERM);
        }
        attributes.size = 0;
        Ok(attributes)
    }

    /// Reads from a snapshot.
    ///
    /// # Errors
    /// EISDIR for the directory, ESTALE for a snapshot that is gone.
    pub fn read(&self, inode: Inode, offset: u64, length: u32) -> Answer<Vec<u8>> {
        if inode == DIRECTORY {
            return Err(Errno::EISDIR);
        }
        let content = self.snapshots.lock().get(&inode).ok_or(Errno::ESTALE)?.content.clone();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let end = start.saturating_add(length as usize).min(content.len());
        Ok(content[start..end].to_vec())
    }

    /// Gives an order: whole lines, whatever the offset.
    ///
    /// # Errors
    /// EPERM where nothing can be ordered; else what the order came to.
    pub async fn write(&self, inode: Inode, data: &[u8]) -> Answer<()> {
        let file = self.snapshots.lock().get(&inode).map(|snapshot| snapshot.file).ok_or(Errno::ESTALE)?;
        self.pull(FILES[file].trigger.ok_or(Errno::EPERM)?, data).await
    }

    /// The names behind a position.
    pub fn list(&self, position: u64) -> Vec<Entry> {
        let names = FILES.iter().enumerate().map(|(index, file)| Entry {
            position: index as u64 + 3,
            name: file.name.as_bytes().to_vec(),
            inode: Inode(CONTROL_BIT | (index as u64 + 2)),
            kind: Kind::File,
            attributes: None,
        });
        names.filter(|entry| entry.position > position).collect()
    }

    fn directory(&self) -> Attributes {
        let mut attributes = self.attributes_of(DIRECTORY, &FILES[0], 0, self.source.now());
        attributes.kind = Kind::Directory;
        attributes.permissions = 0o500;
        attributes.links = 2;
        attributes
    }

    fn attributes_of(&self, inode: Inode, file: &File, size: u64, moment: Time) -> Attributes {
        Attributes {
            inode,
            kind: Kind::File,
            permissions: file.permissions,
            links: 1,
            uid: self.uid,
            gid: self.gid,
            device: 0,
            size,
            blocks: size.div_ceil(512),
            block_bytes: 4096,
            accessed: moment,
            modified: moment,
            changed: moment,
            born: moment,
        }
    }
}

#[cfg(test)]
mod tests;
