//! DeleteRecords (key 21): the offset in, the low watermark out.

use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::Translate;
use super::ids::UNKNOWN_TOPIC_OR_PARTITION;

/// Offsets in; -1, the high watermark, stays.
pub fn request(req: &mut DeleteRecordsRequest, t: &dyn Translate) {
    req.topics.retain(|topic| !t.hidden(&topic.name));
    for topic in &mut req.topics {
        for p in &mut topic.partitions {
            p.offset = t.offset_in(&topic.name, p.partition_index, p.offset);
        }
    }
}

/// Low watermarks out.
pub fn response(req: &DeleteRecordsRequest, resp: &mut DeleteRecordsResponse, t: &dyn Translate) {
    for topic in &mut resp.topics {
        for p in &mut topic.partitions {
            p.low_watermark = t.offset_out(&topic.name, p.partition_index, p.low_watermark);
        }
    }
    for topic in req.topics.iter().filter(|topic| t.hidden(&topic.name)) {
        let partition = |index| {
            DeleteRecordsPartitionResult::default()
                .with_partition_index(index)
                .with_low_watermark(-1)
                .with_error_code(UNKNOWN_TOPIC_OR_PARTITION)
        };
        resp.topics.push(
            DeleteRecordsTopicResult::default()
                .with_name(topic.name.clone())
                .with_partitions(topic.partitions.iter().map(|p| partition(p.partition_index)).collect()),
        );
    }
}
