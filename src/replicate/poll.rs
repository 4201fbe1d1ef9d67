//! Finds what the tee does not tell: records of writers that bypass the proxy, of `acks=0` and `acks=1`, and what
//! was written while nobody looked. Reads the ends of all partitions and wakes the streams that lag.

use std::sync::Arc;
use std::time::Duration;

use super::Direction;
use crate::catalog::Partition;
use crate::config::TeeMode;
use crate::model::TopicPartition;
use crate::upstream::OffsetSpec;

/// How late the stream may learn of a record that bypassed the proxy.
const INTERVAL: Duration = Duration::from_millis(250);

pub async fn run(direction: Arc<Direction>) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let partitions: Vec<Arc<Partition>> =
            direction.catalog.partitions().into_iter().filter(|p| p.mode != TeeMode::Off).collect();
        if partitions.is_empty() {
            continue;
        }
        let tps: Vec<TopicPartition> = partitions.iter().map(|p| p.tp.clone()).collect();
        let ends = match direction.active.list_offsets(&tps, OffsetSpec::Latest).await {
            Ok(ends) => ends,
            Err(error) => {
                tracing::debug!(%error, "the active cluster's ends were not read");
                continue;
            }
        };
        for partition in partitions {
            if let Some(Ok(end)) = ends.get(&partition.tp) {
                see(&direction, &partition, *end);
            }
        }
    }
}

fn see(direction: &Direction, partition: &Partition, end: i64) {
    partition.advance(|p| p.active_end = p.active_end.max(end));
    partition.expose(partition.offsets.read().map(direction.from).position_out(end));
    if partition.progress().replicated < end {
        partition.kick(end);
    }
}
