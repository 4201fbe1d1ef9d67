//! What becomes of topics while they are copied, and over cutovers: partitions added, settings changed, records deleted before
//! they were copied, offset maps whose records retention has taken; and writers that go around the proxy, counted.

use kafka_standby::records::{Codec, NewRecord, Stamp, build};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::divergence::hour_ago;
use crate::reading::{MINUTE, Raw, RawRig as Rig, all, assert_verified, switch, wait_level};
use crate::support::client;
use crate::support::wait::{wait_for, wait_until};
use crate::wire::frames::metric;

/// Each leaves a marker, and so a run, in the offset map; more than one record of the state topic holds.
const TRANSACTIONS: i64 = 100;
/// Times of the brokers, or of the producers.
const TIMES: &str = "message.timestamp.type";

fn fill(to: &Raw, topic: &str, partition: i32, batches: usize) {
    for n in 0..batches {
        let value = format!("{topic} {partition} {n}");
        let record = NewRecord { value: Some(value.as_bytes()), timestamp: hour_ago(), ..Default::default() };
        to.produce(topic, partition, build(&[record.clone(), record], Codec::None, Stamp::NONE).expect("a batch"));
    }
}

fn delete_below(bootstrap: &str, topic: &str, offset: i64) {
    let mut below = TopicPartitionList::new();
    below.add_partition_offset(topic, 0, Offset::Offset(offset)).expect("an offset");
    client::block_on(client::admin(bootstrap).delete_records(&below, &Default::default())).expect("deleted");
}

fn row(status: &Value, topic: &str) -> Value {
    let mut rows = status["partitions"].as_array().into_iter().flatten();
    rows.find(|p| p["topic"] == topic).cloned().unwrap_or_default()
}

fn transactions(bootstrap: &str, topic: &str, count: i64) {
    let producer: BaseProducer = client::config(bootstrap).set("transactional.id", topic).create().expect("a producer");
    producer.init_transactions(MINUTE).expect("transactions");
    for n in 0..count {
        producer.begin_transaction().expect("begun");
        let value = n.to_string();
        producer.send(BaseRecord::<(), _>::to(topic).partition(0).payload(&value)).expect("queued");
        producer.commit_transaction(MINUTE).expect("committed");
    }
}

impl Rig {
    /// Partitions that a client adds, and those that somebody adds around the proxy.
    fn grow(&self, active: &Raw, standby: &Raw, before: i32) {
        self.through.add_partitions("grown", before + 1);
        wait_until("the partition on the standby", MINUTE, || standby.partitions("grown") as i32 == before + 1);
        fill(&self.through, "grown", before, 3);
        active.add_partitions("grown", before + 2);
        wait_until("the partition on the standby", MINUTE, || standby.partitions("grown") as i32 == before + 2);
        fill(&self.through, "grown", before + 1, 3);
        wait_level(&self.proxy, active, "grown", before + 2);
    }

    /// A topic's settings follow, except those that make a true copy.
    fn tune(&self, active: &Raw, standby: &Raw, retention: &str) {
        active.configure("tuned", &[("retention.ms", retention), (TIMES, "LogAppendTime")]);
        wait_until("the setting on the standby", MINUTE, || standby.setting("tuned", "retention.ms") == retention);
        assert_eq!(standby.setting("tuned", TIMES), "CreateTime");
        wait_for("the active cluster's own", MINUTE, || match active.setting("tuned", TIMES) {
            own if own == "LogAppendTime" => Ok(()),
            other => Err(other),
        });
    }

    /// Runs of maps go with the records.
    fn forget(&mut self) {
        transactions(&self.proxy.bootstrap(), "ended", TRANSACTIONS);
        wait_level(&self.proxy, &self.east, "ended", 1);
        let runs = |status: &Value| status["offset_map_runs"].as_i64();
        let many = self.proxy.status();
        assert!(runs(&many) > Some(TRANSACTIONS), "{many:#}");
        let (end, last) = (self.through.ends("ended", 1)[0], all(&self.through, "ended", 1)[&0].last().cloned());
        delete_below(&self.proxy.bootstrap(), "ended", end - 3);
        let few = |status: &Value| runs(status) < Some(TRANSACTIONS * 6 / 10);
        let after = self.proxy.wait_status("runs to be forgotten", MINUTE, few);
        assert_eq!(after["offset_map_bytes"].as_i64(), runs(&after).map(|runs| runs * 24));
        // Another process reads what is left, and goes on.
        self.proxy.kill();
        self.proxy.restart();
        self.proxy.wait_status("no more to be known", MINUTE, few);
        transactions(&self.proxy.bootstrap(), "ended", 5);
        wait_level(&self.proxy, &self.east, "ended", 1);
        let now = all(&self.through, "ended", 1);
        assert_eq!(now[&0].iter().find(|r| Some(*r) == last.as_ref()), last.as_ref(), "the last of the old ones");
    }

    /// The active cluster deletes what has not been copied yet: nobody copies for a while.
    fn delete_before_it_is_copied(&mut self) {
        fill(&self.through, "short", 0, 5);
        wait_level(&self.proxy, &self.east, "short", 1);
        self.proxy.kill();
        fill(&self.east, "short", 0, 5);
        delete_below(&self.east_bootstrap(), "short", 16);
        self.proxy.restart();
        let told = |status: &Value| {
            let mut alarms = status["alarms"].as_array().into_iter().flatten().filter_map(Value::as_str);
            row(status, "short")["holes"] == json!([[10, 16]]) && alarms.any(|a| a.contains("short-0"))
        };
        self.proxy.wait_status("the hole to be told", MINUTE, told);
        wait_level(&self.proxy, &self.east, "short", 1);
        assert_eq!(self.west.ends("short", 1), [14], "what is left is copied");
    }

    fn east_bootstrap(&self) -> String {
        self.clusters[0].bootstrap()
    }
}

#[test]
fn topics_change_while_they_are_copied() {
    let mut rig = Rig::start(&["grown", "tuned", "short", "ended"], 1, "");
    // Around the proxy, without a producer id, and with one of the cluster's own: three batches and one.
    fill(&rig.through, "tuned", 0, 4);
    wait_level(&rig.proxy, &rig.east, "tuned", 1);
    fill(&rig.east, "tuned", 0, 3);
    let around: BaseProducer =
        client::config(&rig.east_bootstrap()).set("enable.idempotence", "true").create().expect("a producer");
    around.send(BaseRecord::<(), _>::to("tuned").partition(0).payload("around")).expect("queued");
    around.flush(MINUTE).expect("sent");
    let unanswered: BaseProducer =
        client::config(&rig.proxy.bootstrap()).set("acks", "0").create().expect("a producer");
    unanswered.send(BaseRecord::<(), _>::to("tuned").partition(0).payload("unanswered")).expect("queued");
    unanswered.flush(MINUTE).expect("sent");
    fill(&rig.through, "tuned", 0, 4);

    rig.grow(&rig.east, &rig.west, 1);
    rig.tune(&rig.east, &rig.west, "111111111");
    let counted = |status: &Value| row(status, "tuned")["bypass_batches"] == 4;
    rig.proxy.wait_status("writers around the proxy to be counted", MINUTE, counted);
    assert_eq!(metric(&rig.proxy, "kafka_standby_bypass_batches "), 4, "and nobody else");
    rig.forget();
    rig.delete_before_it_is_copied();
    assert_verified(&rig.proxy, None);

    let topics = [("grown", 3), ("tuned", 1), ("ended", 1)];
    let before = topics.map(|(topic, partitions)| all(&rig.through, topic, partitions));
    let report = switch(&rig.proxy);
    let mut warnings = report["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    assert!(warnings.any(|w| w.starts_with("short-0: ") && w.contains("10 to 15")), "{report:#}");
    assert_eq!(topics.map(|(topic, partitions)| all(&rig.through, topic, partitions)), before);
    rig.grow(&rig.west, &rig.east, 3);
    rig.tune(&rig.west, &rig.east, "222222222");
    for (topic, partitions) in [("grown", 5), ("tuned", 1), ("ended", 1), ("short", 1)] {
        fill(&rig.through, topic, 0, 1);
        wait_level(&rig.proxy, &rig.west, topic, partitions);
    }
    assert_verified(&rig.proxy, None);
    let before = all(&rig.through, "grown", 5);
    switch(&rig.proxy);
    assert_eq!(all(&rig.through, "grown", 5), before);
}
