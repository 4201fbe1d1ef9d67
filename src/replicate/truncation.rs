//! The active cluster's log was cut off below what was read of it: a replica that lacked the end became the leader (an unclean
//! leader election), or a disk came back older than it was.
//!
//! Found by leader epochs as soon as the leader is another one, or by content when a stream is opened. New records get names
//! above all that were seen; what the standby has of the lost ones is masked when the stream is opened (`open`).

use std::sync::Arc;

use super::Direction;
use super::open::Copied;
use crate::admin::metrics;
use crate::catalog::Partition;
use crate::divergence::Reader;
use crate::model::TopicPartition;
use crate::offsets::OffsetMap;
use crate::state::StateError;
use crate::stream::{Change, Look, cluster_producer_id, is_client_id, stream_producer_id};
use crate::upstream::{EpochEnd, LogEnd};

/// Epochs looked back when it is not known which one the copy is from.
const MAX_EPOCHS: usize = 64;

/// Looks at the ends of logs; where the leader is another one it is asked what it knows of what was seen. What cannot be asked is
/// asked at the next look.
pub async fn look(direction: &Direction, ends: &[(&Arc<Partition>, LogEnd)]) {
    let rose = |&(partition, end): &(_, LogEnd)| {
        let partition: &Arc<Partition> = partition;
        match partition.lineage.lock().look(end.leader_epoch, end.offset) {
            Look::Rose { after } => Some((partition.clone(), end, after)),
            Look::Known => None,
        }
    };
    let rose: Vec<_> = ends.iter().filter_map(rose).collect();
    if rose.is_empty() {
        return;
    }
    let asked: Vec<_> = rose.iter().map(|(partition, _, after)| (partition.tp.clone(), *after)).collect();
    let answers = match direction.active.offset_for_leader_epoch(&asked).await {
        Ok(answers) => answers,
        Err(error) => return tracing::debug!(%error, "new leaders could not be asked"),
    };
    for (partition, end, after) in rose {
        if let Some(Ok(known)) = answers.get(&partition.tp)
            && known.end_offset >= 0
        {
            judge(direction, &partition, end, after, *known).await;
        }
    }
}

/// As [`look`], for one partition: an error says why it could not be looked at.
pub async fn look_at(direction: &Direction, partition: &Arc<Partition>) -> Result<(), String> {
    let end = direction.active.log_end_of(&partition.tp).await.map_err(|e| e.to_string())?;
    look(direction, &[(partition, end)]).await;
    match partition.lineage.lock().look(end.leader_epoch, end.offset) {
        Look::Known => Ok(()),
        Look::Rose { .. } => Err("the new leader does not say what it knows".into()),
    }
}

async fn judge(direction: &Direction, partition: &Partition, end: LogEnd, after: i32, known: EpochEnd) {
    let _check = partition.log_check.lock().await;
    let judged = partition.offsets.read().map(direction.from).clone();
    let change = {
        let mut lineage = partition.lineage.lock();
        // Somebody else may have been faster.
        if lineage.look(end.leader_epoch, end.offset) != (Look::Rose { after }) {
            return;
        }
        lineage.change(end.leader_epoch, end.offset, (known.leader_epoch, known.end_offset))
    };
    match change {
        Change::Truncated { at } => drop(truncate(direction, partition, at, 0, &judged).await),
        Change::Whole { from } => partition.doubt_from(from),
    }
}

/// Gives what comes next in the active cluster's log names of its own, and stores that. `log_check` is held by the caller, so
/// that no stream is opened before it is stored. `false`: the map was not `judged` any more.
async fn truncate(direction: &Direction, partition: &Partition, at: i64, copied: i64, judged: &OffsetMap) -> bool {
    let (from, tp) = (direction.from, &partition.tp);
    let Some((lost, next)) = partition.truncate(from, at, copied, judged) else { return false };
    metrics::log_truncations().increment(1);
    tracing::error!(
        %tp, offset = at, logical_from = lost, logical_to = next,
        "the active cluster has lost the end of its log (an unclean leader election?): these logical offsets are gone there"
    );
    let told = |error: &StateError| tracing::warn!(%tp, %error, "the end of the log could not be stored");
    direction.store_changes(partition, from, told).await;
    true
}

/// A copy that does not agree with the active cluster's log: is that because the log was cut off? `true`: it was, which is dealt
/// with; the stream is to be opened again.
pub async fn explains(direction: &Direction, partition: &Partition, copied: &Copied<'_>) -> Result<bool, String> {
    let Some(at) = find(direction, &partition.tp, copied).await? else { return Ok(false) };
    let from = copied.map.position_in(copied.source.position_out(at));
    if !is_own(direction, &partition.tp, from, copied.log.end).await? {
        return Ok(false);
    }
    let _check = partition.log_check.lock().await;
    truncate(direction, partition, at, copied.map.logical_end(), copied.source).await;
    Ok(true)
}

/// The highest place at which an epoch of the log begins and in front of which both logs hold the same record.
async fn find(direction: &Direction, tp: &TopicPartition, copied: &Copied<'_>) -> Result<Option<i64>, String> {
    let mut epoch = copied.source_epoch;
    for _ in 0..MAX_EPOCHS {
        let Some(EpochEnd { leader_epoch, end_offset: start }) = epoch_before(direction, tp, epoch).await? else {
            return Ok(None);
        };
        let in_copy = copied.map.position_in(copied.source.position_out(start));
        if start <= copied.source_log.start || in_copy <= copied.log.start {
            // Nothing that both have lies below.
            return Ok((start <= copied.source_log.start).then_some(start));
        }
        if in_copy < copied.map.cluster_end() {
            match copied.agrees(direction, tp, in_copy - 1).await? {
                Some(true) => return Ok(Some(start)),
                Some(false) => {}
                None => return Ok(None),
            }
        }
        epoch = leader_epoch;
    }
    Ok(None)
}

/// The newest epoch in the log before `epoch`, and where it ended; `None`: there is none.
pub async fn epoch_before(direction: &Direction, tp: &TopicPartition, epoch: i32) -> Result<Option<EpochEnd>, String> {
    if epoch <= 0 {
        return Ok(None);
    }
    let end = direction.active.epoch_end_of(tp, epoch - 1).await.map_err(|e| e.to_string())?;
    Ok(Some(end).filter(|end| end.end_offset >= 0))
}

/// Did streams of this generation put everything there that the standby has from `from` on? Somebody else's records have other
/// producer ids, and so have those that were written to the standby as the active cluster of another generation.
async fn is_own(direction: &Direction, tp: &TopicPartition, from: i64, end: i64) -> Result<bool, String> {
    let stream = stream_producer_id(&tp.topic, tp.partition, direction.to());
    let own = |id: i64| id == stream || (is_client_id(id) && cluster_producer_id(id, direction.generation) == id);
    let mut reader = Reader::new(direction.standby.clone(), tp.clone(), from, end);
    while let Some(batches) = reader.chunk().await.map_err(|e| e.to_string())? {
        if !batches.iter().all(|(_, batch)| own(batch.header().producer_id)) {
            return Ok(false);
        }
    }
    Ok(true)
}
