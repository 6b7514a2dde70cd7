#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

pub mod cli;
pub mod engine;
pub mod fs;

pub use engine::{Batch, ChangeView, Engine, EngineOptions};
