//! The filesystem: names, inodes and content over the engine's keys. It knows no transport and no segment.

mod access;
pub mod acl;
mod at_once;
pub mod attributes;
mod backup;
mod bars;
pub mod check;
pub mod chunk;
mod content;
pub mod control;
mod counter;
mod directory;
pub mod dump;
pub mod errno;
mod inode;
pub mod journal;
pub mod keys;
mod listing;
mod lookup;
mod make;
pub mod operation;
mod paths;
mod rename;
pub mod reshard;
#[cfg(test)]
mod simulation;
mod space;
mod state;
pub mod traffic;
pub mod transport;
pub mod types;
mod unlink;
pub mod volume;
mod whereabouts;
mod xattr;

pub use self::volume::{Volume, VolumeConfig};
