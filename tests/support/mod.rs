//! Test rig: real Kafka clusters, the built proxy, rdkafka load and a checker of what that load saw. Included by
//! `#[path]` as `support` at the crate root of the integration tests, the demo and the benches, so that all three share
//! one harness.
//!
//! Everything blocks and uses plain threads: nothing here needs a runtime, and a caller that has one is not disturbed.

// Each includer uses its own part of the rig.
#![allow(dead_code)]

pub mod checker;
pub mod client;
pub mod cluster;
pub mod distance;
pub mod java_group;
pub mod kafka;
pub mod load;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod scan;
pub mod shared;
pub mod temp;
pub mod wait;
