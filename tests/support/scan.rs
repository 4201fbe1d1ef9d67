//! Reads a whole topic, for comparing what a log holds with what clients saw.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::checker::Seen;
use super::client;
use super::load::decode_value;

/// For one metadata or offset request.
const REQUEST: Duration = Duration::from_secs(10);

/// Visits each record of a topic from the log start to the log end as it is at the call, each partition in order.
/// `deadline` is for the whole.
pub fn visit(bootstrap: &str, topic: &str, deadline: Duration, mut each: impl FnMut(&BorrowedMessage<'_>)) {
    let consumer: BaseConsumer = client::config(bootstrap)
        .set("group.id", "rig-scan")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST).expect("metadata");
    let mut open = BTreeMap::new();
    let mut assignment = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|t| t.partitions()) {
        let (_, end) = consumer.fetch_watermarks(topic, partition.id(), REQUEST).expect("watermarks");
        open.insert(partition.id(), end);
        assignment.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("a legal offset");
    }
    assert!(!open.is_empty(), "topic {topic} is not at {bootstrap}");
    consumer.assign(&assignment).expect("an assignment");
    let start = Instant::now();
    while !open.is_empty() {
        assert!(start.elapsed() < deadline, "{topic} at {bootstrap} not read to its end, left: {open:?}");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) if open.contains_key(&message.partition()) => {
                // The end may be a control record, which is not delivered: then the end-of-partition event closes.
                if message.offset() + 1 >= open[&message.partition()] {
                    open.remove(&message.partition());
                }
                each(&message);
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            // Errors of a connection are retried inside; what lasts runs into the deadline.
            Some(Ok(_) | Err(_)) | None => {}
        }
    }
}

/// All records of a load's topic.
pub fn numbered(bootstrap: &str, topic: &str, deadline: Duration) -> Vec<Seen> {
    let mut all = Vec::new();
    visit(bootstrap, topic, deadline, |message| {
        let (partition, offset) = (message.partition(), message.offset());
        let id = message.payload().and_then(decode_value);
        let id = id.unwrap_or_else(|| panic!("a foreign record at {topic}-{partition} offset {offset}"));
        all.push(Seen { partition, offset, id });
    });
    all
}
