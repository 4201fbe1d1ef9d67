use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{LeaderIdAndEpoch, PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ApiKey, BrokerId, ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::{Encodable, StrBytes};
use proptest::prelude::*;

use super::*;
use crate::wire::body;

const KEY: i16 = ApiKey::Produce as i16;

fn encode<M: Encodable>(message: &M, version: i16) -> Vec<u8> {
    body::encode(message, version).unwrap().to_vec()
}

/// Topics with the sizes of their partitions' records; partitions count from 3.
fn request(version: i16, id: Option<&str>, topics: &[&[usize]]) -> ProduceRequest {
    let topics = topics.iter().enumerate().map(|(n, sizes)| {
        let data = sizes.iter().zip(3..).map(|(&size, index)| {
            let records = Bytes::from(vec![index as u8; size]);
            PartitionProduceData::default().with_index(index).with_records(Some(records))
        });
        let topic = TopicProduceData::default().with_partition_data(data.collect());
        match version >= TOPIC_IDS {
            true => topic.with_topic_id(Uuid::from_u128(n as u128 + 1)),
            false => topic.with_name(StrBytes::from_string(format!("topic-{n}")).into()),
        }
    });
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(1000)
        .with_transactional_id(id.map(|id| StrBytes::from_string(id.to_owned()).into()))
        .with_topic_data(topics.collect())
}

fn agree(version: i16, request: &ProduceRequest) {
    let body = encode(request, version);
    let got = sent(version, &body, body.len()).expect("it is well-formed");
    assert_eq!((got.acks, got.transactional), (request.acks, request.transactional_id.is_some()), "v{version}");
    let want = request.topic_data.iter().flat_map(|t| t.partition_data.iter().map(move |p| (t, p)));
    assert_eq!(got.parts.len(), want.clone().count());
    for (part, (topic, data)) in got.parts.iter().zip(want) {
        assert_eq!((part.topic, part.id, part.index), (topic.name.as_str(), topic.topic_id, data.index), "v{version}");
        assert_eq!(body[part.records.clone()], *data.records.as_ref().unwrap(), "v{version}");
    }
}

#[test]
fn requests_read_as_by_the_codec_in_every_version() {
    for version in VERSIONS {
        for topics in [&[][..], &[&[100][..]], &[&[1, 300, 2][..], &[][..], &[0, 70][..]]] {
            agree(version, &request(version, None, topics));
            agree(version, &request(version, Some("tx"), topics));
        }
    }
}

#[test]
fn the_front_of_a_request_is_enough_once_it_reaches_the_last_records() {
    for version in VERSIONS {
        let body = encode(&request(version, None, &[&[10, 20], &[500]]), version);
        let whole = sent(version, &body, body.len()).unwrap();
        let start = whole.parts[2].records.start;
        assert_eq!(sent(version, &body[..start], body.len()).as_ref(), Some(&whole), "v{version}");
        assert_eq!(sent(version, &body[..start + 61], body.len()).as_ref(), Some(&whole));
        assert_eq!(sent(version, &body[..start - 1], body.len()), None, "not there yet");
        // What would come behind the records is something else.
        assert_eq!(sent(version, &body[..start + 61], body.len() + 1), None);
        assert_eq!(sent(version, &body[..start + 61], body.len() - 1), None);
        // More partitions would come.
        let inner = whole.parts[0].records.start;
        assert_eq!(sent(version, &body[..inner + 5], body.len()), None);
    }
}

#[test]
fn requests_with_null_records_tags_or_trailing_bytes_are_left_to_others() {
    let mut null = request(9, None, &[&[100]]);
    null.topic_data[0].partition_data[0].records = None;
    for version in [8, 9] {
        let body = encode(&null, version);
        assert_eq!(sent(version, &body, body.len()), None);
    }
    let mut body = encode(&request(9, None, &[&[100]]), 9);
    body.push(0);
    assert_eq!(sent(9, &body, body.len()), None);
    let end = body.len() - 2;
    body.splice(end.., [1, 7, 1, 0]); // a tagged field 7 of one byte
    assert_eq!(sent(9, &body, body.len()), None);
    assert_eq!(sent(14, &body, body.len()), None);
}

fn reply(version: i16) -> ProduceResponse {
    let row = |index, base| {
        let row = PartitionProduceResponse::default().with_index(index).with_base_offset(base);
        row.with_log_append_time_ms(5).with_log_start_offset(if version >= 5 { 2 } else { -1 })
    };
    let topics = (1..3u8).map(|n| {
        let topic = TopicProduceResponse::default().with_partition_responses(vec![row(0, 40), row(7, 1 << 40)]);
        match version >= TOPIC_IDS {
            true => topic.with_topic_id(Uuid::from_u128(u128::from(n))),
            false => topic.with_name(StrBytes::from_string(format!("topic-{n}")).into()),
        }
    });
    ProduceResponse::default().with_responses(topics.collect()).with_throttle_time_ms(9)
}

#[test]
fn replies_are_changed_where_they_lie_as_by_the_codec() {
    for version in VERSIONS {
        let mut want = reply(version);
        let mut body = encode(&want, version);
        let mut rows = stored(version, &body).expect("all is stored");
        let names: Vec<_> = rows.iter().map(|row| row.name(&body).to_owned()).collect();
        let mut names = names.iter();
        for (topic, rows) in want.responses.iter_mut().zip(rows.chunks_mut(2)) {
            assert_eq!(names.next().unwrap(), topic.name.as_bytes());
            names.next();
            for (p, row) in topic.partition_responses.iter_mut().zip(rows) {
                let got = (row.id, row.index, row.base_offset, row.log_append_time_ms, row.log_start_offset);
                let start = p.log_start_offset;
                assert_eq!(got, (topic.topic_id, p.index, p.base_offset, 5, start), "v{version}");
                p.base_offset += 1000;
                (row.base_offset, row.id) = (p.base_offset, Uuid::from_u128(row.id.as_u128() << 64));
                if version >= 5 {
                    p.log_start_offset = 77;
                    row.log_start_offset = 77;
                }
            }
            topic.topic_id = Uuid::from_u128(topic.topic_id.as_u128() << 64);
        }
        put(version, &mut body, &rows);
        assert_eq!(body, encode(&want, version), "v{version}");
    }
}

#[test]
fn replies_with_anything_else_in_them_are_left_to_others() {
    let hint = LeaderIdAndEpoch::default().with_leader_id(BrokerId(1)).with_leader_epoch(2);
    type Change = fn(&mut PartitionProduceResponse);
    let changes: [Change; 3] =
        [|p| p.error_code = 6, |p| p.error_message = Some("text".into()), |p| p.base_offset = -1];
    for change in changes {
        let mut reply = reply(12);
        change(&mut reply.responses[1].partition_responses[1]);
        assert_eq!(stored(12, &encode(&reply, 12)), None);
    }
    let mut led = reply(12);
    led.responses[0].partition_responses[0].current_leader = hint;
    assert_eq!(stored(12, &encode(&led, 12)), None);
    let mut long = encode(&reply(12), 12);
    long.push(0);
    assert_eq!(stored(12, &long), None);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), version in 2i16..15, more in 0usize..5) {
        let _ = sent(version, &bytes, bytes.len() + more);
        let _ = stored(version, &bytes);
    }

    /// What is taken here the guard would let through to the codec as well.
    #[test]
    fn what_is_read_passes_the_guard(
        sizes in prop::collection::vec(0usize..90, 0..4), version in VERSIONS, at in any::<prop::sample::Index>(), byte: u8,
    ) {
        use crate::wire::guard::{Kind, check};
        let mut body = encode(&request(version, None, &[&sizes]), version);
        *at.get_mut(&mut body) = byte;
        if sent(version, &body, body.len()).is_some() {
            prop_assert_eq!(check(Kind::Request, KEY, version, &body), Ok(()));
        }
        let mut body = encode(&reply(version), version);
        *at.get_mut(&mut body) = byte;
        if stored(version, &body).is_some() {
            prop_assert_eq!(check(Kind::Response, KEY, version, &body), Ok(()));
        }
    }
}
