//! Differences between the clusters that somebody planted are found, by the stream or by `verify`, and named.

use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_standby::records::{BatchHeader, Batches, HEADER_BYTES};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::rig::{PATIENCE, Rig, records_verified};
use crate::support::client;
use crate::support::cluster::Cluster;
use crate::support::proxy::Proxy;
use crate::support::scan;
use crate::support::shared::{shared, unique};
use crate::support::wait::wait_for;

const COUNT: usize = 50;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Plain {
    timestamp: i64,
    key: String,
    value: String,
}

/// A second apart, from an hour ago on: far older ones would fall to the brokers' retention.
fn plain(n: usize) -> Plain {
    static START: OnceLock<i64> = OnceLock::new();
    let hour_ago = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64 - 3_600_000;
    Plain { timestamp: START.get_or_init(hour_ago) + n as i64 * 1000, key: format!("k{n}"), value: format!("v{n}") }
}

/// Appends to partition 0, a batch per record.
fn append(bootstrap: &str, topic: &str, records: &[Plain]) {
    let producer: BaseProducer = client::config(bootstrap)
        .set("batch.num.messages", "1")
        .set("enable.idempotence", "true")
        .create()
        .expect("a producer");
    for record in records {
        let record =
            BaseRecord::to(topic).partition(0).key(&record.key).payload(&record.value).timestamp(record.timestamp);
        producer.send(record).expect("queued");
    }
    producer.flush(PATIENCE).expect("acknowledged");
}

fn read(bootstrap: &str, topic: &str) -> Vec<Plain> {
    let mut all = Vec::new();
    scan::visit(bootstrap, topic, PATIENCE, |message| {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        all.push(Plain {
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
            key: text(message.key()),
            value: text(message.payload()),
        });
        Ok(())
    })
    .expect("a scan");
    all
}

fn verify(proxy: &Proxy, topic: &str) -> Value {
    match proxy.post("/v1/verify", &json!({ "topic": topic })) {
        Ok((200, report)) => report,
        other => panic!("POST /v1/verify: {other:?}"),
    }
}

fn wait_level(proxy: &Proxy, topic: &str, end: usize) {
    proxy.wait_status("the topic to be copied", PATIENCE, |status| {
        let mut rows = status["partitions"].as_array().into_iter().flatten().filter(|p| p["topic"] == topic);
        rows.next().is_some_and(|p| p["lag_records"] == 0 && p["standby_end"] == end as u64)
    });
}

fn wait_diverged(proxy: &Proxy, topic: &str) {
    proxy.wait_status("the stream to say that it has diverged", PATIENCE, |status| {
        let mut rows = status["partitions"].as_array().into_iter().flatten().filter(|p| p["topic"] == topic);
        rows.any(|p| p["stream"] == "diverged")
    });
}

/// Logical offset and description of each difference.
fn found(report: &Value) -> Vec<(i64, String)> {
    let rows = report["differences"].as_array().into_iter().flatten();
    rows.map(|d| (d["logical_offset"].as_i64().unwrap_or(-1), d["what"].as_str().unwrap_or_default().to_owned()))
        .collect()
}

/// Fills a topic through the proxy and waits for a true copy.
fn fill(proxy: &Proxy, topic: &str) -> Vec<Plain> {
    let records: Vec<Plain> = (0..COUNT).map(plain).collect();
    append(&proxy.bootstrap(), topic, &records);
    wait_level(proxy, topic, COUNT);
    let report = verify(proxy, topic);
    assert_eq!((&report["equal"], &report["differences_total"]), (&true.into(), &0.into()), "{report:#}");
    assert_eq!(records_verified(&report), COUNT as u64, "{report:#}");
    records
}

/// Records deleted through the proxy are gone on both sides, which is no difference.
#[test]
fn deleted_records_are_no_difference() {
    let rig = shared();
    let topic = unique("shortened");
    rig.east.create_topic(&topic, 1, &[]);
    fill(&rig.proxy, &topic);
    let mut below = TopicPartitionList::new();
    below.add_partition_offset(&topic, 0, Offset::Offset(20)).expect("an offset");
    let admin = client::admin(&rig.proxy.bootstrap());
    client::block_on(admin.delete_records(&below, &Default::default())).expect("deleted");
    for (name, bootstrap) in [("east", rig.east.bootstrap()), ("west", rig.west.bootstrap())] {
        wait_for(&format!("the records to be gone on {name}"), PATIENCE, || match read(&bootstrap, &topic).len() {
            n if n == COUNT - 20 => Ok(()),
            n => Err(format!("{n} are left")),
        });
    }
    append(&rig.proxy.bootstrap(), &topic, &[plain(COUNT)]);
    wait_level(&rig.proxy, &topic, COUNT + 1);
    let report = verify(&rig.proxy, &topic);
    assert_eq!(report["equal"], true, "{report:#}");
    assert_eq!(records_verified(&report), COUNT as u64 + 1 - 20, "{report:#}");
}

/// Somebody writes to the standby's copy: `verify` tells at once, and the stream stops rather than to append behind it. The
/// stream may have seen it before `verify` looks, which is told too.
fn a_foreign_record(rig: &Rig, topic: &str) {
    append(&rig.west.bootstrap(), topic, &[plain(1000)]);
    let report = verify(&rig.proxy, topic);
    let differences = found(&report);
    let named = differences.iter().any(|d| d.1.contains("only on the standby"))
        && differences.iter().all(|d| d.0 == COUNT as i64);
    assert!(named && report["equal"] == false, "{report:#}");

    // The client notices nothing.
    append(&rig.proxy.bootstrap(), topic, &[plain(COUNT)]);
    wait_diverged(&rig.proxy, topic);
    let report = verify(&rig.proxy, topic);
    assert!(report["equal"] == false && report["differences_total"].as_u64() > Some(0), "{report:#}");
    assert_eq!(read(&rig.proxy.bootstrap(), topic).len(), COUNT + 1);
    // A switchover would bring clients to the wrong copy.
    let (_, dry) = rig.proxy.post("/v1/switchover", &json!({ "dry_run": true })).expect("an answer");
    assert!(dry["outcome"] != "done" && dry.to_string().contains(topic), "{dry:#}");
}

/// Writes a topic's log on a cluster that is down anew, batch by batch; `None` leaves one out. Checksums are right.
pub fn edit_log(cluster: &Cluster, topic: &str, edit: impl Fn(usize, &mut BatchHeader, &mut Vec<u8>) -> Option<()>) {
    let path = cluster.segment(topic, 0);
    let mut edited = Vec::new();
    for (n, batch) in Batches::new(fs::read(&path).expect("the log").into()).enumerate() {
        let batch = batch.expect("a batch");
        let (mut header, mut records) = (*batch.header(), batch.bytes()[HEADER_BYTES..].to_vec());
        if edit(n, &mut header, &mut records).is_some() {
            edited.extend_from_slice(&header.encode(&records).expect("a batch"));
        }
    }
    fs::write(&path, edited).expect("the log is written");
}

fn replace(bytes: &mut [u8], old: &str, new: &str) {
    let found = bytes.windows(old.len()).rposition(|w| w == old.as_bytes()).expect("the record has it");
    bytes[found..found + new.len()].copy_from_slice(new.as_bytes());
}

/// Besides, logs of the standby are changed while it is down: records that are not what they were under the same offsets,
/// and one that is not there any more.
#[test]
fn planted_differences_are_found() {
    let topics = ["foreign", "altered", "short"];
    let mut rig = Rig::start_with("async", |east, _| topics.iter().for_each(|t| east.create_topic(t, 1, &[])));
    topics.iter().for_each(|topic| drop(fill(&rig.proxy, topic)));
    rig.assert_equal();
    a_foreign_record(&rig, "foreign");

    rig.west.kill();
    edit_log(&rig.west, "altered", |n, header, records| {
        match n {
            7 => replace(records, "v7", "w7"),
            20 => (header.base_timestamp, header.max_timestamp) = (header.base_timestamp + 1, header.max_timestamp + 1),
            33 => replace(records, "k33", "l33"),
            _ => {}
        }
        Some(())
    });
    edit_log(&rig.west, "short", |n, _, _| (n != 10).then_some(()));
    rig.west.restart();

    for (topic, expected) in [
        ("altered", vec![(7, "value differs"), (20, "timestamp differs"), (33, "key differs")]),
        ("short", vec![(10, "")]),
    ] {
        wait_level(&rig.proxy, topic, COUNT);
        let report = verify(&rig.proxy, topic);
        let differences = found(&report);
        let named = differences.iter().zip(&expected).all(|(d, e)| d.0 == e.0 && d.1.contains(e.1));
        assert!(named && differences.len() == expected.len() && report["equal"] == false, "{report:#}");
        assert_eq!(report["differences_total"], expected.len(), "{report:#}");
    }
}
