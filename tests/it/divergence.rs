//! What a failover left behind on the lost cluster, once that is back: found exactly, exported byte for byte, written again
//! once each, or discarded; and nothing that the standby has is shipped again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_standby::records::record::Header;
use kafka_standby::records::{Batch, Batches, Codec, NewRecord, Stamp, build};
use kafka_standby::stream::client_producer_id;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::operator::{assert_exit, run};
use crate::reading::{Content, MINUTE, Raw, Rec, all, assert_verified, settled_trial, switch, wait_level};
use crate::support::client;
use crate::support::cluster::{Cluster, Spec};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::temp::TempDir;
use crate::support::wait::wait_for;
use crate::wire::frames::metric;

const TOPIC: &str = "left";
const PARTITIONS: i32 = 3;
/// What the tee holds is still copied when the active cluster is gone: so more must be written.
const TEE_KIB: usize = 1024;
/// Batches to each partition while the standby stands still, and records in each.
const BATCHES: i32 = 320;
const RECORDS: i32 = 20;
const VALUE_BYTES: usize = 300;
/// The partition with a transaction that no coordinator knows of.
const HANGING: i32 = 1;
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// An hour ago: what is much older falls to the brokers' retention.
pub fn hour_ago() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64 - 3_600_000
}

/// A producer that keeps a log of its own: what it sent, and under which offset it was acknowledged.
struct Log {
    through: Raw,
    /// Of its producer ids, one for each partition.
    id: u64,
    /// Timestamp of its first record.
    start: i64,
    sequences: [i32; PARTITIONS as usize],
    /// Acknowledged batches by partition: base offset, bytes.
    sent: [Vec<(i64, Bytes)>; PARTITIONS as usize],
}

impl Log {
    fn new(proxy: &Proxy, id: u64) -> Self {
        Self {
            through: Raw::new("proxy", &proxy.bootstrap()),
            id,
            start: hour_ago(),
            sequences: [0; 3],
            sent: Default::default(),
        }
    }

    fn send(&mut self, partition: i32, count: i32) {
        let p = partition as usize;
        let first = self.sequences[p];
        let keys: Vec<Vec<u8>> = (first..first + count).map(|n| format!("{partition}/{n}").into_bytes()).collect();
        // No codec makes these smaller.
        let mixed = |n: usize, i: usize| {
            ((n * 4099 + i + 1) as u64)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
                .wrapping_mul(0xbf58_476d_1ce4_e5b9)
                >> 56
        };
        let value = |n: usize| (0..VALUE_BYTES).map(|i| mixed(n, i) as u8).collect::<Vec<u8>>();
        let values: Vec<Vec<u8>> = (0..keys.len()).map(|n| value(first as usize + n)).collect();
        let record = |n: usize| NewRecord {
            // Text, bytes that are none, nothing; some with headers.
            key: (n % 7 != 3).then_some(&*keys[n]),
            value: if n.is_multiple_of(5) { Some(&*keys[n]) } else { Some(&*values[n]) },
            headers: if n % 4 == 1 { vec![Header { key: b"h", value: Some(&values[n][..3]) }] } else { Vec::new() },
            timestamp: self.start + i64::from(first) + n as i64,
        };
        let records: Vec<_> = (0..keys.len()).map(record).collect();
        let stamp = Stamp {
            producer_id: client_producer_id(self.id + u64::from(partition as u32)),
            producer_epoch: 0,
            base_sequence: first,
        };
        let batch = build(&records, CODECS[(first / count) as usize % CODECS.len()], stamp).expect("a batch");
        let base = self.through.produce(TOPIC, partition, batch.clone()).base_offset;
        self.sequences[p] += count;
        self.sent[p].push((base, batch));
    }

    /// Offsets that were acknowledged.
    fn offsets(&self, partition: usize) -> BTreeSet<i64> {
        let count = |bytes: &Bytes| i64::from(Batch::new(bytes.clone()).expect("a batch").header().count);
        self.sent[partition].iter().flat_map(|(base, bytes)| *base..*base + count(bytes)).collect()
    }
}

/// Two transactions on partition 2, one of them aborted.
fn transactions(proxy: &Proxy) {
    let producer: BaseProducer = client::config(&proxy.bootstrap())
        .set("transactional.id", "left-behind")
        .create()
        .expect("a transactional producer");
    producer.init_transactions(MINUTE).expect("init");
    for (what, count) in [("aborted", 5), ("committed", 7)] {
        producer.begin_transaction().expect("begin");
        for n in 0..count {
            let value = format!("{what} {n}");
            producer.send(BaseRecord::<(), str>::to(TOPIC).partition(2).payload(&value)).expect("queued");
        }
        producer.flush(MINUTE).expect("flushed");
        match what {
            "aborted" => producer.abort_transaction(MINUTE).expect("aborted"),
            _ => producer.commit_transaction(MINUTE).expect("committed"),
        }
    }
}

fn of(range: &Value, field: &str) -> i64 {
    range[field].as_i64().unwrap_or_else(|| panic!("{field} of {range}"))
}

fn ranges(listed: &Value) -> BTreeMap<i64, Value> {
    let rows = listed["ranges"].as_array().expect("ranges").iter();
    rows.map(|r| (of(r, "partition"), r.clone())).collect()
}

fn list(proxy: &mut Proxy) -> BTreeMap<i64, Value> {
    ranges(&assert_exit(proxy, "divergence list --json", 0).json())
}

/// The files of an export against what the old cluster stores and what the producer sent.
fn assert_exported(directory: &Path, range: &Value, stored: &[Batch], log: &Log) {
    let (partition, from, to) = (of(range, "partition"), of(range, "from_offset"), of(range, "to_offset"));
    let place = directory.join(format!("{TOPIC}-{partition}.generation-1.east"));
    let read = |name: &str| std::fs::read(place.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let file = read("batches");
    let head = file.iter().position(|&b| b == b'\n').expect("a head") + 1;
    let manifest: Value = serde_json::from_slice(&read("manifest.json")).expect("a manifest");
    assert_eq!(manifest["files"][0]["crc32c"], format!("{:08x}", crc32c::crc32c(&file)), "{manifest:#}");
    let exported: Vec<Batch> = Batches::new(Bytes::from(file[head..].to_vec())).map(|b| b.expect("a batch")).collect();
    let want: Vec<&Batch> = stored.iter().filter(|b| (from..to).contains(&b.header().base_offset)).collect();
    assert_eq!(exported.iter().collect::<Vec<_>>(), want, "partition {partition}: byte for byte as stored");
    // And as sent, but for base offset and leader epoch, which the broker writes.
    let by_offset: BTreeMap<i64, &Bytes> = log.sent[partition as usize].iter().map(|(o, b)| (*o, b)).collect();
    let own = exported.iter().filter_map(|b| Some((b, by_offset.get(&b.header().base_offset)?)));
    let own = own.inspect(|(stored, sent)| assert_eq!(stored.bytes()[16..], sent[16..])).count();
    assert!(own as i64 >= of(range, "batches") - 5, "{own} batches of the producer's own: {range:#}");
    let text = String::from_utf8(read("records.jsonl")).expect("text");
    assert_eq!(text.lines().count() as i64, of(range, "records") + of(range, "aborted_records"));
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert!((from..to).contains(&of(&line, "offset")), "{line}");
    }
}

/// The contents of all records that the old cluster's tail holds for consumers.
fn lost_contents(east: &Raw, range: &Value) -> Vec<Content> {
    let (from, to) = (of(range, "from_offset"), of(range, "to_offset"));
    let committed = east.committed(TOPIC, of(range, "partition") as i32).into_iter();
    committed.filter(|r| (from..to).contains(&r.offset)).map(|r| r.content).collect()
}

/// Failed over with more than ten thousand records missing, the old cluster is back and level.
struct After {
    proxy: Proxy,
    _west: Cluster,
    east: Raw,
    log: Log,
    survivors: BTreeMap<i32, Vec<Rec>>,
}

fn failed_over() -> (After, Cluster) {
    let lenient = Spec::new("east").set("transaction.partition.verification.enable", "false");
    let [mut east, mut west] = Cluster::start_all([lenient, Spec::new("west")]);
    east.create_topic(TOPIC, PARTITIONS, &[]);
    let mut spec = ProxySpec::new(&east, &west, "async");
    spec.more = format!("[limits]\ntee_buffer = \"{TEE_KIB}KiB\"\n");
    let proxy = Proxy::start(spec);
    let mut log = Log::new(&proxy, 900);
    (0..PARTITIONS).for_each(|p| log.send(p, RECORDS));
    wait_level(&proxy, &Raw::new("east", &east.bootstrap()), TOPIC, PARTITIONS);
    west.pause();
    for _ in 0..BATCHES {
        (0..PARTITIONS).for_each(|p| log.send(p, RECORDS));
    }
    transactions(&proxy);
    // Nobody ends this one but the proxy, once the cluster is back: else nothing behind it is ever committed.
    Raw::new("east", &east.bootstrap()).hang(TOPIC, HANGING, "forgotten", hour_ago());
    east.kill();
    west.resume();
    settled_trial(&proxy);
    let report = proxy.failover();
    assert_eq!(report["outcome"], "done", "{report:#}");
    let survivors = all(&Raw::new("proxy", &proxy.bootstrap()), TOPIC, PARTITIONS);
    east.restart();
    let raw = Raw::new("east", &east.bootstrap());
    (After { proxy, _west: west, east: raw, log, survivors }, east)
}

#[test]
fn what_a_failover_left_behind_is_listed_exported_and_written_again_once() {
    let (After { mut proxy, _west, east, mut log, survivors }, _east) = failed_over();
    let west = Raw::new("west", &_west.bootstrap());

    // What is new is shipped to the old cluster, and nothing else.
    let bytes = |raw: &Raw| -> u64 {
        (0..PARTITIONS).flat_map(|p| raw.batches(TOPIC, p)).map(|b| b.bytes().len() as u64).sum()
    };
    let before = bytes(&west);
    let mut fresh = Log::new(&proxy, 1000);
    fresh.sequences = log.sequences;
    for _ in 0..50 {
        (0..PARTITIONS).for_each(|p| fresh.send(p, RECORDS));
    }
    wait_level(&proxy, &west, TOPIC, PARTITIONS);
    let new = bytes(&west) - before;
    let shipped = metric(&proxy, "kafka_standby_stream_bytes_total{cluster=\"east\"}");
    println!("new {new} bytes, shipped back {shipped}");
    assert!(shipped >= new && shipped * 100 <= new * 102, "{new} bytes were new, {shipped} were shipped");
    assert_verified(&proxy, None);

    // The list is the producer's own log minus what is left.
    let listed = list(&mut proxy);
    assert_eq!(listed.len(), PARTITIONS as usize, "{listed:#?}");
    let mut missing_in_all = 0;
    for (&partition, range) in &listed {
        let p = partition as usize;
        let left: BTreeSet<i64> = survivors[&(partition as i32)].iter().map(|r| r.offset).collect();
        let missing: BTreeSet<i64> = log.offsets(p).difference(&left).copied().collect();
        missing_in_all += missing.len();
        let (committed, aborted) = [(0, 0), (0, 1), (7, 5)][p];
        // A coordinator that was killed over a commit writes its marker once more.
        let markers = of(range, "control_batches");
        assert!([0..=0, 1..=1, 2..=3][p].contains(&markers), "{range:#}");
        assert_eq!(of(range, "logical_from"), *missing.first().expect("records are missing"));
        assert_eq!(of(range, "logical_to"), missing.last().unwrap() + 1 + committed + aborted + markers);
        assert_eq!(
            of(range, "to_offset") - of(range, "from_offset"),
            of(range, "logical_to") - of(range, "logical_from")
        );
        assert_eq!(of(range, "records"), missing.len() as i64 + committed, "{range:#}");
        assert_eq!(of(range, "aborted_records"), aborted, "{range:#}");
        assert_eq!((&range["cluster"], of(range, "generation"), &range["state"]), (&json!("east"), 1, &json!("open")));
    }
    println!("{missing_in_all} records are missing");
    assert!(missing_in_all >= 10_000, "{missing_in_all}");

    let directory = TempDir::new("export");
    let dir = directory.path().join("lost");
    let command = format!("divergence export --dir {}", dir.display());
    assert_eq!(assert_exit(&mut proxy, &command, 0).out.lines().count(), PARTITIONS as usize);
    for range in listed.values() {
        assert_exported(&dir, range, &east.batches(TOPIC, of(range, "partition") as i32), &log);
    }
    assert_exit(&mut proxy, &command, 1);

    // Partition 1 is discarded; the others are written again, by a proxy that is killed over it.
    let discarded = assert_exit(&mut proxy, "divergence discard --topic left --partition 1 --yes --json", 0).json();
    assert_eq!(discarded["ranges"][0]["state"], "discarded");
    let end = west.ends(TOPIC, PARTITIONS);
    let through = Raw::new("proxy", &proxy.bootstrap());
    let asked = std::thread::scope(|scope| {
        let (binary, admin) = (proxy.spec_mut().binary.clone(), proxy.admin());
        let asked = scope.spawn(move || {
            let mut command = std::process::Command::new(binary);
            command.args(["divergence", "reinject", "--yes"]).env("KAFKA_STANDBY_ADMIN", admin).output()
        });
        wait_for("a part to be written", MINUTE, || {
            let written = west.ends(TOPIC, PARTITIONS)[0] - end[0];
            if written > 200 { Ok(()) } else { Err(format!("{written} records")) }
        });
        proxy.kill();
        asked.join().expect("the command ended")
    });
    assert_ne!(asked.expect("it ran").status.code(), Some(0), "the proxy was to die in the midst of it");
    proxy.restart();
    assert_eq!(list(&mut proxy)[&0]["state"], "reinjecting");
    assert_exit(&mut proxy, "divergence reinject --yes", 0);
    let settled = list(&mut proxy);
    for (partition, state) in [(0, "reinjected"), (1, "discarded"), (2, "reinjected")] {
        assert_eq!(settled[&partition]["state"], state);
        let want = if state == "discarded" { 0 } else { of(&settled[&partition], "records") };
        assert_eq!(of(&settled[&partition], "reinjected_records"), want);
    }
    assert_eq!(run(&mut proxy, "divergence reinject --yes").exit, 0, "again: nothing is left to do");

    let now = all(&through, TOPIC, PARTITIONS);
    for (partition, records) in &now {
        let left = survivors[partition].len();
        assert_eq!(records[..left], survivors[partition][..], "what was left is what it was");
        let written: Vec<Content> = records[left + 50 * RECORDS as usize..].iter().map(|r| r.content.clone()).collect();
        let want = if *partition == 1 { Vec::new() } else { lost_contents(&east, &listed[&i64::from(*partition)]) };
        assert_eq!(written.len(), want.len(), "partition {partition}: each once");
        assert!(written == want, "partition {partition}: each as it was, in the old order");
    }

    // Teed like a client's, and the way home.
    wait_level(&proxy, &west, TOPIC, PARTITIONS);
    assert_verified(&proxy, None);
    log.sequences = fresh.sequences;
    switch(&proxy);
    assert_eq!(all(&through, TOPIC, PARTITIONS), now, "the same records under the same offsets");
    wait_level(&proxy, &east, TOPIC, PARTITIONS);
    assert_verified(&proxy, None);
    assert_eq!(list(&mut proxy), settled, "what was masked stays masked");
}

/// Somebody still writes to a cluster that was retired: named, never merged.
#[test]
fn writes_around_the_proxy_to_the_retired_cluster_are_named() {
    let [east, west] = Cluster::start_all([Spec::new("east"), Spec::new("west")]);
    east.create_topic(TOPIC, PARTITIONS, &[]);
    let mut proxy = Proxy::start(ProxySpec::new(&east, &west, "async"));
    let mut log = Log::new(&proxy, 900);
    (0..PARTITIONS).for_each(|p| log.send(p, RECORDS));
    wait_level(&proxy, &Raw::new("east", &east.bootstrap()), TOPIC, PARTITIONS);
    switch(&proxy);
    wait_level(&proxy, &Raw::new("west", &west.bootstrap()), TOPIC, PARTITIONS);
    let before = all(&Raw::new("proxy", &proxy.bootstrap()), TOPIC, PARTITIONS);

    let straight = Raw::new("east", &east.bootstrap());
    let record = NewRecord { value: Some(b"astray"), timestamp: hour_ago(), ..Default::default() };
    let batch = build(&[record.clone(), record.clone(), record], Codec::None, Stamp::NONE).expect("a batch");
    let at = straight.produce(TOPIC, 1, batch).base_offset;
    let named = |status: &Value| {
        let rows = status["partitions"].as_array().into_iter().flatten();
        let row = rows.into_iter().find(|p| p["partition"] == 1).cloned().unwrap_or_default();
        let detail = row["detail"].as_str().unwrap_or_default().to_owned();
        row["stream"] == "diverged" && detail.contains("3 records") && detail.contains(&format!("offsets {at} to"))
    };
    let status = proxy.wait_status("the writes to be named", Duration::from_secs(20), named);
    let alarms = status["alarms"].as_array().expect("alarms");
    assert!(alarms.iter().any(|a| a.as_str().is_some_and(|a| a.contains("left-1"))), "{alarms:?}");
    assert_eq!(all(&Raw::new("proxy", &proxy.bootstrap()), TOPIC, PARTITIONS), before, "nobody sees them");
    // A new proxy knows no more than the logs say, and says so.
    proxy.kill();
    proxy.restart();
    proxy.wait_status("the copy to be refused", MINUTE, |status| {
        let mut rows = status["partitions"].as_array().into_iter().flatten();
        rows.any(|p| p["partition"] == 1 && p["stream"] == "diverged")
    });
    let (code, refused) = proxy.post("/v1/switchover", &json!({})).expect("an answer");
    assert_eq!(code, 409, "{refused:#}");
}
