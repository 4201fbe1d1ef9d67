//! Reads one range of a cluster's log, batch by batch and judged, in pieces of bounded size.

use std::time::Duration;

use super::Class;
use crate::model::TopicPartition;
use crate::records::{AbortedFilter, Batch, BatchError, Batches, RecordError, Verdict};
use crate::upstream::{Cluster, FetchFrom, FetchOptions, FetchedPartition, Isolation, OffsetSpec};

/// Bytes fetched at a time.
const FETCH_BYTES: i32 = 4 << 20;
/// Attempts at one place, and the pause between them: a leader may be moving.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(200);
/// Kafka error code (class Errors).
const OFFSET_OUT_OF_RANGE: i16 = 1;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{tp} of cluster {cluster} cannot be read at offset {offset}: {reason}")]
    Unreadable { cluster: String, tp: TopicPartition, offset: i64, reason: String },
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A walk over the offsets from `next` to `end` (exclusive) of one cluster's partition.
pub struct Reader {
    cluster: Cluster,
    tp: TopicPartition,
    next: i64,
    end: i64,
    /// The last stable offset has been reached before the end: a transaction is open, what follows is undecided.
    undecided: bool,
    /// Offsets (of the first record, and behind the last) of what is passed over.
    left_out: Vec<(i64, i64)>,
}

impl Reader {
    pub fn new(cluster: Cluster, tp: TopicPartition, from: i64, end: i64) -> Self {
        Reader { cluster, tp, next: from, end, undecided: false, left_out: Vec::new() }
    }

    /// Leaves out what has crossed after all (`offsets::PartitionOffsets::completed`).
    pub fn without(self, left_out: Vec<(i64, i64)>) -> Self {
        Reader { left_out, ..self }
    }

    /// The batches that follow; `None` at the end. What retention has taken is passed over.
    pub async fn chunk(&mut self) -> Result<Option<Vec<(Class, Batch)>>, ReadError> {
        let mut failed = 0;
        while self.next < self.end {
            let reason = match self.fetch().await {
                Ok(part) if part.error == 0 => {
                    let (stable, before) = (part.last_stable_offset, self.next);
                    let found = self.judged(part)?;
                    if !found.is_empty() {
                        return Ok(Some(found));
                    }
                    if self.next > before {
                        continue;
                    }
                    if !self.undecided && stable <= self.next {
                        self.undecided = true;
                        continue;
                    }
                    "nothing came".to_owned()
                }
                Ok(part) if part.error == OFFSET_OUT_OF_RANGE => match self.log_start().await {
                    Ok(start) if start > self.next => {
                        self.next = start;
                        continue;
                    }
                    Ok(_) => "the log ends before it".to_owned(),
                    Err(reason) => reason,
                },
                Ok(part) => format!("Kafka error {}", part.error),
                Err(reason) => reason,
            };
            failed += 1;
            if failed >= ATTEMPTS {
                let (cluster, tp) = (self.cluster.name().to_string(), self.tp.clone());
                return Err(ReadError::Unreadable { cluster, tp, offset: self.next, reason });
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(None)
    }

    async fn fetch(&self) -> Result<FetchedPartition, String> {
        let isolation = if self.undecided { Isolation::ReadUncommitted } else { Isolation::ReadCommitted };
        let options =
            FetchOptions { max_wait: Duration::ZERO, max_bytes: FETCH_BYTES, isolation, ..FetchOptions::default() };
        let tp = self.tp.clone();
        let from = FetchFrom { tp, offset: self.next, max_bytes: FETCH_BYTES, current_leader_epoch: None };
        let mut fetched = self.cluster.fetch(&[from], &options).await.map_err(|e| e.to_string())?;
        fetched.remove(&self.tp).ok_or_else(|| "no answer for the partition".to_owned())
    }

    /// The whole batches of the reply that belong to the range; goes on behind them.
    fn judged(&mut self, part: FetchedPartition) -> Result<Vec<(Class, Batch)>, ReadError> {
        let mut filter = AbortedFilter::new(part.aborted);
        let mut found = Vec::new();
        for batch in Batches::new(part.records) {
            let batch = batch?;
            let verdict = filter.judge(&batch)?;
            let (base, next) = (batch.header().base_offset, batch.header().next_offset());
            if next <= self.next {
                continue;
            }
            if base >= self.end {
                self.next = self.end;
                break;
            }
            self.next = next;
            if self.left_out.iter().any(|&(from, to)| from <= base && next <= to) {
                continue;
            }
            let class = match verdict {
                Verdict::Control => Class::Control,
                Verdict::Aborted => Class::Aborted,
                Verdict::Data if self.undecided && batch.header().is_transactional() => Class::Undecided,
                Verdict::Data => Class::Data,
            };
            found.push((class, batch));
        }
        Ok(found)
    }

    async fn log_start(&self) -> Result<i64, String> {
        let tps = std::slice::from_ref(&self.tp);
        let mut found = self.cluster.list_offsets(tps, OffsetSpec::Earliest).await.map_err(|e| e.to_string())?;
        match found.remove(&self.tp) {
            Some(Ok(start)) => Ok(start),
            Some(Err(code)) => Err(format!("Kafka error {code}")),
            None => Err("no answer for the partition".to_owned()),
        }
    }
}
