//! DescribeShareGroupOffsets (key 90, KIP-932): start offsets, leader epochs, topic ids.

use kafka_protocol::messages::describe_share_group_offsets_response::{
    DescribeShareGroupOffsetsResponsePartition, DescribeShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::{DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse};

use super::Translate;
use super::ids::{UNKNOWN_TOPIC_OR_PARTITION, topic_id_out};

/// Hidden topics out of the request.
pub fn request(req: &mut DescribeShareGroupOffsetsRequest, t: &dyn Translate) {
    for topics in req.groups.iter_mut().filter_map(|group| group.topics.as_mut()) {
        topics.retain(|topic| !t.hidden(&topic.topic_name));
    }
}

/// Start offsets, leader epochs and topic ids out. A group that has not begun to read a partition has the offset -1.
pub fn response(
    req: &DescribeShareGroupOffsetsRequest,
    resp: &mut DescribeShareGroupOffsetsResponse,
    t: &dyn Translate,
) {
    for group in &mut resp.groups {
        group.topics.retain(|topic| !t.hidden(&topic.topic_name));
        for topic in &mut group.topics {
            topic_id_out(t, Some(&topic.topic_name), &mut topic.topic_id);
            for p in topic.partitions.iter_mut().filter(|p| p.error_code == 0) {
                p.start_offset = t.offset_out(&topic.topic_name, p.partition_index, p.start_offset);
                p.leader_epoch = t.epoch_out(p.leader_epoch);
            }
        }
        let asked = req.groups.iter().filter(|asked| asked.group_id == group.group_id);
        let hidden = asked.flat_map(|asked| asked.topics.iter().flatten()).filter(|topic| t.hidden(&topic.topic_name));
        let unknown = |index| {
            DescribeShareGroupOffsetsResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(UNKNOWN_TOPIC_OR_PARTITION)
        };
        group.topics.extend(hidden.map(|topic| {
            DescribeShareGroupOffsetsResponseTopic::default()
                .with_topic_name(topic.topic_name.clone())
                .with_partitions(topic.partitions.iter().map(|&index| unknown(index)).collect())
        }));
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_share_group_offsets_request::{
        DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
    };
    use kafka_protocol::messages::describe_share_group_offsets_response::DescribeShareGroupOffsetsResponseGroup;
    use uuid::Uuid;

    use super::super::tests::{EPOCH, HIDDEN, name, real_id, to_client, to_cluster, versions, virtual_id};
    use super::*;

    fn asked(topics: &[&str]) -> DescribeShareGroupOffsetsRequest {
        let topic = |t: &&str| {
            DescribeShareGroupOffsetsRequestTopic::default().with_topic_name(name(t)).with_partitions(vec![4])
        };
        let group = DescribeShareGroupOffsetsRequestGroup::default();
        let group = group.with_topics(Some(topics.iter().map(topic).collect()));
        DescribeShareGroupOffsetsRequest::default().with_groups(vec![group])
    }

    fn told(topic: &str, id: Uuid, start: i64, epoch: i32, code: i16) -> DescribeShareGroupOffsetsResponseTopic {
        let p = DescribeShareGroupOffsetsResponsePartition::default()
            .with_partition_index(4)
            .with_start_offset(start)
            .with_leader_epoch(epoch)
            .with_error_code(code);
        DescribeShareGroupOffsetsResponseTopic::default()
            .with_topic_name(name(topic))
            .with_topic_id(id)
            .with_partitions(vec![p])
    }

    fn answer(topics: Vec<DescribeShareGroupOffsetsResponseTopic>) -> DescribeShareGroupOffsetsResponse {
        let group = DescribeShareGroupOffsetsResponseGroup::default().with_topics(topics);
        DescribeShareGroupOffsetsResponse::default().with_groups(vec![group])
    }

    #[test]
    fn start_offsets_out_and_nothing_of_hidden_topics() {
        for version in versions::<DescribeShareGroupOffsetsRequest>() {
            let req = asked(&["orders", HIDDEN]);
            assert_eq!(to_cluster(version, &req), asked(&["orders"]), "v{version}");
            let found = vec![told("orders", real_id(1), 42, 7, 0), told("orders", real_id(1), -1, 0, 0)];
            let shown = vec![
                told("orders", virtual_id(1), 1042, EPOCH, 0),
                told("orders", virtual_id(1), -1, EPOCH - 7, 0),
                told(HIDDEN, Uuid::nil(), 0, 0, 3),
            ];
            assert_eq!(to_client(version, &req, &answer(found)), answer(shown), "v{version}");
            let everything = vec![told(HIDDEN, real_id(2), 42, 7, 0)];
            let all = DescribeShareGroupOffsetsRequest::default();
            assert_eq!(to_client(version, &all, &answer(everything)), answer(vec![]), "v{version}");
        }
    }
}
