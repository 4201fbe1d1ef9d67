//! The integration tests: whole behaviour against real Apache Kafka with real clients, in one binary, since linking
//! dominates the build time.

mod disposable;
mod smoke;
mod standby_loss;
#[path = "../support/mod.rs"]
mod support;
mod three_brokers;
mod upstream;
