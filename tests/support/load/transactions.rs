//! One transactional producer of a load: a few records in each transaction, every fifth aborted, and a note of how each
//! ended. A transaction that fails is aborted and not tried again, as an application would that has nothing better to do.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};

use super::observe::Observed;
use super::producer::{numbered, wait_for_turn};
use super::{LoadSpec, encode_value};
use crate::support::checker::{End, RecordId, Seen, Transaction};
use crate::support::client;

/// Records in a transaction.
const RECORDS: u64 = 4;
/// One in this many transactions is aborted by the application.
const ABORTED: u64 = 5;
/// For one call. A coordinator that was lost is back, or replaced, well within it.
const CALL: Duration = Duration::from_secs(30);
/// How often a call is repeated of which the client says that it may be.
const ATTEMPTS: usize = 4;

struct Context {
    who: String,
    observed: Arc<Observed>,
    /// What the broker has acknowledged of the transaction that is open.
    placed: Mutex<Vec<Seen>>,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // A fatal error comes back from the next call as well; all else is between client and brokers.
        self.observed.error(&self.who, &error, reason, false);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<RecordId>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Box<RecordId>) {
        // A failure shows when the transaction is to be committed.
        if let Ok(message) = result {
            let seen = Seen { partition: message.partition(), offset: message.offset(), id: *id };
            self.placed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(seen);
        }
    }
}

pub(super) fn start(n: usize, spec: Arc<LoadSpec>, observed: Arc<Observed>) -> JoinHandle<()> {
    let who = format!("transactional-{n}");
    let mut config = client::config(&spec.bootstrap);
    config
        .set("client.id", &who)
        .set("transactional.id", format!("{}-{n}", spec.topic))
        .set("linger.ms", "1")
        .set("compression.type", &spec.producers[n]);
    for (key, value) in &spec.producer_config {
        config.set(key, value);
    }
    let context = Context { who: who.clone(), observed: observed.clone(), placed: Mutex::default() };
    let producer: ThreadedProducer<Context> =
        config.create_with_context(context).unwrap_or_else(|e| panic!("{who}: {e}"));
    thread::Builder::new()
        .name(who.clone())
        .spawn(move || {
            let ended =
                repeated(|| producer.init_transactions(CALL)).and_then(|()| write(n, &spec, &observed, &producer));
            if let Err(error) = ended {
                observed.error(&who, &error, "the transactional producer ends", true);
            }
        })
        .expect("a thread starts")
}

/// Repeats a call as long as the client says that it may be repeated.
fn repeated(mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    for _ in 1..ATTEMPTS {
        match call() {
            Err(KafkaError::Transaction(e)) if e.is_retriable() && !e.txn_requires_abort() => {}
            done => return done,
        }
    }
    call()
}

/// Transaction after transaction until the load is to stop, or the producer cannot go on.
fn write(
    n: usize,
    spec: &LoadSpec,
    observed: &Observed,
    producer: &ThreadedProducer<Context>,
) -> Result<(), KafkaError> {
    let start = Instant::now();
    for number in 0_u64.. {
        let first = number * RECORDS;
        wait_for_turn(start, first, spec, observed);
        if !observed.is_producing() {
            break;
        }
        let records: Vec<RecordId> = (first..first + RECORDS).map(|count| numbered(n, count, spec)).collect();
        let wanted = if number % ABORTED == ABORTED - 1 { End::Aborted } else { End::Committed };
        let (end, result) = transaction(spec, observed, producer, &records, wanted);
        if end == End::Committed {
            acknowledge(observed, producer, &records);
        }
        observed.transaction(Transaction { records, end });
        result?;
    }
    Ok(())
}

/// How it ended, and whether the producer may go on.
fn transaction(
    spec: &LoadSpec,
    observed: &Observed,
    producer: &ThreadedProducer<Context>,
    records: &[RecordId],
    wanted: End,
) -> (End, Result<(), KafkaError>) {
    placed(producer).clear();
    let sent = producer.begin_transaction().and_then(|()| {
        for id in records {
            let key = format!("key-{}", id.key);
            let value = encode_value(*id, spec.record_bytes);
            let record = BaseRecord::with_opaque_to(&spec.topic, Box::new(*id)).key(&key).payload(&value);
            producer.send(record).map_err(|(error, _)| error)?;
            observed.sent();
        }
        Ok(())
    });
    let ended = match wanted {
        End::Committed => sent.and_then(|()| repeated(|| producer.commit_transaction(CALL))),
        // Aborted with its records at the broker, not in the queue.
        _ => sent.and_then(|()| producer.flush(CALL)).and_then(|()| repeated(|| producer.abort_transaction(CALL))),
    };
    match ended {
        Ok(()) => (wanted, Ok(())),
        Err(KafkaError::Transaction(e)) if e.is_fatal() => (End::Unknown, Err(KafkaError::Transaction(e))),
        // Aborted, it ended in no other way; if that fails too, nobody was told how.
        Err(_) => match repeated(|| producer.abort_transaction(CALL)) {
            Ok(()) => (End::Aborted, Ok(())),
            Err(error) => (End::Unknown, Err(error)),
        },
    }
}

/// Counts a committed transaction's records as acknowledged, at their places as far as those are known.
fn acknowledge(observed: &Observed, producer: &ThreadedProducer<Context>, records: &[RecordId]) {
    let placed = placed(producer);
    for &id in records {
        let unknown = Seen { partition: 0, offset: -1, id };
        observed.acknowledged(placed.iter().find(|seen| seen.id == id).copied().unwrap_or(unknown));
    }
}

fn placed(producer: &ThreadedProducer<Context>) -> std::sync::MutexGuard<'_, Vec<Seen>> {
    producer.context().placed.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
