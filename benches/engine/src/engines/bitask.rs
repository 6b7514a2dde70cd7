//! bitask: a small Bitcask. One thread at a time; it never syncs.

use super::{Engine, Key};
use ::bitask::db::{Bitask as Database, Error};
use std::path::Path;
use std::sync::Mutex;

struct Bitask(Mutex<Database>);

pub fn open(directory: &Path, _durable: bool) -> Box<dyn Engine> {
    Box::new(Bitask(Mutex::new(Database::open(directory).expect("bitask opens"))))
}

impl Engine for Bitask {
    fn put(&self, key: &Key, value: &[u8]) {
        self.0.lock().unwrap().put(key.to_vec(), value.to_vec()).expect("bitask puts");
    }
    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> bool {
        match self.0.lock().unwrap().ask(key) {
            Ok(value) => {
                see(&value);
                true
            }
            Err(Error::KeyNotFound) => false,
            Err(error) => panic!("bitask gets: {error}"),
        }
    }
    fn delete(&self, key: &Key) {
        self.0.lock().unwrap().remove(key.to_vec()).expect("bitask deletes");
    }
    fn batch(&self, pairs: &[(Key, &[u8])]) {
        for (key, value) in pairs {
            self.put(key, value);
        }
    }
    fn put_durable(&self, _key: &Key, _value: &[u8]) -> bool {
        false
    }
    fn compact(&mut self) {
        self.0.get_mut().unwrap().compact().expect("bitask compacts");
    }
    fn close(self: Box<Self>) {}
}
