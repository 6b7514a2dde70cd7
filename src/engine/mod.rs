#![doc = include_str!("README.md")]

mod allowance;
pub mod batch;
pub mod clock;
mod close;
mod common;
mod compaction;
pub mod config;
mod core;
pub mod disk;
pub mod error;
mod fetch;
pub mod format;
mod gate;
mod keydir;
pub mod library;
pub mod limits;
pub mod locks;
mod log;
mod open;
mod order;
mod partition;
mod planted;
mod recovery;
mod rounds;
mod scan;
mod seal;
mod segment;
mod shell;
#[doc(hidden)]
pub mod simulator;
pub mod stats;
pub mod store;
mod sync;
mod turn;
pub mod types;
mod wait;

pub use self::batch::Batch;
pub use self::config::{Config, Durability, World};
pub use self::core::{Appended, Core, Ticket};
pub use self::error::{OpenError, ReadError, WriteError};
pub use self::library::{Engine, EngineOptions};
pub use self::open::{Recovered, RecoveredKey};
pub use self::partition::Partition;
pub use self::store::Store;
pub use self::turn::{Blockers, Policy};
pub use self::types::{Number, PartitionId, Slot};
