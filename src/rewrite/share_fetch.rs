//! ShareFetch (key 78, KIP-932): acknowledged and acquired ranges of offsets, batches, leaders, endpoints, topic ids. The share
//! session stays the client's and the broker's: after a cutover the new broker says that it does not know it, upon which
//! clients open another one.

use bytes::Bytes;
use kafka_protocol::messages::share_fetch_request::{AcknowledgementBatch, FetchTopic};
use kafka_protocol::messages::share_fetch_response::{AcquiredRecords, PartitionData, ShareFetchableTopicResponse};
use kafka_protocol::messages::{BrokerId, ShareFetchRequest, ShareFetchResponse};

use super::acknowledged::{Acknowledged, acknowledged_in};
use super::ids::{UNKNOWN_TOPIC_ID, endpoint_out, hidden_id, leader_out, topic_id_in, topic_id_out};
use super::{Stretch, Translate};

/// Acknowledged ranges and topic ids in; hidden topics out of the request.
pub fn request(req: &mut ShareFetchRequest, t: &dyn Translate) {
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
            p.acknowledgement_batches = told.map(batch).collect();
        }
    }
    for topic in &mut req.forgotten_topics_data {
        topic_id_in(t, &mut topic.topic_id);
    }
}

fn batch(said: Acknowledged) -> AcknowledgementBatch {
    AcknowledgementBatch::default()
        .with_first_offset(said.first)
        .with_last_offset(said.last)
        .with_acknowledge_types(said.types)
}

/// Acquired ranges, batches, leaders, endpoints and topic ids out.
pub fn response(req: &ShareFetchRequest, resp: &mut ShareFetchResponse, t: &dyn Translate) {
    resp.node_endpoints.retain_mut(|e| endpoint_out(t, &mut e.node_id, &mut e.host, &mut e.port));
    for topic in &mut resp.responses {
        topic_id_out(t, None, &mut topic.topic_id);
        let name = t.topic_name(topic.topic_id);
        for p in &mut topic.partitions {
            let mut leader = BrokerId(p.current_leader.leader_id);
            leader_out(t, &mut leader, &mut p.current_leader.leader_epoch);
            p.current_leader.leader_id = leader.0;
            let records = p.records.take().unwrap_or_default();
            let Some(name) = &name else {
                p.records = Some(records);
                continue;
            };
            p.records =
                Some(if records.is_empty() { records } else { t.batches_out(name, p.partition_index, records) });
            let acquired = std::mem::take(&mut p.acquired_records);
            p.acquired_records = acquired.iter().flat_map(|a| acquired_out(a, name, p.partition_index, t)).collect();
        }
    }
    let hidden = req.topics.iter().filter(|topic| hidden_id(t, topic.topic_id));
    resp.responses.extend(hidden.map(|topic| topic_error(topic, UNKNOWN_TOPIC_ID)));
}

fn acquired_out(a: &AcquiredRecords, topic: &str, partition: i32, t: &dyn Translate) -> Vec<AcquiredRecords> {
    let pieces = t.stretches_out(topic, partition, a.first_offset, a.last_offset).into_iter();
    let piece = |s: Stretch| a.clone().with_first_offset(s.to).with_last_offset(s.to.saturating_add(s.count - 1));
    pieces.map(piece).collect()
}

/// What of a range of the cluster's offsets, both ends included, has no logical offset: clients are not told of it and cannot
/// acknowledge it.
pub fn unnamed(topic: &str, partition: i32, first: i64, last: i64, t: &dyn Translate) -> Vec<(i64, i64)> {
    let mut unnamed = Vec::new();
    let mut next = first;
    for named in t.stretches_out(topic, partition, first, last) {
        if named.from > next {
            unnamed.push((next, named.from - 1));
        }
        next = named.from.saturating_add(named.count);
    }
    if next <= last {
        unnamed.push((next, last));
    }
    unnamed
}

/// A reply in which every partition of `req` carries `code`.
pub fn error(req: &ShareFetchRequest, code: i16) -> ShareFetchResponse {
    ShareFetchResponse::default().with_responses(req.topics.iter().map(|topic| topic_error(topic, code)).collect())
}

fn topic_error(topic: &FetchTopic, code: i16) -> ShareFetchableTopicResponse {
    let partition = |index| {
        let data = PartitionData::default().with_partition_index(index).with_error_code(code);
        let mut data = data.with_records(Some(Bytes::new()));
        (data.current_leader.leader_id, data.current_leader.leader_epoch) = (-1, -1);
        data
    };
    ShareFetchableTopicResponse::default()
        .with_topic_id(topic.topic_id)
        .with_partitions(topic.partitions.iter().map(|p| partition(p.partition_index)).collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::share_fetch_request::{FetchPartition, ForgottenTopic};
    use kafka_protocol::messages::share_fetch_response::{LeaderIdAndEpoch, NodeEndpoint};
    use uuid::Uuid;

    use super::super::tests::{EPOCH, FakeTranslate, real_id, to_client, to_cluster, versions, virtual_id};
    use super::*;

    fn asked(id: Uuid, batches: &[(i64, i64)]) -> FetchTopic {
        let batches = batches.iter().map(|&(first, last)| batch(Acknowledged { first, last, types: vec![1] }));
        let p = FetchPartition::default().with_partition_index(4).with_acknowledgement_batches(batches.collect());
        FetchTopic::default().with_topic_id(id).with_partitions(vec![p])
    }

    fn ranges(ranges: &[(i64, i64)]) -> Vec<AcquiredRecords> {
        let acquired = |&(first, last): &(i64, i64)| {
            AcquiredRecords::default().with_first_offset(first).with_last_offset(last).with_delivery_count(2)
        };
        ranges.iter().map(acquired).collect()
    }

    #[test]
    fn acknowledgements_and_ids_in() {
        for version in versions::<ShareFetchRequest>() {
            let forgotten = |id| vec![ForgottenTopic::default().with_topic_id(id).with_partitions(vec![3])];
            let req = ShareFetchRequest::default()
                .with_share_session_epoch(3)
                .with_topics(vec![asked(virtual_id(1), &[(1001, 1005), (1099, 1110)]), asked(virtual_id(2), &[(1, 2)])])
                .with_forgotten_topics_data(forgotten(virtual_id(1)));
            let want = req
                .clone()
                .with_topics(vec![asked(real_id(1), &[(1, 5), (99, 99), (110, 110)])])
                .with_forgotten_topics_data(forgotten(real_id(1)));
            assert_eq!(to_cluster(version, &req), want, "v{version}");
        }
    }

    #[test]
    fn acquired_ranges_batches_and_leaders_out() {
        for version in versions::<ShareFetchRequest>() {
            let leader = |id, epoch| LeaderIdAndEpoch::default().with_leader_id(id).with_leader_epoch(epoch);
            let topic = |id, p: PartitionData| {
                let topic = ShareFetchableTopicResponse::default().with_topic_id(id);
                topic.with_partitions(vec![p.with_partition_index(4)])
            };
            let node = |id, host: &'static str, port| {
                NodeEndpoint::default().with_node_id(BrokerId(id)).with_host(host.into()).with_port(port)
            };
            let real = PartitionData::default()
                .with_current_leader(leader(2, 7))
                .with_records(Some(Bytes::from_static(b"batches")))
                .with_acquired_records(ranges(&[(1, 5), (95, 112)]));
            let shown = PartitionData::default()
                .with_current_leader(leader(102, EPOCH))
                .with_records(Some(Bytes::from_static(b"orders/4:batches")))
                .with_acquired_records(ranges(&[(1001, 1005), (1095, 1099), (1110, 1112)]));
            let resp = ShareFetchResponse::default()
                .with_responses(vec![topic(real_id(1), real)])
                .with_node_endpoints(vec![node(2, "east-2", 1), node(9, "east-9", 1)]);
            let req = ShareFetchRequest::default().with_topics(vec![asked(virtual_id(2), &[])]);
            let want = ShareFetchResponse::default()
                .with_responses(vec![topic(virtual_id(1), shown), topic_error(&req.topics[0], 100)])
                .with_node_endpoints(vec![node(102, "v102", 9102)]);
            assert_eq!(to_client(version, &req, &resp), want, "v{version}");
        }
    }

    #[test]
    fn what_has_no_name_is_told_apart() {
        let unnamed = |first, last| unnamed("orders", 4, first, last, &FakeTranslate);
        assert_eq!(unnamed(1, 99), []);
        assert_eq!(unnamed(95, 112), [(100, 109)]);
        assert_eq!(unnamed(95, 103), [(100, 103)]);
        assert_eq!(unnamed(103, 120), [(103, 109)]);
        assert_eq!(unnamed(103, 105), [(103, 105)]);
    }
}
