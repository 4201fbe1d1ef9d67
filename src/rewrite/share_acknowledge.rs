//! ShareAcknowledge (key 79, KIP-932): acknowledged ranges of offsets, leaders, endpoints, topic ids.

use kafka_protocol::messages::share_acknowledge_request::AcknowledgementBatch;
use kafka_protocol::messages::share_acknowledge_response::{PartitionData, ShareAcknowledgeTopicResponse};
use kafka_protocol::messages::{BrokerId, ShareAcknowledgeRequest, ShareAcknowledgeResponse};

use super::Translate;
use super::acknowledged::{Acknowledged, acknowledged_in};
use super::ids::{UNKNOWN_TOPIC_ID, endpoint_out, hidden_id, leader_out, topic_id_in, topic_id_out};

/// Acknowledged ranges and topic ids in; hidden topics out of the request.
pub fn request(req: &mut ShareAcknowledgeRequest, t: &dyn Translate) {
    req.topics.retain(|topic| !hidden_id(t, topic.topic_id));
    for topic in &mut req.topics {
        let name = t.topic_name(topic.topic_id);
        topic_id_in(t, &mut topic.topic_id);
        let Some(name) = name else { continue };
        for p in &mut topic.partitions {
            let said = std::mem::take(&mut p.acknowledgement_batches).into_iter();
            let said =
                said.map(|b| Acknowledged { first: b.first_offset, last: b.last_offset, types: b.acknowledge_types });
            let told = said.flat_map(|said| acknowledged_in(t, &name, p.partition_index, said));
            let batch = |said: Acknowledged| {
                AcknowledgementBatch::default()
                    .with_first_offset(said.first)
                    .with_last_offset(said.last)
                    .with_acknowledge_types(said.types)
            };
            p.acknowledgement_batches = told.map(batch).collect();
        }
    }
}

/// Leaders, endpoints and topic ids out.
pub fn response(req: &ShareAcknowledgeRequest, resp: &mut ShareAcknowledgeResponse, t: &dyn Translate) {
    resp.node_endpoints.retain_mut(|e| endpoint_out(t, &mut e.node_id, &mut e.host, &mut e.port));
    for topic in &mut resp.responses {
        topic_id_out(t, None, &mut topic.topic_id);
        for p in &mut topic.partitions {
            let mut leader = BrokerId(p.current_leader.leader_id);
            leader_out(t, &mut leader, &mut p.current_leader.leader_epoch);
            p.current_leader.leader_id = leader.0;
        }
    }
    for topic in req.topics.iter().filter(|topic| hidden_id(t, topic.topic_id)) {
        let partition = |index| {
            let mut data = PartitionData::default().with_partition_index(index).with_error_code(UNKNOWN_TOPIC_ID);
            (data.current_leader.leader_id, data.current_leader.leader_epoch) = (-1, -1);
            data
        };
        resp.responses.push(
            ShareAcknowledgeTopicResponse::default()
                .with_topic_id(topic.topic_id)
                .with_partitions(topic.partitions.iter().map(|p| partition(p.partition_index)).collect()),
        );
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::share_acknowledge_request::{AcknowledgePartition, AcknowledgeTopic};
    use kafka_protocol::messages::share_acknowledge_response::{LeaderIdAndEpoch, NodeEndpoint};
    use uuid::Uuid;

    use super::super::tests::{EPOCH, real_id, to_client, to_cluster, versions, virtual_id};
    use super::*;

    fn asked(id: Uuid, first: i64, last: i64, types: &[i8]) -> AcknowledgeTopic {
        let batch = AcknowledgementBatch::default()
            .with_first_offset(first)
            .with_last_offset(last)
            .with_acknowledge_types(types.to_vec());
        let p = AcknowledgePartition::default().with_partition_index(4).with_acknowledgement_batches(vec![batch]);
        AcknowledgeTopic::default().with_topic_id(id).with_partitions(vec![p])
    }

    #[test]
    fn ranges_and_ids_in_leaders_out() {
        for version in versions::<ShareAcknowledgeRequest>() {
            let of = |topics| ShareAcknowledgeRequest::default().with_share_session_epoch(3).with_topics(topics);
            let req = of(vec![asked(virtual_id(1), 1001, 1003, &[1, 2, 3]), asked(virtual_id(2), 1, 2, &[1])]);
            assert_eq!(to_cluster(version, &req), of(vec![asked(real_id(1), 1, 3, &[1, 2, 3])]), "v{version}");

            let answer = |id, leader, epoch, code| {
                let leader = LeaderIdAndEpoch::default().with_leader_id(leader).with_leader_epoch(epoch);
                let p = PartitionData::default().with_partition_index(4).with_current_leader(leader);
                let topic = ShareAcknowledgeTopicResponse::default().with_topic_id(id);
                topic.with_partitions(vec![p.with_error_code(code)])
            };
            let node = |id, host: &'static str, port| {
                NodeEndpoint::default().with_node_id(BrokerId(id)).with_host(host.into()).with_port(port)
            };
            let resp = ShareAcknowledgeResponse::default()
                .with_responses(vec![answer(real_id(1), 2, 7, 6)])
                .with_node_endpoints(vec![node(2, "east-2", 1)]);
            let want = ShareAcknowledgeResponse::default()
                .with_responses(vec![answer(virtual_id(1), 102, EPOCH, 6), answer(virtual_id(2), -1, -1, 100)])
                .with_node_endpoints(vec![node(102, "v102", 9102)]);
            assert_eq!(to_client(version, &req, &resp), want, "v{version}");
        }
    }
}
