//! OffsetFetch (key 9): committed positions out, for one group (v1-7) or several (v8+, KIP-709). The request has nothing
//! to translate.

use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

use super::Translate;

/// Offsets out, leader epochs to -1 (see OffsetCommit; the cluster may hold some from commits that passed us by).
/// Hidden topics show up only where some other client committed for them: they go.
pub fn response(_req: &OffsetFetchRequest, resp: &mut OffsetFetchResponse, t: &dyn Translate) {
    resp.topics.retain(|topic| !t.hidden(&topic.name));
    for topic in &mut resp.topics {
        for p in &mut topic.partitions {
            p.committed_offset = t.offset_out(&topic.name, p.partition_index, p.committed_offset);
            p.committed_leader_epoch = -1;
        }
    }
    for group in &mut resp.groups {
        group.topics.retain(|topic| !t.hidden(&topic.name));
        for topic in &mut group.topics {
            for p in &mut topic.partitions {
                p.committed_offset = t.offset_out(&topic.name, p.partition_index, p.committed_offset);
                p.committed_leader_epoch = -1;
            }
        }
    }
}

/// A reply in which every group and every partition of `req` carries `code`. The top-level code (v2-7) is all that a
/// request for "all topics" has.
pub fn error(req: &OffsetFetchRequest, version: i16, code: i16) -> OffsetFetchResponse {
    if version >= 8 {
        return OffsetFetchResponse::default()
            .with_groups(req.groups.iter().map(|group| group_error(group, code)).collect());
    }
    let partition = |index: &i32| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(*index)
            .with_committed_offset(-1)
            .with_error_code(code)
    };
    let topics = req.topics.iter().flatten().map(|topic| {
        OffsetFetchResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(topic.partition_indexes.iter().map(partition).collect())
    });
    OffsetFetchResponse::default().with_error_code(code).with_topics(topics.collect())
}

fn group_error(group: &OffsetFetchRequestGroup, code: i16) -> OffsetFetchResponseGroup {
    let partition = |index: &i32| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(*index)
            .with_committed_offset(-1)
            .with_error_code(code)
    };
    let topics = group.topics.iter().flatten().map(|topic| {
        OffsetFetchResponseTopics::default()
            .with_name(topic.name.clone())
            .with_partitions(topic.partition_indexes.iter().map(partition).collect())
    });
    OffsetFetchResponseGroup::default()
        .with_group_id(group.group_id.clone())
        .with_error_code(code)
        .with_topics(topics.collect())
}
