//! Opening a stream: where the standby's log stands, whether it is the copy it should be, where the copy goes on.
//!
//! The offset map is stored before any append that changes it, so the standby's log end alone says what is there: the map
//! up to that end is exact, whoever died when.

mod compare;
mod tail;

pub use compare::Copied;

use super::{Direction, truncation};
use crate::catalog::Partition;
use crate::model::TopicPartition;
use crate::offsets::{Lost, PartitionOffsets};
use crate::stream::{Cursor, StampState, stream_producer_id};
use crate::upstream::{Cluster, OffsetSpec};

/// Why a stream is not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Try again: something is not there yet or not reachable.
    #[error("{0}")]
    NotYet(String),
    /// The standby's log is not the copy it should be.
    #[error("{0}")]
    Diverged(String),
}

/// An open stream.
pub struct Opened {
    pub cursor: Cursor,
    pub stamp: StampState,
    /// To be stored before anything else: where the copy goes on behind what has no logical name.
    pub begin: Option<Begin>,
}

/// A new run of the standby's map at the end of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Standby offset at which the copy so far ends; up to `at` the log is masked.
    pub ends: i64,
    pub logical: i64,
    pub at: i64,
}

/// Ends of one log.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    pub start: i64,
    pub end: i64,
}

impl Log {
    /// Asked for together, the two are of two moments: records may have been written and deleted in between.
    fn new(start: i64, end: i64) -> Result<Log, String> {
        match start <= end {
            true => Ok(Log { start, end }),
            false => Err(format!("the log moved from end {end} to start {start} while it was looked at")),
        }
    }
}

pub async fn open(direction: &Direction, partition: &Partition) -> Result<Opened, OpenError> {
    let tp = &partition.tp;
    if direction.catalog.topic(&tp.topic).is_some_and(|t| !t.keeps_copies(direction.generation)) {
        return Err(OpenError::NotYet("the standby's topic does not have the settings of a copy yet".into()));
    }
    // What is being found out about the active cluster's log is stored before anything is copied.
    drop(partition.log_check.lock().await);
    direction.settle().await.map_err(|e| OpenError::NotYet(format!("standby: {e}")))?;
    // Asked together, since sync acknowledgements wait for this at a cutover; but the sequence before the standby's end: an
    // append of a killed predecessor that lands in between is then in the end and not in the sequence, so that ours is
    // refused; the other way round ours would be accepted, behind a copy of itself.
    let (stamp, active) = tokio::join!(stamp(direction, tp), active_log(direction, tp));
    let stamp = stamp?;
    let (active, epoch) = active.map_err(|e| OpenError::NotYet(format!("active cluster: {e}")))?;
    partition.bypass.lock().begin(active.end);
    // Before anything is copied: a leader that comes later is compared with this one.
    partition.lineage.lock().look(epoch, active.end);
    let (standby, epoch_end) = tokio::join!(log(&direction.standby, tp), log_end(&direction.standby, tp));
    let standby = standby.map_err(|e| OpenError::NotYet(format!("standby: {e}")))?;
    let epoch_end = epoch_end.map_err(OpenError::NotYet)?;
    if epoch_end.is_some_and(|end| end > standby.end) {
        return Err(OpenError::NotYet("the standby's replicas have not agreed on the end of the log yet".into()));
    }
    let offsets = partition.offsets.read().clone();
    let (from, to) = (offsets.map(direction.from), offsets.map(direction.to()));
    let mut begin = None;
    let logical = if to.is_empty() {
        if standby.end > standby.start {
            return Err(OpenError::Diverged(format!(
                "the standby's partition holds records {} to {} that nobody copied there; delete the topic on the standby, \
                 or exclude it from the tee",
                standby.start, standby.end
            )));
        }
        from.position_out(active.start)
    } else if to.cluster_end() == i64::MAX {
        let logs = (standby, active, epoch);
        let continued = continued(direction, partition, &offsets, logs).await?;
        begin = continued.1;
        continued.0
    } else if standby.end < to.cluster_end() {
        // The log ends below what it had: what is missing there is copied again.
        let mut filled = to.clone();
        filled.close_at_cluster(standby.end);
        filled.logical_end()
    } else {
        // Behind a cut that this cluster lost, copying begins at the active cluster's next record (the generation's first, or
        // what was completed of a transaction), at once under a run of its own: from now on what the log holds behind this
        // place is the copy, or somebody else's.
        let ends = to.cluster_end();
        if offsets.retired(direction.to()).is_some_and(|r| r.planned) {
            tail::refuse_writes_after_switchover(direction, tp, ends.max(standby.start), standby.end).await?;
        }
        let logical = from.position_out(from.position_in(to.logical_end()));
        begin = Some(Begin { ends, logical, at: standby.end });
        logical
    };
    let next = from.position_in(logical);
    if next > active.end {
        return Err(OpenError::Diverged(format!(
            "the standby has records up to logical offset {logical}, the active cluster's log ends at {} (offset {})",
            from.position_out(active.end),
            active.end
        )));
    }
    if next < active.start && !to.is_empty() {
        tracing::error!(%tp, from = next, to = active.start, "the active cluster has deleted records before they were copied");
        partition.note_hole(logical, from.position_out(active.start));
    }
    let cursor = Cursor { active_next: next.max(active.start), standby_end: standby.end };
    Ok(Opened { cursor, stamp, begin })
}

/// Where the copy goes on in the run that it was in: the logical offset, and the run to be begun if that one has ended.
async fn continued(
    direction: &Direction,
    partition: &Partition,
    offsets: &PartitionOffsets,
    (standby, active, epoch): (Log, Log, i32),
) -> Result<(i64, Option<Begin>), OpenError> {
    let tp = &partition.tp;
    let (source, copy) = (offsets.map(direction.from), offsets.map(direction.to()));
    // Markers of transactions that were open when this cluster was retired may come behind the copy at any time.
    let run = copy.runs().last().map_or(0, |run| run.cluster);
    // Those in front of the place where the last cutover left it are the clients' own, though the copy may go on in their run.
    let left = offsets.retired(direction.to()).map_or(0, |retired| retired.from);
    let low = standby.start.max(run).max(left);
    let ends = tail::records_end(&direction.standby, tp, low, standby.end).await.map_err(OpenError::NotYet)?;
    let lost = offsets.lost(direction.from, ends);
    if let Some(Lost { from, logical }) = lost {
        tracing::warn!(%tp, from, to = ends, logical, "what the active cluster has lost is masked on the standby");
    }
    let ends = lost.map_or(ends, |lost| lost.from);
    let mut map = copy.clone();
    map.close_at_cluster(ends);
    let log = Log { start: standby.start, end: ends };
    let copied = Copied { map: &map, log, source, source_log: active, source_epoch: epoch };
    if let Some(reason) = copied.differs(direction, tp).await.map_err(OpenError::NotYet)? {
        let explained = truncation::explains(direction, partition, &copied).await;
        if explained.map_err(OpenError::NotYet)? {
            return Err(OpenError::NotYet("the active cluster has lost the end of its log".into()));
        }
        let known = partition.progress().standby_end;
        return Err(tail::name_the_foreign(OpenError::Diverged(reason), direction.standby_name(), known, ends));
    }
    let logical = lost.map_or(map.logical_end(), |lost| lost.logical);
    let begin = (ends < standby.end).then_some(Begin { ends, logical, at: standby.end });
    Ok((logical, begin))
}

async fn log(cluster: &Cluster, tp: &TopicPartition) -> Result<Log, String> {
    let (start, end) = tokio::join!(offset(cluster, tp, OffsetSpec::Earliest), offset(cluster, tp, OffsetSpec::Latest));
    Log::new(start?, end?)
}

/// The active cluster's log, and its leader's epoch.
async fn active_log(direction: &Direction, tp: &TopicPartition) -> Result<(Log, i32), String> {
    let active = &direction.active;
    let (start, end) = tokio::join!(offset(active, tp, OffsetSpec::Earliest), active.log_end_of(tp));
    let end = end.map_err(|e| e.to_string())?;
    Ok((Log::new(start?, end.offset)?, end.leader_epoch))
}

pub(super) async fn offset(cluster: &Cluster, tp: &TopicPartition, spec: OffsetSpec) -> Result<i64, String> {
    cluster.offset_of(tp, spec).await.map_err(|e| e.to_string())
}

/// The leader's log end: above the high watermark while replicas still fetch. `None` where the leader epoch is not known.
async fn log_end(cluster: &Cluster, tp: &TopicPartition) -> Result<Option<i64>, String> {
    let snapshot = cluster.snapshot().await.map_err(|e| e.to_string())?;
    let Some(epoch) = snapshot.partition(&tp.topic, tp.partition).map(|p| p.leader_epoch).filter(|&e| e >= 0) else {
        return Ok(None);
    };
    let end = cluster.epoch_end_of(tp, epoch).await.map_err(|e| e.to_string())?;
    Ok(Some(end.end_offset).filter(|&e| e >= 0))
}

/// The identity that the stream stamps with: the sequence goes on where the standby knows it to be, so that an append that
/// a killed predecessor had under way and ours are one and the same to the broker.
pub(super) async fn stamp(direction: &Direction, tp: &TopicPartition) -> Result<StampState, OpenError> {
    let producer_id = stream_producer_id(&tp.topic, tp.partition, direction.to());
    let not_yet = |e: String| OpenError::NotYet(format!("standby: {e}"));
    let producers = direction.standby.producers_of(tp).await.map_err(|e| not_yet(e.to_string()))?;
    for producer in producers.iter().filter(|p| p.current_txn_start_offset >= 0) {
        // Below it readers of committed records would stand still for ever, once this cluster is the active one again.
        let ended = direction.standby.end_hanging(tp, producer).await.map_err(|e| not_yet(e.to_string()))?;
        if let Some(committed) = ended {
            let (producer, offset) = (producer.producer_id, producer.current_txn_start_offset);
            tracing::warn!(%tp, producer, offset, committed, "a transaction that its coordinator forgot was ended");
        }
    }
    let mut stamp = StampState { producer_id, epoch: 0, next_sequence: 0 };
    if let Some(own) = producers.iter().find(|p| p.producer_id == producer_id) {
        stamp.epoch = i16::try_from(own.producer_epoch).unwrap_or(0);
        stamp.next_sequence = own.last_sequence.max(0);
        stamp.advance(1);
    }
    Ok(stamp)
}
