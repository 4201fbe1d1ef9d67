//! Offset maps follow retention: runs whose records neither cluster has any more are forgotten, here and in the state topics, by
//! whole records. A record that only one cluster has dropped is harmless: at a start it stands apart, or in front.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Direction;
use crate::catalog::Partition;
use crate::model::{ClusterIx, TopicPartition};
use crate::state::records::RUNS_PER_RECORD;
use crate::state::{Key, MapRecord};
use crate::upstream::{Cluster, OffsetSpec};

/// How often the starts of logs are read, of those partitions that have more runs than a record holds.
const INTERVAL: Duration = Duration::from_secs(5);

pub async fn run(direction: Arc<Direction>) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let partitions: Vec<_> = direction.catalog.copied().into_iter().filter(|p| many_runs(p)).collect();
        if partitions.is_empty() {
            continue;
        }
        let tps: Vec<TopicPartition> = partitions.iter().map(|p| p.tp.clone()).collect();
        let (active, standby) = tokio::join!(starts(&direction.active, &tps), starts(&direction.standby, &tps));
        let (Some(active), Some(standby)) = (active, standby) else { continue };
        for partition in partitions {
            let (Some(&from), Some(&to)) = (active.get(&partition.tp), standby.get(&partition.tp)) else { continue };
            let mut starts = [0; 2];
            (starts[direction.from.ix()], starts[direction.to().ix()]) = (from, to);
            forget(&direction, &partition, starts);
        }
    }
}

fn many_runs(partition: &Partition) -> bool {
    let offsets = partition.offsets.read();
    ClusterIx::BOTH.iter().any(|&c| offsets.map(c).runs().len() > RUNS_PER_RECORD)
}

async fn starts(cluster: &Cluster, tps: &[TopicPartition]) -> Option<HashMap<TopicPartition, i64>> {
    let found = cluster.list_offsets(tps, OffsetSpec::Earliest).await.ok()?;
    Some(found.into_iter().filter_map(|(tp, start)| Some((tp, start.ok()?))).collect())
}

/// In memory first: a part that is still stored says nothing that is wrong.
fn forget(direction: &Direction, partition: &Partition, starts: [i64; 2]) {
    let gone = {
        let mut offsets = partition.offsets.write();
        let first = |c: ClusterIx| MapRecord::first_part(offsets.map(c));
        let before = ClusterIx::BOTH.map(first);
        if !offsets.forget_below(starts, RUNS_PER_RECORD) {
            return;
        }
        ClusterIx::BOTH.map(|c| before[c.ix()]..MapRecord::first_part(offsets.map(c)))
    };
    let (store, tp) = (&direction.store, &partition.tp);
    let mut entries = Vec::new();
    for cluster in ClusterIx::BOTH {
        for part in gone[cluster.ix()].clone() {
            let (cluster, topic) = (direction.names[cluster.ix()].clone(), tp.topic.to_string());
            entries.push(store.tombstone(&Key::Map { cluster, topic, partition: tp.partition, part }));
        }
    }
    tracing::debug!(%tp, parts = entries.len(), "runs of offset maps whose records are gone were forgotten");
    for cluster in ClusterIx::BOTH {
        store.write_soon(cluster, entries.clone());
    }
}
