//! `verify` against two real clusters, without a proxy: the test does the streams' work, right or wrong.

use std::sync::Arc;
use std::time::Duration;

use kafka_standby::admin::types::VerifyReport;
use kafka_standby::catalog::{Catalog, StreamState, Topic};
use kafka_standby::config::TeeMode;
use kafka_standby::model::{ClusterIx, TopicPartition};
use kafka_standby::offsets::PartitionOffsets;
use kafka_standby::records::{Batches, Codec, NewRecord, Stamp, build};
use kafka_standby::stream::{Cursor, StampState, apply_breaks, plan};
use kafka_standby::upstream::{ClientOptions, Cluster, Configs, FetchFrom, FetchOptions, Isolation};
use kafka_standby::verify::{Input, verify};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::client;
use crate::support::cluster::{Cluster as Real, Spec};

const MINUTE: Duration = Duration::from_secs(60);
const EAST: ClusterIx = ClusterIx::FIRST;
const WEST: ClusterIx = ClusterIx::SECOND;

struct Pair {
    east: Cluster,
    west: Cluster,
    catalog: Arc<Catalog>,
}

impl Pair {
    /// A topic of one partition on both clusters.
    async fn topic(&self, name: &str, east: &[(&str, &str)]) -> TopicPartition {
        let configs: Configs = east.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        self.east.create_topic(name, 1, 1, &configs, false).await.unwrap();
        self.west.create_topic(name, 1, 1, &Configs::new(), false).await.unwrap();
        let topic = Topic::new(name.into(), uuid(name), (EAST, 0), TeeMode::Async);
        let topic = self.catalog.register(topic);
        let tp = TopicPartition::new(name, 0);
        let make =
            |_| kafka_standby::catalog::Partition::new(tp.clone(), TeeMode::Async, PartitionOffsets::born(EAST, 0));
        topic.grow(1, make);
        tp
    }

    /// What the stream of the partition would do, from where it stands to the end of the active cluster's log. `edit`
    /// may change each batch.
    async fn copy(&self, tp: &TopicPartition, edit: impl Fn(i64, bytes::Bytes) -> bytes::Bytes) {
        let partition = self.catalog.partition(&tp.topic, 0).unwrap();
        let mut cursor = Cursor { active_next: 0, standby_end: 0 };
        let stamp = StampState { producer_id: -1, epoch: -1, next_sequence: -1 };
        loop {
            let from = FetchFrom {
                tp: tp.clone(),
                offset: cursor.active_next,
                max_bytes: 100_000,
                current_leader_epoch: None,
            };
            let options =
                FetchOptions { max_wait: Duration::ZERO, isolation: Isolation::ReadCommitted, ..Default::default() };
            let part = self.east.fetch(&[from], &options).await.unwrap().remove(tp).unwrap();
            assert_eq!(part.error, 0);
            let plan = {
                let offsets = partition.offsets.read();
                plan(Batches::new(part.records), part.aborted, cursor, offsets.map(EAST), offsets.map(WEST)).unwrap()
            };
            if plan.active_next == cursor.active_next {
                break;
            }
            apply_breaks(partition.offsets.write().map_mut(WEST), &plan.breaks);
            for append in plan.appends {
                let sent = edit(append.logical, append.split(&stamp, true).join());
                let stored = self.west.produce_one(tp, sent).await.unwrap();
                assert_eq!(stored.base_offset, append.standby_base);
                cursor.standby_end = append.standby_base + append.count;
            }
            cursor.active_next = plan.active_next;
        }
        partition.advance(|p| {
            (p.replicated, p.standby_end, p.active_end) = (cursor.active_next, cursor.standby_end, cursor.active_next);
        });
        partition.set_state(StreamState::Tee);
    }

    async fn verify(&self, topic: &str) -> VerifyReport {
        let (active, standby) = (self.east.clone(), self.west.clone());
        let catalog = self.catalog.clone();
        verify(Input { active, standby, active_ix: EAST, catalog, topic: Some(topic.into()) }).await
    }
}

fn uuid(name: &str) -> uuid::Uuid {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    uuid::Uuid::from_bytes(bytes)
}

fn batch(count: usize, value_bytes: usize, codec: Codec) -> bytes::Bytes {
    // Not compressible to nothing, so that the log is as long as it looks.
    let value = |n: usize| (0..value_bytes).map(|i| (i * (i + 2 * n + 1) / 7) as u8).collect::<Vec<u8>>();
    let values: Vec<Vec<u8>> = (0..count).map(value).collect();
    let record = |v: &'static str, value| NewRecord { key: Some(v.as_bytes()), value, headers: vec![], timestamp: 0 };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let records: Vec<NewRecord<'_>> =
        values.iter().map(|v| NewRecord { timestamp: now, ..record("key", Some(v)) }).collect();
    build(&records, codec, Stamp::NONE).unwrap()
}

/// One transaction of `count` records, committed or aborted.
fn transaction(bootstrap: &str, topic: &str, count: usize, commit: bool) {
    let producer: BaseProducer =
        client::config(bootstrap).set("transactional.id", format!("t-{commit}")).create().expect("a producer");
    producer.init_transactions(MINUTE).unwrap();
    producer.begin_transaction().unwrap();
    for n in 0..count {
        producer.send(BaseRecord::to(topic).partition(0).key("k").payload(&format!("{commit} {n}"))).unwrap();
    }
    producer.flush(MINUTE).unwrap();
    if commit { producer.commit_transaction(MINUTE).unwrap() } else { producer.abort_transaction(MINUTE).unwrap() }
}

fn whats(report: &VerifyReport) -> Vec<(i64, &str)> {
    report.differences.iter().map(|d| (d.logical_offset, d.what.as_str())).collect()
}

#[test]
fn copies_verify_equal_and_planted_differences_are_found() {
    let [east, mut west] = Real::start_all([Spec::new("verify-east"), Spec::new("verify-west")]);
    let options = || ClientOptions { timeout: Duration::from_secs(5), ..ClientOptions::default() };
    let pair = Pair {
        east: Cluster::new("east", vec![east.bootstrap()], options()),
        west: Cluster::new("west", vec![west.bootstrap()], options()),
        catalog: Arc::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let run = runtime.handle().clone();

    // Several fetches long; offsets differ by the markers and the aborted records.
    let tp = run.block_on(pair.topic("mixed", &[]));
    let produce = |codec| {
        run.block_on(async {
            for _ in 0..20 {
                pair.east.produce_one(&tp, batch(50, 2000, codec)).await.unwrap();
            }
        });
    };
    produce(Codec::None);
    transaction(&east.bootstrap(), "mixed", 10, false);
    produce(Codec::Zstd);
    transaction(&east.bootstrap(), "mixed", 10, true);
    produce(Codec::Lz4);
    let report = run.block_on(async {
        pair.copy(&tp, |_, bytes| bytes).await;
        pair.verify("mixed").await
    });
    assert!(report.equal, "{report:?}");
    let partition = &report.topics[0].partitions[0];
    assert_eq!((partition.records, partition.differences), (3010, 0));
    assert!(partition.batches >= 61 && partition.fingerprints == partition.batches, "{partition:?}");

    // Append times are explicit on the standby: equal, but not by fingerprint.
    let report = run.block_on(async {
        let tp = pair.topic("stamped", &[("message.timestamp.type", "LogAppendTime")]).await;
        pair.east.produce_one(&tp, batch(5, 10, Codec::Gzip)).await.unwrap();
        pair.copy(&tp, |_, bytes| bytes).await;
        pair.verify("stamped").await
    });
    assert!(report.equal, "{report:?}");
    assert_eq!((report.topics[0].partitions[0].records, report.topics[0].partitions[0].fingerprints), (5, 0));

    // Other values in one batch.
    let report = run.block_on(async {
        let tp = pair.topic("changed", &[]).await;
        for _ in 0..3 {
            pair.east.produce_one(&tp, batch(2, 10, Codec::None)).await.unwrap();
        }
        pair.copy(&tp, |logical, bytes| if logical == 2 { batch(2, 11, Codec::None) } else { bytes }).await;
        pair.verify("changed").await
    });
    let offsets: Vec<i64> = report.differences.iter().map(|d| d.logical_offset).collect();
    assert_eq!((report.equal, offsets), (false, vec![2, 3]), "{report:?}");
    assert!(report.differences.iter().all(|d| d.what.starts_with("value differs")), "{report:?}");

    // Somebody else writes to the standby behind an exact copy.
    let report = run.block_on(async {
        pair.west.produce_one(&tp, batch(2, 10, Codec::None)).await.unwrap();
        pair.verify("mixed").await
    });
    assert_eq!(report.differences_total, 1, "{report:?}");
    assert!(
        whats(&report)[0].1.starts_with("only on the standby: 2 records at its offsets 3010 to 3011"),
        "{report:?}"
    );

    // A log that starts later, on either side, is no difference.
    let report = run.block_on(async {
        pair.east.delete_records(&[(TopicPartition::new("stamped", 0), 2)]).await.unwrap();
        pair.west.delete_records(&[(TopicPartition::new("stamped", 0), 3)]).await.unwrap();
        pair.verify("stamped").await
    });
    assert!(report.equal, "{report:?}");
    assert_eq!(report.topics[0].partitions[0].records, 2);

    let report = run.block_on(pair.verify("no such topic"));
    assert!(!report.equal && report.skipped.len() == 1, "{report:?}");
    west.kill();
    let report = run.block_on(pair.verify("stamped"));
    assert!(!report.equal && report.skipped[0].reason.contains("west"), "{report:?}");
}
