//! The filesystem: paths, inodes and content over the engine. It knows no transport and no segment.

pub mod errno;
pub mod types;
pub mod volume;
