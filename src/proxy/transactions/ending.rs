//! The replies of a transaction's coordinator: what its client is told, and what must be done before it is.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::time::Instant;

use super::{Asked, Context, EndTxnResponse, InitProducerIdResponse, NONE, Producer, fresh, now, remember};
use crate::catalog::View;
use crate::config::TeeMode;
use crate::proxy::standby;
use crate::transactions::Touched;
use crate::wire::body::{decode, encode};

/// EndTxn replies carry a producer from this version on (KIP-890).
const ENDS_WITH_PRODUCER: i16 = 5;
/// "Ask again": every client does, and a coordinator answers a repeated EndTxn as done.
const CONCURRENT_TRANSACTIONS: i16 = ResponseError::ConcurrentTransactions.code();

/// Turns a coordinator's reply into the client's.
pub async fn reply(
    context: &Context,
    view: &Arc<View>,
    asked: Asked,
    version: i16,
    body: &Bytes,
) -> Result<Bytes, String> {
    match asked {
        Asked::Init { id, asked, timeout_ms } => {
            initialised(context, view, &id, asked, timeout_ms, version, body).await
        }
        Asked::End { id, who, committed } => ended(context, view, &id, who, committed, version, body).await,
    }
}

async fn initialised(
    context: &Context,
    view: &Arc<View>,
    id: &str,
    asked: Option<Producer>,
    timeout_ms: i32,
    version: i16,
    body: &Bytes,
) -> Result<Bytes, String> {
    let mut reply: InitProducerIdResponse = decode(body, version)?;
    if reply.error_code != NONE {
        return Ok(body.clone());
    }
    let real = Producer { id: reply.producer_id.0, epoch: reply.producer_epoch };
    let _turn = context.transactions.turn(id).await;
    let (told, record) =
        context.transactions.memory.lock().initialised(id, asked, timeout_ms, real, view.generation, (now(), fresh()));
    (reply.producer_id.0, reply.producer_epoch) = (told.id, told.epoch);
    if let Err(code) = remember(context, id, &record).await {
        reply.error_code = code;
        (reply.producer_id.0, reply.producer_epoch) = (Producer::NONE.id, Producer::NONE.epoch);
    }
    encode(&reply, version)
}

async fn ended(
    context: &Context,
    view: &Arc<View>,
    id: &str,
    who: Producer,
    committed: bool,
    version: i16,
    body: &Bytes,
) -> Result<Bytes, String> {
    let reply: EndTxnResponse = decode(body, version)?;
    if reply.error_code != NONE {
        let again = ResponseError::try_from_code(reply.error_code).is_some_and(|e| e.is_retriable());
        if !again && reply.error_code != CONCURRENT_TRANSACTIONS {
            context.transactions.memory.lock().end_refused(id, who);
        }
        return Ok(body.clone());
    }
    let touched = context.transactions.memory.lock().touched_by(id, who);
    tracing::debug!(id, ?who, committed, ?touched, "transaction ended");
    for partition in touched.partitions.keys().filter_map(|tp| view.partition(&tp.topic, tp.partition)) {
        partition.expect_marker();
    }
    let later = || encode(&EndTxnResponse::default().with_error_code(CONCURRENT_TRANSACTIONS), version);
    if committed && !committed_everywhere(context, view, &touched).await {
        return later();
    }
    let real = Producer { id: reply.producer_id.0, epoch: reply.producer_epoch };
    let real = (version >= ENDS_WITH_PRODUCER).then_some(real);
    let _turn = context.transactions.turn(id).await;
    let at = (now(), fresh());
    let (told, record) = context.transactions.memory.lock().ended(id, who, committed, real, view.generation, at);
    if let Some(record) = record
        && remember(context, id, &record).await.is_err()
    {
        return later();
    }
    let mut out = done(version, told);
    out.throttle_time_ms = reply.throttle_time_ms;
    encode(&out, version)
}

/// The reply that says that a transaction has ended.
pub fn done(version: i16, told: Producer) -> EndTxnResponse {
    let told = if version >= ENDS_WITH_PRODUCER { told } else { Producer::NONE };
    EndTxnResponse::default().with_producer_id(told.id.into()).with_producer_epoch(told.epoch)
}

/// A transaction is acknowledged when the standby has what it wrote to `sync` partitions, and the offsets that it committed
/// for such. `false`: it must not be acknowledged (yet).
async fn committed_everywhere(context: &Context, view: &Arc<View>, touched: &Touched) -> bool {
    let deadline = Instant::now() + context.live.load().tee.sync_timeout;
    let mut everywhere = true;
    for (tp, ranges) in &touched.partitions {
        let Some(partition) = view.partition(&tp.topic, tp.partition) else { continue };
        let Some(end) = ranges.end() else { continue };
        if partition.mode() == TeeMode::Sync {
            everywhere &= standby::reached(context, view.generation, &partition, end, deadline).await;
        }
    }
    for (group, offsets) in &touched.offsets {
        context.house.group_committed(group);
        let sync: Vec<_> = offsets
            .iter()
            .filter_map(|(tp, _, _)| view.partition(&tp.topic, tp.partition))
            .filter(|p| p.mode() == TeeMode::Sync)
            .collect();
        everywhere &= standby::has_offsets(context, view.generation, group, &sync, deadline).await;
    }
    if everywhere {
        for (tp, ranges) in &touched.partitions {
            let Some(partition) = view.partition(&tp.topic, tp.partition) else { continue };
            let logical = |offset| partition.offsets.read().map(view.active).position_out(offset);
            for (from, to) in ranges.above(0) {
                partition.acknowledge(logical(from), logical(to));
            }
        }
    }
    everywhere
}
