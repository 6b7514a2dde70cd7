//! Opening is recovery: reading what is there (`load`), deciding what counts (`decide`, a table), making the disk agree with it
//! (`repair`), and building the keydir (`index`). Bounded by the hints' size and the unsealed tails; needed after every close, clean or not.
//!
//! Order of what is made durable: tails first, then MANIFEST's new epoch, then anything is served. A crash anywhere in between
//! starts the same recovery again.

pub(crate) mod decide;
pub(crate) mod index;
pub(crate) mod load;
pub(crate) mod repair;
pub(crate) mod salvage;

use super::error::OpenError;
use std::io;

/// An I/O error with what was being done.
pub(crate) fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
    let what = what.into();
    move |error| OpenError::Io(what, error)
}
