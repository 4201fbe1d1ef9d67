//! The load generator's own Kafka client: blocking sockets, produce frames built once and patched, fetch replies that are
//! walked by their lengths. As little CPU as can be, since it shares the machine with what is measured.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
    ProduceResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use kafka_standby::records::{Codec, NewRecord, Stamp, build};
use kafka_standby::wire::header;
use rand::RngCore;
use uuid::Uuid;

use super::fetched;

/// Versions as the newest clients use them: topics by id in Produce and Fetch.
const PRODUCE: i16 = 13;
const FETCH: i16 = 16;
const METADATA: i16 = 12;
const LIST_OFFSETS: i16 = 7;
const INIT_PRODUCER_ID: i16 = 4;
/// A reply that takes longer is missing; long enough for a broker that creates thousands of partitions beside.
const PATIENCE: Duration = Duration::from_secs(120);
/// For what a cluster needs a moment for: half a minute in all.
const ATTEMPTS: u32 = 600;
const PAUSE: Duration = Duration::from_millis(50);
/// Where a batch's fields are (class DefaultRecordBatch).
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const PRODUCER_ID: usize = 43;
const BASE_SEQUENCE: usize = 53;
/// Correlation id in a request frame: behind length, key and version.
const CORRELATION: usize = 8;
/// A newly created topic is led and known everywhere within a moment.
const NOT_YET: [i16; 6] = [3, 5, 6, 72, 100, 103];

/// One blocking connection.
pub struct Wire {
    stream: TcpStream,
    correlation: i32,
    reply: Vec<u8>,
}

impl Wire {
    pub fn connect(address: &str) -> Self {
        Self::try_connect(address).unwrap_or_else(|e| panic!("{address}: {e}"))
    }

    pub fn try_connect(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, correlation: 0, reply: Vec::new() })
    }

    /// A second handle of the same connection, for a thread that only reads.
    fn reader(&self) -> Self {
        let stream = self.stream.try_clone().expect("a handle is duplicated");
        Self { stream, correlation: 0, reply: Vec::new() }
    }

    pub fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.try_send(version, request).expect("a request is sent");
    }

    fn try_send<R: Request>(&mut self, version: i16, request: &R) -> std::io::Result<()> {
        self.correlation += 1;
        let mut frame = BytesMut::zeroed(4);
        header::encode_request_header(&mut frame, R::KEY, version, self.correlation, Some("bench")).expect("a header");
        request.encode(&mut frame, version).expect("a request of that version");
        let length = u32::try_from(frame.len() - 4).expect("a frame");
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame)
    }

    /// The next reply without its length.
    pub fn frame(&mut self) -> std::io::Result<&[u8]> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if self.reply.len() < length {
            self.reply.resize(length, 0);
        }
        self.stream.read_exact(&mut self.reply[..length])?;
        Ok(&self.reply[..length])
    }

    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request);
        self.answer::<R>(version)
    }

    fn answer<R: Request>(&mut self, version: i16) -> R::Response {
        let frame = bytes::Bytes::copy_from_slice(self.frame().expect("a reply"));
        let body = header::response_body_offset(R::KEY, version, &frame).expect("a reply's header");
        <R::Response as Decodable>::decode(&mut frame.slice(body..), version).expect("a reply's body")
    }

    /// Asks for nothing but a sign of life, without waiting for it.
    pub fn send_metadata(&mut self, topic: &str) -> std::io::Result<()> {
        let topics = vec![MetadataRequestTopic::default().with_name(Some(topic_name(topic)))];
        self.try_send(METADATA, &MetadataRequest::default().with_topics(Some(topics)))
    }
}

fn topic_name(name: &str) -> TopicName {
    StrBytes::from_string(name.to_owned()).into()
}

/// A topic as seen from one address.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where its partitions are led.
    pub address: String,
    pub name: String,
    id: Uuid,
    partitions: i32,
}

impl Target {
    /// Looks the topic up. A relay does not change the address that a broker tells of itself, so it is not `followed`.
    pub fn find(bootstrap: &str, name: &str, followed: bool) -> Self {
        let mut wire = Wire::connect(bootstrap);
        for _ in 0..ATTEMPTS {
            wire.send_metadata(name).expect("a request is sent");
            let metadata = wire.answer::<MetadataRequest>(METADATA);
            let topic = &metadata.topics[0];
            let led = topic.error_code == 0 && topic.partitions.iter().all(|p| p.leader_id.0 >= 0);
            let broker = metadata.brokers.first();
            if let (true, Some(broker)) = (led, broker) {
                let told = format!("{}:{}", broker.host.as_str(), broker.port);
                let address = if followed { told } else { bootstrap.to_owned() };
                let partitions = i32::try_from(topic.partitions.len()).expect("an int in Kafka too");
                return Self { address, name: name.into(), id: topic.topic_id, partitions };
            }
            std::thread::sleep(PAUSE);
        }
        panic!("{name} has no leader at {bootstrap}");
    }

    /// The ends of its partitions' logs.
    pub fn ends_of_log(&self) -> Vec<i64> {
        self.ends(&mut Wire::connect(&self.address))
    }

    /// As `ends_of_log`, over a connection to its address that is there already.
    pub fn ends(&self, wire: &mut Wire) -> Vec<i64> {
        let latest = |p| ListOffsetsPartition::default().with_partition_index(p).with_timestamp(-1);
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name(&self.name))
            .with_partitions((0..self.partitions).map(latest).collect());
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let mut reply = wire.ask(LIST_OFFSETS, &request);
        let mut partitions = std::mem::take(&mut reply.topics[0].partitions);
        partitions.sort_by_key(|p| p.partition_index);
        partitions.iter().map(|p| p.offset).collect()
    }
}

/// A batch of `records` records with `size` random bytes each: nothing that compresses.
fn batch(records: usize, size: usize) -> bytes::Bytes {
    let mut value = vec![0; size];
    rand::rng().fill_bytes(&mut value);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let timestamp = i64::try_from(now.as_millis()).expect("before the year 292 million");
    let record = NewRecord { value: Some(&value), timestamp, ..NewRecord::default() };
    build(&vec![record; records], Codec::None, Stamp::NONE).expect("a batch")
}

/// An idempotent producer with one frame, sent again and again under new sequences.
pub struct Producer {
    wire: Wire,
    frame: Vec<u8>,
    /// Where each partition's batch is in the frame.
    batches: Vec<(usize, usize)>,
    records: usize,
    sequence: i32,
}

impl Producer {
    /// Each request carries one batch for each of `partitions`. The first request is sent and answered here, so that
    /// what comes once per connection and topic is not measured.
    pub fn connect(target: &Target, partitions: &[i32], records: usize, size: usize) -> Self {
        let mut wire = Wire::connect(&target.address);
        let (id, epoch) = producer_id(&mut wire);
        let batch = batch(records, size);
        let data = |&p| PartitionProduceData::default().with_index(p).with_records(Some(batch.clone()));
        let topic = TopicProduceData::default()
            .with_topic_id(target.id)
            .with_partition_data(partitions.iter().map(data).collect());
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
        let mut frame = BytesMut::zeroed(4);
        header::encode_request_header(&mut frame, ProduceRequest::KEY, PRODUCE, 0, Some("bench")).expect("a header");
        request.encode(&mut frame, PRODUCE).expect("a request");
        let mut frame = frame.to_vec();
        let length = u32::try_from(frame.len() - 4).expect("a frame");
        frame[..4].copy_from_slice(&length.to_be_bytes());
        let batches = find(&frame, &batch, partitions.len());
        for &(start, _) in &batches {
            frame[start + PRODUCER_ID..][..8].copy_from_slice(&id.to_be_bytes());
            frame[start + PRODUCER_ID + 8..][..2].copy_from_slice(&epoch.to_be_bytes());
        }
        let mut producer = Self { wire, frame, batches, records, sequence: 0 };
        producer.first();
        producer
    }

    /// A topic that has just been made is not known everywhere at once.
    fn first(&mut self) {
        for _ in 0..ATTEMPTS {
            self.send();
            let codes = self.reader().codes();
            if codes.iter().all(|&code| code == 0) {
                return;
            }
            assert!(codes.iter().all(|code| NOT_YET.contains(code)), "the first produce failed: {codes:?}");
            assert!(self.batches.len() == 1 || codes.iter().all(|&code| code != 0), "stored in part: {codes:?}");
            self.sequence = 0;
            std::thread::sleep(PAUSE);
        }
        panic!("no produce succeeds");
    }

    /// Of one request, on the wire.
    pub fn request_bytes(&self) -> usize {
        self.frame.len()
    }

    pub fn send(&mut self) {
        self.wire.correlation += 1;
        self.frame[CORRELATION..][..4].copy_from_slice(&self.wire.correlation.to_be_bytes());
        for &(start, size) in &self.batches {
            let batch = &mut self.frame[start..start + size];
            batch[BASE_SEQUENCE..][..4].copy_from_slice(&self.sequence.to_be_bytes());
            let crc = crc32c::crc32c(&batch[ATTRIBUTES..]);
            batch[CRC..][..4].copy_from_slice(&crc.to_be_bytes());
        }
        self.sequence += i32::try_from(self.records).expect("a batch has few records");
        self.wire.stream.write_all(&self.frame).expect("a produce request is sent");
    }

    /// Waits for the oldest reply outstanding; panics when a partition failed.
    pub fn acknowledged(&mut self) {
        let frame = self.wire.frame().expect("a produce reply");
        check(frame);
    }

    /// Reads the replies, on another thread if need be.
    pub fn reader(&self) -> Acks {
        Acks { wire: self.wire.reader(), records: self.records }
    }
}

/// A producer id and its epoch. A broker that has just started has none to give for a moment.
fn producer_id(wire: &mut Wire) -> (i64, i16) {
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    for _ in 0..ATTEMPTS {
        let reply = wire.ask(INIT_PRODUCER_ID, &request);
        if reply.error_code == 0 {
            return (reply.producer_id.0, reply.producer_epoch);
        }
        std::thread::sleep(PAUSE);
    }
    panic!("no producer id is given");
}

/// The replies of a producer.
pub struct Acks {
    wire: Wire,
    records: usize,
}

impl Acks {
    /// Partition and log end behind the batch, of the oldest reply outstanding.
    pub fn next(&mut self) -> Vec<(i32, i64)> {
        let frame = self.wire.frame().expect("a produce reply");
        let reply = check(frame);
        let rows = reply.responses.iter().flat_map(|t| &t.partition_responses);
        rows.map(|p| (p.index, p.base_offset + self.records as i64)).collect()
    }

    fn codes(&mut self) -> Vec<i16> {
        let reply = decode(self.wire.frame().expect("a produce reply"));
        reply.responses.iter().flat_map(|t| &t.partition_responses).map(|p| p.error_code).collect()
    }
}

fn decode(frame: &[u8]) -> ProduceResponse {
    let frame = bytes::Bytes::copy_from_slice(frame);
    let body = header::response_body_offset(ProduceRequest::KEY, PRODUCE, &frame).expect("a reply's header");
    ProduceResponse::decode(&mut frame.slice(body..), PRODUCE).expect("a produce reply")
}

fn check(frame: &[u8]) -> ProduceResponse {
    let reply = decode(frame);
    for row in reply.responses.iter().flat_map(|t| &t.partition_responses) {
        assert_eq!(row.error_code, 0, "partition {}: {:?}", row.index, row.error_message);
    }
    reply
}

/// The places of `count` equal batches in a frame.
fn find(frame: &[u8], batch: &[u8], count: usize) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while found.len() < count {
        assert!(at + batch.len() <= frame.len(), "the frame holds its batches");
        if &frame[at..at + batch.len()] == batch {
            found.push((at, batch.len()));
            at += batch.len();
        } else {
            at += 1;
        }
    }
    found
}

/// A reader of given partitions, without a group.
pub struct Consumer {
    pub wire: Wire,
    id: Uuid,
    /// Partition and the offset to read next.
    positions: Vec<(i32, i64)>,
}

impl Consumer {
    pub fn connect(target: &Target, partitions: &[i32]) -> Self {
        let positions = partitions.iter().map(|&p| (p, 0)).collect();
        Self { wire: Wire::connect(&target.address), id: target.id, positions }
    }

    /// Asks as the Java consumer does by default: 1 MiB for a partition, 50 MiB in all, as soon as there is anything.
    pub fn ask(&mut self) {
        let partition = |&(p, offset)| {
            FetchPartition::default().with_partition(p).with_fetch_offset(offset).with_partition_max_bytes(1 << 20)
        };
        let topic = FetchTopic::default()
            .with_topic_id(self.id)
            .with_partitions(self.positions.iter().map(partition).collect());
        let request = FetchRequest::default()
            .with_session_epoch(-1)
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_topics(vec![topic]);
        self.wire.send(FETCH, &request);
    }

    /// Takes the reply; gives its size and where its partitions' records end.
    pub fn take(&mut self) -> (usize, Vec<(i32, i64)>) {
        let frame = self.wire.frame().expect("a fetch reply");
        let (size, ends) = (frame.len(), fetched::ends(frame).expect("a fetch reply of the version asked for"));
        for &(partition, end) in &ends {
            if let Some(position) = self.positions.iter_mut().find(|(p, _)| *p == partition) {
                position.1 = position.1.max(end);
            }
        }
        (size, ends)
    }

    /// Whether all its partitions were read so far.
    pub fn has_read(&self, ends: &[i64]) -> bool {
        self.positions.iter().all(|&(p, next)| ends.get(p as usize).is_none_or(|&end| next >= end))
    }
}
