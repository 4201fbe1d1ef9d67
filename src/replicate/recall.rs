//! What a proxy that was just started must know of the past: the newest batches of each producer, of which retries may
//! come. It reads them from the active cluster's log.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::sync::Semaphore;

use super::open::offset;
use crate::catalog::Partition;
use crate::model::{ClusterIx, TopicPartition};
use crate::records::Batches;
use crate::stream::{is_client_id, seen};
use crate::upstream::{Cluster, FetchFrom, FetchOptions, OffsetSpec};

/// Partitions looked at at a time, most of which need no more than what comes for many together.
const CONCURRENCY: usize = 1000;
/// Partitions of which pieces of `RECALL_BYTES` are read at a time.
const FETCHES: usize = 32;

/// Log offsets and bytes looked back for batches whose retries may still come: an idempotent producer has at most five
/// batches unacknowledged.
const RECALL_OFFSETS: i64 = 2_000;
const RECALL_BYTES: i32 = 1 << 20;

/// Reads the newest batches of a partition's log on the active cluster. `Ok`: all of them.
async fn recall_one(
    cluster: &Cluster,
    active: ClusterIx,
    partition: &Partition,
    fetches: &Semaphore,
) -> Result<(), String> {
    let tp = &partition.tp;
    let (start, end) = tokio::join!(offset(cluster, tp, OffsetSpec::Earliest), offset(cluster, tp, OffsetSpec::Latest));
    let end = end?;
    let mut next = start?.max(end - RECALL_OFFSETS);
    let mut peeked = None;
    if next < end {
        // Not all that is wanted, or nothing at all where the first batch is large: the rest is fetched.
        peeked = cluster.peek(tp, next).await.ok().filter(|records| Batches::new(records.clone()).next().is_some());
    }
    while next < end {
        let (records, _permit) = match peeked.take() {
            Some(records) => (records, None),
            None => {
                let permit = fetches.acquire().await.map_err(|e| e.to_string())?;
                (fetch(cluster, tp, next).await?, Some(permit))
            }
        };
        let before = next;
        for batch in Batches::new(records).map_while(Result::ok) {
            let header = batch.header();
            next = next.max(header.next_offset());
            if is_client_id(header.producer_id) && !header.is_transactional() && header.is_dense() {
                let logical = partition.offsets.read().map(active).to_logical(header.base_offset);
                if let Some(logical) = logical {
                    partition.duplicates.lock().record(header.producer_id, seen(header, logical));
                }
            }
        }
        if next == before {
            return Err(format!("the log could not be read at offset {next}"));
        }
    }
    Ok(())
}

async fn fetch(cluster: &Cluster, tp: &TopicPartition, next: i64) -> Result<Bytes, String> {
    let options = FetchOptions { max_wait: Duration::ZERO, max_bytes: RECALL_BYTES, ..Default::default() };
    let from = FetchFrom { tp: tp.clone(), offset: next, max_bytes: RECALL_BYTES, current_leader_epoch: None };
    let mut fetched = cluster.fetch(&[from], &options).await.map_err(|e| e.to_string())?;
    let part = fetched.remove(tp).filter(|p| p.error == 0).ok_or("the leader gave an error")?;
    Ok(part.records)
}

/// Fills the duplicate windows of partitions that have not been read yet. What cannot be read is logged: brokers remember
/// some batches themselves.
pub async fn recall(cluster: Cluster, active: ClusterIx, partitions: Vec<Arc<Partition>>) {
    let unread = partitions.into_iter().filter(|partition| !partition.is_recalled());
    let (cluster, fetches) = (&cluster, &Semaphore::new(FETCHES));
    stream::iter(unread)
        .for_each_concurrent(CONCURRENCY, |partition| async move {
            match recall_one(cluster, active, &partition, fetches).await {
                Ok(()) => partition.set_recalled(),
                Err(reason) => tracing::warn!(tp = %partition.tp, reason, "retries of stored batches may not be known"),
            }
        })
        .await;
}
