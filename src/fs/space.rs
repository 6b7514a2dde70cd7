//! Space within files: allocating, punching holes, finding them, and copying ranges inside the store.

use super::errno::Errno;
use super::operation::Operation;
use super::state::{LockKey, Part};
use super::types::*;
use super::volume::{Volume, at};
use crate::engine::locks::{lock, visible};
use std::ops::Range;

/// How much a copy moves with one commit, in bytes.
const COPY_BYTES: u64 = 1024 * 1024;
/// How many chunks a search for holes looks at before others have a turn.
const SEEK_SLICE: usize = 4096;

impl Volume {
    /// Allocates or zeros a range. ENOSPC if what is to be allocated and isn't stored yet doesn't fit on the disk as it is now. Space isn't set
    /// aside: a log takes space when it is written to, also for what is overwritten.
    pub async fn fallocate(
        &self,
        caller: Caller,
        inode: Inode,
        offset: u64,
        length: u64,
        mode: AllocateMode,
    ) -> Answer<()> {
        Operation::on_range("fallocate", inode, offset, length).begins();
        let part = self.part_of_inode(inode).clone();
        let _guard = lock(&part, LockKey::Inode(inode)).await;
        let mut record = self.load(&part, inode).await?;
        match record.kind {
            Kind::File => {}
            Kind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        let end = offset.checked_add(length).filter(|end| *end <= self.size_max()).ok_or(Errno::EFBIG)?;
        if length == 0 {
            return Err(Errno::EINVAL);
        }
        let size = match mode {
            AllocateMode::Grow | AllocateMode::ZeroRange { keep_size: false } => record.size.max(end),
            _ => record.size,
        };
        if matches!(mode, AllocateMode::Grow | AllocateMode::KeepSize) {
            let missing = length - self.stored_within(&part, inode, offset..end).await.min(length);
            if missing > self.inner.store.space().map_err(|_| Errno::EIO)?.available_bytes {
                return Err(Errno::ENOSPC);
            }
            // Counts as a change even if no byte changes, as on local disks.
            let now = self.now();
            record.modified = now;
            record.changed = now;
            if caller.uid != 0 {
                record.strip_set_id(caller.uid, caller.gid);
            }
            return self.resize(&part, inode, record, size).await;
        }
        let ticket = self.zero_locked(&part, caller, inode, offset, length, size).await?;
        part.settle(ticket).await?;
        Ok(())
    }

    /// Finds data or a hole from `offset` on; ENXIO beyond the end.
    pub async fn seek(&self, inode: Inode, offset: u64, what: Seek) -> Answer<u64> {
        Operation::on_range("lseek", inode, offset, 0).begins();
        let part = self.part_of_inode(inode).clone();
        visible(&part, &LockKey::Inode(inode)).await;
        let record = self.load(&part, inode).await?;
        if offset >= record.size {
            return Err(Errno::ENXIO);
        }
        let chunk_bytes = u64::from(self.inner.chunk_bytes);
        let found = match what {
            Seek::Data if record.inline => Some(offset),
            Seek::Hole if record.inline => Some(record.size),
            Seek::Data => self
                .chunks_from(&part, inode, offset / chunk_bytes, 1)
                .first()
                .map(|index| offset.max(u64::from(*index) * chunk_bytes))
                .filter(|found| *found < record.size),
            Seek::Hole => Some(self.hole_behind(&part, inode, offset).await.min(record.size)),
        };
        part.settled().await?;
        found.ok_or(Errno::ENXIO)
    }

    /// Where the first hole from `offset` on begins, the file's end aside.
    async fn hole_behind(&self, part: &Part, inode: Inode, offset: u64) -> u64 {
        let chunk_bytes = u64::from(self.inner.chunk_bytes);
        let mut index = offset / chunk_bytes;
        loop {
            let found = self.chunks_from(part, inode, index, SEEK_SLICE);
            let stored =
                found.iter().zip(index..).take_while(|(found, index)| u64::from(**found) == *index).count();
            index += stored as u64;
            if stored < SEEK_SLICE {
                return offset.max(index * chunk_bytes);
            }
            part.give_way().await;
        }
    }

    /// How many bytes the stored chunks of a range take, counted as whole ones.
    async fn stored_within(&self, part: &Part, inode: Inode, range: Range<u64>) -> u64 {
        let chunk_bytes = u64::from(self.inner.chunk_bytes);
        let (mut first, behind) = (range.start / chunk_bytes, range.end.div_ceil(chunk_bytes));
        let mut stored = 0;
        loop {
            let found = self.chunks_from(part, inode, first, SEEK_SLICE);
            let within = found.iter().take_while(|index| u64::from(**index) < behind).count();
            stored += within as u64;
            match found.last() {
                Some(last) if within == SEEK_SLICE => first = u64::from(*last) + 1,
                _ => return stored * chunk_bytes,
            }
            part.give_way().await;
        }
    }

    /// Copies a range between files (or within one) without the bytes leaving the store; returns how many.
    pub async fn copy_range(
        &self,
        caller: Caller,
        from: Inode,
        from_offset: u64,
        to: Inode,
        to_offset: u64,
        length: u64,
    ) -> Answer<u64> {
        Operation::on_range("copy_file_range", from, from_offset, length).begins();
        let here = self.part_of_inode(from).clone();
        let there = self.part_of_inode(to).clone();
        let overlaps =
            from_offset < to_offset.saturating_add(length) && to_offset < from_offset.saturating_add(length);
        if from == to && overlaps {
            return Err(Errno::EINVAL);
        }
        let mut copied = 0;
        while copied < length {
            let wanted = (length - copied).min(COPY_BYTES) as u32;
            visible(&here, &LockKey::Inode(from)).await;
            let record = self.load(&here, from).await?;
            let mut bytes = vec![0; wanted as usize];
            let count = self.read_as(&here, from, &record, from_offset + copied, &mut bytes).await?;
            if count == 0 {
                break;
            }
            bytes.truncate(count);
            let (volume, offset) = (self.clone(), to_offset + copied);
            let effects = WriteEffects { kill_set_id: caller.uid != 0, keep_times: false };
            let written =
                at(
                    &here,
                    &there,
                    move || async move { volume.write(caller, to, offset, bytes, effects).await },
                )
                .await?;
            copied += u64::from(written);
        }
        here.settled().await?;
        Ok(copied)
    }
}
