//! LMDB through heed: a memory-mapped B-tree. Puts without a sync are lost when the machine dies, and may leave the file damaged.

use super::{Engine, Key};
use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions};
use std::path::Path;

struct Lmdb {
    environment: Env,
    keys: Database<Bytes, Bytes>,
}

const MAP_BYTES: usize = 16 * 1024 * 1024 * 1024;

pub fn open(directory: &Path, _durable: bool) -> Box<dyn Engine> {
    std::fs::create_dir_all(directory).expect("a directory for LMDB");
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP_BYTES);
    // SAFETY: nobody else touches the file while it is mapped; a crash of the machine isn't part of these runs.
    let environment = unsafe { options.flags(EnvFlags::NO_SYNC).open(directory) }.expect("LMDB opens");
    let mut transaction = environment.write_txn().expect("LMDB begins");
    let keys = environment.create_database(&mut transaction, None).expect("LMDB has a database");
    transaction.commit().expect("LMDB commits");
    Box::new(Lmdb { environment, keys })
}

impl Engine for Lmdb {
    fn put(&self, key: &Key, value: &[u8]) {
        self.batch(&[(*key, value)]);
    }
    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> bool {
        let transaction = self.environment.read_txn().expect("LMDB begins");
        self.keys.get(&transaction, key).expect("LMDB gets").map(see).is_some()
    }
    fn delete(&self, key: &Key) {
        let mut transaction = self.environment.write_txn().expect("LMDB begins");
        self.keys.delete(&mut transaction, key).expect("LMDB deletes");
        transaction.commit().expect("LMDB commits");
    }
    fn batch(&self, pairs: &[(Key, &[u8])]) {
        let mut transaction = self.environment.write_txn().expect("LMDB begins");
        for (key, value) in pairs {
            self.keys.put(&mut transaction, key, value).expect("LMDB puts");
        }
        transaction.commit().expect("LMDB commits");
    }
    fn put_durable(&self, key: &Key, value: &[u8]) -> bool {
        self.put(key, value);
        self.environment.force_sync().expect("LMDB syncs");
        true
    }
    fn compact(&mut self) {}
    fn close(self: Box<Self>) {
        self.environment.force_sync().expect("LMDB syncs");
    }
}
