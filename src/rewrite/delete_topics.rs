//! DeleteTopics (key 20): topic ids both ways (v6+); hidden topics cannot be deleted.

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use uuid::Uuid;

use super::Translate;
use super::ids::{hidden_id, topic_id_in, topic_id_out, unknown_topic};

fn state_hidden(topic: &DeleteTopicState, t: &dyn Translate) -> bool {
    match &topic.name {
        Some(name) => t.hidden(name),
        None => hidden_id(t, topic.topic_id),
    }
}

/// Topic ids in.
pub fn request(req: &mut DeleteTopicsRequest, t: &dyn Translate) {
    req.topic_names.retain(|name| !t.hidden(name));
    req.topics.retain(|topic| !state_hidden(topic, t));
    for topic in &mut req.topics {
        topic_id_in(t, &mut topic.topic_id);
    }
}

/// Topic ids out.
pub fn response(req: &DeleteTopicsRequest, resp: &mut DeleteTopicsResponse, t: &dyn Translate) {
    for r in &mut resp.responses {
        topic_id_out(t, r.name.as_deref().map(|name| &**name), &mut r.topic_id);
    }
    for name in req.topic_names.iter().filter(|name| t.hidden(name)) {
        resp.responses.push(result(Some(name.clone()), Uuid::nil(), unknown_topic(Uuid::nil())));
    }
    for topic in req.topics.iter().filter(|topic| state_hidden(topic, t)) {
        resp.responses.push(result(topic.name.clone(), topic.topic_id, unknown_topic(topic.topic_id)));
    }
}

/// A reply in which every topic of `req` carries `code`.
pub fn error(req: &DeleteTopicsRequest, code: i16) -> DeleteTopicsResponse {
    let by_name = req.topic_names.iter().map(|name| result(Some(name.clone()), Uuid::nil(), code));
    let by_state = req.topics.iter().map(|topic| result(topic.name.clone(), topic.topic_id, code));
    DeleteTopicsResponse::default().with_responses(by_name.chain(by_state).collect())
}

fn result(name: Option<TopicName>, id: Uuid, code: i16) -> DeletableTopicResult {
    DeletableTopicResult::default().with_name(name).with_topic_id(id).with_error_code(code)
}
