//! Compares the active cluster and the standby batch by batch and fails loudly on a difference.

pub mod chunk;
pub mod compare;
mod feed;
mod missing;
