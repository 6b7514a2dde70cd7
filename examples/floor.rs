//! What the kernel and the transport cost by themselves: a filesystem in memory behind our own transport, with the same settings of the kernel:
//! `floor MOUNTPOINT`, to be run by `setsid` as its session's leader (see `scripts/bench`). Serves until it is unmounted.
//!
//! One lock, a table of inodes, and no more than the works of `bench_mount` need. What a mount takes longer is what the filesystem and the engine cost.

use bitkv::fs::errno::Errno;
use bitkv::fs::transport::classic::Classic;
use bitkv::fs::transport::dispatch::{Keep, Opened, Reply, Serve, Value};
use bitkv::fs::transport::mount::{Settings, mount, prepare_ring};
use bitkv::fs::transport::request::{Listing, Request};
use bitkv::fs::transport::ring::{DEPTH_DEFAULT, Server};
use bitkv::fs::types::*;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

const CHUNK_BYTES: u32 = 16 * 1024;
/// As `bitkv-mount` sets it.
const READ_AHEAD_KIB: u32 = 1024;

#[derive(Clone)]
struct Node {
    attributes: Attributes,
    content: Vec<u8>,
    names: BTreeMap<Vec<u8>, Inode>,
}

struct Tree {
    nodes: HashMap<Inode, Node>,
    last: u64,
}

#[derive(Clone)]
struct Floor(Arc<Mutex<Tree>>);

fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() }
}

fn node(inode: Inode, caller: Caller, new: &NewInode) -> Node {
    let now = now();
    let attributes = Attributes {
        inode,
        kind: new.kind,
        permissions: new.permissions & !new.umask,
        links: if new.kind == Kind::Directory { 2 } else { 1 },
        uid: caller.uid,
        gid: caller.gid,
        device: new.device,
        size: 0,
        blocks: 0,
        block_bytes: CHUNK_BYTES,
        accessed: now,
        modified: now,
        changed: now,
        born: now,
    };
    Node { attributes, content: Vec::new(), names: BTreeMap::new() }
}

impl Tree {
    fn node(&mut self, inode: Inode) -> Answer<&mut Node> {
        self.nodes.get_mut(&inode).ok_or(Errno::ESTALE)
    }

    /// A directory whose names change.
    fn directory(&mut self, inode: Inode) -> Answer<&mut BTreeMap<Vec<u8>, Inode>> {
        let node = self.node(inode)?;
        (node.attributes.modified, node.attributes.changed) = (now(), now());
        Ok(&mut node.names)
    }

    fn make(&mut self, caller: Caller, parent: Inode, name: Vec<u8>, new: &NewInode) -> Answer<Attributes> {
        let inode = Inode(self.last + 1);
        let names = self.directory(parent)?;
        if names.contains_key(&name) {
            return Err(Errno::EEXIST);
        }
        names.insert(name, inode);
        self.last = inode.0;
        let made = node(inode, caller, new);
        let attributes = made.attributes;
        self.nodes.insert(inode, made);
        Ok(attributes)
    }

    fn remove(&mut self, parent: Inode, name: &[u8]) -> Answer<()> {
        let gone = self.directory(parent)?.remove(name).ok_or(Errno::ENOENT)?;
        self.node(gone)?.attributes.links = 0;
        Ok(())
    }

    fn resize(&mut self, inode: Inode, size: usize) -> Answer<()> {
        let node = self.node(inode)?;
        node.content.resize(size, 0);
        node.attributes.size = size as u64;
        node.attributes.blocks = size.div_ceil(512) as u64;
        (node.attributes.modified, node.attributes.changed) = (now(), now());
        Ok(())
    }

    fn answer(&mut self, caller: Caller, inode: Inode, request: Request) -> Answer<Value> {
        let entry = |found: Attributes| Value::Entry(found, Keep::ForEver, Keep::ForEver);
        Ok(match request {
            Request::Lookup { name } => match self.node(inode)?.names.get(&name).copied() {
                Some(found) => entry(self.node(found)?.attributes),
                None => Value::NoEntry,
            },
            Request::GetAttributes => Value::Attributes(self.node(inode)?.attributes, Keep::ForEver),
            Request::Statx => Value::Statx(self.node(inode)?.attributes),
            Request::SetAttributes(set) => {
                if let Some(size) = set.size {
                    self.resize(inode, size as usize)?;
                }
                Value::Attributes(self.node(inode)?.attributes, Keep::ForEver)
            }
            Request::Make { name, new } => entry(self.make(caller, inode, name, &new)?),
            Request::Create { name, new } => Value::Created(self.make(caller, inode, name, &new)?),
            Request::Unlink { name } | Request::RemoveDirectory { name } => {
                self.remove(inode, &name)?;
                Value::Nothing
            }
            Request::Rename { name, new_parent, new_name, .. } => {
                let moved = self.directory(inode)?.remove(&name).ok_or(Errno::ENOENT)?;
                if let Some(replaced) = self.directory(new_parent)?.insert(new_name, moved) {
                    self.node(replaced)?.attributes.links = 0;
                }
                self.node(moved)?.attributes.changed = now();
                Value::Nothing
            }
            Request::Write { offset, data, .. } => {
                let end = offset as usize + data.len();
                let size = self.node(inode)?.content.len().max(end);
                self.resize(inode, size)?;
                self.node(inode)?.content[offset as usize..end].copy_from_slice(&data);
                Value::Count(data.len() as u32)
            }
            Request::OpenDirectory => Value::Opened(Opened::Directory),
            Request::Sync | Request::Release => Value::Nothing,
            Request::StatFilesystem => Value::Statistics(Statistics::default()),
            Request::GetXattr { .. } => return Err(Errno::ENODATA),
            Request::ListXattr { .. } => Value::Bytes(Vec::new()),
            _ => return Err(Errno::ENOSYS),
        })
    }

    fn read(&mut self, inode: Inode, offset: u64, room: &mut [u8]) -> Answer<usize> {
        let rest = self.node(inode)?.content.get(offset as usize..).unwrap_or(&[]);
        let count = rest.len().min(room.len());
        room[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn list(&mut self, inode: Inode, listing: Listing) -> Answer<Vec<Entry>> {
        // Behind the dots, in the order of names. (Nothing changes here while something is listed.)
        let names: Vec<_> = self.node(inode)?.names.clone().into_iter().collect();
        let from = listing.offset.saturating_sub(2) as usize;
        let listed = names.into_iter().zip(3..).skip(from).take(256);
        listed
            .map(|((name, inode), position)| {
                let found = self.node(inode)?.attributes;
                let attributes = listing.attributes.then_some(found);
                Ok(Entry { position, name, inode, kind: found.kind, attributes })
            })
            .collect()
    }
}

impl Serve for Floor {
    fn serve(&self, caller: Caller, inode: Inode, request: Request, mut reply: impl Reply) {
        let mut tree = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            Request::List(listing) => match tree.list(inode, listing) {
                Ok(names) => drop(reply.names(inode, listing, &names)),
                Err(error) => reply.answer(Err(error)),
            },
            Request::Read { offset, size } => {
                let count = tree.read(inode, offset, reply.room(size as usize));
                drop(tree);
                reply.filled(count);
            }
            request => {
                let answer = tree.answer(caller, inode, request);
                drop(tree);
                reply.answer(answer);
            }
        }
    }

    fn writeback_cache(&self) -> bool {
        false
    }

    fn forget(&self, inode: Inode, _lookups: u64) {
        let mut tree = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tree.nodes.get(&inode).is_some_and(|node| node.attributes.links == 0) {
            tree.nodes.remove(&inode);
        }
    }
}

fn serve(mountpoint: &Path) -> std::io::Result<()> {
    let caller = Caller { uid: nix::unistd::getuid().as_raw(), gid: nix::unistd::getgid().as_raw() };
    let new = NewInode { kind: Kind::Directory, permissions: 0o755, umask: 0, device: 0, target: Vec::new() };
    let nodes = HashMap::from([(Inode::ROOT, node(Inode::ROOT, caller, &new))]);
    let floor = Floor(Arc::new(Mutex::new(Tree { nodes, last: Inode::ROOT.0 })));
    let root = nix::unistd::geteuid().is_root();
    let settings = Settings {
        source: "floor".to_string(),
        read_only: false,
        dev: root,
        suid: root,
        no_exec: false,
        sync: false,
        dir_sync: false,
        allow_other: false,
        allow_root: false,
        auto_unmount: false,
        threads: 2,
        privileged: root,
    };
    let stand_back = bitkv::cli::mount::standing_back();
    let ring = prepare_ring(Server::new(floor.clone(), None), DEPTH_DEFAULT, stand_back)?;
    let serving = mount(Classic::new(floor), mountpoint, &settings, Some(ring))?;
    println!("floor: transport {}, stands back: {}", serving.transport(), stand_back.is_some());
    let mountpoint = mountpoint.to_path_buf();
    std::thread::spawn(move || {
        let device = std::fs::metadata(mountpoint).map_or(0, |found| found.dev());
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
        let _ = std::fs::write(path, READ_AHEAD_KIB.to_string());
    });
    serving.run()
}

fn main() -> std::process::ExitCode {
    let Some(mountpoint) = std::env::args_os().nth(1) else {
        eprintln!("floor: name a mountpoint");
        return std::process::ExitCode::FAILURE;
    };
    match serve(Path::new(&mountpoint)) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {}: {error}", mountpoint.display());
            std::process::ExitCode::FAILURE
        }
    }
}
