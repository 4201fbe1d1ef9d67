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

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;

    use super::super::tests::{EPOCH, HIDDEN, OLD_EPOCH, made_up, name, to_client, to_cluster, versions};
    use super::*;

    fn asked(topic: &str, epoch: i32, timestamp: i64) -> ListOffsetsTopic {
        let p = ListOffsetsPartition::default().with_partition_index(4);
        ListOffsetsTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![p.with_current_leader_epoch(epoch).with_timestamp(timestamp)])
    }

    fn request_of(replica: i32, topics: Vec<ListOffsetsTopic>) -> ListOffsetsRequest {
        ListOffsetsRequest::default().with_replica_id(BrokerId(replica)).with_topics(topics)
    }

    fn answered(topic: &str, p: ListOffsetsPartitionResponse) -> ListOffsetsTopicResponse {
        ListOffsetsTopicResponse::default().with_name(name(topic)).with_partitions(vec![p.with_partition_index(4)])
    }

    #[test]
    fn epochs_in_timestamps_kept() {
        for version in versions::<ListOffsetsRequest>() {
            let epoch = |e| if version >= 4 { e } else { -1 };
            for (virtual_epoch, real_epoch, time) in [(EPOCH, 7, 5000), (OLD_EPOCH, -1, -2), (-1, -1, -1)] {
                let hidden = asked(HIDDEN, -1, 0);
                let req = request_of(3, vec![asked("orders", epoch(virtual_epoch), time), hidden]);
                let want = request_of(-1, vec![asked("orders", epoch(real_epoch), time)]);
                assert_eq!(to_cluster(version, &req), want, "v{version}");
            }
        }
    }

    #[test]
    fn offsets_and_epochs_out() {
        for version in versions::<ListOffsetsRequest>() {
            let epoch = |e| if version >= 4 { e } else { -1 };
            for (real, shown) in [((42, 7), (1042, EPOCH)), ((-1, -1), (-1, -1))] {
                let p = |(offset, e)| {
                    ListOffsetsPartitionResponse::default()
                        .with_timestamp(5000)
                        .with_offset(offset)
                        .with_leader_epoch(epoch(e))
                };
                let req = request_of(-1, vec![asked(HIDDEN, -1, 0)]);
                let resp = ListOffsetsResponse::default().with_topics(vec![answered("orders", p(real))]);
                let unknown = ListOffsetsPartitionResponse::default().with_error_code(3);
                let want = ListOffsetsResponse::default()
                    .with_topics(vec![answered("orders", p(shown)), answered(HIDDEN, unknown)]);
                assert_eq!(to_client(version, &req, &resp), want, "v{version}");
            }
        }
    }

    #[test]
    fn a_made_up_error_answers_every_partition() {
        for version in versions::<ListOffsetsRequest>() {
            let p = ListOffsetsPartitionResponse::default().with_error_code(6).with_timestamp(-1).with_offset(-1);
            let want = ListOffsetsResponse::default().with_topics(vec![answered("orders", p)]);
            assert_eq!(made_up(version, &request_of(-1, vec![asked("orders", -1, 0)]), 6), want, "v{version}");
        }
    }
}
