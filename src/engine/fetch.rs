//! Reading values: from the append buffer, from memory where the kernel has them, else from the disk. Every byte is verified
//! before it is given out. Knows nothing of how records got where they are.
//!
//! A record may move (compaction) between the look at the keydir and the read. The file stays readable through its handle,
//! so what is read is still right; only if it isn't, the key is looked up once more before damage is reported.

use super::core::{Core, record_bytes};
use super::disk::FileHandle;
use super::error::ReadError;
use super::format::Form;
use super::keydir::Location;
use super::lanes;
use super::segment::Segment;
use super::shell::Shell;
use super::stats::{ERRORS_KEPT, IntegrityError};
use super::types::{PartitionId, SegmentId};

/// Records that lie no further apart are read together, in bytes.
const GAP_BYTES_MAX: u64 = 4 * 1024;
/// Which part of the files that may be open may be those of lanes.
const LANES_SHARE: usize = 2;
/// The most that is read together, in bytes.
const RUN_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Where a record must be read from.
pub(crate) struct OnDisk {
    file: FileHandle,
    salt: u32,
    form: Form,
    location: Location,
    length: usize,
}

pub(crate) enum Found {
    Absent,
    Value(Vec<u8>),
    OnDisk(OnDisk),
}

/// What is read of a record at once, or of a longer one what lies before its value, goes into this much of the stack, in bytes.
const STACK_BYTES: usize = 512;

impl Found {
    /// The value, read by this thread; it must be in no turn. None if that fails or what is read isn't right: then the slow way finds out why.
    pub(crate) fn read_here(self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let on_disk = match self {
            Found::Absent => return Some(None),
            Found::Value(value) => return Some(Some(value)),
            Found::OnDisk(on_disk) => on_disk,
        };
        let (head_bytes, offset) = (on_disk.form.head_bytes(key.len()), u64::from(on_disk.location.offset));
        let (mut short, mut long) = ([0; STACK_BYTES], Vec::new());
        if let Some(record) = short.get_mut(..on_disk.length) {
            let count = on_disk.file.read_at(offset, record).ok()?;
            let (head, value) = record.split_at(head_bytes);
            on_disk.form.check(head, value, key, on_disk.salt).ok()?;
            return (count == on_disk.length).then(|| Some(value.to_vec()));
        }
        let head = match short.get_mut(..head_bytes) {
            Some(head) => head,
            None => {
                long.resize(head_bytes, 0);
                &mut long[..]
            }
        };
        // The value goes straight to where it stays.
        let mut value = vec![0; on_disk.location.value_length as usize];
        let count = on_disk.file.read_parts_at(offset, head, &mut value).ok()?;
        on_disk.form.check(head, &value, key, on_disk.salt).ok()?;
        (count == on_disk.length).then_some(Some(value))
    }
}

impl Core {
    /// The value, if it is in the append buffer; else where it lies.
    fn find(&self, key: &[u8]) -> Found {
        self.find_through(key, |segment| segment.file.clone())
    }

    fn find_through(&self, key: &[u8], file: impl FnOnce(&Segment) -> FileHandle) -> Found {
        match self.keydir.live(key) {
            Some(location) => self.find_at(key, location, file),
            None => Found::Absent,
        }
    }

    fn find_at(&self, key: &[u8], location: Location, file: impl FnOnce(&Segment) -> FileHandle) -> Found {
        if let Some(value) = self.buffered(key, location) {
            return Found::Value(value.to_vec());
        }
        let segment = &self.segments[&location.segment];
        let length = segment.form.length(key.len(), location.value_length as usize);
        let (salt, form) = (segment.salt, segment.form);
        Found::OnDisk(OnDisk { file: file(segment), salt, form, location, length })
    }

    fn buffered(&self, key: &[u8], location: Location) -> Option<&[u8]> {
        if location.segment != self.active() {
            return None;
        }
        let length = record_bytes(key, location) as usize;
        let bytes = self.log().buffered(u64::from(location.offset), length)?;
        Some(&bytes[Form::Whole.head_bytes(key.len())..])
    }

    /// The value of a short record, if it can be had without waiting; else where it lies.
    fn find_near(&mut self, key: &[u8]) -> Found {
        let Some(location) = self.keydir.live(key) else { return Found::Absent };
        // What isn't handed over yet is never here.
        if let Some(value) = self.vicinity.value(key, location) {
            return Found::Value(value.to_vec());
        }
        if let Some(value) = self.buffered(key, location) {
            return Found::Value(value.to_vec());
        }
        let segment = &self.segments[&location.segment];
        if let Some(count) = self.vicinity.read(segment, key, location) {
            self.counters.reads.mine().bytes_read.add(count as u64);
            if let Some(value) = self.vicinity.value(key, location) {
                return Found::Value(value.to_vec());
            }
        }
        self.find_at(key, location, |segment| segment.file.clone())
    }

    /// Where a key's value is, for who answers at once, and which segment should be opened for the thread's lane; None while what is here isn't
    /// settled.
    pub(crate) fn look(&self, key: &[u8]) -> Option<(Found, Option<SegmentId>)> {
        if !self.is_all_settled() {
            return None;
        }
        let mut lacking = None;
        let found = self.find_through(key, |segment| {
            let (file, lacks_lane) = segment.file_here();
            if lacks_lane && self.has_descriptors_to_spare() {
                lacking = Some(segment.id);
            }
            file.clone()
        });
        let reads = self.counters.reads.mine();
        reads.gets.add(1);
        match &found {
            Found::Absent => reads.misses.add(1),
            Found::Value(_) => {}
            Found::OnDisk(on_disk) => reads.bytes_read.add(on_disk.length as u64),
        }
        Some((found, lacking))
    }

    /// Whether all segments could be opened once more for each lane, and others would still have enough.
    fn has_descriptors_to_spare(&self) -> bool {
        let files = self.segments.len() * self.common.partition_count() * (1 + lanes::count());
        files * LANES_SHARE <= self.common.disk.open_files_max()
    }

    fn is_still_at(&self, key: &[u8], location: Location) -> bool {
        self.keydir.live(key) == Some(location)
    }

    /// Notes a record that failed its checksum.
    pub(crate) fn note_damage(&self, key: &[u8], segment: SegmentId, offset: u64) {
        self.counters.crc_errors.add(1);
        let error = IntegrityError {
            partition: self.partition.0,
            segment: segment.0,
            offset,
            key: key.to_vec(),
            noticed_ns: self.common.clock.wall_ns(),
        };
        tracing::error!(
            partition = error.partition,
            segment = error.segment,
            offset,
            "a record fails its checksum"
        );
        let mut errors = self.counters.errors.lock();
        if errors.len() == ERRORS_KEPT {
            errors.pop_front();
        }
        errors.push_back(error);
    }
}

impl Shell {
    /// See [`Partition::get`](super::partition::Partition::get).
    pub(crate) async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let counters = &self.common.partition_counters[self.id.index()];
        counters.reads.mine().gets.add(1);
        loop {
            let on_disk = match self.with(|core| core.find_near(key)) {
                Found::Absent => {
                    counters.reads.mine().misses.add(1);
                    return Ok(None);
                }
                Found::Value(value) => return Ok(Some(value)),
                Found::OnDisk(on_disk) => on_disk,
            };
            let offset = u64::from(on_disk.location.offset);
            let bytes = match self.read_range(&on_disk.file, offset, on_disk.length).await {
                Ok(bytes) => bytes,
                // Its segment was replaced meanwhile, and its file is closed and gone.
                Err(_) if self.with(|core| !core.is_still_at(key, on_disk.location)) => continue,
                Err(error) => return Err(error),
            };
            match on_disk.form.value(&bytes, key, on_disk.salt) {
                Ok(_) => {
                    let mut bytes = bytes;
                    bytes.drain(..on_disk.form.head_bytes(key.len()));
                    return Ok(Some(bytes));
                }
                Err(_) => self.give_up_unless_moved(key, &on_disk)?,
            }
        }
    }

    /// See [`Partition::get_now`](super::partition::Partition::get_now).
    pub(crate) fn get_now(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let counters = &self.common.partition_counters[self.id.index()];
        let value = match self.with(|core| core.find_near(key)) {
            Found::Absent => {
                counters.reads.mine().misses.add(1);
                None
            }
            Found::Value(value) => Some(value),
            Found::OnDisk(_) => return None,
        };
        counters.reads.mine().gets.add(1);
        Some(value)
    }

    /// An error if the key's newest record is still the one that could not be read right.
    fn give_up_unless_moved(&self, key: &[u8], on_disk: &OnDisk) -> Result<(), ReadError> {
        let Location { segment, offset, .. } = on_disk.location;
        self.with(|core| {
            if !core.is_still_at(key, on_disk.location) {
                return Ok(());
            }
            core.note_damage(key, segment, u64::from(offset));
            Err(damaged(self.id, on_disk.location))
        })
    }

    /// Bytes of a segment: at once if the kernel has them in memory, else once the disk has brought them.
    async fn read_range(&self, file: &FileHandle, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; length];
        let bytes = match file.try_read_at(offset, &mut bytes, length) {
            Some(result) => result.map(|count| {
                bytes.truncate(count);
                bytes
            }),
            None => self.common.read(self.id, file.clone(), offset, length).await,
        };
        let bytes = bytes.map_err(|error| ReadError::Io(error.to_string()))?;
        self.common.partition_counters[self.id.index()].reads.mine().bytes_read.add(bytes.len() as u64);
        Ok(bytes)
    }

    /// See [`Partition::get_many`](super::partition::Partition::get_many).
    pub(crate) async fn get_many(&self, keys: &[Vec<u8>]) -> Vec<Result<Option<Vec<u8>>, ReadError>> {
        let mut answers = vec![Ok(None); keys.len()];
        self.visit(keys, |index, value| answers[index] = value.map(|value| value.map(<[u8]>::to_vec))).await;
        answers
    }

    /// See [`Partition::visit`](super::partition::Partition::visit).
    pub(crate) async fn visit(
        &self,
        keys: &[Vec<u8>],
        mut see: impl FnMut(usize, Result<Option<&[u8]>, ReadError>),
    ) {
        let mut wanted: Vec<(usize, OnDisk)> = Vec::new();
        self.with(|core| {
            for (index, key) in keys.iter().enumerate() {
                match core.find(key) {
                    Found::Absent => see(index, Ok(None)),
                    Found::Value(value) => see(index, Ok(Some(&value))),
                    Found::OnDisk(on_disk) => wanted.push((index, on_disk)),
                }
            }
            core.counters.reads.mine().gets.add((keys.len() - wanted.len()) as u64);
        });
        wanted.sort_by_key(|(_, on_disk)| (on_disk.location.segment, on_disk.location.offset));
        let runs = into_runs(wanted);
        let reads = runs.iter().map(|run| self.read_range(&run.file, run.offset, run.length));
        let results = join_all(reads).await;
        // What moved meanwhile, or is damaged, is read by itself: that tells which.
        let mut left = Vec::new();
        for (run, bytes) in runs.iter().zip(results) {
            for (index, on_disk) in &run.records {
                let start = (u64::from(on_disk.location.offset) - run.offset) as usize;
                let record = match &bytes {
                    Ok(bytes) => bytes.get(start..start + on_disk.length).unwrap_or(&[]),
                    Err(_) => &[],
                };
                match on_disk.form.value(record, &keys[*index], on_disk.salt) {
                    Ok(value) => see(*index, Ok(Some(value))),
                    Err(_) => left.push(*index),
                }
            }
        }
        for index in left {
            let value = self.get(&keys[index]).await;
            see(index, value.as_ref().map(|value| value.as_deref()).map_err(Clone::clone));
        }
    }
}

fn damaged(partition: PartitionId, location: Location) -> ReadError {
    ReadError::Damaged { partition, segment: location.segment, offset: u64::from(location.offset) }
}

/// Records that are read together.
struct Run {
    file: FileHandle,
    segment: SegmentId,
    offset: u64,
    length: usize,
    records: Vec<(usize, OnDisk)>,
}

fn into_runs(sorted: Vec<(usize, OnDisk)>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, on_disk) in sorted {
        let start = u64::from(on_disk.location.offset);
        let end = start + on_disk.length as u64;
        match runs.last_mut() {
            Some(run)
                if run.segment == on_disk.location.segment
                    && start <= run.offset + run.length as u64 + GAP_BYTES_MAX
                    && end - run.offset <= RUN_BYTES_MAX =>
            {
                run.length = run.length.max((end - run.offset) as usize);
                run.records.push((index, on_disk));
            }
            _ => runs.push(Run {
                file: on_disk.file.clone(),
                segment: on_disk.location.segment,
                offset: start,
                length: on_disk.length,
                records: vec![(index, on_disk)],
            }),
        }
    }
    runs
}

/// Waits for all of them, each started before any is waited for.
pub(crate) async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    use std::task::Poll;
    let mut pending: Vec<_> = futures.map(|future| Some(Box::pin(future))).collect();
    let mut outputs: Vec<Option<F::Output>> = pending.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut waits = false;
        for (slot, output) in pending.iter_mut().zip(&mut outputs) {
            let Some(future) = slot else { continue };
            match future.as_mut().poll(context) {
                Poll::Ready(value) => {
                    *output = Some(value);
                    *slot = None;
                }
                Poll::Pending => waits = true,
            }
        }
        if waits { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    outputs.into_iter().map(|output| output.expect("each was ready")).collect()
}
