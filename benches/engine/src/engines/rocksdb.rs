//! RocksDB: an LSM-tree. Its puts are with the kernel when they return.

use super::{Engine, Key};
use rocksdb::{DB, Options, WriteBatch, WriteOptions};
use std::path::Path;

struct Rocksdb(DB);

pub fn open(directory: &Path, _durable: bool) -> Box<dyn Engine> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.increase_parallelism(2);
    Box::new(Rocksdb(DB::open(&options, directory).expect("RocksDB opens")))
}

impl Engine for Rocksdb {
    fn put(&self, key: &Key, value: &[u8]) {
        self.0.put(key, value).expect("RocksDB puts");
    }
    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> bool {
        self.0.get_pinned(key).expect("RocksDB gets").map(|value| see(&value)).is_some()
    }
    fn delete(&self, key: &Key) {
        self.0.delete(key).expect("RocksDB deletes");
    }
    fn batch(&self, pairs: &[(Key, &[u8])]) {
        let mut batch = WriteBatch::default();
        for (key, value) in pairs {
            batch.put(key, value);
        }
        self.0.write(&batch).expect("RocksDB commits");
    }
    fn put_durable(&self, key: &Key, value: &[u8]) -> bool {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.0.put_opt(key, value, &options).expect("RocksDB syncs");
        true
    }
    fn compact(&mut self) {
        self.0.flush().expect("RocksDB flushes");
        self.0.compact_range(None::<&[u8]>, None::<&[u8]>);
    }
    fn close(self: Box<Self>) {
        self.0.flush().expect("RocksDB flushes");
    }
}
