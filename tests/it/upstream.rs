//! The client to one cluster, against a real one: every typed operation once, and what a restart does to it.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, GroupId, InitProducerIdRequest, JoinGroupRequest, JoinGroupResponse,
    ProduceRequest, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{StrBytes, VersionRange};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use kafka_standby::model::TopicPartition;
use kafka_standby::upstream::{
    ClientOptions, Cluster, Configs, FetchFrom, FetchOptions, GroupProtocol, Isolation, Lane, OffsetSpec, Target, code,
};

use crate::support::cluster::{Cluster as Real, Spec};

const TIMEOUT: Duration = Duration::from_secs(30);

/// One cluster for the tests that do it no harm.
fn shared() -> Cluster {
    static REAL: OnceLock<Real> = OnceLock::new();
    client(REAL.get_or_init(|| Real::start(Spec::new("upstream"))))
}

fn client(real: &Real) -> Cluster {
    let options = ClientOptions { timeout: TIMEOUT, ..ClientOptions::default() };
    Cluster::new("east", vec![real.bootstrap()], options)
}

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

/// A batch of `count` records, each with an empty key; producer id -1 for none.
fn batch(count: i64, producer_id: i64, sequence: i32, transactional: bool) -> Bytes {
    let records: Vec<_> = (0..count)
        .map(|n| Record {
            transactional,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id,
            producer_epoch: if producer_id < 0 { -1 } else { 0 },
            timestamp_type: TimestampType::Creation,
            offset: n,
            // Consecutive also without a producer id (from -1), or the encoder starts a new batch at each record.
            sequence: sequence + i32::try_from(n).unwrap(),
            timestamp: 1_700_000_000_000,
            key: None,
            value: Some(Bytes::from(format!("value {n}"))),
            headers: Default::default(),
        })
        .collect();
    let mut buf = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut buf, &records, &options).unwrap();
    buf.freeze()
}

fn from(tp: &TopicPartition, offset: i64) -> FetchFrom {
    FetchFrom { tp: tp.clone(), offset, max_bytes: 1 << 20, current_leader_epoch: None }
}

#[tokio::test]
async fn topics_are_made_grown_configured_and_deleted() {
    let cluster = shared();
    assert_eq!(cluster.cluster_id().await.unwrap().len(), 22);
    assert_eq!(cluster.brokers().await.unwrap().len(), 1);
    let versions = cluster.api_versions().await.unwrap();
    assert!(versions.api_keys.iter().any(|k| k.api_key == 0 && k.max_version >= 11));

    let configs = Configs::from([("retention.ms".into(), "123456789".into())]);
    cluster.create_topic("made", 2, -1, &configs, true).await.unwrap();
    assert!(cluster.topics().await.unwrap().topic("made").is_none(), "only validated");
    cluster.create_topic("made", 2, 1, &configs, false).await.unwrap();
    let again = cluster.create_topic("made", 2, 1, &configs, false).await.unwrap_err();
    assert_eq!(again.kafka_code(), Some(code::TOPIC_ALREADY_EXISTS), "{again}");
    let made = cluster.topics().await.unwrap().topic("made").unwrap().clone();
    assert!(!made.id.is_nil() && !made.internal);
    assert_eq!(made.partitions.keys().collect::<Vec<_>>(), [&0, &1]);

    cluster.create_partitions("made", 5).await.unwrap();
    assert_eq!(cluster.topics().await.unwrap().topic("made").unwrap().partitions.len(), 5);

    let more =
        Configs::from([("cleanup.policy".into(), "compact".into()), ("max.message.bytes".into(), "5000".into())]);
    cluster.alter_topic_configs("made", &more, &["retention.ms"]).await.unwrap();
    let found = cluster.topic_configs(&["made", "missing"]).await.unwrap();
    assert_eq!(found["made"], Ok(more));
    assert_eq!(found["missing"].as_ref().unwrap_err().code, code::UNKNOWN_TOPIC_OR_PARTITION);
    let effective = cluster.effective_configs("made", &["compression.type", "cleanup.policy"]).await.unwrap();
    let expected = [("cleanup.policy", "compact"), ("compression.type", "producer")];
    assert_eq!(effective, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let bad = Configs::from([("cleanup.policy".into(), "no such".into())]);
    assert_eq!(cluster.alter_topic_configs("made", &bad, &[]).await.unwrap_err().kafka_code(), Some(40));

    cluster.delete_topic("made").await.unwrap();
    assert!(cluster.topics().await.unwrap().topic("made").is_none());
}

#[tokio::test]
async fn batches_come_back_as_they_were_sent() {
    let cluster = shared();
    cluster.create_topic("bytes", 3, 1, &Configs::new(), false).await.unwrap();
    let tps: Vec<_> = (0..3).map(|p| TopicPartition::new("bytes", p)).collect();
    let leader = cluster.topics().await.unwrap().leader("bytes", 0).unwrap();
    let sent = batch(7, 4_000_000_000_000_000_000, 0, false);
    let first =
        cluster.produce(leader, Lane::Produce, vec![(tps[0].clone(), sent.clone().into())], -1, TIMEOUT).await.unwrap();
    assert_eq!((first[&tps[0]].error, first[&tps[0]].base_offset, first[&tps[0]].log_append_time), (0, 0, -1));
    let again = cluster.produce_one(&tps[0], sent.clone()).await.unwrap();
    assert_eq!((again.base_offset, again.log_append_time), (0, 1_700_000_000_000), "a duplicate, and told so");
    let gap = batch(1, 4_000_000_000_000_000_000, 99, false);
    let gap = cluster.produce(leader, Lane::Produce, vec![(tps[0].clone(), gap.into())], -1, TIMEOUT).await.unwrap();
    assert_eq!(gap[&tps[0]].error, 45);
    cluster.produce_one(&tps[1], batch(3, -1, -1, false)).await.unwrap();

    let latest = cluster.list_offsets(&tps, OffsetSpec::Latest).await.unwrap();
    assert_eq!(tps.iter().map(|tp| latest[tp]).collect::<Vec<_>>(), [Ok(7), Ok(3), Ok(0)]);
    let options = FetchOptions::default();
    let missing = TopicPartition::new("bytes", 9);
    let wanted = [from(&tps[0], 0), from(&tps[1], 50), from(&tps[2], 0), from(&missing, 0)];
    let fetched = cluster.fetch(&wanted, &options).await.unwrap();
    let got = &fetched[&tps[0]];
    assert_eq!((got.error, got.high_watermark, got.last_stable_offset, got.log_start_offset), (0, 7, 7, 0));
    assert_eq!(got.records[16..], sent[16..], "only base offset and leader epoch may differ");
    assert_eq!(fetched[&tps[1]].error, code::OFFSET_OUT_OF_RANGE);
    assert_eq!((fetched[&tps[2]].error, fetched[&tps[2]].records.len()), (0, 0));
    assert_eq!(fetched[&missing].error, code::UNKNOWN_TOPIC_OR_PARTITION);

    let producers = cluster.describe_producers(&tps[..1]).await.unwrap();
    let producer = producers[&tps[0]].as_ref().unwrap()[0];
    assert_eq!((producer.producer_id, producer.last_sequence), (4_000_000_000_000_000_000, 6));
    let ends = cluster.offset_for_leader_epoch(&[(tps[0].clone(), 0)]).await.unwrap();
    assert_eq!(ends[&tps[0]].as_ref().unwrap().end_offset, 7);
    let deleted = cluster.delete_records(&[(tps[0].clone(), 4)]).await.unwrap();
    assert_eq!(deleted[&tps[0]], Ok(4));
    assert_eq!(cluster.list_offsets(&tps[..1], OffsetSpec::Earliest).await.unwrap()[&tps[0]], Ok(4));
}

/// Pipelined requests of one lane are stored in the order in which they were made: the broker would refuse another.
#[tokio::test]
async fn pipelined_batches_keep_their_order() {
    let cluster = shared();
    cluster.create_topic("pipeline", 1, 1, &Configs::new(), false).await.unwrap();
    let tp = TopicPartition::new("pipeline", 0);
    let leader = cluster.topics().await.unwrap().leader("pipeline", 0).unwrap();
    let send = |n: i32| {
        let batches = vec![(tp.clone(), batch(2, 4_000_000_000_000_000_001, n * 2, false).into())];
        cluster.produce(leader, Lane::Produce, batches, -1, TIMEOUT)
    };
    send(0).await.unwrap();
    let replies = futures_util::future::join_all((1..200).map(send)).await;
    for (n, reply) in (1i64..).zip(replies) {
        let produced = &reply.unwrap()[&tp];
        assert_eq!((produced.error, produced.base_offset), (0, n * 2));
    }
}

#[tokio::test]
async fn an_aborted_transaction_is_listed_and_an_open_one_holds_the_stable_offset() {
    let cluster = shared();
    cluster.create_topic("txn", 1, 1, &Configs::new(), false).await.unwrap();
    let tp = TopicPartition::new("txn", 0);
    let id = TransactionalId(text("txn-id"));
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(id.clone()))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    let owner = loop {
        let reply = cluster.call(Target::Any, Lane::Control, &init, TIMEOUT).await.unwrap();
        match reply.error_code {
            0 => break reply,
            code::COORDINATOR_LOAD_IN_PROGRESS | code::COORDINATOR_NOT_AVAILABLE | code::NOT_COORDINATOR => {
                find_transaction_coordinator(&cluster, "txn-id").await;
            }
            other => panic!("InitProducerId: {other}"),
        }
    };
    let add = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id.clone())
        .with_v3_and_below_producer_id(owner.producer_id)
        .with_v3_and_below_producer_epoch(owner.producer_epoch)
        .with_v3_and_below_topics(vec![
            AddPartitionsToTxnTopic::default().with_name(TopicName(text("txn"))).with_partitions(vec![0]),
        ]);
    let classic = |max| VersionRange { min: 0, max };
    cluster.call_within(Target::Any, Lane::Control, &add, classic(3), TIMEOUT).await.unwrap();
    let data = PartitionProduceData::default().with_index(0).with_records(Some(batch(3, owner.producer_id.0, 0, true)));
    let produce = ProduceRequest::default()
        .with_transactional_id(Some(id.clone()))
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![
            TopicProduceData::default().with_name(TopicName(text("txn"))).with_partition_data(vec![data]),
        ]);
    let reply =
        cluster.call_within(Target::Leader("txn", 0), Lane::Produce, &produce, classic(11), TIMEOUT).await.unwrap();
    assert_eq!(reply.responses[0].partition_responses[0].error_code, 0);

    let both = [OffsetSpec::Latest, OffsetSpec::LatestCommitted];
    let offsets = |spec| cluster.list_offsets(std::slice::from_ref(&tp), spec);
    assert_eq!([offsets(both[0]).await.unwrap()[&tp], offsets(both[1]).await.unwrap()[&tp]], [Ok(3), Ok(0)]);
    let end = EndTxnRequest::default()
        .with_transactional_id(id)
        .with_producer_id(owner.producer_id)
        .with_producer_epoch(owner.producer_epoch)
        .with_committed(false);
    let ended = cluster.call_within(Target::Any, Lane::Control, &end, classic(4), TIMEOUT).await.unwrap();
    assert_eq!(ended.error_code, 0);
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    while offsets(OffsetSpec::LatestCommitted).await.unwrap()[&tp] != Ok(4) {
        assert!(tokio::time::Instant::now() < deadline, "the marker was not written");
    }
    let committed = FetchOptions { isolation: Isolation::ReadCommitted, ..FetchOptions::default() };
    let fetched = cluster.fetch(&[from(&tp, 0)], &committed).await.unwrap();
    assert_eq!(fetched[&tp].aborted, [(owner.producer_id.0, 0)]);
    assert!(fetched[&tp].records.len() > 100, "aborted batches and their marker come raw");
}

/// Creates the transaction state topic where it is missing.
async fn find_transaction_coordinator(cluster: &Cluster, id: &str) {
    let req = kafka_protocol::messages::FindCoordinatorRequest::default()
        .with_key_type(1)
        .with_coordinator_keys(vec![text(id)]);
    cluster.call(Target::Any, Lane::Control, &req, TIMEOUT).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn groups_are_listed_described_committed_to_and_emptied() {
    let cluster = shared();
    cluster.create_topic("group-topic", 2, 1, &Configs::new(), false).await.unwrap();
    let tps: Vec<_> = (0..2).map(|p| TopicPartition::new("group-topic", p)).collect();
    assert_eq!(cluster.offset_fetch_all("bare").await.unwrap(), []);
    assert_eq!(cluster.describe_group("bare").await.unwrap(), None);
    let offsets = [(tps[0].clone(), 11, "note".to_owned()), (tps[1].clone(), 22, String::new())];
    assert_eq!(cluster.offset_commit_simple("bare", &offsets).await.unwrap(), []);
    let found = cluster.offset_fetch_all("bare").await.unwrap();
    let found: HashMap<_, _> = found.into_iter().map(|c| (c.tp, (c.offset, c.leader_epoch, c.metadata))).collect();
    assert_eq!(found[&tps[0]], (11, -1, "note".to_owned()));
    assert_eq!(found[&tps[1]], (22, -1, String::new()));
    let gone = [(TopicPartition::new("no-such-topic", 0), 1, String::new())];
    let refused = cluster.offset_commit_simple("bare", &gone).await.unwrap();
    assert_eq!(refused, [(gone[0].0.clone(), code::UNKNOWN_TOPIC_OR_PARTITION)]);

    let member = join(&cluster, "busy", "").await;
    let member = join(&cluster, "busy", &member.member_id).await;
    assert_eq!(member.error_code, 0);
    let listed = cluster.list_groups().await.unwrap();
    let state =
        |group: &str| listed.iter().find(|g| g.group == group).map(|g| (g.state.as_str(), g.group_type.as_str()));
    assert_eq!(state("bare"), Some(("Empty", "classic")));
    assert_eq!(state("busy"), Some(("CompletingRebalance", "classic")));
    let refused = cluster.offset_commit_simple("busy", &offsets).await.unwrap();
    assert_eq!(refused.iter().map(|(_, code)| *code).collect::<Vec<_>>(), [code::UNKNOWN_MEMBER_ID; 2]);

    let busy = cluster.describe_group("busy").await.unwrap().unwrap();
    assert_eq!((busy.protocol, busy.members.len()), (GroupProtocol::Classic, 1));
    assert_eq!(busy.members[0].member_id, member.member_id.as_str());
    assert_eq!(cluster.remove_members("busy", &busy.members).await.unwrap(), []);
    assert_eq!(cluster.remove_members("busy", &busy.members).await.unwrap(), [], "gone already is as good");
    assert_eq!(cluster.describe_group("busy").await.unwrap().unwrap().state, "Empty");
    assert_eq!(cluster.offset_commit_simple("busy", &offsets).await.unwrap(), []);
}

async fn join(cluster: &Cluster, group: &str, member_id: &str) -> JoinGroupResponse {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    let req = JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_member_id(text(member_id))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    cluster.call(Target::Coordinator(group), Lane::Own(1), &req, TIMEOUT).await.unwrap()
}

/// A broker is paused: calls end at their deadline. It is killed and comes back: operations go on by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_broker_is_found_again() {
    let mut real = tokio::task::spawn_blocking(|| Real::start(Spec::new("restarted"))).await.unwrap();
    let cluster = client(&real);
    cluster.create_topic("kept", 1, 1, &Configs::new(), false).await.unwrap();
    let tp = TopicPartition::new("kept", 0);
    cluster.produce_one(&tp, batch(5, -1, -1, false)).await.unwrap();

    real.pause();
    let began = std::time::Instant::now();
    let short = cluster.with_timeout(Duration::from_millis(500));
    let e = short.topics().await.unwrap_err();
    assert!(e.is_retriable() && began.elapsed() < Duration::from_secs(2), "{e} after {:?}", began.elapsed());
    real.resume();

    tokio::task::block_in_place(|| {
        real.kill();
        real.restart();
    });
    let produced = cluster.produce_one(&tp, batch(1, -1, -1, false)).await.unwrap();
    assert_eq!(produced.base_offset, 5);
    let latest = cluster.list_offsets(std::slice::from_ref(&tp), OffsetSpec::Latest).await.unwrap();
    assert_eq!(latest[&tp], Ok(6));
}
