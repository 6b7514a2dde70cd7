//! Clients of a simulated store, by seed: changes within one partition and over several, reads, syncs, compaction. They tell the
//! history what they ask for and what they are told.

use super::history::{History, Key, Value};
use super::plan::Plan;
use crate::engine::disk::sim::Dice;
use crate::engine::{Batch, Partition, PartitionId, Store, Ticket, WriteError};
use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) struct Clients {
    pub(super) store: Store<()>,
    pub(super) history: Arc<Mutex<History>>,
    pub(super) dice: Dice,
    /// Whether a commit is a relay instead. Dice of their own: relays came later.
    pub(super) relays: Dice,
}

/// The keys of a run, of all partitions.
pub(super) fn all_keys(plan: &Plan) -> Vec<Key> {
    let partitions = plan.config.partitions.unwrap_or(1);
    let one = |partition| (0..plan.keys).map(move |index| key(partition, index));
    (0..partitions).flat_map(one).collect()
}

fn key(partition: u16, index: u64) -> Key {
    let mut bytes = format!("k{index}").into_bytes();
    if index % 5 == 4 {
        bytes.resize(200, 0xff);
    }
    Key { partition, bytes }
}

impl Clients {
    /// Does one thing, if nothing is in the way.
    pub(super) fn act(&mut self, plan: &Plan) {
        match self.dice.below(100) {
            0..=44 => self.change(plan, 1, 15),
            45..=54 => self.change(plan, 4, 25),
            55..=64 => self.change(plan, 1, 100),
            65..=79 if self.relays.percent(30) => self.relay(plan),
            65..=79 => self.commit(plan),
            80..=91 => self.get(plan),
            92..=97 => self.sync(),
            _ => self.compact(),
        }
    }

    fn any_partition(&mut self) -> u16 {
        self.dice.below(u64::from(self.store.partition_count())) as u16
    }

    fn value(&mut self, plan: &Plan, remove_percent: u64) -> Value {
        if self.dice.percent(remove_percent) {
            return None;
        }
        let length = match self.dice.below(10) {
            0 => 0,
            1..=3 => self.dice.between(8, 60),
            _ => self.dice.between(8, plan.value_bytes_max.max(8)),
        };
        Some(self.history.lock().fresh_value(length))
    }

    fn writes(&mut self, plan: &Plan, partition: u16, count: u64, remove_percent: u64) -> Vec<(Key, Value)> {
        let mut writes: Vec<(Key, Value)> = Vec::new();
        for _ in 0..count {
            let key = key(partition, self.dice.below(plan.keys));
            if writes.iter().all(|(other, _)| *other != key) {
                writes.push((key, self.value(plan, remove_percent)));
            }
        }
        writes
    }

    fn change(&mut self, plan: &Plan, count_max: u64, remove_percent: u64) {
        let partition = self.any_partition();
        let count = self.dice.between(1, count_max);
        let writes = self.writes(plan, partition, count, remove_percent);
        let keys: Vec<&Key> = writes.iter().map(|(key, _)| key).collect();
        let mut history = self.history.lock();
        if !history.take_keys(&keys, false) {
            return;
        }
        let batch = batch_of(&writes);
        let id = history.begin(writes);
        drop(history);
        let partition = self.store.partition(PartitionId(partition)).clone();
        let (inside, history) = (partition.clone(), self.history.clone());
        partition
            .submit(async move {
                let changed = async {
                    let ticket = append(&inside, batch, &history, id).await?;
                    inside.settle(ticket).await
                };
                let result = changed.await;
                history.lock().finished(id, result);
            })
            .detach();
    }

    /// Appends in a partition, in another one, and in the first again, and waits for none before the next. Where the middle one is made beside,
    /// each has seen the one before.
    fn relay(&mut self, plan: &Plan) {
        let partitions = self.store.partition_count();
        if partitions < 2 {
            return;
        }
        let here = self.any_partition();
        let there = (here + self.dice.between(1, u64::from(partitions) - 1) as u16) % partitions;
        let writes = [here, there, here].map(|partition| self.writes(plan, partition, 1, 15));
        let keys: Vec<&Key> = writes.iter().flatten().map(|(key, _)| key).collect();
        let mut locked = self.history.lock();
        if !locked.take_keys(&keys, false) {
            return;
        }
        let legs = writes.map(|writes| (batch_of(&writes), locked.begin(writes)));
        drop(locked);
        let (inside, there) = (
            self.store.partition(PartitionId(here)).clone(),
            self.store.partition(PartitionId(there)).clone(),
        );
        let history = self.history.clone();
        self.store
            .partition(PartitionId(here))
            .submit(async move { relay(&inside, &there, history, legs).await })
            .detach();
    }

    fn commit(&mut self, plan: &Plan) {
        let partitions = u64::from(self.store.partition_count());
        if partitions < 2 {
            return;
        }
        let count = self.dice.between(2, partitions.min(3));
        let first = self.dice.below(partitions);
        let mut writes = Vec::new();
        let mut parts = Vec::new();
        for index in 0..count {
            let partition = ((first + index) % partitions) as u16;
            let changes = self.dice.between(1, 2);
            let part = self.writes(plan, partition, changes, 30);
            parts.push((PartitionId(partition), batch_of(&part)));
            writes.extend(part);
        }
        let keys: Vec<&Key> = writes.iter().map(|(key, _)| key).collect();
        let mut history = self.history.lock();
        if !history.take_keys(&keys, true) {
            return;
        }
        let id = history.begin(writes);
        history.placed(id);
        drop(history);
        let coordinator = self.any_partition();
        let (store, history) = (self.store.clone(), self.history.clone());
        self.store
            .partition(PartitionId(coordinator))
            .submit(async move {
                let here = store.partition(PartitionId(coordinator));
                let result = store.commit_from(here, parts).await;
                history.lock().finished(id, result);
            })
            .detach();
    }

    fn get(&mut self, plan: &Plan) {
        let partition = self.any_partition();
        let key = key(partition, self.dice.below(plan.keys));
        let mut history = self.history.lock();
        if !history.take_keys(&[&key], false) {
            return;
        }
        history.unfinished += 1;
        drop(history);
        let many = self.dice.percent(30);
        let partition = self.store.partition(PartitionId(partition)).clone();
        let (inside, history) = (partition.clone(), self.history.clone());
        partition
            .submit(async move {
                let from = history.lock().count_on(&key);
                let value = match many {
                    true => inside.get_many(std::slice::from_ref(&key.bytes)).await.remove(0),
                    false => inside.get(&key.bytes).await,
                };
                let settled = inside.settled().await;
                let mut history = history.lock();
                history.unfinished -= 1;
                history.give_keys_back(std::iter::once(&key));
                match (value, settled) {
                    (Ok(value), Ok(())) => history.shown(&key, from, &value),
                    (Ok(_), Err(_)) if history.excused || history.over => {}
                    (Err(_), _) if history.over => {}
                    other => history.violated(format!("reading {key:?} failed: {other:?}")),
                }
            })
            .detach();
    }

    fn sync(&mut self) {
        let (store, history) = (self.store.clone(), self.history.clone());
        let mut locked = self.history.lock();
        let started = locked.tick();
        locked.unfinished += 1;
        drop(locked);
        let coordinator = self.any_partition();
        self.store
            .partition(PartitionId(coordinator))
            .submit(async move {
                let result = store.sync().await;
                let mut history = history.lock();
                history.unfinished -= 1;
                match result {
                    Ok(()) => history.synced(started),
                    Err(_) if history.excused || history.over => {}
                    Err(error) => history.violated(format!("a sync failed on a healthy disk: {error}")),
                }
            })
            .detach();
    }

    fn compact(&mut self) {
        let (store, history) = (self.store.clone(), self.history.clone());
        self.history.lock().unfinished += 1;
        let coordinator = self.any_partition();
        self.store
            .partition(PartitionId(coordinator))
            .submit(async move {
                let result = store.compact(None).await;
                let mut history = history.lock();
                history.unfinished -= 1;
                if let Err(error) = result
                    && !history.excused
                    && !history.over
                {
                    history.violated(format!("compaction failed on a healthy disk: {error}"));
                }
            })
            .detach();
    }
}

/// Appends a change once there is room.
async fn append(
    inside: &Partition<()>,
    batch: Batch,
    history: &Mutex<History>,
    id: usize,
) -> Result<Ticket, WriteError> {
    let bytes = batch.records_bytes();
    match batch.frees_space() {
        true => inside.room_to_free(bytes).await?,
        false => inside.room(bytes).await?,
    }
    Ok(inside.with(|core, _| {
        history.lock().appended(id);
        core.append(&batch)
    }))
}

async fn relay(
    here: &Partition<()>,
    there: &Partition<()>,
    history: Arc<Mutex<History>>,
    [(first, first_id), (second, second_id), (third, third_id)]: [(Batch, usize); 3],
) {
    let begun = append(here, first, &history, first_id).await;
    let (is_beside, was_beside) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let middle = {
        let (inside, history, is, was) =
            (there.clone(), history.clone(), is_beside.clone(), was_beside.clone());
        move || async move {
            let ticket = append(&inside, second, &history, second_id).await?;
            was.store(is.load(Ordering::Relaxed), Ordering::Relaxed);
            inside.settle(ticket).await
        }
    };
    let mut asking = pin!(here.ask(there, middle));
    let asked = poll_fn(|context| {
        let polled = asking.as_mut().poll(context);
        is_beside.store(false, Ordering::Relaxed);
        polled
    });
    let second = asked.await.unwrap_or(Err(WriteError::Gone));
    let ended = append(here, third, &history, third_id).await;
    if was_beside.load(Ordering::Relaxed) {
        let mut history = history.lock();
        if begun.is_ok() {
            history.follows(first_id, second_id);
        }
        if ended.is_ok() {
            history.follows(second_id, third_id);
        }
    }
    history.lock().finished(second_id, second);
    for (appended, id) in [(begun, first_id), (ended, third_id)] {
        let settled = match appended {
            Ok(ticket) => here.settle(ticket).await,
            Err(error) => Err(error),
        };
        history.lock().finished(id, settled);
    }
}

fn batch_of(writes: &[(Key, Value)]) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in writes {
        match value {
            Some(value) => batch.put(key.bytes.clone(), value.clone()),
            None => batch.remove(key.bytes.clone()),
        };
    }
    batch
}
