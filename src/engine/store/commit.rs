//! Commits over several partitions: by mail, beside the own turn, or inside of all turns at once.

use super::Store;
use crate::engine::batch::{Batch, Change, ChangeView};
use crate::engine::config::Durability;
use crate::engine::core::Ticket;
use crate::engine::error::WriteError;
use crate::engine::fetch::join_all;
use crate::engine::log::Part;
use crate::engine::order::{SpanningGuard, closed};
use crate::engine::partition::Partition;
use crate::engine::turn::Turn;
use crate::engine::types::PartitionId;
use std::borrow::Cow;
use std::sync::Arc;

/// What is still to be waited for before a commit may be acknowledged.
pub(crate) type Owed = Vec<(PartitionId, Ticket)>;

/// What a commit over several partitions changes in one of them.
pub(crate) struct Piece<'a> {
    pub(crate) partition: PartitionId,
    pub(crate) records_bytes: usize,
    pub(crate) changes: Cow<'a, [ChangeView<'a>]>,
}

impl<'a> Piece<'a> {
    /// Of changes with keys and values that are [valid](ChangeView::validate).
    pub(crate) fn new(partition: PartitionId, changes: &'a [ChangeView<'a>]) -> Self {
        let records_bytes = changes.iter().map(ChangeView::record_bytes).sum();
        Piece { partition, records_bytes, changes: Cow::Borrowed(changes) }
    }

    fn of(partition: PartitionId, batch: &'a Batch) -> Self {
        let changes = batch.changes().iter().map(Change::view).collect();
        Piece { partition, records_bytes: batch.records_bytes(), changes }
    }
}

impl<S: Send + 'static> Store<S> {
    /// One commit over several partitions: after any crash all of its parts are there or none. The caller has locked what it touches
    /// and checked everything; between the call and its answer nobody else may change or answer from those keys. Returns when it may be
    /// acknowledged. An error means that no part of it counts (after `ReadOnly` the next opening decides). May be called from inside
    /// any partition's operation. Parts of the same partition must have been joined.
    ///
    /// # Errors
    /// `Full`, `Size` and `ReadOnly` before anything was changed; `ReadOnly` and `Gone` also later.
    pub async fn commit(&self, parts: Vec<(PartitionId, Batch)>) -> Result<(), WriteError> {
        parts.iter().try_for_each(|(_, batch)| batch.validate())?;
        self.commit_valid(parts).await
    }

    /// The same inside an operation of the partition `here`. If everybody else is away, all parts are appended and handed over at once.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn commit_from(
        &self,
        here: &Partition<S>,
        mut parts: Vec<(PartitionId, Batch)>,
    ) -> Result<(), WriteError> {
        parts.iter().try_for_each(|(_, batch)| batch.validate())?;
        if parts.len() == 1
            && let Some((id, batch)) = parts.pop()
        {
            let inside = self.partition(id).clone();
            let committed = here.ask(self.partition(id), move || async move { inside.commit(batch).await });
            return committed.await.unwrap_or(Err(WriteError::Gone));
        }
        match self.try_commit_beside(here, &parts) {
            Some(owed) => self.settle_owed(owed?).await,
            None => self.commit_valid(parts).await,
        }
    }

    /// Runs a plain function inside the own turn, `here`, and another one besides, if nobody is inside of that: nobody sees a half of what it does. None
    /// if somebody is, or if the function says so: then it has done nothing.
    pub(crate) fn try_together<R>(
        &self,
        here: &Partition<S>,
        there: &Partition<S>,
        f: impl FnOnce() -> Option<R>,
    ) -> Option<R> {
        if !here.shell.turn.is_inside() {
            return None;
        }
        Turn::try_beside_all(&[&here.shell.turn, &there.shell.turn], || {
            here.shell.go_beside();
            f()
        })
        .flatten()
    }

    /// One commit over partitions in all of whose turns the caller is, see [`try_together`](Self::try_together): appended and handed over. None, and
    /// nothing happened, if it would have to wait for anything. It may be acknowledged after [`settle_owed`](Self::settle_owed).
    pub(crate) fn commit_now(&self, pieces: &[Piece<'_>]) -> Option<Result<Owed, WriteError>> {
        self.append_to_all(pieces, |_, _| true)
    }

    /// Waits until what was committed may be acknowledged.
    pub(crate) async fn settle_owed(&self, owed: Owed) -> Result<(), WriteError> {
        for (id, ticket) in owed {
            let inside = self.partition(id).clone();
            let settled = self.partition(id).call(async move { inside.shell.settle(ticket).await });
            settled.await.unwrap_or(Err(WriteError::Gone))?;
        }
        self.acknowledge().await
    }

    /// What the durability mode asks for besides being settled.
    async fn acknowledge(&self) -> Result<(), WriteError> {
        match self.shared.common.config.durability {
            Durability::Always => self.sync().await,
            _ => Ok(()),
        }
    }

    fn try_commit_beside(
        &self,
        here: &Partition<S>,
        parts: &[(PartitionId, Batch)],
    ) -> Option<Result<Owed, WriteError>> {
        if !here.shell.turn.is_inside() {
            return None;
        }
        let pieces: Vec<Piece<'_>> =
            parts.iter().map(|(partition, batch)| Piece::of(*partition, batch)).collect();
        Turn::try_beside_all(&self.turns(&pieces), || {
            here.shell.go_beside();
            self.append_to_all(&pieces, |_, _| true)
        })
        .flatten()
    }

    async fn commit_valid(&self, mut parts: Vec<(PartitionId, Batch)>) -> Result<(), WriteError> {
        let common = &self.shared.common;
        match parts.len() {
            0 => return Ok(()),
            1 => {
                let (id, batch) = parts.into_iter().next().expect("there is one");
                let partition = self.partition(id).clone();
                return self
                    .partition(id)
                    .call(async move { partition.commit(batch).await })
                    .await
                    .ok_or(WriteError::Gone)?;
            }
            _ => {}
        }
        // In one order for all: two commits never wait for each other's reserved space.
        parts.sort_by_key(|(id, _)| *id);
        self.reserve(&parts).await?;
        let Some(spanning) = common.order.start_spanning().await else {
            self.release(&parts).await;
            return Err(closed());
        };
        let part = Part { commit: spanning.id, parts: parts.len() as u16 };
        let commits: Vec<_> = parts
            .into_iter()
            .map(|(id, batch)| {
                let shell = self.partition(id).shell.clone();
                self.partition(id).call(async move { shell.commit_part(batch, part).await })
            })
            .collect();
        for result in join_all(commits.into_iter()).await {
            result.unwrap_or(Err(WriteError::Gone))?;
        }
        spanning.finish();
        self.acknowledge().await
    }

    /// One commit over several partitions, appended and handed over inside all of their turns at once, so that nobody sees a half of it: if all of
    /// them are free (or are so in a moment), if `free` says of each that nothing is in the way, and if there is room; else None, and nothing
    /// happened. The parts are in order, their keys and values valid. Returns what is still to be waited for.
    pub(crate) fn try_commit(
        &self,
        parts: &[Piece<'_>],
        free: impl Fn(&S, &Piece<'_>) -> bool,
    ) -> Option<Result<Owed, WriteError>> {
        Turn::try_inside_all(&self.turns(parts), || self.append_to_all(parts, free)).flatten()
    }

    fn turns(&self, parts: &[Piece<'_>]) -> Vec<&Arc<Turn>> {
        parts.iter().map(|piece| &self.partition(piece.partition).shell.turn).collect()
    }

    /// The same, inside all of the turns.
    fn append_to_all(
        &self,
        parts: &[Piece<'_>],
        free: impl Fn(&S, &Piece<'_>) -> bool,
    ) -> Option<Result<Owed, WriteError>> {
        let common = &self.shared.common;
        let is_free = |piece: &Piece<'_>| {
            let partition = self.partition(piece.partition);
            partition.with(|core, state| free(state, piece) && core.has_room_now(piece.records_bytes))
        };
        if !parts.iter().all(is_free) {
            return None;
        }
        let spanning = match parts {
            [_] => None,
            _ => Some(common.order.try_start_spanning()?),
        };
        let part = spanning.as_ref().map(|spanning| Part { commit: spanning.id, parts: parts.len() as u16 });
        let append = |piece: &Piece<'_>| {
            let views = piece.changes.iter().copied();
            let partition = self.partition(piece.partition);
            let ticket = partition.with(|core, _| core.append_part_now(piece.records_bytes, views, part))?;
            Ok((piece.partition, ticket))
        };
        let tickets: Result<Owed, WriteError> = parts.iter().map(append).collect();
        let handed_over = tickets.and_then(|tickets| common.order.check().map(|()| tickets));
        if handed_over.is_ok() {
            spanning.into_iter().for_each(SpanningGuard::finish);
        }
        let is_owed = |(id, ticket): &(PartitionId, Ticket)| {
            !self.partition(*id).with(|core, _| core.is_settled(*ticket))
        };
        Some(handed_over.map(|tickets| tickets.into_iter().filter(is_owed).collect()))
    }

    /// Log space for all parts, or none.
    async fn reserve(&self, parts: &[(PartitionId, Batch)]) -> Result<(), WriteError> {
        for (index, (id, batch)) in parts.iter().enumerate() {
            let shell = self.partition(*id).shell.clone();
            let (bytes, freeing) = (batch.records_bytes(), batch.frees_space());
            let reserved = self
                .partition(*id)
                .call(async move {
                    shell.room(bytes, freeing).await?;
                    shell.with(|core| core.reserve(bytes));
                    Ok(())
                })
                .await;
            if let Err(error) = reserved.unwrap_or(Err(WriteError::Gone)) {
                self.release(&parts[..index]).await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives up the log space of parts that won't come.
    async fn release(&self, parts: &[(PartitionId, Batch)]) {
        for (id, batch) in parts {
            let (shell, bytes) = (self.partition(*id).shell.clone(), batch.records_bytes());
            self.partition(*id).call(async move { shell.with(|core| core.release(bytes)) }).await;
        }
    }
}
