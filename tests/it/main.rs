//! The integration tests: whole behaviour against real Apache Kafka with real clients, in one binary, since linking
//! dominates the build time.

mod house;
mod smoke;
#[path = "../support/mod.rs"]
mod support;
mod upstream;
