//! Faults on the way to a cluster, played by in-process brokers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use kafka_protocol::messages::{
    ApiVersionsResponse, BrokerId, FindCoordinatorResponse, GroupId, HeartbeatRequest, HeartbeatResponse,
    MetadataResponse, OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes, VersionRange};

use super::conn::{ConnOptions, Connection};
use super::error::Place;
use super::fake::{Answer, Asked, FakeBroker, frame, versions};
use super::*;

const HEARTBEAT: i16 = HeartbeatRequest::KEY;
const METADATA: i16 = 3;
const OFFSET_FETCH: i16 = 9;
const FIND_COORDINATOR: i16 = 10;
const ALL: VersionRange = VersionRange { min: 0, max: i16::MAX };
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(150);

fn usual() -> ApiVersionsResponse {
    versions(&[(HEARTBEAT, 0, 4), (METADATA, 0, 12), (OFFSET_FETCH, 1, 9), (FIND_COORDINATOR, 0, 6), (18, 0, 4)])
}

async fn connect(broker: &FakeBroker) -> Result<Connection, UpstreamError> {
    let place = Place { cluster: "east".into(), broker: Some(1), address: broker.address.as_str().into() };
    let client_id = StrBytes::from_static_str("test");
    Connection::open(place, &ConnOptions { client_id, connect_timeout: SHORT * 4, max_frame: 1 << 20 }).await
}

fn heartbeat(nth: usize) -> HeartbeatResponse {
    HeartbeatResponse::default().with_throttle_time_ms(i32::try_from(nth).unwrap())
}

#[tokio::test]
async fn replies_find_their_requests_in_order() {
    let broker = FakeBroker::start(usual(), |_, asked| asked.reply(&heartbeat(asked.nth))).await;
    let conn = connect(&broker).await.unwrap();
    let req = HeartbeatRequest::default();
    let calls = (0..250).map(|_| conn.call(&req, ALL, LONG));
    let replies = futures_util::future::join_all(calls).await;
    let got: Vec<_> = replies.into_iter().map(|r| r.unwrap().throttle_time_ms).collect();
    assert_eq!(got, (0..250).collect::<Vec<_>>());
}

#[tokio::test]
async fn more_calls_than_fit_wait_their_turn() {
    let broker = FakeBroker::start(usual(), |_, asked| asked.reply(&heartbeat(asked.nth))).await;
    let conn = connect(&broker).await.unwrap();
    let req = HeartbeatRequest::default();
    let replies = futures_util::future::join_all((0..2000).map(|_| conn.call(&req, ALL, LONG))).await;
    let mut got: Vec<_> = replies.into_iter().map(|r| r.unwrap().throttle_time_ms).collect();
    got.sort_unstable();
    assert_eq!(got, (0..2000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dropped_call_leaves_the_connection_in_step() {
    // Both replies come when the second request is there: the first one's caller has gone by then.
    let broker = FakeBroker::start(usual(), |_, asked| match asked.nth {
        0 => Answer::Silence,
        nth => {
            let first = frame(asked.correlation_id - 1, &heartbeat(0), asked.version);
            let second = frame(asked.correlation_id, &heartbeat(nth), asked.version);
            Answer::Raw([first, second].concat().into())
        }
    })
    .await;
    let conn = connect(&broker).await.unwrap();
    let req = HeartbeatRequest::default();
    let mut dropped = Box::pin(conn.call(&req, ALL, LONG));
    while broker.requests.load(Ordering::SeqCst) == 0 {
        let pause = tokio::time::timeout(Duration::from_millis(1), &mut dropped).await;
        assert!(pause.is_err(), "nothing was answered yet");
    }
    drop(dropped);
    assert_eq!(conn.call(&req, ALL, LONG).await.unwrap().throttle_time_ms, 1);
}

/// Two calls in flight: the broker's `answer` hits the first; both must end by it, and the connection with them.
async fn both_fail(answer: impl Fn(Asked) -> Answer + Send + Sync + 'static, timeout: Duration) -> (Kind, Kind) {
    let broker = FakeBroker::start(usual(), move |_, asked| match asked.nth {
        0 => answer(asked),
        _ => Answer::Silence,
    })
    .await;
    let conn = connect(&broker).await.unwrap();
    let req = HeartbeatRequest::default();
    let began = Instant::now();
    let (first, second) = tokio::join!(conn.call(&req, ALL, timeout), conn.call(&req, ALL, LONG));
    assert!(began.elapsed() < LONG / 2, "waited {:?}", began.elapsed());
    assert!(!conn.is_alive());
    let later = conn.call(&req, ALL, LONG).await.unwrap_err();
    assert!(later.is_surely_unsent(), "{later}");
    (first.unwrap_err().kind().clone(), second.unwrap_err().kind().clone())
}

#[tokio::test]
async fn a_reply_cut_short_closes_for_all() {
    let cut = |asked: Asked| Answer::RawThenClose(frame(asked.correlation_id, &heartbeat(0), asked.version).slice(..9));
    let (first, second) = both_fail(cut, LONG).await;
    // A reset instead of a close if the second request was unread.
    assert!(matches!(first, Kind::Closed(_)), "{first:?}");
    assert_eq!(second, first);
}

#[tokio::test]
async fn garbage_closes_for_all() {
    for prefix in [-5, (1 << 20) + 1, i32::MAX] {
        let garbage = move |_| Answer::Raw(Bytes::copy_from_slice(&i32::to_be_bytes(prefix)));
        let (first, second) = both_fail(garbage, LONG).await;
        assert!(matches!(&first, Kind::Closed(why) if why.contains(&prefix.to_string())), "{first:?}");
        assert_eq!(second, first);
    }
}

#[tokio::test]
async fn a_reply_that_does_not_decode_ends_the_connection() {
    let short = |asked: Asked| {
        let mut bytes = BytesMut::new();
        bytes.put_i32(6);
        bytes.put_i32(asked.correlation_id);
        bytes.put_u16(0);
        Answer::Raw(bytes.freeze())
    };
    let (first, second) = both_fail(short, LONG).await;
    assert!(matches!(first, Kind::Protocol(_)), "{first:?}");
    assert!(matches!(second, Kind::Closed(_)), "{second:?}");
}

#[tokio::test]
async fn a_wrong_correlation_id_ends_the_connection() {
    let wrong = |asked: Asked| Answer::Raw(frame(asked.correlation_id + 7, &heartbeat(0), asked.version));
    let (first, second) = both_fail(wrong, LONG).await;
    assert!(matches!(first, Kind::Protocol(_)), "{first:?}");
    assert!(matches!(second, Kind::Closed(_)), "{second:?}");
}

#[tokio::test]
async fn a_hang_ends_in_a_timeout() {
    let (first, second) = both_fail(|_| Answer::Silence, SHORT).await;
    assert_eq!(first, Kind::Timeout(SHORT));
    assert!(matches!(&second, Kind::Closed(why) if why.contains("Heartbeat")), "{second:?}");
}

#[tokio::test]
async fn no_common_version_is_said_before_anything_is_sent() {
    let broker = FakeBroker::start(versions(&[(HEARTBEAT, 90, 95)]), |_, _| Answer::Silence).await;
    let conn = connect(&broker).await.unwrap();
    let e = conn.call(&HeartbeatRequest::default(), ALL, LONG).await.unwrap_err();
    assert!(matches!(e.kind(), Kind::Unsupported(_)), "{e}");
    let none = VersionRange { min: 5, max: 9 };
    assert!(conn.call(&HeartbeatRequest::default(), none, LONG).await.is_err());
    assert_eq!(broker.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_old_broker_is_asked_again_in_its_own_version() {
    let broker = FakeBroker::start_raw(|_, asked| match (asked.key, asked.version) {
        (18, 4) => Answer::Raw(frame(asked.correlation_id, &versions(&[(18, 0, 2)]).with_error_code(35), 0)),
        (18, 2) => asked.reply(&versions(&[(18, 0, 2), (HEARTBEAT, 0, 1)])),
        (HEARTBEAT, 1) => asked.reply(&heartbeat(41)),
        _ => Answer::RawThenClose(Bytes::new()),
    })
    .await;
    let conn = connect(&broker).await.unwrap();
    let reply = conn.call(&HeartbeatRequest::default(), ALL, LONG).await.unwrap();
    assert_eq!(reply.throttle_time_ms, 41);
}

#[tokio::test]
async fn a_listener_that_never_speaks_is_unreachable() {
    let broker = FakeBroker::start_raw(|_, _| Answer::Silence).await;
    let e = connect(&broker).await.err().unwrap();
    assert!(matches!(e.kind(), Kind::Unreachable(_)), "{e}");
}

#[tokio::test]
async fn an_impossible_count_is_refused_before_the_codec_sees_it() {
    let absurd = |port, asked: Asked| {
        let Answer::Raw(good) = asked.reply(&metadata(port)) else { return Answer::Silence };
        // Correlation id, tags and throttle time stand before the compact count of brokers.
        let mut bytes = BytesMut::from(&good[4..4 + 4 + 1 + 4]);
        bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]);
        let mut frame = BytesMut::new();
        frame.put_u32(u32::try_from(bytes.len()).unwrap());
        frame.extend_from_slice(&bytes);
        Answer::Raw(frame.freeze())
    };
    let broker = FakeBroker::start(usual(), absurd).await;
    let e = cluster(vec![broker.address.clone()]).refresh().await.unwrap_err();
    assert!(matches!(e.kind(), Kind::Protocol(why) if why.contains("refused")), "{e}");
}

/// One broker (id 1) that leads partition 0 of topic `t`.
fn metadata(port: u16) -> MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(1))
        .with_host(StrBytes::from_static_str("127.0.0.1"))
        .with_port(i32::from(port));
    let partition = MetadataResponsePartition::default().with_leader_id(BrokerId(1)).with_leader_epoch(5);
    let topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_static_str("t"))))
        .with_partitions(vec![partition]);
    MetadataResponse::default()
        .with_cluster_id(Some(StrBytes::from_static_str("fake")))
        .with_brokers(vec![broker])
        .with_topics(vec![topic])
}

fn cluster(bootstrap: Vec<String>) -> Cluster {
    let options = ClientOptions { connect_timeout: SHORT * 2, timeout: Duration::from_secs(5), ..Default::default() };
    Cluster::new("east", bootstrap, options)
}

#[tokio::test]
async fn a_broker_that_hangs_up_is_found_again() {
    let broker = FakeBroker::start(usual(), |port, asked| match asked.key {
        METADATA => asked.reply(&metadata(port)),
        _ if asked.nth % 3 == 1 => Answer::RawThenClose(Bytes::new()),
        _ => asked.reply(&heartbeat(asked.nth)),
    })
    .await;
    let cluster = cluster(vec![broker.address.clone()]);
    cluster.refresh().await.unwrap();
    let (mut closed, mut answered) = (0, 0);
    while answered < 3 {
        match cluster.call(Target::Leader("t", 0), Lane::Produce, &HeartbeatRequest::default(), LONG).await {
            Ok(_) => answered += 1,
            Err(e) => {
                assert!(e.is_retriable() && e.broker() == Some(1), "{e}");
                closed += 1;
            }
        }
        assert!(closed < 20);
    }
    assert!(closed > 0);
}

#[tokio::test]
async fn refreshes_at_the_same_time_share_requests() {
    let broker = FakeBroker::start(usual(), |port, asked| asked.reply(&metadata(port))).await;
    let cluster = cluster(vec![broker.address.clone()]);
    let all = futures_util::future::join_all((0..50).map(|_| cluster.refresh())).await;
    assert!(all.iter().all(|r| r.as_ref().is_ok_and(|s| s.leader("t", 0) == Ok(1))));
    let requests = broker.requests.load(Ordering::SeqCst);
    assert!((1..=2).contains(&requests), "{requests} requests");
    cluster.refresh().await.unwrap();
    assert_eq!(broker.requests.load(Ordering::SeqCst), requests + 1, "a later call must not get an older answer");
}

#[tokio::test]
async fn any_broker_will_do_but_a_dead_cluster_is_said_soon() {
    let dead = {
        let gone = FakeBroker::start_raw(|_, _| Answer::Silence).await;
        gone.address.clone()
    };
    let mute = FakeBroker::start_raw(|_, _| Answer::Silence).await;
    let broker = FakeBroker::start(usual(), |port, asked| asked.reply(&metadata(port))).await;
    let mixed = cluster(vec![dead.clone(), mute.address.clone(), broker.address.clone()]);
    assert_eq!(mixed.cluster_id().await.unwrap(), "fake");

    let began = Instant::now();
    let e = cluster(vec![dead, mute.address.clone()]).refresh().await.unwrap_err();
    assert!(matches!(e.kind(), Kind::Unreachable(_)), "{e}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn addresses_are_those_last_seen_and_the_configured_ones() {
    let broker = FakeBroker::start(usual(), |port, asked| asked.reply(&metadata(port))).await;
    let (seed, known) = ("localhost:1".to_owned(), broker.address.clone());
    let cluster = cluster(vec![known.clone(), seed.clone()]);
    assert_eq!(cluster.addresses().await, [known.clone(), seed.clone()]);
    assert_eq!((cluster.address(1).await, cluster.address(2).await), (Some(known.clone()), None));
    assert!(cluster.reachable(LONG).await);
    drop(broker);
    let answered = async { while cluster.reachable(SHORT).await {} };
    tokio::time::timeout(LONG, answered).await.unwrap();
    assert_eq!(cluster.addresses().await, [known, seed], "the last known are better than none");
}

#[tokio::test]
async fn a_moved_coordinator_is_looked_up_again() {
    let moved = Arc::new(AtomicBool::new(false));
    let broker = FakeBroker::start(usual(), move |port, asked| match asked.key {
        METADATA => asked.reply(&metadata(port)),
        FIND_COORDINATOR => {
            let second = moved.swap(true, Ordering::SeqCst);
            let coordinator = Coordinator::default()
                .with_key(StrBytes::from_static_str("g"))
                .with_node_id(BrokerId(1))
                .with_error_code(if second { 0 } else { code::COORDINATOR_NOT_AVAILABLE });
            asked.reply(&FindCoordinatorResponse::default().with_coordinators(vec![coordinator]))
        }
        _ => {
            // The first answer sends the client to look again; the group then does not exist.
            let error = if asked.nth < 4 { code::NOT_COORDINATOR } else { code::GROUP_ID_NOT_FOUND };
            let group = OffsetFetchResponseGroup::default()
                .with_group_id(GroupId(StrBytes::from_static_str("g")))
                .with_error_code(error);
            asked.reply(&OffsetFetchResponse::default().with_groups(vec![group]))
        }
    })
    .await;
    let cluster = cluster(vec![broker.address.clone()]);
    assert_eq!(cluster.offset_fetch_all("g").await, Ok(Vec::new()));
    // FindCoordinator refused and answered, Metadata, OffsetFetch refused, FindCoordinator, OffsetFetch.
    assert_eq!(broker.requests.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn a_partition_that_does_not_exist_ends_with_its_code() {
    let broker = FakeBroker::start(usual(), |port, asked| asked.reply(&metadata(port))).await;
    let cluster = cluster(vec![broker.address.clone()]);
    let missing = crate::model::TopicPartition::new("nowhere", 0);
    let offsets = cluster.list_offsets(std::slice::from_ref(&missing), OffsetSpec::Latest).await.unwrap();
    assert_eq!(offsets.get(&missing), Some(&Err(code::UNKNOWN_TOPIC_OR_PARTITION)));
}

/// Streams and groups spawn these onto a multi-threaded runtime.
#[test]
fn operations_can_be_spawned() {
    fn send<T: Send>(_: T) {}
    let c = cluster(vec![]);
    let tp = crate::model::TopicPartition::new("t", 0);
    let tps = [tp.clone()];
    send(c.topics());
    send(c.list_offsets(&tps, OffsetSpec::Latest));
    send(c.describe_producers(&tps));
    send(c.fetch(&[], &FetchOptions::default()));
    send(c.produce_one(&tp, Bytes::new()));
    send(c.topic_configs(&["t"]));
    send(c.list_groups());
    send(c.offset_fetch_all("g"));
    send(c.describe_group("g"));
    send(c.api_versions());
}
