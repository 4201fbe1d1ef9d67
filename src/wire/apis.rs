//! The table of APIs: what the proxy does with each request of Kafka 4.3, in which versions, and why.
//!
//! A request that is not served (unknown API, refused row, version outside what was advertised) closes the connection
//! with a logged reason, as a broker does: its reply could not be read by a client that did not ask what is served. The one
//! exception is ApiVersions itself (KIP-511), see [`super::versions`].

use super::header::API_VERSIONS;
use super::schema::{self, NO_VERSION, Versions};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Message, Request};

/// What the proxy does with a request and its reply.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum How {
    /// Passed on as bytes, both ways: nothing in it names a broker, an address, a topic id, an offset or an epoch.
    Forward,
    /// Decoded, translated and encoded again.
    Rewrite,
    /// Answered by the proxy alone.
    Answer,
    /// Not advertised; a client that sends it all the same is disconnected.
    Refuse,
}

/// One API.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub key: i16,
    /// Kafka's name without "Request".
    pub name: &'static str,
    pub how: How,
    /// Highest range that is served if clusters and codec allow; [`NO_VERSION`] for a refused API.
    pub versions: Versions,
    pub why: &'static str,
}

/// The row of an API; `None` if Kafka 4.3 does not know it.
pub fn row(key: i16) -> Option<&'static Row> {
    // Keys start at 0 and have no gaps; a test holds the table to it.
    TABLE.get(usize::try_from(key).ok()?).filter(|row| row.key == key)
}

/// Every row, by key.
pub fn rows() -> &'static [Row] {
    TABLE
}

/// Versions in which the proxy could serve this API, whatever the clusters have: the row, what Kafka 4.3 has, and where
/// a body is decoded what the codec can do.
pub fn served(row: &Row) -> Option<Versions> {
    let known = schema::versions(row.key).unwrap_or(NO_VERSION);
    let able = match row.how {
        How::Refuse => NO_VERSION,
        How::Forward => known,
        How::Rewrite | How::Answer => meet(known, codec(row.key)),
    };
    let versions = meet(row.versions, able);
    (versions.0 <= versions.1).then_some(versions)
}

/// What both ranges have.
pub fn meet(a: Versions, b: Versions) -> Versions {
    (a.0.max(b.0), a.1.min(b.1))
}

macro_rules! codec_ranges {
    ($key:expr, $($request:ident)*) => {
        match $key {
            $(<$request as Request>::KEY => {
                let request = <$request as Message>::VERSIONS;
                let response = <<$request as Request>::Response as Message>::VERSIONS;
                meet((request.min, request.max), (response.min, response.max))
            })*
            _ => NO_VERSION,
        }
    };
}

/// Versions in which kafka_protocol has both messages of an API that is decoded here. (Its own
/// `ApiKey::valid_versions` looks at one of the two only.)
fn codec(key: i16) -> Versions {
    codec_ranges!(key,
        ProduceRequest FetchRequest ListOffsetsRequest MetadataRequest OffsetCommitRequest OffsetFetchRequest
        FindCoordinatorRequest JoinGroupRequest HeartbeatRequest LeaveGroupRequest SyncGroupRequest ApiVersionsRequest
        CreateTopicsRequest DeleteTopicsRequest DeleteRecordsRequest InitProducerIdRequest OffsetForLeaderEpochRequest
        AddPartitionsToTxnRequest AddOffsetsToTxnRequest EndTxnRequest TxnOffsetCommitRequest DescribeConfigsRequest
        AlterConfigsRequest CreatePartitionsRequest IncrementalAlterConfigsRequest AlterPartitionReassignmentsRequest
        ListPartitionReassignmentsRequest DescribeClusterRequest DescribeProducersRequest ConsumerGroupHeartbeatRequest
        ConsumerGroupDescribeRequest DescribeTopicPartitionsRequest ShareGroupHeartbeatRequest ShareGroupDescribeRequest
        ShareFetchRequest ShareAcknowledgeRequest DescribeShareGroupOffsetsRequest AlterShareGroupOffsetsRequest
        DeleteShareGroupOffsetsRequest
    )
}

const fn forward(key: i16, name: &'static str, versions: Versions, why: &'static str) -> Row {
    Row { key, name, how: How::Forward, versions, why }
}

const fn rewrite(key: i16, name: &'static str, versions: Versions, why: &'static str) -> Row {
    Row { key, name, how: How::Rewrite, versions, why }
}

const fn refuse(key: i16, name: &'static str, why: &'static str) -> Row {
    Row { key, name, how: How::Refuse, versions: NO_VERSION, why }
}

const REMOVED: &str = "removed in Kafka 4.0 with ZooKeeper";
const QUORUM: &str = "raft between controllers; no client sends it";
const INTER_BROKER: &str = "between brokers, or broker and controller; no client sends it";
const SHARE_STATE: &str = "share group state, between brokers; no client sends it";
const STREAMS: &str = "streams groups (KIP-1071) are not taken over a cutover yet";
const ACL: &str = "principals, hosts of clients and resource names only";
const TOKEN: &str = "no id inside; on a connection without SASL the broker refuses it itself";
const SASL: &str = "SASL is not terminated yet; passed on, it would sign in to one cluster only";
const TELEMETRY: &str = "the client instance id and subscription belong to one broker and would change at a cutover";
const VOTER: &str = "names controllers, which are not virtual";

#[rustfmt::skip]
static TABLE: &[Row] = &[
    rewrite(0, "Produce", (3, 13), "base and start offsets, leader ids and epochs, addresses, topic ids; the tee"),
    rewrite(1, "Fetch", (4, 18), "offsets, epochs, broker ids, addresses, topic ids; sessions are not kept"),
    rewrite(2, "ListOffsets", (1, 11), "offsets and leader epochs"),
    rewrite(3, "Metadata", (0, 13), "cluster id, brokers, leaders, epochs, topic ids; hidden topics"),
    refuse(4, "LeaderAndIsr", REMOVED),
    refuse(5, "StopReplica", REMOVED),
    refuse(6, "UpdateMetadata", REMOVED),
    refuse(7, "ControlledShutdown", REMOVED),
    rewrite(8, "OffsetCommit", (2, 10), "offsets, leader epochs, topic ids; members are re-homed"),
    rewrite(9, "OffsetFetch", (1, 10), "offsets, leader epochs, topic ids; members are re-homed"),
    rewrite(10, "FindCoordinator", (0, 5), "broker id and address; version 6 is for the brokers' share coordinators"),
    rewrite(11, "JoinGroup", (0, 9), "members are re-homed after a cutover"),
    rewrite(12, "Heartbeat", (0, 4), "members are re-homed after a cutover"),
    rewrite(13, "LeaveGroup", (0, 5), "members are re-homed after a cutover"),
    rewrite(14, "SyncGroup", (0, 5), "members are re-homed after a cutover"),
    forward(15, "DescribeGroups", (0, 6), "group, members, and topic names inside their own blobs"),
    forward(16, "ListGroups", (0, 5), "group names, states and types only"),
    refuse(17, "SaslHandshake", SASL),
    Row { key: API_VERSIONS, name: "ApiVersions", how: How::Answer, versions: (0, 4),
        why: "what both clusters, the codec and this table have; version 5 would carry cluster and node ids" },
    rewrite(19, "CreateTopics", (2, 7), "broker ids of replica assignments, topic ids; hidden topics"),
    rewrite(20, "DeleteTopics", (1, 6), "topic ids; hidden topics"),
    rewrite(21, "DeleteRecords", (0, 2), "offsets"),
    rewrite(22, "InitProducerId", (0, 5), "answered by the proxy without a transactional id; with one its producer id stands for the cluster's"),
    rewrite(23, "OffsetForLeaderEpoch", (2, 4), "epochs and offsets; earlier generations are answered from the maps"),
    rewrite(24, "AddPartitionsToTxn", (0, 3), "producer ids; version 4 and up are between brokers"),
    rewrite(25, "AddOffsetsToTxn", (0, 4), "producer ids"),
    rewrite(26, "EndTxn", (0, 5), "producer ids"),
    refuse(27, "WriteTxnMarkers", INTER_BROKER),
    rewrite(28, "TxnOffsetCommit", (0, 5), "producer ids, offsets and leader epochs"),
    forward(29, "DescribeAcls", (1, 3), ACL),
    forward(30, "CreateAcls", (1, 3), ACL),
    forward(31, "DeleteAcls", (1, 3), ACL),
    rewrite(32, "DescribeConfigs", (1, 4), "a broker resource is named by its id; hidden topics"),
    rewrite(33, "AlterConfigs", (0, 2), "a broker resource is named by its id; hidden topics"),
    forward(34, "AlterReplicaLogDirs", (1, 2), "paths of the broker asked, topic names, partitions"),
    forward(35, "DescribeLogDirs", (1, 5), "paths, sizes and a difference of offsets of the broker asked"),
    refuse(36, "SaslAuthenticate", SASL),
    rewrite(37, "CreatePartitions", (0, 3), "broker ids of replica assignments; hidden topics"),
    forward(38, "CreateDelegationToken", (1, 3), TOKEN),
    forward(39, "RenewDelegationToken", (1, 2), TOKEN),
    forward(40, "ExpireDelegationToken", (1, 2), TOKEN),
    forward(41, "DescribeDelegationToken", (1, 3), TOKEN),
    forward(42, "DeleteGroups", (0, 2), "group names only"),
    forward(43, "ElectLeaders", (0, 2), "topic names and partitions only; the new leader is not named"),
    rewrite(44, "IncrementalAlterConfigs", (0, 1), "a broker resource is named by its id; hidden topics"),
    rewrite(45, "AlterPartitionReassignments", (0, 1), "broker ids of replicas"),
    rewrite(46, "ListPartitionReassignments", (0, 0), "broker ids of replicas"),
    forward(47, "OffsetDelete", (0, 0), "group, topic names and partitions; no offsets in spite of its name"),
    forward(48, "DescribeClientQuotas", (0, 1), "users, client ids, addresses of clients and numbers"),
    forward(49, "AlterClientQuotas", (0, 1), "users, client ids, addresses of clients and numbers"),
    forward(50, "DescribeUserScramCredentials", (0, 0), "user names, mechanisms and iterations"),
    forward(51, "AlterUserScramCredentials", (0, 0), "user names and salted passwords"),
    refuse(52, "Vote", QUORUM),
    refuse(53, "BeginQuorumEpoch", QUORUM),
    refuse(54, "EndQuorumEpoch", QUORUM),
    refuse(55, "DescribeQuorum", VOTER),
    refuse(56, "AlterPartition", INTER_BROKER),
    refuse(57, "UpdateFeatures", "the two clusters must not drift apart; upgrade each of them directly"),
    refuse(58, "Envelope", INTER_BROKER),
    refuse(59, "FetchSnapshot", QUORUM),
    rewrite(60, "DescribeCluster", (0, 2), "cluster id, controller, brokers and addresses"),
    rewrite(61, "DescribeProducers", (0, 0), "start offset of the open transaction, coordinator epoch"),
    refuse(62, "BrokerRegistration", INTER_BROKER),
    refuse(63, "BrokerHeartbeat", INTER_BROKER),
    refuse(64, "UnregisterBroker", "names one real broker for good; do it on the cluster itself"),
    forward(65, "DescribeTransactions", (0, 0), "transactional ids, topic names; producer ids are the cluster's own, as operators want them"),
    forward(66, "ListTransactions", (0, 2), "transactional ids; producer ids are the cluster's own"),
    refuse(67, "AllocateProducerIds", INTER_BROKER),
    rewrite(68, "ConsumerGroupHeartbeat", (0, 1), "topic ids; members are re-homed after a cutover"),
    rewrite(69, "ConsumerGroupDescribe", (0, 1), "topic ids"),
    refuse(70, "ControllerRegistration", INTER_BROKER),
    refuse(71, "GetTelemetrySubscriptions", TELEMETRY),
    refuse(72, "PushTelemetry", TELEMETRY),
    refuse(73, "AssignReplicasToDirs", INTER_BROKER),
    forward(74, "ListConfigResources", (0, 0), "version 0 lists names of client metrics only; version 1 would list broker ids"),
    rewrite(75, "DescribeTopicPartitions", (0, 0), "leaders, replicas, epochs, topic ids; hidden topics"),
    rewrite(76, "ShareGroupHeartbeat", (1, 1), "member epochs, topic ids; members of before a cutover join anew"),
    rewrite(77, "ShareGroupDescribe", (1, 1), "member epochs, topic ids"),
    rewrite(78, "ShareFetch", (1, 2), "acquired and acknowledged offsets, batches, leaders, addresses, topic ids"),
    rewrite(79, "ShareAcknowledge", (1, 2), "acknowledged offsets, leaders, addresses, topic ids"),
    refuse(80, "AddRaftVoter", VOTER),
    refuse(81, "RemoveRaftVoter", VOTER),
    refuse(82, "UpdateRaftVoter", QUORUM),
    refuse(83, "InitializeShareGroupState", SHARE_STATE),
    refuse(84, "ReadShareGroupState", SHARE_STATE),
    refuse(85, "WriteShareGroupState", SHARE_STATE),
    refuse(86, "DeleteShareGroupState", SHARE_STATE),
    refuse(87, "ReadShareGroupStateSummary", SHARE_STATE),
    refuse(88, "StreamsGroupHeartbeat", STREAMS),
    refuse(89, "StreamsGroupDescribe", STREAMS),
    rewrite(90, "DescribeShareGroupOffsets", (0, 1), "start offsets, leader epochs, topic ids"),
    rewrite(91, "AlterShareGroupOffsets", (0, 0), "start offsets, topic ids"),
    rewrite(92, "DeleteShareGroupOffsets", (0, 0), "topic ids"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_of_the_schema_has_exactly_one_row_with_a_reason() {
        let keys: Vec<i16> = rows().iter().map(|row| row.key).collect();
        assert_eq!(keys, schema::keys().collect::<Vec<_>>());
        for found in rows() {
            assert_eq!(schema::name(found.key), Some(found.name), "{}", found.key);
            assert!(!found.why.is_empty(), "{}", found.name);
            assert!(row(found.key).is_some_and(|again| again.name == found.name));
        }
        assert!(row(93).is_none() && row(-1).is_none());
    }

    #[test]
    fn a_row_serves_versions_that_exist_unless_it_refuses() {
        for row in rows() {
            let served = served(row);
            assert_eq!(served.is_none(), row.how == How::Refuse, "{}", row.name);
            let Some((low, high)) = served else { continue };
            let known = schema::versions(row.key).unwrap();
            assert!(known.0 <= row.versions.0 && row.versions.1 <= known.1, "{}: Kafka has {known:?}", row.name);
            // The codec is not the newest, so a row may reach above it, but not below it.
            assert!(low == row.versions.0 && high <= row.versions.1, "{}: {served:?}", row.name);
        }
    }

    #[test]
    fn what_the_codec_lacks_is_not_served() {
        for (key, want) in [(0, (3, 13)), (2, (1, 10)), (8, (2, 9)), (9, (1, 9)), (18, (0, 4)), (22, (0, 5))] {
            assert_eq!(row(key).and_then(served), Some(want), "{key}");
        }
    }

    /// A forwarded message must have no field that would have to be translated, in any version that is forwarded.
    #[test]
    fn forwarded_apis_have_nothing_to_translate() {
        let suspects = ["Broker", "Node", "Leader", "Replicas", "Controller", "TopicId", "ClusterId", "Port", "Offset"];
        // A difference of two offsets of one log.
        let harmless = ["OffsetLag"];
        for row in rows().iter().filter(|row| row.how == How::Forward) {
            let api = schema::api(row.key).unwrap();
            for field in &schema::fields()[api.request.start..api.response.end] {
                let versions = meet(field.versions, row.versions);
                let suspect = suspects.iter().any(|word| field.name.contains(word)) && !harmless.contains(&field.name);
                assert!(!suspect || versions.0 > versions.1, "{}: {}", row.name, field.name);
            }
        }
    }
}
