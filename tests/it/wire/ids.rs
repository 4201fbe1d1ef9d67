//! A client that knows topics by their ids alone, over a switchover: the ids that it was told at first stay good.

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use kafka_standby::records::{Batches, Section};
use uuid::Uuid;

use super::raw::{Raw, batch};

/// Made by whoever starts the clusters, with two partitions each.
pub const TOPICS: [&str; 2] = ["by-id-1", "by-id-2"];
const PARTITIONS: i32 = 2;
/// Both name topics by id, since KIP-516.
const PRODUCE: i16 = 13;
const FETCH: i16 = 17;

/// What the client remembers.
pub struct Followed {
    raw: Raw,
    ids: [Uuid; 2],
    /// Values written so far, the same number in each partition of each topic.
    written: Vec<String>,
    epoch: i32,
}

impl Followed {
    pub fn new(proxy: &str) -> Self {
        let mut raw = Raw::connect(proxy);
        let port = raw.metadata(TOPICS[0]).brokers[0].port;
        let mut raw = Raw::connect(&format!("127.0.0.1:{port}"));
        let ids = TOPICS.map(|name| raw.topic_id(name));
        Self { raw, ids, written: Vec::new(), epoch: -1 }
    }

    /// Writes to all partitions in one request, reads all of them from the start in one request, on a connection that
    /// lives as long as this.
    pub fn write_and_read(&mut self) {
        let first = self.written.len();
        self.write(&format!("r{first}"), 3);
        for (id, partition, records) in self.read() {
            let (values, epochs) = values(&records);
            let expected: Vec<String> = self.written.iter().map(|v| v.replace('T', &id.to_string())).collect();
            assert_eq!(values, expected, "{id}-{partition}");
            assert!(epochs.is_sorted(), "epochs in the log do not fall: {epochs:?}");
            self.epoch = self.epoch.max(*epochs.last().expect("a batch"));
        }
        for name in TOPICS {
            let metadata = self.raw.metadata(name);
            let epoch = metadata.topics[0].partitions[0].leader_epoch;
            assert!(epoch >= self.epoch, "a batch of epoch {} with the leader at {epoch}", self.epoch);
        }
    }

    fn write(&mut self, round: &str, count: usize) {
        let expected = self.written.len() as i64;
        let topics = self.ids.map(|id| {
            let data = (0..PARTITIONS).map(|index| {
                let records = batch(&format!("{id}-{round}"), count);
                PartitionProduceData::default().with_index(index).with_records(Some(records))
            });
            TopicProduceData::default().with_topic_id(id).with_partition_data(data.collect())
        });
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(20_000);
        let reply = self.raw.ask(PRODUCE, &request.with_topic_data(topics.into()));
        assert_eq!(reply.responses.len(), self.ids.len(), "{reply:?}");
        for topic in &reply.responses {
            assert!(self.ids.contains(&topic.topic_id), "{reply:?}");
            assert_eq!(topic.partition_responses.len(), PARTITIONS as usize, "{reply:?}");
            for partition in &topic.partition_responses {
                assert_eq!((partition.error_code, partition.base_offset), (0, expected), "{reply:?}");
            }
        }
        self.written.extend((0..count).map(|n| format!("T-{round}-{n}")));
    }

    fn read(&mut self) -> Vec<(Uuid, i32, Bytes)> {
        let topics = self.ids.map(|id| {
            let partition = |p| FetchPartition::default().with_partition(p).with_partition_max_bytes(1 << 20);
            FetchTopic::default().with_topic_id(id).with_partitions((0..PARTITIONS).map(partition).collect())
        });
        let request = FetchRequest::default().with_max_wait_ms(500).with_min_bytes(1).with_session_epoch(-1);
        let reply = self.raw.ask(FETCH, &request.with_replica_id((-1).into()).with_topics(topics.into()));
        assert_eq!(reply.error_code, 0);
        let mut read = Vec::new();
        for topic in reply.responses {
            assert!(self.ids.contains(&topic.topic_id), "{}", topic.topic_id);
            for data in topic.partitions {
                assert_eq!((data.error_code, data.high_watermark), (0, self.written.len() as i64));
                read.push((topic.topic_id, data.partition_index, data.records.unwrap_or_default()));
            }
        }
        assert_eq!(read.len(), self.ids.len() * PARTITIONS as usize);
        read
    }
}

/// The values of fetched batches, whose offsets must run from 0 without a gap, and the batches' leader epochs.
pub fn values(records: &Bytes) -> (Vec<String>, Vec<i32>) {
    let (mut values, mut epochs) = (Vec::new(), Vec::new());
    for batch in Batches::new(records.clone()) {
        let batch = batch.expect("a batch");
        assert_eq!(batch.header().base_offset, values.len() as i64);
        epochs.push(batch.header().leader_epoch);
        let section = Section::open(&batch).expect("records");
        for record in section.records() {
            let value = record.expect("a record").value.expect("a value");
            values.push(String::from_utf8(value.to_vec()).expect("text"));
        }
    }
    (values, epochs)
}
