//! Metadata (key 3): cluster id, brokers, controller, leaders, replicas, epochs, topic ids; hidden topics stay hidden.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse};

use super::Translate;
use super::ids::{
    UNKNOWN_TOPIC_OR_PARTITION, broker_out, brokers_out, controller_out, hidden_id, str_bytes, topic_id_in,
    topic_id_out, unknown_topic,
};

/// Topic ids in (v10+). Hidden topics stay in the request and are covered up in the reply: an emptied list would mean
/// "all topics" to v0.
pub fn request(req: &mut MetadataRequest, t: &dyn Translate) {
    for topic in req.topics.iter_mut().flatten() {
        topic_id_in(t, &mut topic.topic_id);
    }
}

/// Everything that names the cluster, its brokers or its topics out.
pub fn response(req: &MetadataRequest, resp: &mut MetadataResponse, t: &dyn Translate) {
    if let Some(id) = &mut resp.cluster_id {
        *id = str_bytes(t.cluster_id());
    }
    brokers(resp, t);
    // An empty list is "all" in v0 and "none" later; either way nobody asked for a topic in particular.
    let asked = req.topics.as_deref().unwrap_or_default();
    resp.topics.retain_mut(|topic| {
        topic_id_out(t, topic.name.as_deref().map(|name| &**name), &mut topic.topic_id);
        let is_hidden = match &topic.name {
            Some(name) => t.hidden(name),
            None => hidden_id(t, topic.topic_id),
        };
        if is_hidden {
            return cover(topic, asked);
        }
        for p in &mut topic.partitions {
            partition_out(p, t);
        }
        true
    });
}

fn brokers(resp: &mut MetadataResponse, t: &dyn Translate) {
    let real = std::mem::take(&mut resp.brokers);
    let alive: Vec<i32> = real.iter().map(|b| b.node_id.0).collect();
    let shown = t.brokers(&alive);
    resp.controller_id = controller_out(t, resp.controller_id, &shown);
    for (id, host, port) in shown {
        let behind = t.broker_in(id).and_then(|r| real.iter().find(|b| b.node_id.0 == r));
        resp.brokers.push(
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(id))
                .with_host(host.into())
                .with_port(i32::from(port))
                .with_rack(behind.and_then(|b| b.rack.clone())),
        );
    }
}

/// Turns the entry of a hidden topic into what a cluster answers for a topic that it does not have. `false`: nobody asked
/// for it, so it goes.
fn cover(topic: &mut MetadataResponseTopic, asked: &[MetadataRequestTopic]) -> bool {
    let by_name = asked.iter().any(|a| a.topic_id.is_nil() && a.name == topic.name);
    let by_id = asked.iter().find(|a| !a.topic_id.is_nil() && a.topic_id == topic.topic_id);
    let entry = if by_name {
        MetadataResponseTopic::default().with_error_code(UNKNOWN_TOPIC_OR_PARTITION).with_name(topic.name.clone())
    } else if let Some(a) = by_id {
        MetadataResponseTopic::default()
            .with_error_code(unknown_topic(a.topic_id))
            .with_name(a.name.clone())
            .with_topic_id(a.topic_id)
    } else {
        return false;
    };
    *topic = entry;
    true
}

fn partition_out(p: &mut MetadataResponsePartition, t: &dyn Translate) {
    let had_leader = p.leader_id.0 >= 0;
    broker_out(t, &mut p.leader_id);
    if had_leader && p.leader_id.0 < 0 && p.error_code == 0 {
        p.error_code = ResponseError::LeaderNotAvailable.code();
    }
    p.leader_epoch = t.epoch_out(p.leader_epoch);
    brokers_out(t, &mut p.replica_nodes);
    brokers_out(t, &mut p.isr_nodes);
    brokers_out(t, &mut p.offline_replicas);
}

/// A reply in which every topic of `req` carries `code`. It lists no brokers, which clients take for a failed update and
/// try again, also where they asked for all topics and there is no entry to carry the code (before v13).
pub fn error(req: &MetadataRequest, code: i16) -> MetadataResponse {
    let topic = |a: &MetadataRequestTopic| {
        MetadataResponseTopic::default().with_error_code(code).with_name(a.name.clone()).with_topic_id(a.topic_id)
    };
    MetadataResponse::default().with_error_code(code).with_topics(req.topics.iter().flatten().map(topic).collect())
}
