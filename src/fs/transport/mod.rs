//! Transports bring requests from the kernel and answers back. They decode, call the volume and reply; they decide nothing.

pub mod classic;
mod convert;
pub mod mount;
