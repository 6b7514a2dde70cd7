//! redb 4: a copy-on-write B-tree. A put is a transaction of its own; those that aren't durable are lost when the process is killed.

use super::{Engine, Key};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use std::path::Path;

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keys");

struct Redb(Database);

pub fn open(directory: &Path, _durable: bool) -> Box<dyn Engine> {
    std::fs::create_dir_all(directory).expect("a directory for redb");
    let database = Database::create(directory.join("keys.redb")).expect("redb opens");
    let redb = Redb(database);
    redb.write(Durability::Immediate, |_| {});
    Box::new(redb)
}

impl Redb {
    fn write(&self, durability: Durability, change: impl FnOnce(&mut redb::Table<'_, &[u8], &[u8]>)) {
        let mut transaction = self.0.begin_write().expect("redb begins");
        transaction.set_durability(durability).expect("redb knows the durability");
        change(&mut transaction.open_table(TABLE).expect("redb has a table"));
        transaction.commit().expect("redb commits");
    }
}

impl Engine for Redb {
    fn put(&self, key: &Key, value: &[u8]) {
        self.write(Durability::None, |table| {
            table.insert(key.as_slice(), value).expect("redb puts");
        });
    }
    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> bool {
        let table = self.0.begin_read().expect("redb begins").open_table(TABLE).expect("redb has a table");
        table.get(key.as_slice()).expect("redb gets").map(|value| see(value.value())).is_some()
    }
    fn delete(&self, key: &Key) {
        self.write(Durability::None, |table| {
            table.remove(key.as_slice()).expect("redb deletes");
        });
    }
    fn batch(&self, pairs: &[(Key, &[u8])]) {
        self.write(Durability::None, |table| {
            for (key, value) in pairs {
                table.insert(key.as_slice(), *value).expect("redb puts");
            }
        });
    }
    fn put_durable(&self, key: &Key, value: &[u8]) -> bool {
        self.write(Durability::Immediate, |table| {
            table.insert(key.as_slice(), value).expect("redb puts");
        });
        true
    }
    fn compact(&mut self) {
        self.write(Durability::Immediate, |_| {});
        self.0.compact().expect("redb compacts");
    }
    fn close(self: Box<Self>) {
        self.write(Durability::Immediate, |_| {});
    }
}
