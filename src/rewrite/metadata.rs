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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::tests::{
        EPOCH, HIDDEN, ids, made_up, name, real_id, to_client, to_cluster, versions, virtual_id,
    };
    use super::*;

    fn broker(id: i32, host: &'static str, port: i32, version: i16) -> MetadataResponseBroker {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(id))
            .with_host(host.into())
            .with_port(port)
            .with_rack((version >= 1).then(|| "rack".into()))
    }

    fn topic(s: &str, id: Uuid, version: i16) -> MetadataResponseTopic {
        let id = if version >= 10 { id } else { Uuid::nil() };
        MetadataResponseTopic::default().with_name(Some(name(s))).with_topic_id(id)
    }

    fn partition(leader: i32, epoch: i32, replicas: &[i32], version: i16) -> MetadataResponsePartition {
        let list: Vec<_> = replicas.iter().copied().map(BrokerId).collect();
        MetadataResponsePartition::default()
            .with_leader_id(BrokerId(leader))
            .with_leader_epoch(if version >= 7 { epoch } else { -1 })
            .with_replica_nodes(list.clone())
            .with_isr_nodes(list.clone())
            .with_offline_replicas(if version >= 5 { list } else { vec![] })
    }

    #[test]
    fn list_all_is_virtual_and_shows_no_hidden_topic() {
        for version in versions::<MetadataRequest>() {
            let all = MetadataRequest::default().with_topics(if version == 0 { Some(vec![]) } else { None });
            let orders = |id, p| topic("orders", id, version).with_partitions(p);
            let resp = MetadataResponse::default()
                .with_cluster_id((version >= 2).then(|| "east".into()))
                .with_controller_id(BrokerId(if version >= 1 { 2 } else { -1 }))
                .with_brokers(vec![broker(1, "east-1", 19092, version), broker(2, "east-2", 19093, version)])
                .with_topics(vec![
                    orders(real_id(1), vec![partition(2, 7, &[1, 2, 9], version), partition(9, 7, &[9], version)]),
                    topic(HIDDEN, real_id(2), version),
                ]);
            let leaderless = partition(-1, EPOCH, &[], version).with_error_code(5);
            let want = MetadataResponse::default()
                .with_cluster_id((version >= 2).then(|| "virtual-cluster".into()))
                .with_controller_id(BrokerId(if version >= 1 { 102 } else { -1 }))
                .with_brokers(vec![broker(101, "v101", 9101, version), broker(102, "v102", 9102, version)])
                .with_topics(vec![orders(
                    virtual_id(1),
                    vec![partition(102, EPOCH, &[101, 102], version), leaderless],
                )]);
            assert_eq!(to_client(version, &all, &resp), want, "v{version}");
        }
    }

    #[test]
    fn a_hidden_topic_asked_for_is_unknown() {
        let by_name = MetadataRequestTopic::default().with_name(Some(name(HIDDEN)));
        let by_id = MetadataRequestTopic::default().with_name(None).with_topic_id(virtual_id(2));
        for (version, asked, code, shown_id) in
            [(0, by_name.clone(), 3, Uuid::nil()), (13, by_name, 3, Uuid::nil()), (13, by_id, 100, virtual_id(2))]
        {
            let req = MetadataRequest::default().with_topics(Some(vec![asked.clone()]));
            let found = topic(HIDDEN, real_id(2), version).with_partitions(vec![partition(1, 7, &[1], version)]);
            let resp = MetadataResponse::default().with_topics(vec![found]);
            let want =
                MetadataResponseTopic::default().with_error_code(code).with_name(asked.name).with_topic_id(shown_id);
            assert_eq!(to_client(version, &req, &resp).topics, vec![want], "v{version}");
        }
    }

    #[test]
    fn ids_in() {
        let asked = |id| MetadataRequestTopic::default().with_name(None).with_topic_id(id);
        let req = |id| MetadataRequest::default().with_topics(Some(vec![asked(id)]));
        assert_eq!(to_cluster(13, &req(virtual_id(1))), req(real_id(1)));
        assert_eq!(to_cluster(13, &req(Uuid::nil())), req(Uuid::nil()));
    }

    #[test]
    fn a_controller_without_virtual_identity_becomes_the_lowest_broker() {
        for (real, alive, want) in [(9, [3, 2], 102), (1, [3, 2], 102), (3, [3, 2], 103), (-1, [3, 2], -1)] {
            let resp = MetadataResponse::default()
                .with_controller_id(BrokerId(real))
                .with_brokers(ids(alive).into_iter().map(|id| broker(id.0, "east", 1, 13)).collect());
            let got = to_client(13, &MetadataRequest::default().with_topics(None), &resp);
            assert_eq!(got.controller_id, want, "controller {real}");
        }
    }

    #[test]
    fn a_made_up_error_answers_every_topic() {
        for version in versions::<MetadataRequest>() {
            let asked = MetadataRequestTopic::default().with_name(Some(name("orders")));
            let got = made_up(version, &MetadataRequest::default().with_topics(Some(vec![asked])), 5);
            assert_eq!((got.topics.len(), got.topics[0].error_code), (1, 5), "v{version}");
            assert!(got.brokers.is_empty());
        }
    }
}
