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
