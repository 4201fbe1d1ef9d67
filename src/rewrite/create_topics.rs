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
