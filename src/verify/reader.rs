//! Reads one partition's log of one cluster in pieces, with retries and deadlines.

use std::ops::Range;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::chunk;
use crate::model::TopicPartition;
use crate::records::Batch;
use crate::upstream::{
    Cluster, FetchFrom, FetchOptions, FetchedPartition, Isolation, KafkaError, Lane, OffsetSpec, code,
};

/// Bytes asked for at a time. With two sides of a few partitions at a time some MiB are in memory.
const FETCH_BYTES: i32 = 1 << 20;
/// A connection of its own to each broker: verifying must not stand in front of streams.
const LANE: Lane = Lane::Own(7);
/// How long a log may give nothing, by errors or by silence, before the partition is given up: longer than an election.
const STALL_LIMIT: Duration = Duration::from_secs(15);
/// Pause before asking again, growing to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// A piece of the log.
pub(super) struct Piece {
    /// Committed data.
    pub batches: Vec<Batch>,
    /// The log's start as the leader said with this piece.
    pub log_start: i64,
}

/// A place in one cluster's log of one partition.
pub(super) struct Reader {
    cluster: Cluster,
    tp: TopicPartition,
    next: i64,
    end: i64,
    deadline: Instant,
}

impl Reader {
    /// Reads the offsets in `range`. Every call fails at `deadline`.
    pub fn new(cluster: Cluster, tp: TopicPartition, range: Range<i64>, deadline: Instant) -> Reader {
        Reader { cluster, tp, next: range.start, end: range.end, deadline }
    }

    /// The next piece, `None` at the end. An error says in a sentence why the log cannot be read.
    pub async fn read(&mut self) -> Result<Option<Piece>, String> {
        let deadline = self.deadline;
        timeout_at(deadline, self.read_on()).await.unwrap_or_else(|_| Err(out_of_time()))
    }

    /// Goes on to another end.
    pub fn extend(&mut self, end: i64) {
        self.end = self.end.max(end);
    }

    async fn read_on(&mut self) -> Result<Option<Piece>, String> {
        let since = Instant::now();
        let mut pause = PAUSE.0;
        loop {
            if self.next >= self.end {
                return Ok(None);
            }
            let why = match self.fetch().await? {
                Ok(part) if part.error == code::NONE => {
                    let (log_start, stable) = (part.log_start_offset, part.last_stable_offset);
                    let read = chunk::read(part.records, part.aborted, self.next, self.end);
                    let read = read.map_err(|e| format!("{}: at offset {}: {e}", self.cluster.name(), self.next))?;
                    if read.next > self.next {
                        self.next = read.next;
                        return Ok(Some(Piece { batches: read.batches, log_start }));
                    }
                    format!("nothing to read at offset {}; its last stable offset is {stable}", self.next)
                }
                Ok(part) if part.error == code::OFFSET_OUT_OF_RANGE => match self.skip_deleted().await? {
                    Some(piece) => return Ok(Some(piece)),
                    None => format!("its log does not reach offset {}", self.next),
                },
                Ok(part) => KafkaError::new(part.error, None).to_string(),
                Err(why) => why,
            };
            if since.elapsed() > STALL_LIMIT {
                return Err(format!("{}: {why}", self.cluster.name()));
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// One attempt. The outer error ends the reading, the inner one may pass.
    async fn fetch(&self) -> Result<Result<FetchedPartition, String>, String> {
        let options = FetchOptions {
            max_wait: Duration::ZERO,
            max_bytes: FETCH_BYTES,
            isolation: Isolation::ReadCommitted,
            lane: LANE,
            ..Default::default()
        };
        let from =
            FetchFrom { tp: self.tp.clone(), offset: self.next, max_bytes: FETCH_BYTES, current_leader_epoch: None };
        match self.cluster.fetch(&[from], &options).await {
            Ok(mut fetched) => match fetched.remove(&self.tp) {
                Some(part) if is_final(part.error) => {
                    Err(format!("{}: {}", self.cluster.name(), KafkaError::new(part.error, None)))
                }
                part => Ok(part.ok_or_else(|| "no answer for the partition".to_owned())),
            },
            Err(error) if error.is_retriable() => Ok(Err(error.to_string())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The offset wanted is outside the log: below its start if retention was faster, which leaves nothing to compare there.
    async fn skip_deleted(&mut self) -> Result<Option<Piece>, String> {
        let log_start = offset(&self.cluster, &self.tp, OffsetSpec::Earliest).await?;
        if log_start <= self.next {
            return Ok(None);
        }
        self.next = log_start;
        Ok(Some(Piece { batches: Vec::new(), log_start }))
    }
}

/// Whether a partition's error code will not pass by waiting.
fn is_final(error: i16) -> bool {
    !matches!(error, code::NONE | code::OFFSET_OUT_OF_RANGE) && !KafkaError::new(error, None).is_retriable()
}

pub(super) fn out_of_time() -> String {
    format!("not compared within the {} s of a whole run", super::TIME_LIMIT.as_secs())
}

/// One end of a partition's log.
pub(super) async fn offset(cluster: &Cluster, tp: &TopicPartition, spec: OffsetSpec) -> Result<i64, String> {
    let mut found = cluster.list_offsets(std::slice::from_ref(tp), spec).await.map_err(|e| e.to_string())?;
    match found.remove(tp) {
        Some(Ok(offset)) => Ok(offset),
        Some(Err(error)) => Err(format!("{}: {}", cluster.name(), KafkaError::new(error, None))),
        None => Err(format!("{}: no answer for the partition", cluster.name())),
    }
}
