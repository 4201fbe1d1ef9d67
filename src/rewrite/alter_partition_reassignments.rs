//! AlterPartitionReassignments (key 45, KIP-455): target replicas in.

use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

use super::Translate;
use super::ids::{UNKNOWN_TOPIC_OR_PARTITION, brokers_in};

/// Broker ids in; an unknown one becomes one that the cluster refuses. Null replicas cancel a reassignment and stay.
pub fn request(req: &mut AlterPartitionReassignmentsRequest, t: &dyn Translate) {
    req.topics.retain(|topic| !t.hidden(&topic.name));
    for p in req.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        brokers_in(t, p.replicas.as_deref_mut().unwrap_or_default());
    }
}

/// Answers for the topics that the cluster was not asked about.
pub fn response(
    req: &AlterPartitionReassignmentsRequest,
    resp: &mut AlterPartitionReassignmentsResponse,
    t: &dyn Translate,
) {
    for topic in req.topics.iter().filter(|topic| t.hidden(&topic.name)) {
        let partition = |index| {
            ReassignablePartitionResponse::default()
                .with_partition_index(index)
                .with_error_code(UNKNOWN_TOPIC_OR_PARTITION)
                .with_error_message(None)
        };
        resp.responses.push(
            ReassignableTopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(topic.partitions.iter().map(|p| partition(p.partition_index)).collect()),
        );
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};

    use super::super::ids::NO_SUCH_BROKER;
    use super::super::tests::{HIDDEN, ids, name, to_client, to_cluster, versions};
    use super::*;

    #[test]
    fn brokers_in_hidden_topics_refused() {
        for version in versions::<AlterPartitionReassignmentsRequest>() {
            let asked = |topic, brokers: Option<[i32; 2]>| {
                let p = ReassignablePartition::default().with_partition_index(4).with_replicas(brokers.map(ids));
                ReassignableTopic::default().with_name(name(topic)).with_partitions(vec![p])
            };
            let request_of = |topics| AlterPartitionReassignmentsRequest::default().with_topics(topics);
            let hidden = asked(HIDDEN, None);
            let req = request_of(vec![asked("orders", Some([102, 7])), asked("cancel", None), hidden]);
            let want = request_of(vec![asked("orders", Some([2, NO_SUCH_BROKER])), asked("cancel", None)]);
            assert_eq!(to_cluster(version, &req), want, "v{version}");

            let resp = AlterPartitionReassignmentsResponse::default();
            let p = ReassignablePartitionResponse::default().with_partition_index(4).with_error_code(3);
            let refused = ReassignableTopicResponse::default()
                .with_name(name(HIDDEN))
                .with_partitions(vec![p.with_error_message(None)]);
            assert_eq!(to_client(version, &req, &resp).responses, vec![refused], "v{version}");
        }
    }
}
