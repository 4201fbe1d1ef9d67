//! DescribeProducers (key 61): the start offsets of open transactions out.
//!
//! The coordinator epoch stays real. It is no leader epoch that clients compare: its one use is an administrator's
//! WriteTxnMarkers, and a partition that saw a marker with a virtual (very high) one would refuse its true coordinator.

use kafka_protocol::messages::describe_producers_response::{PartitionResponse, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};

use super::Translate;
use super::ids::UNKNOWN_TOPIC_OR_PARTITION;

/// Takes hidden topics out.
pub fn request(req: &mut DescribeProducersRequest, t: &dyn Translate) {
    req.topics.retain(|topic| !t.hidden(&topic.name));
}

/// Offsets out; -1, no open transaction, stays.
pub fn response(req: &DescribeProducersRequest, resp: &mut DescribeProducersResponse, t: &dyn Translate) {
    for topic in &mut resp.topics {
        for p in &mut topic.partitions {
            for producer in &mut p.active_producers {
                producer.current_txn_start_offset =
                    t.offset_out(&topic.name, p.partition_index, producer.current_txn_start_offset);
            }
        }
    }
    for topic in req.topics.iter().filter(|topic| t.hidden(&topic.name)) {
        let partition = |index: &i32| {
            PartitionResponse::default().with_partition_index(*index).with_error_code(UNKNOWN_TOPIC_OR_PARTITION)
        };
        resp.topics.push(
            TopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(topic.partition_indexes.iter().map(partition).collect()),
        );
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_producers_request::TopicRequest;
    use kafka_protocol::messages::describe_producers_response::ProducerState;

    use super::super::tests::{HIDDEN, name, to_client, to_cluster};
    use super::*;

    #[test]
    fn transaction_starts_out() {
        let asked = |topic| TopicRequest::default().with_name(name(topic)).with_partition_indexes(vec![4]);
        let request_of = |topics| DescribeProducersRequest::default().with_topics(topics);
        let req = request_of(vec![asked("orders"), asked(HIDDEN)]);
        assert_eq!(to_cluster(0, &req), request_of(vec![asked("orders")]));

        let producer = |start| ProducerState::default().with_coordinator_epoch(7).with_current_txn_start_offset(start);
        let answered = |topic, code, producers| {
            let p = PartitionResponse::default().with_partition_index(4).with_error_code(code);
            TopicResponse::default().with_name(name(topic)).with_partitions(vec![p.with_active_producers(producers)])
        };
        let resp = DescribeProducersResponse::default().with_topics(vec![answered(
            "orders",
            0,
            vec![producer(42), producer(-1)],
        )]);
        let want = resp
            .clone()
            .with_topics(vec![answered("orders", 0, vec![producer(1042), producer(-1)]), answered(HIDDEN, 3, vec![])]);
        assert_eq!(to_client(0, &req, &resp), want);
    }
}
