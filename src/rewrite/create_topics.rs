//! CreateTopics (key 19): brokers of manual assignments in, topic ids (v7+) out.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use super::Translate;
use super::ids::{brokers_in, topic_id_out};

/// The name of a hidden topic is not free, and the topic is not to be had.
const RESERVED: i16 = ResponseError::InvalidTopicException.code();

/// Broker ids in. An unknown one becomes one that the cluster does not have either, so that it refuses the assignment.
pub fn request(req: &mut CreateTopicsRequest, t: &dyn Translate) {
    req.topics.retain(|topic| !t.hidden(&topic.name));
    for assignment in req.topics.iter_mut().flat_map(|topic| &mut topic.assignments) {
        brokers_in(t, &mut assignment.broker_ids);
    }
}

/// Topic ids out, except after a dry run: that id is made up and must not be registered for the name.
pub fn response(req: &CreateTopicsRequest, resp: &mut CreateTopicsResponse, t: &dyn Translate) {
    for topic in &mut resp.topics {
        if !req.validate_only && topic.error_code == 0 {
            topic_id_out(t, Some(&topic.name), &mut topic.topic_id);
        }
    }
    let refused = req.topics.iter().filter(|topic| t.hidden(&topic.name));
    resp.topics.extend(refused.map(|topic| topic_error(topic, RESERVED)));
}

/// A reply in which every topic of `req` carries `code`.
pub fn error(req: &CreateTopicsRequest, code: i16) -> CreateTopicsResponse {
    CreateTopicsResponse::default().with_topics(req.topics.iter().map(|topic| topic_error(topic, code)).collect())
}

fn topic_error(topic: &CreatableTopic, code: i16) -> CreatableTopicResult {
    CreatableTopicResult::default().with_name(topic.name.clone()).with_error_code(code).with_error_message(None)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::create_topics_request::CreatableReplicaAssignment;
    use uuid::Uuid;

    use super::super::ids::NO_SUCH_BROKER;
    use super::super::tests::{HIDDEN, ids, made_up, name, real_id, to_client, to_cluster, versions, virtual_id};
    use super::*;

    fn asked<const N: usize>(topic: &str, brokers: [i32; N]) -> CreatableTopic {
        let assignment = CreatableReplicaAssignment::default().with_partition_index(0).with_broker_ids(ids(brokers));
        CreatableTopic::default().with_name(name(topic)).with_assignments(vec![assignment])
    }

    fn answered(version: i16, topic: &str, id: Uuid, code: i16) -> CreatableTopicResult {
        CreatableTopicResult::default()
            .with_name(name(topic))
            .with_topic_id(if version >= 7 { id } else { Uuid::nil() })
            .with_error_code(code)
            .with_error_message(None)
    }

    #[test]
    fn brokers_in_ids_out() {
        for version in versions::<CreateTopicsRequest>() {
            let request_of = |topics| CreateTopicsRequest::default().with_topics(topics);
            let req = request_of(vec![asked("orders", [101, 103, 2]), asked(HIDDEN, [101])]);
            let want = request_of(vec![asked("orders", [1, 3, NO_SUCH_BROKER])]);
            assert_eq!(to_cluster(version, &req), want, "v{version}");

            let resp = CreateTopicsResponse::default().with_topics(vec![answered(version, "orders", real_id(1), 0)]);
            let refused = answered(version, HIDDEN, Uuid::nil(), 17);
            let want = resp.clone().with_topics(vec![answered(version, "orders", virtual_id(1), 0), refused.clone()]);
            assert_eq!(to_client(version, &req, &resp), want, "v{version}");

            let dry_run = req.with_validate_only(true);
            let want = resp.clone().with_topics(vec![answered(version, "orders", real_id(1), 0), refused]);
            assert_eq!(to_client(version, &dry_run, &resp), want, "v{version}");
        }
    }

    #[test]
    fn a_made_up_error_answers_every_topic() {
        for version in versions::<CreateTopicsRequest>() {
            let req = CreateTopicsRequest::default().with_topics(vec![asked("orders", [101])]);
            let want = CreateTopicsResponse::default().with_topics(vec![answered(version, "orders", Uuid::nil(), 41)]);
            assert_eq!(made_up(version, &req, 41), want, "v{version}");
        }
    }
}
