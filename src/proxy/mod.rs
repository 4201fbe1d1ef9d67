//! The clients' side: listeners, connections, and what happens to each request and reply on its way.
//!
//! One client connection maps to one upstream connection of the broker behind the virtual broker it was made to. Two tasks
//! on one of the clients' [`threads`] serve it: [`connection`] reads requests, [`replies`] answers them in order.

mod budget;
mod commits;
mod connection;
mod fetch;
mod gate;
mod inbox;
mod inject;
mod intake;
mod local;
mod pending;
mod produce;
mod replies;
mod server;
mod shares;
mod splice;
mod standby;
pub mod threads;
mod transactions;

pub use budget::Budget;
pub use gate::{Gate, GateState};
pub use inject::{InjectError, produce as inject};
pub use pending::Reply;
pub use server::Server;
pub use transactions::{Calm, Transactions, fresh, now};

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;

use crate::catalog::Partition;
use crate::config::Config;
use crate::groups::{Heartbeats, Met, Rehome, Teed};
use crate::model::TopicPartition;
use crate::transactions::Record;
use crate::upstream::Cluster;
use crate::wire::versions::Advertised;

/// Which address a client connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// The bootstrap address: any broker will do.
    Bootstrap,
    Broker(i32),
}

/// What connections need of the rest of the house.
pub trait House: Send + Sync {
    /// A partition of a `sync` topic has waited too long for the standby: store that it leaves the in-sync state, then
    /// let go. `Err`: it could not be stored, so the acknowledgement must not be given.
    fn leave_in_sync<'a>(
        &'a self,
        partition: &'a Arc<Partition>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

    /// Looks whether the active cluster's log of a partition still is the one that was seen; if not, what comes next has names
    /// of its own afterwards.
    fn check_log<'a>(
        &'a self,
        partition: &'a Arc<Partition>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

    /// Topics were created, deleted or grown through the proxy: bring the standby and the streams up to date before the
    /// client hears of it (bounded wait).
    fn topics_changed<'a>(&'a self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

    /// A group committed offsets: the standby's copy is due.
    fn group_committed(&self, group: &str);

    /// A share group's consumers have acknowledged records, or its start offsets were changed: the standby's copy is due.
    fn share_group_moved(&self, group: &str);

    /// A share group's consumer asked for records or got some.
    fn share_read(&self, group: &str, partition: &TopicPartition, met: Met);

    /// What is to be known of a transactional id is stored on the active cluster before anyone hears of it, then copied.
    fn remember_transaction<'a>(
        &'a self,
        id: &'a str,
        record: &'a Record,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

    /// Brings offsets that a transaction has just committed to the standby; comes back when they are there.
    fn offsets_copied<'a>(
        &'a self,
        group: &'a str,
        partitions: &'a [TopicPartition],
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

    /// Brings offsets that a group's member has just committed to the standby, until `deadline`.
    fn commit_teed<'a>(
        &'a self,
        group: &'a str,
        partitions: &'a [TopicPartition],
        deadline: tokio::time::Instant,
    ) -> std::pin::Pin<Box<dyn Future<Output = Teed> + Send + 'a>>;

    /// Records below a logical offset were deleted on the active cluster by a client.
    fn records_deleted(&self, topic: &str, partition: i32, logical: i64);
}

/// Shared by all connections.
pub struct Context {
    /// As at the start: addresses and limits.
    pub config: Arc<Config>,
    /// As reloaded: the tee's rules.
    pub live: Arc<ArcSwap<Config>>,
    pub gate: Arc<Gate>,
    pub clusters: [Option<Cluster>; 2],
    pub advertised: ArcSwap<Advertised>,
    pub rehome: Arc<Rehome>,
    pub heartbeats: Arc<Heartbeats>,
    pub transactions: Arc<Transactions>,
    pub house: Arc<dyn House>,
    pub connections: AtomicUsize,
    pub budget: Arc<Budget>,
}
