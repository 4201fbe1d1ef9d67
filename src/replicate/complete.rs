//! What is left of a transaction when the active cluster is lost in the midst of its commit: other partitions have crossed,
//! this one has not. Its batches are appended behind the copy when the streams have stopped, before the cutover's commit.

use bytes::Bytes;

use super::Direction;
use super::open::stamp;
use super::partition::store_map;
use crate::catalog::Partition;
use crate::offsets::Run;
use crate::records::Batch;
use crate::stream::{Append, Cursor, Plan, StampState, apply_breaks, plan_placed};
use crate::transactions::Batches;
use crate::upstream::UpstreamError;

/// What is still to be written of one partition.
#[derive(Debug, Default)]
pub struct Completion {
    batches: Batches,
    /// Asked for once: after an append whose fate is not known the same one must be sent again.
    stamp: Option<StampState>,
}

/// One batch that is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The lost cluster's offset of its first record, and behind its last.
    pub place: (i64, i64),
    pub logical_end: i64,
    /// Log end offset of the standby.
    pub standby_end: i64,
}

/// Why a batch is not there.
#[derive(Debug, thiserror::Error)]
pub enum CompleteError {
    /// It may or may not be: to be tried again.
    #[error("{0}")]
    NotYet(String),
    /// It never will be.
    #[error("{0}")]
    Refused(String),
}

impl Completion {
    pub fn add(&mut self, base: i64, next: i64, batch: Bytes) {
        self.batches.insert(base, (next, batch));
    }

    /// Writes the next batch, behind the standby's log end; `None`: all are there.
    ///
    /// # Errors
    /// Refused: it is left out from now on.
    pub async fn step(
        &mut self,
        direction: &Direction,
        partition: &Partition,
        standby_end: i64,
    ) -> Result<Option<Completed>, CompleteError> {
        let Some((&base, (next, bytes))) = self.batches.first_key_value() else { return Ok(None) };
        let place = (base, *next);
        let planned = plan_one(direction, partition, standby_end, base, bytes.clone());
        let step = match planned {
            Ok((append, breaks)) => {
                if !breaks.is_empty() {
                    store_map(direction, partition, |map| apply_breaks(map, &breaks)).await;
                }
                self.append(direction, partition, &append).await.map(|landed| Completed {
                    place,
                    logical_end: append.logical + append.count,
                    standby_end: landed + append.count,
                })
            }
            Err(refused) => Err(refused),
        };
        if !matches!(step, Err(CompleteError::NotYet(_))) {
            self.batches.remove(&base);
        }
        step.map(Some)
    }

    /// Gives the standby's offset of the first record.
    async fn append(
        &mut self,
        direction: &Direction,
        partition: &Partition,
        append: &Append,
    ) -> Result<i64, CompleteError> {
        let tp = &partition.tp;
        let mut state = match self.stamp {
            Some(state) => state,
            None => stamp(direction, tp).await.map_err(|e| CompleteError::NotYet(e.to_string()))?,
        };
        self.stamp = Some(state);
        let produced = direction.standby.produce_one(tp, append.split(&state, true).join()).await;
        let produced = produced.map_err(|error| judge(&error))?;
        state.advance(append.count);
        self.stamp = Some(state);
        let (expected, base) = (append.standby_base, produced.base_offset);
        if base == expected {
            return Ok(base);
        }
        // Somebody else wrote to the copy in this moment: what lies in front of the batch has no name.
        store_map(direction, partition, |map| {
            map.close_at_cluster(expected);
            if base > expected {
                map.append(append.logical, base, Run::OPEN);
            }
        })
        .await;
        match base > expected {
            true => Ok(base),
            false => Err(CompleteError::Refused(format!("the standby has it at {base} instead of {expected}"))),
        }
    }
}

/// What a broker refuses for good will not be taken later either.
fn judge(error: &UpstreamError) -> CompleteError {
    match error.kafka_code() {
        Some(_) if !error.is_retriable() => CompleteError::Refused(error.to_string()),
        _ => CompleteError::NotYet(error.to_string()),
    }
}

/// Where one batch lands, and the new run of the standby's map if it needs one.
fn plan_one(
    direction: &Direction,
    partition: &Partition,
    standby_end: i64,
    base: i64,
    bytes: Bytes,
) -> Result<(Append, Vec<(i64, i64)>), CompleteError> {
    let refused = |reason: String| CompleteError::Refused(reason);
    let batch = Batch::new(bytes).map_err(|e| refused(e.to_string()))?;
    let plan = {
        let offsets = partition.offsets.read();
        let (from, to) = (offsets.map(direction.from), offsets.map(direction.to()));
        plan_placed(vec![(base, batch)], Cursor { active_next: base, standby_end }, from, to)
    };
    let Plan { mut appends, breaks, .. } = plan.map_err(|e| refused(e.to_string()))?;
    let append = appends.pop().ok_or_else(|| refused(format!("offset {base} has no logical name")))?;
    Ok((append, breaks))
}
