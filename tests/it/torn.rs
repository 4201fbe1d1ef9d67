//! The active cluster dies in the midst of a commit: one partition of the transaction is on the standby, another one only in
//! part. Nobody sees it torn: what is missing comes from the proxy, under the offsets that the producer was told.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::rig::{PATIENCE, Rig, assert_done};
use crate::support::client;
use crate::support::cluster::{Cluster, Spec};
use crate::support::distance::Distance;
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::scan;

const SMALL: &str = "small";
const LARGE: &str = "large";
/// The stream fetches two at a time: the way to the active cluster leaves time to kill it in between.
const ONE_WAY: Duration = Duration::from_millis(150);
const RECORDS: usize = 12;
const SIZE: usize = 900_000;

/// Topic and offset of each record with the place in its first word.
type Log = BTreeMap<(String, i64), String>;

fn read(bootstrap: &str) -> Log {
    let mut log = Log::new();
    for topic in [SMALL, LARGE] {
        scan::visit(bootstrap, topic, PATIENCE, |message| {
            let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
            let name = value.split(' ').next().unwrap_or_default().to_owned();
            log.insert((topic.into(), message.offset()), name);
            Ok(())
        })
        .expect("a scan");
    }
    log
}

struct Writer {
    producer: FutureProducer,
    /// Where what was committed lies, as the producer was told.
    told: Log,
    transactions: usize,
}

impl Writer {
    fn new(bootstrap: &str) -> Self {
        let mut config = client::config(bootstrap);
        config.set("transactional.id", "torn").set("message.timeout.ms", "45000").set("batch.size", "950000");
        let producer: FutureProducer = config.create().expect("a producer");
        producer.init_transactions(PATIENCE).expect("transactions");
        Self { producer, told: Log::new(), transactions: 0 }
    }

    /// One record to the small topic, `records` to the large one, and the position of a group; all but the commit.
    fn begin(&mut self, records: usize) {
        self.producer.begin_transaction().expect("begun");
        self.transactions += 1;
        let places = (0..records).map(|n| (LARGE, n)).chain([(SMALL, 0)]);
        let mut sent = Vec::new();
        for (topic, n) in places {
            let name = format!("{}/{topic}/{n}", self.transactions);
            let value = format!("{name} {}", "x".repeat(if topic == LARGE { SIZE } else { 1 }));
            let record = FutureRecord::<str, str>::to(topic).partition(0).payload(&value);
            sent.push((topic, name, self.producer.send_result(record).map_err(|(e, _)| e).expect("room")));
        }
        self.producer.flush(PATIENCE).expect("sent");
        for (topic, name, delivery) in sent {
            let delivery = futures_util::FutureExt::now_or_never(delivery).expect("flushed");
            let place = delivery.expect("a producer").map_err(|(e, _)| e).expect("stored");
            self.told.insert((topic.into(), place.offset), name);
        }
    }

    fn commit_position(&self, bootstrap: &str, position: i64) {
        let consumer = group(bootstrap);
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(SMALL, 0, Offset::Offset(position)).expect("an offset");
        let group = consumer.group_metadata().expect("a group");
        self.producer.send_offsets_to_transaction(&offsets, &group, PATIENCE).expect("offsets");
    }

    fn commit(&self) {
        self.producer.commit_transaction(PATIENCE).expect("committed");
    }
}

fn group(bootstrap: &str) -> BaseConsumer {
    client::config(bootstrap).set("group.id", "torn-group").create().expect("a consumer")
}

fn position(bootstrap: &str) -> Offset {
    let mut asked = TopicPartitionList::new();
    asked.add_partition(SMALL, 0);
    let found = group(bootstrap).committed_offsets(asked, PATIENCE).expect("committed offsets");
    found.elements()[0].offset()
}

/// Waits until the transaction has begun to show on the standby, and is not whole yet.
fn wait_until_torn(west: &str, small: i64, large: i64) {
    let consumer: BaseConsumer = client::config(west).create().expect("a consumer");
    let end = |topic| consumer.fetch_watermarks(topic, 0, PATIENCE).expect("watermarks").1;
    let start = Instant::now();
    while end(SMALL) < small {
        assert!(start.elapsed() < PATIENCE, "nothing crosses");
        thread::sleep(Duration::from_millis(5));
    }
    assert!(end(LARGE) < large, "it crossed whole before anything could happen");
}

#[test]
fn a_transaction_that_a_failover_would_tear_is_completed() {
    let way = Distance::new(Duration::ZERO);
    let advertised = format!("PLAINTEXT://127.0.0.1:{}", way.port());
    let [east, west] =
        Cluster::start_all([Spec::new("east").set("advertised.listeners", &advertised), Spec::new("west")]);
    let address = east.bootstrap();
    way.leads_to(address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port"));
    for topic in [SMALL, LARGE] {
        east.create_topic(topic, 1, &[]);
    }
    let spec = ProxySpec { tee_lines: "sync_timeout = \"30s\"".into(), ..ProxySpec::new(&east, &west, "sync") };
    let mut rig = Rig { proxy: Proxy::start(spec), east, west };
    rig.proxy.wait_in_sync(PATIENCE);
    let bootstrap = rig.proxy.bootstrap();

    let mut writer = Writer::new(&bootstrap);
    writer.begin(1);
    writer.commit();
    assert_eq!(read(&bootstrap), writer.told);
    writer.begin(RECORDS);
    writer.commit_position(&bootstrap, 2);
    way.takes(ONE_WAY);
    let report = thread::scope(|scope| {
        let commit = scope.spawn(|| writer.commit());
        wait_until_torn(&rig.west.bootstrap(), 2, 1 + RECORDS as i64);
        rig.east.kill();
        let report = rig.proxy.failover();
        commit.join().expect("the commit goes on");
        report
    });
    assert_done(&report);
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("what had not crossed was completed: large-0"), "{warnings}");
    assert_eq!(read(&bootstrap), writer.told, "whole, under the offsets that were told");
    assert_eq!(position(&bootstrap), Offset::Offset(2), "the group's position was part of it");

    // The lost cluster has the same records in its masked tail: they come back, and are nobody's divergence.
    way.takes(Duration::ZERO);
    rig.east.restart();
    writer.begin(1);
    writer.commit();
    rig.assert_equal();
    let (_, divergence) = rig.proxy.get("/v1/divergence").expect("an answer");
    let ranges = divergence["ranges"].as_array().expect("ranges");
    assert!(ranges.iter().all(|range| range["records"] == 0), "{divergence:#}");
    rig.proxy.restart();
    rig.switch();
    writer.begin(1);
    writer.commit();
    assert_eq!(read(&bootstrap), writer.told);
    assert_eq!(position(&bootstrap), Offset::Offset(2));
}
