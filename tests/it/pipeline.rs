//! One connection with many requests under way: acknowledgements that wait for the standby wait together, and a client that
//! does not read its replies keeps nobody else standing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, ProduceRequest};

use crate::rig::{PATIENCE, Rig, assert_done};
use crate::wire::raw::{self, Raw, batch, topic_name};

const TOPIC: &str = "piped";
const PARTITIONS: i32 = 6;
const PRODUCE: i16 = 11;
const FETCH: i16 = 11;
const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;

fn produce(partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic_name(TOPIC)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(20_000).with_topic_data(vec![topic])
}

/// (error code, base offset) of the next reply.
fn outcome(client: &mut Raw) -> (i16, i64) {
    let reply = raw::reply::<ProduceRequest>(PRODUCE, &client.frame().expect("a reply"));
    let row = &reply.responses[0].partition_responses[0];
    (row.error_code, row.base_offset)
}

#[test]
fn acknowledgements_of_one_connection_wait_for_the_standby_together() {
    const SYNC_TIMEOUT: Duration = Duration::from_secs(2);
    let mut rig = Rig::start_with("sync", |east, spec| {
        east.create_topic(TOPIC, PARTITIONS, &[]);
        let timeout = SYNC_TIMEOUT.as_millis();
        spec.tee_lines = format!("sync_timeout = \"{timeout}ms\"\non_standby_loss = \"block\"");
    });
    rig.proxy.wait_in_sync(PATIENCE);
    let mut client = Raw::connect(&rig.proxy.bootstrap());
    client.push_request(PRODUCE, &produce(0, batch("before", 1)));
    assert_eq!(outcome(&mut client), (0, 0));

    rig.west.pause();
    let since = Instant::now();
    for partition in 0..PARTITIONS {
        client.push_request(PRODUCE, &produce(partition, batch("blocked", 1)));
    }
    let codes: Vec<i16> = (0..PARTITIONS).map(|_| outcome(&mut client).0).collect();
    let took = since.elapsed();
    rig.west.resume();
    assert_eq!(codes, [NOT_ENOUGH_REPLICAS_AFTER_APPEND; PARTITIONS as usize]);
    assert!(took >= SYNC_TIMEOUT, "nobody waited: {took:?}");
    // One after the other they would take six times the timeout.
    assert!(took < 3 * SYNC_TIMEOUT, "they waited one after the other: {took:?}");

    rig.proxy.wait_in_sync(PATIENCE);
    client.push_request(PRODUCE, &produce(0, batch("after", 1)));
    assert_eq!(outcome(&mut client), (0, 2), "refused but stored, then stored");
    rig.assert_equal();
}

#[test]
fn a_client_that_does_not_read_its_replies_does_not_hold_up_a_switchover() {
    let rig = Rig::start_with("async", |east, _| east.create_topic(TOPIC, 1, &[]));
    rig.proxy.wait_switchable(PATIENCE);
    let mut writer = Raw::connect(&rig.proxy.bootstrap());
    let value = "v".repeat(400_000);
    for _ in 0..10 {
        writer.push_request(PRODUCE, &produce(0, batch(&value, 2)));
        assert_eq!(outcome(&mut writer).0, 0);
    }
    // Far more than what fits into the socket's buffers on both sides.
    let mut stuck = Raw::connect(&rig.proxy.bootstrap());
    let partition = FetchPartition::default().with_partition_max_bytes(50 << 20);
    let topic = FetchTopic::default().with_topic(topic_name(TOPIC)).with_partitions(vec![partition]);
    let fetch = FetchRequest::default().with_replica_id((-1).into()).with_max_bytes(50 << 20).with_session_epoch(-1);
    let fetch = fetch.with_topics(vec![topic]);
    for _ in 0..20 {
        stuck.push_request(FETCH, &fetch);
    }
    writer.push_request(PRODUCE, &produce(0, batch("more", 1)));
    assert_eq!(outcome(&mut writer), (0, 20), "others go on meanwhile");

    rig.proxy.wait_switchable(PATIENCE);
    let report = rig.proxy.switchover();
    assert_done(&report);
    let held = report["hold_ms"].as_f64().expect("a number");
    assert!(held < 10_000.0, "held for {held} ms");
    writer.push_request(PRODUCE, &produce(0, batch("later", 1)));
    assert_eq!(outcome(&mut writer), (0, 21));
    rig.assert_equal();
}
