//! A request becomes one operation of the volume (or of the control directory), which replies by itself.

use super::encode::{self, FOR_EVER, Filling};
use super::queue::Reply;
use super::wire::{self, Header, Request};
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
/// The most that one copy moves, in bytes: a request should come to an end.
const COPY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What serves the requests of all queues.
pub struct Server {
    volume: Volume,
    control: Arc<Control>,
    traffic: Arc<Traffic>,
    /// Only this user and root may come in; the kernel, which lets everybody in for root's sake, doesn't see to it.
    owner: Option<u32>,
}

impl Server {
    /// A server for the volume; with an owner, nobody else but root may come in.
    pub fn new(volume: Volume, control: Arc<Control>, traffic: Arc<Traffic>, owner: Option<u32>) -> Self {
        Server { volume, control, traffic, owner }
    }

    /// Runs an operation near an inode or name. Once the mount ends it isn't taken any more: dropped, its reply answers EIO.
    fn run<F: Future<Output = ()> + Send + 'static>(
        &self,
        near: Near<'_>,
        operation: impl FnOnce(Volume) -> F,
    ) {
        let Some(passage) = self.traffic.enter(self.volume.partition_near(near)) else { return };
        let operation = operation(self.volume.clone());
        self.volume.dispatch(near, passage.carry(operation));
    }

    /// Takes a request, and has it answered now or later.
    pub(super) fn serve(&self, reply: Reply) {
        let (header, request) = match reply.request() {
            Ok(found) => found,
            Err(error) => return reply.fail(error),
        };
        let stranger = self.owner.is_some_and(|owner| ![0, owner].contains(&header.caller.uid));
        if stranger && !wire::is_in_nobodys_name(&request) {
            return reply.fail(Errno::EACCES);
        }
        match is_control(header.inode) {
            true => self.serve_control(header, request, reply),
            false => self.serve_volume(header, request, reply),
        }
    }

    fn serve_volume(&self, header: Header, request: Request, reply: Reply) {
        let Header { inode, caller, .. } = header;
        let here = Near::Inode(inode);
        match request {
            Request::Lookup { name } => self.lookup(inode, name, reply),
            Request::GetAttributes => self.run(here, |volume| async move {
                reply.answer(volume.getattr(inode).await, |found, to| {
                    encode::attributes(to, FOR_EVER, &found);
                });
            }),
            Request::Statx => self.run(here, |volume| async move {
                reply.answer(volume.getattr(inode).await, |found, to| encode::statx(to, &found));
            }),
            Request::SetAttributes(set) => self.run(here, |volume| async move {
                reply.answer(volume.setattr(caller, inode, set).await, |found, to| {
                    encode::attributes(to, FOR_EVER, &found);
                });
            }),
            Request::ReadLink => self.run(here, |volume| async move {
                reply.answer(volume.readlink(inode).await, |target, to| to.put(&target));
            }),
            Request::Make { name, new } => self.make(header, name, new, false, reply),
            Request::Create { name, new } => self.make(header, name, new, true, reply),
            Request::Unlink { name } => self
                .on_name(inode, name, reply, |volume, name| async move { volume.unlink(inode, &name).await }),
            Request::RemoveDirectory { name } => self.on_name(
                inode,
                name,
                reply,
                |volume, name| async move { volume.rmdir(inode, &name).await },
            ),
            Request::Rename { name, new_parent, new_name, mode } => {
                if self.control.owns(new_parent, &new_name) {
                    return reply.fail(Errno::EPERM);
                }
                self.on_name(inode, name, reply, move |volume, name| async move {
                    volume.rename(inode, &name, new_parent, &new_name, mode).await
                });
            }
            Request::Link { inode: old, name } => {
                if is_control(old) || self.control.owns(inode, &name) {
                    return reply.fail(Errno::EPERM);
                }
                let near = name.clone();
                self.run(Near::Name(inode, &near), |volume| async move {
                    reply.answer(volume.link(old, inode, &name).await, put_entry);
                });
            }
            Request::Read { offset, size } => self.run(here, |volume| async move {
                reply.answer(volume.read(inode, offset, size).await, |bytes, to| to.put(&bytes));
            }),
            Request::Write { offset, data, kill_set_id } => self.run(here, |volume| async move {
                reply.answer(volume.write(caller, inode, offset, data, kill_set_id).await, put_count);
            }),
            Request::Sync => {
                self.run(here, |volume| async move { reply.answer(volume.sync().await, put_nothing) });
            }
            Request::List { offset, size, attributes } => self.run(here, |volume| async move {
                list(volume, inode, offset, size, attributes, reply).await;
            }),
            Request::StatFilesystem => self.run(Near::Inode(Inode::ROOT), |volume| async move {
                reply.answer(volume.statfs().await, |found, to| encode::statistics(to, &found));
            }),
            Request::SetXattr { name, value, mode } => self.run(here, |volume| async move {
                reply.answer(volume.setxattr(caller, inode, &name, &value, mode).await, put_nothing);
            }),
            Request::GetXattr { name, size } => self.run(here, |volume| async move {
                answer_xattr(reply, size, volume.getxattr(inode, &name).await);
            }),
            Request::ListXattr { size } => self.run(here, |volume| async move {
                answer_xattr(reply, size, volume.listxattr(caller, inode).await);
            }),
            Request::RemoveXattr { name } => self.run(here, |volume| async move {
                reply.answer(volume.removexattr(caller, inode, &name).await, put_nothing);
            }),
            Request::Allocate { offset, length, mode } => self.run(here, |volume| async move {
                reply.answer(volume.fallocate(caller, inode, offset, length, mode).await, put_nothing);
            }),
            Request::Seek { offset, what } => self.run(here, |volume| async move {
                reply.answer(volume.seek(inode, offset, what).await, |found, to| to.long(found));
            }),
            Request::Copy { offset, to, to_offset, length, wide } => {
                if is_control(to) {
                    return reply.fail(Errno::EOPNOTSUPP);
                }
                let length = length.min(COPY_BYTES_MAX);
                self.run(here, |volume| async move {
                    let copied = volume.copy_range(caller, inode, offset, to, to_offset, length).await;
                    reply.answer(copied, |count, out| match wide {
                        true => out.long(count),
                        false => put_count(count as u32, out),
                    });
                });
            }
            Request::Release => reply.answer(Ok(()), put_nothing),
        }
    }

    /// Requests to the control directory and the files in it.
    fn serve_control(&self, header: Header, request: Request, reply: Reply) {
        let inode = header.inode;
        match request {
            Request::Lookup { name } => self.lookup(inode, name, reply),
            // For ever, though it shows a moment: with less the kernel would ask again in the middle of a copy.
            Request::GetAttributes => reply.answer(self.control.getattr(inode), |found, to| {
                encode::attributes(to, FOR_EVER, &found);
            }),
            Request::Statx => {
                reply.answer(self.control.getattr(inode), |found, to| encode::statx(to, &found));
            }
            Request::SetAttributes(set) => reply.answer(self.control.setattr(inode, &set), |found, to| {
                encode::attributes(to, 0, &found);
            }),
            Request::Read { offset, size } => {
                reply.answer(self.control.read(inode, offset, size), |bytes, to| to.put(&bytes));
            }
            Request::Write { data, .. } => {
                // Not counted among the traffic: the end of a mount doesn't wait for a compaction.
                let control = self.control.clone();
                self.volume.dispatch(Near::Inode(Inode::ROOT), async move {
                    let count = data.len() as u32;
                    reply.answer(control.write(inode, &data).await.map(|()| count), put_count);
                });
            }
            Request::List { offset, size, attributes } => {
                let names = self.control.list(offset);
                reply.answer(Ok(()), |(), to| {
                    let _ = put_names(to, size, inode, offset, &names, attributes);
                });
            }
            Request::StatFilesystem => {
                self.serve_volume(Header { inode: Inode::ROOT, ..header }, request, reply)
            }
            Request::Sync | Request::Release => reply.answer(Ok(()), put_nothing),
            Request::GetXattr { .. } => reply.fail(Errno::ENODATA),
            Request::ListXattr { size } => answer_xattr(reply, size, Ok(Vec::new())),
            Request::Seek { .. } | Request::ReadLink => reply.fail(Errno::EINVAL),
            Request::Copy { .. } => reply.fail(Errno::EOPNOTSUPP),
            _ => reply.fail(Errno::EPERM),
        }
    }

    fn lookup(&self, parent: Inode, name: Vec<u8>, reply: Reply) {
        if self.control.owns(parent, &name) {
            // Each lookup of a control file is an opening: it has a node of its own, and nothing about it is kept.
            return reply.answer(self.control.lookup(parent, &name), |node, to| {
                let name_seconds = if node.is_directory() { FOR_EVER } else { 0 };
                encode::entry(to, name_seconds, 0, &node.attributes);
            });
        }
        let near = name.clone();
        self.run(Near::Name(parent, &near), |volume| async move {
            match volume.lookup(parent, &name).await {
                Err(Errno::ENOENT) => reply.answer(Ok(()), |(), to| encode::no_entry(to)),
                answer => reply.answer(answer, put_entry),
            }
        });
    }

    fn make(&self, header: Header, name: Vec<u8>, new: NewInode, opened: bool, reply: Reply) {
        let Header { inode: parent, caller, .. } = header;
        if self.control.owns(parent, &name) {
            return reply.fail(Errno::EPERM);
        }
        let near = name.clone();
        self.run(Near::Name(parent, &near), |volume| async move {
            reply.answer(volume.make(caller, parent, &name, new).await, |made, to| {
                put_entry(made, to);
                if opened {
                    encode::opened(to);
                }
            });
        });
    }

    /// An operation on a name that answers with nothing.
    fn on_name<F: Future<Output = Answer<()>> + Send + 'static>(
        &self,
        parent: Inode,
        name: Vec<u8>,
        reply: Reply,
        operation: impl FnOnce(Volume, Vec<u8>) -> F,
    ) {
        if self.control.owns(parent, &name) {
            return reply.fail(Errno::EPERM);
        }
        let near = name.clone();
        self.run(Near::Name(parent, &near), |volume| {
            let operation = operation(volume, name);
            async move { reply.answer(operation.await, put_nothing) }
        });
    }
}

fn put_nothing((): (), _: &mut Filling<'_>) {}

fn put_entry(found: Attributes, to: &mut Filling<'_>) {
    encode::entry(to, FOR_EVER, FOR_EVER, &found);
}

fn put_count(count: u32, to: &mut Filling<'_>) {
    to.word(count);
    to.word(0);
}

/// A value for a caller who may only want to know its size.
fn answer_xattr(reply: Reply, size: u32, answer: Answer<Vec<u8>>) {
    match answer {
        Ok(value) if size == 0 => reply.answer(Ok(value.len() as u32), put_count),
        Ok(value) if value.len() > size as usize => reply.fail(Errno::ERANGE),
        answer => reply.answer(answer, |value, to| to.put(&value)),
    }
}

/// Names in a directory. Each that comes with attributes has been looked up; those that don't fit are forgotten.
async fn list(volume: Volume, directory: Inode, offset: u64, size: u32, attributes: bool, reply: Reply) {
    let count_max = if attributes { NAMES_PLUS_MAX } else { NAMES_MAX };
    match volume.readdir(directory, offset, count_max, attributes).await {
        Ok(names) => {
            let mut fitting = 0;
            reply.answer(Ok(()), |(), to| {
                fitting = put_names(to, size, directory, offset, &names, attributes);
            });
            for left in names[fitting..].iter().filter(|left| left.attributes.is_some()) {
                volume.forget(left.inode, 1);
            }
        }
        Err(error) => reply.fail(error),
    }
}

/// `.` and `..` if the listing starts before them, then names, as many as fit into so many bytes; returns how many of those did. The dots
/// show the directory's own number: the kernel knows the parent, and programs ask it.
fn put_names(
    to: &mut Filling<'_>,
    size: u32,
    directory: Inode,
    offset: u64,
    names: &[Entry],
    attributes: bool,
) -> usize {
    to.limit(size as usize);
    let put = if attributes { encode::name_plus } else { encode::name };
    for (position, name) in [(1, "."), (2, "..")] {
        let dot = Entry {
            position,
            name: name.as_bytes().to_vec(),
            inode: directory,
            kind: Kind::Directory,
            attributes: None,
        };
        if position > offset && !put(to, &dot) {
            return 0;
        }
    }
    names.iter().take_while(|name| put(to, name)).count()
}
