//! A reader of committed records from the start, of a log that holds aborted transactions of a producer that went on: it must
//! not wait for the marker of one in vain, or it takes all that the same producer id wrote later for aborted.

use std::collections::BTreeSet;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::rig::{PATIENCE, Rig, assert_done, values_once};
use crate::support::client;
use crate::support::cluster::Cluster;
use crate::support::proxy::Proxy;
use crate::support::wait::wait_until;

const TOPIC: &str = "marked";

type Writer = ThreadedProducer<DefaultProducerContext>;

fn rig() -> Rig {
    Rig::start_with("sync", |east, spec| {
        east.create_topic(TOPIC, 1, &[]);
        // An acknowledgement waits for transactions that are open in front of it.
        spec.tee_lines = "sync_timeout = \"20s\"".into();
    })
}

fn transactional(proxy: &Proxy, id: &str) -> Writer {
    let mut config = client::config(&proxy.bootstrap());
    config.set("transactional.id", id).set("linger.ms", "0").set("message.timeout.ms", "45000");
    let producer: Writer = config.create().expect("a producer");
    producer.init_transactions(PATIENCE).expect("transactions");
    producer
}

fn send(producer: &Writer, value: &str) {
    let record = BaseRecord::<str, str>::to(TOPIC).partition(0).payload(value);
    producer.send(record).map_err(|(e, _)| e).expect("room in the queue");
}

/// Begins a transaction of one record, which is at the broker afterwards.
fn open(producer: &Writer, value: &str) {
    producer.begin_transaction().expect("begun");
    send(producer, value);
    producer.flush(PATIENCE).expect("sent");
}

fn commit(producer: &Writer, value: &str) {
    open(producer, value);
    producer.commit_transaction(PATIENCE).expect("committed");
}

fn abort(producer: &Writer) {
    producer.abort_transaction(PATIENCE).expect("aborted");
}

/// Where the cluster's own log ends.
fn end(cluster: &Cluster) -> i64 {
    let mut config = client::config(&cluster.bootstrap());
    let consumer: BaseConsumer = config.set("isolation.level", "read_uncommitted").create().expect("a consumer");
    consumer.fetch_watermarks(TOPIC, 0, PATIENCE).expect("watermarks").1
}

/// The stream to the standby has found out where it goes on.
fn wait_open(proxy: &Proxy) {
    proxy.wait_status("the stream to be open", PATIENCE, |status| {
        let rows = status["partitions"].as_array().expect("partitions");
        rows.iter().any(|row| row["topic"] == TOPIC && row["stream"] == "tee")
    });
}

fn assert_committed(rig: &Rig, values: &[&str]) {
    let committed: BTreeSet<String> = values.iter().map(|&value| value.to_owned()).collect();
    assert_eq!(values_once(&rig.proxy.bootstrap(), TOPIC), committed);
    rig.assert_equal();
}

/// The last thing in the log of a cluster that is switched over from is an abort marker, and the proxy is replaced before
/// anything is copied behind it: to the next one it must not be one that came later.
#[test]
fn a_marker_in_front_of_a_cut_keeps_its_name_when_the_proxy_is_replaced() {
    let mut rig = rig();
    let producer = transactional(&rig.proxy, "kept");
    commit(&producer, "first");
    open(&producer, "given up");
    abort(&producer);
    rig.switch();
    // The reverse stream has stored where it goes on.
    wait_open(&rig.proxy);
    let marker = end(&rig.east) - 1;
    rig.proxy.restart();
    wait_open(&rig.proxy);
    rig.switch();
    commit(&producer, "second");
    commit(&producer, "third");
    assert_committed(&rig, &["first", "second", "third"]);
    let place = format!("/v1/translate?topic={TOPIC}&partition=0&offset={marker}");
    let (_, place) = rig.proxy.get(&place).expect("an answer");
    assert_eq!(place["cluster_offsets"]["east"], marker, "{place}");
}

/// The active cluster is lost with an aborted transaction of which the records have been passed and the marker has not, since
/// it lies behind the first record of a transaction that is open: what clients are not shown is the marker alone.
#[test]
fn nothing_is_told_of_an_aborted_transaction_whose_marker_is_masked() {
    let mut rig = rig();
    let (producer, other) = (transactional(&rig.proxy, "aborts"), transactional(&rig.proxy, "stays open"));
    let plain: Writer = client::config(&rig.proxy.bootstrap()).set("linger.ms", "0").create().expect("a producer");
    commit(&producer, "first");
    open(&producer, "given up");
    let before = end(&rig.east);
    send(&plain, "plain");
    wait_until("the plain record to be stored", PATIENCE, || end(&rig.east) > before);
    open(&other, "open");
    abort(&producer);
    // It waited for the transaction in front of it, which is decided; the standby has it now.
    plain.flush(PATIENCE).expect("acknowledged");
    rig.east.kill();
    assert_done(&rig.proxy.failover());
    rig.east.restart();
    rig.switch();
    commit(&producer, "second");
    commit(&producer, "third");
    assert_committed(&rig, &["first", "plain", "second", "third"]);
}
