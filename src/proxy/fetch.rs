//! Fetch: sessionless towards the broker, offsets and epochs translated, and for `sync` partitions nothing shown to a
//! consumer that the standby does not have (as a broker shows nothing above its high watermark).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::FetchRequest;
use kafka_protocol::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use kafka_protocol::protocol::{Decodable, Encodable};
use uuid::Uuid;

use super::Context;
use crate::catalog::{InSync, Partition, View};
use crate::config::{LossPolicy, TeeMode};
use crate::records::{Batches, gap, unmarked};
use crate::rewrite::{self, Translate};
use crate::wire::body;

/// How long a reply waits before it shows that nothing can be shown yet.
const SHOW_WAIT: Duration = Duration::from_millis(100);

/// The request for the cluster, which asks for `limit` bytes at most, and whether its reply may be translated where it lies:
/// nothing of it was left out.
pub fn request(view: &View, version: i16, body: &Bytes, limit: i32) -> Result<(Bytes, bool), String> {
    let mut request = FetchRequest::decode(&mut body.clone(), version).map_err(|e| e.to_string())?;
    let (topics, incremental) = (request.topics.len(), rewrite::fetch::incremental(&request));
    rewrite::fetch::request(&mut request, view).map_err(|e| e.to_string())?;
    request.max_bytes = request.max_bytes.min(limit);
    request.min_bytes = request.min_bytes.min(limit);
    let mut out = BytesMut::with_capacity(body.len());
    request.encode(&mut out, version).map_err(|e| e.to_string())?;
    Ok((out.freeze(), !incremental && request.topics.len() == topics))
}

/// Translates the body of a reply where it lies, if that is all it needs, or so much of its front as reaches into the last
/// records; `size` is that of the whole body. `false`: it is as it was, and for [`reply`].
pub fn patched(view: &View, version: i16, body: &mut [u8], size: usize) -> bool {
    rewrite::fetch::patch(version, body, size, view, |part| {
        let Some(partition) = view.partition(part.topic, part.partition) else { return true };
        let renamed = view.renames(&partition);
        // Nothing to read: there may be a gap to pass.
        let empty = part.records.is_empty() && part.error == 0 && renamed;
        let capped =
            partition.mode() == TeeMode::Sync && partition.in_sync() && crossed(view, &partition) < part.high_watermark;
        // Of those in a masked tail nobody may be told.
        let masked = part.aborted && renamed;
        if empty || capped || masked {
            return false;
        }
        expose(view, &partition, part.high_watermark);
        true
    })
}

/// Up to where the standby has everything, in the active cluster's offsets. Below the last cut both clusters have,
/// whatever the stream has told since.
pub fn crossed(view: &View, partition: &Partition) -> i64 {
    let floor = {
        let offsets = partition.offsets.read();
        let cut = offsets.cuts().last().map_or(0, |&(_, logical)| logical);
        offsets.map(view.active).position_in(cut)
    };
    partition.progress().replicated.max(floor)
}

/// A client is shown how far the log goes.
pub fn expose(view: &View, partition: &Partition, high_watermark: i64) {
    partition.expose(partition.offsets.read().map(view.active).position_out(high_watermark.max(0)));
}

pub async fn reply(
    context: &Context,
    view: &Arc<View>,
    version: i16,
    request: &Bytes,
    body: &Bytes,
) -> Result<Bytes, String> {
    let mut reply = FetchResponse::decode(&mut body.clone(), version).map_err(|e| e.to_string())?;
    for topic in &mut reply.responses {
        let known = match topic.topic_id {
            id if id == Uuid::nil() => view.catalog.topic(&topic.topic),
            id => view.catalog.topic_by_real_id(view.active, id),
        };
        let Some(known) = known else { continue };
        for data in &mut topic.partitions {
            let Some(partition) = known.partition(data.partition_index) else { continue };
            if known.mode() == TeeMode::Sync && partition.in_sync() {
                cap(context, view, &partition, data).await;
            }
            forget_masked_aborts(view, &partition, data);
            expose(view, &partition, data.high_watermark);
        }
    }
    let request = FetchRequest::decode(&mut request.clone(), version).map_err(|e| e.to_string())?;
    rewrite::fetch::response(&request, &mut reply, &**view as &dyn Translate);
    pass_gaps(view, &request, &mut reply);
    body::encode(&reply, version)
}

/// Shows only what the standby has. A consumer that read further could see the records a second time after a failover,
/// at other offsets. A standby that stays silent leaves the in-sync state for a reader as it does for a writer.
async fn cap(context: &Context, view: &View, partition: &Arc<Partition>, data: &mut PartitionData) {
    let crossed = || crossed(view, partition);
    if data.high_watermark < 0 || crossed() >= data.high_watermark {
        return;
    }
    partition.kick(data.high_watermark);
    if let Some(end) = data.records.as_ref().and_then(last_offset).filter(|&end| crossed() < end) {
        let tee = &context.live.load_full().tee;
        // What an open transaction keeps from crossing is no fault of the standby.
        let stable = data.last_stable_offset.max(0);
        let limit = if end <= stable { tee.sync_timeout } else { SHOW_WAIT };
        let silent = partition.replicated_within(end, limit).await == InSync::TimedOut && end <= stable;
        if silent && tee.on_standby_loss == LossPolicy::Degrade {
            let left = context.house.leave_in_sync(partition).await;
            let _ =
                left.inspect_err(|reason| tracing::warn!(partition = %partition.tp, %reason, "records stay unseen"));
        }
    }
    let crossed = crossed();
    if crossed >= data.high_watermark || !partition.in_sync() {
        return;
    }
    data.high_watermark = crossed.max(0);
    data.last_stable_offset = data.last_stable_offset.min(data.high_watermark);
    if let Some(records) = &mut data.records {
        let keep: usize = Batches::new(records.clone())
            .map_while(Result::ok)
            .take_while(|b| b.header().next_offset() <= crossed)
            .map(|b| b.bytes().len())
            .sum();
        records.truncate(keep);
    }
}

/// A transaction that was open when its cluster was lost lies in the masked tail, and so does its abort marker; of another one
/// the marker alone may lie there. A consumer that were told of either would wait for that marker and take all that the same
/// producer id writes later for aborted.
fn forget_masked_aborts(view: &View, partition: &Partition, data: &mut PartitionData) {
    let Some(aborted) = data.aborted_transactions.as_mut().filter(|aborted| !aborted.is_empty()) else { return };
    let offsets = partition.offsets.read();
    let map = offsets.map(view.active);
    let shown = |offset| map.to_logical(offset).is_some();
    aborted.retain(|transaction| shown(transaction.first_offset));
    let named = aborted.iter().map(|t| (t.producer_id.0, t.first_offset));
    let Some(found) = data.records.as_ref().and_then(|records| unmarked(named, records, shown)) else { return };
    aborted.retain(|t| !found.transactions.contains(&(t.producer_id.0, t.first_offset)));
    data.records = Some(found.records);
}

/// Moves consumers over offsets that no record has at the end of the log: behind a tail that a failover lost, or behind a
/// transaction's last marker. Until something new is written the cluster has nothing to send there, and a reader that wants
/// to reach the end that it was told (a restore of a changelog, Connect's own topics) would wait for ever.
fn pass_gaps(view: &View, request: &FetchRequest, reply: &mut FetchResponse) {
    let topics = request.topics.iter().filter_map(|asked| {
        let same = |t: &FetchableTopicResponse| t.topic == asked.topic && t.topic_id == asked.topic_id;
        reply.responses.iter().position(same).map(|answered| (asked, answered))
    });
    for (asked, answered) in topics.collect::<Vec<_>>() {
        let known = match asked.topic_id {
            id if id == Uuid::nil() => view.catalog.topic(&asked.topic),
            id => view.catalog.topic_by_id(id),
        };
        let (Some(known), Some(answered)) = (known, reply.responses.get_mut(answered)) else { continue };
        for asked in &asked.partitions {
            let row = answered.partitions.iter_mut().find(|p| p.partition_index == asked.partition);
            let (Some(row), Some(partition)) = (row, known.partition(asked.partition)) else { continue };
            if row.error_code == 0 && row.records.as_ref().is_none_or(Bytes::is_empty) {
                pass_gap(view, &partition, asked.fetch_offset, row);
            }
        }
    }
}

fn pass_gap(view: &View, partition: &Partition, from: i64, row: &mut PartitionData) {
    let Some(to) = partition.offsets.read().map(view.active).gap_at(from) else { return };
    let stable = row.last_stable_offset;
    if row.high_watermark < to || (stable >= 0 && stable < to) {
        return;
    }
    match gap(from, to) {
        Ok(records) => row.records = Some(records),
        Err(error) => tracing::error!(partition = %partition.tp, %error, "a gap in the offsets cannot be passed"),
    }
}

fn last_offset(records: &Bytes) -> Option<i64> {
    Batches::new(records.clone()).map_while(Result::ok).last().map(|b| b.header().next_offset())
}
