//! TxnOffsetCommit (key 28): positions in, as in OffsetCommit.

use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::Translate;
use super::ids::UNKNOWN_TOPIC_OR_PARTITION;

/// Offsets in, leader epochs to -1 (they are true on one cluster only).
pub fn request(req: &mut TxnOffsetCommitRequest, t: &dyn Translate) {
    req.topics.retain(|topic| !t.hidden(&topic.name));
    for topic in &mut req.topics {
        for p in &mut topic.partitions {
            p.committed_offset = t.offset_in(&topic.name, p.partition_index, p.committed_offset);
            p.committed_leader_epoch = -1;
        }
    }
}

/// Answers for the topics that the cluster was not asked about.
pub fn response(req: &TxnOffsetCommitRequest, resp: &mut TxnOffsetCommitResponse, t: &dyn Translate) {
    let refused = req.topics.iter().filter(|topic| t.hidden(&topic.name));
    resp.topics.extend(refused.map(|topic| topic_error(topic, UNKNOWN_TOPIC_OR_PARTITION)));
}

/// A reply in which every partition of `req` carries `code`.
pub fn error(req: &TxnOffsetCommitRequest, code: i16) -> TxnOffsetCommitResponse {
    TxnOffsetCommitResponse::default().with_topics(req.topics.iter().map(|topic| topic_error(topic, code)).collect())
}

fn topic_error(topic: &TxnOffsetCommitRequestTopic, code: i16) -> TxnOffsetCommitResponseTopic {
    let partition =
        |index| TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code);
    TxnOffsetCommitResponseTopic::default()
        .with_name(topic.name.clone())
        .with_partitions(topic.partitions.iter().map(|p| partition(p.partition_index)).collect())
}
