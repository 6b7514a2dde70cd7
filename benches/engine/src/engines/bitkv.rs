//! Ours.

use super::{Engine, Key};
use bitkv::{ChangeView, EngineOptions};
use std::path::Path;

struct Bitkv(bitkv::Engine);

pub fn open(directory: &Path, _durable: bool) -> Box<dyn Engine> {
    Box::new(Bitkv(bitkv::Engine::open(directory, EngineOptions::default()).expect("bitkv opens")))
}

impl Engine for Bitkv {
    fn put(&self, key: &Key, value: &[u8]) {
        self.0.put(key, value).expect("bitkv puts");
    }
    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> bool {
        self.0.get(key).expect("bitkv gets").map(|value| see(&value)).is_some()
    }
    fn delete(&self, key: &Key) {
        self.0.delete(key).expect("bitkv deletes");
    }
    fn batch(&self, pairs: &[(Key, &[u8])]) {
        let changes: Vec<_> = pairs.iter().map(|(key, value)| ChangeView::put(key, value)).collect();
        self.0.commit_all(&changes).expect("bitkv commits");
    }
    fn put_durable(&self, key: &Key, value: &[u8]) -> bool {
        self.0.put(key, value).and_then(|()| self.0.sync()).expect("bitkv syncs");
        true
    }
    fn compact(&mut self) {
        self.0.sync().expect("bitkv syncs");
        while self.0.compact().expect("bitkv compacts") > 0 {}
    }
    fn close(self: Box<Self>) {
        self.0.close().expect("bitkv closes");
    }
    fn index_bytes(&self) -> Option<u64> {
        Some(self.0.stats().keydir_bytes)
    }
}
