//! The standby's offset map as its stream changes it: stored on the standby before anything lands there.

use std::time::Duration;

use super::super::Direction;
use super::Stream;
use crate::catalog::{Partition, StreamState};
use crate::offsets::OffsetMap;
use crate::state::StateError;

/// Runs of one map, 24 bytes each in memory and about eight in the state topic. A transaction costs one, for its marker; they are
/// forgotten when both clusters' logs begin behind them (`replicate::retention`).
const MAX_RUNS: usize = 4_000_000;
/// How often a stream with a full map looks whether runs have been forgotten.
const FULL_LOOK: Duration = Duration::from_secs(1);

/// Changes the standby's map and stores that on the standby itself, as often as it takes: before anything lands there.
pub(in crate::replicate) async fn store_map(
    direction: &Direction,
    partition: &Partition,
    change: impl FnOnce(&mut OffsetMap),
) {
    let to = direction.to();
    while partition.offsets.read().map(to).runs().len() >= MAX_RUNS {
        let full = "its offset map is full until retention has moved both clusters' log starts";
        partition.set_state(StreamState::Waiting(full.into()));
        tokio::time::sleep(FULL_LOOK).await;
    }
    change(partition.offsets.write().map_mut(to));
    let told = |error: &StateError| partition.set_state(StreamState::Waiting(error.to_string()));
    direction.store_changes(partition, to, told).await;
}

impl Stream {
    pub(super) async fn store_map(&self, change: impl FnOnce(&mut OffsetMap)) {
        store_map(&self.direction, &self.partition, change).await;
    }
}
