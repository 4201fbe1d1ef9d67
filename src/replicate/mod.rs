//! The streams: one per partition copies the active cluster's log to the standby.
//!
//! `topics` keeps the standby's topics like the active cluster's, `incarnation` forgets what is known of one that another
//! has replaced, `truncation` finds that the active cluster has lost the end of a log, `partition` is the stream of one
//! partition, `crew` runs many of them, `complete` brings over what a failover would tear, `writer` shares produce requests
//! between streams, `poll` finds what bypassed the proxy, `retention` forgets the offsets of records that are gone.

mod complete;
mod crew;
mod incarnation;
mod open;
mod partition;
mod poll;
mod recall;
mod retention;
mod topics;
mod truncation;
mod writer;

pub use complete::{CompleteError, Completed, Completion};
pub use recall::recall;
pub use topics::{TopicSync, is_user_topic, register};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::{Catalog, Partition};
use crate::config::TeeMode;
use crate::model::{ClusterIx, Generation, TopicPartition};
use crate::state::{MapRecord, StateError, Store};
use crate::upstream::{Cluster, UpstreamError};
use incarnation::map_entries;

/// Pause between attempts on a cluster that refuses or cannot be reached, growing to the second.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What the streams of one generation share.
pub struct Direction {
    pub generation: Generation,
    pub from: ClusterIx,
    pub active: Cluster,
    pub standby: Cluster,
    /// Cluster names, by index.
    pub names: [String; 2],
    pub catalog: Arc<Catalog>,
    pub store: Arc<Store>,
    writer: writer::Writer,
    /// Pieces of the log that streams may hold while they catch up.
    pieces: Arc<Semaphore>,
    /// No transaction of the standby's own is open in the copies any more.
    settled: tokio::sync::OnceCell<()>,
}

impl Direction {
    pub fn to(&self) -> ClusterIx {
        self.from.other()
    }

    /// Ends transactions that were open on the standby when it was the active cluster and got lost: their markers would come
    /// in the midst of what is copied. Once, as soon as it can be reached.
    async fn settle(&self) -> Result<(), UpstreamError> {
        let copied = |topic: &str| self.catalog.topic(topic).is_some_and(|t| t.mode() != TeeMode::Off);
        let end = || async {
            let aborted = self.standby.end_transactions(|t| t.topics.keys().any(|topic| copied(topic))).await?;
            if !aborted.is_empty() {
                tracing::warn!(cluster = %self.standby.name(), ids = ?aborted, "transactions left open were aborted");
            }
            Ok(())
        };
        self.settled.get_or_try_init(end).await.copied()
    }

    /// Stores on a cluster itself what has changed of a partition's map there, as often as it takes (`told` hears why not yet);
    /// the other one gets its copy.
    async fn store_changes(&self, partition: &Partition, on: ClusterIx, told: impl Fn(&StateError)) {
        let (parts, kept) = {
            let mut offsets = partition.offsets.write();
            let map = offsets.map_mut(on);
            (MapRecord::unstored(map).collect::<Vec<_>>(), map.storing())
        };
        let entries = || map_entries(&self.store, &self.names[on.ix()], &partition.tp, &parts);
        let mut pause = RETRY_WAIT.0;
        while let Err(error) = self.store.write(on, entries()).await {
            told(&error);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_WAIT.1);
        }
        self.store.write_soon(on.other(), entries());
        partition.offsets.write().map_mut(on).stored(kept);
    }

    /// The standby's name, for keys of the state topic.
    pub fn standby_name(&self) -> &str {
        &self.names[self.to().ix()]
    }
}

/// All streams of one generation; dropped or stopped at its end.
pub struct Streams {
    direction: Arc<Direction>,
    running: Mutex<HashMap<TopicPartition, Arc<Partition>>>,
    crew: crew::Crew,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Streams {
    pub fn start(
        generation: Generation,
        from: ClusterIx,
        clusters: (Cluster, Cluster),
        names: [String; 2],
        catalog: Arc<Catalog>,
        store: Arc<Store>,
    ) -> Arc<Self> {
        let (active, standby) = clusters;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let writer = writer::Writer::new(standby.clone(), tasks.clone(), stop.clone());
        let settled = tokio::sync::OnceCell::new();
        let pieces = Arc::new(Semaphore::new(partition::PIECES));
        let direction = Direction { generation, from, active, standby, names, catalog, store, writer, pieces, settled };
        let direction = Arc::new(direction);
        let crew = crew::Crew::start(&tasks, &stop);
        let streams = Arc::new(Streams { direction: direction.clone(), running: Mutex::default(), crew, tasks, stop });
        streams.spawn(poll::run(direction.clone()));
        streams.spawn(retention::run(direction.clone()));
        streams.spawn(poll::watch_copies(direction));
        streams
    }

    pub fn direction(&self) -> &Arc<Direction> {
        &self.direction
    }

    /// Looks whether the active cluster's log of a partition still is the one that was seen.
    pub async fn check_log(&self, partition: &Arc<Partition>) -> Result<(), String> {
        truncation::look_at(&self.direction, partition).await
    }

    /// Starts the stream of every partition that is to be copied and has none yet. Those of deleted topics end by themselves.
    pub fn cover(&self, partitions: &[Arc<Partition>]) {
        let mut running = self.running.lock();
        running.retain(|_, partition| !partition.is_retired());
        for partition in partitions.iter().filter(|p| p.mode() != TeeMode::Off && !p.is_retired()) {
            // A topic of the same name may have come in its place.
            let before = running.insert(partition.tp.clone(), partition.clone());
            if before.is_none_or(|other| !Arc::ptr_eq(&other, partition)) {
                self.crew.take(partition::run(self.direction.clone(), partition.clone()));
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Stops every stream and waits until none can write any more.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
