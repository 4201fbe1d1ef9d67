//! The parts of the bench, each a kind of load on the contestants that it is about.

pub mod copy;
pub mod latency;
pub mod open;
pub mod pressure;
pub mod scale;
pub mod throughput;
