//! OffsetForLeaderEpoch (key 23, KIP-320): where an epoch ended. Epochs of earlier generations are answered from the
//! maps: the cluster would say "undefined", upon which consumers jump to `auto.offset.reset`.

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{BrokerId, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::Translate;
use super::ids::{UNKNOWN_TOPIC_OR_PARTITION, epoch_in};

/// Asked of the cluster where the maps know the answer: it never fails, so the cluster's reply is an error only if
/// leadership, authorisation or storage is the trouble.
const HARMLESS_EPOCH: i32 = 0;

/// Epochs in. A client is a consumer, whatever replica id it gives.
pub fn request(req: &mut OffsetForLeaderEpochRequest, t: &dyn Translate) {
    req.replica_id = BrokerId(req.replica_id.0.min(-1));
    req.topics.retain(|topic| !t.hidden(&topic.topic));
    for topic in &mut req.topics {
        for p in &mut topic.partitions {
            epoch_in(t, &mut p.current_leader_epoch);
            match t.epoch_end(&topic.topic, p.partition, p.leader_epoch) {
                Some(_) => p.leader_epoch = HARMLESS_EPOCH,
                None => epoch_in(t, &mut p.leader_epoch),
            }
        }
    }
}

/// Ends of the current generation's epochs from the cluster, of earlier ones from the maps. Every error of the cluster
/// stays: it is about its leadership or the client's rights, which the maps know nothing of.
pub fn response(req: &OffsetForLeaderEpochRequest, resp: &mut OffsetForLeaderEpochResponse, t: &dyn Translate) {
    for topic in &mut resp.topics {
        for p in &mut topic.partitions {
            let asked = requested(req, &topic.topic, p.partition);
            let from_maps = asked.and_then(|e| t.epoch_end(&topic.topic, p.partition, e).map(|end| (e, end)));
            match from_maps {
                Some((epoch, end)) if p.error_code == 0 => (p.leader_epoch, p.end_offset) = (epoch, end),
                Some(_) => (p.leader_epoch, p.end_offset) = (-1, -1),
                None => {
                    p.leader_epoch = t.epoch_out(p.leader_epoch);
                    p.end_offset = t.offset_out(&topic.topic, p.partition, p.end_offset);
                }
            }
        }
    }
    let refused = req.topics.iter().filter(|topic| t.hidden(&topic.topic));
    resp.topics.extend(refused.map(|topic| topic_error(topic, UNKNOWN_TOPIC_OR_PARTITION)));
}

/// The virtual epoch that the client asked about.
fn requested(req: &OffsetForLeaderEpochRequest, topic: &str, partition: i32) -> Option<i32> {
    let of_topic = req.topics.iter().filter(|asked| &**asked.topic == topic);
    of_topic.flat_map(|asked| &asked.partitions).find(|p| p.partition == partition).map(|p| p.leader_epoch)
}

/// A reply in which every partition of `req` carries `code`.
pub fn error(req: &OffsetForLeaderEpochRequest, code: i16) -> OffsetForLeaderEpochResponse {
    OffsetForLeaderEpochResponse::default()
        .with_topics(req.topics.iter().map(|topic| topic_error(topic, code)).collect())
}

fn topic_error(topic: &OffsetForLeaderTopic, code: i16) -> OffsetForLeaderTopicResult {
    let partition = |index| EpochEndOffset::default().with_partition(index).with_error_code(code);
    OffsetForLeaderTopicResult::default()
        .with_topic(topic.topic.clone())
        .with_partitions(topic.partitions.iter().map(|p| partition(p.partition)).collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;

    use super::super::tests::{EPOCH, HIDDEN, OLD_END, OLD_EPOCH, made_up, name, to_client, to_cluster, versions};
    use super::*;

    fn asked(topic: &str, current: i32, epoch: i32) -> OffsetForLeaderTopic {
        let p = OffsetForLeaderPartition::default().with_partition(4).with_current_leader_epoch(current);
        OffsetForLeaderTopic::default().with_topic(name(topic)).with_partitions(vec![p.with_leader_epoch(epoch)])
    }

    fn request_of(version: i16, replica: i32, topics: Vec<OffsetForLeaderTopic>) -> OffsetForLeaderEpochRequest {
        let replica = if version >= 3 { replica } else { -2 };
        OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(replica)).with_topics(topics)
    }

    fn answered(topic: &str, code: i16, epoch: i32, end: i64) -> OffsetForLeaderTopicResult {
        let p = EpochEndOffset::default().with_partition(4).with_error_code(code);
        OffsetForLeaderTopicResult::default()
            .with_topic(name(topic))
            .with_partitions(vec![p.with_leader_epoch(epoch).with_end_offset(end)])
    }

    #[test]
    fn epochs_in() {
        for version in versions::<OffsetForLeaderEpochRequest>() {
            for (asked_for, current, want, want_current) in
                [(EPOCH, EPOCH, 7, 7), (OLD_EPOCH, OLD_EPOCH, HARMLESS_EPOCH, -1), (-1, -1, -1, -1)]
            {
                let topics = vec![asked("orders", current, asked_for), asked(HIDDEN, -1, 0)];
                let sent = to_cluster(version, &request_of(version, 3, topics));
                let want = request_of(version, -1, vec![asked("orders", want_current, want)]);
                assert_eq!(sent, want, "v{version}");
            }
        }
    }

    #[test]
    fn ends_out_from_the_cluster_or_from_the_maps() {
        for version in versions::<OffsetForLeaderEpochRequest>() {
            for (asked_for, (code, epoch, end), want) in [
                (EPOCH, (0, 7, 42), (0, EPOCH, 1042)),
                (EPOCH, (0, -1, -1), (0, -1, -1)),
                (EPOCH, (6, -1, -1), (6, -1, -1)),
                (OLD_EPOCH, (0, -1, -1), (0, OLD_EPOCH, OLD_END)),
                (OLD_EPOCH, (0, 0, 42), (0, OLD_EPOCH, OLD_END)),
                (OLD_EPOCH, (6, -1, -1), (6, -1, -1)),
                (OLD_EPOCH, (74, -1, -1), (74, -1, -1)),
                (OLD_EPOCH, (29, 0, 42), (29, -1, -1)),
            ] {
                let req = request_of(version, -1, vec![asked("orders", -1, asked_for), asked(HIDDEN, -1, 0)]);
                let resp =
                    OffsetForLeaderEpochResponse::default().with_topics(vec![answered("orders", code, epoch, end)]);
                let want = resp
                    .clone()
                    .with_topics(vec![answered("orders", want.0, want.1, want.2), answered(HIDDEN, 3, -1, -1)]);
                assert_eq!(to_client(version, &req, &resp), want, "v{version} epoch {asked_for} code {code}");
            }
        }
    }

    #[test]
    fn a_made_up_error_answers_every_partition() {
        for version in versions::<OffsetForLeaderEpochRequest>() {
            let req = request_of(version, -1, vec![asked("orders", -1, EPOCH)]);
            let want = OffsetForLeaderEpochResponse::default().with_topics(vec![answered("orders", 6, -1, -1)]);
            assert_eq!(made_up(version, &req, 6), want, "v{version}");
        }
    }
}
