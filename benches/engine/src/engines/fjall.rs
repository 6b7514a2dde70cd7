//! fjall 3: an LSM-tree. Its puts are with the kernel when they return.

use super::{Engine, Key};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;

struct Fjall {
    database: Database,
    keys: Keyspace,
}

pub fn open(directory: &Path, _durable: bool) -> Box<dyn Engine> {
    let database = Database::builder(directory).open().expect("fjall opens");
    let keys = database.keyspace("keys", KeyspaceCreateOptions::default).expect("fjall has a keyspace");
    Box::new(Fjall { database, keys })
}

impl Engine for Fjall {
    fn put(&self, key: &Key, value: &[u8]) {
        self.keys.insert(key, value).expect("fjall puts");
    }
    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> bool {
        self.keys.get(key).expect("fjall gets").map(|value| see(&value)).is_some()
    }
    fn delete(&self, key: &Key) {
        self.keys.remove(key).expect("fjall deletes");
    }
    fn batch(&self, pairs: &[(Key, &[u8])]) {
        let mut batch = self.database.batch();
        for (key, value) in pairs {
            batch.insert(&self.keys, key, *value);
        }
        batch.commit().expect("fjall commits");
    }
    fn put_durable(&self, key: &Key, value: &[u8]) -> bool {
        self.put(key, value);
        self.database.persist(PersistMode::SyncData).expect("fjall syncs");
        true
    }
    fn compact(&mut self) {
        self.keys.rotate_memtable_and_wait().expect("fjall flushes");
        self.keys.major_compact().expect("fjall compacts");
    }
    fn close(self: Box<Self>) {
        self.database.persist(PersistMode::SyncAll).expect("fjall syncs");
    }
}
