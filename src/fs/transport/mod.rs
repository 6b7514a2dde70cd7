//! Transports bring requests from the kernel and answers back. They decode, call the volume and reply; they decide nothing.

mod answer;
pub mod classic;
mod convert;
mod listing;
pub mod mount;
pub mod ring;
