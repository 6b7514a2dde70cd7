//! Every limit and default of the engine, in one place, checked against each other at compile time.

/// Keys are dealt to partitions through this many slots.
pub const SLOTS: u16 = 4096;
/// The most partitions that a store can have.
pub const PARTITIONS_MAX: u16 = 256;

/// The longest key, in bytes. The shortest has one.
pub const KEY_BYTES_MAX: usize = 64 * 1024;
/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The size of a segment file unless told otherwise, in bytes.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
/// The smallest segment that may be asked for (only simulations and tests want one this small), in bytes.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// The largest segment, in bytes: offsets are kept in 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// How much mail a thread runs, its own and that of others, before it hands the turn to the worker.
pub const TURN_MAIL_MAX: usize = 256;
/// A turn writes its append buffer early once it holds this much, in bytes.
pub const APPEND_BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How many operations library callers may have in flight in a store; who comes then waits.
pub const MAIL_OPERATIONS_MAX: usize = 65_536;
/// How many bytes of keys and values they may have in flight together.
pub const MAIL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many full segments of a partition may wait for their seals before who would fill another one waits for one of them: each keeps a file open,
/// and the index of what is in it in memory.
pub const UNSEALED_SEGMENTS_MAX: usize = 4;

/// While little is appended between two syncs, zeros are written this far ahead, as a share of the segment's size: syncing what is written
/// over them costs half of what syncing fresh blocks does.
pub const FILL_SHARE: u64 = 256;
/// But at least so many bytes.
pub const FILL_BYTES_MIN: u64 = 4096;

/// What the log lays out with zeros at a time before it writes a few records there, in bytes; reading them back from memory then takes three quarters of
/// the time, and a sync writes no more for it.
pub const FOLIO_BYTES: u64 = 64 * 1024;

/// With a short record at most so much is read at once of the kernel's memory, in bytes: some names with what they lead to.
pub(crate) const VICINITY_BYTES_MAX: usize = 4 * 1024;
/// Less isn't worth reading on for.
pub(crate) const VICINITY_BYTES_MIN: usize = 512;

/// How often a thread looks whether a neighbour is done, before it leaves mail or sleeps: some microseconds. The neighbour mostly takes one or two; to fall
/// asleep and be woken takes dozens.
pub(crate) const LOOKS_BEFORE_WAITING: usize = 256;

const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX <= MAIL_BYTES_MAX);
const _: () = assert!(SLOTS.is_power_of_two() && PARTITIONS_MAX <= SLOTS);
const _: () =
    assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES_DEFAULT && SEGMENT_BYTES_DEFAULT <= SEGMENT_BYTES_MAX);
const _: () = assert!(SEGMENT_BYTES_MAX <= u32::MAX as u64);
const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX + 4096 <= SEGMENT_BYTES_DEFAULT as usize);
