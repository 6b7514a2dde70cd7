//! Uring.
