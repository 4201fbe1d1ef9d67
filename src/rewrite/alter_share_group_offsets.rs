//! AlterShareGroupOffsets (key 91, KIP-932): start offsets in, topic ids out.

use kafka_protocol::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::{AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse};

use super::Translate;
use super::ids::{UNKNOWN_TOPIC_OR_PARTITION, topic_id_out};

/// Start offsets in.
pub fn request(req: &mut AlterShareGroupOffsetsRequest, t: &dyn Translate) {
    req.topics.retain(|topic| !t.hidden(&topic.topic_name));
    for topic in &mut req.topics {
        for p in &mut topic.partitions {
            p.start_offset = t.offset_in(&topic.topic_name, p.partition_index, p.start_offset);
        }
    }
}

/// Topic ids out.
pub fn response(req: &AlterShareGroupOffsetsRequest, resp: &mut AlterShareGroupOffsetsResponse, t: &dyn Translate) {
    for topic in &mut resp.responses {
        topic_id_out(t, Some(&topic.topic_name), &mut topic.topic_id);
    }
    for topic in req.topics.iter().filter(|topic| t.hidden(&topic.topic_name)) {
        let unknown = |index| {
            AlterShareGroupOffsetsResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(UNKNOWN_TOPIC_OR_PARTITION)
        };
        resp.responses.push(
            AlterShareGroupOffsetsResponseTopic::default()
                .with_topic_name(topic.topic_name.clone())
                .with_partitions(topic.partitions.iter().map(|p| unknown(p.partition_index)).collect()),
        );
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::alter_share_group_offsets_request::{
        AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
    };
    use uuid::Uuid;

    use super::super::tests::{HIDDEN, name, real_id, to_client, to_cluster, versions, virtual_id};
    use super::*;

    fn asked(topic: &str, start: i64) -> AlterShareGroupOffsetsRequestTopic {
        let p = AlterShareGroupOffsetsRequestPartition::default().with_partition_index(4).with_start_offset(start);
        AlterShareGroupOffsetsRequestTopic::default().with_topic_name(name(topic)).with_partitions(vec![p])
    }

    fn answered(topic: &str, id: Uuid, code: i16) -> AlterShareGroupOffsetsResponseTopic {
        let p = AlterShareGroupOffsetsResponsePartition::default().with_partition_index(4).with_error_code(code);
        let topic = AlterShareGroupOffsetsResponseTopic::default().with_topic_name(name(topic));
        topic.with_topic_id(id).with_partitions(vec![p])
    }

    #[test]
    fn start_offsets_in_topic_ids_out() {
        for version in versions::<AlterShareGroupOffsetsRequest>() {
            let of = |topics| AlterShareGroupOffsetsRequest::default().with_topics(topics);
            let req = of(vec![asked("orders", 1042), asked(HIDDEN, 5)]);
            assert_eq!(to_cluster(version, &req), of(vec![asked("orders", 42)]), "v{version}");
            let of = |topics| AlterShareGroupOffsetsResponse::default().with_responses(topics);
            let want = of(vec![answered("orders", virtual_id(1), 0), answered(HIDDEN, Uuid::nil(), 3)]);
            assert_eq!(to_client(version, &req, &of(vec![answered("orders", real_id(1), 0)])), want, "v{version}");
        }
    }
}
