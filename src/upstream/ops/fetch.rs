//! Reading raw batches from partitions' leaders.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use kafka_protocol::protocol::VersionRange;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::log::checked;
use super::{group_by_leader, group_by_topic, millis, topic_name};
use crate::model::TopicPartition;
use crate::upstream::cluster::{Cluster, Lane, Target};
use crate::upstream::error::{UpstreamError, code, means_stale_metadata};
use crate::upstream::together::{Ask, Line, Row, Together};

/// Topics by name only: from version 13 on the request wants topic ids (KIP-516).
const BY_NAME: VersionRange = VersionRange { min: 4, max: 12 };

/// What [`Cluster::peek`] reads of a partition at most: the batches of most producers are smaller (`batch.size`: 16 KiB).
const PEEK_BYTES: i32 = 32 << 10;
/// Partitions of which one request peeks: 4 MiB in all.
const PEEKS_TOGETHER: usize = 128;

/// Which records a fetch may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Up to the last stable offset, with the list of aborted transactions among the records.
    ReadCommitted,
}

/// Where to read one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchFrom {
    pub tp: TopicPartition,
    pub offset: i64,
    /// Bytes wanted from this partition; the first batch comes whole even if it is larger.
    pub max_bytes: i32,
    /// The leader epoch that the caller believes in; the broker refuses another. `None`: do not check.
    pub current_leader_epoch: Option<i32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOptions {
    /// How long the broker may wait for `min_bytes`.
    pub max_wait: Duration,
    pub min_bytes: i32,
    /// Bytes wanted in the whole reply.
    pub max_bytes: i32,
    pub isolation: Isolation,
    /// Callers that wait long should not share a lane: see [`Lane`].
    pub lane: Lane,
    /// How long the reply may take beyond `max_wait`.
    pub grace: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        FetchOptions {
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 16 << 20,
            isolation: Isolation::default(),
            lane: Lane::Fetch,
            grace: Duration::from_secs(5),
        }
    }
}

/// What a leader answered for one partition. With an error the offsets are -1 unless the broker gave them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPartition {
    /// Kafka error code, 0 if none.
    pub error: i16,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    /// Aborted transactions that overlap the records: (producer id, first offset). Only for `ReadCommitted`.
    pub aborted: Vec<(i64, i64)>,
    /// Raw v2 batches; the first may begin below the offset asked for, the last may be cut short.
    pub records: Bytes,
    /// The leader that the broker points to (version 12); -1 if it did not.
    pub current_leader: i32,
    pub current_leader_epoch: i32,
}

impl FetchedPartition {
    fn failed(error: i16) -> Self {
        FetchedPartition {
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted: Vec::new(),
            records: Bytes::new(),
            current_leader: -1,
            current_leader_epoch: -1,
        }
    }

    fn from_reply(p: PartitionData) -> Self {
        let aborted = p.aborted_transactions.unwrap_or_default();
        FetchedPartition {
            error: p.error_code,
            high_watermark: p.high_watermark,
            last_stable_offset: p.last_stable_offset,
            log_start_offset: p.log_start_offset,
            aborted: aborted.iter().map(|a| (a.producer_id.0, a.first_offset)).collect(),
            records: p.records.unwrap_or_default(),
            current_leader: p.current_leader.leader_id.0,
            current_leader_epoch: p.current_leader.leader_epoch,
        }
    }
}

impl Cluster {
    /// Reads partitions from their leaders, one request to each, at the same time. One attempt: a partition whose leader
    /// is unknown or did not answer has an error code of its own; stale leaders are looked up again by the next call.
    ///
    /// Returns when the slowest leader has answered: to read several leaders independently use [`Cluster::fetch_at`].
    pub async fn fetch(
        &self,
        partitions: &[FetchFrom],
        options: &FetchOptions,
    ) -> Result<HashMap<TopicPartition, FetchedPartition>, UpstreamError> {
        let snapshot = self.snapshot().await?;
        let items = partitions.iter().map(|from| (from.tp.clone(), from.clone())).collect();
        let (by_leader, homeless) = group_by_leader(&snapshot, items);
        let mut asked = Vec::with_capacity(by_leader.len());
        for (leader, items) in by_leader {
            asked.push((leader, items.into_iter().map(|(_, from)| from).collect::<Vec<_>>()));
        }
        let mut calls = Vec::with_capacity(asked.len());
        for (leader, items) in &asked {
            calls.push(self.fetch_at(*leader, items, options));
        }
        let mut fetched = HashMap::with_capacity(partitions.len());
        for (reply, (_, items)) in join_all(calls).await.into_iter().zip(&asked) {
            match reply {
                Ok(reply) => fetched.extend(reply),
                Err(e) => {
                    let code = e.as_partition_code();
                    fetched.extend(items.iter().map(|from| (from.tp.clone(), FetchedPartition::failed(code))));
                }
            }
        }
        if !homeless.is_empty() {
            self.mark_stale();
        }
        fetched.extend(homeless.into_iter().map(|(tp, _, code)| (tp, FetchedPartition::failed(code))));
        Ok(fetched)
    }

    /// Reads partitions from one broker, without a fetch session. Every partition asked for has an entry.
    pub async fn fetch_at(
        &self,
        broker: i32,
        partitions: &[FetchFrom],
        options: &FetchOptions,
    ) -> Result<HashMap<TopicPartition, FetchedPartition>, UpstreamError> {
        let req = fetch_request(partitions, options);
        let timeout = options.max_wait + options.grace;
        let reply = self.call_within(Target::Broker(broker), options.lane, &req, BY_NAME, timeout).await?;
        if reply.error_code != code::NONE {
            return Err(self.kafka_error("Fetch", reply.error_code, None).at_broker(broker));
        }
        let mut fetched: HashMap<_, _> = HashMap::with_capacity(partitions.len());
        for topic in reply.responses {
            for p in topic.partitions {
                if means_stale_metadata(p.error_code) {
                    self.mark_stale();
                }
                let tp = TopicPartition::new(topic.topic.as_str(), p.partition_index);
                fetched.insert(tp, FetchedPartition::from_reply(p));
            }
        }
        for from in partitions.iter().filter(|from| !fetched.contains_key(&from.tp)).collect::<Vec<_>>() {
            fetched.insert(from.tp.clone(), FetchedPartition::failed(code::UNKNOWN_SERVER_ERROR));
        }
        Ok(fetched)
    }

    /// Looks at what a partition holds from an offset on, together with those who look at others at the same time. Does not
    /// wait for records; one attempt. A batch that is larger than what is read may be missing from the answer: where nothing
    /// comes [`Cluster::fetch`] knows more.
    pub async fn peek(&self, tp: &TopicPartition, offset: i64) -> Result<Bytes, UpstreamError> {
        self.ask_together_once(Peek, tp, offset, Instant::now() + self.timeout()).await
    }
}

/// Fetch of a few bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::upstream) struct Peek;

impl Ask for Peek {
    type Question = i64;
    type Answer = Bytes;
    type Request = FetchRequest;
    const NAME: &'static str = "Fetch";
    const WITHIN: VersionRange = BY_NAME;
    const LANE: Lane = Lane::Fetch;
    const LIMIT: usize = PEEKS_TOGETHER;

    fn request(self, items: &[(TopicPartition, i64)]) -> FetchRequest {
        let from = |(tp, offset): &(TopicPartition, i64)| FetchFrom {
            tp: tp.clone(),
            offset: *offset,
            max_bytes: PEEK_BYTES,
            current_leader_epoch: None,
        };
        let max_bytes = PEEK_BYTES.saturating_mul(i32::try_from(items.len()).unwrap_or(i32::MAX));
        let options = FetchOptions { max_wait: Duration::ZERO, max_bytes, ..Default::default() };
        fetch_request(&items.iter().map(from).collect::<Vec<_>>(), &options)
    }

    /// None for anybody if the reply has an error as a whole.
    fn answers(reply: FetchResponse) -> Vec<Row<Bytes>> {
        let topics = reply.responses.into_iter();
        let rows = topics.flat_map(|t| t.partitions.into_iter().map(move |p| (t.topic.clone(), p)));
        rows.map(|(topic, p)| {
            let tp = TopicPartition::new(topic.as_str(), p.partition_index);
            (tp, checked(p.error_code, p.records.unwrap_or_default()))
        })
        .collect()
    }

    fn line(all: &Together) -> &Mutex<Line<Self>> {
        &all.peeks
    }
}

fn fetch_request(partitions: &[FetchFrom], options: &FetchOptions) -> FetchRequest {
    let topics = group_by_topic(partitions.iter().map(|from| (&from.tp, from)));
    let topics = topics.into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, from)| {
            FetchPartition::default()
                .with_partition(partition)
                .with_fetch_offset(from.offset)
                .with_partition_max_bytes(from.max_bytes)
                .with_current_leader_epoch(from.current_leader_epoch.unwrap_or(-1))
        });
        FetchTopic::default().with_topic(topic_name(topic)).with_partitions(partitions.collect())
    });
    FetchRequest::default()
        .with_max_wait_ms(millis(options.max_wait))
        .with_min_bytes(options.min_bytes)
        .with_max_bytes(options.max_bytes)
        .with_isolation_level(i8::from(options.isolation == Isolation::ReadCommitted))
        .with_topics(topics.collect())
}
