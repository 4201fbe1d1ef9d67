use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use kafka_protocol::protocol::{Decodable, Encodable, Message};
use proptest::prelude::*;

use super::*;
use crate::records::{Batches, fixtures};
use crate::rewrite::tests::{FakeTranslate, HIDDEN, KEPT, name, real_id};

fn encoded(version: i16, reply: &FetchResponse) -> Vec<u8> {
    let mut out = BytesMut::new();
    reply.encode(&mut out, version).unwrap();
    out.to_vec()
}

fn whole(version: i16, body: &mut [u8], may: impl FnMut(&Part<'_>) -> bool) -> bool {
    let size = body.len();
    patch(version, body, size, &FakeTranslate, may)
}

fn reply(version: i16, parts: Vec<PartitionData>) -> FetchResponse {
    let topic = FetchableTopicResponse::default().with_partitions(parts);
    let topic = if version >= TOPIC_IDS { topic.with_topic_id(real_id(1)) } else { topic.with_topic(name("orders")) };
    FetchResponse::default().with_throttle_time_ms(3).with_responses(vec![topic])
}

fn part(index: i32, offset: i64, aborted: Option<i64>) -> PartitionData {
    let aborted =
        aborted.map(|first| vec![AbortedTransaction::default().with_producer_id(9.into()).with_first_offset(first)]);
    PartitionData::default()
        .with_partition_index(index)
        .with_high_watermark(offset)
        .with_last_stable_offset(offset - 1)
        .with_aborted_transactions(aborted)
        .with_records(Some(Bytes::new()))
}

proptest! {
    /// Where both ways are open they say the same.
    #[test]
    fn as_decoded_and_encoded(
        version in 4i16..=FetchResponse::VERSIONS.max,
        parts in prop::collection::vec((0i32..9, -1i64..1 << 40, prop::option::of(0i64..99)), 0..4),
    ) {
        let parts = parts.into_iter().map(|(index, offset, aborted)| part(index, offset, aborted)).collect();
        let sent = reply(version, parts);
        let mut body = encoded(version, &sent);
        prop_assert!(whole(version, &mut body, |_| true));
        let patched = FetchResponse::decode(&mut Bytes::from(body), version).unwrap();
        let mut wanted = FetchResponse::decode(&mut Bytes::from(encoded(version, &sent)), version).unwrap();
        super::super::response(&FetchRequest::default(), &mut wanted, &FakeTranslate);
        prop_assert_eq!(patched, wanted);
    }

    /// Whatever a broker sends: no panic, and unchanged unless it is translated.
    #[test]
    fn any_bytes(version in 4i16..=18, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut patched = body.clone();
        if !whole(version, &mut patched, |_| true) {
            prop_assert_eq!(patched, body);
        }
    }
}

#[test]
fn batches_are_moved_and_nothing_else() {
    let blob: Vec<u8> =
        [fixtures::JAVA_NONE, fixtures::JAVA_ZSTD].iter().flat_map(|hex| fixtures::bytes(hex)).collect();
    for cut in [0, 5] {
        let records = Bytes::from(blob[..blob.len() - cut].to_vec());
        for version in [4, 12, FetchResponse::VERSIONS.max] {
            let mut body =
                encoded(version, &reply(version, vec![part(4, 50, None).with_records(Some(records.clone()))]));
            let size = body.len();
            assert!(whole(version, &mut body, |part| {
                (part.topic, part.partition, part.high_watermark, part.records.len())
                    == ("orders", 4, 50, records.len())
            }));
            assert_eq!(body.len(), size);
            let patched = FetchResponse::decode(&mut Bytes::from(body), version).unwrap();
            let shown = patched.responses[0].partitions[0].records.clone().unwrap();
            let headers = |records: &Bytes| {
                let batches = Batches::new(records.clone()).map_while(Result::ok);
                batches.map(|b| (b.header().base_offset, b.header().leader_epoch, b.header().crc)).collect::<Vec<_>>()
            };
            let moved = headers(&records).into_iter().map(|(base, epoch, crc)| (base + 1000, epoch + (1 << 20), crc));
            assert_eq!(headers(&shown), moved.collect::<Vec<_>>(), "v{version}, {cut} bytes cut off");
        }
    }
}

#[test]
fn what_must_grow_or_shrink_is_left_alone() {
    let version = FetchResponse::VERSIONS.max;
    let leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(2)).with_leader_epoch(7);
    let endpoint = kafka_protocol::messages::fetch_response::NodeEndpoint::default();
    for (what, other) in [
        ("a leader", reply(version, vec![part(1, 5, None).with_current_leader(leader)])),
        ("a preferred replica", reply(version, vec![part(1, 5, None).with_preferred_read_replica(BrokerId(3))])),
        ("no records", reply(version, vec![part(1, 5, None).with_records(None)])),
        ("an endpoint", reply(version, vec![part(1, 5, None)]).with_node_endpoints(vec![endpoint])),
        ("a session", reply(version, vec![part(1, 5, None)]).with_session_id(7)),
        ("an error", reply(version, vec![]).with_error_code(70)),
    ] {
        let body = encoded(version, &other);
        let mut patched = body.clone();
        assert!(!whole(version, &mut patched, |_| true), "{what}");
        assert_eq!(patched, body, "{what}");
    }
    let mut body = encoded(version, &reply(version, vec![part(1, 5, None)]));
    assert!(!whole(version, &mut body, |_| false), "the caller has the last word");
    let hidden = FetchableTopicResponse::default().with_topic(name(HIDDEN)).with_partitions(vec![part(1, 5, None)]);
    let mut body = encoded(12, &FetchResponse::default().with_responses(vec![hidden]));
    assert!(!whole(12, &mut body, |_| true));
}

#[test]
fn the_front_of_a_reply_is_enough_where_the_last_records_stay_as_they_are() {
    let records = |n| Some(Bytes::from(vec![n; 300]));
    for version in [4, 11, 12] {
        let parts = vec![part(1, 50, None).with_records(records(1)), part(2, 60, Some(3)).with_records(records(2))];
        let mut sent = reply(version, parts);
        sent.responses[0].topic = name(KEPT);
        let body = encoded(version, &sent);
        let mut wanted = body.clone();
        assert!(whole(version, &mut wanted, |_| true));
        let start = body.len() - 300 - if version >= 12 { 3 } else { 0 };
        for there in [start, start + 1, start + 299] {
            let mut front = body[..there].to_vec();
            assert!(patch(version, &mut front, body.len(), &FakeTranslate, |_| true), "v{version}");
            assert_eq!(front, wanted[..there], "v{version}");
        }
        // Not there yet; more behind the records; records of the first of two partitions.
        for (there, size) in [(start - 1, body.len()), (start + 9, body.len() + 1), (start - 200, body.len())] {
            let mut front = body[..there].to_vec();
            assert!(!patch(version, &mut front, size, &FakeTranslate, |_| true), "v{version} {there}");
            assert_eq!(front, body[..there]);
        }
        // Batches that are to be moved must all be there.
        let body = encoded(version, &reply(version, vec![part(1, 50, None).with_records(records(1))]));
        let mut front = body[..body.len() - 100].to_vec();
        assert!(!patch(version, &mut front, body.len(), &FakeTranslate, |_| true));
    }
}
