//! DescribeTopicPartitions (key 75, KIP-966): topic ids, leaders, epochs, all replica lists. Cursors hold names and
//! partition numbers, which are the same on both sides.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_response::{
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

use super::Translate;
use super::ids::{UNKNOWN_TOPIC_OR_PARTITION, broker_out, brokers_out, topic_id_out};

/// Everything real out. Hidden topics are covered up here, not taken out of the request: an emptied list means "all".
pub fn response(req: &DescribeTopicPartitionsRequest, resp: &mut DescribeTopicPartitionsResponse, t: &dyn Translate) {
    resp.topics.retain_mut(|topic| {
        if topic.name.as_ref().is_some_and(|name| t.hidden(name)) {
            let asked = req.topics.iter().any(|a| Some(&a.name) == topic.name.as_ref());
            *topic = DescribeTopicPartitionsResponseTopic::default()
                .with_error_code(UNKNOWN_TOPIC_OR_PARTITION)
                .with_name(topic.name.clone());
            return asked;
        }
        topic_id_out(t, topic.name.as_deref().map(|name| &**name), &mut topic.topic_id);
        for p in &mut topic.partitions {
            partition_out(p, t);
        }
        true
    });
}

fn partition_out(p: &mut DescribeTopicPartitionsResponsePartition, t: &dyn Translate) {
    let had_leader = p.leader_id.0 >= 0;
    broker_out(t, &mut p.leader_id);
    if had_leader && p.leader_id.0 < 0 && p.error_code == 0 {
        p.error_code = ResponseError::LeaderNotAvailable.code();
    }
    p.leader_epoch = t.epoch_out(p.leader_epoch);
    brokers_out(t, &mut p.replica_nodes);
    brokers_out(t, &mut p.isr_nodes);
    brokers_out(t, &mut p.offline_replicas);
    for list in [&mut p.eligible_leader_replicas, &mut p.last_known_elr].into_iter().flatten() {
        brokers_out(t, list);
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
    use kafka_protocol::messages::describe_topic_partitions_response::Cursor;
    use uuid::Uuid;

    use super::super::tests::{EPOCH, HIDDEN, ids, name, real_id, to_client, virtual_id};
    use super::*;

    fn topic(s: &str, id: Uuid, p: DescribeTopicPartitionsResponsePartition) -> DescribeTopicPartitionsResponseTopic {
        DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(name(s)))
            .with_topic_id(id)
            .with_partitions(vec![p])
    }

    fn partition<const N: usize>(leader: i32, epoch: i32, n: [i32; N]) -> DescribeTopicPartitionsResponsePartition {
        DescribeTopicPartitionsResponsePartition::default()
            .with_leader_id(BrokerId(leader))
            .with_leader_epoch(epoch)
            .with_replica_nodes(ids(n))
            .with_isr_nodes(ids(n))
            .with_offline_replicas(ids(n))
            .with_eligible_leader_replicas(Some(ids(n)))
            .with_last_known_elr(None)
    }

    #[test]
    fn everything_is_virtual_and_hidden_topics_are_unknown_or_absent() {
        let cursor = Cursor::default().with_topic_name(name("orders")).with_partition_index(3);
        let resp = DescribeTopicPartitionsResponse::default()
            .with_topics(vec![
                topic("orders", real_id(1), partition(2, 7, [1, 2, 9])),
                topic("other", real_id(3), partition(9, 7, [9])),
                topic(HIDDEN, real_id(2), partition(1, 7, [1])),
            ])
            .with_next_cursor(Some(cursor));
        let mut want = resp.clone().with_topics(vec![
            topic("orders", virtual_id(1), partition(102, EPOCH, [101, 102])),
            topic("other", virtual_id(3), partition(-1, EPOCH, []).with_error_code(5)),
        ]);
        assert_eq!(to_client(0, &DescribeTopicPartitionsRequest::default(), &resp), want);

        let asked = TopicRequest::default().with_name(name(HIDDEN));
        let req = DescribeTopicPartitionsRequest::default().with_topics(vec![asked]);
        let unknown = DescribeTopicPartitionsResponseTopic::default().with_error_code(3).with_name(Some(name(HIDDEN)));
        want.topics.push(unknown);
        assert_eq!(to_client(0, &req, &resp), want);
    }
}
