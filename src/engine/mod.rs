#![doc = include_str!("README.md")]

pub mod batch;
pub mod clock;
pub mod config;
mod core;
pub mod disk;
pub mod error;
pub mod format;
mod gate;
pub mod limits;
mod partition;
pub mod store;
mod turn;
pub mod types;

pub use self::batch::Batch;
pub use self::config::{Config, Durability, World};
pub use self::core::{Core, Ticket};
pub use self::error::{OpenError, ReadError, WriteError};
pub use self::partition::Partition;
pub use self::store::Store;
pub use self::turn::Policy;
pub use self::types::{Number, PartitionId, Slot};
