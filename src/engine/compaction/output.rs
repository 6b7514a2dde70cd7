//! The segment that takes the place of others: under a temporary name until it is whole and durable. Steps 1 to 3.

use super::copy::{Kept, location};
use super::read::{Slice, Source};
use super::victims::Victim;
use super::{CompactionPhase, Failure, Run};
use crate::engine::common::partition_dir;
use crate::engine::core::Core;
use crate::engine::disk::FileHandle;
use crate::engine::format::form::append_bare;
use crate::engine::format::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::engine::format::index::{IndexHead, IndexWriter};
use crate::engine::format::segment::SegmentHeader;
use crate::engine::keydir::Location;
use crate::engine::planted::{Bug, planted};
use crate::engine::scan::Condition;
use crate::engine::scan::packed::padded;
use crate::engine::segment::data_path;
use crate::engine::shell::Shell;
use crate::engine::types::{Number, SegmentId};
use std::io;

/// How much is written before it is synced, in bytes: what piles up in memory would have to go to the disk all at once, while others wait for theirs.
const UNSYNCED_BYTES_MAX: u64 = 1024 * 1024;

/// A record that was copied: from where to where.
pub(super) struct Moved {
    pub(super) key: Vec<u8>,
    pub(super) from: Location,
    pub(super) to: Location,
}

/// The segment under construction.
pub(super) struct Output {
    pub(super) header: SegmentHeader,
    pub(super) file: FileHandle,
    /// Where its index begins, once it is there.
    pub(super) index_start: u64,
    /// Where the segment ends.
    pub(super) end: u64,
    pub(super) last_number: Number,
    pub(super) moved: Vec<Moved>,
    /// Keys of dead puts that were left behind, once for each put.
    pub(super) dropped: Vec<Vec<u8>>,
    /// Goes to the background thread and comes back.
    writer: Option<Writer>,
}

/// What is written so far: values. Their index stays in memory until they all are.
struct Writer {
    tail: Tail,
    segment: SegmentId,
    salt: u32,
    records: usize,
    /// What the index says of the segment, and the seal too: one can be made again from the other.
    head: IndexHead,
    index: IndexWriter,
}

/// The end of a file that grows.
struct Tail {
    file: FileHandle,
    end: u64,
    unsynced_bytes: u64,
}

impl Tail {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(self.end, bytes)?;
        self.end += bytes.len() as u64;
        self.unsynced_bytes += bytes.len() as u64;
        if self.unsynced_bytes >= UNSYNCED_BYTES_MAX {
            self.unsynced_bytes = 0;
            self.file.sync_data()?;
        }
        Ok(())
    }
}

/// What a segment came to.
struct Completed {
    index_start: u64,
    end: u64,
    records: usize,
}

impl Writer {
    /// Appends copies of what lives in a slice; returns what was moved, and how many bytes were written. Waits for the disk.
    fn write(&mut self, victim: SegmentId, slice: &Slice, kept: &[Kept]) -> io::Result<(Vec<Moved>, u64)> {
        let mut bytes = Vec::new();
        let mut moved = Vec::new();
        for one in kept {
            let frame = &slice.frames[one.frame];
            for found in one.records.iter().map(|index| &frame.records[*index]) {
                let number = if planted(Bug::ForgetNumbers) { Number(1) } else { found.number };
                let offset = self.index.push(number, found.kind, found.value_length, &found.key);
                let end = self.tail.end + bytes.len() as u64;
                assert_eq!(u64::from(offset), end, "its place is where the index says");
                append_bare(&mut bytes, self.salt, &found.key, slice.value(found));
                let from = location(victim, found);
                let to = Location { segment: self.segment, offset, ..from };
                moved.push(Moved { key: found.key.clone(), from, to });
            }
            self.records += one.records.len();
        }
        self.tail.append(&bytes)?;
        Ok((moved, bytes.len() as u64))
    }

    /// Writes the index, seals and syncs. Waits for the disk.
    fn complete(self, seal: FrameHeader) -> io::Result<Completed> {
        let Writer { mut tail, salt, records, index, .. } = self;
        let index_start = padded(tail.end);
        let mut bytes = vec![0; (index_start - tail.end) as usize];
        bytes.extend(index.finish());
        let seal = FrameHeader { commit: tail.end, ..seal };
        bytes.extend(seal.encode(salt));
        for piece in bytes.chunks(UNSYNCED_BYTES_MAX as usize) {
            tail.append(piece)?;
        }
        if !planted(Bug::SkipOutputSync) {
            tail.file.sync_data()?;
        }
        Ok(Completed { index_start, end: tail.end, records })
    }
}

fn interrupted() -> io::Error {
    io::Error::other("a slice before it was never finished")
}

fn misread() -> io::Error {
    io::Error::other("what was read back is not what was written")
}

impl Shell {
    /// Steps 1 to 3.
    pub(super) async fn write_output(
        &self,
        victims: &[Victim],
        header: SegmentHeader,
        temporary: &str,
        run: &Run,
    ) -> Result<Output, Failure> {
        let mut output = self.begin_output(victims, header, temporary).await?;
        for victim in victims {
            self.copy_victim(victim, &mut output, run).await?;
        }
        self.progress().set_phase(CompactionPhase::Finishing);
        self.complete_output(&mut output, run).await?;
        // What made records dead may still be without a number, if this turn has been going on since: a sync wouldn't wait for it.
        self.with(Core::flush);
        if !planted(Bug::SkipStoreSync) {
            self.common.sync().await.map_err(Failure::Write)?;
        }
        self.name_output(&mut output, temporary).await?;
        Ok(output)
    }

    async fn begin_output(
        &self,
        victims: &[Victim],
        header: SegmentHeader,
        temporary: &str,
    ) -> Result<Output, Failure> {
        let encoded = header.encode();
        let end = encoded.len() as u64;
        let path = temporary.to_string();
        let file = self
            .common
            .background(move |disk| {
                let file = disk.create(&path)?;
                file.write_at(0, &encoded)?;
                Ok(file)
            })
            .await?;
        let last_number = victims.iter().map(|victim| victim.last_number).max().unwrap_or(Number::ZERO);
        let order = &self.common.order;
        let head = IndexHead { last_number, stable: order.stable(), epoch: order.epoch() };
        let writer = Writer {
            tail: Tail { file: file.clone(), end, unsynced_bytes: 0 },
            segment: header.segment,
            salt: header.salt,
            records: 0,
            head,
            index: IndexWriter::new(header.salt, head, end as u32),
        };
        let (moved, dropped) = (Vec::new(), Vec::new());
        let index_start = end;
        Ok(Output { header, file, index_start, end, last_number, moved, dropped, writer: Some(writer) })
    }

    pub(super) async fn write_copies(
        &self,
        output: &mut Output,
        victim: SegmentId,
        slice: Slice,
        kept: Vec<Kept>,
    ) -> Result<(), Failure> {
        let mut writer = output.writer.take().ok_or_else(interrupted)?;
        let (writer, moved, count) = self
            .common
            .background(move |_| {
                let (moved, count) = writer.write(victim, &slice, &kept)?;
                Ok((writer, moved, count))
            })
            .await?;
        output.writer = Some(writer);
        output.moved.extend(moved);
        self.with(|core| {
            core.counters.compaction_bytes_copied.add(count);
            core.counters.bytes_written.add(count);
        });
        Ok(())
    }

    /// Writes the index, seals, syncs and reads back.
    async fn complete_output(&self, output: &mut Output, run: &Run) -> Result<(), Failure> {
        let writer = output.writer.take().ok_or_else(interrupted)?;
        let seal = FrameHeader {
            length: FRAME_HEADER_BYTES as u32,
            number: output.last_number,
            stable: writer.head.stable,
            commit: 0,
            epoch: writer.head.epoch,
            parts: 1,
            kind: FrameKind::Seal,
            records: 0,
        };
        let completed = self.common.background(move |_| writer.complete(seal)).await?;
        (output.index_start, output.end) = (completed.index_start, completed.end);
        self.read_back(output, completed.records, run).await
    }

    async fn read_back(&self, output: &Output, records: usize, run: &Run) -> Result<(), Failure> {
        let source = Source {
            file: output.file.clone(),
            salt: output.header.salt,
            form: output.header.origin.form(),
            start: output.index_start,
            end: output.end,
        };
        let mut offset = source.start;
        let mut found = 0;
        let mut sealed = false;
        while offset < source.end {
            let source = source.clone();
            let read = self.common.background(move |_| source.read_slice(offset)).await?;
            let slice = read.ok_or_else(misread)?;
            if slice.frames.iter().any(|frame| frame.condition != Condition::Whole) {
                return Err(misread().into());
            }
            found += slice.frames.iter().map(|frame| frame.records.len()).sum::<usize>();
            sealed = slice.ends_with_seal();
            offset = slice.end;
            self.breathe(run).await?;
            // An automatic one has paid for what it reads back with what it has read.
            if run.by_hand {
                self.wait_for_rate(slice.worked_bytes(), run).await?;
            }
        }
        if sealed && found == records { Ok(()) } else { Err(misread().into()) }
    }

    /// The commit.
    async fn name_output(&self, output: &mut Output, temporary: &str) -> Result<(), Failure> {
        let partition = self.id;
        let (from, to) = (temporary.to_string(), data_path(self.id, output.header.segment));
        let named = self
            .common
            .background(move |disk| {
                disk.rename(&from, &to)?;
                disk.sync_dir(&partition_dir(partition))?;
                // A handle that may be closed while nobody reads.
                Ok(disk.open(&to).ok())
            })
            .await;
        match named {
            Ok(reopened) => {
                output.file = reopened.unwrap_or_else(|| output.file.clone());
                Ok(())
            }
            Err(error) => {
                self.disown(output.header.segment).await;
                Err(error.into())
            }
        }
    }
}
