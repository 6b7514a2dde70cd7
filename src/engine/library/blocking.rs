//! The blocking forms: the same operations, waiting on the calling thread. Where nothing is in the way they need no operation of their own.

use super::{Engine, KeyLocks, Part, visible};
use crate::engine::batch::{Batch, Change, ChangeView};
use crate::engine::config::Durability;
use crate::engine::core::{Appended, Ticket};
use crate::engine::error::{ReadError, WriteError};
use crate::engine::progress::CompactionStats;
use crate::engine::scrub::ScrubStats;
use crate::engine::stats::{IntegrityError, StoreStats};
use crate::engine::store::Piece;
use crate::engine::tuning::Tune;
use crate::engine::types::PartitionId;
use std::future::Future;

impl Engine {
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.blockers.dispatch(|| crate::engine::wait::block_on(future))
    }

    /// Changes of one partition without an operation of their own, where nothing is in the way; else None, and nothing happened.
    fn change_now<'a>(
        &self,
        part: &Part,
        records_bytes: usize,
        changes: impl ExactSizeIterator<Item = ChangeView<'a>> + Clone,
    ) -> Option<Result<(), WriteError>> {
        let keys = changes.clone();
        let free = |state: &KeyLocks| state.are_free(keys.into_iter().map(|change| change.key));
        let settled = match part.try_append(free, records_bytes, changes)? {
            Appended::Settled if self.store.config().durability != Durability::Always => return Some(Ok(())),
            Appended::Settled => self.wait(self.store.sync()),
            Appended::Owed { ticket, .. } => {
                let inside = part.clone();
                let settle = async move { inside.settle(ticket).await };
                self.wait(self.within(part, WriteError::Gone, settle))
            }
        };
        Some(settled)
    }

    /// Like [`get_async`](Self::get_async), waiting on this thread.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let visible = |state: &KeyLocks| !state.locks.hides(key);
        match self.part(key).try_get(key, visible) {
            Some(value) => Ok(value),
            None => self.wait(self.get_async(key)),
        }
    }

    /// The values of several keys, in their order.
    ///
    /// # Errors
    /// The first that occurs.
    pub fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, ReadError> {
        let gets = keys.iter().map(|key| self.get_async(key));
        self.wait(crate::engine::fetch::join_all(gets)).into_iter().collect()
    }

    /// Whether a key has a value. Reads nothing.
    ///
    /// # Errors
    /// `Gone` if the engine is closed.
    pub fn contains(&self, key: &[u8]) -> Result<bool, ReadError> {
        let seen = self.part(key).try_look(|core, state| {
            let answerable = !state.locks.hides(key) && core.is_all_settled();
            answerable.then(|| core.contains(key))
        });
        if let Some(Some(found)) = seen {
            return Ok(found);
        }
        let (part, key) = (self.part(key).clone(), key.to_vec());
        let inside = part.clone();
        self.wait(self.within(&part, ReadError::Gone, async move {
            visible(&inside, &key).await;
            let found = inside.with(|core, _| core.contains(&key));
            inside.settled().await.map_err(|error| ReadError::Io(error.to_string()))?;
            Ok(found)
        }))
    }

    /// Like [`put_async`](Self::put_async), waiting on this thread.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        let change = ChangeView::put(key, value);
        change.validate()?;
        match self.change_now(self.part(key), change.record_bytes(), std::iter::once(change)) {
            Some(answer) => answer,
            None => self.wait(self.put_async(key, value)),
        }
    }

    /// Like [`delete_async`](Self::delete_async), waiting on this thread.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn delete(&self, key: &[u8]) -> Result<(), WriteError> {
        let change = ChangeView::remove(key);
        change.validate()?;
        match self.change_now(self.part(key), change.record_bytes(), std::iter::once(change)) {
            Some(answer) => answer,
            None => self.wait(self.delete_async(key)),
        }
    }

    /// Like [`compare_and_set_async`](Self::compare_and_set_async), waiting on this thread.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn compare_and_set(
        &self,
        key: &[u8],
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, WriteError> {
        self.wait(self.compare_and_set_async(key, expected, new))
    }

    /// Like [`commit_async`](Self::commit_async), waiting on this thread.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn commit(&self, batch: Batch) -> Result<(), WriteError> {
        batch.validate()?;
        match self.commit_now(batch.changes().iter().map(Change::view)) {
            Some(answer) => answer,
            None => self.wait(self.commit_async(batch)),
        }
    }

    /// Like [`commit`](Self::commit), of changes whose bytes are the caller's. Where nothing is in the way they are copied only once, into the log.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn commit_all(&self, changes: &[ChangeView<'_>]) -> Result<(), WriteError> {
        changes.iter().try_for_each(ChangeView::validate)?;
        match self.commit_now(changes.iter().copied()) {
            Some(answer) => answer,
            None => self.wait(self.commit_async(changes.iter().copied().collect())),
        }
    }

    /// Like [`change_now`](Self::change_now), for changes of several partitions.
    fn commit_now<'a>(
        &self,
        changes: impl Iterator<Item = ChangeView<'a>>,
    ) -> Option<Result<(), WriteError>> {
        let mut pieces: Vec<Piece<'_>> =
            (0..self.store.partition_count()).map(|index| Piece::new(PartitionId(index), &[])).collect();
        for change in changes {
            let piece = &mut pieces[self.part(change.key).id().index()];
            piece.records_bytes += change.record_bytes();
            piece.changes.to_mut().push(change);
        }
        pieces.retain(|piece| !piece.changes.is_empty());
        match &pieces[..] {
            [] => Some(Ok(())),
            [piece] => {
                let part = self.store.partition(piece.partition);
                self.change_now(part, piece.records_bytes, piece.changes.iter().copied())
            }
            _ => {
                let free = |state: &KeyLocks, piece: &Piece<'_>| {
                    state.are_free(piece.changes.iter().map(|change| change.key))
                };
                let owed = self.store.try_commit(&pieces, free)?;
                Some(owed.and_then(|owed| self.wait(self.settle_all(owed))))
            }
        }
    }

    /// Waits until parts that were handed over may be acknowledged.
    async fn settle_all(&self, owed: Vec<(PartitionId, Ticket)>) -> Result<(), WriteError> {
        for (id, ticket) in owed {
            let inside = self.store.partition(id).clone();
            let settle = async move { inside.settle(ticket).await };
            self.within(self.store.partition(id), WriteError::Gone, settle).await?;
        }
        match self.store.config().durability {
            Durability::Always => self.store.sync().await,
            _ => Ok(()),
        }
    }

    /// Like [`list_async`](Self::list_async), waiting on this thread.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn list(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, ReadError> {
        self.wait(self.list_async(prefix))
    }

    /// Like [`sync_async`](Self::sync_async), waiting on this thread.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn sync(&self) -> Result<(), WriteError> {
        self.wait(self.sync_async())
    }

    /// Compacts now; returns how many bytes the files shrank by.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn compact(&self) -> Result<u64, WriteError> {
        self.wait(self.store.compact(None))
    }

    /// Verifies everything that lies on the disk while the engine is used, at no more than so many bytes a second (0: without limit). Goes on
    /// where the last one was stopped. None if one runs already.
    ///
    /// # Errors
    /// `Gone` if the engine is closed.
    pub fn scrub(&self, bytes_per_second: u64) -> Result<Option<ScrubStats>, ReadError> {
        match self.store.start_scrub(bytes_per_second) {
            None => Ok(None),
            Some(task) => self.wait(task).map(Some).ok_or(ReadError::Gone),
        }
    }

    /// Stops the verification that runs, if one does.
    pub fn stop_scrub(&self) {
        self.store.stop_scrub();
    }

    /// How far the verification is, or what the last one came to.
    pub fn scrub_stats(&self) -> ScrubStats {
        self.store.scrub_stats()
    }

    /// The last integrity errors, oldest first.
    pub fn integrity_errors(&self) -> Vec<IntegrityError> {
        self.store.integrity_errors()
    }

    /// Changes a setting of compaction while the store is open; see [`Tune`].
    pub fn tune(&self, change: Tune) {
        self.store.tune(change);
    }

    /// How far compaction is, partition by partition.
    pub fn compaction_stats(&self) -> Vec<CompactionStats> {
        self.store.compaction_stats()
    }

    /// Numbers of this moment.
    pub fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    /// Makes everything durable and lets go of the store. Changes under way get to their end, and are then durable too, or fail without having
    /// changed anything; those that come later fail.
    ///
    /// # Errors
    /// If not everything could be made durable; it is closed all the same.
    pub fn close(&self) -> Result<(), WriteError> {
        self.store.close()
    }
}
