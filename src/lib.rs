//! kafka-standby: a wire-level Kafka proxy that keeps a standby cluster ready and moves every client to it in one
//! atomic step. ARCHITECTURE.md is the map of this crate.

pub mod admin;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod coordinator;
pub mod cutover;
pub mod divergence;
pub mod groups;
pub mod model;
pub mod offsets;
pub mod proxy;
pub mod records;
pub mod replicate;
pub mod rewrite;
pub mod state;
pub mod stream;
pub mod transactions;
pub mod upstream;
pub mod verify;
pub mod wire;
