//! The state as operators see it.

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Coordinator;
use super::cutover::admin_phase;
use crate::admin::types::{self, CutoverSummary, PartitionStatus, Status};
use crate::catalog::{Partition, StreamState};
use crate::config::TeeMode;
use crate::model::ClusterIx;
use crate::offsets::Run;

impl Coordinator {
    pub(super) fn status_now(&self) -> Option<Status> {
        let roles = self.roles()?;
        let serving = self.ready.load(Ordering::Acquire);
        let all: Vec<_> = self
            .catalog
            .topics()
            .iter()
            .filter(|t| crate::replicate::is_user_topic(&t.name))
            .flat_map(|t| t.partitions())
            .collect();
        let partitions: Vec<PartitionStatus> = all.iter().map(|p| partition_status(p, roles.active)).collect();
        let runs: usize = all
            .iter()
            .map(|p| {
                let o = p.offsets.read();
                ClusterIx::BOTH.iter().map(|&c| o.map(c).runs().len()).sum::<usize>()
            })
            .sum();
        let sync_fine = partitions.iter().filter(|p| p.mode == TeeMode::Sync).all(|p| p.in_sync);
        Some(Status {
            active: self.name(roles.active).into(),
            standby: self.has_standby().then(|| self.name(roles.active.other()).into()),
            generation: roles.generation,
            phase: admin_phase(*self.phase.lock()),
            standby_in_sync: self.has_standby() && serving && sync_fine,
            connections: self.context().connections.load(Ordering::Relaxed) as u64,
            alarms: self.alarms(&partitions),
            partitions,
            last_cutover: self.reports.lock().last().map(|r| CutoverSummary {
                kind: r.kind,
                outcome: r.outcome,
                generation: r.generation,
                started_at: r.started_at,
                hold_ms: r.hold_ms,
            }),
            last_verify: self.last_verify.lock().clone(),
            offset_map_runs: runs as u64,
            offset_map_bytes: (runs * size_of::<Run>()) as u64,
        })
    }

    fn alarms(&self, partitions: &[PartitionStatus]) -> Vec<String> {
        let mut alarms = self.not_ready.lock().clone();
        for p in partitions {
            let name = format!("{}-{}", p.topic, p.partition);
            if p.stream == types::StreamState::Diverged {
                alarms.push(format!(
                    "{name}: the standby's copy has diverged: {}",
                    p.detail.as_deref().unwrap_or_default()
                ));
            } else if p.mode == TeeMode::Sync && !p.in_sync {
                alarms.push(format!("{name}: sync topic, but the standby is not in sync"));
            }
            let told = [holes(&p.holes), truncations(&p.truncations)];
            alarms.extend(told.into_iter().flatten().map(|told| format!("{name}: {told}")));
        }
        alarms
    }
}

/// What the active cluster deleted before it was copied, in words.
pub(super) fn holes(holes: &[(i64, i64)]) -> Option<String> {
    let (&(first, _), &(_, end)) = (holes.first()?, holes.last()?);
    let offsets: i64 = holes.iter().map(|(from, to)| to - from).sum();
    Some(format!(
        "the active cluster deleted {offsets} logical offsets, in {first} to {}, before they were copied: the standby lacks \
         them, and of a compacted topic it may keep what was deleted there (`kafka-standby verify`)",
        end - 1
    ))
}

/// What the active cluster has lost, in words.
pub(super) fn truncations(lost: &[(i64, i64)]) -> Option<String> {
    let (&(first, _), &(_, end)) = (lost.first()?, lost.last()?);
    Some(format!(
        "the active cluster has lost records that clients have seen, in the logical offsets {first} to {} (an unclean leader \
         election?); what had been copied of them is on the standby: `kafka-standby divergence list`",
        end - 1
    ))
}

fn partition_status(partition: &Partition, active: ClusterIx) -> PartitionStatus {
    let progress = partition.progress();
    let offsets = partition.offsets.read();
    let map = offsets.map(active);
    let state = partition.state();
    let teed = partition.with_tee(|t| t.bytes());
    let active_end = progress.active_end.max(progress.replicated).max(0);
    let lag = if progress.replicated < 0 { 0 } else { (active_end - progress.replicated).max(0) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    let level_at = partition.level_at_ms();
    let behind = lag > 0 && level_at > 0;
    let copied = partition.mode() != TeeMode::Off;
    PartitionStatus {
        topic: partition.tp.topic.to_string(),
        partition: partition.tp.partition,
        mode: partition.mode(),
        stream: match &state {
            StreamState::Off => types::StreamState::Off,
            StreamState::Waiting(_) => types::StreamState::Waiting,
            StreamState::CatchUp => types::StreamState::CatchUp,
            StreamState::Tee => types::StreamState::Tee,
            StreamState::Diverged(_) => types::StreamState::Diverged,
        },
        in_sync: match partition.mode() {
            TeeMode::Sync => partition.in_sync(),
            _ => copied && progress.replicated >= 0 && lag == 0,
        },
        logical_start: map.runs().first().map_or(0, |r| r.logical),
        logical_end: map.position_out(active_end),
        active_end,
        standby_end: (progress.standby_end >= 0).then_some(progress.standby_end),
        lag_records: u64::try_from(lag).unwrap_or(0),
        lag_bytes: teed as u64,
        lag_seconds: if behind { (now - level_at).max(0) as f64 / 1e3 } else { 0.0 },
        bypass_batches: partition.bypass.lock().counted(),
        holes: partition.holes(),
        truncations: partition.truncations(),
        detail: match state {
            StreamState::Waiting(reason) | StreamState::Diverged(reason) => Some(reason),
            _ => None,
        },
    }
}
