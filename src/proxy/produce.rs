//! Produce: refuses what a broker would silently lose, answers retries of stored batches itself, feeds the tee with what
//! the active cluster has stored, and holds the acknowledgement of `sync` partitions until the standby has it too.

mod acknowledge;
mod arrive;
mod quick;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::ProduceRequest;
use kafka_protocol::protocol::{Decodable, Encodable};
use uuid::Uuid;

pub use acknowledge::{Arrived, Wait, settle};
pub use arrive::{answered, arrived, patched};
pub use quick::{Quick, look};

use super::{Context, transactions};
use crate::catalog::{Partition, Topic, View};
use crate::model::Generation;
use crate::records::{Batch, BatchHeader, Stamp, restamp, sound};
use crate::rewrite::{self, Translate};
use crate::stream::{Seen, cluster_producer_id, is_client_id};
use crate::wire::header::RequestHeader;

/// Kafka error codes (class Errors).
const NONE: i16 = 0;
const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNKNOWN_TOPIC_ID: i16 = 100;
const INVALID_REQUEST: i16 = 42;
const INVALID_RECORD: i16 = 87;
const OUT_OF_ORDER_SEQUENCE: i16 = 45;
/// Attribute bits that no client may set: log append time, control, delete horizon and the unused ones.
const FORBIDDEN_ATTRIBUTES: i16 = !0b0001_0111;

/// How a topic is named in a request: by name up to version 12, by id from 13 on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TopicKey {
    name: String,
    id: Uuid,
}

/// What one partition of the request holds.
struct Entry {
    topic: TopicKey,
    index: i32,
    partition: Option<(Arc<Topic>, Arc<Partition>)>,
    /// Its bytes are there only if somebody may need them: for a topic that is copied, or in a transaction.
    batch: Option<(BatchHeader, Bytes)>,
    /// Decided without the broker.
    answer: Option<Answer>,
}

enum Answer {
    Error(i16, &'static str),
    /// A retry of a batch that is stored.
    Stored(Seen),
}

/// What must be remembered until the reply.
pub struct ProduceContext {
    pub acks: i16,
    version: i16,
    entries: Vec<Entry>,
    /// No partition is left for the broker.
    pub all_answered: bool,
    view: Arc<View>,
    transactional_id: Option<String>,
}

pub enum Taken {
    /// Send `body` (`None`: the frame as it is).
    Forward { context: ProduceContext, body: Option<Bytes> },
    /// Nothing to send: the proxy answers all of it.
    Answered(ProduceContext),
    /// `acks=0` and nothing to send.
    Dropped,
    /// The gate closed while a transaction's coordinator was asked: still to be done.
    Held,
}

/// Takes a request apart.
pub async fn request(
    context: &Context,
    view: &Arc<View>,
    header: &RequestHeader,
    body: &Bytes,
) -> Result<Taken, String> {
    let version = header.api_version;
    if let Some(quick) = look(view, version, body, body.len()) {
        return Ok(Taken::Forward { context: quick.keep(body), body: None });
    }
    let mut request = ProduceRequest::decode(&mut body.clone(), version).map_err(|e| e.to_string())?;
    if unknown(view, version, &request) {
        // Before the first acknowledgement of a partition its stream must be known: a sync topic's promise needs it.
        context.house.topics_changed().await;
    }
    let transactional_id = request.transactional_id.as_ref().map(|id| id.to_string());
    let mut stamped = transactions::Stamped::default();
    if let Some(id) = &transactional_id {
        match transactions::stamp(context, view, version, id, &mut request.topic_data).await? {
            Some(done) => stamped = done,
            None => return Ok(Taken::Held),
        }
    }
    let mut entries = Vec::new();
    let mut named = HashSet::new();
    for (place, topic) in request.topic_data.iter().enumerate() {
        let key = TopicKey { name: topic.name.to_string(), id: topic.topic_id };
        let known = known(view, version, &key);
        for data in &topic.partition_data {
            let first = named.insert((key.clone(), data.index));
            let mut entry = entry(view, &key, known.as_ref(), data.index, data.records.as_ref(), first);
            if let Some(&code) = stamped.refused.get(&(place, data.index)) {
                entry.answer.get_or_insert(Answer::Error(code, "the transaction cannot go on here"));
            }
            entries.push(entry);
        }
    }
    // A partition named twice: brokers keep only one of the batches, silently. Nothing of such a request is sent.
    if entries.iter().any(|e| matches!(e.answer, Some(Answer::Error(INVALID_REQUEST, _)))) {
        for entry in &mut entries {
            entry.answer = Some(Answer::Error(INVALID_REQUEST, "a partition is named twice in one produce request"));
        }
    }
    if request.acks == 0 {
        refuse_unanswerable(&entries)?;
    }
    let identified = view.generation > 0 && identify(&mut request, &mut entries, view.generation);
    let answered = entries.iter().filter(|e| e.answer.is_some()).count();
    let all_answered = answered > 0 && answered == entries.len();
    let context =
        ProduceContext { acks: request.acks, version, entries, all_answered, view: view.clone(), transactional_id };
    if all_answered {
        return Ok(if context.acks == 0 { Taken::Dropped } else { Taken::Answered(context) });
    }
    // Decoded once, and the batches are not compared: what is sent as it came is told by the ids alone.
    let same_ids = request.topic_data.iter().all(|t| t.topic_id.is_nil() || view.topic_id_in(t.topic_id) == t.topic_id);
    if answered == 0 && same_ids && !identified && !stamped.changed {
        return Ok(Taken::Forward { context, body: None });
    }
    let answered: HashSet<_> =
        context.entries.iter().filter(|e| e.answer.is_some()).map(|e| (e.topic.clone(), e.index)).collect();
    for topic in &mut request.topic_data {
        let key = TopicKey { name: topic.name.to_string(), id: topic.topic_id };
        topic.partition_data.retain(|d| !answered.contains(&(key.clone(), d.index)));
    }
    request.topic_data.retain(|t| !t.partition_data.is_empty());
    rewrite::produce::request(&mut request, &**view);
    let mut body = BytesMut::with_capacity(body.len());
    request.encode(&mut body, version).map_err(|e| e.to_string())?;
    Ok(Taken::Forward { context, body: Some(body.freeze()) })
}

/// Gives clients' batches the producer id of this generation, see [`cluster_producer_id`]. `true`: some were changed.
fn identify(request: &mut ProduceRequest, entries: &mut [Entry], generation: Generation) -> bool {
    let data = request.topic_data.iter_mut().flat_map(|t| &mut t.partition_data);
    let mut changed = false;
    for (data, entry) in data.zip(entries).filter(|(_, entry)| entry.answer.is_none()) {
        let Some(own) = entry.batch.as_ref().and_then(|(h, bytes)| identified(h, bytes, generation)) else { continue };
        data.records = Some(own.bytes().clone());
        entry.batch = Some((*own.header(), own.bytes().clone()));
        changed = true;
    }
    changed
}

/// A batch with a wrong checksum stays as it is: the broker is to see and refuse it.
fn identified(header: &BatchHeader, bytes: &Bytes, generation: Generation) -> Option<Batch> {
    if !is_client_id(header.producer_id) || header.is_transactional() {
        return None;
    }
    let batch = sound(bytes)?;
    let producer_id = cluster_producer_id(header.producer_id, generation);
    Batch::new(restamp(&batch, Stamp { producer_id, ..header.stamp() })).ok()
}

/// Nobody reads a reply to `acks=0`: an error closes the connection, as it does at a broker, or the producer would lose its
/// records without a sign.
fn refuse_unanswerable(entries: &[Entry]) -> Result<(), String> {
    let errors = entries.iter().filter_map(|e| match &e.answer {
        Some(Answer::Error(code, reason)) => Some((e, code, reason)),
        _ => None,
    });
    let mut errors = errors.map(|(e, code, reason)| {
        let topic = if e.topic.id.is_nil() { e.topic.name.clone() } else { e.topic.id.to_string() };
        format!("acks=0 and error {code} for {topic}-{}: {reason}", e.index)
    });
    errors.next().map_or(Ok(()), Err)
}

fn known(view: &View, version: i16, key: &TopicKey) -> Option<Arc<Topic>> {
    if version >= 13 { view.catalog.topic_by_id(key.id) } else { view.catalog.topic(&key.name) }
}

/// Names the request a partition that the catalog does not have?
fn unknown(view: &View, version: i16, request: &ProduceRequest) -> bool {
    request.topic_data.iter().any(|topic| {
        let key = TopicKey { name: topic.name.to_string(), id: topic.topic_id };
        let known = known(view, version, &key);
        topic.partition_data.iter().any(|d| known.as_ref().is_none_or(|t| t.partition(d.index).is_none()))
    })
}

fn entry(
    view: &View,
    key: &TopicKey,
    known: Option<&Arc<Topic>>,
    index: i32,
    records: Option<&Bytes>,
    first: bool,
) -> Entry {
    let partition = known.and_then(|t| t.partition(index).map(|p| (t.clone(), p)));
    let batch = records.and_then(|r| BatchHeader::parse(r).ok().map(|h| (h, r.clone())));
    let answer = if !first {
        Some(Answer::Error(INVALID_REQUEST, ""))
    } else if key.id.is_nil() && view.hidden(&key.name) {
        Some(Answer::Error(UNKNOWN_TOPIC_OR_PARTITION, ""))
    } else if view.catalog.is_hidden(key.id) {
        Some(Answer::Error(UNKNOWN_TOPIC_ID, ""))
    } else {
        batch.as_ref().and_then(|(header, _)| check(header, partition.as_ref().map(|(_, p)| p)))
    };
    Entry { topic: key.clone(), index, partition, batch, answer }
}

/// What can be said of a batch before the broker sees it.
fn check(header: &BatchHeader, partition: Option<&Arc<Partition>>) -> Option<Answer> {
    if header.attributes & FORBIDDEN_ATTRIBUTES != 0 {
        return Some(Answer::Error(INVALID_RECORD, "the batch sets attribute bits that belong to the broker"));
    }
    if !is_client_id(header.producer_id) {
        return None;
    }
    let seen = partition?.duplicates.lock().find(
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        header.last_sequence(),
    );
    seen.map(Answer::Stored)
}

impl ProduceContext {
    /// `acks=0`: nobody will say where the batches went, so the streams must look.
    pub fn kick_all(&self) {
        for entry in &self.entries {
            if let Some((_, partition)) = &entry.partition {
                partition.kick(0);
                if let Some((header, _)) = &entry.batch {
                    partition.bypass.lock().unanswered(header.producer_id);
                }
            }
        }
    }
}
