//! Fetch (key 1): offsets, epochs, leaders, endpoints and topic ids; always without a fetch session.

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
fn incremental(req: &FetchRequest) -> bool {
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
