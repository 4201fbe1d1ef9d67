//! Writes one cluster's state topic and sees to it that one process does so at a time.
//!
//! Every process writes under the same producer id. A new one takes the next epoch, from which moment on the broker refuses
//! whatever the one before still has under way (INVALID_PRODUCER_EPOCH): a commit of a cutover that was in flight when its
//! proxy was killed is either there before the topic is read, or never. The first record under an epoch says whose it is; it
//! is read back, since a broker takes a second claim of the same epoch for a duplicate of the first.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::level::Level;
use super::reader;
use super::records::{Key, Owner, Stored};
use super::store::Entry;
use crate::catalog::STATE_TOPIC;
use crate::model::TopicPartition;
use crate::records::{Codec, NewRecord, Stamp, build};
use crate::stream::state_producer_id;
use crate::upstream::{Cluster, UpstreamError};

/// Bytes of records put into one batch: well under the default `max.message.bytes` of 1 MiB.
const BATCH_BYTES: usize = 512 << 10;
/// Bytes of a record beside its key and value, at most.
const RECORD_OVERHEAD: usize = 32;
/// Attempts to claim a topic while others do the same.
const CLAIMS: usize = 10;
/// Kafka error codes (class Errors).
const OUT_OF_ORDER_SEQUENCE: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;

/// Where the writers have come to: producer epochs end at 32767, then the next id begins.
type Place = (i32, i16);

/// Producer ids that the writers use one after the other.
const ROUNDS: i32 = 64;

/// The owner that this process is.
pub fn this_process() -> Owner {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Owner {
        instance: Uuid::from_u128(rand::random()),
        host: host.trim().to_owned(),
        pid: std::process::id(),
        since_ms: now_ms(),
    }
}

/// Another process has taken a state topic over.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("another process has taken over the state on cluster {cluster}: {who}")]
pub struct Superseded {
    pub cluster: String,
    pub who: String,
}

/// Records to be stored. None: only to make sure that the topic is owned.
pub struct Job {
    pub entries: Vec<Entry>,
    pub done: oneshot::Sender<Result<(), String>>,
}

enum Failure {
    Superseded(String),
    /// What was sent may be stored or not.
    Other(String),
}

pub struct Writer {
    cluster: Cluster,
    owner: Owner,
    tp: TopicPartition,
    /// What the next batch is stamped with; `None`: the topic must be claimed first.
    stamp: Option<Stamp>,
    /// The newest that was ours.
    held: Option<Place>,
    superseded: watch::Sender<Option<Superseded>>,
    level: Arc<Level>,
}

impl Writer {
    pub fn new(
        cluster: Cluster,
        owner: Owner,
        superseded: watch::Sender<Option<Superseded>>,
        level: Arc<Level>,
    ) -> Self {
        let tp = TopicPartition::new(STATE_TOPIC, 0);
        Writer { cluster, owner, tp, stamp: None, held: None, superseded, level }
    }

    /// Collects what waits into batches and writes them, one at a time: later records never overtake earlier ones.
    pub async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.recv().await {
            let mut size = job_size(&first);
            let mut waiting = vec![first];
            while size < BATCH_BYTES {
                let Ok(job) = jobs.try_recv() else { break };
                size += job_size(&job);
                waiting.push(job);
            }
            let result = self.handle(&waiting).await;
            if let Err(reason) = &result {
                if waiting.iter().any(|job| !job.entries.is_empty()) {
                    self.level.missed();
                }
                tracing::warn!(cluster = %self.cluster.name(), %reason, "state was not stored");
            }
            for job in waiting {
                let _ = job.done.send(result.clone());
            }
        }
    }

    async fn handle(&mut self, jobs: &[Job]) -> Result<(), String> {
        if let Some(superseded) = &*self.superseded.borrow() {
            return Err(superseded.to_string());
        }
        let entries: Vec<&Entry> = jobs.iter().flat_map(|j| &j.entries).collect();
        match self.write(&entries).await {
            Ok(()) => Ok(()),
            Err(Failure::Other(reason)) => {
                self.stamp = None;
                Err(reason)
            }
            Err(Failure::Superseded(who)) => {
                let superseded = Superseded { cluster: self.cluster.name().to_string(), who };
                let reason = superseded.to_string();
                self.superseded.send_replace(Some(superseded));
                Err(reason)
            }
        }
    }

    async fn write(&mut self, entries: &[&Entry]) -> Result<(), Failure> {
        match self.stamp {
            None => self.claim().await?,
            Some(_) if entries.is_empty() => self.check().await?,
            Some(_) => {}
        }
        let mut rest = entries;
        while !rest.is_empty() {
            let mut size = 0;
            let fits = |e: &&&Entry| {
                size += entry_size(e);
                size <= BATCH_BYTES
            };
            let n = rest.iter().take_while(fits).count().max(1);
            let (chunk, later) = rest.split_at(n);
            self.append(chunk).await?;
            rest = later;
        }
        Ok(())
    }

    async fn append(&mut self, entries: &[&Entry]) -> Result<(), Failure> {
        let Some(stamp) = self.stamp else { return Err(Failure::Other("the state topic is not claimed".into())) };
        let timestamp = now_ms();
        let records = entries.iter().map(|&e| NewRecord {
            key: Some(e.key.as_bytes()),
            value: e.value.as_deref(),
            headers: Vec::new(),
            timestamp,
        });
        let records: Vec<NewRecord> = records.collect();
        let batch: Bytes = build(&records, Codec::None, stamp).map_err(|e| Failure::Other(e.to_string()))?;
        match self.cluster.produce_one(&self.tp, batch).await {
            Ok(_) => {
                let next = (i64::from(stamp.base_sequence) + entries.len() as i64) % (1 << 31);
                self.stamp = Some(Stamp { base_sequence: next as i32, ..stamp });
                Ok(())
            }
            Err(e) if matches!(e.kafka_code(), Some(OUT_OF_ORDER_SEQUENCE | INVALID_PRODUCER_EPOCH)) => {
                Err(self.lost().await)
            }
            Err(e) => Err(Failure::Other(e.to_string())),
        }
    }

    /// Takes the next epoch. Who has lost the topic to another does not take it back.
    async fn claim(&mut self) -> Result<(), Failure> {
        for _ in 0..CLAIMS {
            self.check().await?;
            let place = next(self.place().await?.max(self.held)).ok_or_else(|| {
                Failure::Other("no producer epoch is left for the state topic: delete and create it anew".into())
            })?;
            let producer_id = state_producer_id(place.0);
            self.stamp = Some(Stamp { producer_id, producer_epoch: place.1, base_sequence: 0 });
            match self.append(&[&self.own_record()]).await {
                Ok(()) => {}
                // Somebody was faster.
                Err(Failure::Superseded(_)) if self.held.is_none() => continue,
                Err(failure) => return Err(failure),
            }
            if self.is_owner().await? {
                self.held = Some(place);
                return Ok(());
            }
        }
        Err(Failure::Other("others claim the state topic at the same time".into()))
    }

    /// An error if somebody else has taken the topic that was ours.
    async fn check(&self) -> Result<(), Failure> {
        // A claim of ours whose reply was lost looks like somebody else's until its record is read.
        let lost = self.held.is_some() && self.place().await? > self.held && !self.is_owner().await?;
        if lost { Err(self.lost().await) } else { Ok(()) }
    }

    /// The newest id and epoch of the writers that the broker knows. It forgets those that were silent for a day
    /// (`producer.id.expiration.ms`).
    async fn place(&self) -> Result<Option<Place>, Failure> {
        let other = |e: UpstreamError| Failure::Other(e.to_string());
        let mut found = self.cluster.describe_producers(std::slice::from_ref(&self.tp)).await.map_err(other)?;
        let producers = match found.remove(&self.tp) {
            Some(Ok(producers)) => producers,
            Some(Err(code)) => return Err(Failure::Other(format!("DescribeProducers: Kafka error {code}"))),
            None => Vec::new(),
        };
        let place = |round| {
            let known = producers.iter().find(|p| p.producer_id == state_producer_id(round))?;
            Some((round, i16::try_from(known.producer_epoch).unwrap_or(i16::MAX)))
        };
        Ok((0..ROUNDS).filter_map(place).max())
    }

    fn own_record(&self) -> Entry {
        let stored = Stored { generation: 0, seq: self.owner.since_ms.unsigned_abs(), data: &self.owner };
        Entry { key: Key::Owner.encode(), value: Some(serde_json::to_vec(&stored).unwrap_or_default()) }
    }

    async fn newest_owner(&self) -> Result<Option<Owner>, Failure> {
        Ok(reader::read(&self.cluster).await.map_err(Failure::Other)?.owner())
    }

    async fn is_owner(&self) -> Result<bool, Failure> {
        Ok(self.newest_owner().await?.is_some_and(|owner| owner.instance == self.owner.instance))
    }

    /// Somebody else writes here now: who?
    async fn lost(&self) -> Failure {
        Failure::Superseded(match self.newest_owner().await {
            Ok(Some(o)) => format!("process {} on host {} (instance {})", o.pid, o.host, o.instance),
            _ => "which one cannot be read".into(),
        })
    }
}

/// The place after this one.
fn next(place: Option<Place>) -> Option<Place> {
    match place {
        None => Some((0, 0)),
        Some((round, i16::MAX)) => Some((round + 1, 0)).filter(|&(round, _)| round < ROUNDS),
        Some((round, epoch)) => Some((round, epoch + 1)),
    }
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

fn entry_size(entry: &Entry) -> usize {
    entry.key.len() + entry.value.as_ref().map_or(0, Vec::len) + RECORD_OVERHEAD
}

fn job_size(job: &Job) -> usize {
    job.entries.iter().map(entry_size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_rise_and_end() {
        assert_eq!(next(None), Some((0, 0)));
        assert_eq!(next(Some((0, 41))), Some((0, 42)));
        assert_eq!(next(Some((3, i16::MAX))), Some((4, 0)));
        assert_eq!(next(Some((ROUNDS - 1, i16::MAX))), None);
        for place in [None, Some((0, 7)), Some((5, i16::MAX))] {
            assert!(next(place) > place);
        }
    }
}
