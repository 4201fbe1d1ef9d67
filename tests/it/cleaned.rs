//! Compaction passes the place where a stream stands: a deletion that was cleaned away before it was copied leaves the copy with
//! what was deleted. That is told, found by `verify`, and mended by writing the deletion again.

use kafka_standby::records::{Codec, NewRecord, Stamp, build};
use serde_json::Value;

use crate::divergence::hour_ago;
use crate::reading::{MINUTE, Raw, assert_verified, switch, wait_level};
use crate::support::cluster::{Cluster, Spec};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::wait::wait_until;

/// The cleaner comes at once, and deletions go with its next pass but one.
const CLEANED: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "300"),
    ("min.cleanable.dirty.ratio", "0.001"),
    ("max.compaction.lag.ms", "1"),
    ("delete.retention.ms", "100"),
];
const KEYS: std::ops::Range<usize> = 0..10;

/// A record for each key, or its deletion.
fn write(to: &Raw, topic: &str, what: Option<&str>) {
    for n in KEYS {
        let (key, value) = (format!("key {n}"), what.map(|what| format!("{what} {n}")));
        let value = value.as_ref().map(|value| value.as_bytes());
        let record = NewRecord { key: Some(key.as_bytes()), value, timestamp: hour_ago(), ..Default::default() };
        to.produce(topic, 0, build(&[record], Codec::None, Stamp::NONE).expect("a batch"));
    }
}

/// Something of other keys: a segment is closed, and so can be cleaned, only when something follows.
fn follow(to: &Raw, topic: &str, n: usize) {
    let key = format!("other {}", n % 2);
    let record =
        NewRecord { key: Some(key.as_bytes()), value: Some(b"other"), timestamp: hour_ago(), ..Default::default() };
    to.produce(topic, 0, build(&[record], Codec::None, Stamp::NONE).expect("a batch"));
}

/// Writes deletions around the proxy and waits until nothing of the keys is left, the deletions neither.
fn delete_for_good(to: &Raw, topic: &str) {
    write(to, topic, None);
    let mut n = 0;
    wait_until("the deletions to be cleaned away", 2 * MINUTE, || {
        follow(to, topic, n);
        n += 1;
        std::thread::sleep(std::time::Duration::from_millis(320));
        let about = |key: &Option<Vec<u8>>| key.as_ref().is_some_and(|key| key.starts_with(b"key"));
        !to.committed(topic, 0).iter().any(|record| about(&record.content.key))
    });
}

fn row(status: &Value, topic: &str) -> Value {
    let mut rows = status["partitions"].as_array().into_iter().flatten();
    rows.find(|p| p["topic"] == topic).cloned().unwrap_or_default()
}

/// Told as a hole in front of which all was copied, and by an alarm.
fn wait_told(proxy: &Proxy, topic: &str) {
    proxy.wait_status(&format!("the hole in {topic} to be told"), MINUTE, |status| {
        let mut alarms = status["alarms"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let first = row(status, topic)["holes"][0].clone();
        first[0].as_i64() >= Some(10) && alarms.any(|a| a.starts_with(&format!("{topic}-0: ")))
    });
}

#[test]
fn deletions_that_are_cleaned_away_before_they_are_copied_are_told() {
    let cleaning = |name| Spec::new(name).set("log.cleaner.backoff.ms", "100");
    let [east, mut west] = Cluster::start_all([cleaning("east"), cleaning("west")]);
    for topic in ["restarted", "paused"] {
        east.create_topic(topic, 1, &CLEANED);
    }
    let lasting: Vec<_> = CLEANED.into_iter().filter(|(key, _)| *key != "delete.retention.ms").collect();
    east.create_topic("lasting", 1, &lasting);
    let mut proxy = Proxy::start(ProxySpec::new(&east, &west, "async"));
    let (through, straight) = (Raw::new("proxy", &proxy.bootstrap()), Raw::new("east", &east.bootstrap()));
    for topic in ["restarted", "paused", "lasting"] {
        write(&through, topic, Some("first"));
        wait_level(&proxy, &straight, topic, 1);
    }

    // The standby stands still, then there is no proxy. Deletions that are kept for a day are not missed.
    west.pause();
    write(&straight, "lasting", Some("second"));
    write(&straight, "lasting", None);
    // The stream holds what it cannot write, and reads on only when it has: not the deletions.
    follow(&straight, "paused", 0);
    proxy.wait_status("the stream to be held up", MINUTE, |status| row(status, "paused")["stream"] == "catch_up");
    delete_for_good(&straight, "paused");
    west.resume();
    wait_told(&proxy, "paused");
    for topic in ["paused", "lasting"] {
        wait_level(&proxy, &straight, topic, 1);
    }
    let status = proxy.status();
    assert!(row(&status, "lasting")["holes"][0].is_null(), "{status:#}");
    proxy.kill();
    delete_for_good(&straight, "restarted");
    proxy.restart();
    wait_told(&proxy, "restarted");

    wait_level(&proxy, &straight, "restarted", 1);
    assert_verified(&proxy, Some("lasting"));
    let (_, report) = proxy.post("/v1/verify", &serde_json::json!({ "topic": "restarted" })).expect("an answer");
    assert_eq!((&report["equal"], &report["differences_total"]), (&false.into(), &KEYS.len().into()), "{report:#}");

    // Mended by what a user does to delete a key.
    for topic in ["restarted", "paused"] {
        write(&through, topic, None);
        wait_level(&proxy, &straight, topic, 1);
    }
    assert_verified(&proxy, None);
    let report = switch(&proxy);
    let mut warnings = report["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    assert!(warnings.any(|w| w.starts_with("restarted-0: ")), "{report:#}");
}
