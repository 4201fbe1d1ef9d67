//! Finds what the tee does not tell: records of writers that bypass the proxy, of `acks=0` and `acks=1`, and what
//! was written while nobody looked. Reads the ends of all partitions and wakes the streams that lag.

use std::sync::Arc;
use std::time::Duration;

use super::partition::now_ms;
use super::{Direction, truncation};
use crate::catalog::Partition;
use crate::config::TeeMode;
use crate::model::TopicPartition;
use crate::upstream::OffsetSpec;

/// How late the stream may learn of a record that bypassed the proxy.
const INTERVAL: Duration = Duration::from_millis(250);

/// How late a stream may learn that somebody else changes its copy.
const STANDBY_INTERVAL: Duration = Duration::from_secs(1);

/// Looks at the ends of the copies: a stream with nothing to append would not notice that somebody else writes there, or
/// that the copy is gone.
pub async fn watch_copies(direction: Arc<Direction>) {
    let mut tick = tokio::time::interval(STANDBY_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let open = |p: &Arc<Partition>| p.progress().standby_end >= 0;
        let before: Vec<(Arc<Partition>, i64)> = {
            let partitions = direction.catalog.copied().into_iter().filter(open);
            partitions.map(|p| (p.clone(), p.progress().standby_end)).collect()
        };
        if before.is_empty() {
            continue;
        }
        let tps: Vec<TopicPartition> = before.iter().map(|(p, _)| p.tp.clone()).collect();
        let Ok(ends) = direction.standby.list_offsets(&tps, OffsetSpec::Latest).await else { continue };
        for (partition, known) in before {
            match ends.get(&partition.tp) {
                // Below what was there before it was asked: records are gone.
                Some(Ok(end)) if *end < known => partition.see_standby_end(i64::MAX),
                // An append of the stream may be under way: it compares again when there is none.
                Some(Ok(end)) if *end > partition.progress().standby_end => partition.see_standby_end(*end),
                _ => {}
            }
        }
    }
}

pub async fn run(direction: Arc<Direction>) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let partitions = direction.catalog.copied();
        if partitions.is_empty() {
            continue;
        }
        let tps: Vec<TopicPartition> = partitions.iter().map(|p| p.tp.clone()).collect();
        let ends = match direction.active.log_ends(&tps).await {
            Ok(ends) => ends,
            Err(error) => {
                tracing::debug!(%error, "the active cluster's ends were not read");
                continue;
            }
        };
        let known = partitions.iter().filter_map(|p| Some((p, *ends.get(&p.tp)?.as_ref().ok()?)));
        truncation::look(&direction, &known.collect::<Vec<_>>()).await;
        let back = standby_is_back(&direction, &partitions).await;
        for partition in partitions {
            if back && partition.mode() == TeeMode::Sync && !partition.in_sync() {
                partition.kick(0);
            }
            if let Some(Ok(end)) = ends.get(&partition.tp) {
                see(&direction, &partition, end.offset);
            }
        }
    }
}

/// Is the standby there again for partitions that left the in-sync state? Their streams may be level and asleep.
async fn standby_is_back(direction: &Direction, partitions: &[Arc<Partition>]) -> bool {
    let waiting = partitions.iter().any(|p| p.mode() == TeeMode::Sync && !p.in_sync());
    waiting && direction.standby.reachable(INTERVAL).await
}

fn see(direction: &Direction, partition: &Partition, end: i64) {
    partition.bypass.lock().settle(partition.progress().replicated, now_ms());
    partition.advance(|p| p.active_end = p.active_end.max(end));
    partition.expose(partition.offsets.read().map(direction.from).position_out(end));
    if partition.progress().replicated < end {
        partition.kick(end);
    }
}
