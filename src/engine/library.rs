//! The engine as a library: keys and values, nothing else. Keys are spread over the partitions by their hash; everything can be had
//! blocking or `async`, and the futures need no particular runtime.
//!
//! At most 65,536 asynchronous operations, with at most 64 MiB of keys and values, are in flight in a store; those that come then wait
//! in order, inside their own `.await`, with nothing copied yet.
//!
//! ```
//! use bitkv::{Batch, Engine, EngineOptions};
//! # let directory = std::env::temp_dir().join(format!("bitkv-doc-{}", std::process::id()));
//! let engine = Engine::open(&directory, EngineOptions::default())?;
//! engine.put(b"greeting", b"hello")?;
//! assert_eq!(engine.get(b"greeting")?.as_deref(), Some(&b"hello"[..]));
//!
//! let mut batch = Batch::new();
//! batch.put("a", "1").put("b", "2").remove("greeting");
//! engine.commit(batch)?; // after any crash: all of it, or nothing
//! engine.sync()?; // and from here on it survives a power loss
//! assert_eq!(engine.list(b"")?, [b"a", b"b"]);
//! engine.close()?;
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blocking;

use super::allowance::Allowance;
use super::batch::{Batch, Change};
use super::clock::RealClock;
use super::config::{Config, World};
use super::disk::uring::UringDisk;
use super::error::{OpenError, ReadError, WriteError};
use super::limits::{MAIL_BYTES_MAX, MAIL_OPERATIONS_MAX, SLOTS};
use super::locks::{Guard, HasLocks, Locks, free, lock, lock_hidden, visible};
use super::partition::Partition;
use super::store::Store;
use super::turn::{Blockers, Policy};
use super::types::{PartitionId, Slot};
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

/// Settings of an opening; see [`Config`].
pub type EngineOptions = Config;

/// What a partition keeps for the library: locks on keys, and on its door.
#[derive(Default)]
pub struct KeyLocks {
    locks: Locks<Vec<u8>>,
}

/// While somebody holds the lock of this key, which nobody can use, no change begins in the partition.
const DOOR: Vec<u8> = Vec::new();

impl KeyLocks {
    /// Whether none of the keys is in the middle of something, and the door is open.
    fn are_free<'a>(&self, mut keys: impl Iterator<Item = &'a [u8]>) -> bool {
        !self.locks.is_held(&DOOR) && !keys.any(|key| self.locks.is_held(key))
    }
}

/// Closes a partition's door and waits until what had begun has ended. Inside an operation of that partition. Who closes
/// several does so in their order, as commits take their locks: so nobody waits in a circle.
async fn close_door(part: &Part) -> Guard<Vec<u8>, KeyLocks> {
    let door = lock(part, DOOR).await;
    while let Some(key) = part.with(|_, state| state.locks.another(&DOOR)) {
        free(part, &key).await;
    }
    door
}

impl HasLocks<Vec<u8>> for KeyLocks {
    fn locks(&mut self) -> &mut Locks<Vec<u8>> {
        &mut self.locks
    }
}

type Part = Partition<KeyLocks>;

/// An open store of keys and values. A handle; clones share it, threads too.
#[derive(Clone)]
pub struct Engine {
    store: Store<KeyLocks>,
    blockers: Arc<Blockers>,
    allowance: Arc<Allowance>,
}

/// The slot that a key has in a store of the library's.
pub fn slot_of(key: &[u8]) -> Slot {
    Slot((xxhash_rust::xxh3::xxh3_64(key) % u64::from(SLOTS)) as u16)
}

impl Engine {
    /// Opens the store in a directory, or makes one. Waits for the disk.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(directory: &Path, options: EngineOptions) -> Result<Engine, OpenError> {
        let failed = |error| OpenError::Io(format!("opening {}", directory.display()), error);
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let disk =
            UringDisk::open(directory, workers, options.read_only || options.salvage).map_err(failed)?;
        let seed = disk.random_seed().map_err(failed)?;
        let world = World { disk, clock: RealClock::new(), seed, policy: Policy::Inline };
        let store = Store::open(world, options, |_| Ok(KeyLocks::default()))?;
        // A caller that waits for its answer anyway may as well wait for the disk itself.
        let allowance = Allowance::new(MAIL_OPERATIONS_MAX, MAIL_BYTES_MAX);
        Ok(Engine { store, blockers: Blockers::new(usize::MAX / 2), allowance })
    }

    fn part(&self, key: &[u8]) -> &Part {
        self.store.partition(self.store.route(slot_of(key)))
    }

    // ---- async ------------------------------------------------------------------------------------------------------

    /// Runs an operation in its key's partition.
    async fn within<T: Send + 'static, E: Send + 'static>(
        &self,
        part: &Part,
        gone: E,
        operation: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        part.call(operation).await.unwrap_or(Err(gone))
    }

    /// The value of a key; None if it has none.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn get_async(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let _permit = self.allowance.take(key.len()).await;
        let (part, key) = (self.part(key).clone(), key.to_vec());
        let inside = part.clone();
        self.within(&part, ReadError::Gone, async move {
            visible(&inside, &key).await;
            let value = inside.get(&key).await?;
            inside.settled().await.map_err(|error| ReadError::Io(error.to_string()))?;
            Ok(value)
        })
        .await
    }

    /// Sets a key. Returns when a kill of the process can't undo it (in the mode `always`: nor a power loss).
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn put_async(&self, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        let _permit = self.allowance.take(key.len() + value.len()).await;
        let mut batch = Batch::new();
        batch.put(key, value);
        self.commit_in(self.part(key).clone(), batch).await
    }

    /// Removes a key; one that isn't there is fine.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn delete_async(&self, key: &[u8]) -> Result<(), WriteError> {
        let _permit = self.allowance.take(key.len()).await;
        let mut batch = Batch::new();
        batch.remove(key);
        self.commit_in(self.part(key).clone(), batch).await
    }

    /// Sets a key (None: removes it) if its value is the expected one (None: if it has none). Returns whether it was.
    ///
    /// # Errors
    /// See [`WriteError`]; a value that can't be read is an error as well.
    pub async fn compare_and_set_async(
        &self,
        key: &[u8],
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, WriteError> {
        let bytes = key.len() + expected.map_or(0, <[u8]>::len) + new.map_or(0, <[u8]>::len);
        let _permit = self.allowance.take(bytes).await;
        let mut batch = Batch::new();
        match new {
            Some(value) => batch.put(key, value),
            None => batch.remove(key),
        };
        let (key, expected) = (key.to_vec(), expected.map(<[u8]>::to_vec));
        let part = self.part(&key).clone();
        let inside = part.clone();
        self.within(&part, WriteError::Gone, async move {
            free(&inside, &DOOR).await;
            let _guard = lock(&inside, key.clone()).await;
            let value = inside.get(&key).await.map_err(|error| WriteError::ReadOnly(error.to_string()))?;
            if value != expected {
                inside.settled().await?;
                return Ok(false);
            }
            inside.commit(batch).await?;
            Ok(true)
        })
        .await
    }

    /// Changes that happen together: after any crash all of them are there, or none.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn commit_async(&self, batch: Batch) -> Result<(), WriteError> {
        batch.validate()?;
        let _permit = self.allowance.take(batch.user_bytes()).await;
        let mut parts: BTreeMap<PartitionId, Batch> = BTreeMap::new();
        for Change { key, value, remove } in batch.into_changes() {
            let part = parts.entry(self.part(&key).id()).or_default();
            match remove {
                true => part.remove_with_note(key, value),
                false => part.put(key, value),
            };
        }
        match parts.len() {
            0 => Ok(()),
            1 => {
                let (id, batch) = parts.into_iter().next().expect("there is one");
                self.commit_in(self.store.partition(id).clone(), batch).await
            }
            _ => self.commit_over(parts).await,
        }
    }

    /// A commit in one partition. No key of it may be in the middle of something.
    async fn commit_in(&self, part: Part, batch: Batch) -> Result<(), WriteError> {
        batch.validate()?;
        let inside = part.clone();
        self.within(&part, WriteError::Gone, async move {
            let ticket = loop {
                free(&inside, &DOOR).await;
                for change in batch.changes() {
                    free(&inside, &change.key).await;
                }
                inside.room_for(&batch).await?;
                let appended = inside.with(|core, state| {
                    let keys = batch.changes().iter().map(|change| &change.key[..]);
                    state.are_free(keys).then(|| core.append(&batch))
                });
                if let Some(ticket) = appended {
                    break ticket;
                }
            };
            inside.settle(ticket).await
        })
        .await
    }

    /// A commit over several partitions: its keys are locked, in one order, until it is acknowledged.
    async fn commit_over(&self, parts: BTreeMap<PartitionId, Batch>) -> Result<(), WriteError> {
        let mut guards = Vec::new();
        for (id, batch) in &parts {
            let mut keys: Vec<Vec<u8>> = batch.changes().iter().map(|change| change.key.clone()).collect();
            keys.sort_unstable();
            keys.dedup();
            let inside = self.store.partition(*id).clone();
            let locked = self.store.partition(*id).call(async move {
                free(&inside, &DOOR).await;
                lock_hidden(&inside, keys).await
            });
            guards.push(locked.await.ok_or(WriteError::Gone)?);
        }
        self.store.commit(parts.into_iter().collect()).await
    }

    /// The keys that start with a prefix, in order, as they all were at one moment: changes wait for as long as the keys are
    /// gathered.
    ///
    /// # Errors
    /// `Gone` if the engine is closed.
    pub async fn list_async(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, ReadError> {
        let parts = self.store.partitions();
        let mut doors = Vec::new();
        // One partition is seen at one moment anyway.
        for part in parts.iter().filter(|_| parts.len() > 1) {
            let inside = part.clone();
            let door = part.call(async move { close_door(&inside).await }).await;
            doors.push(door.ok_or(ReadError::Gone)?);
        }
        let mut keys = Vec::new();
        for part in parts {
            let (inside, prefix) = (part.clone(), prefix.to_vec());
            let listed =
                part.call(async move { inside.with(|core, _| core.list(&prefix, None, usize::MAX)) });
            keys.extend(listed.await.ok_or(ReadError::Gone)?);
        }
        drop(doors);
        for part in parts {
            let inside = part.clone();
            let settled =
                async move { inside.settled().await.map_err(|error| ReadError::Io(error.to_string())) };
            self.within(part, ReadError::Gone, settled).await?;
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// Returns when everything acknowledged before the call survives a power loss. Callers share the work.
    ///
    /// # Errors
    /// `ReadOnly` if it can't be made durable; the engine then takes no changes until it is reopened.
    pub async fn sync_async(&self) -> Result<(), WriteError> {
        self.store.sync().await
    }
}
