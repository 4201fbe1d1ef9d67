//! Consumers that ask for much and do not read it: the proxy holds little for them, others read on beside them, and what they
//! find when they read at last is all of it, in order.

use std::collections::BTreeSet;

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::FetchResponse;
use kafka_standby::records::{Batches, Section};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::rig::{PATIENCE, Rig};
use crate::support::client;
use crate::support::proxy::Proxy;
use crate::support::scan;
use crate::support::wait::wait_until;
use crate::wire::raw::{Raw, reply, topic_name};

const TOPIC: &str = "much";
const PARTITIONS: i32 = 4;
/// Of each partition, of 10 KB.
const RECORDS: usize = 150;
const SIZE: usize = 10_000;
const SLOW: usize = 16;
/// The last version in which topics have names.
const VERSION: i16 = 12;
/// What a reply has while memory is tight, and what one batch may bring above that.
const SMALL: usize = (256 << 10) + 100_000;

/// Of what may be held, in bytes: beyond it less is asked for.
const HALF: f64 = (512 << 10) as f64;

fn value(partition: i32, n: usize) -> String {
    format!("{partition}/{n} {}", "x".repeat(SIZE))
}

fn fill(proxy: &Proxy) {
    let mut config = client::config(&proxy.bootstrap());
    let producer: ThreadedProducer<DefaultProducerContext> =
        config.set("batch.size", "65536").create().expect("a producer");
    for (n, partition) in (0..RECORDS).flat_map(|n| (0..PARTITIONS).map(move |partition| (n, partition))) {
        let value = value(partition, n);
        let record = BaseRecord::<str, str>::to(TOPIC).partition(partition).payload(&value);
        producer.send(record).map_err(|(e, _)| e).expect("room in the queue");
    }
    producer.flush(PATIENCE).expect("sent");
}

/// A consumer of all partitions, as Java's asks.
struct Reader {
    raw: Raw,
    /// By partition.
    next: Vec<usize>,
}

impl Reader {
    fn new(proxy: &Proxy) -> Self {
        Self { raw: Raw::connect(&proxy.bootstrap()), next: vec![0; PARTITIONS as usize] }
    }

    fn ask(&mut self) {
        let partitions = (0..).zip(&self.next).map(|(partition, &next)| {
            FetchPartition::default()
                .with_partition(partition)
                .with_fetch_offset(next as i64)
                .with_partition_max_bytes(1 << 20)
        });
        let topic = FetchTopic::default().with_topic(topic_name(TOPIC)).with_partitions(partitions.collect());
        let fetch =
            FetchRequest::default().with_replica_id((-1).into()).with_max_bytes(50 << 20).with_session_epoch(-1);
        let fetch = fetch.with_max_wait_ms(500).with_min_bytes(1).with_topics(vec![topic]);
        self.raw.push_request(VERSION, &fetch);
    }

    /// Takes the reply whose length has been read. Each record must be the one behind those that it has.
    fn take(&mut self, length: usize) {
        let fetched: FetchResponse = reply::<FetchRequest>(VERSION, &self.raw.rest(length));
        for data in fetched.responses.into_iter().flat_map(|topic| topic.partitions) {
            assert_eq!(data.error_code, 0, "partition {}", data.partition_index);
            let next = &mut self.next[data.partition_index as usize];
            for batch in Batches::new(data.records.unwrap_or_default()).map_while(Result::ok) {
                let section = Section::open(&batch).expect("the records of a batch");
                for record in section.records().map(|record| record.expect("a record")) {
                    let offset = section.offset(&record);
                    if offset < *next as i64 {
                        continue;
                    }
                    assert_eq!(offset, *next as i64, "partition {}", data.partition_index);
                    assert_eq!(record.value, Some(value(data.partition_index, *next).as_bytes()));
                    *next += 1;
                }
            }
        }
    }

    fn read_on(&mut self) -> usize {
        self.ask();
        let length = self.raw.length().expect("a reply");
        self.take(length);
        length
    }

    fn is_done(&self) -> bool {
        self.next.iter().all(|&next| next == RECORDS)
    }
}

/// Bytes of replies that wait for their clients.
fn held(proxy: &Proxy) -> f64 {
    let (_, page) = proxy.get("/metrics").expect("metrics");
    let mut lines = page.as_str().expect("text").lines();
    let line = lines.find_map(|line| line.strip_prefix("kafka_standby_buffer_bytes{pool=\"replies\"} "));
    line.map_or(0.0, |bytes| bytes.parse().expect("a number"))
}

#[test]
fn many_that_do_not_read_hold_little_and_miss_nothing() {
    let rig = Rig::start_with("async", |east, spec| {
        east.create_topic(TOPIC, PARTITIONS, &[]);
        spec.more = "[limits]\nreply_buffer = \"1MiB\"\n".into();
    });
    fill(&rig.proxy);
    // Leader epochs are not the cluster's any more: replies are translated.
    rig.switch();
    let whole = Reader::new(&rig.proxy).read_on();
    assert!(whole > 3 << 20, "a reply of {whole} bytes");

    let mut slow: Vec<Reader> = (0..SLOW).map(|_| Reader::new(&rig.proxy)).collect();
    slow.iter_mut().for_each(Reader::ask);
    let lengths: Vec<usize> = slow.iter_mut().map(|reader| reader.raw.length().expect("a reply")).collect();
    // One that is alone may be larger than all that may be held.
    let large = lengths.iter().filter(|&&length| length > SMALL).count();
    assert!((1..=2).contains(&large), "{lengths:?}");
    let limit = (2 * whole + SLOW * SMALL) as f64;
    assert!(held(&rig.proxy) < limit, "{} bytes are held", held(&rig.proxy));

    let mut beside = BTreeSet::new();
    scan::visit(&rig.proxy.bootstrap(), TOPIC, PATIENCE, |message| {
        beside.insert((message.partition(), message.offset()));
        Ok(())
    })
    .expect("a scan");
    assert_eq!(beside.len(), RECORDS * PARTITIONS as usize);
    let mut one = Reader::new(&rig.proxy);
    let length = one.read_on();
    // Sockets may have taken what the proxy held.
    assert!(length < SMALL || held(&rig.proxy) <= HALF, "{length} bytes while {} are held", held(&rig.proxy));

    for (mut reader, length) in slow.into_iter().zip(lengths) {
        reader.take(length);
        while !reader.is_done() {
            reader.read_on();
        }
    }
    wait_until("nothing to be held", PATIENCE, || held(&rig.proxy) == 0.0);
    assert_eq!(Reader::new(&rig.proxy).read_on(), whole);
}
