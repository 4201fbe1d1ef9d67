//! Logical offsets where the clusters' own offsets differ: a compacted topic with holes, a topic with aborted
//! transactions. Every position names the same record before and after a switchover, and after the way back.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::reading::{
    MINUTE, Positioned, Raw, Rec, all, assert_same_contents, assert_verified, commit, committed, switch, wait_level,
};
use crate::support::client;
use crate::support::cluster::{Cluster, Spec};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::shared::repetitions;
use crate::support::wait::{wait_for, wait_until};

/// Partitions of every topic here.
const PARTITIONS: i32 = 2;
/// Of the compacted topic; a segment is closed by the first record that comes later than this.
const SEGMENT_MS: u64 = 100;
/// Positions that a group commits, per partition.
const GROUPS: usize = 6;

fn producer(bootstrap: &str, transactional_id: Option<&str>) -> BaseProducer {
    let mut config = client::config(bootstrap);
    config.set("linger.ms", "10").set("compression.type", "lz4").set("message.timeout.ms", "30000");
    if let Some(id) = transactional_id {
        config.set("transactional.id", id);
    }
    let producer: BaseProducer = config.create().expect("a producer");
    if transactional_id.is_some() {
        producer.init_transactions(MINUTE).expect("transactions");
    }
    producer
}

fn send(producer: &BaseProducer, topic: &str, n: usize, key: &str, value: Option<&str>) {
    let mut record = BaseRecord::to(topic).partition(n as i32 % PARTITIONS).key(key);
    if let Some(value) = value {
        record = record.payload(value);
    }
    producer.send(record).map_err(|(e, _)| e).expect("room in the queue");
}

/// Waves of updates to few keys, so that of each batch some records are superseded and some are not.
fn write_updates(bootstrap: &str, topic: &str, waves: usize) {
    let producer = producer(bootstrap, None);
    for wave in 0..waves {
        for n in 0..60 {
            // Keys that are rarely and ones that are often written; some are deleted.
            let key = if n % 3 == 0 { format!("rare-{}", wave * 60 + n) } else { format!("often-{}", n * 7 % 23) };
            let value = format!("{topic} wave {wave} number {n} {}", "filler ".repeat(n % 9));
            send(&producer, topic, n / 2, &key, (n % 11 != 4).then_some(value.as_str()));
        }
        producer.flush(MINUTE).expect("a wave is written");
        // Segments are closed by time, so time has to pass.
        std::thread::sleep(Duration::from_millis(SEGMENT_MS + 20));
    }
}

/// Transactions, every third one aborted, between records without one.
fn write_transactions(bootstrap: &str, topic: &str, id: &str, count: usize) {
    let (transactional, plain) = (producer(bootstrap, Some(id)), producer(bootstrap, None));
    for transaction in 0..count {
        let aborted = transaction % 3 == 1;
        transactional.begin_transaction().expect("begun");
        for n in 0..3 + transaction % 5 {
            let value = format!("{id} {transaction} {n} {}", if aborted { "aborted" } else { "committed" });
            send(&transactional, topic, n, &format!("{id}-{transaction}"), Some(&value));
        }
        transactional.flush(MINUTE).expect("sent");
        match aborted {
            true => transactional.abort_transaction(MINUTE).expect("aborted"),
            false => transactional.commit_transaction(MINUTE).expect("committed"),
        }
        // Not behind the last one: the log ends in an aborted transaction, of which the copy has nothing.
        for n in 0..2 * usize::from(transaction + 1 < count) {
            send(&plain, topic, n, "plain", Some(&format!("{id} plain {transaction} {n}")));
        }
        plain.flush(MINUTE).expect("sent");
    }
}

/// Waits until the cleaner has made holes inside batches, then forbids it to go on, so that what is there stays there.
fn wait_for_holes(raw: &Raw, topic: &str) {
    wait_until("holes in the compacted topic", MINUTE, || {
        (0..PARTITIONS).all(|p| {
            let batches = raw.batches(topic, p);
            let records: i64 = batches.iter().map(|b| i64::from(b.header().count)).sum();
            let end = batches.last().map_or(0, |b| b.header().next_offset());
            records * 4 < end * 3 && batches.iter().any(|b| b.header().count > 0 && !b.header().is_dense())
        })
    });
    raw.configure(
        topic,
        &[("min.compaction.lag.ms", "9000000000000000"), ("max.compaction.lag.ms", "9223372036854775807")],
    );
    let shape = || (0..PARTITIONS).flat_map(|p| raw.batches(topic, p)).map(|b| b.header().crc).collect::<Vec<_>>();
    let (mut last, mut equal) = (shape(), 0);
    wait_for("the cleaner to rest", MINUTE, || {
        let now = shape();
        equal = if now == last { equal + 1 } else { 0 };
        last = now;
        // A pass takes a fraction of this on so small a log.
        if equal >= 40 { Ok(()) } else { Err(format!("{equal} equal readings")) }
    });
}

/// What clients are told of one topic.
#[derive(PartialEq, Debug)]
struct Told {
    /// By (partition, position): the record there.
    at: BTreeMap<(i32, i64), Option<Rec>>,
    /// By (partition, timestamp): the record that the timestamp's offset leads to.
    at_time: BTreeMap<(i32, i64), Option<Rec>>,
    /// By partition: the first record, and the end.
    bounds: Vec<(Option<Rec>, i64)>,
    /// By group: the record that the committed position leads to.
    committed: BTreeMap<String, Vec<Option<Rec>>>,
}

fn ask(bootstrap: &str, topic: &str, positions: &[(i32, i64)], times: &[(i32, i64)]) -> Told {
    let consumer = Positioned::new(bootstrap, topic);
    let bounds = (0..PARTITIONS).map(|p| {
        let (low, high) = consumer.watermarks(p);
        (consumer.at(p, low), high)
    });
    let bounds: Vec<_> = bounds.collect();
    let at_time = times.iter().map(|&(partition, time)| {
        let offset = consumer.offset_for_time(partition, time);
        ((partition, time), (offset >= 0).then(|| consumer.at(partition, offset)).flatten())
    });
    let groups = (0..GROUPS).map(|n| group(topic, n)).map(|group| {
        let positions = committed(bootstrap, &group, topic, PARTITIONS);
        let records = (0..).zip(positions).map(|(p, o)| o.and_then(|offset| consumer.at(p, offset)));
        (group, records.collect())
    });
    Told {
        at: positions.iter().map(|&(p, offset)| ((p, offset), consumer.at(p, offset))).collect(),
        at_time: at_time.collect(),
        bounds,
        committed: groups.collect(),
    }
}

fn group(topic: &str, n: usize) -> String {
    format!("{topic}-committed-{n}")
}

/// `count` positions spread over the logs' whole lengths, ends included, in an order that jumps about.
fn sample(ends: &[i64], count: usize) -> Vec<(i32, i64)> {
    let spread = (0..).zip(ends).flat_map(|(partition, &end)| {
        let each = count / ends.len();
        // And the last ones, where there may be no record behind.
        (0..each as i64)
            .map(move |n| (partition, n * 7919 % (end + 1)))
            .chain((end - 3..=end).map(move |o| (partition, o)))
    });
    spread.collect()
}

/// Looks at a topic through the proxy before a switchover, and again after it.
struct Before {
    topic: &'static str,
    positions: Vec<(i32, i64)>,
    times: Vec<(i32, i64)>,
    told: Told,
    records: BTreeMap<i32, Vec<Rec>>,
    consumer: Positioned,
}

impl Before {
    fn look(proxy: &Proxy, topic: &'static str, samples: usize) -> Self {
        let (bootstrap, through) = (proxy.bootstrap(), Raw::new("proxy", &proxy.bootstrap()));
        let ends = through.ends(topic, PARTITIONS);
        let positions = sample(&ends, samples);
        let records = all(&through, topic, PARTITIONS);
        let times = records.values().flat_map(|r| {
            let step = (r.len() / 20).max(1);
            r.iter().step_by(step).map(|r| (r.partition, r.content.timestamp.unwrap_or(0)))
        });
        let times: Vec<_> = times.collect();
        for n in 0..GROUPS {
            for (partition, end) in (0..).zip(&ends) {
                commit(&bootstrap, &group(topic, n), topic, partition, end * n as i64 / (GROUPS as i64 - 1));
            }
        }
        let told = ask(&bootstrap, topic, &positions, &times);
        for (&(partition, offset), found) in &told.at {
            let there = records[&partition].iter().find(|r| r.offset >= offset);
            assert_eq!(found.as_ref(), there, "{topic}: position {partition}@{offset} before the switchover");
        }
        Self { topic, positions, times, told, records, consumer: Positioned::new(&bootstrap, topic) }
    }

    fn assert_same_after(&self, proxy: &Proxy, when: &str) {
        let topic = self.topic;
        let through = Raw::new("proxy", &proxy.bootstrap());
        assert_eq!(self.records, all(&through, topic, PARTITIONS), "{topic} {when}: all records at their offsets");
        let told = ask(&proxy.bootstrap(), topic, &self.positions, &self.times);
        for (position, record) in &self.told.at {
            assert_eq!(record, &told.at[position], "{topic} {when}: position {position:?}");
        }
        for (time, record) in &self.told.at_time {
            assert_eq!(record, &told.at_time[time], "{topic} {when}: timestamp {time:?}");
        }
        assert_eq!(self.told.bounds, told.bounds, "{topic} {when}: first record and end");
        assert_eq!(self.told.committed, told.committed, "{topic} {when}: committed positions");
        // One that was there before, with what it knows of leaders and epochs.
        for &(partition, offset) in self.positions.iter().take(20) {
            let record = self.consumer.at(partition, offset);
            assert_eq!(
                self.told.at[&(partition, offset)],
                record,
                "{topic} {when}: old consumer at {partition}@{offset}"
            );
        }
    }
}

#[test]
fn every_position_names_the_same_record_on_both_clusters() {
    let cleaning = |name| Spec::new(name).set("log.cleaner.backoff.ms", "100");
    let [east, west] = Cluster::start_all([cleaning("east"), cleaning("west")]);
    let segment_ms = SEGMENT_MS.to_string();
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", segment_ms.as_str()),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("min.compaction.lag.ms", "0"),
        ("max.compaction.lag.ms", "1"),
    ];
    east.create_topic("compacted", PARTITIONS, &compacted);
    east.create_topic("transactions", PARTITIONS, &[]);
    write_updates(&east.bootstrap(), "compacted", 8);
    write_transactions(&east.bootstrap(), "transactions", "around", 20);
    let raw = [Raw::new("east", &east.bootstrap()), Raw::new("west", &west.bootstrap())];
    wait_for_holes(&raw[0], "compacted");

    let proxy = Proxy::start(ProxySpec::new(&east, &west, "async"));
    write_updates(&proxy.bootstrap(), "compacted", 2);
    write_transactions(&proxy.bootstrap(), "transactions", "through", 11);
    let topics = ["compacted", "transactions"];
    for (active, to) in [(0, "west"), (1, "east")] {
        let mut before = Vec::new();
        for topic in topics {
            wait_level(&proxy, &raw[active], topic, PARTITIONS);
            assert_ne!(raw[0].ends(topic, PARTITIONS), raw[1].ends(topic, PARTITIONS), "{topic}: offsets must differ");
            let [one, other] = [&raw[0], &raw[1]].map(|raw| all(raw, topic, PARTITIONS));
            assert_same_contents(topic, &one, &other);
            before.push(Before::look(&proxy, topic, repetitions(150, 1000)));
        }
        assert_verified(&proxy, None);
        assert_eq!(switch(&proxy)["to"], to);
        for before in &before {
            before.assert_same_after(&proxy, &format!("after the switchover to {to}"));
        }
        // More of the same, from the other side.
        write_updates(&proxy.bootstrap(), "compacted", 2);
        write_transactions(&proxy.bootstrap(), "transactions", &format!("on-{to}"), 5);
    }
    for topic in topics {
        wait_level(&proxy, &raw[0], topic, PARTITIONS);
    }
    assert_verified(&proxy, None);
}
