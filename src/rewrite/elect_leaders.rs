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
