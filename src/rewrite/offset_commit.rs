//! OffsetCommit (key 8): positions in. The reply has only error codes.

use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::Translate;
use super::ids::UNKNOWN_TOPIC_OR_PARTITION;

/// Offsets in, leader epochs to -1: a committed offset is read back on either cluster, an epoch is true on one only.
pub fn request(req: &mut OffsetCommitRequest, t: &dyn Translate) {
    req.generation_id_or_member_epoch = t.member_epoch_in(req.generation_id_or_member_epoch);
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

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;

    use super::super::tests::{EPOCH, HIDDEN, MEMBER_MARK, made_up, name, to_client, to_cluster, versions};
    use super::*;

    fn asked(topic: &str, offset: i64, epoch: i32) -> OffsetCommitRequestTopic {
        let p = OffsetCommitRequestPartition::default().with_partition_index(4).with_committed_offset(offset);
        OffsetCommitRequestTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![p.with_committed_leader_epoch(epoch)])
    }

    fn request_of(topics: Vec<OffsetCommitRequestTopic>) -> OffsetCommitRequest {
        OffsetCommitRequest::default().with_group_id(kafka_protocol::messages::GroupId("g".into())).with_topics(topics)
    }

    fn answered(topic: &str, code: i16) -> OffsetCommitResponseTopic {
        let p = OffsetCommitResponsePartition::default().with_partition_index(4).with_error_code(code);
        OffsetCommitResponseTopic::default().with_name(name(topic)).with_partitions(vec![p])
    }

    #[test]
    fn positions_in_without_epochs() {
        for version in versions::<OffsetCommitRequest>() {
            let epoch = if version >= 6 { EPOCH } else { -1 };
            let of_member = |epoch| request_of(Vec::new()).with_generation_id_or_member_epoch(epoch);
            for (shown, real) in [(MEMBER_MARK + 5, 5), (5, 5), (-1, -1)] {
                assert_eq!(to_cluster(version, &of_member(shown)), of_member(real), "v{version}");
            }
            let req = request_of(vec![asked("orders", 1042, epoch), asked(HIDDEN, 5, -1), asked("other", -1, -1)]);
            let want = request_of(vec![asked("orders", 42, -1), asked("other", -1, -1)]);
            assert_eq!(to_cluster(version, &req), want, "v{version}");

            let resp = OffsetCommitResponse::default().with_topics(vec![answered("orders", 0)]);
            let want = resp.clone().with_topics(vec![answered("orders", 0), answered(HIDDEN, 3)]);
            assert_eq!(to_client(version, &req, &resp), want, "v{version}");
        }
    }

    #[test]
    fn a_made_up_error_answers_every_partition() {
        for version in versions::<OffsetCommitRequest>() {
            let want = OffsetCommitResponse::default().with_topics(vec![answered("orders", 27)]);
            assert_eq!(made_up(version, &request_of(vec![asked("orders", 1, -1)]), 27), want, "v{version}");
        }
    }
}
