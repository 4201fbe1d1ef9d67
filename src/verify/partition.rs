//! Compares one partition: waits for its stream to be in a state that can be judged, reads both logs, compares.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::Verified;
use super::bounds::{Bounds, Ends, Seen, bounds};
use super::compare::{Compare, Outcome};
use super::feed::Side;
use super::missing::MAX_MISSING_KEYS;
use super::reader::{Reader, offset, out_of_time};
use crate::catalog::{Partition, StreamState};
use crate::model::ClusterIx;
use crate::upstream::{Cluster, OffsetSpec};

/// How long a stream may take to account for what the standby already holds (an append whose answer is under way), or to be
/// opened.
const SETTLE_LIMIT: Duration = Duration::from_secs(3);
/// Pause between two looks at a stream.
const SETTLE_PAUSE: Duration = Duration::from_millis(20);

/// The comparison of one partition.
pub(super) struct Task {
    pub active: Cluster,
    pub standby: Cluster,
    pub active_ix: ClusterIx,
    pub compacted: bool,
    /// Cutovers that the partition had been through when the run began.
    pub cuts: usize,
    pub partition: Arc<Partition>,
    pub deadline: Instant,
}

impl Task {
    pub async fn run(self) -> Verified {
        let tp = self.partition.tp.clone();
        let prepared = timeout_at(self.deadline, self.prepare()).await;
        match prepared.unwrap_or_else(|_| Err(out_of_time())) {
            Ok((seen, bounds)) => self.compare(seen, bounds).await,
            Err(reason) => {
                let mut outcome = Outcome::default();
                if let StreamState::Diverged(reason) = self.partition.state() {
                    outcome.differ(0, || diverged(&reason));
                }
                Verified { tp, outcome, skipped: Some(reason) }
            }
        }
    }

    /// Reads the standby's end, the active cluster's, then what the stream says. The order matters: see [`Seen::settled`].
    async fn prepare(&self) -> Result<(Seen, Bounds), String> {
        let tp = &self.partition.tp;
        let ends = Ends {
            standby_start: offset(&self.standby, tp, OffsetSpec::Earliest).await?,
            standby_end: offset(&self.standby, tp, OffsetSpec::Latest).await?,
            active_start: offset(&self.active, tp, OffsetSpec::Earliest).await?,
            active_end: offset(&self.active, tp, OffsetSpec::Latest).await?,
            active_committed: offset(&self.active, tp, OffsetSpec::LatestCommitted).await?,
        };
        let until = Instant::now() + SETTLE_LIMIT;
        let mut seen = self.look()?;
        while !seen.settled(&ends) && Instant::now() < until {
            sleep(SETTLE_PAUSE).await;
            seen = self.look()?;
        }
        let bounds = bounds(&seen, &ends, self.compacted);
        Ok((seen, bounds))
    }

    fn look(&self) -> Result<Seen, String> {
        // Progress before the maps: a map may be ahead of the progress, never behind it.
        let (state, progress) = (self.partition.state(), self.partition.progress());
        let offsets = self.partition.offsets.read();
        if offsets.cuts().len() != self.cuts {
            return Err("a cutover took place meanwhile".into());
        }
        let map = |ix: ClusterIx| offsets.map(ix).clone();
        Ok(Seen { progress, state, active: map(self.active_ix), standby: map(self.active_ix.other()) })
    }

    async fn compare(self, seen: Seen, bounds: Bounds) -> Verified {
        let tp = self.partition.tp.clone();
        let mut active = Reader::new(self.active, tp.clone(), bounds.active.clone(), self.deadline);
        let mut standby = Reader::new(self.standby, tp.clone(), bounds.standby.clone(), self.deadline);
        let mut compare = Compare::new(seen.active, seen.standby, bounds.scope);
        let failed = drive(&mut compare, &mut active, &mut standby, bounds.active_end).await.err();
        let mut outcome = if failed.is_none() { compare.finish() } else { compare.give_up() };
        if let Some(reason) = &bounds.diverged {
            outcome.differ(bounds.scope.end, || diverged(reason));
        }
        let overflow = outcome.overflowed.then(|| {
            format!("more than {MAX_MISSING_KEYS} keys were missing by compaction at a time: not all were followed")
        });
        Verified { tp, outcome, skipped: failed.or(overflow).or(bounds.skipped) }
    }
}

fn diverged(reason: &str) -> String {
    format!("the stream has diverged: {reason}")
}

/// Feeds both logs to the comparison; an error says why it could not be finished.
async fn drive(
    compare: &mut Compare,
    active: &mut Reader,
    standby: &mut Reader,
    active_end: i64,
) -> Result<(), String> {
    while let Some(side) = compare.wants() {
        let reader = match side {
            Side::Active => &mut *active,
            Side::Standby => &mut *standby,
        };
        match reader.read().await? {
            Some(piece) => {
                work(compare, move |compare| {
                    compare.raise_start(side, piece.log_start);
                    compare.push(side, piece.batches);
                })
                .await?;
            }
            None => work(compare, move |compare| compare.end(side)).await?,
        }
    }
    active.extend(active_end);
    while compare.unexplained() {
        let Some(piece) = active.read().await? else { break };
        work(compare, move |compare| compare.explain(piece.batches)).await?;
    }
    Ok(())
}

/// Inflating and comparing a piece takes milliseconds, seconds for a hostile batch: too long for a thread that serves
/// clients.
async fn work(compare: &mut Compare, f: impl FnOnce(&mut Compare) + Send + 'static) -> Result<(), String> {
    let mut own = std::mem::take(compare);
    let done = tokio::task::spawn_blocking(move || {
        f(&mut own);
        own
    });
    *compare = done.await.map_err(|e| format!("the comparison broke off: {e}"))?;
    Ok(())
}
