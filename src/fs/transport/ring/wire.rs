//! Requests as they come over the ring, bytes to values. Pure. A request has three parts: the header, the operation's own header (fixed for
//! each operation), and what follows it (names, data). Whatever the bytes are, decoding ends with a value or an errno.

use crate::fs::errno::Errno;
pub use crate::fs::transport::request::Request;
use crate::fs::transport::request::{self, Listing};
use crate::fs::types::*;

/// Bytes of a request's header.
pub const HEADER_BYTES: usize = 40;
/// Bytes that an operation's own header has at most.
pub const OPERATION_BYTES_MAX: usize = 128;

/// What all requests have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What is asked for.
    pub opcode: u32,
    /// Names the request; the reply repeats it.
    pub unique: u64,
    /// The inode that it is about.
    pub inode: Inode,
    /// On whose behalf.
    pub caller: Caller,
}

/// Bits of `FATTR_*`: what a SETATTR changes.
mod valid {
    pub(super) const MODE: u32 = 1 << 0;
    pub(super) const UID: u32 = 1 << 1;
    pub(super) const GID: u32 = 1 << 2;
    pub(super) const SIZE: u32 = 1 << 3;
    pub(super) const ACCESSED: u32 = 1 << 4;
    pub(super) const MODIFIED: u32 = 1 << 5;
    pub(super) const ACCESSED_NOW: u32 = 1 << 7;
    pub(super) const MODIFIED_NOW: u32 = 1 << 8;
    pub(super) const CHANGED: u32 = 1 << 10;
    pub(super) const KILL_SET_ID: u32 = 1 << 11;
}

/// `FUSE_WRITE_CACHE`.
const WRITE_HELD_BACK: u32 = 1 << 0;
/// `FUSE_WRITE_KILL_SUIDGID`.
const WRITE_KILL_SET_ID: u32 = 1 << 2;

/// `FUSE_SETXATTR_ACL_KILL_SGID`.
const SETXATTR_KILL_SET_GID: u32 = 1 << 0;

/// Numbers in the bytes of an operation's header.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn word(&self, at: usize) -> Answer<u32> {
        let bytes = self.0.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_ne_bytes).ok_or(Errno::EINVAL)
    }

    fn long(&self, at: usize) -> Answer<u64> {
        let bytes = self.0.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_ne_bytes).ok_or(Errno::EINVAL)
    }

    fn inode(&self, at: usize) -> Answer<Inode> {
        Ok(Inode(self.long(at)?))
    }

    fn time(&self, seconds_at: usize, nanoseconds_at: usize) -> Answer<Time> {
        let nanoseconds = self.word(nanoseconds_at)?;
        if nanoseconds >= 1_000_000_000 {
            return Err(Errno::EINVAL);
        }
        Ok(Time { seconds: self.long(seconds_at)? as i64, nanoseconds })
    }
}

/// Takes a text that ends with a zero byte off the front.
fn text(rest: &mut &[u8]) -> Answer<Vec<u8>> {
    let end = rest.iter().position(|byte| *byte == 0).ok_or(Errno::EINVAL)?;
    let found = rest[..end].to_vec();
    *rest = &rest[end + 1..];
    Ok(found)
}

/// The header of a request.
///
/// # Errors
/// EINVAL if there is less than a header.
pub fn header(bytes: &[u8]) -> Answer<Header> {
    let fields = Fields(bytes.get(..HEADER_BYTES).ok_or(Errno::EINVAL)?);
    Ok(Header {
        opcode: fields.word(4)?,
        unique: fields.long(8)?,
        inode: fields.inode(16)?,
        caller: Caller { uid: fields.word(24)?, gid: fields.word(28)? },
    })
}

/// What a request asks for: `operation` is the operation's own header (what lies behind it is ignored), `rest` what follows it.
///
/// # Errors
/// ENOSYS for what we don't do (among it FLUSH: the kernel is told once, then it costs nothing), EINVAL for what
/// can't be read, and what an operation doesn't know.
pub fn request(opcode: u32, operation: &[u8], mut rest: &[u8]) -> Answer<Request> {
    let fields = Fields(operation);
    let rest = &mut rest;
    Ok(match opcode {
        1 => Request::Lookup { name: text(rest)? },
        3 => Request::GetAttributes,
        4 => Request::SetAttributes(set_attributes(&fields)?),
        5 => Request::ReadLink,
        6 => {
            let name = text(rest)?;
            Request::Make { name, new: request::new_symlink(text(rest)?) }
        }
        8 => {
            let kind = request::kind_of_mode(fields.word(0)?).ok_or(Errno::EINVAL)?;
            Request::Make {
                name: text(rest)?,
                new: request::new_inode(kind, fields.word(0)?, fields.word(8)?, fields.word(4)?),
            }
        }
        9 => {
            let new = request::new_inode(Kind::Directory, fields.word(0)?, fields.word(4)?, 0);
            Request::Make { name: text(rest)?, new }
        }
        35 => {
            let new = request::new_inode(Kind::File, fields.word(4)?, fields.word(8)?, 0);
            Request::Create { name: text(rest)?, new }
        }
        // The name that the kernel sends along means nothing; it keeps the rule of O_EXCL by itself.
        51 => {
            let new = request::new_inode(Kind::File, fields.word(4)?, fields.word(8)?, 0);
            Request::CreateNameless { new }
        }
        10 => Request::Unlink { name: text(rest)? },
        11 => Request::RemoveDirectory { name: text(rest)? },
        12 => rename(&fields, 0, rest)?,
        45 => rename(&fields, fields.word(8)?, rest)?,
        13 => Request::Link { inode: fields.inode(0)?, name: text(rest)? },
        14 => Request::Open,
        15 => Request::Read { offset: fields.long(8)?, size: fields.word(16)? },
        16 => {
            let data = rest.get(..fields.word(16)? as usize).ok_or(Errno::EINVAL)?.to_vec();
            let flags = fields.word(20)?;
            let kill_set_id = flags & WRITE_KILL_SET_ID != 0;
            let held_back = flags & WRITE_HELD_BACK != 0;
            Request::Write { offset: fields.long(8)?, data, kill_set_id, held_back }
        }
        17 => Request::StatFilesystem,
        18 | 29 => Request::Release,
        20 | 30 | 50 => Request::Sync,
        21 => {
            let name = text(rest)?;
            let value = rest.get(..fields.word(0)? as usize).ok_or(Errno::EINVAL)?.to_vec();
            let mode = request::xattr_mode(fields.word(4)? as i32);
            let kill_set_gid = Some(fields.word(8)? & SETXATTR_KILL_SET_GID != 0);
            Request::SetXattr { name, value, mode, kill_set_gid }
        }
        22 => Request::GetXattr { name: text(rest)?, size: fields.word(0)? },
        23 => Request::ListXattr { size: fields.word(0)? },
        24 => Request::RemoveXattr { name: text(rest)? },
        27 => Request::OpenDirectory,
        28 | 44 => {
            let (offset, size) = (fields.long(8)?, fields.word(16)?);
            Request::List(Listing { offset, size, attributes: opcode == 44 })
        }
        // Answered at once: some programs ask at every opening.
        39 => return Err(Errno::ENOTTY),
        43 => {
            let mode = request::allocate_mode(fields.word(24)? as i32).ok_or(Errno::EOPNOTSUPP)?;
            Request::Allocate { offset: fields.long(8)?, length: fields.long(16)?, mode }
        }
        46 => request::seek(fields.long(8)?, fields.word(16)? as i32)?,
        47 | 53 => Request::Copy {
            offset: fields.long(8)?,
            to: fields.inode(16)?,
            to_offset: fields.long(32)?,
            length: fields.long(40)?,
            wide: opcode == 53,
        },
        52 => Request::Statx,
        _ => return Err(Errno::ENOSYS),
    })
}

/// Whether the kernel may send it on its own behalf, in nobody's name.
pub(super) fn is_in_nobodys_name(request: &Request) -> bool {
    matches!(
        request,
        Request::Read { .. } | Request::Write { .. } | Request::List(_) | Request::Sync | Request::Release
    )
}

fn set_attributes(fields: &Fields<'_>) -> Answer<SetAttributes> {
    let set = fields.word(0)?;
    let has = |bit: u32| set & bit != 0;
    let word = |bit: u32, at: usize| has(bit).then(|| fields.word(at)).transpose();
    let time = |bit: u32, now: u32, seconds_at: usize, nanoseconds_at: usize| match has(now) {
        true => Ok(Some(SetTime::Now)),
        false => has(bit).then(|| fields.time(seconds_at, nanoseconds_at).map(SetTime::At)).transpose(),
    };
    Ok(SetAttributes {
        permissions: word(valid::MODE, 68)?.map(|mode| (mode & 0o7777) as u16),
        uid: word(valid::UID, 76)?,
        gid: word(valid::GID, 80)?,
        size: has(valid::SIZE).then(|| fields.long(16)).transpose()?,
        accessed: time(valid::ACCESSED, valid::ACCESSED_NOW, 32, 56)?,
        modified: time(valid::MODIFIED, valid::MODIFIED_NOW, 40, 60)?,
        changed: has(valid::CHANGED).then(|| fields.time(48, 64)).transpose()?,
        kill_set_id: has(valid::KILL_SET_ID),
    })
}

fn rename(fields: &Fields<'_>, flags: u32, rest: &mut &[u8]) -> Answer<Request> {
    let mode = request::rename_mode(flags).ok_or(Errno::EINVAL)?;
    Ok(Request::Rename { name: text(rest)?, new_parent: fields.inode(0)?, new_name: text(rest)?, mode })
}
