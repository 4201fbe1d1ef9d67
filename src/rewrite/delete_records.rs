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

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};

    use super::super::tests::{HIDDEN, name, to_client, to_cluster, versions};
    use super::*;

    fn asked(topic: &str, offset: i64) -> DeleteRecordsTopic {
        let p = DeleteRecordsPartition::default().with_partition_index(4).with_offset(offset);
        DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![p])
    }

    fn answered(topic: &str, low: i64, code: i16) -> DeleteRecordsTopicResult {
        let p = DeleteRecordsPartitionResult::default().with_partition_index(4).with_error_code(code);
        DeleteRecordsTopicResult::default().with_name(name(topic)).with_partitions(vec![p.with_low_watermark(low)])
    }

    #[test]
    fn offsets_in_low_watermarks_out() {
        for version in versions::<DeleteRecordsRequest>() {
            let hidden = asked(HIDDEN, 5);
            let req =
                DeleteRecordsRequest::default().with_topics(vec![asked("orders", 1042), asked("all", -1), hidden]);
            let want = DeleteRecordsRequest::default().with_topics(vec![asked("orders", 42), asked("all", -1)]);
            assert_eq!(to_cluster(version, &req), want, "v{version}");

            let resp =
                DeleteRecordsResponse::default().with_topics(vec![answered("orders", 42, 0), answered("all", -1, 1)]);
            let want = resp.clone().with_topics(vec![
                answered("orders", 1042, 0),
                answered("all", -1, 1),
                answered(HIDDEN, -1, 3),
            ]);
            assert_eq!(to_client(version, &req, &resp), want, "v{version}");
        }
    }
}
