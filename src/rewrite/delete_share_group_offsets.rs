//! DeleteShareGroupOffsets (key 92, KIP-932): topic ids out.

use kafka_protocol::messages::delete_share_group_offsets_response::DeleteShareGroupOffsetsResponseTopic;
use kafka_protocol::messages::{DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse};

use super::Translate;
use super::ids::{UNKNOWN_TOPIC_OR_PARTITION, topic_id_out};

/// Hidden topics out of the request.
pub fn request(req: &mut DeleteShareGroupOffsetsRequest, t: &dyn Translate) {
    req.topics.retain(|topic| !t.hidden(&topic.topic_name));
}

/// Topic ids out.
pub fn response(req: &DeleteShareGroupOffsetsRequest, resp: &mut DeleteShareGroupOffsetsResponse, t: &dyn Translate) {
    for topic in &mut resp.responses {
        topic_id_out(t, Some(&topic.topic_name), &mut topic.topic_id);
    }
    let hidden = req.topics.iter().filter(|topic| t.hidden(&topic.topic_name));
    resp.responses.extend(hidden.map(|topic| {
        DeleteShareGroupOffsetsResponseTopic::default()
            .with_topic_name(topic.topic_name.clone())
            .with_error_code(UNKNOWN_TOPIC_OR_PARTITION)
    }));
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
    use uuid::Uuid;

    use super::super::tests::{HIDDEN, name, real_id, to_client, to_cluster, versions, virtual_id};
    use super::*;

    #[test]
    fn topic_ids_out() {
        for version in versions::<DeleteShareGroupOffsetsRequest>() {
            let asked = |topics: &[&str]| {
                let topic = |t: &&str| DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(name(t));
                DeleteShareGroupOffsetsRequest::default().with_topics(topics.iter().map(topic).collect())
            };
            let answered = |topic, id: Uuid, code| {
                let row = DeleteShareGroupOffsetsResponseTopic::default().with_topic_name(name(topic));
                row.with_topic_id(id).with_error_code(code)
            };
            let of = |topics| DeleteShareGroupOffsetsResponse::default().with_responses(topics);
            let req = asked(&["orders", HIDDEN]);
            assert_eq!(to_cluster(version, &req), asked(&["orders"]), "v{version}");
            let want = of(vec![answered("orders", virtual_id(1), 0), answered(HIDDEN, Uuid::nil(), 3)]);
            assert_eq!(to_client(version, &req, &of(vec![answered("orders", real_id(1), 0)])), want, "v{version}");
        }
    }
}
