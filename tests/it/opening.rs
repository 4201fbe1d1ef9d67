//! The streams of hundreds of partitions are opened with few requests, and each for itself: one whose copy is not what it
//! should be stays shut, all others open.

use rand::RngCore;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use crate::rig::{PATIENCE, Rig};
use crate::support::client;
use crate::support::proxy::Proxy;

const TOPIC: &str = "many";
const PARTITIONS: i32 = 300;
/// Somebody else writes to its copy.
const FOREIGN: i32 = 7;
/// Its last batch is larger than what is read of many partitions together.
const LARGE: i32 = 8;
const LARGE_BYTES: usize = 200_000;
/// What opening a stream asks for.
const ASKED: [&str; 4] = ["ListOffsets", "OffsetForLeaderEpoch", "DescribeProducers", "Fetch"];

/// A record for each of these partitions.
fn write(bootstrap: &str, partitions: impl Iterator<Item = i32>) {
    let producer: BaseProducer = client::config(bootstrap).create().expect("a producer");
    for partition in partitions {
        let mut value = vec![0; if partition == LARGE { LARGE_BYTES } else { 100 }];
        rand::rng().fill_bytes(&mut value);
        let record = BaseRecord::<(), _>::to(TOPIC).partition(partition).payload(&value);
        producer.send(record).map_err(|(e, _)| e).expect("room in the queue");
    }
    producer.flush(PATIENCE).expect("acknowledged");
}

fn rows(status: &Value) -> &[Value] {
    status["partitions"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// All copies but the foreign one are level with `end` records each.
fn wait_level(proxy: &Proxy, end: u64) {
    proxy.wait_status("all others to be copied", PATIENCE, |status| {
        let others = rows(status).iter().filter(|row| row["partition"] != FOREIGN);
        let level =
            others.filter(|row| row["stream"] == "tee" && row["standby_end"] == end && row["active_end"] == end);
        level.count() == PARTITIONS as usize - 1
    });
}

fn asked(proxy: &Proxy) -> f64 {
    let Ok((200, Value::String(text))) = proxy.get("/metrics") else { panic!("no metrics") };
    let of_interest = |line: &&str| ASKED.iter().any(|api| line.contains(&format!("api=\"{api}\"")));
    let counts = text.lines().filter(|line| line.starts_with("kafka_standby_upstream_request_seconds_count"));
    counts.filter(of_interest).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn hundreds_open_together_and_one_that_has_diverged_stays_shut_alone() {
    let mut rig = Rig::start_with("async", |east, _| east.create_topic(TOPIC, PARTITIONS, &[]));
    write(&rig.proxy.bootstrap(), 0..PARTITIONS);
    rig.proxy.wait_in_sync(PATIENCE);
    wait_level(&rig.proxy, 1);

    rig.proxy.kill();
    write(&rig.west.bootstrap(), [FOREIGN].into_iter());
    rig.proxy.restart();
    wait_level(&rig.proxy, 1);
    let requests = asked(&rig.proxy);
    assert!(requests > 0.0, "they are counted");
    assert!(requests < f64::from(PARTITIONS), "{requests} requests for {PARTITIONS} partitions");
    rig.proxy.wait_status("the foreign record to be found", PATIENCE, |status| {
        let mut shut = rows(status).iter().filter(|row| row["stream"] == "diverged");
        shut.next().is_some_and(|row| row["partition"] == FOREIGN) && shut.next().is_none()
    });

    write(&rig.proxy.bootstrap(), (0..PARTITIONS).filter(|&partition| partition != FOREIGN));
    wait_level(&rig.proxy, 2);
}
