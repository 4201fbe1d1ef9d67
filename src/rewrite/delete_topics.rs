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

#[cfg(test)]
mod tests {
    use super::super::tests::{HIDDEN, made_up, name, real_id, to_client, to_cluster, versions, virtual_id};
    use super::*;

    const STATES: i16 = 6;

    fn state(topic: Option<&str>, id: Uuid) -> DeleteTopicState {
        DeleteTopicState::default().with_name(topic.map(name)).with_topic_id(id)
    }

    #[test]
    fn by_name() {
        for version in [versions::<DeleteTopicsRequest>()[0], STATES - 1] {
            let request_of = |names: &[&str]| {
                DeleteTopicsRequest::default().with_topic_names(names.iter().map(|n| name(n)).collect())
            };
            let req = request_of(&["orders", HIDDEN]);
            assert_eq!(to_cluster(version, &req), request_of(&["orders"]), "v{version}");
            let answered = |topic, code| result(Some(name(topic)), Uuid::nil(), code);
            let resp = DeleteTopicsResponse::default().with_responses(vec![answered("orders", 0)]);
            let want = resp.clone().with_responses(vec![answered("orders", 0), answered(HIDDEN, 3)]);
            assert_eq!(to_client(version, &req, &resp), want, "v{version}");
            let want = resp.clone().with_responses(vec![answered("orders", 41), answered(HIDDEN, 41)]);
            assert_eq!(made_up(version, &req, 41), want, "v{version}");
        }
    }

    #[test]
    fn by_name_or_id() {
        let request_of = |topics| DeleteTopicsRequest::default().with_topics(topics);
        let hidden = || [state(Some(HIDDEN), Uuid::nil()), state(None, virtual_id(2))];
        let [a, b] = hidden();
        let req = request_of(vec![state(None, virtual_id(1)), a, b]);
        assert_eq!(to_cluster(STATES, &req), request_of(vec![state(None, real_id(1))]));

        let resp = DeleteTopicsResponse::default().with_responses(vec![result(Some(name("orders")), real_id(1), 0)]);
        let want = DeleteTopicsResponse::default().with_responses(vec![
            result(Some(name("orders")), virtual_id(1), 0),
            result(Some(name(HIDDEN)), Uuid::nil(), 3),
            result(None, virtual_id(2), 100),
        ]);
        assert_eq!(to_client(STATES, &req, &resp), want);
        assert_eq!(made_up(STATES, &req, 41).responses[0], result(None, virtual_id(1), 41));
    }
}
