//! Mistakes planted on purpose are found.
