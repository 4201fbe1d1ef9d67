//! Recognisable translations, and round trips of typed messages through the byte-level dispatch.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, BrokerId, FetchRequest, HeartbeatRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::{Message, Request, StrBytes};
use proptest::prelude::*;
use uuid::Uuid;

use super::codec::{decode, encode};
use super::{APIS, RewriteError, Side, Stretch, Translate, errors, request, response};

/// A topic whose batches are the same to clients.
pub(super) const KEPT: &str = "kept";
pub(super) const HIDDEN: &str = "__standby";
/// A virtual epoch of an earlier generation, and where that generation ended in any partition.
pub(super) const OLD_EPOCH: i32 = 5;
pub(super) const OLD_END: i64 = 777;
/// A virtual epoch of the current generation: real 7.
pub(super) const EPOCH: i32 = GENERATION + 7;
const GENERATION: i32 = 1 << 20;
/// A member epoch of the current generation is this much above the coordinator's.
pub(super) const MEMBER_MARK: i32 = 1 << 24;

/// Real brokers 1, 2, 3 are virtual 101, 102, 103 (9 has no virtual identity), logical offsets are 1000 above the
/// cluster's, the virtual id of a topic is its real one + 0x1000: 0x1001 is `orders`, 0x1002 the hidden one.
pub(super) struct FakeTranslate;

impl Translate for FakeTranslate {
    fn cluster_id(&self) -> &str {
        "virtual-cluster"
    }
    fn broker_in(&self, id: i32) -> Option<i32> {
        if id < 0 { Some(id) } else { (101..=103).contains(&id).then_some(id - 100) }
    }
    fn broker_out(&self, id: i32) -> Option<i32> {
        if id < 0 { Some(id) } else { (1..=3).contains(&id).then_some(id + 100) }
    }
    fn brokers(&self, alive: &[i32]) -> Vec<(i32, String, u16)> {
        let ids = alive.iter().filter_map(|id| self.broker_out(*id));
        ids.filter_map(|v| self.endpoint(v).map(|(host, port)| (v, host, port))).collect()
    }
    fn endpoint(&self, id: i32) -> Option<(String, u16)> {
        (101..=103).contains(&id).then(|| (format!("v{id}"), 9000 + id as u16))
    }
    fn epoch_in(&self, epoch: i32) -> i32 {
        if epoch >= GENERATION { epoch - GENERATION } else { -1 }
    }
    fn epoch_out(&self, epoch: i32) -> i32 {
        if epoch < 0 { epoch } else { epoch + GENERATION }
    }
    fn epoch_end(&self, _topic: &str, _partition: i32, epoch: i32) -> Option<i64> {
        (0..GENERATION).contains(&epoch).then_some(OLD_END)
    }
    fn member_epoch_in(&self, epoch: i32) -> i32 {
        if epoch >= MEMBER_MARK { epoch - MEMBER_MARK } else { epoch }
    }
    fn member_epoch_out(&self, epoch: i32) -> i32 {
        if epoch > 0 { epoch + MEMBER_MARK } else { epoch }
    }
    fn topic_id_in(&self, id: Uuid) -> Uuid {
        if id.as_u128() > 0x1000 { Uuid::from_u128(id.as_u128() - 0x1000) } else { id }
    }
    fn topic_id_out(&self, _name: Option<&str>, id: Uuid) -> Uuid {
        Uuid::from_u128(id.as_u128() + 0x1000)
    }
    fn topic_name(&self, id: Uuid) -> Option<String> {
        match id.as_u128() {
            0x1001 => Some("orders".to_owned()),
            0x1002 => Some(HIDDEN.to_owned()),
            _ => None,
        }
    }
    fn hidden(&self, topic: &str) -> bool {
        topic == HIDDEN
    }
    fn offset_in(&self, _topic: &str, _partition: i32, logical: i64) -> i64 {
        if logical < 0 { logical } else { (logical - 1000).max(0) }
    }
    fn offset_out(&self, _topic: &str, _partition: i32, cluster: i64) -> i64 {
        if cluster < 0 { cluster } else { cluster + 1000 }
    }
    fn stretches_in(&self, _topic: &str, _partition: i32, first: i64, last: i64) -> Vec<Stretch> {
        stretches(first - 1000, last - 1000)
            .map(|(from, to)| Stretch { from: from + 1000, to: from, count: to - from + 1 })
            .collect()
    }
    fn stretches_out(&self, _topic: &str, _partition: i32, first: i64, last: i64) -> Vec<Stretch> {
        stretches(first, last).map(|(from, to)| Stretch { from, to: from + 1000, count: to - from + 1 }).collect()
    }
    fn batch_out(&self, _topic: &str, _partition: i32, base_offset: i64, leader_epoch: i32) -> Option<(i64, i32)> {
        Some((base_offset + 1000, leader_epoch + GENERATION))
    }
    fn batches_stay(&self, topic: &str, _partition: i32) -> bool {
        topic == KEPT
    }
    fn batches_out(&self, topic: &str, partition: i32, records: Bytes) -> Bytes {
        [format!("{topic}/{partition}:").as_bytes(), &records].concat().into()
    }
}

/// What is left of a range of cluster offsets without 100 to 109, which have no names.
fn stretches(first: i64, last: i64) -> impl Iterator<Item = (i64, i64)> {
    [(first, last.min(99)), (first.max(110), last)].into_iter().filter(|(from, to)| from <= to)
}

pub(super) fn name(s: &str) -> TopicName {
    TopicName(StrBytes::from_string(s.to_owned()))
}

pub(super) fn ids<const N: usize>(ids: [i32; N]) -> Vec<BrokerId> {
    ids.into_iter().map(BrokerId).collect()
}

pub(super) const fn real_id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

pub(super) const fn virtual_id(n: u128) -> Uuid {
    Uuid::from_u128(0x1000 + n)
}

/// The lowest and the highest version that the codec has for both halves.
pub(super) fn versions<R: Request>() -> [i16; 2] {
    let (q, r) = (R::VERSIONS, R::Response::VERSIONS);
    [q.min.max(r.min), q.max.min(r.max)]
}

/// What the cluster gets when a client sends `req`.
pub(super) fn to_cluster<R: Request>(version: i16, req: &R) -> R {
    let body = encode(R::KEY, version, Side::Request, req).expect("test request");
    let sent = request(R::KEY, version, &body, &FakeTranslate).expect("rewrite").unwrap_or(body);
    decode(R::KEY, version, Side::Request, &sent).expect("rewritten request")
}

/// What the client gets when it sent `req` and the cluster answers `resp`.
pub(super) fn to_client<R: Request>(version: i16, req: &R, resp: &R::Response) -> R::Response {
    let asked = encode(R::KEY, version, Side::Request, req).expect("test request");
    let body = encode(R::KEY, version, Side::Reply, resp).expect("test reply");
    let got = response(R::KEY, version, &asked, &body, &FakeTranslate).expect("rewrite");
    decode(R::KEY, version, Side::Reply, &got).expect("rewritten reply")
}

/// The reply that the proxy makes up for `req`.
pub(super) fn made_up<R: Request>(version: i16, req: &R, code: i16) -> R::Response {
    let asked = encode(R::KEY, version, Side::Request, req).expect("test request");
    let body = errors::reply(R::KEY, version, &asked, code).expect("reply").expect("an API with error replies");
    decode(R::KEY, version, Side::Reply, &body).expect("made-up reply")
}

#[test]
fn every_listed_api_is_dispatched_and_no_other() {
    for key in -1..100i16 {
        let listed = APIS.iter().any(|api| *api as i16 == key);
        // No message of a listed API is empty, so a dispatched body fails to decode.
        let outcome = response(key, 0, &Bytes::new(), &Bytes::new(), &FakeTranslate);
        assert_eq!(outcome.is_err(), listed, "reply of API {key}");
        let reply_only = [
            ApiKey::FindCoordinator,
            ApiKey::DescribeCluster,
            ApiKey::ConsumerGroupDescribe,
            ApiKey::DescribeTopicPartitions,
            ApiKey::ShareGroupDescribe,
        ];
        let asks = listed && !reply_only.iter().any(|api| *api as i16 == key);
        assert_eq!(request(key, 0, &Bytes::new(), &FakeTranslate).is_err(), asks, "request of API {key}");
    }
}

#[test]
fn an_unknown_version_or_a_trailing_byte_is_an_error() {
    let req = ProduceRequest::default();
    let body = encode(ProduceRequest::KEY, 9, Side::Request, &req).unwrap();
    assert!(request(ProduceRequest::KEY, 9, &body, &FakeTranslate).unwrap().is_none(), "nothing to rewrite");
    assert!(matches!(
        request(ProduceRequest::KEY, 99, &body, &FakeTranslate),
        Err(RewriteError::Decode { version: 99, .. })
    ));
    let mut longer = BytesMut::from(&body[..]);
    longer.extend_from_slice(&[0]);
    assert!(matches!(
        request(ProduceRequest::KEY, 9, &longer.freeze(), &FakeTranslate),
        Err(RewriteError::Trailing { bytes: 1, side: Side::Request, .. })
    ));
}

#[test]
fn apis_without_error_replies_say_so() {
    let body = encode(HeartbeatRequest::KEY, 4, Side::Request, &HeartbeatRequest::default()).unwrap();
    assert!(errors::reply(HeartbeatRequest::KEY, 4, &body, 27).unwrap().is_some());
    assert!(errors::reply(ApiKey::ApiVersions as i16, 3, &body, 35).unwrap().is_none());
    assert!(errors::reply(9999, 0, &body, 35).unwrap().is_none());
    assert!(errors::reply(FetchRequest::KEY, 12, &Bytes::from_static(b"\0"), 6).is_err());
}

proptest! {
    /// A cut-off body is an error, never a panic or a shorter message.
    #[test]
    fn a_cut_body_is_an_error(cut in 0usize..40, version in 4i16..=18) {
        let req = FetchRequest::default().with_rack_id(StrBytes::from_static_str("a rack whose name is rather long"));
        let body = encode(FetchRequest::KEY, version, Side::Request, &req).unwrap();
        let cut = cut.min(body.len() - 1);
        prop_assert!(request(FetchRequest::KEY, version, &body.slice(..cut), &FakeTranslate).is_err());
    }
}
