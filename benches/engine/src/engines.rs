//! The engines behind one trait. Each does every work the way its own documentation tells a user to.

mod bitkv;

#[cfg(feature = "armdb")]
mod armdb;
#[cfg(feature = "bitask")]
mod bitask;
#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "heed")]
mod heed;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;

use std::path::Path;

pub const KEY_BYTES: usize = 16;
pub type Key = [u8; KEY_BYTES];

/// What every engine can do. A failure ends the run: numbers of a store that fails are worth nothing.
pub trait Engine: Send + Sync {
    fn put(&self, key: &Key, value: &[u8]);
    /// Shows the value; false if there is none.
    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> bool;
    fn delete(&self, key: &Key);
    /// All of it together, as far as the engine can.
    fn batch(&self, pairs: &[(Key, &[u8])]);
    /// Survives a power loss when it returns; false if the engine can't promise that.
    fn put_durable(&self, key: &Key, value: &[u8]) -> bool;
    /// Gives back the space of what is dead.
    fn compact(&mut self);
    fn close(self: Box<Self>);
    /// What the engine itself says that its index takes in memory, in bytes.
    fn index_bytes(&self) -> Option<u64> {
        None
    }
}

/// Opens or makes a store; the flag says that all its puts are going to be durable ones.
type Open = fn(&Path, bool) -> Box<dyn Engine>;

/// All engines of this build, ours first. `*`: acknowledged puts can be lost when the process is killed.
pub const ENGINES: &[(&str, Open)] = &[
    ("bitkv", bitkv::open),
    #[cfg(feature = "fjall")]
    ("fjall", fjall::open),
    #[cfg(feature = "redb")]
    ("redb*", redb::open),
    #[cfg(feature = "armdb")]
    ("armdb*", armdb::open),
    #[cfg(feature = "bitask")]
    ("bitask", bitask::open),
    #[cfg(feature = "rocksdb")]
    ("rocksdb", rocksdb::open),
    #[cfg(feature = "heed")]
    ("lmdb*", heed::open),
];

pub fn open(name: &str, directory: &Path, durable: bool) -> Box<dyn Engine> {
    let found = ENGINES.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no engine {name} in this build")).1(directory, durable)
}
