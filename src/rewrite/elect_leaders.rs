//! ElectLeaders (key 43, KIP-460): names and partition numbers only; hidden topics are kept out of it.

use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};

use super::Translate;
use super::ids::UNKNOWN_TOPIC_OR_PARTITION;

/// Takes hidden topics out. `None` asks for all and stays.
pub fn request(req: &mut ElectLeadersRequest, t: &dyn Translate) {
    if let Some(topics) = &mut req.topic_partitions {
        topics.retain(|topic| !t.hidden(&topic.topic));
    }
}

/// Takes hidden topics out of the results and answers for those that were asked about by name.
pub fn response(req: &ElectLeadersRequest, resp: &mut ElectLeadersResponse, t: &dyn Translate) {
    resp.replica_election_results.retain(|topic| !t.hidden(&topic.topic));
    for topic in req.topic_partitions.iter().flatten().filter(|topic| t.hidden(&topic.topic)) {
        let partition = |id: &i32| {
            PartitionResult::default()
                .with_partition_id(*id)
                .with_error_code(UNKNOWN_TOPIC_OR_PARTITION)
                .with_error_message(None)
        };
        resp.replica_election_results.push(
            ReplicaElectionResult::default()
                .with_topic(topic.topic.clone())
                .with_partition_result(topic.partitions.iter().map(partition).collect()),
        );
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::elect_leaders_request::TopicPartitions;

    use super::super::tests::{HIDDEN, name, to_client, to_cluster, versions};
    use super::*;

    #[test]
    fn hidden_topics_are_kept_out() {
        for version in versions::<ElectLeadersRequest>() {
            let asked = |topic| TopicPartitions::default().with_topic(name(topic)).with_partitions(vec![4]);
            let request_of = |topics| ElectLeadersRequest::default().with_topic_partitions(topics);
            let named = request_of(Some(vec![asked("orders"), asked(HIDDEN)]));
            assert_eq!(to_cluster(version, &named), request_of(Some(vec![asked("orders")])), "v{version}");
            assert_eq!(to_cluster(version, &request_of(None)), request_of(None), "v{version}");

            let answered = |topic, code| {
                let p = PartitionResult::default().with_partition_id(4).with_error_code(code);
                ReplicaElectionResult::default()
                    .with_topic(name(topic))
                    .with_partition_result(vec![p.with_error_message(None)])
            };
            let reply_of = |r| ElectLeadersResponse::default().with_replica_election_results(r);
            let resp = reply_of(vec![answered("orders", 0)]);
            let want = reply_of(vec![answered("orders", 0), answered(HIDDEN, 3)]);
            assert_eq!(to_client(version, &named, &resp), want, "v{version}");
            let resp = reply_of(vec![answered("orders", 0), answered(HIDDEN, 0)]);
            assert_eq!(to_client(version, &request_of(None), &resp), reply_of(vec![answered("orders", 0)]));
        }
    }
}
