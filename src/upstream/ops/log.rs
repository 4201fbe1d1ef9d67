//! Questions about partitions' logs: offsets, epochs, producers, and cutting their start off.

use std::collections::HashMap;

use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    BrokerId, DeleteRecordsRequest, DescribeProducersRequest, DescribeProducersResponse, ListOffsetsRequest,
    ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use parking_lot::Mutex;

use super::{group_by_topic, millis, topic_name};
use crate::model::TopicPartition;
use crate::upstream::cluster::Cluster;
use crate::upstream::error::{UpstreamError, code};
use crate::upstream::together::{Ask, Line, Row, Together};

/// One answer per partition asked for: the value, or a Kafka error code that outlasted the retries.
pub type PerPartition<A> = HashMap<TopicPartition, Result<A, i16>>;

/// What an ordinary client puts where replicas put their broker id.
const NOT_A_REPLICA: BrokerId = BrokerId(-1);

/// Which offset of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OffsetSpec {
    /// The log start offset.
    Earliest,
    /// The high watermark: the offset behind the last record that all in-sync replicas have.
    Latest,
    /// The last stable offset: as `Latest`, but not beyond the first record of an open transaction.
    LatestCommitted,
}

impl OffsetSpec {
    /// The request's timestamp field, in which negative values name offsets (`ListOffsetsRequest`).
    fn timestamp(self) -> i64 {
        match self {
            OffsetSpec::Earliest => -2,
            OffsetSpec::Latest | OffsetSpec::LatestCommitted => -1,
        }
    }

    fn isolation_level(self) -> i8 {
        i8::from(self == OffsetSpec::LatestCommitted)
    }
}

/// Where an epoch ends in a leader's log; both -1 if the leader does not know the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch up to the one asked for that the log has.
    pub leader_epoch: i32,
    /// The offset behind that epoch's last record.
    pub end_offset: i64,
}

/// A producer as its partition's leader remembers it (KIP-664).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    pub producer_id: i64,
    pub producer_epoch: i32,
    pub last_sequence: i32,
    /// Record timestamp of its last batch, in milliseconds.
    pub last_timestamp: i64,
    pub coordinator_epoch: i32,
    /// First offset of its open transaction, -1 if none is open.
    pub current_txn_start_offset: i64,
}

/// Where a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    pub offset: i64,
    /// The leader's epoch; -1 from a broker that does not tell it.
    pub leader_epoch: i32,
}

impl Cluster {
    /// One offset of each partition.
    pub async fn list_offsets(
        &self,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
    ) -> Result<PerPartition<i64>, UpstreamError> {
        let items = partitions.iter().map(|tp| (tp.clone(), ())).collect();
        let found = self.ask_leaders(items, |items| OffsetOf(spec).request(items), OffsetOf::answers).await?;
        Ok(found.into_iter().map(|(tp, end)| (tp, end.map(|end| end.offset))).collect())
    }

    /// Where each partition's log leaves the given epoch (KIP-320).
    pub async fn offset_for_leader_epoch(
        &self,
        epochs: &[(TopicPartition, i32)],
    ) -> Result<PerPartition<EpochEnd>, UpstreamError> {
        self.ask_leaders(epochs.to_vec(), |items| EpochOf.request(items), EpochOf::answers).await
    }

    /// The producers that each partition's leader remembers.
    pub async fn describe_producers(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<PerPartition<Vec<ActiveProducer>>, UpstreamError> {
        let items = partitions.iter().map(|tp| (tp.clone(), ())).collect();
        self.ask_leaders(items, |items| ProducersOf.request(items), ProducersOf::answers).await
    }

    /// One offset of one partition; as the following ones, together with what others ask at the same time.
    pub async fn offset_of(&self, tp: &TopicPartition, spec: OffsetSpec) -> Result<i64, UpstreamError> {
        Ok(self.ask_together(OffsetOf(spec), tp, ()).await?.offset)
    }

    /// Where a log ends (the high watermark), and under which leader epoch. Brokers give the epoch of their leadership with
    /// this offset (class Partition, `fetchOffsetForTimestamp`).
    pub async fn log_end_of(&self, tp: &TopicPartition) -> Result<LogEnd, UpstreamError> {
        self.ask_together(OffsetOf(OffsetSpec::Latest), tp, ()).await
    }

    /// As [`Cluster::offset_for_leader_epoch`].
    pub async fn epoch_end_of(&self, tp: &TopicPartition, epoch: i32) -> Result<EpochEnd, UpstreamError> {
        self.ask_together(EpochOf, tp, epoch).await
    }

    /// As [`Cluster::describe_producers`].
    pub async fn producers_of(&self, tp: &TopicPartition) -> Result<Vec<ActiveProducer>, UpstreamError> {
        self.ask_together(ProducersOf, tp, ()).await
    }

    /// Deletes each partition's records below the given offset (-1: below the high watermark). Answers the new log start
    /// offset.
    pub async fn delete_records(&self, before: &[(TopicPartition, i64)]) -> Result<PerPartition<i64>, UpstreamError> {
        let timeout_ms = millis(self.timeout());
        let build = |items: &[(TopicPartition, i64)]| {
            let topics = group_by_topic(items.iter().map(|(tp, offset)| (tp, *offset)));
            let topics = topics.into_iter().map(|(topic, partitions)| {
                let partitions = partitions.into_iter().map(|(partition, offset)| {
                    DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset)
                });
                DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(partitions.collect())
            });
            DeleteRecordsRequest::default().with_topics(topics.collect()).with_timeout_ms(timeout_ms)
        };
        self.ask_leaders::<_, DeleteRecordsRequest, _>(before.to_vec(), build, |reply| {
            let topics = reply.topics.iter();
            topics
                .flat_map(|t| t.partitions.iter().map(|p| (t.name.as_str(), p)))
                .map(|(topic, p)| {
                    (TopicPartition::new(topic, p.partition_index), checked(p.error_code, p.low_watermark))
                })
                .collect()
        })
        .await
    }
}

/// Partitions of which one request asks for offsets or epochs, for those who ask at the same time: about 50 KiB.
const ASKED_TOGETHER: usize = 1000;
/// A partition's producers may be thousands.
const PRODUCERS_TOGETHER: usize = 100;

/// ListOffsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::upstream) struct OffsetOf(pub OffsetSpec);

impl Ask for OffsetOf {
    type Question = ();
    type Answer = LogEnd;
    type Request = ListOffsetsRequest;
    const NAME: &'static str = "ListOffsets";
    const LIMIT: usize = ASKED_TOGETHER;

    fn request(self, items: &[(TopicPartition, ())]) -> ListOffsetsRequest {
        offsets_request(items.iter().map(|(tp, ())| tp), self.0)
    }

    fn answers(reply: ListOffsetsResponse) -> Vec<Row<LogEnd>> {
        let topics = reply.topics.iter();
        let rows = topics.flat_map(|t| t.partitions.iter().map(|p| (t.name.as_str(), p)));
        rows.map(|(topic, p)| {
            let end = LogEnd { offset: p.offset, leader_epoch: p.leader_epoch };
            (TopicPartition::new(topic, p.partition_index), checked(p.error_code, end))
        })
        .collect()
    }

    fn line(all: &Together) -> &Mutex<Line<Self>> {
        &all.offsets
    }
}

/// OffsetForLeaderEpoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::upstream) struct EpochOf;

impl Ask for EpochOf {
    type Question = i32;
    type Answer = EpochEnd;
    type Request = OffsetForLeaderEpochRequest;
    const NAME: &'static str = "OffsetForLeaderEpoch";
    const LIMIT: usize = ASKED_TOGETHER;

    fn request(self, items: &[(TopicPartition, i32)]) -> OffsetForLeaderEpochRequest {
        let topics = group_by_topic(items.iter().map(|(tp, epoch)| (tp, *epoch)));
        let topics = topics.into_iter().map(|(topic, partitions)| {
            let partitions = partitions.into_iter().map(|(partition, epoch)| {
                OffsetForLeaderPartition::default()
                    .with_partition(partition)
                    .with_current_leader_epoch(-1)
                    .with_leader_epoch(epoch)
            });
            OffsetForLeaderTopic::default().with_topic(topic_name(topic)).with_partitions(partitions.collect())
        });
        OffsetForLeaderEpochRequest::default().with_replica_id(NOT_A_REPLICA).with_topics(topics.collect())
    }

    fn answers(reply: OffsetForLeaderEpochResponse) -> Vec<Row<EpochEnd>> {
        let topics = reply.topics.iter();
        let rows = topics.flat_map(|t| t.partitions.iter().map(|p| (t.topic.as_str(), p)));
        rows.map(|(topic, p)| {
            let end = EpochEnd { leader_epoch: p.leader_epoch, end_offset: p.end_offset };
            (TopicPartition::new(topic, p.partition), checked(p.error_code, end))
        })
        .collect()
    }

    fn line(all: &Together) -> &Mutex<Line<Self>> {
        &all.epochs
    }
}

/// DescribeProducers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::upstream) struct ProducersOf;

impl Ask for ProducersOf {
    type Question = ();
    type Answer = Vec<ActiveProducer>;
    type Request = DescribeProducersRequest;
    const NAME: &'static str = "DescribeProducers";
    const LIMIT: usize = PRODUCERS_TOGETHER;

    fn request(self, items: &[(TopicPartition, ())]) -> DescribeProducersRequest {
        let topics = group_by_topic(items.iter().map(|(tp, ())| (tp, ())));
        let topics = topics.into_iter().map(|(topic, partitions)| {
            let indexes = partitions.into_iter().map(|(partition, ())| partition).collect();
            TopicRequest::default().with_name(topic_name(topic)).with_partition_indexes(indexes)
        });
        DescribeProducersRequest::default().with_topics(topics.collect())
    }

    fn answers(reply: DescribeProducersResponse) -> Vec<Row<Vec<ActiveProducer>>> {
        let topics = reply.topics.iter();
        let rows = topics.flat_map(|t| t.partitions.iter().map(|p| (t.name.as_str(), p)));
        rows.map(|(topic, p)| {
            let producers = p.active_producers.iter().map(|s| ActiveProducer {
                producer_id: s.producer_id.0,
                producer_epoch: s.producer_epoch,
                last_sequence: s.last_sequence,
                last_timestamp: s.last_timestamp,
                coordinator_epoch: s.coordinator_epoch,
                current_txn_start_offset: s.current_txn_start_offset,
            });
            (TopicPartition::new(topic, p.partition_index), checked(p.error_code, producers.collect()))
        })
        .collect()
    }

    fn line(all: &Together) -> &Mutex<Line<Self>> {
        &all.producers
    }
}

/// The question for one offset of each partition.
pub(super) fn offsets_request<'a>(
    partitions: impl Iterator<Item = &'a TopicPartition>,
    spec: OffsetSpec,
) -> ListOffsetsRequest {
    let topics = group_by_topic(partitions.map(|tp| (tp, ())));
    let topics = topics.into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, ())| {
            ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(spec.timestamp())
        });
        ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(partitions.collect())
    });
    ListOffsetsRequest::default()
        .with_replica_id(NOT_A_REPLICA)
        .with_isolation_level(spec.isolation_level())
        .with_topics(topics.collect())
}

pub(super) fn checked<A>(error_code: i16, value: A) -> Result<A, i16> {
    if error_code == code::NONE { Ok(value) } else { Err(error_code) }
}
