//! Fetch (key 1): offsets, epochs, leaders, endpoints and topic ids; always without a fetch session.

mod patch;
mod thin;

pub use patch::{Part, patch};
pub use thin::Thin;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchTopic, ReplicaState};
use kafka_protocol::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use uuid::Uuid;

use super::ids::{
    broker_out, endpoint_out, epoch_in, hidden, leader_out, name_of, topic_id_in, topic_id_out, unknown_topic,
};
use super::{RewriteError, Translate};

/// KIP-227: a full fetch that opens no session. A session would live on one cluster only and not survive a cutover.
const NO_SESSION_EPOCH: i32 = -1;
/// KIP-1166's "no high watermark given", the schema's default.
const NO_HIGH_WATERMARK: i64 = i64::MAX;

/// An incremental request, for a session that the proxy never gave.
pub fn incremental(req: &FetchRequest) -> bool {
    req.session_epoch != 0 && req.session_epoch != NO_SESSION_EPOCH
}

/// Offsets, epochs and topic ids (v13+) in; everything that belongs to followers and sessions is taken out.
///
/// # Errors
/// [`RewriteError::Refused`] for a client that poses as a follower: its fetches would move the high watermark.
pub fn request(req: &mut FetchRequest, t: &dyn Translate) -> Result<(), RewriteError> {
    if req.replica_id.0 >= 0 || req.replica_state.replica_id.0 >= 0 {
        return Err(RewriteError::Refused("a Fetch with a replica id: followers do not go through the proxy"));
    }
    if incremental(req) {
        // The listed partitions are only those that changed: fetching them would starve the others in silence. The
        // cluster gets an empty fetch and the reply says that the session is unknown, upon which the client lists all.
        req.topics.clear();
        req.max_wait_ms = 0;
    }
    req.cluster_id = None;
    req.replica_id = BrokerId(-1);
    req.replica_state = ReplicaState::default();
    req.session_id = 0;
    req.session_epoch = NO_SESSION_EPOCH;
    req.forgotten_topics_data.clear();
    req.topics.retain(|topic| !hidden(t, &topic.topic, topic.topic_id));
    for topic in &mut req.topics {
        let name = name_of(t, &topic.topic, topic.topic_id);
        topic_id_in(t, &mut topic.topic_id);
        for p in &mut topic.partitions {
            epoch_in(t, &mut p.current_leader_epoch);
            // With it the cluster would answer a diverging epoch (KIP-595), in real epochs and without records.
            p.last_fetched_epoch = -1;
            p.log_start_offset = -1;
            p.replica_directory_id = Uuid::nil();
            p.high_watermark = NO_HIGH_WATERMARK;
            if let Some(name) = &name {
                p.fetch_offset = t.offset_in(name, p.partition, p.fetch_offset);
            }
        }
    }
    Ok(())
}

/// Offsets, batches, leaders, endpoints (v16+, KIP-951) and topic ids (v13+) out.
pub fn response(req: &FetchRequest, resp: &mut FetchResponse, t: &dyn Translate) {
    resp.session_id = 0;
    if incremental(req) {
        resp.error_code = ResponseError::FetchSessionIdNotFound.code();
        resp.responses.clear();
        resp.node_endpoints.clear();
        return;
    }
    resp.node_endpoints.retain_mut(|e| endpoint_out(t, &mut e.node_id, &mut e.host, &mut e.port));
    for topic in &mut resp.responses {
        topic_id_out(t, None, &mut topic.topic_id);
        let name = name_of(t, &topic.topic, topic.topic_id);
        for p in &mut topic.partitions {
            partition_out(p, name.as_deref(), t);
        }
    }
    let refused = req.topics.iter().filter(|topic| hidden(t, &topic.topic, topic.topic_id));
    resp.responses.extend(refused.map(|topic| topic_error(topic, unknown_topic(topic.topic_id))));
}

fn partition_out(p: &mut PartitionData, name: Option<&str>, t: &dyn Translate) {
    leader_out(t, &mut p.current_leader.leader_id, &mut p.current_leader.leader_epoch);
    broker_out(t, &mut p.preferred_read_replica);
    p.diverging_epoch = EpochEndOffset::default();
    // Length 0, not null: librdkafka takes null for a broken frame and never reads the error code.
    let records = p.records.take().unwrap_or_default();
    let Some(name) = name else {
        p.records = Some(records);
        return;
    };
    let offset = |o: i64| t.offset_out(name, p.partition_index, o);
    p.high_watermark = offset(p.high_watermark);
    p.last_stable_offset = offset(p.last_stable_offset);
    p.log_start_offset = offset(p.log_start_offset);
    for aborted in p.aborted_transactions.iter_mut().flatten() {
        aborted.first_offset = offset(aborted.first_offset);
    }
    p.records = Some(if records.is_empty() { records } else { t.batches_out(name, p.partition_index, records) });
}

/// A reply in which every partition of `req` carries `code` and records of length 0.
pub fn error(req: &FetchRequest, code: i16) -> FetchResponse {
    FetchResponse::default().with_responses(req.topics.iter().map(|topic| topic_error(topic, code)).collect())
}

fn topic_error(topic: &FetchTopic, code: i16) -> FetchableTopicResponse {
    let partition = |index| {
        PartitionData::default()
            .with_partition_index(index)
            .with_error_code(code)
            .with_high_watermark(-1)
            .with_records(Some(Bytes::new()))
    };
    FetchableTopicResponse::default()
        .with_topic(topic.topic.clone())
        .with_topic_id(topic.topic_id)
        .with_partitions(topic.partitions.iter().map(|p| partition(p.partition)).collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_request::{FetchPartition, ForgottenTopic};
    use kafka_protocol::messages::fetch_response::{AbortedTransaction, LeaderIdAndEpoch, NodeEndpoint};
    use kafka_protocol::protocol::Request;

    use super::super::codec::{Side, encode};
    use super::super::tests::{
        EPOCH, FakeTranslate, HIDDEN, OLD_EPOCH, made_up, name, real_id, to_client, to_cluster, versions, virtual_id,
    };
    use super::*;

    const BY_ID: i16 = 13;

    fn asked(version: i16, topic: &str, id: Uuid, p: FetchPartition) -> FetchTopic {
        let t = FetchTopic::default().with_partitions(vec![p.with_partition(4).with_partition_max_bytes(1 << 20)]);
        if version >= BY_ID { t.with_topic_id(id) } else { t.with_topic(name(topic)) }
    }

    fn answered(version: i16, id: Uuid, p: PartitionData) -> FetchableTopicResponse {
        let t = FetchableTopicResponse::default().with_partitions(vec![p.with_partition_index(4)]);
        if version >= BY_ID { t.with_topic_id(id) } else { t.with_topic(name("orders")) }
    }

    fn consumer() -> FetchRequest {
        FetchRequest::default().with_replica_id(BrokerId(-1)).with_session_epoch(-1).with_max_wait_ms(500)
    }

    #[test]
    fn offsets_and_epochs_in() {
        for version in versions::<FetchRequest>() {
            for (virtual_epoch, real_epoch) in [(EPOCH, 7), (OLD_EPOCH, -1), (-1, -1)] {
                let epoch = |e| if version >= 9 { e } else { -1 };
                let sent = FetchPartition::default()
                    .with_fetch_offset(1042)
                    .with_current_leader_epoch(epoch(virtual_epoch))
                    .with_last_fetched_epoch(if version >= 12 { OLD_EPOCH } else { -1 });
                let mut req = consumer().with_topics(vec![
                    asked(version, "orders", virtual_id(1), sent),
                    asked(version, HIDDEN, virtual_id(2), FetchPartition::default()),
                ]);
                if version >= 11 {
                    req.rack_id = "rack".into();
                    req.cluster_id = Some("virtual-cluster".into());
                    req.forgotten_topics_data = vec![ForgottenTopic::default().with_topic_id(virtual_id(1))];
                }
                let got = FetchPartition::default()
                    .with_fetch_offset(42)
                    .with_current_leader_epoch(epoch(real_epoch))
                    .with_last_fetched_epoch(-1);
                let want = consumer().with_rack_id(req.rack_id.clone()).with_topics(vec![asked(
                    version,
                    "orders",
                    real_id(1),
                    got,
                )]);
                assert_eq!(to_cluster(version, &req), want, "v{version}");
            }
        }
    }

    #[test]
    fn followers_are_refused() {
        let by_field = (FetchRequest::default().with_replica_id(BrokerId(1)), 12);
        let state = ReplicaState::default().with_replica_id(BrokerId(101)).with_replica_epoch(1);
        let by_state = (FetchRequest::default().with_replica_id(BrokerId(-1)).with_replica_state(state), 18);
        for (req, version) in [by_field, by_state] {
            let body = encode(FetchRequest::KEY, version, Side::Request, &req).unwrap();
            let outcome = super::super::request(FetchRequest::KEY, version, &body, &FakeTranslate);
            assert!(matches!(outcome, Err(RewriteError::Refused(_))), "v{version}");
        }
    }

    #[test]
    fn sessions_are_never_opened_and_unknown_when_used() {
        let topics = || vec![asked(12, "orders", virtual_id(1), FetchPartition::default())];
        let open = consumer().with_session_epoch(0).with_topics(topics());
        assert_eq!(to_cluster(12, &open).session_epoch, NO_SESSION_EPOCH);
        assert_eq!(to_client(12, &open, &FetchResponse::default().with_session_id(33)).session_id, 0);

        let use_it = consumer().with_session_id(33).with_session_epoch(2).with_topics(topics());
        assert_eq!(to_cluster(12, &use_it), consumer().with_max_wait_ms(0));
        assert_eq!(to_client(12, &use_it, &FetchResponse::default()).error_code, 70);
    }

    #[test]
    fn offsets_batches_and_leaders_out() {
        for version in versions::<FetchRequest>() {
            let new = |v: i16, value: i64| if version >= v { value } else { -1 };
            let aborted = |offset| Some(vec![AbortedTransaction::default().with_first_offset(offset)]);
            let mut real = PartitionData::default()
                .with_high_watermark(50)
                .with_last_stable_offset(49)
                .with_log_start_offset(new(5, 3))
                .with_aborted_transactions(aborted(45))
                .with_records(Some(Bytes::from_static(b"batches")));
            let mut shown = real
                .clone()
                .with_high_watermark(1050)
                .with_last_stable_offset(1049)
                .with_log_start_offset(new(5, 1003))
                .with_aborted_transactions(aborted(1045))
                .with_records(Some(Bytes::from_static(b"orders/4:batches")));
            if version >= 16 {
                let leader =
                    |id, epoch| LeaderIdAndEpoch::default().with_leader_id(BrokerId(id)).with_leader_epoch(epoch);
                real.preferred_read_replica = BrokerId(3);
                shown.preferred_read_replica = BrokerId(103);
                real.current_leader = leader(2, 7);
                shown.current_leader = leader(102, EPOCH);
                real.diverging_epoch = EpochEndOffset::default().with_epoch(3).with_end_offset(9);
            }
            let hidden = asked(version, HIDDEN, virtual_id(2), FetchPartition::default());
            let req = consumer().with_topics(vec![hidden]);
            let resp = FetchResponse::default().with_responses(vec![answered(version, real_id(1), real)]);
            let got = to_client(version, &req, &resp);
            assert_eq!(got.responses[0], answered(version, virtual_id(1), shown), "v{version}");
            let refused = &got.responses[1].partitions[0];
            assert_eq!(refused.error_code, if version >= BY_ID { 100 } else { 3 });
            assert_eq!(refused.records, Some(Bytes::new()));
        }
    }

    #[test]
    fn null_records_become_empty_ones_and_unnamed_topics_keep_their_offsets() {
        for version in versions::<FetchRequest>() {
            let data = PartitionData::default().with_high_watermark(-1).with_error_code(6).with_records(None);
            let resp = FetchResponse::default().with_responses(vec![answered(version, real_id(1), data)]);
            let got = to_client(version, &consumer(), &resp);
            assert_eq!(got.responses[0].partitions[0].records, Some(Bytes::new()), "v{version}");
            assert_eq!(got.responses[0].partitions[0].high_watermark, -1);
        }
        let data = PartitionData::default().with_high_watermark(50).with_records(Some(Bytes::from_static(b"raw")));
        let endpoint = NodeEndpoint::default().with_node_id(BrokerId(9)).with_host("east-9".into());
        let resp = FetchResponse::default()
            .with_responses(vec![answered(16, real_id(0x77), data.clone())])
            .with_node_endpoints(vec![endpoint]);
        let want = FetchResponse::default().with_responses(vec![answered(16, virtual_id(0x77), data)]);
        assert_eq!(to_client(16, &consumer(), &resp), want);
    }

    #[test]
    fn a_made_up_error_has_records_of_length_0() {
        for version in versions::<FetchRequest>() {
            let req = consumer().with_topics(vec![asked(version, "orders", virtual_id(1), FetchPartition::default())]);
            let p = PartitionData::default().with_error_code(6).with_high_watermark(-1);
            let want = FetchResponse::default().with_responses(vec![answered(version, virtual_id(1), p)]);
            assert_eq!(made_up(version, &req, 6), want, "v{version}");
        }
    }
}
