//! Acknowledgements that wait for the standby.

use std::sync::Arc;

use tokio::time::Instant;

use super::Context;
use crate::catalog::{InSync, Partition};
use crate::config::LossPolicy;
use crate::model::{Generation, TopicPartition};

/// Waits until the standby has everything of a `sync` partition below `active_end` (an offset of the active cluster).
/// `false`: it has not, and the acknowledgement must not be given.
pub async fn reached(
    context: &Context,
    generation: Generation,
    partition: &Arc<Partition>,
    active_end: i64,
    deadline: Instant,
) -> bool {
    let block = blocks(context);
    let mut held = true;
    if (partition.in_sync() || block) && partition.replicated(active_end, deadline).await == InSync::TimedOut {
        held = !block && leave(context, partition).await;
    }
    // A failover came meanwhile: what has been seen is the new generation's progress, the record may be lost.
    held && partition.offsets.read().generation() <= generation
}

/// As [`reached`], for offsets of these partitions that a transaction has committed for a group.
pub async fn has_offsets(
    context: &Context,
    generation: Generation,
    group: &str,
    partitions: &[Arc<Partition>],
    deadline: Instant,
) -> bool {
    let block = blocks(context);
    let waited: Vec<_> = partitions.iter().filter(|p| block || p.in_sync()).collect();
    if waited.is_empty() {
        return true;
    }
    let tps: Vec<TopicPartition> = waited.iter().map(|p| p.tp.clone()).collect();
    let copied = tokio::time::timeout_at(deadline, context.house.offsets_copied(group, &tps)).await;
    let mut held = true;
    if !matches!(copied, Ok(Ok(()))) {
        tracing::debug!(group, ?copied, "offsets of a transaction are not on the standby");
        held = !block;
        for partition in waited {
            held = held && leave(context, partition).await;
        }
    }
    held && partitions.iter().all(|p| p.offsets.read().generation() <= generation)
}

fn blocks(context: &Context) -> bool {
    context.live.load().tee.on_standby_loss == LossPolicy::Block
}

async fn leave(context: &Context, partition: &Arc<Partition>) -> bool {
    let left = context.house.leave_in_sync(partition).await.inspect_err(|reason| {
        tracing::warn!(partition = %partition.tp, %reason, "an acknowledgement is withheld");
    });
    left.is_ok()
}
