use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, ListOffsetsResponse, MetadataResponse};
use kafka_protocol::protocol::StrBytes;
use tokio::time::timeout;

use super::*;
use crate::upstream::fake::{Answer, Asked as Heard, FakeBroker, versions};
use crate::upstream::{ClientOptions, OffsetSpec};

const METADATA: i16 = 3;
const LIST_OFFSETS: i16 = 2;
const PARTITIONS: i32 = 300;
const LEADERLESS: i32 = 299;

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn metadata(port: u16) -> MetadataResponse {
    let host = StrBytes::from_static_str("127.0.0.1");
    let broker = MetadataResponseBroker::default().with_node_id(BrokerId(1)).with_host(host).with_port(i32::from(port));
    let partition = |index: i32| {
        let lost = index == LEADERLESS;
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(if lost { -1 } else { 1 }))
            .with_error_code(if lost { code::LEADER_NOT_AVAILABLE } else { 0 })
    };
    let topic = MetadataResponseTopic::default()
        .with_name(Some(StrBytes::from_static_str("t").into()))
        .with_partitions((0..PARTITIONS).map(partition).collect());
    MetadataResponse::default().with_brokers(vec![broker]).with_topics(vec![topic])
}

fn asked_for(asked: &Heard) -> Vec<i32> {
    let request = asked.body::<ListOffsetsRequest>();
    request.topics.iter().flat_map(|t| t.partitions.iter().map(|p| p.partition_index)).collect()
}

/// Every log ends at ten times its number, except where `error` knows better.
fn ends(partitions: &[i32], error: impl Fn(i32) -> i16) -> ListOffsetsResponse {
    let row = |&index: &i32| {
        ListOffsetsPartitionResponse::default()
            .with_partition_index(index)
            .with_error_code(error(index))
            .with_offset(i64::from(index) * 10)
    };
    let topic = ListOffsetsTopicResponse::default()
        .with_name(StrBytes::from_static_str("t").into())
        .with_partitions(partitions.iter().map(row).collect());
    ListOffsetsResponse::default().with_topics(vec![topic])
}

async fn fake(script: impl Fn(Heard) -> Answer + Send + Sync + 'static) -> (FakeBroker, Cluster) {
    let known = versions(&[(METADATA, 0, 12), (LIST_OFFSETS, 1, 6), (18, 0, 4)]);
    let broker = FakeBroker::start(known, move |port, asked| match asked.key {
        METADATA => asked.reply(&metadata(port)),
        _ => script(asked),
    })
    .await;
    let options = ClientOptions { timeout: Duration::from_secs(5), ..Default::default() };
    let cluster = Cluster::new("east", vec![broker.address.clone()], options);
    cluster.refresh().await.unwrap();
    (broker, cluster)
}

#[test]
fn who_comes_first_asks_and_each_partition_is_named_once_in_a_request() {
    let mut line = Line::<OffsetOf>::default();
    let kind = OffsetOf(OffsetSpec::Latest);
    let asked = |partition| Asked { tp: tp(partition), question: (), answer: oneshot::channel().0 };
    let push = |line: &mut Line<_>, broker, partition| line.push(kind, broker, asked(partition));
    assert!(push(&mut line, 1, 0) && !push(&mut line, 1, 1) && !push(&mut line, 1, 0) && !push(&mut line, 1, 2));
    assert!(push(&mut line, 2, 0), "another broker is asked beside");
    let take = |line: &mut Line<OffsetOf>| {
        line.take(kind, 1).map(|asked| asked.iter().map(|asked| asked.tp.partition).collect::<Vec<_>>())
    };
    assert_eq!(take(&mut line), Some(vec![0, 1, 2]));
    assert_eq!(take(&mut line), Some(vec![0]), "the same partition for somebody else");
    assert!(!push(&mut line, 1, 5), "it is being asked as long as nobody has found that nothing waits");
    assert_eq!(take(&mut line), Some(vec![5]));
    assert_eq!(take(&mut line), None);
    let many = i32::try_from(OffsetOf::LIMIT).unwrap() + 1;
    assert!((0..many).map(|partition| push(&mut line, 1, partition)).filter(|first| *first).count() == 1);
    assert_eq!(take(&mut line).unwrap().len(), OffsetOf::LIMIT);
    assert_eq!(take(&mut line), Some(vec![many - 1]));
}

#[tokio::test]
async fn many_share_few_requests_and_each_gets_its_own_answer() {
    const WRONG: i32 = 17;
    let script = |asked: Heard| {
        let partitions = asked_for(&asked);
        assert_eq!(partitions.iter().collect::<BTreeSet<_>>().len(), partitions.len());
        asked.reply(&ends(&partitions, |p| if p == WRONG { code::OFFSET_OUT_OF_RANGE } else { 0 }))
    };
    let (broker, cluster) = fake(script).await;
    let before = broker.requests.load(Ordering::SeqCst);
    let asked: Vec<_> = (0..LEADERLESS).map(tp).collect();
    let answers = join_all(asked.iter().map(|tp| cluster.offset_of(tp, OffsetSpec::Latest))).await;
    for (partition, answer) in (0..).zip(answers) {
        match partition {
            WRONG => assert_eq!(answer.unwrap_err().kafka_code(), Some(code::OFFSET_OUT_OF_RANGE)),
            _ => assert_eq!(answer, Ok(i64::from(partition) * 10)),
        }
    }
    let requests = broker.requests.load(Ordering::SeqCst) - before;
    assert!((1..=3).contains(&requests), "{requests} requests");
}

#[tokio::test]
async fn one_that_has_to_be_asked_again_holds_nobody_up() {
    const MOVED: i32 = 3;
    let script = |asked: Heard| {
        let partitions = asked_for(&asked);
        asked.reply(&ends(&partitions, |p| if p == MOVED { code::NOT_LEADER_OR_FOLLOWER } else { 0 }))
    };
    let (_broker, cluster) = fake(script).await;
    let bad = [MOVED, LEADERLESS].map(tp);
    let mut bad = Box::pin(join_all(bad.iter().map(|tp| cluster.offset_of(tp, OffsetSpec::Latest))));
    assert!(timeout(Duration::from_millis(100), &mut bad).await.is_err(), "they are asked again");
    let fine: Vec<_> = (10..100).map(tp).collect();
    let fine = join_all(fine.iter().map(|tp| cluster.offset_of(tp, OffsetSpec::Latest)));
    let fine = tokio::select! {
        biased;
        _ = &mut bad => panic!("they have no leader for as long as they are asked"),
        fine = timeout(Duration::from_secs(2), fine) => fine.unwrap(),
    };
    assert!(fine.iter().all(Result::is_ok));
    let codes: Vec<_> = bad.await.into_iter().map(|answer| answer.unwrap_err().kafka_code()).collect();
    assert_eq!(codes, [Some(code::NOT_LEADER_OR_FOLLOWER), Some(code::LEADER_NOT_AVAILABLE)]);
}

#[tokio::test]
async fn one_whose_answer_cannot_be_read_is_left_alone() {
    const FATAL: i32 = 41;
    let alone = Arc::new(AtomicUsize::new(0));
    let seen = alone.clone();
    let script = move |asked: Heard| {
        let partitions = asked_for(&asked);
        if partitions == [FATAL] {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        match partitions.contains(&FATAL) {
            true => Answer::RawThenClose(bytes::Bytes::from_static(&[0xff; 8])),
            false => asked.reply(&ends(&partitions, |_| 0)),
        }
    };
    let (_broker, cluster) = fake(script).await;
    let cluster = cluster.with_timeout(Duration::from_secs(20));
    let asked: Vec<_> = (0..64).map(tp).collect();
    let one = |tp: &TopicPartition| {
        let (cluster, tp) = (cluster.clone(), tp.clone());
        async move {
            let limit = if tp.partition == FATAL { 2 } else { 15 };
            timeout(Duration::from_secs(limit), cluster.offset_of(&tp, OffsetSpec::Latest)).await
        }
    };
    let answers = join_all(asked.iter().map(one)).await;
    for (partition, answer) in (0..).zip(answers) {
        match partition {
            FATAL => assert!(answer.is_err(), "{answer:?}"),
            _ => assert_eq!(answer.unwrap(), Ok(i64::from(partition) * 10)),
        }
    }
    assert!(alone.load(Ordering::SeqCst) > 0);
}
