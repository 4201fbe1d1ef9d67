//! The standby stops for a while: clients of async topics notice nothing, those of sync topics stall no longer than
//! `sync_timeout` or, where the policy is to block, are told to try again; it catches up and is in sync again by itself.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::support::checker::check;
use crate::support::client::{self, block_on};
use crate::support::cluster::{Cluster, Spec};
use crate::support::load::{Load, LoadSpec, Outcome};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::scan;
use crate::support::shared::repetitions;
use crate::support::wait::wait_for;

const MINUTE: Duration = Duration::from_secs(60);
/// The configured one; the default as well.
const SYNC_TIMEOUT: Duration = Duration::from_secs(1);

/// On top of what is promised: the clients, their brokers and what else runs share two cores. Well under the outage.
fn margin() -> Duration {
    Duration::from_millis(repetitions(2500, 1000) as u64)
}

/// How long the standby is gone.
fn outage() -> Duration {
    Duration::from_secs(repetitions(8, 30) as u64)
}

/// East is active. `a` is teed asynchronously, `s` and `s-once` synchronously.
fn rig(policy: &str) -> ([Cluster; 2], Proxy) {
    let clusters = Cluster::start_all([Spec::new("east"), Spec::new("west")]);
    for (topic, partitions) in [("a", 6), ("s", 6), ("s-once", 1)] {
        clusters[0].create_topic(topic, partitions, &[]);
    }
    let mut spec = ProxySpec::new(&clusters[0], &clusters[1], "async");
    spec.tee_lines = format!("sync_timeout = \"{}ms\"\non_standby_loss = {policy:?}", SYNC_TIMEOUT.as_millis());
    spec.more = "[[tee.override]]\nmatch = [\"s*\"]\nmode = \"sync\"\n".into();
    let proxy = Proxy::start(spec);
    proxy.wait_in_sync(MINUTE);
    (clusters, proxy)
}

fn load(proxy: &Proxy, topic: &str) -> Load {
    let mut spec = LoadSpec { records_per_second: 200, ..LoadSpec::new(&proxy.bootstrap(), topic) };
    // Both loads together are what two cores carry without stalls of their own.
    spec.producer_config.push(("linger.ms".into(), "50".into()));
    Load::start(spec)
}

/// Ends a load: nothing lost, repeated, reordered or renamed, no error. Its outcome.
fn finish(load: Load, proxy: &Proxy, topic: &str) -> Outcome {
    let mut outcome = load.finish(MINUTE);
    outcome.assert_no_errors(topic);
    outcome.history.stored = Some(scan::numbered(&proxy.bootstrap(), topic, MINUTE).expect("a scan"));
    let verdict = check(&outcome.history);
    let (producer, consumer) = (outcome.longest_producer_stall, outcome.longest_consumer_stall);
    eprintln!("{topic}: {verdict}, longest stalls: producer {producer:?}, consumer {consumer:?}");
    verdict.assert_clean(topic);
    outcome
}

fn assert_equal(proxy: &Proxy) {
    proxy.wait_in_sync(MINUTE);
    let verified = proxy.verify();
    assert_eq!(verified["equal"], true, "{verified}");
}

/// Policy `degrade`, and a standby that hangs: connections stay open and nothing answers.
#[test]
fn a_hanging_standby_stalls_sync_clients_for_the_timeout_and_async_ones_not_at_all() {
    let ([east, mut west], proxy) = rig("degrade");
    let (asynchronous, synchronous) = (load(&proxy, "a"), load(&proxy, "s"));
    asynchronous.wait_for_more(200, MINUTE);
    synchronous.wait_for_more(200, MINUTE);

    west.pause();
    let since = Instant::now();
    proxy.wait_status("the standby to be out of sync", MINUTE, |s| s["standby_in_sync"] == false);
    let alarms = proxy.status()["alarms"].as_array().map_or(0, Vec::len);
    assert!(alarms > 0, "no alarm is shown");
    // Both go on without it.
    asynchronous.wait_for_more(200, outage());
    synchronous.wait_for_more(200, outage());
    thread::sleep(outage().saturating_sub(since.elapsed()));
    west.resume();

    // By itself, and under load.
    let synced = proxy.wait_status("the standby to be in sync again", MINUTE, |s| s["standby_in_sync"] == true);
    assert_eq!(synced["active"], "east");
    asynchronous.wait_for_more(200, MINUTE);
    synchronous.wait_for_more(200, MINUTE);
    let asynchronous = finish(asynchronous, &proxy, "a");
    let synchronous = finish(synchronous, &proxy, "s");
    assert_equal(&proxy);

    let (producer, consumer) = (asynchronous.longest_producer_stall, asynchronous.longest_consumer_stall);
    assert!(producer < margin() && consumer < margin(), "async clients noticed: {producer:?}, {consumer:?}");
    let (producer, consumer) = (synchronous.longest_producer_stall, synchronous.longest_consumer_stall);
    let most = SYNC_TIMEOUT + margin();
    assert!(
        producer < most && consumer < most,
        "sync clients stalled for more than {most:?}: {producer:?}, {consumer:?}"
    );
    // Else the acknowledgements did not wait at all.
    assert!(producer > SYNC_TIMEOUT / 2, "sync producers never waited for the standby: {producer:?}");
    drop(east);
}

/// Policy `block`, and a standby that is dead: a producer that does not retry sees a retriable error, one that does sees
/// nothing but the wait, and nothing is stored twice however often it retried.
#[test]
fn a_dead_standby_blocks_sync_clients_with_a_retriable_error() {
    let ([east, mut west], proxy) = rig("block");
    let (asynchronous, synchronous) = (load(&proxy, "a"), load(&proxy, "s"));
    asynchronous.wait_for_more(200, MINUTE);
    synchronous.wait_for_more(200, MINUTE);

    west.kill();
    let since = Instant::now();
    let error = write_once(&proxy, "s-once").expect_err("a sync topic took a record without the standby");
    let waited = since.elapsed();
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::NotEnoughReplicasAfterAppend), "{error}");
    assert!(waited < SYNC_TIMEOUT + margin(), "the error came after {waited:?}");
    let before = synchronous.progress().acknowledged;
    asynchronous.wait_for_more(200, outage());
    thread::sleep(outage().saturating_sub(since.elapsed()));
    let during = synchronous.progress().acknowledged - before;
    assert_eq!(during, 0, "records were acknowledged without the standby");
    west.restart();

    synchronous.wait_for_more(200, MINUTE);
    wait_for("a record to be taken again", MINUTE, || write_once(&proxy, "s-once").map_err(|e| e.to_string()));
    proxy.wait_status("the standby to be in sync again", MINUTE, |s| s["standby_in_sync"] == true);
    asynchronous.wait_for_more(200, MINUTE);
    let asynchronous = finish(asynchronous, &proxy, "a");
    let synchronous = finish(synchronous, &proxy, "s");
    assert_equal(&proxy);
    let (producer, consumer) = (asynchronous.longest_producer_stall, asynchronous.longest_consumer_stall);
    assert!(producer < margin() && consumer < margin(), "async clients noticed: {producer:?}, {consumer:?}");
    assert!(synchronous.longest_producer_stall > outage() / 2, "the outage was not there");
    drop(east);
}

/// One record by a producer that does not retry by itself.
fn write_once(proxy: &Proxy, topic: &str) -> Result<(), KafkaError> {
    let producer: FutureProducer = client::config(&proxy.bootstrap())
        .set("acks", "all")
        .set("message.send.max.retries", "0")
        .create()
        .expect("a producer");
    let record = FutureRecord::to(topic).key("once").payload("once");
    block_on(producer.send(record, Duration::from_secs(30))).map(|_| ()).map_err(|(error, _)| error)
}
