//! Retries of stored batches, by raw produce requests: whatever happened to brokers, clusters and the proxy in between, a
//! retry of one of the newest five batches of a producer is answered with the offset that it has, and stored once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, RequestHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_standby::records::{Codec, NewRecord, Stamp, build};
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::message::Message;

use crate::reading::Raw;
use crate::rig::{PATIENCE, Rig};
use crate::support::client;
use crate::support::cluster::Cluster;
use crate::support::scan;
use crate::support::wait::{wait_for, wait_until};

const TOPIC: &str = "retried";
/// Produce versions up to 12 name topics; 9 is the first flexible one.
const PRODUCE: (i16, i16) = (ApiKey::Produce as i16, 9);
const INIT_PRODUCER_ID: (i16, i16) = (ApiKey::InitProducerId as i16, 4);
/// Both have flexible headers.
const HEADER_VERSION: i16 = 2;
/// Records of one batch.
const COUNT: i32 = 3;
/// Errors that a client retries by itself while a cluster settles (Kafka class Errors).
const RETRIABLE: [i16; 6] = [3, 5, 6, 7, 19, 20];
const OUT_OF_ORDER_SEQUENCE: i16 = 45;

/// An idempotent producer that keeps what it sent, on a connection of its own to the proxy.
struct Producer {
    bootstrap: String,
    connection: Option<TcpStream>,
    correlation: i32,
    id: i64,
    /// Batches sent so far, and where the first acknowledgement said that they are.
    sent: Vec<(Bytes, i64)>,
}

impl Producer {
    fn new(bootstrap: &str) -> Self {
        let mut producer =
            Producer { bootstrap: bootstrap.into(), connection: None, correlation: 0, id: -1, sent: Vec::new() };
        let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
        let reply: InitProducerIdResponse = producer.call(INIT_PRODUCER_ID, &request).expect("InitProducerId");
        assert_eq!((reply.error_code, reply.producer_epoch), (0, 0));
        producer.id = reply.producer_id.0;
        producer
    }

    /// One request and its reply, on the connection as it is: an error when it is gone.
    fn call<R: Decodable>(&mut self, (key, version): (i16, i16), request: &impl Encodable) -> Result<R, String> {
        let text = |e: std::io::Error| e.to_string();
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("retries")));
        let mut frame = BytesMut::from(&[0_u8; 4][..]);
        header.encode(&mut frame, HEADER_VERSION).expect("a header");
        request.encode(&mut frame, version).expect("a request");
        let length = u32::try_from(frame.len() - 4).expect("a short request");
        frame[..4].copy_from_slice(&length.to_be_bytes());
        let mut connection = match self.connection.take() {
            Some(open) => open,
            None => TcpStream::connect(&self.bootstrap).map_err(text)?,
        };
        connection.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        connection.write_all(&frame).map_err(text)?;
        let mut length = [0; 4];
        connection.read_exact(&mut length).map_err(text)?;
        let mut reply = vec![0; u32::from_be_bytes(length) as usize];
        connection.read_exact(&mut reply).map_err(text)?;
        self.connection = Some(connection);
        assert_eq!(&reply[..4], &self.correlation.to_be_bytes(), "the reply to another request");
        // Behind the correlation id a flexible reply has an empty list of tags.
        R::decode(&mut Bytes::from(reply).slice(5..), version).map_err(|e| e.to_string())
    }

    /// Error code and offset of one attempt; the outer error: the connection is gone.
    fn attempt(&mut self, batch: &Bytes) -> Result<(i16, i64), String> {
        let data = PartitionProduceData::default().with_index(0).with_records(Some(batch.clone()));
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![topic]);
        let reply: ProduceResponse = self.call(PRODUCE, &request)?;
        let row = &reply.responses[0].partition_responses[0];
        Ok((row.error_code, row.base_offset))
    }

    /// As a client does: again on errors that say so, and on a lost connection.
    fn deliver(&mut self, batch: &Bytes) -> i64 {
        wait_for("a batch to be acknowledged", PATIENCE, || match self.attempt(batch) {
            Ok((0, offset)) => Ok(offset),
            Ok((OUT_OF_ORDER_SEQUENCE, _)) => panic!("OUT_OF_ORDER_SEQUENCE for a batch that is stored or is next"),
            Ok((code, _)) if RETRIABLE.contains(&code) => Err(format!("Kafka error {code}")),
            Ok((code, _)) => panic!("Kafka error {code}"),
            Err(lost) => Err(lost),
        })
    }

    /// The next batch of the sequence.
    fn next(&self) -> Bytes {
        let n = i32::try_from(self.sent.len()).expect("few batches");
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
        let values: Vec<String> = (0..COUNT).map(|i| format!("{} {n} {i}", self.id)).collect();
        let records: Vec<NewRecord<'_>> = values
            .iter()
            .map(|value| NewRecord { value: Some(value.as_bytes()), timestamp, ..NewRecord::default() })
            .collect();
        let stamp = Stamp { producer_id: self.id, producer_epoch: 0, base_sequence: n * COUNT };
        build(&records, Codec::None, stamp).expect("a batch")
    }

    /// Sends the next batch, which must follow the last one in the log.
    fn send_next(&mut self) {
        let batch = self.next();
        let offset = self.deliver(&batch);
        if let Some((_, before)) = self.sent.last() {
            assert_eq!(offset, before + i64::from(COUNT), "batch {}", self.sent.len());
        }
        self.sent.push((batch, offset));
    }

    /// Sends each of the newest five batches again, oldest first.
    fn retry_newest(&mut self, context: &str) {
        let newest = self.sent.split_off(self.sent.len() - 5);
        for (batch, offset) in newest {
            assert_eq!(self.deliver(&batch), offset, "{context}: the retry is told another offset");
            self.sent.push((batch, offset));
        }
    }

    /// Each value once and in order on a cluster, or through the proxy.
    fn assert_stored_once(&self, bootstrap: &str, context: &str) {
        let expected: Vec<String> = (0..self.sent.len() as i32)
            .flat_map(|n| (0..COUNT).map(move |i| (n, i)))
            .map(|(n, i)| format!("{} {n} {i}", self.id))
            .collect();
        let mut stored = Vec::new();
        scan::visit(bootstrap, TOPIC, PATIENCE, |message| {
            stored.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
            Ok(())
        })
        .expect("a scan");
        assert_eq!(stored, expected, "{context}");
    }
}

struct Case {
    rig: Rig,
    producer: Producer,
}

impl Case {
    fn start() -> Self {
        let rig = Rig::start_with("sync", |east, _| east.create_topic(TOPIC, 1, &[]));
        let mut producer = Producer::new(&rig.proxy.bootstrap());
        (0..7).for_each(|_| producer.send_next());
        assert_eq!(producer.sent[0].1, 0);
        Case { rig, producer }
    }

    /// The newest five again, a new batch behind them, and the newest five again.
    fn exercise(&mut self, context: &str) {
        self.producer.retry_newest(context);
        self.producer.send_next();
        self.producer.retry_newest(context);
        println!("{context}: fine");
    }

    fn conclude(self) {
        self.rig.proxy.wait_in_sync(PATIENCE);
        let Rig { proxy, east, west } = &self.rig;
        for (name, bootstrap) in [("proxy", proxy.bootstrap()), ("east", east.bootstrap()), ("west", west.bootstrap())]
        {
            self.producer.assert_stored_once(&bootstrap, name);
        }
        self.rig.assert_equal();
    }
}

#[test]
fn a_retry_is_known_over_cutovers_and_restarts() {
    let mut case = Case::start();
    case.exercise("before anything");

    case.rig.switch();
    case.exercise("behind a switchover");

    // East is the standby: its brokers forget all but the newest batch of each producer.
    case.rig.east.restart();
    case.rig.switch();
    case.exercise("behind a restart of the standby and a switchover");

    case.rig.proxy.restart();
    case.exercise("behind a restart of the proxy");

    // Nobody remembers: the active cluster has one batch, the proxy must find the others in the log.
    case.rig.west.restart();
    case.rig.proxy.restart();
    case.rig.switch();
    case.exercise("behind a restart of the standby and of the proxy, and a switchover");

    case.rig.west.restart();
    case.exercise("behind a restart of the active cluster");
    case.conclude();
}

#[test]
fn a_retry_is_known_behind_failovers() {
    let mut case = Case::start();
    case.rig.west.restart();
    case.rig.proxy.wait_in_sync(PATIENCE);
    case.rig.east.kill();
    let report = case.rig.proxy.failover();
    crate::rig::assert_done(&report);
    case.exercise("behind a restart of the standby and a failover");

    // East comes back with its old log; the stream goes on there.
    case.rig.east.restart();
    case.rig.switch();
    case.exercise("back on the cluster that was lost");
    case.conclude();
}

/// The largest batch that the topic takes there.
fn limit_batches(cluster: &Cluster, bytes: &str) {
    let topic = AlterConfig::new(ResourceSpecifier::Topic(TOPIC)).set("max.message.bytes", bytes);
    let results = client::block_on(client::admin(&cluster.bootstrap()).alter_configs([&topic], &AdminOptions::new()));
    assert!(results.expect("alter_configs is sent").iter().all(Result::is_ok), "the topic's limit is set");
}

/// A batch that the lost cluster alone had is stored on the new one when the client sends it again; the lost cluster, when
/// it comes back, must get that copy too although it takes it for a duplicate of its own.
#[test]
fn a_batch_in_the_lost_tail_is_copied_back() {
    let mut case = Case::start();
    let spec = case.rig.proxy.spec_mut();
    spec.tee = "async".into();
    case.rig.proxy.restart();
    case.exercise("asynchronously");
    case.rig.proxy.wait_in_sync(PATIENCE);

    // The standby refuses what comes: killing it would not do, since the stream goes on from memory when it is back.
    limit_batches(&case.rig.west, "1");
    let (kept, lost) = (case.producer.sent.len(), 3);
    (0..lost).for_each(|_| case.producer.send_next());
    case.rig.east.kill();
    let report = case.rig.proxy.failover();
    assert_eq!(report["outcome"], "done", "{report:#}");
    let listed: Vec<_> = report["lost"].as_array().into_iter().flatten().map(|l| l["records"].as_u64()).collect();
    assert_eq!(listed, [Some(u64::from(COUNT.unsigned_abs()) * lost)], "{report:#}");

    limit_batches(&case.rig.west, "1000000");

    // Acknowledged and lost; a client that had not got the acknowledgement would send them again. They are new records
    // above all that was seen.
    let tail = case.producer.sent.split_off(kept);
    for (batch, old) in tail {
        let offset = case.producer.deliver(&batch);
        assert!(offset > old, "a logical offset is used again: {offset}");
        case.producer.sent.push((batch, offset));
    }
    case.producer.retry_newest("behind the failover");
    case.rig.east.restart();
    case.rig.switch();
    case.producer.retry_newest("back on the cluster that was lost");
    case.producer.send_next();
    case.rig.proxy.wait_in_sync(PATIENCE);
    for bootstrap in [case.rig.proxy.bootstrap(), case.rig.west.bootstrap()] {
        case.producer.assert_stored_once(&bootstrap, "behind the failover");
    }
    case.rig.assert_equal();
}

/// The active cluster stores a batch, the standby does not get it, and the active cluster dies: nobody was told that the batch
/// is stored, so its retry must not be taken for a duplicate.
#[test]
fn a_batch_that_was_never_acknowledged_is_stored_behind_a_failover() {
    let Case { mut rig, mut producer } = Case::start();
    rig.proxy.wait_in_sync(PATIENCE);
    limit_batches(&rig.west, "1");
    let batch = producer.next();
    let east = Raw::new("east", &rig.east.bootstrap());
    let end = east.ends(TOPIC, 1)[0] + i64::from(COUNT);
    let first = thread::scope(|scope| {
        let first = scope.spawn(|| producer.attempt(&batch));
        wait_until("the active cluster to have the batch", PATIENCE, || east.ends(TOPIC, 1)[0] == end);
        rig.east.kill();
        crate::rig::assert_done(&rig.proxy.failover());
        first.join().expect("the attempt ended")
    });
    assert!(!matches!(first, Ok((0, _))), "it was acknowledged: {first:?}");
    limit_batches(&rig.west, "1000000");
    let offset = producer.deliver(&batch);
    producer.sent.push((batch, offset));
    rig.east.restart();
    let mut case = Case { rig, producer };
    case.exercise("behind the failover");
    case.rig.switch();
    case.exercise("back on the cluster that was lost");
    case.rig.proxy.wait_in_sync(PATIENCE);
    for bootstrap in [case.rig.proxy.bootstrap(), case.rig.west.bootstrap()] {
        case.producer.assert_stored_once(&bootstrap, "behind the failover");
    }
    case.rig.assert_equal();
}
