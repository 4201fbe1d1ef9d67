//! Replies to Produce: what the broker has stored is noted and handed to the streams, offsets become logical.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::ProduceRequest;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use kafka_protocol::protocol::Decodable;

use super::super::Context;
use super::acknowledge::{Arrived, Wait};
use super::{Answer, Entry, NONE, OUT_OF_ORDER_SEQUENCE, ProduceContext, TopicKey, check};
use crate::admin::metrics::{self, TeeResult};
use crate::catalog::{Partition, Topic, View};
use crate::config::TeeMode;
use crate::records::BatchHeader;
use crate::rewrite::{self, Translate};
use crate::stream::{TeeItem, is_client_id, seen};
use crate::wire::body;

/// Takes the broker's reply: what it stored is handed to the streams here and now, however long the acknowledgement waits.
pub fn arrived(context: &Context, view: &View, produced: &ProduceContext, body: &Bytes) -> Result<Arrived, String> {
    let version = produced.version;
    let mut reply = ProduceResponse::decode(&mut body.clone(), version).map_err(|e| e.to_string())?;
    let mut entries: HashMap<(TopicKey, i32), &Entry> = HashMap::new();
    for entry in &produced.entries {
        entries.insert((real_key(view, version, &entry.topic), entry.index), entry);
    }
    let mut waits = Vec::new();
    for topic in &mut reply.responses {
        let key = TopicKey { name: topic.name.to_string(), id: topic.topic_id };
        for answer in &mut topic.partition_responses {
            if let Some(entry) = entries.get(&(key.clone(), answer.index)) {
                recall(entry, answer, view);
                if answer.error_code == NONE && answer.base_offset >= 0 {
                    let place = (answer.base_offset, answer.log_append_time_ms);
                    waits.extend(took(context, view, produced, entry, place));
                }
            }
        }
    }
    rewrite::produce::response(&ProduceRequest::default(), &mut reply, view);
    complete(context, reply, produced, waits)
}

/// As [`arrived`], for a reply that says of every partition that it is stored and nothing else, changed where it lies: the
/// client's, and what it waits for. `None`: nothing has been done.
pub fn patched(context: &Context, view: &View, produced: &ProduceContext, body: &mut [u8]) -> Option<Vec<Wait>> {
    let version = produced.version;
    let mut rows = rewrite::produce::stored(version, body)?;
    if rows.len() != produced.entries.len() || produced.entries.iter().any(|e| e.answer.is_some()) {
        return None;
    }
    // A broker answers in the order of the request.
    for (row, entry) in rows.iter().zip(&produced.entries) {
        let same = match version >= 13 {
            true => row.id == view.topic_id_in(entry.topic.id),
            false => row.name(body) == entry.topic.name.as_bytes(),
        };
        if !same || row.index != entry.index || entry.partition.is_none() {
            return None;
        }
    }
    let mut waits = Vec::new();
    for (row, entry) in rows.iter_mut().zip(&produced.entries) {
        waits.extend(took(context, view, produced, entry, (row.base_offset, row.log_append_time_ms)));
        let Some((_, partition)) = &entry.partition else { continue };
        let offsets = partition.offsets.read();
        let map = offsets.map(view.active);
        row.base_offset = map.position_out(row.base_offset);
        row.id = entry.topic.id;
        if row.log_start_offset >= 0 {
            row.log_start_offset = map.position_out(row.log_start_offset);
        }
    }
    rewrite::produce::put(version, body, &rows);
    Some(waits)
}

/// The reply when no partition was left for the broker.
pub fn answered(context: &Context, produced: &ProduceContext) -> Result<Arrived, String> {
    complete(context, ProduceResponse::default(), produced, Vec::new())
}

/// The key under which the broker answers.
fn real_key(view: &View, version: i16, key: &TopicKey) -> TopicKey {
    if version >= 13 { TopicKey { name: String::new(), id: view.topic_id_in(key.id) } } else { key.clone() }
}

/// The broker may have forgotten a batch that is stored; between our look and its answer the stream may have told us.
fn recall(entry: &Entry, answer: &mut PartitionProduceResponse, view: &View) {
    let (Some((_, partition)), Some((header, _))) = (&entry.partition, &entry.batch) else { return };
    if answer.error_code == OUT_OF_ORDER_SEQUENCE
        && let Some(Answer::Stored(seen)) = check(header, Some(partition))
    {
        answer.error_code = NONE;
        answer.error_message = None;
        answer.base_offset = partition.offsets.read().map(view.active).position_in(seen.logical);
    }
}

/// The broker has stored a batch: at (offset, append time).
fn took(context: &Context, view: &View, produced: &ProduceContext, entry: &Entry, place: (i64, i64)) -> Option<Wait> {
    let wait = stored(view, produced.acks, entry, place);
    if let Some(id) = &produced.transactional_id {
        touched(context, id, entry, place);
    }
    wait
}

/// Notes what the broker stored of one partition; gives what the acknowledgement must wait for.
fn stored(view: &View, acks: i16, entry: &Entry, (base, append_time): (i64, i64)) -> Option<Wait> {
    let (topic, partition) = entry.partition.as_ref()?;
    let (header, batch) = entry.batch.as_ref()?;
    let count = i64::from(header.count);
    let next = base + count;
    let logical = partition.offsets.read().map(view.active).position_out(base);
    let place = (topic, partition, logical, count);
    let copied = topic.mode() != TeeMode::Off;
    if copied {
        partition.bypass.lock().own(header.producer_id, base, next);
    }
    if copied && partition.is_taken(logical, logical + count) {
        // A batch where another one was: a duplicate, one that the stream has fetched already, or the log has lost its end.
        partition.kick(next);
        return Some(Wait { suspect: true, ..wait(entry, header, next, place) });
    }
    if is_client_id(header.producer_id) {
        partition.duplicates.lock().record(header.producer_id, seen(header, logical));
    }
    if !copied {
        partition.acknowledge(logical, logical + count);
        return None;
    }
    // Only a reply to acks=all proves that the batch is below the high watermark.
    if acks == -1 && !header.is_transactional() && as_sent(topic, header, batch, append_time) {
        let taken = partition.tee(TeeItem { base_offset: base, next_offset: next, batch: batch.clone() });
        metrics::tee_batches(if taken { TeeResult::Fed } else { TeeResult::Overflow }).increment(1);
    } else {
        partition.kick(next);
        metrics::tee_batches(TeeResult::NotVerbatim).increment(1);
    }
    let wait = wait(entry, header, next, place);
    if wait.standby {
        return Some(wait);
    }
    wait.tell();
    None
}

/// What an acknowledgement of a batch means: the records of a transaction cross when it is committed, only then they are
/// acknowledged.
fn wait(
    entry: &Entry,
    header: &BatchHeader,
    active_end: i64,
    (topic, partition, logical, count): (&Arc<Topic>, &Arc<Partition>, i64, i64),
) -> Wait {
    let transactional = header.is_transactional();
    Wait {
        partition: partition.clone(),
        active_end,
        logical: (logical, logical + count),
        topic: entry.topic.clone(),
        index: entry.index,
        suspect: false,
        promised: !transactional,
        standby: !transactional && topic.mode() == TeeMode::Sync,
    }
}

/// Has the broker stored the batch with the bytes that it was sent?
fn as_sent(topic: &Topic, header: &BatchHeader, batch: &Bytes, append_time: i64) -> bool {
    append_time == -1
        && topic.stored_as_sent.load(Ordering::Relaxed)
        && header.is_dense()
        && header.size() == batch.len()
}

/// Notes what a transaction has written.
fn touched(context: &Context, id: &str, entry: &Entry, (base, append_time): (i64, i64)) {
    let (Some((topic, partition)), Some((header, batch))) = (&entry.partition, &entry.batch) else { return };
    if header.is_transactional() {
        let next = base + i64::from(header.count);
        let batch = Some(batch).filter(|batch| as_sent(topic, header, batch, append_time));
        context.transactions.memory.lock().touched(id, &partition.tp, base, next, batch);
    }
}

/// Adds what the proxy answers itself.
fn complete(
    context: &Context,
    mut reply: ProduceResponse,
    produced: &ProduceContext,
    mut waits: Vec<Wait>,
) -> Result<Arrived, String> {
    for entry in &produced.entries {
        let Some(answer) = &entry.answer else { continue };
        let mut row = PartitionProduceResponse::default().with_index(entry.index).with_base_offset(-1);
        match answer {
            Answer::Error(code, message) => {
                row.error_code = *code;
                row.error_message = (!message.is_empty()).then(|| (*message).into());
            }
            Answer::Stored(seen) => {
                row.base_offset = seen.logical;
                row.log_append_time_ms = entry.batch.as_ref().map_or(-1, |(h, _)| h.max_timestamp);
                if let Some((_, partition)) = entry.partition.as_ref().filter(|(t, _)| t.mode() == TeeMode::Sync) {
                    let active_end = partition.offsets.read().map(produced.view.active).position_in(seen.logical_end);
                    let (topic, index) = (entry.topic.clone(), entry.index);
                    let logical = (seen.logical, seen.logical_end);
                    let partition = partition.clone();
                    let (suspect, promised, standby) = (false, true, true);
                    waits.push(Wait { partition, active_end, logical, topic, index, suspect, promised, standby });
                }
            }
        }
        row.log_start_offset = -1;
        push(&mut reply, &entry.topic, row);
    }
    let body = body::encode(&reply, produced.version)?;
    Ok(Arrived::new(context, produced, body, waits))
}

fn push(reply: &mut ProduceResponse, key: &TopicKey, row: PartitionProduceResponse) {
    let same = |t: &&mut TopicProduceResponse| t.name.as_str() == key.name && t.topic_id == key.id;
    if let Some(topic) = reply.responses.iter_mut().find(same) {
        topic.partition_responses.push(row);
        return;
    }
    let name = kafka_protocol::protocol::StrBytes::from_string(key.name.clone());
    let topic = TopicProduceResponse::default().with_name(name.into()).with_topic_id(key.id);
    reply.responses.push(topic.with_partition_responses(vec![row]));
}
