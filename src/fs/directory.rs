//! Times that follow from names: those of directories, and when files were renamed. A change of a name costs no write of the directory's own record,
//! nor of the file's, which may have content in it: a message tells its partition, which keeps the times in memory and writes them now and then
//! ("flush"). After a crash, opening finds what was not written in the entries and tombstones behind the number up to which all times are
//! *absorbed*.
//!
//! The message is posted when the change is settled, so that a directory's record never shows a change that a crash has taken back; and before
//! the change is answered. In between nobody may say that its number is absorbed: an operation holds a [`Changing`] from before it appends
//! until its message is posted. Who reads `settled` = h and then finds nobody changing knows that the messages for all numbers up
//! to h are in the mailboxes, and a mail posted afterwards runs behind them all.

use super::attributes::RECORD_BYTES_MIN;
use super::errno::Errno;
use super::inode::evict_if_idle;
use super::keys::{self, MetaRecord};
use super::state::{Guard, LockKey, Part};
use super::types::{Answer, Inode, Time};
use super::volume::{Inner, Volume};
use crate::engine::locks::lock;
use crate::engine::{Batch, Number, PartitionId, WriteError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// How long times may be in memory only.
const FLUSH_DELAY_NS: u64 = 1_000_000_000;
/// How often, and how long apart, it is looked for a moment in which nobody is changing names.
const ABSORB_TRIES: usize = 100;
const ABSORB_PAUSE_NS: u64 = 1_000_000;
/// How many inodes one commit writes.
const FLUSH_SLICE: usize = 256;
/// With how many bytes at most, unless a single one has more: the smallest segments have room for that.
const FLUSH_BYTES_MAX: usize = 44 * 1024;

/// When times were written last.
pub(super) struct Flush {
    armed: AtomicBool,
    /// How many operations are between their append and their message.
    changing: AtomicUsize,
    /// For each partition, a number up to which entries aren't needed any more for the times of its directories.
    absorbed: Vec<AtomicU64>,
}

/// An inode whose record is about to be written.
struct Flushed {
    inode: Inode,
    /// What is written again with the attributes; None if that can't be read: then the record stays as it is.
    content: Option<Vec<u8>>,
    _guard: Guard,
}

impl Flush {
    pub(super) fn new(partitions: u16) -> Self {
        Flush {
            armed: AtomicBool::new(false),
            changing: AtomicUsize::new(0),
            absorbed: (0..partitions).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

/// While this lives, an operation may have changed names whose directories haven't heard of it.
pub(super) struct Changing {
    inner: Arc<Inner>,
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.inner.flush.changing.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Volume {
    /// To be held from before a change of names is appended until [`touch`](Self::touch) was called for its directories.
    pub(super) fn changing(&self) -> Changing {
        self.inner.flush.changing.fetch_add(1, Ordering::SeqCst);
        Changing { inner: self.inner.clone() }
    }

    /// A number up to which all messages are in the mailboxes; None if there is always somebody in the middle of a change.
    async fn absorbable(&self) -> Option<Number> {
        for _ in 0..ABSORB_TRIES {
            let settled = self.inner.store.settled_number();
            if self.inner.flush.changing.load(Ordering::SeqCst) == 0 {
                return Some(settled);
            }
            self.inner.store.clock().sleep(ABSORB_PAUSE_NS).await;
        }
        None
    }

    /// A name in the directory, or of the file, has changed at `time`. To be called once the change is settled, before it is answered.
    pub(super) fn touch(&self, inode: Inode, time: Time) {
        let volume = self.clone();
        // Nothing is waited for: a message that did, for the inode to be read, could be overtaken by a later one.
        self.part_of_inode(inode).change_soon(move |state| {
            state.owe_time(inode, time);
            volume.arm_flush();
        });
    }

    pub(super) fn arm_flush(&self) {
        if self.inner.flush.armed.swap(true, Ordering::AcqRel) {
            return;
        }
        let weak = std::sync::Arc::downgrade(&self.inner);
        let sleep = self.inner.store.clock().sleep(FLUSH_DELAY_NS);
        let part = &self.inner.store.partitions()[0];
        part.submit(async move {
            sleep.await;
            let Some(inner) = weak.upgrade() else { return };
            let volume = Volume { inner };
            volume.inner.flush.armed.store(false, Ordering::Release);
            if let Err(error) = volume.flush().await {
                tracing::debug!("times stay in memory for now: error {}", error.0);
            }
        })
        .detach();
    }

    /// Compacts one partition, or all, now; returns how many bytes the files shrank by.
    ///
    /// # Errors
    /// ENOSPC if there is no room to begin, EROFS if the store takes no changes.
    pub async fn compact(&self, partition: Option<PartitionId>) -> Answer<u64> {
        // What isn't flushed keeps the newest segments from being compacted; and a flush that writes is itself such a newest thing,
        // which the second one, having nothing to write, passes.
        match self.inner.store.rotate().await {
            // On a full disk the active segments have to wait.
            Ok(()) | Err(WriteError::Full) => {}
            Err(error) => return Err(error.into()),
        }
        self.flush().await?;
        self.flush().await?;
        Ok(self.inner.store.compact(partition).await?)
    }

    /// Writes all times that are in memory only, and removes what waits for that.
    async fn flush(&self) -> Answer<()> {
        for part in self.inner.store.partitions() {
            let (volume, inside) = (self.clone(), part.clone());
            part.call(async move { volume.clear_away(&inside).await }).await;
        }
        let absorbed = self.absorbable().await;
        for (index, part) in self.inner.store.partitions().iter().enumerate() {
            let (volume, inside) = (self.clone(), part.clone());
            // Posted now: behind all messages for numbers up to `absorbed`.
            let flushed = part.call(async move { volume.flush_partition(&inside, absorbed).await }).await;
            if let Some(absorbed) = flushed.unwrap_or(Err(Errno::EIO))? {
                self.inner.flush.absorbed[index].store(absorbed.0, Ordering::Release);
            }
        }
        let oldest = self.inner.flush.absorbed.iter().map(|number| number.load(Ordering::Acquire)).min();
        self.inner.store.retain_after(Number(oldest.unwrap_or(0)));
        Ok(())
    }

    /// Returns the number up to which everything is absorbed now, if that is known.
    async fn flush_partition(&self, part: &Part, absorbed: Option<Number>) -> Answer<Option<Number>> {
        let owed: Vec<Inode> = part.with(|_, state| state.owed_times.keys().copied().collect());
        for inode in owed {
            // Loading takes the times over. An inode that is gone is owed nothing.
            match self.load(part, inode).await {
                Ok(_) => part.with(|_, state| evict_if_idle(state, inode)),
                Err(_) => drop(part.with(|_, state| state.owed_times.remove(&inode))),
            }
        }
        loop {
            let dirty: Vec<Inode> =
                part.with(|_, state| state.dirty.iter().copied().take(FLUSH_SLICE).collect());
            if dirty.is_empty() {
                return Ok(absorbed);
            }
            let (written, bytes) = self.lock_for_flush(part, dirty).await;
            part.room_to_free(bytes).await?;
            let ticket = part.with(|core, state| {
                let mut batch = Batch::new();
                for Flushed { inode, content, .. } in &written {
                    if state.dirty.remove(inode)
                        && core.contains(&keys::inode(*inode))
                        && let Some(live) = state.live.get_mut(inode)
                        && let Some(content) = content
                    {
                        live.record.overruled = Number::ZERO;
                        batch.put(keys::inode(*inode), live.record.encode(content));
                    }
                }
                if state.dirty.is_empty() {
                    state.absorbed = state.absorbed.max(absorbed.unwrap_or_default());
                    let counter_end = state.counter.promised;
                    let record = MetaRecord { counter_end, absorbed: state.absorbed };
                    batch.put(keys::meta(), record.encode());
                }
                core.append(&batch)
            });
            part.settle(ticket).await?;
            let inodes: Vec<Inode> = written.into_iter().map(|flushed| flushed.inode).collect();
            part.with(|_, state| inodes.into_iter().for_each(|inode| evict_if_idle(state, inode)));
        }
    }

    /// Locks the first of some inodes, as many as one commit can write, and reads what must be written again with their attributes. Also returns how
    /// many bytes that takes.
    async fn lock_for_flush(&self, part: &Part, dirty: Vec<Inode>) -> (Vec<Flushed>, usize) {
        const RECORD_BYTES: usize = RECORD_BYTES_MIN + 64;
        // And the partition's own.
        let (mut written, mut bytes) = (Vec::new(), RECORD_BYTES);
        for inode in dirty {
            // Somebody may be between the commit of a record and the change of what is in memory: what is in memory then isn't the
            // newest. Names come before inodes and we hold none, and these are taken in their order.
            let guard = lock(part, LockKey::Inode(inode)).await;
            let record = part.with(|_, state| state.live.get(&inode).map(|live| live.record));
            let content = match record {
                Some(record) => self.content_to_keep(part, inode, &record).await.ok(),
                None => None,
            };
            let more_bytes = RECORD_BYTES + content.as_ref().map_or(0, Vec::len);
            if !written.is_empty() && bytes + more_bytes > FLUSH_BYTES_MAX {
                break;
            }
            bytes += more_bytes;
            written.push(Flushed { inode, content, _guard: guard });
        }
        (written, bytes)
    }

    /// The same, waiting on this thread; in a simulated world the simulator has run everything before.
    pub(super) fn flush_and_wait(&self) -> Answer<()> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let volume = self.clone();
        let part = &self.inner.store.partitions()[0];
        part.submit(async move {
            // Nobody waits in a simulated world.
            let _ = sender.send(volume.flush().await);
        })
        .detach();
        if self.inner.store.is_simulated() {
            return Ok(());
        }
        receiver.recv().unwrap_or(Err(Errno::EIO))
    }
}
