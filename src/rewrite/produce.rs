//! Produce (key 0): offsets, leaders and endpoints of the reply, topic ids of both. The batches are the proxy's business.

mod lying;

pub use lying::{Sent, SentPart, Stored, put, sent, stored};

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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::produce_request::PartitionProduceData;
    use kafka_protocol::messages::produce_response::{LeaderIdAndEpoch, NodeEndpoint};
    use uuid::Uuid;

    use super::super::tests::{EPOCH, HIDDEN, made_up, name, real_id, to_client, to_cluster, versions, virtual_id};
    use super::*;

    const BY_ID: i16 = 13;

    fn asked(version: i16, topic: &str, id: Uuid) -> TopicProduceData {
        let data = TopicProduceData::default().with_partition_data(vec![
            PartitionProduceData::default().with_index(4).with_records(Some(Bytes::from_static(b"batch"))),
        ]);
        if version >= BY_ID { data.with_topic_id(id) } else { data.with_name(name(topic)) }
    }

    fn answered(version: i16, id: Uuid, p: PartitionProduceResponse) -> TopicProduceResponse {
        let topic = TopicProduceResponse::default().with_partition_responses(vec![p.with_index(4)]);
        if version >= BY_ID { topic.with_topic_id(id) } else { topic.with_name(name("orders")) }
    }

    #[test]
    fn names_and_ids() {
        for version in versions::<ProduceRequest>() {
            let orders = asked(version, "orders", virtual_id(1));
            let hidden = asked(version, HIDDEN, virtual_id(2));
            let req = ProduceRequest::default().with_acks(-1).with_topic_data(vec![orders, hidden]);
            let want = req.clone().with_topic_data(vec![asked(version, "orders", real_id(1))]);
            assert_eq!(to_cluster(version, &req), want, "v{version}");

            let start = if version >= 5 { 7 } else { -1 };
            let real = PartitionProduceResponse::default().with_base_offset(42).with_log_start_offset(start);
            let reply = ProduceResponse::default().with_responses(vec![answered(version, real_id(1), real.clone())]);
            let got = to_client(version, &req, &reply);
            let start = if version >= 5 { 1007 } else { -1 };
            let shown = real.with_base_offset(1042).with_log_start_offset(start);
            assert_eq!(got.responses[0], answered(version, virtual_id(1), shown), "v{version}");
            let refused = &got.responses[1];
            assert_eq!(refused.partition_responses[0].error_code, if version >= BY_ID { 100 } else { 3 });
            assert_eq!(refused.partition_responses[0].base_offset, -1);
        }
    }

    #[test]
    fn leader_hints_are_virtual_or_absent() {
        let endpoint = |id: i32, host: &'static str, port| {
            NodeEndpoint::default()
                .with_node_id(BrokerId(id))
                .with_host(host.into())
                .with_port(port)
                .with_rack(Some("rack".into()))
        };
        let hint = |id: i32, epoch| {
            PartitionProduceResponse::default()
                .with_error_code(6)
                .with_base_offset(-1)
                .with_current_leader(LeaderIdAndEpoch::default().with_leader_id(BrokerId(id)).with_leader_epoch(epoch))
        };
        for (real, shown) in [((2, 7), (102, EPOCH)), ((9, 7), (-1, -1)), ((-1, -1), (-1, -1))] {
            let req = ProduceRequest::default();
            let reply = ProduceResponse::default()
                .with_responses(vec![answered(13, real_id(1), hint(real.0, real.1))])
                .with_node_endpoints(vec![endpoint(2, "east-2", 19092), endpoint(9, "east-9", 19099)]);
            let want = ProduceResponse::default()
                .with_responses(vec![answered(13, virtual_id(1), hint(shown.0, shown.1))])
                .with_node_endpoints(vec![endpoint(102, "v102", 9102)]);
            assert_eq!(to_client(13, &req, &reply), want);
        }
    }

    #[test]
    fn a_made_up_error_answers_every_partition() {
        for version in versions::<ProduceRequest>() {
            let req = ProduceRequest::default().with_topic_data(vec![asked(version, "orders", virtual_id(1))]);
            let p = PartitionProduceResponse::default().with_error_code(120).with_base_offset(-1);
            let want = ProduceResponse::default().with_responses(vec![answered(version, virtual_id(1), p)]);
            assert_eq!(made_up(version, &req, 120), want, "v{version}");
        }
    }
}
