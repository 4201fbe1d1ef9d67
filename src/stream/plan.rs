//! From batches of the active cluster's log to appends on the standby: which records cross, at which standby offset
//! each must land, and where the offset map breaks (which is stored before the append that breaks it).

use bytes::Bytes;

use super::{Seen, is_client_id};
use crate::offsets::{OffsetMap, Run};
use crate::records::{
    AbortedFilter, Batch, BatchError, BatchHeader, DenseError, Fix, Piece, RecordError, Split, Stamp as Producer,
    Verdict, restamp, restamped, sent, split_dense,
};

/// The producer identity and sequence that a stream stamps with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StampState {
    pub producer_id: i64,
    pub epoch: i16,
    pub next_sequence: i32,
}

impl StampState {
    fn producer(&self) -> Producer {
        Producer { producer_id: self.producer_id, producer_epoch: self.epoch, base_sequence: self.next_sequence }
    }

    /// Moves on behind a batch of `count` records. Sequences wrap from int32 max to 0 (Kafka class DefaultRecordBatch).
    pub fn advance(&mut self, count: i64) {
        self.next_sequence = ((i64::from(self.next_sequence) + count) % (1 << 31)) as i32;
    }
}

/// Whose producer identity a batch carries to the standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// The client's, out of the proxy's namespace: bytes and CRC stay.
    Client,
    /// The stream's.
    Stream,
}

/// One batch to be appended to the standby.
#[derive(Clone, Debug)]
pub struct Append {
    /// The batch, dense and in create time; stamped when it is sent.
    pub batch: Batch,
    pub stamp: Stamp,
    pub logical: i64,
    pub count: i64,
    /// Where it must land.
    pub standby_base: i64,
    /// Offset of the active cluster behind it, and behind what is skipped after it.
    pub active_next: i64,
    /// What a retry of it would look like, for client ids.
    pub seen: Option<(i64, Seen)>,
}

impl Append {
    /// What to send. A batch under the client's id goes as it is; `forced` stamps that one as well (the standby does not know
    /// the sequence before it: compaction or retention took the batches in between).
    pub fn split(&self, state: &StampState, forced: bool) -> Split {
        match self.stamp {
            Stamp::Client if !forced => sent(&self.batch),
            _ => restamped(&self.batch, state.producer()),
        }
    }
}

/// What to do with one chunk of the active cluster's log.
#[derive(Debug, Default)]
pub struct Plan {
    pub appends: Vec<Append>,
    /// Offset of the active cluster behind the chunk.
    pub active_next: i64,
    /// Where new runs of the standby's map begin (logical, standby offset): stored before the first append.
    pub breaks: Vec<(i64, i64)>,
    /// Producer id and offset of each batch with records, those of aborted transactions too; empty for what was teed.
    pub fetched: Vec<(i64, i64)>,
    /// Offsets (from, to) of which the active cluster's log has nothing any more; empty for what was teed.
    pub gaps: Vec<(i64, i64)>,
}

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("the active cluster's log holds a batch that cannot be read: {0}")]
    Batch(#[from] BatchError),
    #[error("a control batch of the active cluster's log cannot be read: {0}")]
    Control(#[from] RecordError),
    #[error("a batch of the active cluster's log cannot be made dense: {0}")]
    Dense(#[from] DenseError),
    #[error(
        "the record at logical offset {logical} would land at standby offset {standby}, below what the offset map holds"
    )]
    Backwards { logical: i64, standby: i64 },
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Next offset of the active cluster to copy.
    pub active_next: i64,
    /// Log end offset of the standby.
    pub standby_end: i64,
}

/// Plans the appends for `batches`, which are consecutive in the active cluster's log, from `cursor` on.
/// `aborted` are the transactions that the fetch reply names as aborted.
pub fn plan(
    batches: impl Iterator<Item = Result<Batch, BatchError>>,
    aborted: Vec<(i64, i64)>,
    cursor: Cursor,
    active: &OffsetMap,
    standby: &OffsetMap,
) -> Result<Plan, PlanError> {
    let mut filter = AbortedFilter::new(aborted);
    let mut plan = Plan { appends: Vec::new(), active_next: cursor.active_next, ..Default::default() };
    let mut last = standby.runs().last().copied();
    let mut end = cursor.standby_end;
    for batch in batches {
        let batch = batch?;
        let class = filter.judge(&batch)?;
        if batch.header().next_offset() <= cursor.active_next {
            continue;
        }
        let mut at = plan.active_next.max(batch.header().base_offset);
        gap(&mut plan.gaps, plan.active_next, at);
        if class != Verdict::Control {
            plan.fetched.push((batch.header().producer_id, batch.header().base_offset));
        }
        if class == Verdict::Data {
            for append in pieces(&batch, cursor.active_next, active)? {
                let first = active.position_in(append.logical);
                gap(&mut plan.gaps, at, first);
                at = first + append.count;
                let append = Append { standby_base: end, ..append };
                if !goes_on(last, append.logical, end)? {
                    plan.breaks.push((append.logical, end));
                    last = Some(Run { logical: append.logical, cluster: end, len: Run::OPEN });
                }
                end += append.count;
                plan.appends.push(append);
            }
            gap(&mut plan.gaps, at, batch.header().next_offset());
        }
        plan.active_next = batch.header().next_offset();
        if let Some(last) = plan.appends.last_mut() {
            last.active_next = plan.active_next;
        }
    }
    Ok(plan)
}

fn gap(gaps: &mut Vec<(i64, i64)>, from: i64, to: i64) {
    match gaps.last_mut() {
        _ if from >= to => {}
        Some(last) if last.1 == from => last.1 = to,
        _ => gaps.push((from, to)),
    }
}

/// Does the open run `last` of the standby's map hold the record `logical` at offset `standby` already? A run that a
/// cutover closed holds nothing more, however well the next record would follow.
fn goes_on(last: Option<Run>, logical: i64, standby: i64) -> Result<bool, PlanError> {
    // A log that ends in front of its last run was cut or is another one: that run is gone.
    let Some(run) = last.filter(|run| run.cluster <= standby) else { return Ok(false) };
    let reached = run.logical + (standby - run.cluster).min(run.len);
    if logical < reached {
        return Err(PlanError::Backwards { logical, standby });
    }
    Ok(run.len == Run::OPEN && logical == reached)
}

/// Puts the breaks of a plan into the standby's map. The last run of a standby's map is open: it holds as far as the
/// standby's log goes.
pub fn apply_breaks(map: &mut OffsetMap, breaks: &[(i64, i64)]) {
    for &(logical, standby) in breaks {
        map.close_at_cluster(standby);
        map.append(logical, standby, Run::OPEN);
    }
}

/// Plans batches that the tee holds: as clients sent them, stored by the active cluster one behind the other from
/// `cursor.active_next` on.
pub fn plan_teed(
    batches: Vec<Bytes>,
    cursor: Cursor,
    active: &OffsetMap,
    standby: &OffsetMap,
) -> Result<Plan, PlanError> {
    let mut next = cursor.active_next;
    let mut placed = Vec::with_capacity(batches.len());
    for batch in batches {
        let batch = Batch::new(batch)?;
        let base = next;
        next += i64::from(batch.header().count);
        placed.push((base, batch));
    }
    plan_placed(placed, cursor, active, standby)
}

/// Plans batches as clients sent them, each with the offset at which the active cluster stored it, rising; what lies between
/// them does not cross.
pub fn plan_placed(
    batches: Vec<(i64, Batch)>,
    cursor: Cursor,
    active: &OffsetMap,
    standby: &OffsetMap,
) -> Result<Plan, PlanError> {
    let mut plan = Plan { appends: Vec::new(), active_next: cursor.active_next, ..Default::default() };
    let mut last = standby.runs().last().copied();
    let mut end = cursor.standby_end;
    for (base, batch) in batches {
        plan.active_next = base + i64::from(batch.header().count);
        let Some(logical) = active.to_logical(base) else { continue };
        let append = Append { standby_base: end, active_next: plan.active_next, ..whole(batch, logical) };
        if !goes_on(last, logical, end)? {
            plan.breaks.push((logical, end));
            last = Some(Run { logical, cluster: end, len: Run::OPEN });
        }
        end += append.count;
        plan.appends.push(append);
    }
    Ok(plan)
}

/// A batch that crosses as it is.
fn whole(batch: Batch, logical: i64) -> Append {
    let header = batch.header();
    let client = is_client_id(header.producer_id) && !header.is_transactional();
    let count = i64::from(header.count);
    Append {
        stamp: if client { Stamp::Client } else { Stamp::Stream },
        logical,
        count,
        standby_base: 0,
        active_next: header.next_offset(),
        seen: client.then(|| (header.producer_id, seen(header, logical))),
        batch,
    }
}

/// How a retry of a stored batch is known.
pub fn seen(header: &BatchHeader, logical: i64) -> Seen {
    Seen {
        epoch: header.producer_epoch,
        first_sequence: header.base_sequence,
        last_sequence: header.last_sequence(),
        logical,
        logical_end: logical + i64::from(header.count),
    }
}

/// One source batch as dense appends (standby offsets are filled in by the caller), records below `from` left out.
fn pieces(batch: &Batch, from: i64, active: &OffsetMap) -> Result<Vec<Append>, PlanError> {
    let header = batch.header();
    if header.is_dense() && !header.log_append_time() && header.base_offset >= from {
        let logical = active.to_logical(header.base_offset);
        return Ok(logical.map(|logical| whole(batch.clone(), logical)).into_iter().collect());
    }
    let append = |p: Piece| -> Result<Option<Append>, PlanError> {
        let Some(logical) = active.to_logical(p.first_offset) else { return Ok(None) };
        let piece = Batch::new(p.bytes)?;
        let clients = is_client_id(header.producer_id) && !header.is_transactional();
        if clients && header.is_dense() && p.count == header.count {
            // Only times were written out: the batch stays its client's, whose next one the standby must expect when it
            // has become active.
            let own = Batch::new(restamp(&piece, header.stamp()))?;
            return Ok(Some(Append { active_next: header.next_offset(), ..whole(own, logical) }));
        }
        Ok(Some(Append {
            batch: piece,
            stamp: Stamp::Stream,
            logical,
            count: i64::from(p.count),
            standby_base: 0,
            active_next: p.first_offset + i64::from(p.count),
            seen: None,
        }))
    };
    let pieces = split_dense(batch, Fix::MakeExplicit, from)?;
    pieces.into_iter().map(append).filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests;
