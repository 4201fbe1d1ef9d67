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
/// `deadline` is for the whole; an error says what could not be read.
pub fn visit(
    bootstrap: &str,
    topic: &str,
    deadline: Duration,
    mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let failed = |what: &str, error: KafkaError| format!("{what} of {topic} at {bootstrap}: {error}");
    let consumer: BaseConsumer = client::config(bootstrap)
        .set("group.id", "rig-scan")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .map_err(|e| failed("consumer", e))?;
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST).map_err(|e| failed("metadata", e))?;
    let mut open = BTreeMap::new();
    let mut assignment = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|t| t.partitions()) {
        let watermarks = consumer.fetch_watermarks(topic, partition.id(), REQUEST);
        open.insert(partition.id(), watermarks.map_err(|e| failed("watermarks", e))?.1);
        let start = assignment.add_partition_offset(topic, partition.id(), Offset::Beginning);
        start.map_err(|e| failed("start", e))?;
    }
    if open.is_empty() {
        return Err(format!("{topic} is not at {bootstrap}"));
    }
    consumer.assign(&assignment).map_err(|e| failed("assignment", e))?;
    let start = Instant::now();
    while !open.is_empty() {
        if start.elapsed() > deadline {
            return Err(format!("{topic} at {bootstrap} not read in time, left (partition, end): {open:?}"));
        }
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let Some(&end) = open.get(&message.partition()) else { continue };
                // The end may be a control record, which is not delivered: then the end-of-partition event closes.
                if message.offset() + 1 >= end {
                    open.remove(&message.partition());
                }
                each(&message)?;
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            // Errors of a connection are retried inside; what lasts runs into the deadline.
            Some(Err(_)) | None => {}
        }
    }
    Ok(())
}

/// All records of a load's topic.
pub fn numbered(bootstrap: &str, topic: &str, deadline: Duration) -> Result<Vec<Seen>, String> {
    let mut all = Vec::new();
    visit(bootstrap, topic, deadline, |message| {
        let (partition, offset) = (message.partition(), message.offset());
        let id = message.payload().and_then(decode_value);
        let id = id.ok_or_else(|| format!("a foreign record at {topic}-{partition} offset {offset}"))?;
        all.push(Seen { partition, offset, id });
        Ok(())
    })?;
    Ok(all)
}
