//! Transports bring requests from the kernel and answers back. They decode, pass on to `dispatch` and reply; they decide nothing.

mod answer;
pub mod classic;
mod convert;
pub mod dispatch;
pub mod mount;
pub mod request;
pub mod ring;
