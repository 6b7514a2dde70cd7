//! Time, as the core is given it. The core never reads a clock by itself.

mod real;
mod sim;

pub use self::real::RealClock;
pub use self::sim::SimClock;

use std::future::Future;
use std::pin::Pin;

/// A future that is ready when its time has come.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A source of time. The real one has a thread; the simulator's moves when the simulator says so.
pub trait Clock: Send + Sync {
    /// Nanoseconds since some fixed moment; never goes back.
    fn monotonic_ns(&self) -> u64;
    /// Nanoseconds since 1970 by the wall clock; may jump.
    fn wall_ns(&self) -> i64;
    /// Ready after that many nanoseconds.
    fn sleep(&self, duration_ns: u64) -> Sleep;
}
