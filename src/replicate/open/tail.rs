//! What the standby's log holds behind the place where its copy should end.

use std::time::Duration;

use super::{Direction, OpenError};
use crate::divergence::{Reader, Tally};
use crate::model::TopicPartition;
use crate::records::{Batch, Batches};
use crate::upstream::{Cluster, FetchFrom, FetchOptions, Isolation};

/// Control batches passed over one by one at the end of a copy; a cluster writes one per partition of a transaction that
/// was open when it was retired.
const MAX_MARKERS: usize = 1000;

/// The end of the log between `low` and `end`, control batches at its end left out.
pub async fn records_end(cluster: &Cluster, tp: &TopicPartition, low: i64, end: i64) -> Result<i64, String> {
    let mut at = end;
    for _ in 0..MAX_MARKERS {
        if at <= low {
            return Ok(at);
        }
        match batch_at(cluster, tp, at - 1).await? {
            Some(batch) if batch.header().is_control() => at = batch.header().base_offset.max(low),
            _ => return Ok(at),
        }
    }
    Err(format!("more than {MAX_MARKERS} control batches lie at the end of the standby's log"))
}

/// The batch that holds `offset`; `None` where there is none any more.
pub(super) async fn batch_at(cluster: &Cluster, tp: &TopicPartition, offset: i64) -> Result<Option<Batch>, String> {
    let reaching = |records| {
        let first = Batches::new(records).find(|b| b.as_ref().map_or(true, |b| b.header().next_offset() > offset));
        first.transpose().map_err(|e| e.to_string())
    };
    // Together with other partitions, which are opened at the same time. Where that does not show it, it is asked for alone.
    if let Ok(records) = cluster.peek(tp, offset).await
        && let Ok(Some(batch)) = reaching(records)
    {
        return Ok(Some(batch));
    }
    let options = FetchOptions {
        max_wait: Duration::from_millis(100),
        max_bytes: 1,
        isolation: Isolation::ReadUncommitted,
        ..Default::default()
    };
    let from = FetchFrom { tp: tp.clone(), offset, max_bytes: 1, current_leader_epoch: None };
    let mut fetched = cluster.fetch(&[from], &options).await.map_err(|e| e.to_string())?;
    let Some(part) = fetched.remove(tp) else { return Ok(None) };
    if part.error != 0 {
        return Err(format!("reading offset {offset} failed with Kafka error {}", part.error));
    }
    reaching(part.records)
}

/// A switchover left nothing behind: records there are those of somebody who still writes to the retired cluster.
pub async fn refuse_writes_after_switchover(
    direction: &Direction,
    tp: &TopicPartition,
    from: i64,
    end: i64,
) -> Result<(), OpenError> {
    let mut reader = Reader::new(direction.standby.clone(), tp.clone(), from, end);
    let mut tally = Tally::default();
    while let Some(batches) = reader.chunk().await.map_err(|e| OpenError::NotYet(e.to_string()))? {
        for (class, batch) in batches {
            tally.add(class, &batch, from).map_err(|e| OpenError::Diverged(e.to_string()))?;
        }
    }
    if !tally.any_records() {
        return Ok(());
    }
    Err(OpenError::Diverged(format!(
        "somebody wrote {} records ({} bytes) to the retired cluster {} after the switchover, at its offsets {from} to {}; \
         `kafka-standby divergence` shows them",
        tally.records + tally.aborted + tally.undecided,
        tally.bytes,
        direction.standby_name(),
        end - 1,
    )))
}

/// Says where somebody else's records lie, if a stream knew where its copy ended.
pub fn name_the_foreign(error: OpenError, standby: &str, known: i64, end: i64) -> OpenError {
    match error {
        OpenError::Diverged(reason) if known >= 0 && known < end => OpenError::Diverged(format!(
            "somebody else wrote {} records to the copy on {standby}, at its offsets {known} to {}: {reason}",
            end - known,
            end - 1
        )),
        other => other,
    }
}
