//! Whether a packed segment's index is what was written; and if not, and its entries are all known, it is made so again.

use crate::engine::disk::FileHandle;
use crate::engine::format::SegmentHeader;
use crate::engine::scan::packed::PackedIndex;
use std::io;

/// Writes what is damaged of an index, or of the seal behind it, over itself; whether it has. What is written are the very bytes that were there, so
/// that a crash in the middle leaves nothing worse than it was. Waits for the disk.
pub(super) fn put_right(file: &FileHandle, header: &SegmentHeader, end: u64) -> io::Result<bool> {
    let index = PackedIndex::read(file, header, end)?;
    let Some(wanted) = index.encode_again(header) else { return Ok(false) };
    let mut found = vec![0; wanted.len()];
    let count = file.read_at(index.offset, &mut found)?;
    let differs = |at: &usize| *at >= count || found[*at] != wanted[*at];
    let Some(first) = (0..wanted.len()).find(differs) else { return Ok(false) };
    let last = (first..wanted.len()).rfind(differs).unwrap_or(first);
    tracing::warn!(
        "segment {}: its index was damaged at offset {}; mended",
        header.segment,
        index.offset + first as u64
    );
    file.write_at(index.offset + first as u64, &wanted[first..=last])?;
    file.sync_data()?;
    Ok(true)
}
