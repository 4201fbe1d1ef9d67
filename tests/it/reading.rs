//! Reading topics for the tests that compare two clusters, or one topic before and after a cutover: whole, by position with
//! a real client, and raw.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName, TransactionalId};
use kafka_protocol::protocol::{StrBytes, VersionRange};
use kafka_standby::model::TopicPartition;
use kafka_standby::records::{
    AbortedFilter, Batch, BatchHeader, Batches, Codec, HEADER_BYTES, NewRecord, RecordRef, Section, Stamp, Verdict,
    build,
};
use kafka_standby::upstream::{
    ClientOptions, Cluster, FetchFrom, FetchOptions, Isolation, Lane, OffsetSpec, ProducedPartition, Target,
};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::support::client;
use crate::support::cluster::{Cluster as ClusterProcess, Spec};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::wait::wait_for;

pub const MINUTE: Duration = Duration::from_secs(60);

/// A record as a consumer sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rec {
    pub partition: i32,
    pub offset: i64,
    pub content: Content,
}

/// What a copy must keep.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// Milliseconds; whose (the producer's or the broker's) is not said: a copy gives both as its producer's.
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// In order, duplicates included.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

fn rec(message: &impl Message) -> Rec {
    let headers = message.headers().into_iter().flat_map(|h| h.iter());
    Rec {
        partition: message.partition(),
        offset: message.offset(),
        content: Content {
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect(),
        },
    }
}

/// The committed records of a topic by partition, each in offset order; read raw, since librdkafka is built without zstd here.
pub fn all(raw: &Raw, topic: &str, partitions: i32) -> BTreeMap<i32, Vec<Rec>> {
    (0..partitions).map(|p| (p, raw.committed(topic, p))).collect()
}

fn decoded(partition: i32, batch: &Batch) -> Vec<Rec> {
    let section = Section::open(batch).expect("the records of a batch");
    let own = |b: Option<&[u8]>| b.map(<[u8]>::to_vec);
    let rec = |record: RecordRef<'_>| Rec {
        partition,
        offset: section.offset(&record),
        content: Content {
            timestamp: Some(section.timestamp(&record)),
            key: own(record.key),
            value: own(record.value),
            headers: record.headers.clone().map(|h| (String::from_utf8_lossy(h.key).into(), own(h.value))).collect(),
        },
    };
    section.records().map(|r| rec(r.expect("a record"))).collect()
}

/// The records without their offsets.
pub fn contents(records: &BTreeMap<i32, Vec<Rec>>) -> BTreeMap<i32, Vec<&Content>> {
    records.iter().map(|(p, records)| (*p, records.iter().map(|r| &r.content).collect())).collect()
}

/// Panics at the first place where two readings differ.
pub fn assert_same_contents(what: &str, one: &BTreeMap<i32, Vec<Rec>>, other: &BTreeMap<i32, Vec<Rec>>) {
    let (one, other) = (contents(one), contents(other));
    let counts = |all: &BTreeMap<i32, Vec<&Content>>| all.iter().map(|(p, r)| (*p, r.len())).collect::<Vec<_>>();
    for (partition, records) in &one {
        let others = other.get(partition).map(Vec::as_slice).unwrap_or_default();
        for (n, (a, b)) in records.iter().zip(others).enumerate() {
            assert_eq!(a, b, "{what}: partition {partition}, record number {n}");
        }
    }
    assert_eq!(counts(&one), counts(&other), "{what}: records by partition");
}

/// A consumer that is put to a position and asked for the next record, again and again.
pub struct Positioned {
    consumer: BaseConsumer,
    topic: String,
}

impl Positioned {
    pub fn new(bootstrap: &str, topic: &str) -> Self {
        let consumer = client::config(bootstrap)
            .set("group.id", format!("{topic}-positioned"))
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            // A position that the log does not have is a fault here, not a reason to go elsewhere.
            .set("auto.offset.reset", "error")
            // Little is read behind the one record that is wanted.
            .set("fetch.message.max.bytes", "2048")
            // A fetch that waits for more at the end of a log delays the next position.
            .set("fetch.wait.max.ms", "5")
            .create()
            .expect("a consumer");
        Self { consumer, topic: topic.into() }
    }

    /// The first record at or behind `offset`; `None` at the end.
    pub fn at(&self, partition: i32, offset: i64) -> Option<Rec> {
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&self.topic, partition, Offset::Offset(offset)).expect("a position");
        self.consumer.assign(&assignment).expect("assigned");
        wait_for(&format!("a record of {} at {partition}@{offset}", self.topic), MINUTE, || {
            match self.consumer.poll(Duration::from_secs(1)) {
                // What the assignment before had read ahead.
                Some(Ok(message)) if message.partition() != partition || message.offset() < offset => {
                    Err("a stale record".into())
                }
                Some(Ok(message)) => Ok(Some(rec(&message))),
                Some(Err(KafkaError::PartitionEOF(_))) => Ok(None),
                Some(Err(error)) => Err(error.to_string()),
                None => Err("nothing came".into()),
            }
        })
    }

    /// What a timestamp's offset names; -1 for none.
    pub fn offset_for_time(&self, partition: i32, timestamp: i64) -> i64 {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(&self.topic, partition, Offset::Offset(timestamp)).expect("a timestamp");
        let found = self.consumer.offsets_for_times(asked, MINUTE).expect("offsets for times");
        match found.elements()[0].offset() {
            Offset::Offset(offset) => offset,
            _ => -1,
        }
    }

    /// Low and high watermark as ListOffsets tells them.
    pub fn watermarks(&self, partition: i32) -> (i64, i64) {
        self.consumer.fetch_watermarks(&self.topic, partition, MINUTE).expect("watermarks")
    }
}

/// A trial of a failover that has said the same for a second: the streams have nothing left to write of what the proxy holds.
pub fn settled_trial(proxy: &Proxy) -> Value {
    let mut last = (None, Instant::now());
    wait_for("trials of a failover that say the same", MINUTE, || {
        let report = proxy.post("/v1/failover", &json!({ "dry_run": true }))?.1;
        let now = (report["outcome"] == "done").then(|| report["lost"].clone());
        if now != last.0 {
            last = (now, Instant::now());
        }
        let settled = last.0.is_some() && last.1.elapsed() > Duration::from_secs(1);
        if settled { Ok(report) } else { Err(format!("{report}")) }
    })
}

/// What a group has committed, by partition.
pub fn committed(bootstrap: &str, group: &str, topic: &str, partitions: i32) -> Vec<Option<i64>> {
    let consumer: BaseConsumer = client::config(bootstrap).set("group.id", group).create().expect("a consumer");
    let mut asked = TopicPartitionList::new();
    for partition in 0..partitions {
        asked.add_partition(topic, partition);
    }
    let found = consumer.committed_offsets(asked, MINUTE).expect("committed offsets");
    found.elements().iter().map(|e| e.offset().to_raw().filter(|&o| o >= 0)).collect()
}

/// Commits a position for a group that has no members.
pub fn commit(bootstrap: &str, group: &str, topic: &str, partition: i32, offset: i64) {
    let consumer: BaseConsumer = client::config(bootstrap).set("group.id", group).create().expect("a consumer");
    let mut position = TopicPartitionList::new();
    position.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("a position");
    consumer.commit(&position, CommitMode::Sync).expect("committed");
}

/// Two clusters with a proxy between them that soon notices what happens to topics, all looked at by raw requests.
pub struct RawRig {
    pub proxy: Proxy,
    pub through: Raw,
    pub east: Raw,
    pub west: Raw,
    pub clusters: [ClusterProcess; 2],
}

impl RawRig {
    /// `settings`: lines of the section `[topics]`.
    pub fn start(topics: &[&str], partitions: i32, settings: &str) -> Self {
        let clusters = ClusterProcess::start_all([Spec::new("east"), Spec::new("west")]);
        let [east, west] = &clusters;
        topics.iter().for_each(|topic| east.create_topic(topic, partitions, &[]));
        let mut spec = ProxySpec::new(east, west, "async");
        spec.more = format!("[topics]\n{settings}refresh_interval = \"300ms\"\n");
        let proxy = Proxy::start(spec);
        let through = Raw::new("proxy", &proxy.bootstrap());
        let (east, west) = (Raw::new("east", &east.bootstrap()), Raw::new("west", &west.bootstrap()));
        Self { proxy, through, east, west, clusters }
    }
}

/// The attribute bit of a batch that belongs to a transaction.
const TRANSACTIONAL: i16 = 1 << 4;

/// Raw requests to one cluster, or through the proxy.
pub struct Raw {
    runtime: tokio::runtime::Runtime,
    cluster: Cluster,
}

impl Raw {
    pub fn new(name: &str, bootstrap: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let options = ClientOptions { timeout: Duration::from_secs(20), ..ClientOptions::default() };
        let servers = bootstrap.split(',').map(str::to_owned).collect();
        Self { runtime: runtime.expect("a runtime"), cluster: Cluster::new(name, servers, options) }
    }

    pub fn produce(&self, topic: &str, partition: i32, batch: Bytes) -> ProducedPartition {
        let tp = TopicPartition::new(topic, partition);
        self.runtime.block_on(self.cluster.produce_one(&tp, batch)).expect("the batch is stored")
    }

    /// Begins a transaction that hangs: no coordinator knows of it (the broker must not verify transactions).
    pub fn hang(&self, topic: &str, partition: i32, value: &str, timestamp: i64) {
        let stamp = Stamp { producer_id: 4321, producer_epoch: 0, base_sequence: 0 };
        let record = NewRecord { key: None, value: Some(value.as_bytes()), headers: Vec::new(), timestamp };
        let plain = Batch::new(build(&[record], Codec::None, stamp).expect("a batch")).expect("a batch");
        let header = BatchHeader { attributes: plain.header().attributes | TRANSACTIONAL, ..*plain.header() };
        let batch = header.encode(&plain.bytes()[HEADER_BYTES..]).expect("a batch");
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("forgotten"))))
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![topic]);
        // Later versions add the partition to the transaction, at its coordinator (KIP-890).
        let versions = VersionRange { min: 9, max: 9 };
        let call = self.cluster.call_within(Target::Any, Lane::Control, &request, versions, MINUTE);
        let reply = self.runtime.block_on(call).expect("a reply");
        assert_eq!(reply.responses[0].partition_responses[0].error_code, 0, "{reply:?}");
    }

    /// Offset of every partition; panics where there is none.
    pub fn offsets(&self, topic: &str, partitions: i32, spec: OffsetSpec) -> Vec<i64> {
        let tps: Vec<_> = (0..partitions).map(|p| TopicPartition::new(topic, p)).collect();
        let found = self.runtime.block_on(self.cluster.list_offsets(&tps, spec)).expect("offsets");
        tps.iter().map(|tp| *found[tp].as_ref().unwrap_or_else(|code| panic!("{tp}: error {code}"))).collect()
    }

    pub fn ends(&self, topic: &str, partitions: i32) -> Vec<i64> {
        self.offsets(topic, partitions, OffsetSpec::Latest)
    }

    /// How many partitions a topic has; 0 where it is not there.
    pub fn partitions(&self, topic: &str) -> usize {
        let snapshot = self.runtime.block_on(self.cluster.refresh()).expect("metadata");
        snapshot.topic(topic).map_or(0, |t| t.partitions.len())
    }

    pub fn add_partitions(&self, topic: &str, total: i32) {
        self.runtime.block_on(self.cluster.create_partitions(topic, total)).expect("partitions are added");
    }

    pub fn configure(&self, topic: &str, entries: &[(&str, &str)]) {
        let set = entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.runtime.block_on(self.cluster.alter_topic_configs(topic, &set, &[])).expect("the topic is configured");
    }

    /// The value in force of a topic's setting.
    /// Where a share group begins.
    pub fn share_starts(&self, group: &str) -> BTreeMap<TopicPartition, i64> {
        self.try_share_starts(group).expect("start offsets")
    }

    pub fn try_share_starts(&self, group: &str) -> Result<BTreeMap<TopicPartition, i64>, String> {
        let starts = self.runtime.block_on(self.cluster.share_starts(group));
        starts.map(Option::unwrap_or_default).map_err(|e| e.to_string())
    }

    pub fn setting(&self, topic: &str, key: &str) -> String {
        let found = self.runtime.block_on(self.cluster.effective_configs(topic, &[key])).expect("settings");
        found.get(key).cloned().unwrap_or_default()
    }

    /// All batches of a partition as they are stored, control batches and aborted ones included.
    pub fn batches(&self, topic: &str, partition: i32) -> Vec<Batch> {
        let mut all = Vec::new();
        self.walk(topic, partition, Isolation::ReadUncommitted, |_, batches| all.extend(batches));
        all
    }

    /// The committed records of a partition.
    pub fn committed(&self, topic: &str, partition: i32) -> Vec<Rec> {
        let mut all: Vec<Rec> = Vec::new();
        self.walk(topic, partition, Isolation::ReadCommitted, |aborted, batches| {
            let mut filter = AbortedFilter::new(aborted);
            for batch in batches {
                if filter.judge(&batch).expect("a control record") == Verdict::Data {
                    all.extend(decoded(partition, &batch));
                }
            }
        });
        all
    }

    /// Fetches a partition from its start to the end that `isolation` shows, in pieces: aborted transactions and batches.
    fn walk(
        &self,
        topic: &str,
        partition: i32,
        isolation: Isolation,
        mut each: impl FnMut(Vec<(i64, i64)>, Vec<Batch>),
    ) {
        let tp = TopicPartition::new(topic, partition);
        let options = FetchOptions { max_wait: Duration::ZERO, isolation, ..FetchOptions::default() };
        let mut offset = self.offsets(topic, partition + 1, OffsetSpec::Earliest)[partition as usize];
        loop {
            let from = FetchFrom { tp: tp.clone(), offset, max_bytes: 8 << 20, current_leader_epoch: None };
            let fetched = self.runtime.block_on(self.cluster.fetch(&[from], &options)).expect("a fetch");
            let part = &fetched[&tp];
            assert_eq!(part.error, 0, "{tp} at {offset}");
            let batches = Batches::new(part.records.clone()).map(|b| b.expect("a batch"));
            let batches: Vec<Batch> = batches.filter(|b| b.header().next_offset() > offset).collect();
            let end = match isolation {
                Isolation::ReadCommitted => part.last_stable_offset,
                Isolation::ReadUncommitted => part.high_watermark,
            };
            let Some(last) = batches.last() else {
                assert!(offset >= end, "{tp}: nothing at {offset} below {end}");
                return;
            };
            offset = last.header().next_offset();
            each(part.aborted.clone(), batches);
        }
    }
}

/// Waits until the stream of every partition of `topic` has copied all that `active` (straight to the active cluster) holds.
pub fn wait_level(proxy: &Proxy, active: &Raw, topic: &str, partitions: i32) -> Value {
    let ends = active.ends(topic, partitions);
    proxy.wait_status(&format!("{topic} to be copied"), MINUTE, |status| {
        let rows = status["partitions"].as_array().into_iter().flatten().filter(|p| p["topic"] == topic);
        let level = rows.filter(|p| {
            let end = p["partition"].as_u64().and_then(|p| ends.get(p as usize));
            p["lag_records"] == 0 && p["standby_end"].is_i64() && p["active_end"].as_i64() >= end.copied()
        });
        level.count() == ends.len()
    })
}

/// `verify` of one topic, or of all; panics unless the clusters are equal and something was compared.
pub fn assert_verified(proxy: &Proxy, topic: Option<&str>) -> Value {
    let body = topic.map_or(serde_json::json!({}), |topic| serde_json::json!({ "topic": topic }));
    let (code, report) = proxy.post("/v1/verify", &body).expect("POST /v1/verify");
    assert_eq!(code, 200, "{report}");
    assert_eq!(report["equal"], true, "{report:#}");
    assert!(report["topics"].as_array().is_some_and(|t| !t.is_empty()), "{report:#}");
    report
}

/// A switchover that must succeed and lose nothing.
pub fn switch(proxy: &Proxy) -> Value {
    let report = proxy.switchover();
    assert_eq!(report["outcome"], "done", "{report:#}");
    assert_eq!(report["lost"].as_array().map(Vec::len), Some(0), "{report:#}");
    report
}
