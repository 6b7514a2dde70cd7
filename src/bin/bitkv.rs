//! `bitkv COMMAND`.
fn main() {}
