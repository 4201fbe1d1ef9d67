//! One connection with many requests under way: acknowledgements that wait for the standby wait together, and a client that
//! does not read its replies keeps nobody else standing.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use kafka_protocol::protocol::Request;
use kafka_standby::wire::header;

use crate::rig::{PATIENCE, Rig, assert_done};
use crate::support::wait::wait_until;
use crate::wire::raw::{self, Raw, batch, topic_name};

const TOPIC: &str = "piped";
const PARTITIONS: i32 = 6;
const PRODUCE: i16 = 11;
const FETCH: i16 = 11;
const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;

fn produce(partition: i32, records: Bytes) -> ProduceRequest {
    produce_to(TOPIC, partition, records)
}

fn produce_to(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
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

/// Large requests of a topic that is not copied go to the broker as they come.
#[test]
fn a_switchover_waits_for_the_rest_of_a_request_whose_front_is_at_the_broker_though_not_for_ever() {
    const LOOSE: &str = "loose";
    let rig = Rig::start_with("async", |east, spec| {
        east.create_topic(TOPIC, 1, &[]);
        east.create_topic(LOOSE, 1, &[]);
        spec.more = format!("\n[[tee.override]]\nmatch = [\"{LOOSE}\"]\nmode = \"off\"\n");
    });
    let request = produce_to(LOOSE, 0, batch(&"v".repeat(700_000), 1));
    let mut frame = BytesMut::zeroed(4);
    header::encode_request_header(&mut frame, ProduceRequest::KEY, PRODUCE, 9, None).expect("a header");
    frame.extend_from_slice(&raw::encode(PRODUCE, &request));
    let length = u32::try_from(frame.len() - 4).expect("a frame");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    let (front, rest) = frame.split_at(300_000);
    // Each has its connection to the broker by then.
    let [mut slow, mut stuck, mut gone] = [(); 3].map(|()| {
        let mut client = Raw::connect(&rig.proxy.bootstrap());
        client.push_request(PRODUCE, &request);
        assert_eq!(outcome(&mut client).0, 0);
        client
    });
    slow.push(front);
    slow.push(rest);
    assert_eq!(outcome(&mut slow), (0, 3));
    // Who goes in the middle takes the broker's connection along, and stores nothing.
    gone.push(front);
    drop(gone);

    rig.proxy.wait_switchable(PATIENCE);
    slow.push(front);
    stuck.push(front);
    // A request counts when its front has gone on: three, one, the broken one, these two.
    let sent = |page: &serde_json::Value| page.as_str().is_some_and(|text| bytes_to_clusters(text) >= 7.0 * 700_000.0);
    wait_until("the fronts to be at the broker", PATIENCE, || {
        rig.proxy.get("/metrics").is_ok_and(|(_, page)| sent(&page))
    });
    let report = std::thread::scope(|scope| {
        let switching = scope.spawn(|| rig.proxy.switchover());
        slow.push(rest);
        assert_eq!(outcome(&mut slow), (0, 4));
        switching.join().expect("a report")
    });
    assert_done(&report);
    let held = report["hold_ms"].as_f64().expect("a number");
    assert!((900.0..10_000.0).contains(&held), "held for {held} ms");
    stuck.assert_closed("a request that does not end");
}

fn bytes_to_clusters(metrics: &str) -> f64 {
    let line = metrics.lines().find_map(|l| l.strip_prefix("kafka_standby_bytes_total{direction=\"cluster_out\"} "));
    line.and_then(|value| value.parse().ok()).unwrap_or_default()
}
