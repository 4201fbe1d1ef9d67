//! Fetch: sessionless towards the broker, offsets and epochs translated, and for `sync` partitions nothing shown to a
//! consumer that the standby does not have (as a broker shows nothing above its high watermark).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::FetchRequest;
use kafka_protocol::messages::fetch_response::{FetchResponse, PartitionData};
use kafka_protocol::protocol::{Decodable, Encodable};
use tokio::time::Instant;
use uuid::Uuid;

use super::Context;
use crate::catalog::{Partition, View};
use crate::config::TeeMode;
use crate::records::Batches;
use crate::rewrite::{self, Translate};

/// How long a reply may wait for the standby to get what it shows; then it is cut short there.
const SHOW_WAIT: Duration = Duration::from_millis(100);

pub fn request(view: &View, version: i16, body: &Bytes) -> Result<Option<Bytes>, String> {
    rewrite::request(super::pending::FETCH, version, body, view).map_err(|e| e.to_string())
}

pub async fn reply(
    context: &Context,
    view: &Arc<View>,
    version: i16,
    request: &Bytes,
    body: &Bytes,
) -> Result<Bytes, String> {
    let _ = context;
    let mut reply = FetchResponse::decode(&mut body.clone(), version).map_err(|e| e.to_string())?;
    let deadline = Instant::now() + SHOW_WAIT;
    for topic in &mut reply.responses {
        let known = match topic.topic_id {
            id if id == Uuid::nil() => view.catalog.topic(&topic.topic),
            id => view.catalog.topic_by_real_id(view.active, id),
        };
        let Some(known) = known else { continue };
        for data in &mut topic.partitions {
            let Some(partition) = known.partition(data.partition_index) else { continue };
            if known.mode() == TeeMode::Sync && partition.in_sync() {
                cap(&partition, data, deadline).await;
            }
            let end = partition.offsets.read().map(view.active).position_out(data.high_watermark.max(0));
            partition.expose(end);
        }
    }
    let request = FetchRequest::decode(&mut request.clone(), version).map_err(|e| e.to_string())?;
    rewrite::fetch::response(&request, &mut reply, &**view as &dyn Translate);
    let mut out = BytesMut::new();
    reply.encode(&mut out, version).map_err(|e| e.to_string())?;
    Ok(out.freeze())
}

/// Shows only what the standby has. A consumer that read further could see the records a second time after a failover,
/// at other offsets.
async fn cap(partition: &Arc<Partition>, data: &mut PartitionData, deadline: Instant) {
    if data.high_watermark < 0 || partition.progress().replicated >= data.high_watermark {
        return;
    }
    partition.kick(data.high_watermark);
    let shown = data.records.as_ref().and_then(last_offset);
    if let Some(end) = shown {
        let _ = partition.replicated(end, deadline).await;
    }
    let replicated = partition.progress().replicated;
    if replicated >= data.high_watermark || !partition.in_sync() {
        return;
    }
    data.high_watermark = replicated.max(0);
    data.last_stable_offset = data.last_stable_offset.min(data.high_watermark);
    if let Some(records) = &mut data.records {
        let keep: usize = Batches::new(records.clone())
            .map_while(Result::ok)
            .take_while(|b| b.header().next_offset() <= replicated)
            .map(|b| b.bytes().len())
            .sum();
        records.truncate(keep);
    }
}

fn last_offset(records: &Bytes) -> Option<i64> {
    Batches::new(records.clone()).map_while(Result::ok).last().map(|b| b.header().next_offset())
}
