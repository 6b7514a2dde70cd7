//! The engine's identifiers and quantities. An identifier is never a bare integer.

use std::fmt;

/// Which partition of a store: from 0 to `partitions - 1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PartitionId(pub u16);

impl PartitionId {
    /// The partition as an index into an array with one element a partition.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A segment of one partition. Ids grow with time and are never used twice, across restarts too. The first is 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SegmentId(pub u32);

/// The place of a frame in the one order over all partitions. The first number is 1; 0 stands for "before everything".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Number(pub u64);

impl Number {
    /// Before everything.
    pub const ZERO: Number = Number(0);
    /// Behind everything.
    pub const MAX: Number = Number(u64::MAX);
    /// The number right behind this one.
    pub fn next(self) -> Number {
        Number(self.0 + 1)
    }
}

/// One life of a store, from an opening to the next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Epoch(pub u32);

/// Names one store for ever: random, made when the store is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StoreId(pub [u8; 16]);

/// Where a key is routed: one of [`SLOTS`](crate::engine::limits::SLOTS). Slots, not keys, are dealt to partitions,
/// so that a store can be dealt anew without renaming a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Slot(pub u16);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
