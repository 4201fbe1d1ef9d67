//! The integration tests: whole behaviour against real Apache Kafka with real clients, in one binary, since linking
//! dominates the build time.

mod cutover;
mod groups;
mod retries;
mod rig;
mod smoke;
mod upstream;
mod verify;
#[path = "../support/mod.rs"]
mod support;
