//! What no client should send: the connection that sent it closes, with a reason in the log and in a metric, and all
//! others go on.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FindCoordinatorRequest, ListOffsetsRequest, MetadataRequest,
};
use kafka_protocol::protocol::Decodable;

use super::raw::{Raw, text};
use crate::support::proxy::Proxy;
use crate::support::shared::shared;
use crate::support::wait::wait_for;

const PATIENCE: Duration = Duration::from_secs(20);
const METADATA_KEY: i16 = 3;

/// `disconnects_total` of clients with this cause.
pub fn disconnects(proxy: &Proxy, cause: &str) -> u64 {
    metric(proxy, &format!("kafka_standby_disconnects_total{{side=\"client\",cause=\"{cause}\"}}"))
}

/// The value of a series; 0 when it is not there.
pub fn metric(proxy: &Proxy, series: &str) -> u64 {
    let (status, page) = proxy.get("/metrics").expect("the metrics");
    assert_eq!(status, 200);
    let page = page.as_str().expect("text").to_owned();
    let line = page.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0, |value| value.trim().parse().expect("a whole number"))
}

/// A frame with a request header and this body, without its length.
fn request(key: i16, version: i16, client_id: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    kafka_standby::wire::header::encode_request_header(&mut frame, key, version, 7, client_id).expect("a header");
    frame.extend_from_slice(body);
    frame.to_vec()
}

fn framed(frame: &[u8]) -> Vec<u8> {
    let mut bytes = (frame.len() as i32).to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    bytes
}

/// Name, the bytes sent, the cause in the metric, words of the log line.
fn bad_frames() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let all = |key, version, body: &[u8]| framed(&request(key, version, Some("raw"), body));
    let huge_count = i32::MAX.to_be_bytes();
    // An API key, a version, a correlation id, no client id: then an array of 2^31 - 1 topics in no bytes.
    let mut abort = BytesMut::new();
    for word in [METADATA_KEY, 1, 0, 7, -1] {
        abort.put_i16(word);
    }
    abort.extend_from_slice(&huge_count);
    let mut too_many_tags = request(METADATA_KEY, 12, None, &[]);
    *too_many_tags.last_mut().expect("the tag count") = 0xff;
    vec![
        ("a count that aborts a naive decoder", framed(&abort), "bad_request", "elements in 0 bytes"),
        ("the same behind a client id", all(METADATA_KEY, 1, &huge_count), "bad_request", "elements in 0 bytes"),
        ("a compact count", all(METADATA_KEY, 12, &[0xff, 0xff, 0xff, 0xff, 0x0f]), "bad_request", "elements in"),
        ("a varint without an end", all(METADATA_KEY, 12, &[0xff; 12]), "bad_request", "varint"),
        ("a length of 2 GB", i32::MAX.to_be_bytes().to_vec(), "bad_frame", "over the limit"),
        ("a negative length", (-2i32).to_be_bytes().to_vec(), "bad_frame", "is negative"),
        ("no header", framed(&[]), "bad_frame", "cut short"),
        ("half a header", framed(&[0, 3, 0, 1, 0, 0]), "bad_frame", "cut short"),
        ("a client id that is not there", framed(&[0, 3, 0, 1, 0, 0, 0, 7, 0x7f, 0xff]), "bad_frame", "cut short"),
        ("a client id of -2 bytes", framed(&[0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xfe]), "bad_frame", "client id has length"),
        ("tags that are not there", framed(&too_many_tags), "bad_frame", "cut short"),
        ("garbage for Produce", all(0, 9, b"\x17garbage and more garbage"), "bad_request", "Produce"),
        ("garbage for Fetch", all(1, 4, b"garbage"), "bad_request", "Fetch"),
        ("garbage for JoinGroup", all(11, 9, b"\xff\xff\xff\xff\xff"), "bad_request", "JoinGroup"),
        ("a body that goes on", all(METADATA_KEY, 1, b"\0\0\0\0more"), "bad_request", "behind the end"),
        ("no body", all(2, 1, b""), "bad_request", "ListOffsets"),
        ("an unknown API", all(93, 0, b""), "refused", "unknown API 93"),
        ("a negative API", all(-1, 0, b""), "refused", "unknown API -1"),
        ("a version too high", all(METADATA_KEY, 99, b""), "refused", "Metadata version 99"),
        ("a version too low", all(0, 2, b""), "refused", "Produce version 2"),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "bad_frame", "over the limit"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "bad_frame", "over the limit"),
    ]
}

#[test]
fn a_bad_frame_closes_its_connection_alone() {
    let proxy = &shared().proxy;
    let mut neighbour = Raw::connect(&proxy.bootstrap());
    let all = MetadataRequest::default().with_topics(None);
    for (what, bytes, cause, reason) in bad_frames() {
        let before = disconnects(proxy, cause);
        let mut raw = Raw::connect(&proxy.bootstrap());
        // In the middle of a conversation, as well as at its start.
        if bytes.len() % 2 == 0 {
            raw.ask(12, &all);
        }
        let address = raw.local_address();
        raw.push(&bytes);
        raw.assert_closed(what);
        wait_for(what, PATIENCE, || match disconnects(proxy, cause) {
            now if now > before => Ok(()),
            now => Err(format!("disconnects_total of {cause} is {now}")),
        });
        let line = wait_for(what, PATIENCE, || {
            let log = proxy.log();
            log.lines().find(|line| line.contains(&address) && line.contains("ended")).map(str::to_owned).ok_or(log)
        });
        assert!(line.contains(reason), "{what}: {line}");
        assert_eq!(neighbour.ask(12, &all).error_code, 0, "{what}: the neighbour is served");
    }
    assert!(proxy.is_alive());
}

/// Every prefix of proper frames, and proper frames with one byte changed: whatever they do, the proxy lives.
#[test]
fn damaged_requests_do_no_harm() {
    let proxy = &shared().proxy;
    let bodies: Vec<Vec<u8>> = vec![
        framed(&request(3, 12, Some("raw"), &super::raw::encode(12, &MetadataRequest::default().with_topics(None)))),
        framed(&request(2, 7, Some("raw"), &super::raw::encode(7, &ListOffsetsRequest::default()))),
        framed(&request(
            10,
            4,
            Some("raw"),
            &super::raw::encode(
                4,
                &FindCoordinatorRequest::default().with_coordinator_keys(vec![text("a"), text("b")]),
            ),
        )),
        framed(&request(18, 3, Some("raw"), &super::raw::encode(3, &ApiVersionsRequest::default()))),
    ];
    let mut sent = 0;
    for body in &bodies {
        for at in 0..body.len() {
            let mut raw = Raw::connect(&proxy.bootstrap());
            raw.push(&body[..at]);
            // Behind the length, or the proxy rightly waits for more.
            for value in [0xff, 0x80, 0x7f].into_iter().filter(|_| at >= 4) {
                let mut damaged = body.clone();
                damaged[at] = value;
                Raw::connect(&proxy.bootstrap()).push(&damaged);
                sent += 1;
            }
        }
    }
    assert!(sent > 200, "{sent}");
    let all = MetadataRequest::default().with_topics(None);
    assert_eq!(Raw::connect(&proxy.bootstrap()).ask(12, &all).error_code, 0);
    wait_for("the connections to be gone", PATIENCE, || {
        let open = proxy.status()["connections"].as_u64().expect("a number");
        if open < 60 { Ok(()) } else { Err(format!("{open} are open")) }
    });
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let proxy = &shared().proxy;
    let mut raw = Raw::connect(&proxy.bootstrap());
    for (version, body) in [(99, &b"\0\0\0"[..]), (i16::MAX, b""), (5, b"\x01\x01\0"), (-1, b"")] {
        let correlation = raw.push_body(18, version, body);
        let frame = raw.frame().expect("a reply");
        assert_eq!(frame[..4], correlation.to_be_bytes());
        let mut rest = frame.slice(4..);
        let reply = ApiVersionsResponse::decode(&mut rest, 0).expect("version 0");
        assert!(rest.is_empty());
        assert_eq!(reply.error_code, 35);
        let own: Vec<_> = reply.api_keys.iter().map(|k| (k.api_key, k.min_version, k.max_version)).collect();
        assert_eq!(own, [(18, 0, 4)]);
    }
    // The connection lives: the client asks again with what it was told.
    let reply = raw.ask(4, &ApiVersionsRequest::default());
    assert!(reply.error_code == 0 && reply.api_keys.len() > 40);
}

/// A client that is slow to read, or sends many requests before it reads, gets its answers in order.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let rig = shared();
    let mut raw = Raw::connect(&rig.proxy.bootstrap());
    let all = MetadataRequest::default().with_topics(None);
    let mut expected = Vec::new();
    for n in 0..300 {
        // Answered by the proxy, rewritten, forwarded, in turn: the proxy's own answers must not overtake.
        expected.push(match n % 3 {
            0 => raw.push_request(12, &all),
            1 => raw.push_request(3, &ApiVersionsRequest::default()),
            _ => raw.push_request(4, &kafka_protocol::messages::ListGroupsRequest::default()),
        });
    }
    for correlation in expected {
        let frame = raw.frame().expect("a reply");
        assert_eq!(frame[..4], correlation.to_be_bytes());
    }
}
