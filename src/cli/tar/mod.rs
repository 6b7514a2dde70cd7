//! Trees as tar archives, in the pax format. `sparse` and `times` have what is in the pax records beyond names,
//! `records` the records themselves; `write` and `read` the archive.

mod read;
mod records;
mod sparse;
mod times;
mod write;

pub(super) use read::import;
pub(super) use write::export;

/// Before the name of an extended attribute in a pax record, as everybody does it.
const XATTR_PREFIX: &str = "SCHILY.xattr.";
