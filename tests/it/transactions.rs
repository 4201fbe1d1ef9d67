//! Transactional producers over cutovers: what is committed crosses whole, what is open ends as an error that the
//! application may abort, the same producer goes on, and a second producer with the same id fences the first.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::rig::{PATIENCE, Rig, assert_done, values_once};
use crate::support::client;
use crate::support::proxy::Proxy;
use crate::support::wait::wait_for;

const TOPIC: &str = "ledger";
const PARTITIONS: i32 = 3;

/// A transactional producer that notes what it has committed.
struct Teller {
    name: String,
    producer: ThreadedProducer<DefaultProducerContext>,
    committed: BTreeSet<String>,
    sent: usize,
}

impl Teller {
    fn new(proxy: &Proxy, id: &str) -> Self {
        let mut config = client::config(&proxy.bootstrap());
        config.set("transactional.id", id).set("linger.ms", "1").set("message.timeout.ms", "45000");
        let producer: ThreadedProducer<_> = config.create().expect("a producer");
        producer.init_transactions(PATIENCE).expect("transactions");
        static INCARNATIONS: AtomicU32 = AtomicU32::new(0);
        let name = format!("{id}-{}", INCARNATIONS.fetch_add(1, Ordering::Relaxed));
        Teller { name, producer, committed: BTreeSet::new(), sent: 0 }
    }

    fn begin(&self) {
        self.producer.begin_transaction().expect("begun");
    }

    /// Sends one record to each partition; gives their values.
    fn send(&mut self) -> Vec<String> {
        let values = (0..PARTITIONS).map(|partition| {
            let value = format!("{} {} {partition}", self.name, self.sent);
            let record = BaseRecord::<str, str>::to(TOPIC).partition(partition).payload(&value);
            self.producer.send(record).map_err(|(e, _)| e).expect("room in the queue");
            value
        });
        let values = values.collect();
        self.sent += 1;
        values
    }

    fn commit(&mut self, values: Vec<String>) -> Result<(), KafkaError> {
        self.producer.commit_transaction(PATIENCE)?;
        self.committed.extend(values);
        Ok(())
    }

    fn abort(&self) {
        self.producer.abort_transaction(PATIENCE).expect("aborted");
    }

    /// A whole transaction without an error.
    fn transaction(&mut self) {
        self.begin();
        let values = self.send();
        self.commit(values).unwrap_or_else(|e| panic!("{}: {e:?}", self.name));
    }
}

/// An error after which the same producer may abort and go on.
#[track_caller]
fn assert_abortable(result: Result<(), KafkaError>) {
    match result {
        Err(KafkaError::Transaction(e)) => assert!(e.txn_requires_abort() && !e.is_fatal(), "{e:?}"),
        other => panic!("not an abortable error: {other:?}"),
    }
}

#[track_caller]
fn assert_fenced(result: Result<(), KafkaError>) {
    match result {
        Err(KafkaError::Transaction(e)) => assert!(e.is_fatal(), "{e:?}"),
        other => panic!("not a fatal error: {other:?}"),
    }
}

fn rig() -> Rig {
    Rig::start_with("sync", |east, spec| {
        east.create_topic(TOPIC, PARTITIONS, &[]);
        // A transaction that is open holds up all acknowledgements behind it, on a busy machine for long.
        spec.tee_lines = "sync_timeout = \"20s\"".into();
        spec.environment.push(("KAFKA_STANDBY_LOG".into(), "info,kafka_standby::proxy=debug".into()));
    })
}

/// Idle producers notice nothing, there and back and there again; an open transaction ends abortable, at every stage in which
/// it can be met, and its producer goes on.
#[test]
fn the_same_producer_goes_on_after_every_switchover() {
    let rig = rig();
    let mut tellers: Vec<Teller> =
        ["idle", "open", "flushed", "begun"].iter().map(|id| Teller::new(&rig.proxy, id)).collect();
    for round in 0..3 {
        for teller in &mut tellers {
            teller.transaction();
            teller.begin();
            teller.send();
            teller.abort();
            teller.transaction();
        }
        // One with records at the broker, one with records that may be on their way, one with none.
        let [_, open, flushed, begun] = &mut tellers[..] else { unreachable!() };
        flushed.begin();
        let mut flushed_values = flushed.send();
        flushed.producer.flush(PATIENCE).expect("sent");
        open.begin();
        let open_values = open.send();
        begun.begin();
        let report = rig.switch();
        eprintln!("round {round}: held {} ms, {}", report["hold_ms"], report["warnings"]);
        flushed_values.extend(flushed.send());
        assert_abortable(flushed.commit(flushed_values));
        flushed.abort();
        assert_abortable(open.commit(open_values));
        open.abort();
        let values = begun.send();
        begun.commit(values).expect("nothing was open at a broker");
    }
    for teller in &mut tellers {
        teller.transaction();
    }
    let committed: BTreeSet<String> = tellers.iter().flat_map(|t| t.committed.clone()).collect();
    assert_eq!(values_once(&rig.proxy.bootstrap(), TOPIC), committed);
    rig.assert_equal();
}

/// A second producer with the same id fences the first: at once, when a cutover comes in between, and when a restart of the
/// proxy does.
#[test]
fn fencing_holds_over_cutovers_and_restarts() {
    let mut rig = rig();
    let mut first = Teller::new(&rig.proxy, "twice");
    first.transaction();
    rig.switch();
    let mut second = Teller::new(&rig.proxy, "twice");
    first.begin();
    let values = first.send();
    assert_fenced(first.commit(values));
    second.transaction();
    rig.switch();
    second.transaction();

    let mut third = Teller::new(&rig.proxy, "twice");
    third.transaction();
    rig.proxy.restart();
    rig.switch();
    second.begin();
    let values = second.send();
    assert_fenced(second.commit(values));
    third.transaction();
    rig.proxy.restart();
    third.transaction();
    let mut fourth = Teller::new(&rig.proxy, "twice");
    third.begin();
    let values = third.send();
    assert_fenced(third.commit(values));
    fourth.transaction();
    let committed: BTreeSet<String> = [first, second, third, fourth].iter().flat_map(|t| t.committed.clone()).collect();
    assert_eq!(values_once(&rig.proxy.bootstrap(), TOPIC), committed);
}

/// The active cluster dies with a transaction open: what was committed is there, what was open is not, and the producers go
/// on; the cluster that comes back is not disturbed by what was open on it.
#[test]
fn a_failover_keeps_what_was_committed_and_nothing_else() {
    let mut rig = rig();
    let mut tellers: Vec<Teller> = ["idle", "open"].iter().map(|id| Teller::new(&rig.proxy, id)).collect();
    tellers.iter_mut().for_each(Teller::transaction);
    let [idle, open] = &mut tellers[..] else { unreachable!() };
    idle.transaction();
    open.begin();
    let values = open.send();
    open.producer.flush(PATIENCE).expect("sent");
    rig.east.kill();
    let report = rig.proxy.failover();
    assert_done(&report);
    assert_eq!(report["lost"].as_array().map(Vec::len), Some(0), "{report:#}");
    idle.transaction();
    assert_abortable(open.commit(values));
    open.abort();
    open.transaction();
    rig.east.restart();
    idle.transaction();
    rig.proxy.wait_in_sync(PATIENCE);
    assert!(rig.proxy.log().contains("transactions left open were aborted"), "its marker would come later");
    rig.switch();
    tellers.iter_mut().for_each(Teller::transaction);
    let committed: BTreeSet<String> = tellers.iter().flat_map(|t| t.committed.clone()).collect();
    assert_eq!(values_once(&rig.proxy.bootstrap(), TOPIC), committed);
    rig.assert_equal();
}

/// Consume, transform, produce: input and output are moved by transactions that carry the group's offsets. After a failover
/// each input is in the output once.
#[test]
fn offsets_in_transactions_cross_with_the_records() {
    let mut rig = Rig::start_with("sync", |east, spec| {
        east.create_topic("input", 1, &[]);
        east.create_topic(TOPIC, PARTITIONS, &[]);
        spec.tee_lines = "sync_timeout = \"20s\"".into();
    });
    let bootstrap = rig.proxy.bootstrap();
    let mut config = client::config(&bootstrap);
    let source: ThreadedProducer<_> = config.create().expect("a producer");
    let inputs: BTreeSet<String> = (0..60).map(|n| format!("input {n}")).collect();
    for input in &inputs {
        source.send(BaseRecord::<str, str>::to("input").payload(input)).map_err(|(e, _)| e).expect("room");
    }
    source.flush(PATIENCE).expect("sent");
    config.set("group.id", "movers").set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    // Positions are the group's alone: what was not committed is read again.
    let consume = |from: Option<&BaseConsumer>| {
        if let Some(old) = from {
            old.unassign().expect("unassigned");
        }
        let consumer: BaseConsumer = config.create().expect("a consumer");
        // A coordinator that has just started does not know that it is one.
        let committed = wait_for("committed offsets", PATIENCE, || {
            let mut asked = TopicPartitionList::new();
            asked.add_partition("input", 0);
            consumer.committed_offsets(asked, PATIENCE).map_err(|e| e.to_string())
        });
        let offset = match committed.elements()[0].offset() {
            Offset::Offset(offset) => Offset::Offset(offset),
            _ => Offset::Beginning,
        };
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset("input", 0, offset).expect("an offset");
        consumer.assign(&assignment).expect("assigned");
        consumer
    };
    let mut producing = client::config(&bootstrap);
    let producer: ThreadedProducer<_> = producing.set("transactional.id", "mover").create().expect("a producer");
    producer.init_transactions(PATIENCE).expect("transactions");
    let mut consumer = consume(None);
    let (mut moved, mut errors) = (0, 0);
    while moved < inputs.len() {
        let Some(message) = consumer.poll(PATIENCE) else { panic!("no input after {moved}") };
        let Ok(message) = message else { continue };
        if errors == 0 && moved == 20 {
            rig.switch();
            errors += 1;
        }
        if errors == 1 && moved == 40 {
            rig.proxy.wait_in_sync(PATIENCE);
            rig.west.kill();
            assert_done(&rig.proxy.failover());
            errors += 1;
        }
        let step = producer.begin_transaction().and_then(|()| {
            let record = BaseRecord::<str, [u8]>::to(TOPIC).payload(message.payload().unwrap_or_default());
            producer.send(record).map_err(|(e, _)| e)?;
            let mut offsets = TopicPartitionList::new();
            offsets.add_partition_offset("input", 0, Offset::Offset(message.offset() + 1))?;
            let group = consumer.group_metadata().expect("a group");
            producer.send_offsets_to_transaction(&offsets, &group, PATIENCE)?;
            producer.commit_transaction(PATIENCE)
        });
        match step {
            Ok(()) => moved += 1,
            Err(KafkaError::Transaction(e)) if e.txn_requires_abort() => {
                producer.abort_transaction(PATIENCE).expect("aborted");
                let fresh = consume(Some(&consumer));
                drop(message);
                consumer = fresh;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(values_once(&bootstrap, TOPIC), inputs);
    let again = consume(Some(&consumer));
    assert!(again.poll(Duration::from_secs(2)).is_none(), "the group has moved everything");
}
