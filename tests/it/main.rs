//! The integration tests: whole behaviour against real Apache Kafka with real clients, in one binary, since linking
//! dominates the build time.

mod bench;
mod changes;
mod chaos;
mod cleaned;
mod clients;
mod commits;
mod copy;
mod cutover;
mod disposable;
mod divergence;
mod far;
mod groups;
mod house;
mod java_members;
mod kcat;
mod kip848;
mod lagging;
mod late_commits;
mod lifecycle;
mod markers;
#[path = "../clients/matrix/mod.rs"]
mod matrix;
mod money;
mod opening;
mod operator;
mod pipeline;
mod planted;
mod positions;
mod protocol_one;
mod reading;
mod retries;
mod rig;
mod shares;
mod slow_readers;
mod smoke;
mod standby_loss;
mod static_members;
mod successor;
#[path = "../support/mod.rs"]
mod support;
mod three_brokers;
mod tools;
mod torn;
mod transactions;
mod truncation;
mod upstream;
mod verify;
mod versions;
mod wire;
