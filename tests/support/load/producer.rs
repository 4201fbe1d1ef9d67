//! One producer of a load: idempotent, `acks=all`, its keys in turn at a steady rate.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};

use super::observe::Observed;
use super::{KEYS_PER_PRODUCER, LoadSpec, encode_value};
use crate::support::checker::{RecordId, Seen};
use crate::support::client;

/// How long a producer waits when its queue is full, and how soon it notices that it is to stop.
const PAUSE: Duration = Duration::from_millis(5);

struct Deliveries {
    who: String,
    observed: Arc<Observed>,
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        self.observed.error(&self.who, &error, reason, matches!(error, KafkaError::ClientCreation(_)));
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<RecordId>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Box<RecordId>) {
        match result {
            Ok(message) => {
                let seen = Seen { partition: message.partition(), offset: message.offset(), id: *id };
                self.observed.acknowledged(seen);
            }
            Err((error, _)) => {
                self.observed.error(&self.who, error, &format!("key {} seq {} failed", id.key, id.seq), true)
            }
        }
    }
}

pub(super) fn start(n: usize, spec: Arc<LoadSpec>, observed: Arc<Observed>) -> JoinHandle<()> {
    let who = format!("producer-{n}");
    let mut config = client::config(&spec.bootstrap);
    config
        .set("client.id", &who)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("compression.type", &spec.producers[n]);
    for (key, value) in &spec.producer_config {
        config.set(key, value);
    }
    let context = Deliveries { who: who.clone(), observed: observed.clone() };
    let producer: ThreadedProducer<Deliveries> =
        config.create_with_context(context).unwrap_or_else(|e| panic!("{who}: {e}"));
    thread::Builder::new()
        .name(who.clone())
        .spawn(move || {
            write(n, &spec, &observed, &producer);
            if let Err(error) = producer.flush(observed.drain()) {
                observed.error(&who, &error, "not everything was acknowledged in time", true);
            }
        })
        .expect("a thread starts")
}

fn write(n: usize, spec: &LoadSpec, observed: &Observed, producer: &ThreadedProducer<Deliveries>) {
    let start = Instant::now();
    for count in 0_u64.. {
        wait_for_turn(start, count, spec, observed);
        let id = numbered(n, count, spec);
        if !send(spec, observed, producer, id) {
            return;
        }
    }
}

/// Waits until record `count` is due, or the load is to stop.
pub(super) fn wait_for_turn(start: Instant, count: u64, spec: &LoadSpec, observed: &Observed) {
    let due = start + Duration::from_secs_f64(count as f64 / f64::from(spec.records_per_second));
    while observed.is_producing() {
        let early = due.saturating_duration_since(Instant::now());
        if early.is_zero() {
            break;
        }
        thread::sleep(early.min(PAUSE));
    }
}

/// The name of a producer's record `count`: its keys take turns.
pub(super) fn numbered(n: usize, count: u64, spec: &LoadSpec) -> RecordId {
    let keys = u64::from(spec.keys_per_producer);
    RecordId { key: n as u32 * KEYS_PER_PRODUCER + (count % keys) as u32, seq: count / keys }
}

/// Whether it was queued; not when the load is to stop before there is room.
fn send(spec: &LoadSpec, observed: &Observed, producer: &ThreadedProducer<Deliveries>, id: RecordId) -> bool {
    let key = format!("key-{}", id.key);
    let value = encode_value(id, spec.record_bytes);
    let mut record = BaseRecord::with_opaque_to(&spec.topic, Box::new(id)).key(&key).payload(&value);
    while observed.is_producing() {
        match producer.send(record) {
            Ok(()) => {
                observed.sent();
                return true;
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                thread::sleep(PAUSE);
            }
            Err((error, _)) => {
                observed.error("producer", &error, "not queued", true);
                return false;
            }
        }
    }
    false
}
