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

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};

    use super::super::ids::NO_SUCH_BROKER;
    use super::super::tests::{HIDDEN, ids, name, to_client, to_cluster, versions};
    use super::*;

    #[test]
    fn brokers_in_hidden_topics_refused() {
        for version in versions::<CreatePartitionsRequest>() {
            let asked = |topic, brokers: Option<[i32; 2]>| {
                let assignment = brokers.map(|b| vec![CreatePartitionsAssignment::default().with_broker_ids(ids(b))]);
                CreatePartitionsTopic::default().with_name(name(topic)).with_count(2).with_assignments(assignment)
            };
            let request_of = |topics| CreatePartitionsRequest::default().with_topics(topics);
            let req = request_of(vec![asked("orders", Some([102, 7])), asked("auto", None), asked(HIDDEN, None)]);
            let want = request_of(vec![asked("orders", Some([2, NO_SUCH_BROKER])), asked("auto", None)]);
            assert_eq!(to_cluster(version, &req), want, "v{version}");

            let answered = |topic, code| {
                CreatePartitionsTopicResult::default()
                    .with_name(name(topic))
                    .with_error_code(code)
                    .with_error_message(None)
            };
            let resp = CreatePartitionsResponse::default().with_results(vec![answered("orders", 0)]);
            let want = resp.clone().with_results(vec![answered("orders", 0), answered(HIDDEN, 3)]);
            assert_eq!(to_client(version, &req, &resp), want, "v{version}");
        }
    }
}
