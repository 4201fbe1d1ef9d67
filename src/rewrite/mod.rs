//! Rewriting of requests and replies between what clients see (virtual) and what the active cluster sees (real).
//! Pure: one file per API; everything it needs to know comes in through [`Translate`].

//!
//! Two ways in: [`request`] and [`response`] take bodies as bytes (the header is the caller's), and each API's file offers
//! the same over decoded messages for callers that need the message anyway (Produce, Fetch).
//!
//! Three rules hold in every file. A hidden topic is taken out of the request before the cluster sees it and put back
//! into the reply as an unknown topic, so nothing that is asked about it reaches the cluster. A real id without a virtual
//! one never gets through: it becomes "none". Texts (error messages, configuration values) are left as they are.

mod acknowledged;
pub mod add_partitions_to_txn;
pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_share_group_offsets;
mod codec;
mod config_resources;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_records;
pub mod delete_share_group_offsets;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_producers;
pub mod describe_share_group_offsets;
pub mod describe_topic_partitions;
pub mod elect_leaders;
pub mod errors;
pub mod fetch;
pub mod find_coordinator;
mod ids;
pub mod incremental_alter_configs;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod metadata;
pub mod offset_commit;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod share_acknowledge;
pub mod share_fetch;
pub mod share_group_describe;
pub mod share_group_heartbeat;
#[cfg(test)]
mod tests;
pub mod txn_offset_commit;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Request;
use uuid::Uuid;

pub use codec::{RewriteError, Side};
use codec::{decode, encode};

/// Offsets that follow each other on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub from: i64,
    pub to: i64,
    pub count: i64,
}

/// What one generation knows about translating between the client's world and the active cluster's.
/// `*_in` is client -> cluster (requests), `*_out` is cluster -> client (replies).
pub trait Translate: Send + Sync {
    /// Virtual cluster id, stable for ever.
    fn cluster_id(&self) -> &str;

    /// Virtual broker id -> real node id on the active cluster. Negative ids map to themselves; `None`: no such broker.
    fn broker_in(&self, virtual_id: i32) -> Option<i32>;
    /// Real node id -> virtual broker id. Negative ids map to themselves; `None`: a broker without a virtual identity.
    fn broker_out(&self, real_id: i32) -> Option<i32>;
    /// Every virtual broker (id, host, port) behind which a broker of `alive` (real node ids) stands. Several virtual
    /// brokers may stand before one real broker (the active cluster may be smaller than the other).
    fn brokers(&self, alive: &[i32]) -> Vec<(i32, String, u16)>;
    /// Host and port clients are told for a virtual broker id; `None`: unknown id.
    fn endpoint(&self, virtual_id: i32) -> Option<(String, u16)>;

    /// Virtual leader epoch -> the active cluster's; -1 ("do not check") for an epoch of an earlier generation.
    fn epoch_in(&self, virtual_epoch: i32) -> i32;
    /// The active cluster's current leader epoch -> virtual. -1 stays -1.
    fn epoch_out(&self, real_epoch: i32) -> i32;
    /// End (logical offset, exclusive) of the records written in the generation of `virtual_epoch`, if that is an earlier
    /// generation than the current one; `None` if the epoch is of the current generation (the cluster must be asked).
    fn epoch_end(&self, topic: &str, partition: i32, virtual_epoch: i32) -> Option<i64>;

    /// Virtual epoch of a KIP-848 member -> the coordinator's. One of an earlier generation, and the generation of a classic
    /// group (which shares a field with it in some requests), stay: the coordinator refuses the first, knows the second.
    fn member_epoch_in(&self, virtual_epoch: i32) -> i32;
    /// The coordinator's epoch of a KIP-848 member -> virtual. 0 and below (joining, leaving) stay.
    fn member_epoch_out(&self, real_epoch: i32) -> i32;

    /// Virtual topic id -> real; an unknown id and the zero id are passed through (the cluster answers UNKNOWN_TOPIC_ID).
    fn topic_id_in(&self, virtual_id: Uuid) -> Uuid;
    /// Real topic id -> virtual. `name` is given where the reply has it: a topic seen for the first time is registered.
    fn topic_id_out(&self, name: Option<&str>, real_id: Uuid) -> Uuid;
    /// Topic name of a virtual topic id.
    fn topic_name(&self, virtual_id: Uuid) -> Option<String>;
    /// Topics that clients must not see or touch (the proxy's own state topic).
    fn hidden(&self, topic: &str) -> bool;

    /// Logical offset -> the active cluster's: the first cluster offset that holds a record at or after it.
    /// Negative values are symbolic and stay.
    fn offset_in(&self, topic: &str, partition: i32, logical: i64) -> i64;
    /// A position (next record to read; end offsets included) of the active cluster -> logical. Negatives stay.
    fn offset_out(&self, topic: &str, partition: i32, cluster: i64) -> i64;

    /// The records of a range of logical offsets (both ends included) that the active cluster has, in rising stretches from
    /// logical to cluster offsets; of a very long range the first ones.
    fn stretches_in(&self, topic: &str, partition: i32, first: i64, last: i64) -> Vec<Stretch>;
    /// The same from the active cluster's offsets to logical ones.
    fn stretches_out(&self, topic: &str, partition: i32, first: i64, last: i64) -> Vec<Stretch>;

    /// The record batches of one partition of a Fetch reply, base offsets and leader epochs made virtual. `topic` is the
    /// real name; the bytes may end in a partial batch, as brokers may send one.
    fn batches_out(&self, topic: &str, partition: i32, records: Bytes) -> Bytes;
    /// Base offset and leader epoch of one such batch, made virtual; `None`: clients must not see it.
    fn batch_out(&self, topic: &str, partition: i32, base_offset: i64, leader_epoch: i32) -> Option<(i64, i32)>;
    /// `true`: all batches of the partition are the same to clients as to the cluster.
    fn batches_stay(&self, topic: &str, partition: i32) -> bool;
}

/// The APIs with a rewrite, in the order of their keys.
pub const APIS: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::AddPartitionsToTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::CreatePartitions,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::DescribeCluster,
    ApiKey::DescribeProducers,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::DescribeTopicPartitions,
    ApiKey::ShareGroupHeartbeat,
    ApiKey::ShareGroupDescribe,
    ApiKey::ShareFetch,
    ApiKey::ShareAcknowledge,
    ApiKey::DescribeShareGroupOffsets,
    ApiKey::AlterShareGroupOffsets,
    ApiKey::DeleteShareGroupOffsets,
];

/// Rewrites a request body for the active cluster. `None`: nothing to change, forward the client's bytes.
///
/// # Errors
/// A body that the codec cannot read to its last byte, or a request that no client may send ([`RewriteError::Refused`]).
pub fn request(api_key: i16, version: i16, body: &Bytes, t: &dyn Translate) -> Result<Option<Bytes>, RewriteError> {
    let Ok(api) = ApiKey::try_from(api_key) else { return Ok(None) };
    match api {
        ApiKey::Produce => ask(version, body, t, produce::request),
        ApiKey::Fetch => try_ask(version, body, t, fetch::request),
        ApiKey::ListOffsets => ask(version, body, t, list_offsets::request),
        ApiKey::Metadata => ask(version, body, t, metadata::request),
        ApiKey::OffsetCommit => ask(version, body, t, offset_commit::request),
        ApiKey::OffsetFetch => ask(version, body, t, offset_fetch::request),
        ApiKey::CreateTopics => ask(version, body, t, create_topics::request),
        ApiKey::DeleteTopics => ask(version, body, t, delete_topics::request),
        ApiKey::DeleteRecords => ask(version, body, t, delete_records::request),
        ApiKey::OffsetForLeaderEpoch => ask(version, body, t, offset_for_leader_epoch::request),
        ApiKey::AddPartitionsToTxn => ask(version, body, t, add_partitions_to_txn::request),
        ApiKey::TxnOffsetCommit => ask(version, body, t, txn_offset_commit::request),
        ApiKey::DescribeConfigs => ask(version, body, t, describe_configs::request),
        ApiKey::AlterConfigs => ask(version, body, t, alter_configs::request),
        ApiKey::CreatePartitions => ask(version, body, t, create_partitions::request),
        ApiKey::ElectLeaders => ask(version, body, t, elect_leaders::request),
        ApiKey::IncrementalAlterConfigs => ask(version, body, t, incremental_alter_configs::request),
        ApiKey::AlterPartitionReassignments => ask(version, body, t, alter_partition_reassignments::request),
        ApiKey::ListPartitionReassignments => ask(version, body, t, list_partition_reassignments::request),
        ApiKey::DescribeProducers => ask(version, body, t, describe_producers::request),
        ApiKey::ConsumerGroupHeartbeat => ask(version, body, t, consumer_group_heartbeat::request),
        ApiKey::ShareGroupHeartbeat => ask(version, body, t, share_group_heartbeat::request),
        ApiKey::ShareFetch => ask(version, body, t, share_fetch::request),
        ApiKey::ShareAcknowledge => ask(version, body, t, share_acknowledge::request),
        ApiKey::DescribeShareGroupOffsets => ask(version, body, t, describe_share_group_offsets::request),
        ApiKey::AlterShareGroupOffsets => ask(version, body, t, alter_share_group_offsets::request),
        ApiKey::DeleteShareGroupOffsets => ask(version, body, t, delete_share_group_offsets::request),
        _ => Ok(None),
    }
}

/// Rewrites a reply body for the client. `request_body` is the request as the client sent it, not as it was forwarded.
/// An API without a rewrite gets its body back unchanged.
///
/// # Errors
/// A body that the codec cannot read to its last byte, or cannot write.
pub fn response(
    api_key: i16,
    version: i16,
    request_body: &Bytes,
    body: &Bytes,
    t: &dyn Translate,
) -> Result<Bytes, RewriteError> {
    let Ok(api) = ApiKey::try_from(api_key) else { return Ok(body.clone()) };
    let (v, q, b) = (version, request_body, body);
    match api {
        ApiKey::Produce => answer(v, q, b, t, produce::response),
        ApiKey::Fetch => answer(v, q, b, t, fetch::response),
        ApiKey::ListOffsets => answer(v, q, b, t, list_offsets::response),
        ApiKey::Metadata => answer(v, q, b, t, metadata::response),
        ApiKey::OffsetCommit => answer(v, q, b, t, offset_commit::response),
        ApiKey::OffsetFetch => answer(v, q, b, t, offset_fetch::response),
        ApiKey::FindCoordinator => answer(v, q, b, t, find_coordinator::response),
        ApiKey::CreateTopics => answer(v, q, b, t, create_topics::response),
        ApiKey::DeleteTopics => answer(v, q, b, t, delete_topics::response),
        ApiKey::DeleteRecords => answer(v, q, b, t, delete_records::response),
        ApiKey::OffsetForLeaderEpoch => answer(v, q, b, t, offset_for_leader_epoch::response),
        ApiKey::AddPartitionsToTxn => answer(v, q, b, t, add_partitions_to_txn::response),
        ApiKey::TxnOffsetCommit => answer(v, q, b, t, txn_offset_commit::response),
        ApiKey::DescribeConfigs => answer(v, q, b, t, describe_configs::response),
        ApiKey::AlterConfigs => answer(v, q, b, t, alter_configs::response),
        ApiKey::CreatePartitions => answer(v, q, b, t, create_partitions::response),
        ApiKey::ElectLeaders => answer(v, q, b, t, elect_leaders::response),
        ApiKey::IncrementalAlterConfigs => answer(v, q, b, t, incremental_alter_configs::response),
        ApiKey::AlterPartitionReassignments => answer(v, q, b, t, alter_partition_reassignments::response),
        ApiKey::ListPartitionReassignments => answer(v, q, b, t, list_partition_reassignments::response),
        ApiKey::DescribeCluster => answer(v, q, b, t, describe_cluster::response),
        ApiKey::DescribeProducers => answer(v, q, b, t, describe_producers::response),
        ApiKey::ConsumerGroupHeartbeat => answer(v, q, b, t, consumer_group_heartbeat::response),
        ApiKey::ConsumerGroupDescribe => answer(v, q, b, t, consumer_group_describe::response),
        ApiKey::DescribeTopicPartitions => answer(v, q, b, t, describe_topic_partitions::response),
        ApiKey::ShareGroupHeartbeat => answer(v, q, b, t, share_group_heartbeat::response),
        ApiKey::ShareGroupDescribe => answer(v, q, b, t, share_group_describe::response),
        ApiKey::ShareFetch => answer(v, q, b, t, share_fetch::response),
        ApiKey::ShareAcknowledge => answer(v, q, b, t, share_acknowledge::response),
        ApiKey::DescribeShareGroupOffsets => answer(v, q, b, t, describe_share_group_offsets::response),
        ApiKey::AlterShareGroupOffsets => answer(v, q, b, t, alter_share_group_offsets::response),
        ApiKey::DeleteShareGroupOffsets => answer(v, q, b, t, delete_share_group_offsets::response),
        _ => Ok(body.clone()),
    }
}

fn ask<R>(
    version: i16,
    body: &Bytes,
    t: &dyn Translate,
    edit: fn(&mut R, &dyn Translate),
) -> Result<Option<Bytes>, RewriteError>
where
    R: Request + Clone + PartialEq,
{
    let client: R = decode(R::KEY, version, Side::Request, body)?;
    let mut cluster = client.clone();
    edit(&mut cluster, t);
    if cluster == client { Ok(None) } else { encode(R::KEY, version, Side::Request, &cluster).map(Some) }
}

fn try_ask<R: Request>(
    version: i16,
    body: &Bytes,
    t: &dyn Translate,
    edit: fn(&mut R, &dyn Translate) -> Result<(), RewriteError>,
) -> Result<Option<Bytes>, RewriteError> {
    let mut req: R = decode(R::KEY, version, Side::Request, body)?;
    edit(&mut req, t)?;
    encode(R::KEY, version, Side::Request, &req).map(Some)
}

fn answer<R: Request>(
    version: i16,
    request_body: &Bytes,
    body: &Bytes,
    t: &dyn Translate,
    edit: fn(&R, &mut R::Response, &dyn Translate),
) -> Result<Bytes, RewriteError> {
    let req: R = decode(R::KEY, version, Side::Request, request_body)?;
    let mut resp: R::Response = decode(R::KEY, version, Side::Reply, body)?;
    edit(&req, &mut resp, t);
    encode(R::KEY, version, Side::Reply, &resp)
}
