//! The ring transport: requests over FUSE's io_uring. Each possible processor has a queue and a thread that is pinned to it; a request
//! arrives on the processor of its caller, and is served by the thread there. `wire` decodes and encodes, `serve` calls the volume, `queue`
//! holds the ring. FORGET and INTERRUPT still come over `/dev/fuse`, to the classic adapter.

mod encode;
mod manners;
mod queue;
mod serve;
#[cfg(test)]
mod tests;
mod threads;
pub mod wire;

pub use manners::StandBack;
pub use serve::Server;
pub use threads::{Threads, queue_count};

/// Where the kernel's module says whether it offers the transport: Y or N. Missing before Linux 6.14.
pub const PARAMETER: &str = "/sys/module/fuse/parameters/enable_uring";
/// Requests that a queue can hold at once, unless told otherwise.
pub const DEPTH_DEFAULT: u16 = 16;
/// The same, as far as it can be told.
pub const DEPTH_RANGE: std::ops::RangeInclusive<u16> = 1..=256;
