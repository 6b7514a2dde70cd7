//! Content of files: small ones in their inode's record, larger ones in chunks, holes where there is no chunk. Knows nothing of names.
//!
//! A change of content is one commit: its chunks and the inode's record, whole or absent after a crash.

use super::attributes::{INLINE_BYTES_MAX, InodeRecord};
use super::chunk::{Piece, pieces};
use super::errno::Errno;
use super::keys;
use super::operation::Operation;
use super::state::LockKey;
use super::state::Part;
use super::types::*;
use super::volume::Volume;
use crate::engine::locks::{lock, visible};
use crate::engine::{Batch, Ticket};
use std::collections::BTreeMap;
use std::ops::Range;

/// Fills the room: what is stored, and then zeros.
fn copy_with_zeros(stored: &[u8], room: &mut [u8]) {
    let (copied, zeros) = room.split_at_mut(stored.len().min(room.len()));
    copied.copy_from_slice(&stored[..copied.len()]);
    zeros.fill(0);
}

/// The most chunks that one commit removes.
const REMOVED_CHUNKS_MAX: usize = 256 * 1024;

impl Volume {
    /// Reads; fewer bytes only at the end of the file.
    pub async fn read(&self, inode: Inode, offset: u64, length: u32) -> Answer<Vec<u8>> {
        let mut bytes = vec![0; length as usize];
        let count = self.read_into(inode, offset, &mut bytes).await?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Reads as much as there is room for; how many bytes there were: fewer only at the end of the file. What the room holds after an error, or behind
    /// those bytes, is anything.
    pub async fn read_into(&self, inode: Inode, offset: u64, room: &mut [u8]) -> Answer<usize> {
        Operation::on_range("read", inode, offset, room.len() as u64).begins();
        let part = self.part_of_inode(inode).clone();
        visible(&part, &LockKey::Inode(inode)).await;
        let record = self.load(&part, inode).await?;
        let count = self.read_as(&part, inode, &record, offset, room).await;
        if count == Err(Errno::EIO) {
            self.explain(inode).await;
        }
        part.settled().await?;
        count
    }

    /// Reads as the record says. No await lies between the look at the record and the look at the chunks.
    pub(super) async fn read_as(
        &self,
        part: &Part,
        inode: Inode,
        record: &InodeRecord,
        offset: u64,
        room: &mut [u8],
    ) -> Answer<usize> {
        match record.kind {
            Kind::File => {}
            Kind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        let length = (record.size.saturating_sub(offset)).min(room.len() as u64) as usize;
        let room = &mut room[..length];
        if length == 0 {
            return Ok(0);
        }
        if record.inline {
            let content = self.inline_content(part, inode).await?;
            copy_with_zeros(content.get(offset as usize..).unwrap_or(&[]), room);
            return Ok(length);
        }
        let pieces: Vec<Piece> = pieces(offset, length, self.inner.chunk_bytes).collect();
        let keys: Vec<Vec<u8>> = pieces.iter().map(|piece| keys::chunk(inode, piece.index)).collect();
        let mut count = Ok(length);
        part.visit(&keys, |index, chunk| {
            let piece = &pieces[index];
            let room = &mut room[piece.range_offset..][..piece.length];
            match chunk {
                Ok(chunk) => {
                    let stored = chunk.and_then(|chunk| chunk.get(piece.chunk_offset..));
                    copy_with_zeros(stored.unwrap_or(&[]), room);
                }
                Err(error) => count = Err(error.into()),
            }
        })
        .await;
        count
    }

    /// Writes all of it, or nothing.
    pub async fn write(
        &self,
        caller: Caller,
        inode: Inode,
        offset: u64,
        data: Vec<u8>,
        effects: WriteEffects,
    ) -> Answer<u32> {
        Operation::on_range("write", inode, offset, data.len() as u64).begins();
        let part = self.part_of_inode(inode);
        let _guard = lock(part, LockKey::Inode(inode)).await;
        let ticket = self.write_locked(part, caller, inode, offset, &data, effects).await?;
        part.settle(ticket).await?;
        Ok(data.len() as u32)
    }

    /// Writes; the caller holds the inode's lock and settles.
    pub(super) async fn write_locked(
        &self,
        part: &Part,
        caller: Caller,
        inode: Inode,
        offset: u64,
        data: &[u8],
        effects: WriteEffects,
    ) -> Answer<Ticket> {
        let mut record = self.load(part, inode).await?;
        if record.kind != Kind::File {
            return Err(Errno::EINVAL);
        }
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= self.size_max());
        let end = end.ok_or(Errno::EFBIG)?;
        if !effects.keep_times {
            let now = self.now();
            record.modified = now;
            record.changed = now;
        }
        if effects.kill_set_id {
            record.strip_set_id(caller.uid, caller.gid);
        }
        let size = record.size.max(end);
        if record.inline && size <= INLINE_BYTES_MAX {
            if offset == 0 && end == size {
                // Nothing of what was there is kept.
                record.size = size;
                return self.put(part, inode, record, data, BTreeMap::new()).await;
            }
            let mut content = self.content_to_keep(part, inode, &record).await?;
            if content.len() < end as usize {
                content.resize(end as usize, 0);
            }
            content[offset as usize..end as usize].copy_from_slice(data);
            record.size = size;
            return self.put(part, inode, record, &content, BTreeMap::new()).await;
        }
        let mut changes = Changes::default();
        if record.inline {
            self.move_out(part, inode, &mut record, &mut changes).await?;
        }
        self.overlay(part, inode, offset, data, &mut changes).await?;
        record.size = size;
        self.put(part, inode, record, &[], changes.chunks).await
    }

    /// The content goes from the inode's record into chunks.
    async fn move_out(
        &self,
        part: &Part,
        inode: Inode,
        record: &mut InodeRecord,
        changes: &mut Changes,
    ) -> Answer<()> {
        let content = self.content_to_keep(part, inode, record).await?;
        record.inline = false;
        record.stored_bytes = 0;
        // All of it fits into the first chunk.
        if !content.is_empty() {
            changes.set(0, Some(content));
        }
        Ok(())
    }

    /// Adds to the changes what writing `data` does to the chunks.
    async fn overlay(
        &self,
        part: &Part,
        inode: Inode,
        offset: u64,
        data: &[u8],
        changes: &mut Changes,
    ) -> Answer<()> {
        let chunk_bytes = self.inner.chunk_bytes as usize;
        let pieces: Vec<Piece> = pieces(offset, data.len(), self.inner.chunk_bytes).collect();
        let partial = |piece: &&Piece| piece.length < chunk_bytes && !changes.has(piece.index);
        let wanted: Vec<u32> = pieces.iter().filter(partial).map(|piece| piece.index).collect();
        let keys: Vec<Vec<u8>> = wanted.iter().map(|index| keys::chunk(inode, *index)).collect();
        let found = if keys.is_empty() { Vec::new() } else { part.get_many(&keys).await };
        for (index, chunk) in wanted.into_iter().zip(found) {
            if let Some(chunk) = chunk? {
                changes.set(index, Some(chunk));
            }
        }
        for piece in pieces {
            let source = &data[piece.range_offset..piece.range_offset + piece.length];
            let chunk = changes.chunk(piece.index);
            let end = piece.chunk_offset + piece.length;
            if chunk.len() < end {
                chunk.resize(end, 0);
            }
            chunk[piece.chunk_offset..end].copy_from_slice(source);
        }
        Ok(())
    }

    /// Appends the inode's record with its changed chunks as one commit. The caller holds the inode's lock and settles.
    async fn put(
        &self,
        part: &Part,
        inode: Inode,
        record: InodeRecord,
        content: &[u8],
        chunks: BTreeMap<u32, Option<Vec<u8>>>,
    ) -> Answer<Ticket> {
        let mut record = record;
        let mut batch = Batch::new();
        let removes_only = chunks.values().all(Option::is_none) && !chunks.is_empty();
        // Nobody else changes the chunks meanwhile, so what they hold now is what they will hold.
        part.with(|core, _| {
            for (index, chunk) in chunks {
                let key = keys::chunk(inode, index);
                let before = core.value_length(&key).unwrap_or(0) as u64;
                let after = chunk.as_ref().map_or(0, Vec::len) as u64;
                record.stored_bytes = (record.stored_bytes + after).saturating_sub(before);
                match chunk {
                    Some(chunk) => drop(batch.put(key, chunk)),
                    None => drop(batch.remove(key)),
                }
            }
        });
        batch.put(keys::inode(inode), record.encode(content));
        match removes_only {
            true => part.room_to_free(batch.records_bytes()).await?,
            false => part.room(batch.records_bytes()).await?,
        }
        Ok(part.with(|core, state| {
            if let Some(live) = state.live.get_mut(&inode) {
                live.record = record;
            }
            core.append(&batch)
        }))
    }

    /// Gives a file another size; writes the record as well. The caller holds the inode's lock.
    pub(super) async fn resize(
        &self,
        part: &Part,
        inode: Inode,
        record: InodeRecord,
        size: u64,
    ) -> Answer<()> {
        let mut record = record;
        if record.inline && size <= INLINE_BYTES_MAX {
            let mut content = self.content_to_keep(part, inode, &record).await?;
            content.resize(size as usize, 0);
            record.size = size;
            let ticket = self.put(part, inode, record, &content, BTreeMap::new()).await?;
            return Ok(part.settle(ticket).await?);
        }
        let mut changes = Changes::default();
        if record.inline {
            self.move_out(part, inode, &mut record, &mut changes).await?;
        } else if size < record.size {
            self.shrink(part, inode, &mut record, size, &mut changes).await?;
        }
        record.size = size;
        let ticket = self.put(part, inode, record, &[], changes.chunks).await?;
        part.settle(ticket).await?;
        Ok(())
    }

    /// Removes what lies behind `size`, so that it reads as zeros when the file grows again.
    async fn shrink(
        &self,
        part: &Part,
        inode: Inode,
        record: &mut InodeRecord,
        size: u64,
        changes: &mut Changes,
    ) -> Answer<()> {
        let chunk_bytes = u64::from(self.inner.chunk_bytes);
        let kept_in_last = (size % chunk_bytes) as usize;
        if kept_in_last > 0 {
            let index = (size / chunk_bytes) as u32;
            if let Some(mut chunk) = part.get(&keys::chunk(inode, index)).await?
                && chunk.len() > kept_in_last
            {
                chunk.truncate(kept_in_last);
                changes.set(index, Some(chunk));
            }
        }
        let first_gone = size.div_ceil(chunk_bytes);
        let gone = self.thin_out(part, inode, record, first_gone..u64::MAX).await?;
        gone.into_iter().for_each(|index| changes.set(index, None));
        if size == 0 {
            // An empty file starts anew as a small one.
            record.inline = true;
            if changes.chunks.is_empty() {
                record.stored_bytes = 0;
            }
        }
        Ok(())
    }

    /// Makes holes of a range's stored chunks until the rest fits into one commit; returns the rest. (Too many for one commit: the
    /// file first gets holes.)
    async fn thin_out(
        &self,
        part: &Part,
        inode: Inode,
        record: &mut InodeRecord,
        chunks: Range<u64>,
    ) -> Answer<Vec<u32>> {
        loop {
            let mut gone = self.chunks_from(part, inode, chunks.start, REMOVED_CHUNKS_MAX + 1);
            gone.retain(|index| chunks.contains(&u64::from(*index)));
            if gone.len() <= REMOVED_CHUNKS_MAX {
                return Ok(gone);
            }
            let slice = gone[..REMOVED_CHUNKS_MAX].iter().map(|index| (*index, None)).collect();
            let ticket = self.put(part, inode, *record, &[], slice).await?;
            part.settle(ticket).await?;
            record.stored_bytes = self.load(part, inode).await?.stored_bytes;
        }
    }

    /// Indexes of stored chunks from `first` on, in order, at most `count_max`.
    pub(super) fn chunks_from(&self, part: &Part, inode: Inode, first: u64, count_max: usize) -> Vec<u32> {
        let Ok(first) = u32::try_from(first) else { return Vec::new() };
        let prefix = keys::chunks_of(inode);
        let after = first.checked_sub(1).map(|index| keys::chunk(inode, index));
        let listed = part.with(|core, _| core.list(&prefix, after.as_deref(), count_max));
        listed.iter().filter_map(|key| keys::parse_chunk(key)).map(|(_, index)| index).collect()
    }

    /// Zeros a range; whole chunks become holes. The caller holds the inode's lock and settles.
    pub(super) async fn zero_locked(
        &self,
        part: &Part,
        caller: Caller,
        inode: Inode,
        offset: u64,
        length: u64,
        size: u64,
    ) -> Answer<Ticket> {
        let mut record = self.load(part, inode).await?;
        let now = self.now();
        record.modified = now;
        record.changed = now;
        if caller.uid != 0 {
            record.strip_set_id(caller.uid, caller.gid);
        }
        let end = (offset + length).min(record.size);
        if record.inline && size <= INLINE_BYTES_MAX {
            let mut content = self.content_to_keep(part, inode, &record).await?;
            if offset < end {
                content[offset as usize..end as usize].fill(0);
            }
            content.resize(size as usize, 0);
            record.size = size;
            return self.put(part, inode, record, &content, BTreeMap::new()).await;
        }
        let mut changes = Changes::default();
        if record.inline {
            self.move_out(part, inode, &mut record, &mut changes).await?;
        }
        if offset < end {
            let chunk_bytes = u64::from(self.inner.chunk_bytes);
            let whole = offset.div_ceil(chunk_bytes)..end / chunk_bytes;
            if changes.chunks.is_empty() {
                self.thin_out(part, inode, &mut record, whole).await?;
            }
            self.zero_chunks(part, inode, offset, end, &mut changes).await?;
        }
        record.size = size;
        self.put(part, inode, record, &[], changes.chunks).await
    }

    async fn zero_chunks(
        &self,
        part: &Part,
        inode: Inode,
        offset: u64,
        end: u64,
        changes: &mut Changes,
    ) -> Answer<()> {
        let chunk_bytes = u64::from(self.inner.chunk_bytes);
        let last = (end - 1) / chunk_bytes;
        // The whole ones fit into one commit by now; one more on either side is zeroed in part.
        let mut touched = self.chunks_from(part, inode, offset / chunk_bytes, REMOVED_CHUNKS_MAX + 2);
        touched.extend(changes.chunks.keys());
        touched.retain(|index| (offset / chunk_bytes..=last).contains(&u64::from(*index)));
        touched.sort_unstable();
        touched.dedup();
        for index in touched {
            let start = u64::from(index) * chunk_bytes;
            let from = (offset.max(start) - start) as usize;
            let to = (end.min(start + chunk_bytes) - start) as usize;
            if from == 0 && to as u64 == chunk_bytes {
                changes.set(index, None);
                continue;
            }
            if !changes.has(index)
                && let Some(chunk) = part.get(&keys::chunk(inode, index)).await?
            {
                changes.set(index, Some(chunk));
            }
            let chunk = changes.chunk(index);
            let to = to.min(chunk.len());
            if from < to {
                chunk[from..to].fill(0);
            }
        }
        Ok(())
    }
}

/// Chunks that a commit changes: to what, or to a hole.
#[derive(Default)]
struct Changes {
    chunks: BTreeMap<u32, Option<Vec<u8>>>,
}

impl Changes {
    fn has(&self, index: u32) -> bool {
        self.chunks.contains_key(&index)
    }

    fn set(&mut self, index: u32, to: Option<Vec<u8>>) {
        self.chunks.insert(index, to);
    }

    /// The new content of a chunk; empty if it isn't changed yet.
    fn chunk(&mut self, index: u32) -> &mut Vec<u8> {
        self.chunks.entry(index).or_default().get_or_insert_default()
    }
}
