//! What a cutover does before its commit: looks at everything, brings the streams level (switchover) or takes stock of what
//! the standby has (failover).

use std::sync::Arc;
use std::time::Duration;

use super::{Drive, LET_END, PROBE};
use crate::admin::types::LostRange;
use crate::catalog::{InSync, Partition, StreamState};
use crate::config::TeeMode;
use crate::cutover::Event;
use crate::offsets::{Cut, UNKNOWN_JUMP};
use crate::upstream::{Cluster, OffsetSpec, PerPartition, UpstreamError};

/// How long the lost cluster gets to show that it is not lost.
const ALIVE: Duration = Duration::from_millis(100);

impl Drive<'_> {
    pub(super) async fn preflight_switchover(&mut self) -> Event {
        let mut reasons = Vec::new();
        let Some(running) = self.running.clone() else {
            return Event::Failed(vec!["the proxy does not serve clients yet".into()]);
        };
        for ix in crate::model::ClusterIx::BOTH {
            if let Some(cluster) = self.house.cluster(ix)
                && let Err(error) = within(PROBE, cluster.refresh()).await
            {
                reasons.push(format!("cluster {} cannot be reached: {error}", self.house.name(ix)));
            }
        }
        if !reasons.is_empty() {
            return Event::Failed(reasons);
        }
        if let Err(reason) = running.topics.pass().await {
            reasons.push(format!("the standby's topics are not up to date: {reason}"));
        }
        running.cover(&self.house.catalog);
        let limit = self.house.live.load().cutover.max_lag_records;
        for partition in self.copied() {
            if let Some(reason) = unfit(&partition, limit).await {
                reasons.push(format!("{}: {reason}", partition.tp));
            }
        }
        for topic in self.house.catalog.topics() {
            if topic.mode() == TeeMode::Off && crate::replicate::is_user_topic(&topic.name) {
                self.warnings.push(format!(
                    "topic {} is not teed: it stays on {}",
                    topic.name,
                    self.house.name(self.roles.active)
                ));
            }
        }
        let clusters = self.house.clusters.iter().flatten();
        futures_util::future::join_all(clusters.map(|c| c.warm(PROBE))).await;
        if !reasons.is_empty() {
            return Event::Failed(reasons);
        }
        if !self.dry_run {
            self.calm = Some(self.house.transactions.calm(LET_END).await);
        }
        Event::Succeeded
    }

    pub(super) async fn preflight_failover(&mut self) -> Event {
        let to = self.roles.active.other();
        let Some(standby) = self.house.cluster(to) else {
            return Event::Failed(vec!["no standby is configured".into()]);
        };
        if let Err(error) = within(PROBE, standby.refresh()).await {
            return Event::Failed(vec![format!("the standby {} cannot be reached: {error}", self.house.name(to))]);
        }
        // What would be lost, for the one who decides; taken again when nothing moves any more.
        let event = self.take_stock(false).await;
        if let Some(active) = self.house.cluster(self.roles.active)
            && active.reachable(ALIVE).await
        {
            let name = self.house.name(self.roles.active);
            self.warnings.push(format!("{name} still answers: a switchover would lose nothing"));
        }
        event
    }

    /// Brings every stream level with the end of the active cluster's log, now that no client writes.
    pub(super) async fn drain(&mut self) -> Event {
        let from = self.roles.active;
        let Some(active) = self.house.cluster(from).cloned() else { return Event::Failed(vec![]) };
        let partitions = self.copied();
        let ends = match self.ends(&active, &partitions).await {
            Ok(ends) => ends,
            Err(reason) => return Event::Failed(vec![reason]),
        };
        let mut reasons = Vec::new();
        for partition in &partitions {
            let Some(Ok(end)) = ends.get(&partition.tp) else {
                reasons.push(format!("{}: the end of its log cannot be read", partition.tp));
                continue;
            };
            partition.kick(*end);
            if partition.replicated(*end, self.deadline).await == InSync::TimedOut {
                reasons.push(format!("{}: not level in time ({:?})", partition.tp, partition.state()));
            }
        }
        if !reasons.is_empty() {
            return Event::Failed(reasons);
        }
        let generation = self.roles.generation + 1;
        self.cuts.clear();
        for partition in partitions {
            let progress = partition.progress();
            let end = ends.get(&partition.tp).and_then(|e| e.as_ref().ok()).copied().unwrap_or(progress.replicated);
            let logical = partition.offsets.read().map(from).position_out(end.max(progress.replicated));
            let cut = Cut {
                generation,
                to: from.other(),
                logical: logical.max(partition.exposed()),
                to_end: progress.standby_end,
                from_end: end.max(progress.replicated),
                planned: true,
                completed: Vec::new(),
            };
            self.cuts.push((partition, cut));
        }
        Event::Succeeded
    }

    /// Where the logs of the active cluster end, with no transaction open in them.
    pub(super) async fn ends(
        &mut self,
        active: &Cluster,
        partitions: &[Arc<Partition>],
    ) -> Result<PerPartition<i64>, String> {
        let (aborted, broken) = self.house.leave_transactions(active, self.deadline).await?;
        if !aborted.is_empty() {
            self.warnings.push(format!("open transactions were aborted: {}", aborted.join(", ")));
        }
        self.broken.extend(broken);
        let tps: Vec<_> = partitions.iter().map(|p| p.tp.clone()).collect();
        let ends = active.list_offsets(&tps, OffsetSpec::Latest).await;
        ends.map_err(|e: UpstreamError| format!("the active cluster's ends cannot be read: {e}"))
    }

    /// Failover: reads where the standby's copies end, and works out what they lack. `last`: stops the streams first, so
    /// that nothing moves any more.
    pub(super) async fn take_stock(&mut self, last: bool) -> Event {
        if let (true, Some(running)) = (last, &self.running) {
            running.stop().await;
        }
        let (from, to) = (self.roles.active, self.roles.active.other());
        let Some(standby) = self.house.cluster(to).cloned() else { return Event::Failed(vec![]) };
        let partitions = self.copied();
        let tps: Vec<_> = partitions.iter().map(|p| p.tp.clone()).collect();
        let ends = match standby.list_offsets(&tps, OffsetSpec::Latest).await {
            Ok(ends) => ends,
            Err(error) => return Event::Failed(vec![format!("the standby's ends cannot be read: {error}")]),
        };
        let generation = self.roles.generation + 1;
        self.cuts.clear();
        self.lost.clear();
        self.warnings.clear();
        for partition in partitions {
            if let StreamState::Diverged(reason) = partition.state() {
                self.warnings.push(format!("{}: the copy has diverged: {reason}", partition.tp));
            }
            let to_end = match ends.get(&partition.tp) {
                Some(Ok(end)) => *end,
                _ => {
                    self.warnings.push(format!("{}: not on the standby, clients will not find it", partition.tp));
                    continue;
                }
            };
            let (logical_end, from_end) = {
                let offsets = partition.offsets.read();
                let mut filled = offsets.map(to).clone();
                filled.close_at_cluster(to_end);
                let logical_end = filled.logical_end();
                (logical_end, offsets.map(from).position_in(logical_end))
            };
            // Control batches behind the last record count as crossed.
            let progress = partition.progress();
            let from_end = if progress.standby_end == to_end { from_end.max(progress.replicated) } else { from_end };
            let logical_end =
                logical_end.max(partition.offsets.read().map(from).position_out(from_end.min(i64::MAX - 1)));
            let known = progress.active_end >= 0;
            let seen = partition.exposed().max(logical_end);
            let logical = if known { seen } else { seen.saturating_add(UNKNOWN_JUMP) };
            self.note_lost(&partition, logical_end, known);
            let cut = Cut { generation, to, logical, to_end, from_end, planned: false, completed: Vec::new() };
            self.cuts.push((partition, cut));
        }
        if last {
            self.lose_transactions().await;
        }
        Event::Succeeded
    }

    /// Lists what was acknowledged and is not on the standby.
    pub(super) fn note_lost(&mut self, partition: &Partition, logical_end: i64, known: bool) {
        for (from, to) in partition.acknowledged_above(logical_end) {
            self.lost.push(LostRange {
                topic: partition.tp.topic.to_string(),
                partition: partition.tp.partition,
                logical_from: from,
                logical_to: to,
                records: u64::try_from(to - from).unwrap_or(0),
            });
        }
        let may_lack = partition.mode() == TeeMode::Async || !partition.in_sync();
        if !known && may_lack {
            self.warnings.push(format!(
                "{}: this proxy has not seen the lost cluster since it started: acknowledged records above logical offset \
                 {logical_end} may be missing, and cannot be listed",
                partition.tp
            ));
        }
    }
}

/// Why a partition is not ready for a switchover. A stream that is only a little behind gets a moment.
async fn unfit(partition: &Arc<Partition>, limit: u64) -> Option<String> {
    const MOMENT: Duration = Duration::from_secs(2);
    let level = |p: &crate::catalog::Progress| {
        p.replicated >= 0 && u64::try_from(p.active_end - p.replicated).unwrap_or(0) <= limit
    };
    let _ = tokio::time::timeout(MOMENT, partition.progressed(level)).await;
    let now = partition.progress();
    match partition.state() {
        StreamState::Diverged(reason) => Some(format!("the copy has diverged: {reason}")),
        StreamState::Off => Some("the stream has not been started".into()),
        StreamState::Waiting(reason) if !level(&now) => Some(format!("the stream waits: {reason}")),
        _ if now.replicated < 0 => Some("the stream is not open yet".into()),
        _ if !level(&now) => Some(format!("lags by {} records (limit {limit})", now.active_end - now.replicated)),
        _ => None,
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, crate::upstream::UpstreamError>>,
) -> Result<T, String> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}
