//! A request becomes one operation of the volume (or of the control directory), which replies by itself. The one place where that is said, for
//! all transports.

use super::request::{Listing, Request};
use crate::engine::PartitionId;
use crate::fs::control::{Control, is_control};
use crate::fs::errno::Errno;
use crate::fs::traffic::Traffic;
use crate::fs::types::*;
use crate::fs::volume::{Near, Volume};
use std::sync::Arc;

/// How many names one request is answered with at most.
const NAMES_MAX: usize = 1024;
/// The same for names with attributes, which take more room.
const NAMES_PLUS_MAX: usize = 256;
/// The most that one copy moves, in bytes: a narrow reply counts in 32 bits, and a request should come to an end.
const COPY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// For how long the kernel may keep what it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Only it can change it.
    ForEver,
    /// It asks again each time.
    Not,
}

/// What was opened, and so what the kernel may do with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opened {
    /// Its pages stay, over openings too.
    File,
    /// Nothing is kept. Of a listing it would put what it was told before a change beside what came after it, if several list at once, and show names
    /// that its reader itself has removed.
    Directory,
    /// Each read and write comes through, and its error goes back to who made it.
    Control,
}

/// What a request is answered with.
pub enum Value {
    /// That it was done.
    Nothing,
    /// How long the name may be kept, and the attributes.
    Entry(Attributes, Keep, Keep),
    /// That there is no such name, which may be kept for ever.
    NoEntry,
    /// A new file, which is opened as well.
    Created(Attributes),
    /// It is open.
    Opened(Opened),
    /// Attributes, and how long they may be kept.
    Attributes(Attributes, Keep),
    /// With the time of birth.
    Statx(Attributes),
    /// Content, or a value.
    Bytes(Vec<u8>),
    /// Bytes that were moved, or that there are.
    Count(u32),
    /// A position, or more bytes than a count has room for.
    Position(u64),
    /// What `statfs` shows.
    Statistics(Statistics),
}

/// The right to answer one request. Dropped unanswered (its operation panicked, or the mount ends) it answers EIO.
pub trait Reply: Send + 'static {
    /// Answers.
    fn answer(self, answer: Answer<Value>);
    /// Room for so many bytes of an answer. It may hold anything at first.
    fn room(&mut self, bytes: usize) -> &mut [u8];
    /// Answers with so many bytes of the room that was asked for.
    fn filled(self, count: Answer<usize>);
    /// Answers with names of a directory, `.` and `..` before them; returns how many of the names had room. The dots show the directory's own
    /// number: the kernel knows the parent, and programs ask it.
    fn names(self, directory: Inode, listing: Listing, names: &[Entry]) -> usize;
}

/// What transports pass requests to.
pub trait Serve: Send + Sync + 'static {
    /// Takes a request, and has it answered now or later.
    fn serve(&self, caller: Caller, inode: Inode, request: Request, reply: impl Reply);
    /// The kernel lets go of an inode that it has looked up so often.
    fn forget(&self, inode: Inode, lookups: u64);
    /// Whether the kernel holds writes back.
    fn writeback_cache(&self) -> bool;
}

/// What serves the requests of a volume. Clones share it.
#[derive(Clone)]
pub struct Dispatch {
    volume: Volume,
    control: Arc<Control>,
    traffic: Arc<Traffic>,
    writeback_cache: bool,
}

impl Serve for Dispatch {
    fn serve(&self, caller: Caller, inode: Inode, request: Request, reply: impl Reply) {
        let owns = |parent, name: &[u8]| self.control.owns(parent, name);
        match &request {
            Request::Lookup { name } if owns(inode, name) => {
                // Each lookup of a control file is an opening: it has a node of its own, and nothing about it is kept.
                let found = self.control.lookup(inode, name).map(|node| {
                    let keep = if node.is_directory() { Keep::ForEver } else { Keep::Not };
                    Value::Entry(node.attributes, keep, Keep::Not)
                });
                return reply.answer(found);
            }
            Request::Make { name, .. }
            | Request::Create { name, .. }
            | Request::Unlink { name }
            | Request::RemoveDirectory { name }
            | Request::Rename { name, .. }
            | Request::Link { name, .. }
                if owns(inode, name) =>
            {
                return reply.answer(Err(Errno::EPERM));
            }
            Request::Rename { new_parent, new_name, .. } if owns(*new_parent, new_name) => {
                return reply.answer(Err(Errno::EPERM));
            }
            Request::Link { inode: old, .. } if is_control(*old) => return reply.answer(Err(Errno::EPERM)),
            Request::Copy { to, .. } if is_control(*to) => return reply.answer(Err(Errno::EOPNOTSUPP)),
            _ => {}
        }
        match is_control(inode) && !matches!(request, Request::StatFilesystem) {
            true => self.serve_control(inode, request, reply),
            false => self.serve_volume(caller, inode, request, reply),
        }
    }

    /// Counted: a file without a name goes with it. What comes once the way in is shut is found again at the next opening.
    fn forget(&self, inode: Inode, lookups: u64) {
        match is_control(inode) {
            true => self.control.forget(inode, lookups),
            false => {
                let near = self.volume.partition_near(Near::Inode(inode));
                self.run(near, move |volume| async move { volume.let_go(inode, lookups).await })
            }
        }
    }

    fn writeback_cache(&self) -> bool {
        self.writeback_cache
    }
}

impl Dispatch {
    /// For a volume whose root has `.bitkv`. Every operation of the volume goes through `traffic`. With a write-back cache the kernel holds writes
    /// back, and keeps sizes and times meanwhile.
    pub fn new(volume: Volume, control: Arc<Control>, traffic: Arc<Traffic>, writeback_cache: bool) -> Self {
        Dispatch { volume, control, traffic, writeback_cache }
    }

    /// Runs an operation in the partition of what it names first. Once the mount ends it isn't taken any more: dropped, its reply answers EIO.
    fn run<F: Future<Output = ()> + Send + 'static>(
        &self,
        near: PartitionId,
        operation: impl FnOnce(Volume) -> F + Send + 'static,
    ) {
        let Some(passage) = self.traffic.enter(near) else { return };
        let volume = self.volume.clone();
        self.volume.dispatch_made(near, move || passage.carry(move || operation(volume)));
    }

    /// The same for one that ends with a value.
    fn answer<F: Future<Output = Answer<Value>> + Send + 'static>(
        &self,
        near: PartitionId,
        reply: impl Reply,
        operation: impl FnOnce(Volume) -> F + Send + 'static,
    ) {
        // Made where it is awaited: given as a future, it would be kept twice.
        self.run(near, move |volume| async move { reply.answer(operation(volume).await) });
    }

    fn serve_volume(&self, caller: Caller, inode: Inode, request: Request, reply: impl Reply) {
        let here = self.volume.partition_near(Near::Inode(inode));
        let named = |name: &[u8]| self.volume.partition_near(Near::Name(inode, name));
        match request {
            Request::Lookup { name } => {
                let near = named(&name);
                self.answer(near, reply, move |volume| async move {
                    match volume.lookup(inode, &name).await {
                        Err(Errno::ENOENT) => Ok(Value::NoEntry),
                        found => found.map(entry),
                    }
                });
            }
            Request::GetAttributes => self.answer(here, reply, move |volume| async move {
                volume.getattr(inode).await.map(|found| Value::Attributes(found, Keep::ForEver))
            }),
            Request::Statx => self.answer(here, reply, move |volume| async move {
                volume.getattr(inode).await.map(Value::Statx)
            }),
            Request::SetAttributes(set) => self.answer(here, reply, move |volume| async move {
                let found = volume.setattr(caller, inode, set).await;
                found.map(|found| Value::Attributes(found, Keep::ForEver))
            }),
            Request::ReadLink => self.answer(here, reply, move |volume| async move {
                volume.readlink(inode).await.map(Value::Bytes)
            }),
            Request::Make { name, new } => {
                let near = named(&name);
                self.answer(near, reply, move |volume| async move {
                    volume.make(caller, inode, &name, new).await.map(entry)
                });
            }
            Request::Create { name, new } => {
                let near = named(&name);
                self.answer(near, reply, move |volume| async move {
                    volume.make(caller, inode, &name, new).await.map(Value::Created)
                });
            }
            Request::CreateNameless { new } => {
                let near = self.volume.any_name();
                self.answer(named(&near), reply, move |volume| async move {
                    volume.make_nameless(caller, inode, near, new).await.map(Value::Created)
                });
            }
            Request::Unlink { name } => {
                let near = named(&name);
                self.answer(near, reply, move |volume| async move {
                    volume.unlink(inode, &name).await.map(nothing)
                });
            }
            Request::RemoveDirectory { name } => {
                let near = named(&name);
                self.answer(near, reply, move |volume| async move {
                    volume.rmdir(inode, &name).await.map(nothing)
                });
            }
            Request::Rename { name, new_parent, new_name, mode } => {
                let near = named(&name);
                self.answer(near, reply, move |volume| async move {
                    volume.rename(caller, inode, &name, new_parent, &new_name, mode).await.map(nothing)
                });
            }
            Request::Link { inode: old, name } => {
                let near = named(&name);
                self.answer(near, reply, move |volume| async move {
                    volume.link(old, inode, &name).await.map(entry)
                });
            }
            Request::Read { offset, size } => self.run(here, move |volume| async move {
                let mut reply = reply;
                let count = volume.read_into(inode, offset, reply.room(size as usize)).await;
                reply.filled(count);
            }),
            Request::Write { offset, data, kill_set_id, held_back } => {
                let effects = WriteEffects { kill_set_id, keep_times: held_back && self.writeback_cache };
                self.answer(here, reply, move |volume| async move {
                    volume.write(caller, inode, offset, data, effects).await.map(Value::Count)
                })
            }
            Request::Sync => {
                self.answer(here, reply, move |volume| async move { volume.sync().await.map(nothing) });
            }
            Request::List(listing) => {
                self.run(here, move |volume| async move { list(volume, inode, listing, reply).await });
            }
            Request::StatFilesystem => {
                let root = self.volume.partition_near(Near::Inode(Inode::ROOT));
                self.answer(root, reply, move |volume| async move {
                    volume.statfs().await.map(Value::Statistics)
                });
            }
            Request::SetXattr { name, value, mode, kill_set_gid } => {
                self.answer(here, reply, move |volume| async move {
                    let set = volume.setxattr(caller, inode, &name, &value, mode, kill_set_gid);
                    set.await.map(nothing)
                })
            }
            Request::GetXattr { name, size } => self.answer(here, reply, move |volume| async move {
                sized(size, volume.getxattr(inode, &name).await)
            }),
            Request::ListXattr { size } => self.answer(here, reply, move |volume| async move {
                sized(size, volume.listxattr(caller, inode).await)
            }),
            Request::RemoveXattr { name } => self.answer(here, reply, move |volume| async move {
                volume.removexattr(caller, inode, &name).await.map(nothing)
            }),
            Request::Allocate { offset, length, mode } => {
                self.answer(here, reply, move |volume| async move {
                    volume.fallocate(caller, inode, offset, length, mode).await.map(nothing)
                })
            }
            // It would be asked for what only the kernel has. Then it takes files to have no holes.
            Request::Seek { .. } if self.writeback_cache => reply.answer(Err(Errno::ENOSYS)),
            Request::Seek { offset, what } => self.answer(here, reply, move |volume| async move {
                volume.seek(inode, offset, what).await.map(Value::Position)
            }),
            Request::Copy { offset, to, to_offset, length, wide } => {
                let length = length.min(COPY_BYTES_MAX);
                self.answer(here, reply, move |volume| async move {
                    let copied = volume.copy_range(caller, inode, offset, to, to_offset, length).await;
                    copied.map(|count| match wide {
                        true => Value::Position(count),
                        false => Value::Count(count as u32),
                    })
                });
            }
            // Not needed, the kernel is told once: then an opening costs no request at all.
            Request::Open if !self.writeback_cache => reply.answer(Err(Errno::ENOSYS)),
            Request::Open => reply.answer(Ok(Value::Opened(Opened::File))),
            Request::OpenDirectory => reply.answer(Ok(Value::Opened(Opened::Directory))),
            Request::Release => reply.answer(Ok(Value::Nothing)),
        }
    }

    /// Requests to the control directory and the files in it.
    fn serve_control(&self, inode: Inode, request: Request, reply: impl Reply) {
        let answer = match request {
            // For ever, though it shows a moment: with less the kernel would ask again in the middle of a copy.
            Request::GetAttributes => {
                self.control.getattr(inode).map(|found| Value::Attributes(found, Keep::ForEver))
            }
            Request::Statx => self.control.getattr(inode).map(Value::Statx),
            Request::SetAttributes(set) => {
                self.control.setattr(inode, &set).map(|found| Value::Attributes(found, Keep::Not))
            }
            Request::Read { offset, size } => self.control.read(inode, offset, size).map(Value::Bytes),
            Request::Write { data, .. } => {
                // Not counted among the traffic: the end of a mount doesn't wait for a compaction.
                let control = self.control.clone();
                return self.volume.dispatch(Near::Inode(Inode::ROOT), async move {
                    let count = data.len() as u32;
                    reply.answer(control.write(inode, &data).await.map(|()| Value::Count(count)));
                });
            }
            Request::List(listing) => {
                // A control file has no attributes before it is opened.
                reply.names(inode, listing, &self.control.list(listing.offset));
                return;
            }
            Request::Open if !self.writeback_cache => Err(Errno::ENOSYS),
            // What the kernel held back would come too late for its error to be told.
            Request::Open => Ok(Value::Opened(Opened::Control)),
            Request::OpenDirectory => Ok(Value::Opened(Opened::Directory)),
            Request::Sync | Request::Release => Ok(Value::Nothing),
            Request::GetXattr { .. } => Err(Errno::ENODATA),
            Request::ListXattr { size } => sized(size, Ok(Vec::new())),
            Request::Seek { .. } | Request::ReadLink => Err(Errno::EINVAL),
            Request::Copy { .. } => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::EPERM),
        };
        reply.answer(answer);
    }
}

fn nothing((): ()) -> Value {
    Value::Nothing
}

fn entry(found: Attributes) -> Value {
    Value::Entry(found, Keep::ForEver, Keep::ForEver)
}

/// A value for a caller who may only want to know its size.
fn sized(size: u32, answer: Answer<Vec<u8>>) -> Answer<Value> {
    match answer? {
        value if size == 0 => Ok(Value::Count(value.len() as u32)),
        value if value.len() > size as usize => Err(Errno::ERANGE),
        value => Ok(Value::Bytes(value)),
    }
}

/// Names in a directory. Each that comes with attributes has been looked up; those that have no room are forgotten.
async fn list(volume: Volume, directory: Inode, listing: Listing, reply: impl Reply) {
    let count_max = if listing.attributes { NAMES_PLUS_MAX } else { NAMES_MAX };
    match volume.readdir(directory, listing.offset, count_max, listing.attributes).await {
        Ok(names) => {
            let taken = reply.names(directory, listing, &names);
            for left in names[taken..].iter().filter(|left| left.attributes.is_some()) {
                volume.forget(left.inode, 1);
            }
        }
        Err(error) => reply.answer(Err(error)),
    }
}
