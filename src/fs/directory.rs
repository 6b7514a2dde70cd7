//! Times of directories. A change of a directory costs no write of the directory's own record: a message tells its partition, which
//! keeps the times in memory and writes them now and then ("flush"). After a crash, opening finds what was not written in the
//! entries and tombstones behind the number up to which all times are *absorbed*.
//!
//! The message is posted when the change is settled, so that a directory's record never shows a change that a crash has taken back; and before
//! the change is answered. In between nobody may say that its number is absorbed: an operation holds a [`Changing`] from before it appends
//! until its message is posted. Who reads `settled` = h and then finds nobody changing knows that the messages for all numbers up
//! to h are in the mailboxes, and a mail posted afterwards runs behind them all.

use super::errno::Errno;
use super::keys::{self, MetaRecord};
use super::state::{LockKey, Part};
use super::types::{Answer, Inode, Time};
use super::volume::{Inner, Volume};
use crate::engine::locks::lock;
use crate::engine::{Batch, Number, PartitionId, WriteError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// How long a directory's times may be in memory only.
const FLUSH_DELAY_NS: u64 = 1_000_000_000;
/// How often, and how long apart, it is looked for a moment in which nobody is changing names.
const ABSORB_TRIES: usize = 100;
const ABSORB_PAUSE_NS: u64 = 1_000_000;
/// How many directories one commit writes.
const FLUSH_SLICE: usize = 256;

/// When directory times were written last.
pub(super) struct Flush {
    armed: AtomicBool,
    /// How many operations are between their append and their message.
    changing: AtomicUsize,
    /// For each partition, a number up to which entries aren't needed any more for the times of its directories.
    absorbed: Vec<AtomicU64>,
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

    /// A directory has changed at `time`. To be called once the change is settled, before it is answered.
    pub(super) fn touch(&self, directory: Inode, time: Time) {
        let volume = self.clone();
        // Nothing is waited for: a message that did, for the directory to be read, could be overtaken by a later one.
        self.part_of_inode(directory).change_soon(move |state| {
            state.owe_time(directory, time);
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
                tracing::debug!("directory times stay in memory for now: error {}", error.0);
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

    /// Writes the times of all changed directories.
    async fn flush(&self) -> Answer<()> {
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
        for directory in owed {
            // Loading takes the times over. A directory that is gone owes nothing.
            if self.load(part, directory).await.is_err() {
                part.with(|_, state| state.owed_times.remove(&directory));
            }
        }
        loop {
            let dirty: Vec<Inode> =
                part.with(|_, state| state.dirty.iter().copied().take(FLUSH_SLICE).collect());
            if dirty.is_empty() {
                return Ok(absorbed);
            }
            // Somebody may be between the commit of a record and the change of what is in memory: what is in memory then isn't the
            // newest. Names come before inodes and we hold none, and these are taken in their order.
            let mut guards = Vec::with_capacity(dirty.len());
            for directory in &dirty {
                guards.push(lock(part, LockKey::Inode(*directory)).await);
            }
            // Directories have no content in their records: all are of one size.
            let record_bytes = super::attributes::RECORD_BYTES_MIN + 64;
            part.room_to_free((dirty.len() + 1) * record_bytes).await?;
            let ticket = part.with(|core, state| {
                let mut batch = Batch::new();
                for directory in &dirty {
                    if state.dirty.remove(directory)
                        && core.contains(&keys::inode(*directory))
                        && let Some(live) = state.live.get_mut(directory)
                    {
                        live.record.overruled = Number::ZERO;
                        batch.put(keys::inode(*directory), live.record.encode(&[]));
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
            drop(guards);
            part.with(|_, state| {
                for directory in dirty {
                    super::inode::evict_if_idle(state, directory);
                }
            });
        }
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
