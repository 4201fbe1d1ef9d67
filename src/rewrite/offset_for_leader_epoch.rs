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
