use super::*;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, Message, Request};
use proptest::prelude::*;

/// A message of the codec: which one, its versions, and a function that decodes a body and writes it again.
struct Codec {
    kind: Kind,
    key: i16,
    versions: (i16, i16),
    /// Err: the codec's refusal. Ok: bytes it left unread, and the message written again.
    round_trip: fn(Bytes, i16) -> Result<(usize, Bytes), String>,
}

fn round_trip<M: Decodable + Encodable>(mut body: Bytes, version: i16) -> Result<(usize, Bytes), String> {
    let message = M::decode(&mut body, version).map_err(|error| error.to_string())?;
    let mut written = BytesMut::new();
    message.encode(&mut written, version).map_err(|error| error.to_string())?;
    Ok((body.len(), written.freeze()))
}

macro_rules! codecs {
    ($($request:ident)*) => {
        vec![$(
            codec::<$request>(Kind::Request, <$request as Request>::KEY),
            codec::<<$request as Request>::Response>(Kind::Response, <$request as Request>::KEY),
        )*]
    };
}

fn codec<M: Message + Decodable + Encodable>(kind: Kind, key: i16) -> Codec {
    Codec { kind, key, versions: (M::VERSIONS.min, M::VERSIONS.max), round_trip: round_trip::<M> }
}

/// Every API that the codec knows.
fn codecs() -> Vec<Codec> {
    codecs!(
        ProduceRequest FetchRequest ListOffsetsRequest MetadataRequest OffsetCommitRequest OffsetFetchRequest
        FindCoordinatorRequest JoinGroupRequest HeartbeatRequest LeaveGroupRequest SyncGroupRequest
        DescribeGroupsRequest ListGroupsRequest SaslHandshakeRequest ApiVersionsRequest CreateTopicsRequest
        DeleteTopicsRequest DeleteRecordsRequest InitProducerIdRequest OffsetForLeaderEpochRequest
        AddPartitionsToTxnRequest AddOffsetsToTxnRequest EndTxnRequest WriteTxnMarkersRequest
        TxnOffsetCommitRequest DescribeAclsRequest CreateAclsRequest DeleteAclsRequest DescribeConfigsRequest
        AlterConfigsRequest AlterReplicaLogDirsRequest DescribeLogDirsRequest SaslAuthenticateRequest
        CreatePartitionsRequest CreateDelegationTokenRequest RenewDelegationTokenRequest
        ExpireDelegationTokenRequest DescribeDelegationTokenRequest DeleteGroupsRequest ElectLeadersRequest
        IncrementalAlterConfigsRequest AlterPartitionReassignmentsRequest ListPartitionReassignmentsRequest
        OffsetDeleteRequest DescribeClientQuotasRequest AlterClientQuotasRequest
        DescribeUserScramCredentialsRequest AlterUserScramCredentialsRequest VoteRequest
        BeginQuorumEpochRequest EndQuorumEpochRequest DescribeQuorumRequest AlterPartitionRequest
        UpdateFeaturesRequest EnvelopeRequest FetchSnapshotRequest DescribeClusterRequest
        DescribeProducersRequest BrokerRegistrationRequest BrokerHeartbeatRequest UnregisterBrokerRequest
        DescribeTransactionsRequest ListTransactionsRequest AllocateProducerIdsRequest
        ConsumerGroupHeartbeatRequest ConsumerGroupDescribeRequest ControllerRegistrationRequest
        GetTelemetrySubscriptionsRequest PushTelemetryRequest AssignReplicasToDirsRequest
        ListConfigResourcesRequest DescribeTopicPartitionsRequest ShareGroupHeartbeatRequest
        ShareGroupDescribeRequest ShareFetchRequest ShareAcknowledgeRequest AddRaftVoterRequest
        RemoveRaftVoterRequest UpdateRaftVoterRequest InitializeShareGroupStateRequest
        ReadShareGroupStateRequest WriteShareGroupStateRequest DeleteShareGroupStateRequest
        ReadShareGroupStateSummaryRequest DescribeShareGroupOffsetsRequest AlterShareGroupOffsetsRequest
        DeleteShareGroupOffsetsRequest
    )
}

/// Every message of the codec at every version that Kafka has too.
fn cases() -> Vec<(Codec, i16)> {
    let mut cases = Vec::new();
    for codec in codecs() {
        let (low, high) = schema::versions(codec.key).unwrap();
        for version in codec.versions.0.max(low)..=codec.versions.1.min(high) {
            cases.push((Codec { ..codec }, version));
        }
    }
    cases
}

/// Writes messages by the schema with values taken from a stream of numbers (xorshift).
struct Writer {
    state: u64,
    version: i16,
    flexible: bool,
    out: Vec<u8>,
    /// Write known tagged fields, unknown ones too if above 1.
    tags: u8,
}

impl Writer {
    fn message(kind: Kind, key: i16, version: i16, seed: u64, tags: u8) -> Vec<u8> {
        let api = schema::api(key).unwrap();
        let range = if kind == Kind::Request { api.request.clone() } else { api.response.clone() };
        let flexible = version >= api.flexible_from;
        let mut writer = Writer { state: seed | 1, version, flexible, out: Vec::new(), tags };
        writer.structure(range);
        writer.out
    }

    fn random(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 16) % below
    }

    fn structure(&mut self, range: Range<usize>) {
        let (mut at, mut tagged) = (range.start, Vec::new());
        while at < range.end {
            let field = &schema::fields()[at];
            if schema::contains(field.versions, self.version) {
                match field.tag {
                    None => self.value(at, field),
                    Some(tag) => tagged.push((at, field, tag)),
                }
            }
            at = field.end;
        }
        if !self.flexible {
            return;
        }
        tagged.retain(|_| self.tags > 0 && self.random(2) == 0);
        let unknown = usize::from(self.tags > 1 && self.random(4) == 0);
        uvarint(&mut self.out, tagged.len() + unknown);
        for (at, field, tag) in tagged {
            let mut inner = Writer { out: Vec::new(), ..*self };
            inner.value(at, field);
            self.state = inner.state;
            uvarint(&mut self.out, tag as usize);
            uvarint(&mut self.out, inner.out.len());
            self.out.append(&mut inner.out);
        }
        if unknown > 0 {
            self.out.extend([99, 2, 0xab, 0xcd]);
        }
    }

    fn value(&mut self, at: usize, field: &'static Field) {
        let null = schema::contains(field.nullable, self.version) && self.random(3) == 0;
        let nullable = schema::contains(field.nullable, self.version);
        if !field.array {
            return self.element(at, field, nullable, null);
        }
        let count = if null { None } else { Some(self.random(3) as usize) };
        self.length(count, 4);
        for _ in 0..count.unwrap_or(0) {
            self.element(at, field, false, false);
        }
    }

    fn element(&mut self, at: usize, field: &'static Field, nullable: bool, null: bool) {
        let len = if null { None } else { Some(self.random(4) as usize) };
        match field.kind {
            // Small numbers: a bool is 0 or 1.
            schema::Kind::Fixed(size) => {
                self.out.extend(std::iter::repeat_n(0, size - 1));
                let last = self.random(2) as u8;
                self.out.push(last);
            }
            schema::Kind::String | schema::Kind::Bytes => {
                self.length(len, if field.kind == schema::Kind::String { 2 } else { 4 });
                self.out.extend(std::iter::repeat_n(b'k', len.unwrap_or(0)));
            }
            schema::Kind::Structure => {
                if nullable {
                    self.out.push(if null { 0xff } else { 1 });
                }
                if !null {
                    self.structure(at + 1..field.end);
                }
            }
        }
    }

    fn length(&mut self, len: Option<usize>, width: usize) {
        if self.flexible {
            uvarint(&mut self.out, len.map_or(0, |len| len + 1));
        } else {
            let bytes = len.map_or(-1, |len| len as i64).to_be_bytes();
            self.out.extend(&bytes[8 - width..]);
        }
    }
}

fn uvarint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[test]
fn the_codec_agrees_with_the_schema_in_every_message_and_version() {
    let cases = cases();
    assert!(cases.len() > 350, "{}", cases.len());
    for (codec, version) in cases {
        for seed in 1..40u64 {
            // Unknown tags come after known ones here; the codec writes them so too, hence equal bytes without known ones.
            let body = Writer::message(
                codec.kind,
                codec.key,
                version,
                seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                (seed % 3) as u8,
            );
            let what =
                format!("{:?} {} {version} seed {seed}: {body:02x?}", codec.kind, schema::name(codec.key).unwrap());
            assert_eq!(check(codec.kind, codec.key, version, &body), Ok(()), "{what}");
            let (unread, written) = (codec.round_trip)(Bytes::from(body.clone()), version).expect(&what);
            assert_eq!(unread, 0, "{what}");
            assert_eq!(check(codec.kind, codec.key, version, &written), Ok(()), "{what} written as {written:02x?}");
            if seed % 3 == 0 {
                assert_eq!(&body[..], &written[..], "{what}");
            }
        }
    }
}

#[test]
fn every_truncation_and_every_extra_byte_is_refused() {
    for (codec, version) in cases() {
        let body = Writer::message(codec.kind, codec.key, version, 0x1234_5678_9abc_def1, 2);
        for len in 0..body.len() {
            let result = check(codec.kind, codec.key, version, &body[..len]);
            assert!(result.is_err(), "{} {version} cut to {len} of {body:02x?}", schema::name(codec.key).unwrap());
        }
        let longer = [&body[..], &[0]].concat();
        assert_eq!(check(codec.kind, codec.key, version, &longer), Err(GuardError::Trailing(1)));
    }
}

/// KAFKA-FACTS "a 12-byte body can abort the process": each asks for an array of two or four thousand million elements.
#[test]
fn twelve_bytes_cannot_abort_the_process() {
    let metadata = [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        check(Kind::Request, 3, 1, &metadata),
        Err(GuardError::Count { field: "Topics", count: 0x7fff_ffff, left: 8 })
    );
    let compact = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        check(Kind::Request, 3, 12, &compact),
        Err(GuardError::Count { field: "Topics", count: 0xffff_fffe, left: 7 })
    );
    let produce = [0xff, 0xff, 0, 1, 0, 0, 0, 9, 0x7f, 0xff, 0xff, 0xff];
    assert_eq!(
        check(Kind::Request, 0, 3, &produce),
        Err(GuardError::Count { field: "TopicData", count: 0x7fff_ffff, left: 0 })
    );
}

#[test]
fn each_refusal_is_named() {
    let topic = "Name";
    for (what, version, body, want) in [
        ("null topics in v0", 0, &[0xff, 0xff, 0xff, 0xff][..], GuardError::Null { field: "Topics" }),
        ("negative count", 1, &[0xff, 0xff, 0xff, 0xfe], GuardError::Length { field: "Topics", len: -2 }),
        ("null name", 1, &[0, 0, 0, 1, 0xff, 0xff], GuardError::Null { field: topic }),
        ("negative name", 1, &[0, 0, 0, 1, 0x80, 0], GuardError::Length { field: topic, len: -32768 }),
        ("name too short", 1, &[0, 0, 0, 1, 0, 2, b'a'], GuardError::Truncated { field: topic, need: 2, left: 1 }),
        ("not UTF-8", 1, &[0, 0, 0, 1, 0, 1, 0xff], GuardError::NotUtf8 { field: topic }),
        ("varint", 9, &[0xff, 0xff, 0xff, 0xff, 0x7f], GuardError::Varint { field: "Topics" }),
        ("no version 99", 99, &[], GuardError::UnknownVersion { key: 3, version: 99 }),
        ("trailing", 0, &[0, 0, 0, 0, 7], GuardError::Trailing(1)),
    ] {
        assert_eq!(check(Kind::Request, 3, version, body), Err(want), "{what}");
    }
    assert_eq!(check(Kind::Request, 3, 1, &[0xff, 0xff, 0xff, 0xff]), Ok(()), "null topics in v1");
    assert_eq!(check(Kind::Response, 93, 0, &[]), Err(GuardError::UnknownVersion { key: 93, version: 0 }));
    // ConsumerGroupHeartbeat's reply ends in an optional structure.
    let reply = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let error = GuardError::Marker { field: "Assignment", marker: 0 };
    assert_eq!(check(Kind::Response, 68, 0, &reply), Err(error));
}

#[test]
fn long_compact_strings_are_refused_as_a_broker_does() {
    for (len, want) in [(MAX_STRING, None), (MAX_STRING + 1, Some(GuardError::Length { field: "Key", len: 32768 }))] {
        let mut body = Vec::new();
        uvarint(&mut body, len + 1);
        body.extend(std::iter::repeat_n(b'k', len));
        body.extend([0, 0]);
        assert_eq!(check(Kind::Request, 10, 3, &body).err(), want);
    }
}

/// The codec reads a known tagged field without looking at its size; a wrong size would shift all that follows.
#[test]
fn tagged_fields_must_fill_their_size() {
    let body = |tags: &[u8]| [&[0; 4 + 4 + 4 + 1 + 4 + 4][..], &[1, 1, 1], tags].concat();
    let replica_state = |size: u8| body(&[&[1, 1, size][..], &[0; 4 + 8], &[0]].concat());
    assert_eq!(check(Kind::Request, 1, 17, &replica_state(13)), Ok(()));
    let error = GuardError::TagSize { field: "ReplicaState", size: 12, value: 13 };
    assert_eq!(check(Kind::Request, 1, 17, &replica_state(12)), Err(error));
    assert_eq!(check(Kind::Request, 1, 17, &body(&[1, 50, 2, 1, 2])), Ok(()), "unknown tag");
    let error = GuardError::Truncated { field: "Fetch", need: 3, left: 2 };
    assert_eq!(check(Kind::Request, 1, 17, &body(&[1, 50, 3, 1, 2])), Err(error));
}

#[test]
fn elements_are_counted_over_the_whole_message() {
    // DescribeGroups 0: group names of no bytes, two on the wire each.
    let body = |count: usize| [&(count as i32).to_be_bytes()[..], &vec![0; 2 * count]].concat();
    assert_eq!(check(Kind::Request, 15, 0, &body(MAX_ELEMENTS)), Ok(()));
    assert_eq!(check(Kind::Request, 15, 0, &body(MAX_ELEMENTS + 1)), Err(GuardError::TooMany { field: "Groups" }));
    // Unknown tagged fields of no bytes count too.
    let mut tags = vec![1];
    uvarint(&mut tags, MAX_ELEMENTS + 1);
    tags.extend(std::iter::repeat_n([60, 0], MAX_ELEMENTS + 1).flatten());
    assert_eq!(check(Kind::Request, 16, 3, &tags[1..]), Err(GuardError::TooMany { field: "ListGroups" }));
}

#[test]
fn an_element_of_an_array_is_never_empty() {
    // Otherwise a count would cost time and memory without bytes behind it.
    for key in schema::keys() {
        let Some((low, high)) = schema::versions(key) else { continue };
        let api = schema::api(key).unwrap();
        for version in low..=high {
            for at in api.request.start..api.response.end {
                let field = &schema::fields()[at];
                let used = schema::contains(field.versions, version) && version < api.flexible_from;
                if used && field.array && field.kind == schema::Kind::Structure {
                    let inner = &schema::fields()[at + 1..field.end];
                    assert!(
                        inner.iter().any(|field| schema::contains(field.versions, version)),
                        "{} {version} {}",
                        api.name,
                        field.name
                    );
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever gets past the guard, the codec takes without panic or abort and without trailing bytes.
    #[test]
    fn what_passes_is_safe_to_decode(seed in any::<u64>(), changes in prop::collection::vec((any::<u32>(), any::<u8>()), 1..4)) {
        for (codec, version) in cases() {
            let mut body = Writer::message(codec.kind, codec.key, version, seed, 2);
            for &(place, byte) in &changes {
                if let Some(len) = std::num::NonZeroUsize::new(body.len()) {
                    let place = place as usize % len;
                    match byte % 8 {
                        0 => body.truncate(place),
                        1 => body.insert(place, byte),
                        2 => body[place] = 0xff,
                        3 => body[place] = 0x7f,
                        _ => body[place] = byte,
                    }
                }
            }
            if check(codec.kind, codec.key, version, &body).is_ok()
                && let Ok((unread, _)) = (codec.round_trip)(Bytes::from(body), version)
            {
                prop_assert_eq!(unread, 0);
            }
        }
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..64)) {
        for (codec, version) in cases() {
            if check(codec.kind, codec.key, version, &noise).is_ok() {
                let _ = (codec.round_trip)(Bytes::copy_from_slice(&noise), version);
            }
        }
    }
}
