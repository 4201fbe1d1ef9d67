//! OffsetCommit (key 8): positions in. The reply has only error codes.

use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::Translate;
use super::ids::UNKNOWN_TOPIC_OR_PARTITION;

/// Offsets in, leader epochs to -1: a committed offset is read back on either cluster, an epoch is true on one only.
pub fn request(req: &mut OffsetCommitRequest, t: &dyn Translate) {
    req.topics.retain(|topic| !t.hidden(&topic.name));
    for topic in &mut req.topics {
        for p in &mut topic.partitions {
            p.committed_offset = t.offset_in(&topic.name, p.partition_index, p.committed_offset);
            p.committed_leader_epoch = -1;
        }
    }
}

/// Answers for the topics that the cluster was not asked about.
pub fn response(req: &OffsetCommitRequest, resp: &mut OffsetCommitResponse, t: &dyn Translate) {
    let refused = req.topics.iter().filter(|topic| t.hidden(&topic.name));
    resp.topics.extend(refused.map(|topic| topic_error(topic, UNKNOWN_TOPIC_OR_PARTITION)));
}

/// A reply in which every partition of `req` carries `code`.
pub fn error(req: &OffsetCommitRequest, code: i16) -> OffsetCommitResponse {
    OffsetCommitResponse::default().with_topics(req.topics.iter().map(|topic| topic_error(topic, code)).collect())
}

fn topic_error(topic: &OffsetCommitRequestTopic, code: i16) -> OffsetCommitResponseTopic {
    let partition = |index| OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code);
    OffsetCommitResponseTopic::default()
        .with_name(topic.name.clone())
        .with_partitions(topic.partitions.iter().map(|p| partition(p.partition_index)).collect())
}
