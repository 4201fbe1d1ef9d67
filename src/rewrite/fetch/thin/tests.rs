use bytes::Bytes;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchResponse};
use kafka_protocol::protocol::{Decodable, Encodable, Message, Request};
use proptest::prelude::*;

use super::*;
use crate::rewrite::tests::{name, real_id};
use crate::wire::header;

const FETCH: i16 = kafka_protocol::messages::FetchRequest::KEY;

/// A batch of this size as far as its length tells.
fn batch(size: usize) -> Vec<u8> {
    let mut batch = vec![size as u8; size];
    batch[BATCH_LENGTH..LOG_OVERHEAD].copy_from_slice(&((size - LOG_OVERHEAD) as u32).to_be_bytes());
    batch
}

/// A partition with batches of these sizes, the last of which may be cut short.
fn part(version: i16, index: usize, batches: &[usize], cut: usize) -> PartitionData {
    let mut records: Vec<u8> = batches.iter().flat_map(|&size| batch(size)).collect();
    records.truncate(records.len().saturating_sub(cut));
    let aborted = (0..index % 3).map(|n| AbortedTransaction::default().with_first_offset(n as i64)).collect();
    let leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(2)).with_leader_epoch(7);
    PartitionData::default()
        .with_partition_index(index as i32)
        .with_high_watermark(50)
        .with_last_stable_offset(49)
        .with_aborted_transactions((!index.is_multiple_of(4)).then_some(aborted))
        .with_current_leader(if version >= 12 && index % 2 == 1 { leader } else { LeaderIdAndEpoch::default() })
        .with_records(Some(records.into()))
}

fn reply(version: i16, topics: Vec<Vec<PartitionData>>) -> FetchResponse {
    let topics = topics.into_iter().enumerate().map(|(n, parts)| {
        let topic = FetchableTopicResponse::default().with_partitions(parts);
        if version >= TOPIC_IDS { topic.with_topic_id(real_id(n as u128)) } else { topic.with_topic(name("orders")) }
    });
    let endpoints = if version >= 16 { vec![NodeEndpoint::default().with_host("east-2".into())] } else { Vec::new() };
    FetchResponse::default().with_throttle_time_ms(3).with_responses(topics.collect()).with_node_endpoints(endpoints)
}

fn frame(version: i16, reply: &FetchResponse) -> Bytes {
    let mut out = BytesMut::new();
    header::encode_response_header(&mut out, FETCH, version, 77);
    reply.encode(&mut out, version).unwrap();
    out.freeze()
}

fn thinned(version: i16, room: usize, frame: &[u8], pieces: &[usize]) -> Bytes {
    let mut thin = Thin::new(version, room);
    let (mut rest, mut pieces) = (frame, pieces.iter().cycle());
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rest.len().min(*pieces.next().unwrap_or(&usize::MAX)));
        thin.push(piece);
        rest = later;
    }
    thin.finish().freeze()
}

fn decoded(version: i16, frame: &Bytes) -> FetchResponse {
    let offset = header::response_body_offset(FETCH, version, frame).unwrap();
    FetchResponse::decode(&mut frame.slice(offset..), version).unwrap()
}

/// What is left of it: whole batches while there is room, one in any case.
fn wanted(mut reply: FetchResponse, mut room: usize) -> FetchResponse {
    let mut first = true;
    for data in reply.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
        let Some(records) = &mut data.records else { continue };
        let mut end = 0;
        while let Some(length) = records.get(end + BATCH_LENGTH..end + LOG_OVERHEAD) {
            let size = LOG_OVERHEAD + Reader::new(length).i32().unwrap() as usize;
            if end + size > records.len() || (size > room && !first) {
                break;
            }
            (end, room, first) = (end + size, room.saturating_sub(size), false);
        }
        records.truncate(end);
    }
    reply
}

proptest! {
    #[test]
    fn the_first_batches_are_kept_and_all_else(
        version in 4i16..=FetchResponse::VERSIONS.max,
        topics in prop::collection::vec(prop::collection::vec(prop::collection::vec(12usize..400, 0..6), 0..5), 0..4),
        cut in 0usize..30,
        room in 0usize..3000,
        pieces in prop::collection::vec(1usize..500, 1..5),
    ) {
        let parts = |parts: &Vec<Vec<usize>>| {
            parts.iter().enumerate().map(|(index, batches)| part(version, index, batches, cut)).collect()
        };
        let sent = frame(version, &reply(version, topics.iter().map(parts).collect()));
        let got = thinned(version, room, &sent, &pieces);
        prop_assert_eq!(decoded(version, &got), wanted(decoded(version, &sent), room));
        if cut == 0 {
            prop_assert_eq!(thinned(version, 1 << 20, &sent, &pieces), sent);
        }
    }

    /// Whatever a broker sends: no panic, and no more than came.
    #[test]
    fn any_bytes(version in 4i16..=18, body in prop::collection::vec(any::<u8>(), 0..300), piece in 1usize..99) {
        let got = thinned(version, 50, &body, &[piece]);
        // A length may take more bytes than it did.
        prop_assert!(got.len() <= body.len() + 10);
    }
}

#[test]
fn null_records_stay_null() {
    for version in 4..=FetchResponse::VERSIONS.max {
        let data = PartitionData::default().with_error_code(6).with_records(None);
        let sent = frame(version, &reply(version, vec![vec![data]]));
        assert_eq!(thinned(version, 0, &sent, &[7]), sent, "v{version}");
    }
}
