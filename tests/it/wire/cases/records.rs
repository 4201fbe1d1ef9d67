//! Records, offsets and transactions.

use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;

use super::{PATIENCE, READ, Reply, Side, TIMEOUT_MS};
use crate::support::wait::wait_for;
use crate::wire::expect;
use crate::wire::raw::{self, batch, group_id, topic_name, transactional_id};

pub fn data(side: &mut Side, api: ApiKey, version: i16) -> Option<Reply> {
    let reply = match api {
        ApiKey::Produce => {
            let name = side.topic();
            let data = PartitionProduceData::default().with_index(0).with_records(Some(batch("produced", 3)));
            let topic = TopicProduceData::default().with_partition_data(vec![data]);
            let topic = match version >= 13 {
                true => topic.with_topic_id(side.raw.topic_id(&name)),
                false => topic.with_name(topic_name(&name)),
            };
            let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(TIMEOUT_MS);
            side.ask(version, request.with_topic_data(vec![topic]))
        }
        ApiKey::Fetch => {
            let partition = FetchPartition::default()
                .with_partition(0)
                .with_fetch_offset(2)
                .with_current_leader_epoch(if version >= 9 { side.epoch } else { -1 })
                .with_partition_max_bytes(1 << 20);
            let topic = FetchTopic::default().with_partitions(vec![partition]);
            let topic = match version >= 13 {
                true => topic.with_topic_id(side.read_id(true)),
                false => topic.with_topic(topic_name(READ)),
            };
            let request = FetchRequest::default()
                .with_replica_id((-1).into())
                .with_max_wait_ms(100)
                .with_session_epoch(if version >= 7 { -1 } else { 0 })
                .with_topics(vec![topic]);
            let frame = side.raw.exchange(version, &request);
            let mut reply = raw::reply::<FetchRequest>(version, &frame);
            expect::blank_batch_epochs(&mut reply);
            Reply { frame, text: Some(format!("{reply:?}")) }
        }
        ApiKey::ListOffsets => {
            let spec = |timestamp| {
                ListOffsetsPartition::default()
                    .with_partition_index(0)
                    .with_current_leader_epoch(if version >= 4 { side.epoch } else { -1 })
                    .with_timestamp(timestamp)
            };
            let topic = |name, timestamp| {
                ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(vec![spec(timestamp)])
            };
            // Latest of one topic, earliest of the other: a partition may be named once.
            let topics = vec![topic(READ, -1), topic("api-x", -2)];
            side.ask(version, ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(topics))
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partition = OffsetForLeaderPartition::default()
                .with_partition(0)
                .with_current_leader_epoch(side.epoch)
                .with_leader_epoch(side.epoch);
            let topic = OffsetForLeaderTopic::default().with_topic(topic_name(READ)).with_partitions(vec![partition]);
            let request =
                OffsetForLeaderEpochRequest::default().with_replica_id(if version >= 3 { -1 } else { -2 }.into());
            side.ask(version, request.with_topics(vec![topic]))
        }
        ApiKey::DeleteRecords => {
            let name = side.created("cut");
            let data = PartitionProduceData::default().with_index(0).with_records(Some(batch("cut", 5)));
            let topic = TopicProduceData::default().with_name(topic_name(&name)).with_partition_data(vec![data]);
            let produce = ProduceRequest::default().with_acks(-1).with_timeout_ms(TIMEOUT_MS);
            let produce = produce.with_topic_data(vec![topic]);
            // Its leader may not have taken it up yet.
            wait_for("the new topic's leader", PATIENCE, || match side.raw.ask(9, &produce) {
                produced if produced.responses[0].partition_responses[0].error_code == 0 => Ok(()),
                produced => Err(format!("{produced:?}")),
            });
            let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(2);
            let topic = DeleteRecordsTopic::default().with_name(topic_name(&name)).with_partitions(vec![partition]);
            side.ask(version, DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS))
        }
        _ => return None,
    };
    Some(reply)
}

pub fn transactions(side: &mut Side, api: ApiKey, version: i16) -> Option<Reply> {
    let id = side.own("txn");
    let reply = match api {
        ApiKey::InitProducerId => side.init_producer(version, Some(&id)).0,
        ApiKey::AddPartitionsToTxn => {
            let (_, producer) = side.init_producer(1, Some(&id));
            let reply = side.add_partitions(version, &id, &producer);
            side.end(1, &id, &producer);
            reply
        }
        ApiKey::AddOffsetsToTxn => {
            let producer = side.begin(&id);
            let group = side.own("group");
            let request = AddOffsetsToTxnRequest::default()
                .with_transactional_id(transactional_id(&id))
                .with_producer_id(producer.producer_id)
                .with_producer_epoch(producer.producer_epoch)
                .with_group_id(group_id(&group));
            let reply = side.ask_coordinator(version, &request, |r| r.error_code);
            side.end(1, &id, &producer);
            reply
        }
        ApiKey::TxnOffsetCommit => {
            let producer = side.begin(&id);
            let group = side.own("group");
            let add = AddOffsetsToTxnRequest::default()
                .with_transactional_id(transactional_id(&id))
                .with_producer_id(producer.producer_id)
                .with_producer_epoch(producer.producer_epoch)
                .with_group_id(group_id(&group));
            side.ask_coordinator(3, &add, |r| r.error_code);
            let partition = TxnOffsetCommitRequestPartition::default()
                .with_partition_index(0)
                .with_committed_offset(1)
                .with_committed_leader_epoch(if version >= 2 { side.epoch } else { -1 });
            let topic =
                TxnOffsetCommitRequestTopic::default().with_name(topic_name(READ)).with_partitions(vec![partition]);
            let request = TxnOffsetCommitRequest::default()
                .with_transactional_id(transactional_id(&id))
                .with_group_id(group_id(&group))
                .with_producer_id(producer.producer_id)
                .with_producer_epoch(producer.producer_epoch)
                .with_topics(vec![topic]);
            let reply = side.ask_coordinator(version, &request, |r| r.topics[0].partitions[0].error_code);
            side.end(1, &id, &producer);
            reply
        }
        ApiKey::EndTxn => {
            let producer = side.begin(&id);
            side.end(version, &id, &producer)
        }
        ApiKey::DescribeTransactions => {
            let ids = vec![transactional_id("idle"), transactional_id("nobody")];
            side.ask(version, DescribeTransactionsRequest::default().with_transactional_ids(ids))
        }
        ApiKey::ListTransactions => side.ask(version, ListTransactionsRequest::default()),
        ApiKey::DescribeProducers => {
            use kafka_protocol::messages::describe_producers_request::TopicRequest;
            let topic = TopicRequest::default().with_name(topic_name(READ)).with_partition_indexes(vec![0, 1]);
            side.ask(version, DescribeProducersRequest::default().with_topics(vec![topic]))
        }
        _ => return None,
    };
    Some(reply)
}
