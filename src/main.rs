//! `bitkv-mount DATA MOUNTPOINT`.
fn main() {}
