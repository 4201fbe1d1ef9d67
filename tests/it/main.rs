//! The integration tests: whole behaviour against real Apache Kafka with real clients, in one binary, since linking
//! dominates the build time.

mod copy;
mod lagging;
mod positions;
mod reading;
mod smoke;
#[path = "../support/mod.rs"]
mod support;
mod upstream;
mod versions;
