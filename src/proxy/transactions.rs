//! Requests of transactional producers at the proxy: their producer ids stand for those of the active cluster, by the rules
//! of [`crate::transactions`].

mod calm;
mod ending;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
    InitProducerIdResponse, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use parking_lot::Mutex;

use super::pending::{self, Reply};
use super::{Context, gate, local};
use crate::catalog::View;
use crate::groups::{NO_GENERATION, Ruling};
use crate::model::TopicPartition;
use crate::records::{BatchHeader, Stamp, as_producer, sound};
use crate::rewrite;
use crate::transactions::{Ask, At, Init, Library, Memory, Producer, Sequence, Verdict};
use crate::wire::body::{decode, encode};
use crate::wire::header::RequestHeader;

pub use calm::Calm;
pub use ending::reply;

/// How long the new cluster's coordinator gets to take in an id at its first use after a cutover; then the client is told to
/// come again, which it does for longer than that.
const MAP_LIMIT: Duration = Duration::from_secs(10);
/// Locks for ids that are being taken in or told of, by hash.
const TURNS: usize = 64;

const NONE: i16 = 0;
/// To a client that is to ask again: the coordinator is not there at the moment; a produce lacks what it needs.
const COORDINATOR_NOT_AVAILABLE: i16 = ResponseError::CoordinatorNotAvailable.code();
const NOT_ENOUGH_REPLICAS: i16 = ResponseError::NotEnoughReplicas.code();

/// What is known of transactional ids, shared by all connections.
pub struct Transactions {
    pub memory: Mutex<Memory>,
    turns: [tokio::sync::Mutex<()>; TURNS],
    /// There is a standby: else all goes through untouched.
    enabled: bool,
    /// A switchover is near: no transaction begins.
    calming: tokio::sync::watch::Sender<bool>,
}

/// What the reply half must know of a request that was sent on.
pub enum Asked {
    Init { id: String, asked: Option<Producer>, timeout_ms: i32 },
    End { id: String, who: Producer, committed: bool },
}

impl Transactions {
    pub fn new(enabled: bool) -> Self {
        Transactions {
            memory: Mutex::default(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            enabled,
            calming: tokio::sync::watch::Sender::new(false),
        }
    }

    /// Whoever asks a coordinator for an id, or tells what it said, does so one at a time.
    async fn turn(&self, id: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        self.turns[hasher.finish() as usize % TURNS].lock().await
    }

    fn judge(&self, view: &View, id: &str, who: Producer, ask: Ask) -> Verdict {
        self.memory.lock().judge(id, who, ask, view.generation, (now(), fresh()))
    }
}

pub fn now() -> At {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| At::try_from(d.as_millis()).unwrap_or(At::MAX))
}

/// A producer id that no cluster gives: bit 61 without bit 62, which is for ids that brokers get to see.
pub fn fresh() -> i64 {
    (1 << 61) | (rand::random::<i64>() & ((1 << 61) - 1))
}

/// Whether a request is one of those that [`request`] judges.
pub fn is_one(api_key: i16) -> bool {
    use pending::*;
    matches!(api_key, INIT_PRODUCER_ID | ADD_PARTITIONS_TO_TXN | ADD_OFFSETS_TO_TXN | END_TXN | TXN_OFFSET_COMMIT)
}

/// Judges a coordinator's request that has passed the guard. May wait for a coordinator; dropping the future gives the
/// request up.
///
/// # Errors
/// A body that the codec cannot read or write.
pub async fn request(
    context: &Context,
    view: &View,
    library: Library,
    header: &RequestHeader,
    body: &Bytes,
) -> Result<Ruling, String> {
    let version = header.api_version;
    if header.api_key == pending::INIT_PRODUCER_ID {
        let req: InitProducerIdRequest = decode(body, version)?;
        match req.transactional_id.as_ref().map(|id| id.to_string()) {
            None => return answer(&local::init_producer_id(), version),
            Some(id) if context.transactions.enabled => return init(context, view, version, id, req).await,
            Some(_) => {}
        }
    }
    if !context.transactions.enabled {
        return as_before(view, header, body);
    }
    match header.api_key {
        pending::ADD_PARTITIONS_TO_TXN => {
            let mut req: AddPartitionsToTxnRequest = decode(body, version)?;
            let who = Producer { id: req.v3_and_below_producer_id.0, epoch: req.v3_and_below_producer_epoch };
            let ask = Ask::AddPartitions { version, library };
            let real = match settle(context, view, &req.v3_and_below_transactional_id, who, ask).await {
                Verdict::Refuse(code) => return refused(header, body, code),
                verdict => real(verdict, who),
            };
            (req.v3_and_below_producer_id.0, req.v3_and_below_producer_epoch) = (real.id, real.epoch);
            rewrite::add_partitions_to_txn::request(&mut req, view);
            send(&req, version, Reply::Rewrite)
        }
        pending::ADD_OFFSETS_TO_TXN => {
            let mut req: AddOffsetsToTxnRequest = decode(body, version)?;
            let who = Producer { id: req.producer_id.0, epoch: req.producer_epoch };
            let ask = Ask::AddOffsets { version, library };
            let real = match settle(context, view, &req.transactional_id, who, ask).await {
                Verdict::Refuse(code) => return refused(header, body, code),
                verdict => real(verdict, who),
            };
            (req.producer_id.0, req.producer_epoch) = (real.id, real.epoch);
            send(&req, version, Reply::Forward)
        }
        pending::TXN_OFFSET_COMMIT => {
            let mut req: TxnOffsetCommitRequest = decode(body, version)?;
            let who = Producer { id: req.producer_id.0, epoch: req.producer_epoch };
            let real = match settle(context, view, &req.transactional_id, who, Ask::CommitOffsets { version }).await {
                Verdict::Refuse(code) => return refused(header, body, code),
                verdict => real(verdict, who),
            };
            (req.producer_id.0, req.producer_epoch) = (real.id, real.epoch);
            if context.rehome.commits_from_outside(view.generation, &req.group_id, &req.member_id) {
                // The member is then not looked at (KIP-447).
                (req.generation_id, req.member_id) = (NO_GENERATION, StrBytes::default());
                req.group_instance_id = None;
            }
            rewrite::txn_offset_commit::request(&mut req, view);
            note_offsets(context, who, &req);
            send(&req, version, Reply::Rewrite)
        }
        _ => end(context, view, library, header, body).await,
    }
}

/// Without a standby ids are the cluster's own.
fn as_before(view: &View, header: &RequestHeader, body: &Bytes) -> Result<Ruling, String> {
    let body = rewrite::request(header.api_key, header.api_version, body, view).map_err(|e| e.to_string())?;
    Ok(Ruling::Send { body, reply: Reply::Rewrite })
}

async fn init(
    context: &Context,
    view: &View,
    version: i16,
    id: String,
    mut req: InitProducerIdRequest,
) -> Result<Ruling, String> {
    let asked = (req.producer_id.0 >= 0).then_some(Producer { id: req.producer_id.0, epoch: req.producer_epoch });
    let timeout_ms = req.transaction_timeout_ms;
    let rule = || context.transactions.memory.lock().init(&id, asked, version, view.generation, now());
    let refuse =
        |code| answer(&InitProducerIdResponse::default().with_error_code(code).with_producer_epoch(-1), version);
    let _turn = match rule() {
        Init::Map => Some(context.transactions.turn(&id).await),
        _ => None,
    };
    match rule() {
        Init::Refuse(code) => refuse(code),
        Init::AsIs => send(&req, version, Reply::Transaction(Box::new(Asked::Init { id, asked, timeout_ms }))),
        Init::As(real) => {
            (req.producer_id.0, req.producer_epoch) = (real.id, real.epoch);
            send(&req, version, Reply::Transaction(Box::new(Asked::Init { id, asked, timeout_ms })))
        }
        Init::Map => match take_in(context, view, &id, timeout_ms, Some(asked)).await {
            Ok(told) => {
                let reply = InitProducerIdResponse::default();
                answer(&reply.with_producer_id(told.id.into()).with_producer_epoch(told.epoch), version)
            }
            Err(code) => refuse(code),
        },
    }
}

async fn end(
    context: &Context,
    view: &View,
    library: Library,
    header: &RequestHeader,
    body: &Bytes,
) -> Result<Ruling, String> {
    let mut req: EndTxnRequest = decode(body, header.api_version)?;
    let (version, id, committed) = (header.api_version, req.transactional_id.to_string(), req.committed);
    let who = Producer { id: req.producer_id.0, epoch: req.producer_epoch };
    let ask = Ask::End { version, committed, library };
    let real = match settle(context, view, &id, who, ask).await {
        Verdict::Refuse(code) => return refused(header, body, code),
        Verdict::Done(told) => {
            return answer(&ending::done(version, told), version);
        }
        verdict => real(verdict, who),
    };
    (req.producer_id.0, req.producer_epoch) = (real.id, real.epoch);
    send(&req, version, Reply::Transaction(Box::new(Asked::End { id, who, committed })))
}

/// Who a request goes as.
fn real(verdict: Verdict, who: Producer) -> Producer {
    if let Verdict::As(real) = verdict { real } else { who }
}

/// Judges a request; if its id has no producer on this cluster yet, sees to that first. Never gives [`Verdict::Map`].
async fn settle(context: &Context, view: &View, id: &str, who: Producer, ask: Ask) -> Verdict {
    let transactions = &context.transactions;
    transactions.may_begin(id, ask).await;
    loop {
        let verdict = transactions.judge(view, id, who, ask);
        if !matches!(verdict, Verdict::Map(_)) {
            return verdict;
        }
        let _turn = transactions.turn(id).await;
        let Verdict::Map(timeout_ms) = transactions.judge(view, id, who, ask) else { continue };
        if take_in(context, view, id, timeout_ms, None).await.is_err() {
            let produce = matches!(ask, Ask::Produce { .. });
            return Verdict::Refuse(if produce { NOT_ENOUGH_REPLICAS } else { COORDINATOR_NOT_AVAILABLE });
        }
    }
}

/// Has the active cluster's coordinator take an id in, and stores what stands for what. `init`: for an InitProducerId, by
/// this producer if it named one. Gives who the client is from now on, or an error code for it.
async fn take_in(
    context: &Context,
    view: &View,
    id: &str,
    timeout_ms: i32,
    init: Option<Option<Producer>>,
) -> Result<Producer, i16> {
    let cluster = context.clusters[view.active.ix()].as_ref().ok_or(COORDINATOR_NOT_AVAILABLE)?;
    let real = cluster.with_timeout(MAP_LIMIT).init_transactional(id, timeout_ms).await.map_err(|error| {
        tracing::warn!(id, %error, "the coordinator did not take a transactional id in");
        error.kafka_code().unwrap_or(COORDINATOR_NOT_AVAILABLE)
    })?;
    let real = Producer { id: real.0, epoch: real.1 };
    let record = {
        let memory = context.transactions.memory.lock();
        match init {
            Some(_) => memory.map_init(id, timeout_ms, real, view.generation, (now(), fresh())),
            None => memory.map(id, real, view.generation, now()),
        }
    };
    let record = record.ok_or(COORDINATOR_NOT_AVAILABLE)?;
    remember(context, id, &record).await?;
    context.transactions.memory.lock().adopt(id, &record, init);
    tracing::debug!(id, told = ?record.told, ?real, generation = view.generation, "transactional id taken in");
    Ok(record.told)
}

/// Stores a record before anyone hears of it; an error code for the client if that fails.
async fn remember(context: &Context, id: &str, record: &crate::transactions::Record) -> Result<(), i16> {
    context.house.remember_transaction(id, record).await.map_err(|reason| {
        tracing::warn!(id, reason, "a transactional id is not stored, so its client must ask again");
        COORDINATOR_NOT_AVAILABLE
    })
}

/// What was done to the batches of a produce request under a transactional id.
#[derive(Default)]
pub struct Stamped {
    /// Some batch has another producer now.
    pub changed: bool,
    /// By place of the topic in the request and partition: not to be sent, with the error code.
    pub refused: HashMap<(usize, i32), i16>,
}

/// Puts the active cluster's producers into the batches of a produce request. `None`: the gate closed meanwhile.
pub async fn stamp(
    context: &Context,
    view: &View,
    version: i16,
    id: &str,
    topics: &mut [TopicProduceData],
) -> Result<Option<Stamped>, String> {
    let mut stamped = Stamped::default();
    if !context.transactions.enabled {
        return Ok(Some(stamped));
    }
    let mut watch = context.gate.watch();
    for (place, topic) in topics.iter_mut().enumerate() {
        let name = topic.name.to_string();
        for data in &mut topic.partition_data {
            // What is no batch, or names no producer, is the broker's business.
            let Some(records) = &data.records else { continue };
            let Ok(header) = BatchHeader::parse(records) else { continue };
            if !header.has_producer() {
                continue;
            }
            let work = stamp_of(context, view, version, id, &header, &name, data.index);
            let stamp = tokio::select! {
                biased;
                stamp = work => stamp,
                _ = gate::closed(&mut watch, view.generation) => return Ok(None),
            };
            match stamp {
                Err(code) => {
                    stamped.refused.insert((place, data.index), code);
                }
                Ok(stamp) if stamp == header.stamp() => {}
                Ok(stamp) => {
                    // A batch with a wrong checksum stays as it is: the broker is to see and refuse it.
                    let Some(batch) = sound(records) else { continue };
                    data.records = Some(as_producer(&batch, stamp));
                    stamped.changed = true;
                }
            }
        }
    }
    Ok(Some(stamped))
}

/// The producer and sequence that a batch goes with, or an error code for it.
async fn stamp_of(
    context: &Context,
    view: &View,
    version: i16,
    id: &str,
    header: &BatchHeader,
    topic: &str,
    index: i32,
) -> Result<Stamp, i16> {
    let who = Producer { id: header.producer_id, epoch: header.producer_epoch };
    let ask = Ask::Produce { version, transactional: header.is_transactional() };
    let real = match settle(context, view, id, who, ask).await {
        Verdict::Refuse(code) => return Err(code),
        Verdict::As(real) => real,
        _ => return Ok(header.stamp()),
    };
    let partition = format!("{topic}/{index}");
    let sequence = || {
        let place = (view.generation, now());
        context.transactions.memory.lock().sequence(id, who, version, &partition, header.base_sequence, place)
    };
    let stamp = |base_sequence| Stamp { producer_id: real.id, producer_epoch: real.epoch, base_sequence };
    let told = match sequence() {
        Sequence::Store(_) => {
            let _turn = context.transactions.turn(id).await;
            match sequence() {
                Sequence::Store(record) => {
                    remember(context, id, &record).await.map_err(|_| NOT_ENOUGH_REPLICAS)?;
                    context.transactions.memory.lock().store_sequence(id, &record);
                    sequence()
                }
                told => told,
            }
        }
        told => told,
    };
    match told {
        Sequence::As(sequence) => Ok(stamp(sequence)),
        Sequence::Refuse(code) => Err(code),
        Sequence::Store(_) => Err(NOT_ENOUGH_REPLICAS),
    }
}

/// Remembers the offsets (the cluster's own by now) that a transaction will commit.
fn note_offsets(context: &Context, who: Producer, req: &TxnOffsetCommitRequest) {
    let rows = req.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (&t.name, p)));
    let offsets = rows.map(|(topic, p)| {
        let metadata = p.committed_metadata.as_ref().map(ToString::to_string).unwrap_or_default();
        (TopicPartition::new(topic.as_str(), p.partition_index), p.committed_offset, metadata)
    });
    let offsets = offsets.collect();
    context.transactions.memory.lock().touched_offsets(&req.transactional_id, who, &req.group_id, offsets);
}

fn refused(header: &RequestHeader, body: &Bytes, code: i16) -> Result<Ruling, String> {
    let reply = rewrite::errors::reply(header.api_key, header.api_version, body, code).map_err(|e| e.to_string())?;
    reply.map(Ruling::Answer).ok_or_else(|| "the proxy has no error reply for this".into())
}

fn answer<M: Encodable>(message: &M, version: i16) -> Result<Ruling, String> {
    encode(message, version).map(Ruling::Answer)
}

fn send<M: Encodable>(message: &M, version: i16, reply: Reply) -> Result<Ruling, String> {
    Ok(Ruling::Send { body: Some(encode(message, version)?), reply })
}
