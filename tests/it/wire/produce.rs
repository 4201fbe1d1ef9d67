//! Produce requests that a broker would take wrongly or answer with silence.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest, ProduceResponse,
};
use kafka_standby::catalog::STATE_TOPIC;
use uuid::Uuid;

use super::ids::values;
use super::raw::{Raw, batch, topic_name, with_attributes};
use crate::support::shared::{shared, unique};
use crate::support::wait::wait_for;

const PATIENCE: Duration = Duration::from_secs(30);
const INVALID_REQUEST: i16 = 42;
const INVALID_RECORD: i16 = 87;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNKNOWN_TOPIC_ID: i16 = 100;

/// How a version of Produce or Fetch names a topic.
#[derive(Clone)]
struct Name {
    name: String,
    id: Uuid,
}

impl Name {
    fn data(&self, version: i16, batches: &[(i32, &Bytes)]) -> TopicProduceData {
        let data = batches.iter().map(|&(index, records)| {
            PartitionProduceData::default().with_index(index).with_records(Some(records.clone()))
        });
        let topic = TopicProduceData::default().with_partition_data(data.collect());
        if version >= 13 { topic.with_topic_id(self.id) } else { topic.with_name(topic_name(&self.name)) }
    }
}

/// A topic with two partitions on the shared rig, known to the proxy.
fn new_topic(prefix: &str) -> Name {
    let rig = shared();
    let name = unique(prefix);
    rig.east.create_topic(&name, 2, &[]);
    let id = wait_for("the topic", PATIENCE, || {
        let metadata = Raw::connect(&rig.proxy.bootstrap()).metadata(&name);
        let topic = &metadata.topics[0];
        if topic.error_code == 0 && topic.partitions.len() == 2 {
            Ok(topic.topic_id)
        } else {
            Err(format!("{topic:?}"))
        }
    });
    Name { name, id }
}

fn produce(acks: i16, topics: Vec<TopicProduceData>) -> ProduceRequest {
    ProduceRequest::default().with_acks(acks).with_timeout_ms(20_000).with_topic_data(topics)
}

fn codes(reply: &ProduceResponse) -> Vec<i16> {
    reply.responses.iter().flat_map(|t| &t.partition_responses).map(|p| p.error_code).collect()
}

/// The log ends of both partitions, as a broker says.
fn ends(address: &str, topic: &str) -> [i64; 2] {
    [0, 1].map(|index| {
        let partition = ListOffsetsPartition::default().with_partition_index(index).with_timestamp(-1);
        let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let reply = Raw::connect(address).ask(2, &request);
        let partition = &reply.topics[0].partitions[0];
        assert_eq!(partition.error_code, 0, "{reply:?}");
        partition.offset
    })
}

/// Everything in one partition, read straight from a broker.
fn stored(address: &str, topic: &str, partition: i32) -> Vec<String> {
    let partition = FetchPartition::default().with_partition(partition).with_partition_max_bytes(16 << 20);
    let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_replica_id((-1).into()).with_max_wait_ms(100).with_topics(vec![topic]);
    let reply = Raw::connect(address).ask(6, &request);
    let data = &reply.responses[0].partitions[0];
    assert_eq!(data.error_code, 0);
    values(data.records.as_ref().expect("records")).0
}

#[test]
fn a_partition_named_twice_is_refused_and_nothing_is_stored() {
    let rig = shared();
    let topic = new_topic("twice");
    let (one, two) = (batch("one", 1), batch("two", 2));
    for version in [3, 12, 13] {
        let shapes = [
            vec![topic.data(version, &[(0, &one), (0, &two)])],
            vec![topic.data(version, &[(0, &one)]), topic.data(version, &[(0, &two)])],
            vec![topic.data(version, &[(1, &one), (0, &one), (0, &one)])],
        ];
        for (shape, topics) in shapes.into_iter().enumerate() {
            let named: usize = topics.iter().map(|t| t.partition_data.len()).sum();
            let mut raw = Raw::connect(&rig.proxy.bootstrap());
            for acks in [-1, 1] {
                let reply = raw.ask(version, &produce(acks, topics.clone()));
                let codes = codes(&reply);
                assert!(codes.iter().all(|&c| c == INVALID_REQUEST), "v{version} shape {shape}: {reply:?}");
                assert_eq!(codes.len(), named, "v{version} shape {shape}: {reply:?}");
            }
            // Without an acknowledgement there is no other way to say it.
            raw.push_request(version, &produce(0, topics));
            raw.assert_closed("acks=0 and a partition named twice");
        }
    }
    assert_eq!(ends(&rig.east.address(0), &topic.name), [0, 0]);
    let mut raw = Raw::connect(&rig.proxy.bootstrap());
    let reply = raw.ask(13, &produce(-1, vec![topic.data(13, &[(0, &one), (1, &two)])]));
    assert_eq!(codes(&reply), [0, 0], "two partitions are fine");
    assert_eq!(ends(&rig.east.address(0), &topic.name), [1, 2]);
}

#[test]
fn attribute_bits_of_the_broker_are_refused() {
    let rig = shared();
    let topic = new_topic("bits");
    let plain = batch("plain", 1);
    let mut raw = Raw::connect(&rig.proxy.bootstrap());
    // LogAppendTime, control, delete horizon, the first unused one, the last.
    for bit in [3, 5, 6, 7, 15] {
        let marked = with_attributes(&plain, (1u16 << bit) as i16);
        for version in [3, 13] {
            let reply = raw.ask(version, &produce(-1, vec![topic.data(version, &[(0, &marked), (1, &plain)])]));
            let mut found: Vec<_> =
                reply.responses.iter().flat_map(|t| &t.partition_responses).map(|p| (p.index, p.error_code)).collect();
            found.sort_unstable();
            assert_eq!(found, [(0, INVALID_RECORD), (1, 0)], "bit {bit}, v{version}: {reply:?}");
        }
        raw.push_request(9, &produce(0, vec![topic.data(9, &[(0, &marked)])]));
        raw.assert_closed("acks=0 and a forbidden bit");
        raw = Raw::connect(&rig.proxy.bootstrap());
    }
    assert_eq!(ends(&rig.east.address(0), &topic.name), [0, 10], "the proper batches beside them are stored");
}

/// No reply comes for acks=0, so that the next reply is the next request's, and all is stored and copied in order.
#[test]
fn requests_without_acknowledgement_keep_their_order() {
    const COUNT: usize = 200;
    let rig = shared();
    let topic = new_topic("silent");
    let mut raw = Raw::connect(&rig.proxy.bootstrap());
    let mut expected = Vec::new();
    for n in 0..COUNT {
        let version = if n % 2 == 0 { 9 } else { 13 };
        raw.push_request(version, &produce(0, vec![topic.data(version, &[(0, &batch(&format!("n{n}"), 1))])]));
        expected.push(format!("n{n}-0"));
        if n % 50 == 0 {
            let correlation = raw.push_request(3, &ApiVersionsRequest::default());
            assert_eq!(raw.frame().expect("a reply")[..4], correlation.to_be_bytes());
        }
    }
    let reply = raw.ask(9, &produce(-1, vec![topic.data(9, &[(0, &batch("last", 1))])]));
    expected.push("last-0".into());
    let last = &reply.responses[0].partition_responses[0];
    assert_eq!((last.error_code, last.base_offset), (0, COUNT as i64));
    assert_eq!(stored(&rig.east.address(0), &topic.name, 0), expected);
    wait_for("the standby's copy", PATIENCE, || match ends(&rig.west.address(0), &topic.name) {
        [end, 0] if end == expected.len() as i64 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(stored(&rig.west.address(0), &topic.name, 0), expected);

    let nowhere = Name { name: "nowhere".into(), id: Uuid::from_u128(1) };
    raw.push_request(9, &produce(0, vec![nowhere.data(9, &[(0, &batch("lost", 1))])]));
    raw.assert_closed("acks=0 to an unknown topic");
}

/// Pipelined acknowledged requests of two topics: answered in order, each at the next offset.
#[test]
fn pipelined_batches_are_answered_in_order() {
    let rig = shared();
    let topics = [new_topic("sync-pipe"), new_topic("pipe")];
    let mut raw = Raw::connect(&rig.proxy.bootstrap());
    let sent: Vec<i32> = (0..120)
        .map(|n| {
            let data = topics[n % 2].data(11, &[(0, &batch(&format!("n{n}"), 1))]);
            raw.push_request(11, &produce(-1, vec![data]))
        })
        .collect();
    for (n, correlation) in sent.into_iter().enumerate() {
        let frame = raw.frame().expect("a reply");
        assert_eq!(frame[..4], correlation.to_be_bytes());
        let reply = super::raw::reply::<ProduceRequest>(11, &frame);
        let partition = &reply.responses[0].partition_responses[0];
        assert_eq!(*reply.responses[0].name, *topics[n % 2].name);
        assert_eq!((partition.error_code, partition.base_offset), (0, n as i64 / 2), "{reply:?}");
    }
}

/// The proxy's own topic is for clients a topic that does not exist, by name and by id.
#[test]
fn the_state_topic_is_out_of_reach() {
    let rig = shared();
    let topic = new_topic("open");
    let id = Raw::connect(&rig.east.address(0)).topic_id(STATE_TOPIC);
    let state = Name { name: STATE_TOPIC.into(), id };
    let mut raw = Raw::connect(&rig.proxy.bootstrap());
    let one = batch("one", 1);
    for (version, code) in [(3, UNKNOWN_TOPIC_OR_PARTITION), (12, UNKNOWN_TOPIC_OR_PARTITION), (13, UNKNOWN_TOPIC_ID)] {
        let alone = raw.ask(version, &produce(-1, vec![state.data(version, &[(0, &one)])]));
        assert_eq!(codes(&alone), [code], "v{version}: {alone:?}");
        let beside = produce(-1, vec![topic.data(version, &[(0, &one)]), state.data(version, &[(0, &one)])]);
        let mut found = codes(&raw.ask(version, &beside));
        found.sort_unstable();
        assert_eq!(found, [0, code], "v{version}");
        let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
        let fetched = FetchTopic::default().with_partitions(vec![partition]);
        let fetched = match version >= 13 {
            true => fetched.with_topic_id(id),
            false => fetched.with_topic(topic_name(STATE_TOPIC)),
        };
        let fetch = FetchRequest::default().with_replica_id((-1).into()).with_max_wait_ms(10).with_session_epoch(-1);
        let reply = raw.ask(version.max(7), &fetch.with_topics(vec![fetched]));
        let data = &reply.responses[0].partitions[0];
        assert_eq!((data.error_code, data.records.clone()), (code, Some(Bytes::new())), "v{version}");
    }
    assert_eq!(intruders(), 0, "nothing was written");
    let by_id = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
    let reply = raw.ask(12, &MetadataRequest::default().with_topics(Some(vec![by_id])));
    assert_eq!((reply.topics[0].error_code, reply.topics[0].name.clone()), (UNKNOWN_TOPIC_ID, None), "{reply:?}");
    assert_eq!(raw.metadata(STATE_TOPIC).topics[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
}

/// Records in the state topic that the test above wrote.
fn intruders() -> usize {
    let rig = shared();
    let partition = FetchPartition::default().with_partition_max_bytes(16 << 20);
    let topic = FetchTopic::default().with_topic(topic_name(STATE_TOPIC)).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_replica_id((-1).into()).with_max_wait_ms(100).with_topics(vec![topic]);
    let reply = Raw::connect(&rig.east.address(0)).ask(6, &request);
    let records = reply.responses[0].partitions[0].records.clone().expect("records");
    records.windows(5).filter(|w| *w == b"one-0").count()
}
