//! The proxy's own client to one real cluster: connections, metadata, and typed operations with deadlines.
//!
//! [`Cluster`] is the handle that other rooms hold. It picks a broker, keeps one [`conn::Connection`] per broker and
//! [`Lane`], and never waits longer than the deadline of the call. `ops` has the typed helpers, which retry moved leaders
//! and coordinators; [`Cluster::call`] itself makes one attempt.

mod call;
mod cluster;
mod conn;
mod error;
mod frames;
mod metadata;
mod ops;
mod parts;
mod pool;
mod reach;
mod reply;
mod retry;
mod together;
mod versions;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use cluster::{ClientOptions, Cluster, Lane, Target};
pub use error::{KafkaError, Kind, UpstreamError, code};
pub use metadata::{Broker, Partition, Snapshot, Topic};
pub use ops::ends::EndsOf;
pub use ops::fetch::{FetchFrom, FetchOptions, FetchedPartition, Isolation};
pub use ops::groups::{Committed, DescribedGroup, GroupMember, GroupProtocol, ListedGroup};
pub use ops::log::{ActiveProducer, EpochEnd, LogEnd, OffsetSpec, PerPartition};
pub use ops::produce::ProducedPartition;
pub use ops::topics::Configs;
pub use ops::transactions::{self as transaction, DescribedTransaction};
