//! Formats.
pub mod record;
