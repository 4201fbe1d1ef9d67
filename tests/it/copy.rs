//! The standby's copy is the active cluster's log: every codec, kind of topic and way to write, records compared one by one
//! and, where bytes are kept, by checksum. Switches and kills nothing: on the shared rig, except where a copy is to diverge.

use std::sync::Mutex;
use std::time::Duration;

use kafka_standby::records::{Codec, NewRecord, Stamp, build};
use kafka_standby::stream::is_client_id;
use rdkafka::ClientContext;
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use crate::reading::{MINUTE, Raw, all, assert_same_contents, assert_verified, wait_level};
use crate::support::client;
use crate::support::cluster::{Cluster, Spec};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::shared::{Shared, repetitions, shared, unique};
use crate::support::wait::{wait_for, wait_until};

/// What a producer could not deliver.
#[derive(Default)]
struct Failures(Mutex<Vec<String>>);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            self.0.lock().expect("a lock").push(format!("partition {}: {error}", message.partition()));
        }
    }
}

/// Writes of one kind of producer, spread over the partitions.
struct Writer<'a> {
    bootstrap: &'a str,
    codec: &'a str,
    acks: &'a str,
    idempotent: bool,
}

impl Writer<'_> {
    /// Records with and without key, value and headers (duplicates and nulls among them), with times of their own.
    fn write(&self, topic: &str, partitions: i32, count: usize) {
        let producer: BaseProducer<Failures> = client::config(self.bootstrap)
            .set("compression.type", self.codec)
            .set("acks", self.acks)
            .set("enable.idempotence", self.idempotent.to_string())
            .set("linger.ms", "2")
            .set("message.timeout.ms", "30000")
            .create_with_context(Failures::default())
            .expect("a producer");
        let name = format!("{}-{}-{}", self.codec, self.acks, self.idempotent);
        for n in 0..count {
            let (key, value) = (format!("{name}-{n}"), format!("{name} {n} {}", "filler ".repeat(n % 40)));
            let mut record: BaseRecord<'_, String, String> =
                BaseRecord::to(topic).partition(n as i32 % partitions).timestamp(1_750_000_000_000 + 7 * n as i64);
            if n % 5 != 1 {
                record = record.key(&key);
            }
            if n % 7 != 1 {
                record = record.payload(&value);
            }
            if n % 3 == 0 {
                let twice = || Header { key: "twice", value: Some(&key) };
                let none: Header<'_, &String> = Header { key: "none", value: None };
                record = record.headers(OwnedHeaders::new().insert(twice()).insert(none).insert(twice()));
            }
            producer.send(record).map_err(|(e, _)| e).expect("room in the queue");
            if n % 50 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        producer.flush(MINUTE).expect("everything is sent");
        let failures = producer.context().0.lock().expect("a lock");
        assert!(failures.is_empty(), "{name}: {} failures, such as {}", failures.len(), failures[0]);
    }
}

/// Every producer there is, through the proxy and around it. Gives the number of records written per partition.
fn write_every_way(rig: &Shared, topic: &str, partitions: i32) -> usize {
    let (proxy, east) = (rig.proxy.bootstrap(), rig.east.bootstrap());
    let each = repetitions(60, 600) * partitions as usize;
    let codecs = ["none", "gzip", "snappy", "lz4"];
    let ways = [("all", true), ("all", false), ("1", false), ("0", false)];
    std::thread::scope(|scope| {
        for (codec, bootstrap) in codecs.into_iter().flat_map(|codec| [(codec, &proxy), (codec, &east)]) {
            scope.spawn(move || {
                for (acks, idempotent) in ways {
                    Writer { bootstrap, codec, acks, idempotent }.write(topic, partitions, each);
                }
            });
        }
    });
    let mut total = each * codecs.len() * ways.len() * 2;
    for (name, bootstrap) in [("proxy", &proxy), ("east", &east)] {
        let raw = Raw::new(name, bootstrap);
        for n in 0..20 {
            raw.produce(topic, n % partitions, zstd(i64::from(n)));
            total += 3;
        }
    }
    total
}

/// librdkafka is built without this codec here.
fn zstd(n: i64) -> bytes::Bytes {
    let value = format!("zstd {n} {}", "filler ".repeat(30));
    let record =
        |timestamp| NewRecord { key: Some(b"zstd"), value: Some(value.as_bytes()), timestamp, ..Default::default() };
    let records = [record(1_750_000_000_000 + n), record(1_740_000_000_000), record(1_760_000_000_000)];
    build(&records, Codec::Zstd, Stamp::NONE).expect("a batch")
}

fn straight(rig: &Shared) -> [Raw; 2] {
    [Raw::new("east", &rig.east.bootstrap()), Raw::new("west", &rig.west.bootstrap())]
}

/// Writes to `topic` in every way and compares both clusters and what the proxy shows.
fn copied_whole(topic: &str, partitions: i32) -> [Raw; 2] {
    let rig = shared();
    let written = write_every_way(rig, topic, partitions);
    let [east, west] = straight(rig);
    // Nobody waits for acks=0: the log says when the last of them has arrived.
    wait_for("all records in the log", MINUTE, || {
        let ends: i64 = east.ends(topic, partitions).iter().sum();
        if ends == written as i64 { Ok(()) } else { Err(format!("{ends} of {written}")) }
    });
    wait_level(&rig.proxy, &east, topic, partitions);
    let original = all(&east, topic, partitions);
    assert_eq!(original.values().map(Vec::len).sum::<usize>(), written);
    assert_same_contents(topic, &original, &all(&west, topic, partitions));
    assert_eq!(original, all(&Raw::new("proxy", &rig.proxy.bootstrap()), topic, partitions), "what the proxy shows");
    assert_verified(&rig.proxy, Some(topic));
    [east, west]
}

#[test]
fn every_codec_and_way_to_write_is_copied_record_by_record() {
    let rig = shared();
    for prefix in ["copy", "sync-copy"] {
        let topic = unique(prefix);
        // Through the proxy, so that the standby has it at once.
        client::create_topic(&rig.proxy.bootstrap(), &topic, 2, 1, &[]);
        let [east, west] = copied_whole(&topic, 2);
        let mut idempotent = 0;
        for partition in 0..2 {
            let (one, other) = (east.batches(&topic, partition), west.batches(&topic, partition));
            let ranges = |all: &[kafka_standby::records::Batch]| {
                all.iter().map(|b| (b.header().base_offset, b.header().count)).collect::<Vec<_>>()
            };
            assert_eq!(ranges(&one), ranges(&other), "the same batches at the same offsets");
            for (a, b) in one.iter().zip(&other).filter(|(a, _)| is_client_id(a.header().producer_id)) {
                idempotent += 1;
                assert_eq!(a.header().crc, b.header().crc, "batch at {partition}@{}", a.header().base_offset);
                assert_eq!(a.bytes()[16..], b.bytes()[16..], "batch at {partition}@{}", a.header().base_offset);
            }
        }
        assert!(idempotent >= 8, "only {idempotent} batches of clients' own producer ids");
    }
}

#[test]
fn topics_of_append_times_are_copied_with_the_times_that_consumers_saw() {
    let topic = unique("append-time");
    shared().east.create_topic(&topic, 2, &[("message.timestamp.type", "LogAppendTime")]);
    let [_, west] = copied_whole(&topic, 2);
    let batches = west.batches(&topic, 0);
    assert!(batches.iter().all(|b| !b.header().log_append_time()), "a copy holds times explicitly");
}

#[test]
fn topics_that_recompress_are_copied() {
    let topic = unique("zstd");
    shared().east.create_topic(&topic, 2, &[("compression.type", "zstd")]);
    let [east, west] = copied_whole(&topic, 2);
    for batch in east.batches(&topic, 0).iter().chain(&west.batches(&topic, 0)) {
        assert_eq!(batch.header().codec().ok(), Some(Codec::Zstd), "at {}", batch.header().base_offset);
    }
}

#[test]
fn topics_and_partitions_that_appear_while_it_runs_are_copied() {
    let rig = shared();
    let [east, west] = straight(rig);
    let [through, around] = [unique("through"), unique("around")];
    client::create_topic(&rig.proxy.bootstrap(), &through, 2, 1, &[("retention.ms", "123456789")]);
    // The standby's controller has it when the client knows; its broker may hear of it a moment later.
    wait_until("a topic created through the proxy on the standby", Duration::from_secs(2), || {
        west.partitions(&through) == 2
    });
    rig.east.create_topic(&around, 2, &[("retention.ms", "123456789")]);
    for topic in [&through, &around] {
        Writer { bootstrap: &rig.proxy.bootstrap(), codec: "lz4", acks: "all", idempotent: true }.write(topic, 2, 100);
        wait_until("the topic on the standby", MINUTE, || west.partitions(topic) == 2);
        assert_eq!(west.setting(topic, "retention.ms"), "123456789");
    }
    Raw::new("proxy", &rig.proxy.bootstrap()).add_partitions(&through, 5);
    east.add_partitions(&around, 5);
    for topic in [&through, &around] {
        wait_until("the added partitions on the standby", MINUTE, || west.partitions(topic) == 5);
        for bootstrap in [rig.proxy.bootstrap(), rig.east.bootstrap()] {
            Writer { bootstrap: &bootstrap, codec: "none", acks: "all", idempotent: true }.write(topic, 5, 100);
        }
        wait_level(&rig.proxy, &east, topic, 5);
        let original = all(&east, topic, 5);
        assert_eq!(original.values().map(Vec::len).sum::<usize>(), 300);
        assert_same_contents(topic, &original, &all(&west, topic, 5));
        assert_verified(&rig.proxy, Some(topic));
    }
}

#[test]
fn a_standby_topic_with_foreign_data_is_diverged_and_left_alone() {
    let [east, west] = Cluster::start_all([Spec::new("east"), Spec::new("west")]);
    for cluster in [&east, &west] {
        cluster.create_topic("taken", 2, &[]);
        cluster.create_topic("free", 1, &[]);
    }
    // One partition of the standby's topic is in use, the other is empty.
    let foreign = |topic| {
        Writer { bootstrap: &west.bootstrap(), codec: "none", acks: "all", idempotent: false }.write(topic, 1, 10)
    };
    foreign("taken");
    let standby = Raw::new("west", &west.bootstrap());
    let before = all(&standby, "taken", 2);
    Writer { bootstrap: &east.bootstrap(), codec: "none", acks: "all", idempotent: false }.write("taken", 2, 40);
    let proxy = Proxy::start(ProxySpec::new(&east, &west, "async"));
    Writer { bootstrap: &proxy.bootstrap(), codec: "gzip", acks: "all", idempotent: true }.write("taken", 2, 40);
    Writer { bootstrap: &proxy.bootstrap(), codec: "gzip", acks: "all", idempotent: true }.write("free", 1, 40);

    let of = |status: &serde_json::Value, topic: &str, partition: i32| {
        let rows = status["partitions"].as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|p| p["topic"] == topic && p["partition"] == partition).unwrap_or_default()
    };
    let status = proxy.wait_status("the foreign data to be found", MINUTE, |status| {
        of(status, "taken", 0)["stream"] == "diverged"
            && of(status, "taken", 1)["lag_records"] == 0
            && of(status, "free", 0)["active_end"] == 40
            && of(status, "free", 0)["lag_records"] == 0
    });
    assert!(
        of(&status, "taken", 0)["detail"].as_str().is_some_and(|d| d.contains("nobody copied there")),
        "{status:#}"
    );
    assert!(status["alarms"].as_array().is_some_and(|a| !a.is_empty()), "{status:#}");

    let after = all(&standby, "taken", 2);
    assert_eq!(before[&0], after[&0], "foreign data is left as it was");
    assert_eq!(after[&1].len(), 40, "the partition beside it is copied");
    let report = proxy.verify();
    assert_eq!(report["equal"], false, "{report:#}");
    assert_verified(&proxy, Some("free"));
    // A switchover would show clients the foreign data.
    let refused = proxy.post("/v1/switchover", &serde_json::json!({})).expect("an answer").1;
    assert_ne!(refused["outcome"], "done", "{refused:#}");
    assert!(refused.to_string().contains("diverged"), "{refused:#}");
    assert_eq!(proxy.status()["generation"], 0);
}
