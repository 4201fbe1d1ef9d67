//! Reads and writes the state topics. Writes of many partitions share one batch; a write is done when the cluster has
//! acknowledged it with all in-sync replicas.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::Image;
use super::records::{Key, Stored};
use crate::catalog::STATE_TOPIC;
use crate::model::{ClusterIx, Generation, TopicPartition};
use crate::records::{Batch, Batches, Codec, NewRecord, Section, Stamp, build};
use crate::stream::client_producer_id;
use crate::upstream::{Cluster, FetchFrom, FetchOptions, OffsetSpec, UpstreamError};

/// Bytes of records put into one batch: well under the default `max.message.bytes` of 1 MiB.
const BATCH_BYTES: usize = 512 << 10;
/// Writes that may wait for the writer of one cluster.
const QUEUE: usize = 1024;
/// Bytes asked for at a time when the topic is read.
const READ_BYTES: i32 = 4 << 20;

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
pub struct Entry {
    key: String,
    value: Vec<u8>,
}

struct Job {
    entries: Vec<Entry>,
    done: oneshot::Sender<Result<(), String>>,
}

/// The state topics of both clusters.
pub struct Store {
    clusters: [Option<Cluster>; 2],
    queues: [Option<mpsc::Sender<Job>>; 2],
    generation: AtomicU32,
    seq: AtomicU64,
}

impl Store {
    /// Starts a writer for each cluster.
    pub fn new(clusters: [Option<Cluster>; 2]) -> Self {
        let queues = clusters.clone().map(|cluster| {
            cluster.map(|cluster| {
                let (tx, rx) = mpsc::channel(QUEUE);
                tokio::spawn(writer(cluster, rx));
                tx
            })
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seq = AtomicU64::new(u64::try_from(now.as_micros()).unwrap_or(u64::MAX / 2));
        Store { clusters, queues, generation: AtomicU32::new(0), seq }
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
        Entry { key: key.encode(), value }
    }

    /// Stores records on one cluster; returns when they are acknowledged.
    pub async fn write(&self, cluster: ClusterIx, entries: Vec<Entry>) -> Result<(), StateError> {
        let queue = self.queues[cluster.ix()].as_ref().ok_or(StateError::NoCluster(cluster.ix()))?;
        let failed = |reason: String| StateError::Write { cluster: self.name(cluster), reason };
        let (done, wait) = oneshot::channel();
        queue.send(Job { entries, done }).await.map_err(|_| failed("the writer has stopped".into()))?;
        wait.await.map_err(|_| failed("the writer has stopped".into()))?.map_err(failed)
    }

    /// Stores records on one cluster some time soon; a failure is logged. For what the other cluster already holds.
    pub fn write_soon(&self, cluster: ClusterIx, entries: Vec<Entry>) {
        let Some(queue) = &self.queues[cluster.ix()] else { return };
        let (done, _) = oneshot::channel();
        if queue.try_send(Job { entries, done }).is_err() {
            tracing::warn!(cluster = self.name(cluster), "a state record was not copied: the queue is full");
        }
    }

    fn name(&self, cluster: ClusterIx) -> String {
        self.clusters[cluster.ix()].as_ref().map_or_else(String::new, |c| c.name().to_string())
    }

    /// Creates the state topic where it is missing.
    pub async fn ensure_topic(&self, cluster: ClusterIx, replication: Option<i16>) -> Result<(), StateError> {
        let client = self.clusters[cluster.ix()].as_ref().ok_or(StateError::NoCluster(cluster.ix()))?;
        let failed = |e: UpstreamError| StateError::Write { cluster: self.name(cluster), reason: e.to_string() };
        let snapshot = client.refresh().await.map_err(failed)?;
        if snapshot.topic(STATE_TOPIC).is_some() {
            return Ok(());
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
            Ok(()) => Ok(()),
            // Somebody was faster.
            Err(e) if e.kafka_code() == Some(36) => Ok(()),
            Err(e) => Err(failed(e)),
        }
    }

    /// Reads all of one cluster's state topic up to its end now. A missing topic is an empty image.
    pub async fn load(&self, cluster: ClusterIx) -> Result<Image, StateError> {
        let client = self.clusters[cluster.ix()].as_ref().ok_or(StateError::NoCluster(cluster.ix()))?;
        let failed = |reason: String| StateError::Read { cluster: self.name(cluster), reason };
        let mut image = Image::default();
        let snapshot = client.refresh().await.map_err(|e| failed(e.to_string()))?;
        if snapshot.topic(STATE_TOPIC).is_none() {
            return Ok(image);
        }
        let tp = TopicPartition::new(STATE_TOPIC, 0);
        let mut next = offset(client, &tp, OffsetSpec::Earliest).await.map_err(failed)?;
        let end = offset(client, &tp, OffsetSpec::Latest).await.map_err(failed)?;
        let options =
            FetchOptions { max_wait: Duration::from_millis(100), max_bytes: READ_BYTES, ..Default::default() };
        let deadline = tokio::time::Instant::now() + client.timeout();
        while next < end {
            if tokio::time::Instant::now() > deadline {
                return Err(failed(format!("offset {next} of {end} was reached within the time limit")));
            }
            let from = FetchFrom { tp: tp.clone(), offset: next, max_bytes: READ_BYTES, current_leader_epoch: None };
            let mut fetched = client.fetch(&[from], &options).await.map_err(|e| failed(e.to_string()))?;
            let Some(part) = fetched.remove(&tp) else { continue };
            if part.error != 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            for batch in Batches::new(part.records) {
                let batch = batch.map_err(|e| failed(e.to_string()))?;
                next = next.max(batch.header().next_offset());
                apply(&mut image, &batch).map_err(failed)?;
            }
        }
        Ok(image)
    }
}

fn apply(image: &mut Image, batch: &Batch) -> Result<(), String> {
    if batch.header().is_control() {
        return Ok(());
    }
    let section = Section::open(batch).map_err(|e| e.to_string())?;
    for record in section.records() {
        let record = record.map_err(|e| e.to_string())?;
        if let Some(key) = record.key {
            image.apply(key, record.value)?;
        }
    }
    Ok(())
}

async fn offset(client: &Cluster, tp: &TopicPartition, spec: OffsetSpec) -> Result<i64, String> {
    let mut found = client.list_offsets(std::slice::from_ref(tp), spec).await.map_err(|e| e.to_string())?;
    match found.remove(tp) {
        Some(Ok(offset)) => Ok(offset),
        Some(Err(e)) => Err(e.to_string()),
        None => Err("no answer for the partition".into()),
    }
}

/// Collects what waits into batches and writes them, one at a time: later records never overtake earlier ones.
async fn writer(cluster: Cluster, mut jobs: mpsc::Receiver<Job>) {
    let mut stamp = Stamp { producer_id: client_producer_id(rand::random()), producer_epoch: 0, base_sequence: 0 };
    while let Some(first) = jobs.recv().await {
        let mut waiting = vec![first];
        let mut size = job_size(&waiting[0]);
        while size < BATCH_BYTES {
            let Ok(job) = jobs.try_recv() else { break };
            size += job_size(&job);
            waiting.push(job);
        }
        let result = write(&cluster, &waiting, &mut stamp).await;
        if let Err(reason) = &result {
            tracing::warn!(cluster = %cluster.name(), %reason, "state was not stored");
        }
        for job in waiting {
            let _ = job.done.send(result.clone());
        }
    }
}

fn job_size(job: &Job) -> usize {
    job.entries.iter().map(|e| e.key.len() + e.value.len() + 32).sum()
}

async fn write(cluster: &Cluster, jobs: &[Job], stamp: &mut Stamp) -> Result<(), String> {
    let entries: Vec<&Entry> = jobs.iter().flat_map(|j| &j.entries).collect();
    let tp = TopicPartition::new(STATE_TOPIC, 0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    let mut start = 0;
    while start < entries.len() {
        let mut size = 0;
        let fits = |e: &&&Entry| {
            size += e.key.len() + e.value.len() + 32;
            size <= BATCH_BYTES
        };
        let n = entries[start..].iter().take_while(fits).count().max(1);
        let chunk = &entries[start..start + n];
        let records: Vec<NewRecord> = chunk
            .iter()
            .map(|e| NewRecord {
                key: Some(e.key.as_bytes()),
                value: Some(&e.value),
                headers: Vec::new(),
                timestamp: now,
            })
            .collect();
        let batch: Bytes = build(&records, Codec::None, *stamp).map_err(|e| e.to_string())?;
        match cluster.produce_one(&tp, batch).await {
            Ok(_) => stamp.base_sequence = ((i64::from(stamp.base_sequence) + n as i64) % (1 << 31)) as i32,
            Err(e) => {
                // Whether it is stored is not known: a new identity keeps later batches acceptable either way.
                *stamp = Stamp { producer_id: client_producer_id(rand::random()), producer_epoch: 0, base_sequence: 0 };
                return Err(e.to_string());
            }
        }
        start += n;
    }
    Ok(())
}
