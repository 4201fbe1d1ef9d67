//! ListOffsets (key 2): epochs in, offsets and epochs out. The timestamp of a request is a time or a symbol, no offset.

use kafka_protocol::messages::list_offsets_request::ListOffsetsTopic;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, ListOffsetsResponse};

use super::Translate;
use super::ids::{UNKNOWN_TOPIC_OR_PARTITION, epoch_in};

/// Epochs in (v4+). A client is a consumer, whatever replica id it gives: followers see past the high watermark.
pub fn request(req: &mut ListOffsetsRequest, t: &dyn Translate) {
    req.replica_id = BrokerId(req.replica_id.0.min(-1));
    req.topics.retain(|topic| !t.hidden(&topic.name));
    for p in req.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        epoch_in(t, &mut p.current_leader_epoch);
    }
}

/// Offsets and epochs (v4+) out.
pub fn response(req: &ListOffsetsRequest, resp: &mut ListOffsetsResponse, t: &dyn Translate) {
    for topic in &mut resp.topics {
        for p in &mut topic.partitions {
            p.offset = t.offset_out(&topic.name, p.partition_index, p.offset);
            p.leader_epoch = t.epoch_out(p.leader_epoch);
        }
    }
    let refused = req.topics.iter().filter(|topic| t.hidden(&topic.name));
    resp.topics.extend(refused.map(|topic| topic_error(topic, UNKNOWN_TOPIC_OR_PARTITION)));
}

/// A reply in which every partition of `req` carries `code`.
pub fn error(req: &ListOffsetsRequest, code: i16) -> ListOffsetsResponse {
    ListOffsetsResponse::default().with_topics(req.topics.iter().map(|topic| topic_error(topic, code)).collect())
}

fn topic_error(topic: &ListOffsetsTopic, code: i16) -> ListOffsetsTopicResponse {
    let partition = |index| ListOffsetsPartitionResponse::default().with_partition_index(index).with_error_code(code);
    ListOffsetsTopicResponse::default()
        .with_name(topic.name.clone())
        .with_partitions(topic.partitions.iter().map(|p| partition(p.partition_index)).collect())
}
