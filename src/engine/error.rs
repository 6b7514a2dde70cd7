//! What can go wrong, one enum per family of operation. Operating errors are values; our own mistakes are assertions.

use super::types::{PartitionId, SegmentId};
use std::fmt;
use std::io;

/// Why a store can't be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The directory or a file in it can't be used.
    Io(String, io::Error),
    /// Another process has the store open; its process id, if it could be read.
    Locked(Option<u32>),
    /// The directory holds something that is no store, or a file that is not of this store.
    Foreign(String),
    /// Made by a newer version, or with a feature that this one doesn't know.
    Newer(String),
    /// Opened with other settings than it was made with.
    Mismatch(String),
    /// Damage that hides which keys it hit, in data that had been made durable.
    Damaged(String),
    /// Settings that make no sense.
    Config(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io(what, error) => write!(f, "{what}: {error}"),
            OpenError::Locked(Some(pid)) => write!(f, "the store is in use by process {pid}"),
            OpenError::Locked(None) => write!(f, "the store is in use by another process"),
            OpenError::Foreign(what) => write!(f, "not a store of ours: {what}"),
            OpenError::Newer(what) => write!(f, "the store needs a newer version: {what}"),
            OpenError::Mismatch(what) => write!(f, "{what}"),
            OpenError::Damaged(what) => write!(f, "the store is damaged: {what}"),
            OpenError::Config(what) => write!(f, "{what}"),
        }
    }
}
impl std::error::Error for OpenError {}

/// Why a value can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// The bytes on the disk fail their checksum. The value is lost; nothing else is.
    Damaged {
        /// In which partition.
        partition: PartitionId,
        /// In which segment.
        segment: SegmentId,
        /// At which offset in it, in bytes.
        offset: u64,
    },
    /// The disk failed.
    Io(String),
    /// The store is closed, or the operation panicked.
    Gone,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Damaged { partition, segment, offset } => {
                write!(f, "checksum failed in partition {partition}, segment {segment}, offset {offset}")
            }
            ReadError::Io(what) => write!(f, "read failed: {what}"),
            ReadError::Gone => write!(f, "the store is closed"),
        }
    }
}
impl std::error::Error for ReadError {}

/// Why a change was not made, or not made durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteError {
    /// No space; nothing was changed.
    Full,
    /// A key or value is empty where it may not be, or too long.
    Size(&'static str),
    /// An earlier write or sync failed, or the store was opened read-only: it takes no changes until it is reopened.
    ReadOnly(String),
    /// The store is closed, or the operation panicked.
    Gone,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Full => write!(f, "no space left for the store"),
            WriteError::Size(what) => write!(f, "{what}"),
            WriteError::ReadOnly(reason) => write!(f, "the store is read-only: {reason}"),
            WriteError::Gone => write!(f, "the store is closed"),
        }
    }
}
impl std::error::Error for WriteError {}
