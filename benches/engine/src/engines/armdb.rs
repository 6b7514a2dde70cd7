//! armdb: a sharded Bitcask. Its puts lie in a buffer of the process when they return.

use super::{Engine, Key};
use armdb::{Config, VarMap};
use std::path::Path;

struct Armdb(VarMap<Key>);

pub fn open(directory: &Path, durable: bool) -> Box<dyn Engine> {
    let config = Config::balanced().compaction_threshold(0.05).compaction_max_files_per_pass(0);
    // A barrier after every write is the only way to a durable put.
    let config = config.sync_batch_size(u32::from(durable)).build();
    Box::new(Armdb(VarMap::open(directory, config).expect("armdb opens")))
}

impl Engine for Armdb {
    fn put(&self, key: &Key, value: &[u8]) {
        self.0.put(key, value).expect("armdb puts");
    }
    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> bool {
        self.0.try_get(key).expect("armdb gets").map(|value| see(&value)).is_some()
    }
    fn delete(&self, key: &Key) {
        self.0.delete(key).expect("armdb deletes");
    }
    /// Its atomic writes stay inside one shard: these are as many puts.
    fn batch(&self, pairs: &[(Key, &[u8])]) {
        for (key, value) in pairs {
            self.put(key, value);
        }
    }
    fn put_durable(&self, key: &Key, value: &[u8]) -> bool {
        self.put(key, value);
        true
    }
    fn compact(&mut self) {
        self.0.flush_buffers().expect("armdb flushes");
        while self.0.compact().expect("armdb compacts") > 0 {}
    }
    fn close(self: Box<Self>) {
        self.0.close().expect("armdb closes");
    }
}
