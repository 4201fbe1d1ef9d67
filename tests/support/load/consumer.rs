//! One member of a load's consumer group.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::observe::Observed;
use super::{Commit, LoadSpec, decode_value};
use crate::support::checker::Seen;
use crate::support::client;

/// How soon a member notices that it is to stop.
const POLL: Duration = Duration::from_millis(50);
const METADATA: Duration = Duration::from_secs(30);
/// Records between two commits of an application that commits by itself.
const MANUAL_EVERY: u64 = 100;

struct Member {
    who: String,
    manual: bool,
    observed: Arc<Observed>,
}

impl ClientContext for Member {
    fn error(&self, error: KafkaError, reason: &str) {
        self.observed.error(&self.who, &error, reason, false);
    }
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if self.manual && matches!(rebalance, Rebalance::Revoke(_)) {
            self.commit(consumer, CommitMode::Sync);
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if let Err(error) = result {
            return self.note(&error);
        }
        for element in offsets.elements() {
            if let (Ok(()), Offset::Offset(next)) = (element.error(), element.offset()) {
                self.observed.committed(element.partition(), next);
            }
        }
    }
}

impl Member {
    fn commit(&self, consumer: &BaseConsumer<Self>, mode: CommitMode) {
        if let Err(error) = consumer.commit_consumer_state(mode) {
            self.note(&error);
        }
    }

    /// A refused commit is no error as long as nothing is read twice, which the checker sees.
    fn note(&self, error: &KafkaError) {
        use RDKafkaErrorCode::{AssignmentLost, IllegalGeneration, NoOffset, RebalanceInProgress, UnknownMemberId};
        match error.rdkafka_error_code() {
            Some(AssignmentLost | NoOffset | RebalanceInProgress | IllegalGeneration | UnknownMemberId) => {}
            _ => self.observed.error(&self.who, error, "commit", false),
        }
    }
}

pub(super) fn start(n: usize, spec: Arc<LoadSpec>, observed: Arc<Observed>) -> JoinHandle<()> {
    let who = format!("consumer-{n}");
    let mut config = client::config(&spec.bootstrap);
    config.set("client.id", &who).set("group.id", &spec.group).set("auto.offset.reset", "earliest");
    match spec.commit {
        Commit::Auto(interval) => config.set("auto.commit.interval.ms", interval.as_millis().to_string()),
        Commit::Manual | Commit::Assigned => config.set("enable.auto.commit", "false"),
    };
    for (key, value) in &spec.consumer_config {
        config.set(key, value.replace("{n}", &n.to_string()));
    }
    let manual = spec.commit == Commit::Manual;
    let context = Member { who: who.clone(), manual, observed: observed.clone() };
    let consumer: BaseConsumer<Member> = config.create_with_context(context).unwrap_or_else(|e| panic!("{who}: {e}"));
    match spec.commit {
        Commit::Assigned => assign_all(&consumer, &spec.topic),
        _ => consumer.subscribe(&[&spec.topic]),
    }
    .unwrap_or_else(|e| panic!("{who}: {e}"));
    thread::Builder::new()
        .name(who.clone())
        .spawn(move || {
            read(&who, &observed, &consumer, manual);
            // The drop leaves the group, with the last automatic commit.
            if manual {
                consumer.context().commit(&consumer, CommitMode::Sync);
            }
        })
        .expect("a thread starts")
}

fn assign_all(consumer: &BaseConsumer<Member>, topic: &str) -> KafkaResult<()> {
    let metadata = consumer.fetch_metadata(Some(topic), METADATA)?;
    let mut all = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|t| t.partitions()) {
        all.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&all)
}

fn read(who: &str, observed: &Observed, consumer: &BaseConsumer<Member>, manual: bool) {
    let mut count = 0_u64;
    while observed.is_consuming() {
        match consumer.poll(POLL) {
            None => {}
            Some(Err(error)) => observed.error(who, &error, "poll", false),
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), message.offset());
                match message.payload().and_then(decode_value) {
                    Some(id) => observed.consumed(who, Seen { partition, offset, id }),
                    None => observed.fault(who, format!("a foreign record at partition {partition} offset {offset}")),
                }
                count += 1;
                if manual && count.is_multiple_of(MANUAL_EVERY) {
                    consumer.context().commit(consumer, CommitMode::Async);
                }
            }
        }
    }
}
