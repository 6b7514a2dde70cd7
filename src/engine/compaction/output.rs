//! The segment that takes the place of others: under a temporary name until it is whole and durable. Steps 1 to 3.

use super::copy::{Kept, location, value};
use super::read::{Slice, read_slice};
use super::victims::Victim;
use super::{CompactionPhase, Failure, Run};
use crate::engine::common::partition_dir;
use crate::engine::core::Core;
use crate::engine::disk::{Disk, FileHandle};
use crate::engine::format::frame::{self, FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::engine::format::hint::{Hint, HintWriter};
use crate::engine::format::record;
use crate::engine::format::segment::SegmentHeader;
use crate::engine::keydir::Location;
use crate::engine::planted::{Bug, planted};
use crate::engine::scan::Condition;
use crate::engine::seal::put_hint;
use crate::engine::segment::data_path;
use crate::engine::shell::Shell;
use crate::engine::types::{Epoch, Number, SegmentId};
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
    /// Where its frames end.
    pub(super) end: u64,
    pub(super) last_number: Number,
    pub(super) moved: Vec<Moved>,
    /// Keys of dead puts that were left behind, once for each put.
    pub(super) dropped: Vec<Vec<u8>>,
    /// Goes to the background thread and comes back.
    writer: Option<Writer>,
}

/// What is known of the frames written so far.
struct Writer {
    file: FileHandle,
    segment: SegmentId,
    salt: u32,
    end: u64,
    unsynced_bytes: u64,
    frames: usize,
    first_number: Number,
    first_epoch: Epoch,
    hint: HintWriter,
}

impl Writer {
    /// Appends copies of what lives in a slice; returns what was moved, and how many bytes were written. Waits for the disk.
    fn write(&mut self, victim: SegmentId, slice: &Slice, kept: &[Kept]) -> io::Result<(Vec<Moved>, u64)> {
        let mut bytes = Vec::new();
        let mut moved = Vec::new();
        for one in kept {
            self.copy_frame(victim, slice, one, &mut bytes, &mut moved);
        }
        self.file.write_at(self.end, &bytes)?;
        let count = bytes.len() as u64;
        self.end += count;
        self.unsynced_bytes += count;
        if self.unsynced_bytes >= UNSYNCED_BYTES_MAX {
            self.unsynced_bytes = 0;
            self.file.sync_data()?;
        }
        Ok((moved, count))
    }

    /// A copy of a frame with the records that live. Its number and epoch are the original's.
    fn copy_frame(
        &mut self,
        victim: SegmentId,
        slice: &Slice,
        kept: &Kept,
        bytes: &mut Vec<u8>,
        moved: &mut Vec<Moved>,
    ) {
        let original = &slice.frames[kept.frame];
        let number = original.header.number;
        let begin = bytes.len();
        bytes.resize(begin + FRAME_HEADER_BYTES, 0);
        for index in &kept.records {
            let found = &original.records[*index];
            let offset = (self.end + bytes.len() as u64) as u32;
            record::append(bytes, self.salt, found.kind, &found.key, value(slice, found));
            self.hint.push(number, offset, found.kind, found.value_length, &found.key);
            let from = location(victim, found);
            let to = Location { segment: self.segment, offset, ..from };
            moved.push(Moved { key: found.key.clone(), from, to });
        }
        let length = frame::padded_length(bytes.len() - begin);
        bytes.resize(begin + length, 0);
        let header = FrameHeader {
            length: length as u32,
            kind: FrameKind::Copy,
            commit: 0,
            parts: 1,
            records: kept.records.len() as u32,
            ..original.header
        };
        header.encode_into(&mut bytes[begin..], self.salt);
        self.frames += 1;
        self.first_number = self.first_number.min(number);
        self.first_epoch = self.first_epoch.min(header.epoch);
    }

    /// Seals and syncs. Waits for the disk.
    fn seal(&mut self, seal: &FrameHeader) -> io::Result<()> {
        self.file.write_at(self.end, &seal.encode(self.salt))?;
        if !planted(Bug::SkipOutputSync) {
            self.file.sync_data()?;
        }
        self.end += u64::from(seal.length);
        self.frames += 1;
        Ok(())
    }

    fn leave_hint(self, disk: &dyn Disk, header: &SegmentHeader, seal: &FrameHeader) -> io::Result<()> {
        let hint = Hint {
            store: header.store,
            partition: header.partition,
            segment: self.segment,
            salt: self.salt,
            sealed: true,
            data_length: self.end,
            last_number: seal.number,
            first_number: self.first_number,
            stable: seal.stable,
            first_epoch: self.first_epoch,
            entries: self.hint.entries(),
        };
        put_hint(disk, header.partition, self.segment, &self.hint.finish(hint))
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
        self.complete_output(&mut output).await?;
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
        let writer = Writer {
            file: file.clone(),
            segment: header.segment,
            salt: header.salt,
            end,
            unsynced_bytes: 0,
            frames: 0,
            first_number: last_number,
            first_epoch: self.common.order.epoch(),
            hint: HintWriter::new(),
        };
        let (moved, dropped) = (Vec::new(), Vec::new());
        Ok(Output { header, file, end, last_number, moved, dropped, writer: Some(writer) })
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

    /// Seals, syncs, reads back, and leaves a hint.
    async fn complete_output(&self, output: &mut Output) -> Result<(), Failure> {
        let mut writer = output.writer.take().ok_or_else(interrupted)?;
        let seal = FrameHeader {
            length: FRAME_HEADER_BYTES as u32,
            number: output.last_number,
            stable: self.common.order.stable(),
            commit: 0,
            epoch: self.common.order.epoch(),
            parts: 1,
            kind: FrameKind::Seal,
            records: 0,
        };
        let writer = self
            .common
            .background(move |_| {
                writer.seal(&seal)?;
                Ok(writer)
            })
            .await?;
        output.end = writer.end;
        self.read_back(output, writer.frames).await?;
        let header = output.header.clone();
        let hinted = self.common.background(move |disk| writer.leave_hint(disk, &header, &seal)).await;
        if let Err(error) = hinted {
            // The next opening reads the segment instead.
            tracing::warn!("partition {}: no hint for segment {}: {error}", self.id, output.header.segment);
        }
        Ok(())
    }

    async fn read_back(&self, output: &Output, frames: usize) -> Result<(), Failure> {
        let (salt, end) = (output.header.salt, output.end);
        let mut offset = output.header.encoded_length() as u64;
        let mut found = 0;
        let mut sealed = false;
        while offset < end {
            let file = output.file.clone();
            let read = self.common.background(move |_| read_slice(&file, salt, offset, end)).await?;
            let slice = read.ok_or_else(misread)?;
            if slice.frames.iter().any(|frame| frame.condition != Condition::Whole) {
                return Err(misread().into());
            }
            found += slice.frames.len();
            sealed = slice.ends_with_seal();
            offset = slice.end;
            self.breathe().await?;
        }
        if sealed && found == frames { Ok(()) } else { Err(misread().into()) }
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
