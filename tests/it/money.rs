//! Money is moved between accounts by transactions, over switchovers and failovers: none is made and none is lost. Each transfer
//! has both legs or none, none is there twice, what the producers were told is what readers of committed records see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::rig::{PATIENCE, Rig, assert_done, values_once};
use crate::support::client;
use crate::support::shared::repetitions;
use crate::support::wait::wait_until;

const TOPIC: &str = "accounts";
/// An account is a partition.
const ACCOUNTS: i32 = 24;
const TELLERS: [&str; 3] = ["anna", "ben", "cleo"];
/// Transfers a second that all tellers together try for; cutovers take a part of it.
const RATE: u32 = 220;
/// Of the transfers, one in so many is aborted by its teller.
const ABORT_EVERY: i32 = 5;

#[derive(Clone, Copy, Debug)]
enum Step {
    Switchover,
    /// SIGKILL of the active cluster, which comes back afterwards.
    Failover,
    /// Of the proxy.
    Restart,
}
use Step::{Failover, Restart, Switchover};

const SHORT: [Step; 3] = [Switchover, Restart, Failover];
const FULL: [Step; 8] = [Switchover, Restart, Switchover, Failover, Switchover, Switchover, Failover, Switchover];

/// What one producer was told.
#[derive(Default)]
struct Told {
    committed: BTreeSet<String>,
    aborted: usize,
    /// Transfers that ended with an error after which the producer could abort and go on.
    broken: usize,
}

/// However the test ends, its threads are to.
struct Ending<'a>(&'a AtomicBool, &'a OnceLock<usize>);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let _ = self.1.set(0);
    }
}

/// Again while the client itself says that this may help.
fn patiently(end: impl Fn() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    loop {
        match end() {
            Err(KafkaError::Transaction(e)) if e.is_retriable() => {}
            ended => return ended,
        }
    }
}

/// Waits until what was sent is acknowledged or has failed. The library's own flush takes a tenth of a second whatever it finds,
/// and a poll of less than a millisecond takes a whole core.
fn settle(producer: &BaseProducer) {
    let start = Instant::now();
    while producer.in_flight_count() > 0 {
        assert!(start.elapsed() < PATIENCE, "{} records are still on their way", producer.in_flight_count());
        producer.poll(Duration::ZERO);
        thread::sleep(Duration::from_micros(300));
    }
}

/// One producer of transfers, until it is told to stop. A transfer that fails is not tried again.
fn transfer(bootstrap: &str, name: &str, stop: &AtomicBool, count: &AtomicU32) -> Told {
    let mut config = client::config(bootstrap);
    config.set("transactional.id", name).set("linger.ms", "0").set("message.timeout.ms", "45000");
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(PATIENCE).expect("transactions");
    let mut told = Told::default();
    let mut due = Instant::now();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due = due.max(Instant::now()) + Duration::from_secs(1) * TELLERS.len() as u32 / RATE;
        let transfer = format!("{name} {n}");
        let begun = producer.begin_transaction().and_then(|()| {
            for (leg, amount) in [(0, -100), (1, 100)] {
                let value = format!("{transfer} {amount}");
                let record = BaseRecord::<str, str>::to(TOPIC).partition((n + leg) % ACCOUNTS).payload(&value);
                producer.send(record).map_err(|(e, _)| e)?;
            }
            Ok(())
        });
        let abort = || patiently(|| producer.abort_transaction(PATIENCE)).expect("aborted");
        settle(&producer);
        count.fetch_add(1, Ordering::Relaxed);
        let ended = match begun {
            Ok(()) if n % ABORT_EVERY == ABORT_EVERY - 1 => {
                abort();
                told.aborted += 1;
                continue;
            }
            Ok(()) => patiently(|| producer.commit_transaction(PATIENCE)),
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) => {
                told.committed.insert(transfer);
            }
            Err(KafkaError::Transaction(e)) if e.txn_requires_abort() => {
                abort();
                told.broken += 1;
            }
            Err(error) => panic!("{transfer}: {error:?}"),
        }
    }
    told
}

/// Reads what is committed all the while, with positions of its own, until it is told to stop and has read up to `ends`.
fn watch(bootstrap: &str, ends: &OnceLock<usize>) -> BTreeSet<String> {
    let mut config = client::config(bootstrap);
    config.set("group.id", "watch").set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut all = TopicPartitionList::new();
    (0..ACCOUNTS).for_each(|p| all.add_partition_offset(TOPIC, p, Offset::Beginning).expect("an offset"));
    consumer.assign(&all).expect("assigned");
    let mut seen = BTreeSet::new();
    let mut since = Instant::now();
    while ends.get().is_none_or(|&all| seen.len() < all) && since.elapsed() < PATIENCE {
        if ends.get().is_none() {
            since = Instant::now();
        }
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
            let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
            assert!(seen.insert(value.clone()), "{value} was read twice");
        }
    }
    seen
}

fn judge(found: &BTreeSet<String>, told: &[Told]) {
    let mut transfers: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for value in found {
        let (transfer, amount) = value.rsplit_once(' ').expect("an amount");
        transfers.entry(transfer).or_default().push(amount.parse().expect("a number"));
    }
    let torn: Vec<_> = transfers.iter().filter(|(_, legs)| (legs.len(), legs.iter().sum()) != (2, 0)).collect();
    assert!(torn.is_empty(), "torn: {torn:?}");
    let committed: BTreeSet<&str> = told.iter().flat_map(|t| &t.committed).map(String::as_str).collect();
    let there: BTreeSet<&str> = transfers.keys().copied().collect();
    let (lost, uncalled): (Vec<_>, Vec<_>) =
        (committed.difference(&there).collect(), there.difference(&committed).collect());
    assert!(lost.is_empty() && uncalled.is_empty(), "lost: {lost:?}; there although not committed: {uncalled:?}");
}

#[test]
fn money_is_neither_made_nor_lost() {
    let mut rig = Rig::start_with("sync", |east, spec| {
        east.create_topic(TOPIC, ACCOUNTS, &[]);
        // A transaction that is open holds up all acknowledgements behind it, on a busy machine for long.
        spec.tee_lines = "sync_timeout = \"20s\"".into();
    });
    let (stop, count, ends) = (AtomicBool::new(false), AtomicU32::new(0), OnceLock::new());
    let bootstrap = rig.proxy.bootstrap();
    // A machine that does not make the rate has done enough after a while.
    let (most, least) = (repetitions(30, 10 * RATE as usize) as u32, 30);
    let more = || {
        let (before, start) = (count.load(Ordering::Relaxed), Instant::now());
        wait_until("transfers", 4 * PATIENCE, || {
            let done = count.load(Ordering::Relaxed) - before;
            done >= most || (done >= least && start.elapsed() > PATIENCE)
        });
    };
    let steps: &[Step] = if repetitions(0, 1) == 0 { &SHORT } else { &FULL };
    let (told, watched) = thread::scope(|scope| {
        let _ending = Ending(&stop, &ends);
        let tellers = TELLERS.map(|name| scope.spawn(|| transfer(&bootstrap, name, &stop, &count)));
        let watcher = scope.spawn(|| watch(&bootstrap, &ends));
        let started = Instant::now();
        for step in steps {
            more();
            let report = rig.take(*step);
            let rate = f64::from(count.load(Ordering::Relaxed)) / started.elapsed().as_secs_f64();
            eprintln!("{step:?} at {rate:.0}/s: held {} ms, {}", report["hold_ms"], report["warnings"]);
        }
        more();
        stop.store(true, Ordering::Relaxed);
        let told = tellers.map(|t| t.join().expect("a teller"));
        let _ = ends.set(2 * told.iter().map(|t| t.committed.len()).sum::<usize>());
        (told, watcher.join().expect("a reader"))
    });
    for (name, told) in TELLERS.iter().zip(&told) {
        eprintln!("{name}: {} committed, {} aborted, {} broken", told.committed.len(), told.aborted, told.broken);
    }
    let found = values_once(&bootstrap, TOPIC);
    judge(&found, &told);
    assert_eq!(watched, found, "what was read on the way is what is there");
    rig.assert_equal();
}

impl Rig {
    fn take(&mut self, step: Step) -> serde_json::Value {
        match step {
            Switchover => return self.switch(),
            Restart => self.proxy.restart(),
            Failover => {
                self.proxy.wait_in_sync(PATIENCE);
                let active = self.proxy.status()["active"].as_str().unwrap_or_default().to_owned();
                self.cluster(&active).kill();
                let report = self.proxy.failover();
                assert_done(&report);
                self.cluster(&active).restart();
                return report;
            }
        }
        serde_json::Value::default()
    }
}
