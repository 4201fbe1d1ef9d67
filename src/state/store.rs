//! The state topics of both clusters, as the rest of the house uses them. A write is done when the cluster has acknowledged
//! it with all in-sync replicas.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use super::Image;
use super::level::Level;
use super::reader;
use super::records::{Key, Stored};
use super::writer::{Job, Superseded, Writer, this_process};
use crate::catalog::STATE_TOPIC;
use crate::model::{ClusterIx, Generation};
use crate::upstream::{Cluster, UpstreamError};

/// Writes that may wait for the writer of one cluster.
const QUEUE: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state topic of cluster {cluster} could not be written: {reason}")]
    Write { cluster: String, reason: String },
    #[error("the state topic of cluster {cluster} could not be read: {reason}")]
    Read { cluster: String, reason: String },
    #[error("cluster {0} is not configured")]
    NoCluster(usize),
}

/// One record to be stored.
#[derive(Clone)]
pub struct Entry {
    pub(super) key: String,
    /// `None` removes what is stored.
    pub(super) value: Option<Vec<u8>>,
}

/// The state topics of both clusters.
pub struct Store {
    pub(super) clusters: [Option<Cluster>; 2],
    pub(super) queues: [Option<mpsc::Sender<Job>>; 2],
    pub(super) levels: [Arc<Level>; 2],
    generation: AtomicU32,
    seq: AtomicU64,
    superseded: watch::Receiver<Option<Superseded>>,
}

impl Store {
    /// Starts a writer for each cluster.
    pub fn new(clusters: [Option<Cluster>; 2]) -> Self {
        let (tell, superseded) = watch::channel(None);
        let owner = this_process();
        let levels = [Arc::new(Level::default()), Arc::new(Level::default())];
        let queues = ClusterIx::BOTH.map(|ix| {
            clusters[ix.ix()].clone().map(|cluster| {
                let (tx, rx) = mpsc::channel(QUEUE);
                let writer = Writer::new(cluster, owner.clone(), tell.clone(), levels[ix.ix()].clone());
                tokio::spawn(writer.run(rx));
                tx
            })
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seq = AtomicU64::new(u64::try_from(now.as_micros()).unwrap_or(u64::MAX / 2));
        Store { clusters, queues, levels, generation: AtomicU32::new(0), seq, superseded }
    }

    /// Later records are stamped with this generation.
    pub fn set_generation(&self, generation: Generation) {
        self.generation.store(generation, Ordering::Release);
    }

    /// A record of the current generation.
    pub fn entry(&self, key: &Key, data: &impl Serialize) -> Entry {
        self.entry_in(self.generation.load(Ordering::Acquire), key, data)
    }

    /// A record of a named generation (a cutover writes those of the next one).
    pub fn entry_in(&self, generation: Generation, key: &Key, data: &impl Serialize) -> Entry {
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        // Records are made of strings, numbers and lists: this cannot fail; an empty value would be refused by the reader.
        let value = serde_json::to_vec(&Stored { generation, seq, data }).unwrap_or_default();
        Entry { key: key.encode(), value: Some(value) }
    }

    /// Removes a record. It must go to both clusters: at a start the copy that is left would count.
    pub fn tombstone(&self, key: &Key) -> Entry {
        Entry { key: key.encode(), value: None }
    }

    /// Stores records on one cluster; returns when they are acknowledged.
    pub async fn write(&self, cluster: ClusterIx, entries: Vec<Entry>) -> Result<(), StateError> {
        let queue = self.queues[cluster.ix()].as_ref().ok_or(StateError::NoCluster(cluster.ix()))?;
        let failed = |reason: String| StateError::Write { cluster: self.name(cluster), reason };
        self.levels[cluster.ix()].about_to_write(&entries);
        let (done, wait) = oneshot::channel();
        queue.send(Job { entries, done }).await.map_err(|_| failed("the writer has stopped".into()))?;
        wait.await.map_err(|_| failed("the writer has stopped".into()))?.map_err(failed)
    }

    /// Takes the state topic over (once): whoever owned it before can write nothing there any more, so what is read
    /// afterwards is all that there will be of theirs.
    pub async fn claim(&self, cluster: ClusterIx) -> Result<(), StateError> {
        self.write(cluster, Vec::new()).await
    }

    /// Resolves when another process has taken the state over: this one must not serve any more.
    pub async fn superseded(&self) -> Superseded {
        let mut told = self.superseded.clone();
        match told.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(superseded)) => superseded.clone(),
            // The writers are gone with the store: nobody is left to be told.
            _ => std::future::pending().await,
        }
    }

    /// Has the writers look whether they still own their topics; see [`Self::superseded`].
    pub fn check_ownership(&self) {
        for queue in self.queues.iter().flatten() {
            let (done, _) = oneshot::channel();
            let _ = queue.try_send(Job { entries: Vec::new(), done });
        }
    }

    /// Stores records on one cluster some time soon; a failure is logged. For what the other cluster already holds.
    pub fn write_soon(&self, cluster: ClusterIx, entries: Vec<Entry>) {
        let Some(queue) = &self.queues[cluster.ix()] else { return };
        let (done, _) = oneshot::channel();
        self.levels[cluster.ix()].about_to_write(&entries);
        if queue.try_send(Job { entries, done }).is_err() {
            self.levels[cluster.ix()].missed();
            tracing::warn!(cluster = self.name(cluster), "a state record was not copied: the queue is full");
        }
    }

    pub(super) fn name(&self, cluster: ClusterIx) -> String {
        self.clusters[cluster.ix()].as_ref().map_or_else(String::new, |c| c.name().to_string())
    }

    /// Creates the state topic where it is missing; `true`: it was.
    pub async fn ensure_topic(&self, cluster: ClusterIx, replication: Option<i16>) -> Result<bool, StateError> {
        let client = self.clusters[cluster.ix()].as_ref().ok_or(StateError::NoCluster(cluster.ix()))?;
        let failed = |e: UpstreamError| StateError::Write { cluster: self.name(cluster), reason: e.to_string() };
        let snapshot = client.refresh().await.map_err(failed)?;
        if snapshot.topic(STATE_TOPIC).is_some() {
            return Ok(false);
        }
        let brokers = i16::try_from(snapshot.brokers.len()).unwrap_or(i16::MAX);
        let replication = replication.unwrap_or(3).min(brokers).max(1);
        let configs = [
            ("cleanup.policy", "compact"),
            ("compression.type", "producer"),
            ("message.timestamp.type", "CreateTime"),
            ("min.insync.replicas", if replication >= 3 { "2" } else { "1" }),
        ];
        let configs = configs.map(|(k, v)| (k.to_string(), v.to_string())).into();
        match client.create_topic(STATE_TOPIC, 1, replication, &configs, false).await {
            Ok(()) => Ok(true),
            // Somebody was faster.
            Err(e) if e.kafka_code() == Some(36) => Ok(false),
            Err(e) => Err(failed(e)),
        }
    }

    /// Reads all of one cluster's state topic up to its end now. A missing topic is an empty image.
    pub async fn load(&self, cluster: ClusterIx) -> Result<Image, StateError> {
        let client = self.clusters[cluster.ix()].as_ref().ok_or(StateError::NoCluster(cluster.ix()))?;
        reader::read(client).await.map_err(|reason| StateError::Read { cluster: self.name(cluster), reason })
    }
}
