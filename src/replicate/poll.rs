//! Finds what the tee does not tell: records of writers that bypass the proxy, of `acks=0` and `acks=1`, and what
//! was written while nobody looked. Reads the ends of all partitions and wakes the streams that lag.

use std::sync::Arc;
use std::time::Duration;

use super::partition::now_ms;
use super::{Direction, truncation};
use crate::catalog::Partition;
use crate::config::TeeMode;
use crate::upstream::{Cluster, EndsOf, LogEnd, UpstreamError};

/// How late the stream may learn of a record that bypassed the proxy.
const INTERVAL: Duration = Duration::from_millis(250);

/// How late a stream may learn that somebody else changes its copy.
const STANDBY_INTERVAL: Duration = Duration::from_secs(1);

/// Partitions whose logs' ends are asked for at each look; the questions are kept as long as it is the same ones.
#[derive(Default)]
struct Watched {
    partitions: Vec<Arc<Partition>>,
    asked: EndsOf,
}

impl Watched {
    /// The ends of their logs on a cluster, in the same order.
    async fn ends(
        &mut self,
        cluster: &Cluster,
        partitions: Vec<Arc<Partition>>,
    ) -> Result<Vec<Option<LogEnd>>, UpstreamError> {
        let same = |(a, b): (&Arc<Partition>, &Arc<Partition>)| Arc::ptr_eq(a, b);
        if partitions.len() != self.partitions.len() || !partitions.iter().zip(&self.partitions).all(same) {
            self.asked = EndsOf::new(partitions.iter().map(|p| p.tp.clone()).collect());
            self.partitions = partitions;
        }
        cluster.ends_of(&mut self.asked).await
    }
}

/// Looks at the ends of the copies: a stream with nothing to append would not notice that somebody else writes there, or
/// that the copy is gone.
pub async fn watch_copies(direction: Arc<Direction>) {
    let mut tick = tokio::time::interval(STANDBY_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut watched = Watched::default();
    loop {
        tick.tick().await;
        let mut partitions = direction.catalog.copied();
        partitions.retain(|p| p.progress().standby_end >= 0);
        if partitions.is_empty() {
            continue;
        }
        let before: Vec<i64> = partitions.iter().map(|p| p.progress().standby_end).collect();
        let Ok(ends) = watched.ends(&direction.standby, partitions).await else { continue };
        for ((partition, known), end) in watched.partitions.iter().zip(before).zip(ends) {
            match end.map(|end| end.offset) {
                // Below what was there before it was asked: records are gone.
                Some(end) if end < known => partition.see_standby_end(i64::MAX),
                // An append of the stream may be under way: it compares again when there is none.
                Some(end) if end > partition.progress().standby_end => partition.see_standby_end(end),
                _ => {}
            }
        }
    }
}

pub async fn run(direction: Arc<Direction>) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut watched = Watched::default();
    loop {
        tick.tick().await;
        let partitions = direction.catalog.copied();
        if partitions.is_empty() {
            continue;
        }
        let ends = match watched.ends(&direction.active, partitions).await {
            Ok(ends) => ends,
            Err(error) => {
                tracing::debug!(%error, "the active cluster's ends were not read");
                continue;
            }
        };
        let partitions = &watched.partitions;
        let known = partitions.iter().zip(&ends).filter_map(|(p, end)| Some((p, (*end)?)));
        truncation::look(&direction, &known.collect::<Vec<_>>()).await;
        let back = standby_is_back(&direction, partitions).await;
        let now = now_ms();
        for (partition, end) in partitions.iter().zip(ends) {
            if back && partition.mode() == TeeMode::Sync && !partition.in_sync() {
                partition.kick(0);
            }
            if let Some(end) = end {
                see(&direction, partition, end.offset, now);
            }
        }
    }
}

/// Is the standby there again for partitions that left the in-sync state? Their streams may be level and asleep.
async fn standby_is_back(direction: &Direction, partitions: &[Arc<Partition>]) -> bool {
    let waiting = partitions.iter().any(|p| p.mode() == TeeMode::Sync && !p.in_sync());
    waiting && direction.standby.reachable(INTERVAL).await
}

fn see(direction: &Direction, partition: &Partition, end: i64, now_ms: i64) {
    let progress = partition.progress();
    partition.bypass.lock().settle(progress.replicated, now_ms);
    if progress.active_end < end {
        partition.advance(|p| p.active_end = p.active_end.max(end));
    }
    partition.expose(partition.offsets.read().map(direction.from).position_out(end));
    if progress.replicated < end {
        partition.kick(end);
    }
}
