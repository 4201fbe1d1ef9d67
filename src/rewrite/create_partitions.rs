//! CreatePartitions (key 37): brokers of manual assignments in.

use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::Translate;
use super::ids::{UNKNOWN_TOPIC_OR_PARTITION, brokers_in};

/// Broker ids in; an unknown one becomes one that the cluster refuses.
pub fn request(req: &mut CreatePartitionsRequest, t: &dyn Translate) {
    req.topics.retain(|topic| !t.hidden(&topic.name));
    for assignment in req.topics.iter_mut().flat_map(|topic| topic.assignments.iter_mut().flatten()) {
        brokers_in(t, &mut assignment.broker_ids);
    }
}

/// Answers for the topics that the cluster was not asked about.
pub fn response(req: &CreatePartitionsRequest, resp: &mut CreatePartitionsResponse, t: &dyn Translate) {
    for topic in req.topics.iter().filter(|topic| t.hidden(&topic.name)) {
        resp.results.push(
            CreatePartitionsTopicResult::default()
                .with_name(topic.name.clone())
                .with_error_code(UNKNOWN_TOPIC_OR_PARTITION)
                .with_error_message(None),
        );
    }
}
