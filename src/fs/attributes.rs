//! An inode's record: attributes, and behind them the content of a small file or a symlink's target. Pure.
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | kind |
//! | 2 | 2 | permissions |
//! | 4 | 4 | flags: bit 0, the content is in this record |
//! | 8 | 4 | links |
//! | 12 | 4 | user |
//! | 16 | 4 | group |
//! | 20 | 4 | device |
//! | 24 | 8 | size in bytes |
//! | 32 | 8 | bytes stored in chunks |
//! | 40 | 4 | number of extended attributes |
//! | 44 | 12 each | accessed, modified, changed, born |
//! | 92 | 8 | of a directory: changes of its names with a number up to this don't count for its times |
//! | 100 | | content |

use super::keys::{get_time, kind_code, kind_from_code, put_time};
use super::types::{Attributes, Inode, Kind, Time};
use crate::engine::Number;

const VERSION: u8 = 1;
/// Bytes before the content.
pub const RECORD_BYTES_MIN: usize = 100;
/// The largest file whose content is kept in its inode's record, in bytes.
pub const INLINE_BYTES_MAX: u64 = 4096;

/// What is kept of an inode, its content aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InodeRecord {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky bits.
    pub permissions: u16,
    /// Whether the content is in this record, not in chunks.
    pub inline: bool,
    /// Names; for directories 2 and one for each directory in it.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of a device.
    pub device: u32,
    /// Length of the content in bytes.
    pub size: u64,
    /// Bytes stored in chunks.
    pub stored_bytes: u64,
    /// How many extended attributes it has.
    pub xattrs: u32,
    /// Last access.
    pub accessed: Time,
    /// Last change of the content.
    pub modified: Time,
    /// Last change of the inode.
    pub changed: Time,
    /// Birth.
    pub born: Time,
    /// Of a directory: changes of its names with a number up to this don't count for its times, which were set afterwards.
    pub overruled: Number,
}

impl InodeRecord {
    /// The record's bytes, with the content behind the attributes if it is kept there.
    pub fn encode(&self, content: &[u8]) -> Vec<u8> {
        debug_assert!(self.inline || content.is_empty());
        let mut out = Vec::with_capacity(RECORD_BYTES_MIN + content.len());
        out.extend_from_slice(&[VERSION, kind_code(self.kind)]);
        out.extend_from_slice(&self.permissions.to_le_bytes());
        out.extend_from_slice(&u32::from(self.inline).to_le_bytes());
        for number in [self.links, self.uid, self.gid, self.device] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&self.stored_bytes.to_le_bytes());
        out.extend_from_slice(&self.xattrs.to_le_bytes());
        for time in [self.accessed, self.modified, self.changed, self.born] {
            put_time(&mut out, time);
        }
        out.extend_from_slice(&self.overruled.0.to_le_bytes());
        out.extend_from_slice(content);
        out
    }

    /// Reads a record; None if it isn't one that we know.
    pub fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        if *bytes.first()? != VERSION {
            return None;
        }
        let record = InodeRecord {
            kind: kind_from_code(*bytes.get(1)?)?,
            permissions: u16_at(2)?,
            inline: u32_at(4)? & 1 != 0,
            links: u32_at(8)?,
            uid: u32_at(12)?,
            gid: u32_at(16)?,
            device: u32_at(20)?,
            size: u64_at(24)?,
            stored_bytes: u64_at(32)?,
            xattrs: u32_at(40)?,
            accessed: get_time(bytes, 44)?,
            modified: get_time(bytes, 56)?,
            changed: get_time(bytes, 68)?,
            born: get_time(bytes, 80)?,
            overruled: Number(u64_at(92)?),
        };
        let content = bytes.get(RECORD_BYTES_MIN..)?;
        Some((record, content))
    }

    /// What is shown of an inode whose record is damaged: nobody but root may do anything with it; and it isn't empty, so that whoever
    /// reads it is told.
    pub fn unknown(kind: Kind) -> Self {
        let never = Time::default();
        InodeRecord {
            kind,
            permissions: 0,
            inline: true,
            links: 1,
            uid: 0,
            gid: 0,
            device: 0,
            size: INLINE_BYTES_MAX,
            stored_bytes: 0,
            xattrs: 0,
            accessed: never,
            modified: never,
            changed: never,
            born: never,
            overruled: Number::ZERO,
        }
    }

    /// What `stat` shows.
    pub fn attributes(&self, inode: Inode, block_bytes: u32) -> Attributes {
        let stored = if self.inline { self.size } else { self.stored_bytes };
        Attributes {
            inode,
            kind: self.kind,
            permissions: self.permissions,
            links: self.links,
            uid: self.uid,
            gid: self.gid,
            device: self.device,
            size: self.size,
            blocks: stored.div_ceil(512),
            block_bytes,
            accessed: self.accessed,
            modified: self.modified,
            changed: self.changed,
            born: self.born,
        }
    }

    /// Of a directory: a name in it has changed at `time`. Word of that may come late, when the record knows of something newer: `changed`
    /// tells, which nobody can set by hand.
    pub fn name_changed_at(&mut self, time: Time) {
        let newest = time >= self.changed || self.overruled > Number::ZERO;
        self.modified = if newest { time } else { self.modified.max(time) };
        self.changed = self.changed.max(time);
    }

    /// Clears the set-id bits that a change by a stranger must clear: set-user-id; set-group-id if the group may execute, or if the
    /// one who changes is neither root nor of the file's group.
    pub fn strip_set_id(&mut self, caller_uid: u32, caller_gid: u32) {
        if self.kind == Kind::Directory {
            return;
        }
        self.permissions &= !0o4000;
        let outsider = caller_uid != 0 && caller_gid != self.gid;
        if self.permissions & 0o010 != 0 || outsider {
            self.permissions &= !0o2000;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change of names that was told late, behind a newer one, once took a directory's times back to the older.
    #[test]
    fn late_word_of_a_change_never_takes_times_back() {
        let time = |seconds| Time { seconds, nanoseconds: 0 };
        let mut record = InodeRecord {
            kind: Kind::Directory,
            permissions: 0o755,
            inline: false,
            links: 2,
            uid: 0,
            gid: 0,
            device: 0,
            size: 0,
            stored_bytes: 0,
            xattrs: 0,
            accessed: time(1),
            modified: time(1),
            changed: time(1),
            born: time(1),
            overruled: Number::ZERO,
        };
        record.name_changed_at(time(9));
        record.name_changed_at(time(5));
        assert_eq!((record.modified, record.changed), (time(9), time(9)));
        // Set by hand to the future, and written: the next change of a name counts all the same.
        record.modified = time(1000);
        record.name_changed_at(time(10));
        assert_eq!((record.modified, record.changed), (time(10), time(10)));
        // Set by hand to the past, not yet written.
        (record.modified, record.overruled) = (time(2), Number(7));
        record.name_changed_at(time(11));
        assert_eq!((record.modified, record.changed), (time(11), time(11)));
    }

    #[test]
    fn a_record_is_what_it_always_was() {
        let time = |seconds| Time { seconds, nanoseconds: 7 };
        let record = InodeRecord {
            kind: Kind::File,
            permissions: 0o644,
            inline: true,
            links: 1,
            uid: 2,
            gid: 3,
            device: 4,
            size: 5,
            stored_bytes: 6,
            xattrs: 7,
            accessed: time(8),
            modified: time(9),
            changed: time(10),
            born: time(11),
            overruled: Number(12),
        };
        let bytes = record.encode(b"hello");
        assert_eq!(bytes.len(), RECORD_BYTES_MIN + 5);
        assert_eq!(&bytes[..24], [1, 1, 0xa4, 1, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]);
        assert_eq!(&bytes[24..44], [5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(&bytes[44..56], [8, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(&bytes[92..100], [12, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(InodeRecord::decode(&bytes), Some((record, &b"hello"[..])));
        for length in 0..RECORD_BYTES_MIN {
            assert_eq!(InodeRecord::decode(&bytes[..length]), None);
        }
    }
}
