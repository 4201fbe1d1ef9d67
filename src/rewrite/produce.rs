//! Produce (key 0): offsets, leaders and endpoints of the reply, topic ids of both. The batches are the proxy's business.

use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::Translate;
use super::ids::{endpoint_out, hidden, leader_out, name_of, topic_id_in, topic_id_out, unknown_topic};

/// Topic ids in (v13+). Record bytes are not looked at.
pub fn request(req: &mut ProduceRequest, t: &dyn Translate) {
    req.topic_data.retain(|topic| !hidden(t, &topic.name, topic.topic_id));
    for topic in &mut req.topic_data {
        topic_id_in(t, &mut topic.topic_id);
    }
}

/// Offsets, current leader, endpoints (v10+, KIP-951) and topic ids (v13+) out.
pub fn response(req: &ProduceRequest, resp: &mut ProduceResponse, t: &dyn Translate) {
    resp.node_endpoints.retain_mut(|e| endpoint_out(t, &mut e.node_id, &mut e.host, &mut e.port));
    for topic in &mut resp.responses {
        topic_id_out(t, None, &mut topic.topic_id);
        let name = name_of(t, &topic.name, topic.topic_id);
        for p in &mut topic.partition_responses {
            leader_out(t, &mut p.current_leader.leader_id, &mut p.current_leader.leader_epoch);
            // A topic that nobody can name has no offset map; its reply is an UNKNOWN_TOPIC_ID error without offsets.
            if let Some(name) = &name {
                p.base_offset = t.offset_out(name, p.index, p.base_offset);
                p.log_start_offset = t.offset_out(name, p.index, p.log_start_offset);
            }
        }
    }
    let refused = req.topic_data.iter().filter(|topic| hidden(t, &topic.name, topic.topic_id));
    resp.responses.extend(refused.map(|topic| topic_error(topic, unknown_topic(topic.topic_id))));
}

/// A reply in which every partition of `req` carries `code`.
pub fn error(req: &ProduceRequest, code: i16) -> ProduceResponse {
    ProduceResponse::default().with_responses(req.topic_data.iter().map(|topic| topic_error(topic, code)).collect())
}

fn topic_error(topic: &TopicProduceData, code: i16) -> TopicProduceResponse {
    let partition =
        |index| PartitionProduceResponse::default().with_index(index).with_error_code(code).with_base_offset(-1);
    TopicProduceResponse::default()
        .with_name(topic.name.clone())
        .with_topic_id(topic.topic_id)
        .with_partition_responses(topic.partition_data.iter().map(|p| partition(p.index)).collect())
}
