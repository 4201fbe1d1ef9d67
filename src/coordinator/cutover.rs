//! Drives the pure state machine of a cutover: carries its commands out, tells it what happened, writes the report.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::witness::{self, Witness};
use super::{Coordinator, Roles, Running};
use crate::admin::ControlError;
use crate::admin::metrics;
use crate::admin::types::{self, CutoverKind, CutoverRequest, LostRange, PartitionEnd, PhaseDone, Report, UtcMillis};
use crate::catalog::{InSync, Partition, StreamState};
use crate::config::{LossPolicy, TeeMode};
use crate::cutover::{Command, Cutover, Event, Kind, Outcome, Phase, Wish};
use crate::offsets::Cut;
use crate::state::records::CUTS_PER_RECORD;
use crate::state::{CutRecord, GenerationRecord, InSyncRecord, Key};
use crate::upstream::{Cluster, OffsetSpec, PerPartition, UpstreamError};

/// How long a cluster gets to show that it is there.
const PROBE: Duration = Duration::from_secs(3);
/// How long the lost cluster gets to show that it is not lost.
const ALIVE: Duration = Duration::from_millis(100);
/// How long a failover lets connections come to rest by themselves; then they are closed. An acknowledgement that waits for
/// the standby, which is alive, gets through in that time.
const GIVE_UP: Duration = Duration::from_millis(150);
/// Pause between attempts at a step that has no way back.
const RETRY: Duration = Duration::from_millis(100);
/// Where logical offsets go on if it is not known what clients have seen of a lost cluster: no client has seen 2^40 records
/// more of a partition than were stored with the state.
const UNKNOWN_JUMP: i64 = 1 << 40;

/// One cutover under way.
struct Drive<'a> {
    house: &'a Arc<Coordinator>,
    kind: Kind,
    roles: Roles,
    running: Option<Arc<Running>>,
    started: Instant,
    cuts: Vec<(Arc<Partition>, Cut)>,
    lost: Vec<LostRange>,
    warnings: Vec<String>,
    deadline: Instant,
}

impl Coordinator {
    /// Runs a cutover to its end.
    pub(super) async fn cut_over(
        self: &Arc<Self>,
        kind: Kind,
        request: CutoverRequest,
        progress: mpsc::Sender<PhaseDone>,
    ) -> Result<Report, ControlError> {
        let Ok(_one) = self.cutting.try_lock() else {
            return Err(ControlError::Busy("another cutover is under way".into()));
        };
        let Some(roles) = self.roles() else {
            return Err(ControlError::Unavailable(
                "no cluster could be read yet, so it is not known who is active".into(),
            ));
        };
        if !self.has_standby() {
            return Err(ControlError::Invalid("no standby is configured".into()));
        }
        let timeout = request.timeout_ms.map_or(self.live.load().cutover.timeout, Duration::from_millis);
        let wish = Wish { kind, dry_run: request.dry_run, timeout };
        let (started, started_at) = (Instant::now(), UtcMillis::now());
        let mut drive = Drive {
            house: self,
            kind,
            running: self.running(),
            started,
            cuts: Vec::new(),
            lost: Vec::new(),
            warnings: Vec::new(),
            deadline: started + timeout,
            roles: roles.clone(),
        };
        tracing::info!(?kind, dry_run = request.dry_run, generation = roles.generation, "cutover begins");
        let (machine, outcome) = drive.run(wish, &progress).await;
        *self.phase.lock() = Phase::Steady;
        let report = drive.report(&machine, outcome, started_at, &roles);
        metrics::cutover(&report);
        tracing::info!(outcome = ?report.outcome, generation = report.generation, hold_ms = report.hold_ms, "cutover ended");
        if !report.dry_run {
            self.keep_report(&report);
        }
        Ok(report)
    }

    fn keep_report(&self, report: &Report) {
        {
            let mut reports = self.reports.lock();
            reports.push(report.clone());
            let surplus = reports.len().saturating_sub(1000);
            reports.drain(..surplus);
        }
        if report.outcome == types::Outcome::Done {
            let key = Key::Report { generation: report.generation };
            for cluster in crate::model::ClusterIx::BOTH {
                self.store.write_soon(cluster, vec![self.store.entry(&key, report)]);
            }
        }
    }
}

impl Drive<'_> {
    async fn run(&mut self, wish: Wish, progress: &mpsc::Sender<PhaseDone>) -> (Cutover, Outcome) {
        let (mut machine, mut command) = Cutover::start(wish);
        let mut told = 0;
        loop {
            *self.house.phase.lock() = machine.phase();
            if let Command::Finish(outcome) = command {
                tell(&machine, &mut told, progress);
                return (machine, outcome);
            }
            let left = machine.time_left(self.started.elapsed());
            fault("before", &command);
            fault("during", &command);
            let work = self.carry_out(&command);
            let event = match left {
                Some(left) => tokio::time::timeout(left, work).await.unwrap_or(Event::Tick),
                None => work.await,
            };
            fault("after", &command);
            if let Some(next) = machine.on(event, self.started.elapsed()) {
                command = next;
            }
            tell(&machine, &mut told, progress);
        }
    }

    async fn carry_out(&mut self, command: &Command) -> Event {
        match command {
            Command::Preflight => match self.kind {
                Kind::Switchover => self.preflight_switchover().await,
                Kind::Failover => self.preflight_failover().await,
            },
            Command::Hold => self.hold().await,
            Command::Drain => match self.kind {
                Kind::Switchover => self.drain().await,
                Kind::Failover => self.take_stock(true).await,
            },
            Command::Finalise => self.finalise().await,
            Command::Commit => self.commit().await,
            Command::Resolve => self.resolve().await,
            Command::Resume => self.resume().await,
            Command::RollBack => self.roll_back().await,
            Command::Finish(_) => Event::Succeeded,
        }
    }

    fn copied(&self) -> Vec<Arc<Partition>> {
        self.house.catalog.partitions().into_iter().filter(|p| p.mode() != TeeMode::Off).collect()
    }

    async fn preflight_switchover(&mut self) -> Event {
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
        if reasons.is_empty() { Event::Succeeded } else { Event::Failed(reasons) }
    }

    async fn preflight_failover(&mut self) -> Event {
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

    async fn hold(&mut self) -> Event {
        let hard = self.kind == Kind::Failover;
        let limit = self.house.live.load().limits.hold_deadline;
        self.deadline = self.deadline.min(Instant::now() + limit);
        let deadline = if hard { Instant::now() + GIVE_UP } else { self.deadline };
        let quiet = self.house.gate.hold(hard, deadline).await;
        if quiet || hard {
            return Event::Succeeded;
        }
        Event::Failed(vec![format!("{} connections still had requests in flight", self.house.gate.busy())])
    }

    /// Brings every stream level with the end of the active cluster's log, now that no client writes.
    async fn drain(&mut self) -> Event {
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
            };
            self.cuts.push((partition, cut));
        }
        Event::Succeeded
    }

    /// Where the logs of the active cluster end, with no transaction open in them.
    async fn ends(&mut self, active: &Cluster, partitions: &[Arc<Partition>]) -> Result<PerPartition<i64>, String> {
        let tps: Vec<_> = partitions.iter().map(|p| p.tp.clone()).collect();
        let unread = |e: UpstreamError| format!("the active cluster's ends cannot be read: {e}");
        let stable = active.list_offsets(&tps, OffsetSpec::LatestCommitted).await.map_err(unread)?;
        let ends = active.list_offsets(&tps, OffsetSpec::Latest).await.map_err(unread)?;
        if stable == ends {
            return Ok(ends);
        }
        let aborted = super::transactions::abort_open(active, self.deadline).await?;
        if !aborted.is_empty() {
            self.warnings.push(format!("open transactions were aborted: {}", aborted.join(", ")));
        }
        active.list_offsets(&tps, OffsetSpec::Latest).await.map_err(unread)
    }

    /// Failover: reads where the standby's copies end, and works out what they lack. `last`: stops the streams first, so
    /// that nothing moves any more.
    async fn take_stock(&mut self, last: bool) -> Event {
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
            let cut = Cut { generation, to, logical, to_end, from_end };
            self.cuts.push((partition, cut));
        }
        Event::Succeeded
    }

    /// Lists what was acknowledged and is not on the standby.
    fn note_lost(&mut self, partition: &Partition, logical_end: i64, known: bool) {
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

    async fn finalise(&mut self) -> Event {
        let Some(running) = self.running.clone() else { return Event::Succeeded };
        if let Some(groups) = &running.groups
            && let Err(reasons) = groups.final_pass(self.deadline).await
        {
            return Event::Failed(reasons);
        }
        running.stop().await;
        Event::Succeeded
    }

    /// Stores the cuts and, behind them, the generation: that record is the commit.
    async fn commit(&mut self) -> Event {
        match self.write_commit(self.roles.active.other()).await {
            Ok(()) => Event::Succeeded,
            Err(reason) => Event::Unknown(reason),
        }
    }

    async fn write_commit(&self, cluster: crate::model::ClusterIx) -> Result<(), String> {
        let store = &self.house.store;
        let generation = self.roles.generation + 1;
        let to = self.house.name(self.roles.active.other());
        let mut entries = Vec::new();
        for (part, chunk) in self.cuts.chunks(CUTS_PER_RECORD).enumerate() {
            let cuts =
                chunk.iter().map(|(p, c)| (p.tp.topic.to_string(), p.tp.partition, c.logical, c.to_end, c.from_end));
            let record = CutRecord { to: to.into(), cuts: cuts.collect() };
            entries.push(store.entry_in(generation, &Key::Cut { generation, part }, &record));
        }
        if self.kind == Kind::Failover {
            for (partition, cut) in self.cuts.iter().filter(|(p, _)| p.mode() == TeeMode::Sync) {
                let key = Key::InSync { topic: partition.tp.topic.to_string(), partition: partition.tp.partition };
                let record = InSyncRecord { in_sync: false, from: cut.logical };
                entries.push(store.entry_in(generation, &key, &record));
            }
        }
        let record = GenerationRecord {
            generation,
            active: to.into(),
            cluster_id: self.roles.cluster_id.clone(),
            at_ms: UtcMillis::now().0,
        };
        entries.push(store.entry_in(generation, &Key::Generation, &record));
        store.write(cluster, entries).await.map_err(|e| e.to_string())
    }

    /// The commit may be stored or not. Writing it again settles that: the records say the same.
    async fn resolve(&mut self) -> Event {
        tokio::time::sleep(RETRY).await;
        match self.write_commit(self.roles.active.other()).await {
            Ok(()) => Event::Succeeded,
            Err(reason) => {
                tracing::error!(reason, "the commit's outcome is not known; requests stay held until it is");
                Event::Unknown(reason)
            }
        }
    }

    /// Swaps the routing and lets everything go.
    async fn resume(&mut self) -> Event {
        let house = self.house;
        let old = self.roles.clone();
        let to = old.active.other();
        let degrade = house.live.load().tee.on_standby_loss == LossPolicy::Degrade;
        for (partition, cut) in &self.cuts {
            partition.offsets.write().cut(cut);
            partition.begin_generation(cut.logical);
            if self.kind == Kind::Failover && degrade {
                partition.set_in_sync(false);
            }
        }
        if self.kind == Kind::Failover {
            for (partition, cut) in &self.cuts {
                let end = partition.offsets.read().map(old.active).logical_end();
                partition.duplicates.lock().forget_between(end, cut.logical);
            }
        }
        let roles = Roles { generation: old.generation + 1, active: to, cluster_id: old.cluster_id.clone() };
        house.store.set_generation(roles.generation);
        *house.roles.write() = Some(roles.clone());
        if let Some(path) = &house.config.state_file {
            witness::write(path, &Witness { generation: roles.generation, active: house.name(to).into() });
        }
        house.gate.open(house.view_of(&roles));
        self.after_resume(old, roles);
        Event::Succeeded
    }

    /// What clients need not wait for: the retired cluster's word, topic settings, the reverse streams.
    fn after_resume(&self, old: Roles, roles: Roles) {
        let house = self.house.clone();
        let retire = self.retirement(&old, &roles);
        let was_ready = house.ready.load(std::sync::atomic::Ordering::Acquire);
        tokio::spawn(async move {
            house.store.write_soon(old.active, retire);
            if !was_ready {
                house.decided.notify_one();
                if let Err(reason) = house.serve(roles.clone()).await {
                    tracing::error!(reason, "the proxy cannot serve clients after the failover");
                }
                return;
            }
            let running = house.run_generation(&roles);
            running.cover(&house.catalog);
            running.topics_due.notify_one();
        });
    }

    /// The records that tell the old active cluster that it is retired.
    fn retirement(&self, old: &Roles, roles: &Roles) -> Vec<crate::state::Entry> {
        let store = &self.house.store;
        let to = self.house.name(roles.active);
        let mut entries = Vec::new();
        for (part, chunk) in self.cuts.chunks(CUTS_PER_RECORD).enumerate() {
            let cuts =
                chunk.iter().map(|(p, c)| (p.tp.topic.to_string(), p.tp.partition, c.logical, c.to_end, c.from_end));
            let record = CutRecord { to: to.into(), cuts: cuts.collect() };
            entries.push(store.entry(&Key::Cut { generation: old.generation + 1, part }, &record));
        }
        let record = GenerationRecord {
            generation: roles.generation,
            active: to.into(),
            cluster_id: roles.cluster_id.clone(),
            at_ms: UtcMillis::now().0,
        };
        entries.push(store.entry(&Key::Generation, &record));
        entries
    }

    /// Lets everything go on the old cluster.
    async fn roll_back(&mut self) -> Event {
        let house = self.house;
        let stopped = self.running.as_ref().is_none_or(|r| r.is_stopped());
        if stopped {
            for partition in self.copied() {
                partition.restart_stream();
            }
            let running = house.run_generation(&self.roles);
            running.cover(&house.catalog);
        }
        house.gate.open(house.view_of(&self.roles));
        Event::Succeeded
    }

    fn report(&self, machine: &Cutover, outcome: Outcome, started_at: UtcMillis, roles: &Roles) -> Report {
        let (outcome, dry_run, reasons) = match outcome {
            Outcome::Done => (types::Outcome::Done, false, Vec::new()),
            Outcome::WouldDo => (types::Outcome::Done, true, Vec::new()),
            Outcome::Refused(reasons) => (types::Outcome::Refused, machine.wish().dry_run, reasons),
            Outcome::RolledBack(reasons) => (types::Outcome::RolledBack, false, reasons),
        };
        let done = outcome == types::Outcome::Done && !dry_run;
        let partitions = self.cuts.iter().map(|(p, cut)| PartitionEnd {
            topic: p.tp.topic.to_string(),
            partition: p.tp.partition,
            logical_end: cut.logical,
            from_end: (self.kind == Kind::Switchover || p.progress().active_end >= 0).then_some(cut.from_end),
            to_end: Some(cut.to_end),
        });
        Report {
            kind: match self.kind {
                Kind::Switchover => CutoverKind::Switchover,
                Kind::Failover => CutoverKind::Failover,
            },
            outcome,
            dry_run,
            generation: roles.generation + u32::from(done),
            from: self.house.name(roles.active).into(),
            to: self.house.name(roles.active.other()).into(),
            started_at,
            hold_ms: machine.held().as_secs_f64() * 1e3,
            phases: machine.phases().into_iter().map(phase_done).collect(),
            lost: self.lost.clone(),
            partitions: partitions.collect(),
            reasons,
            warnings: self.warnings.clone(),
        }
    }
}

/// For tests of a proxy that dies in the midst of a cutover: aborts the process `before`, `during` or `after` the command
/// that the environment variable names (`KAFKA_STANDBY_FAULT=during_commit`).
fn fault(when: &str, command: &Command) {
    /// Long enough for a request to be on its way, shorter than a way there and back to a disk.
    const MIDST: Duration = Duration::from_millis(1);
    let Some(wanted) = std::env::var_os("KAFKA_STANDBY_FAULT") else { return };
    if wanted.to_string_lossy() != format!("{when}_{command:?}").to_lowercase() {
        return;
    }
    if when != "during" {
        std::process::abort();
    }
    std::thread::spawn(|| {
        std::thread::sleep(MIDST);
        std::process::abort();
    });
}

/// Why a partition is not ready for a switchover. A stream that is only a little behind gets a moment.
async fn unfit(partition: &Arc<Partition>, limit: u64) -> Option<String> {
    const MOMENT: Duration = Duration::from_secs(2);
    let mut progress = partition.subscribe();
    let level = |p: &crate::catalog::Progress| {
        p.replicated >= 0 && u64::try_from(p.active_end - p.replicated).unwrap_or(0) <= limit
    };
    let _ = tokio::time::timeout(MOMENT, progress.wait_for(level)).await;
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

fn phase_done((phase, took): (Phase, Duration)) -> PhaseDone {
    PhaseDone { name: admin_phase(phase), ms: took.as_secs_f64() * 1e3 }
}

pub(super) fn admin_phase(phase: Phase) -> types::Phase {
    match phase {
        Phase::Steady => types::Phase::Steady,
        Phase::Preflight => types::Phase::Preflight,
        Phase::Hold => types::Phase::Hold,
        Phase::Drain => types::Phase::Drain,
        Phase::Commit => types::Phase::Commit,
        Phase::Resume => types::Phase::Resume,
    }
}

/// Tells a listener of the phases that are over.
fn tell(machine: &Cutover, told: &mut usize, progress: &mpsc::Sender<PhaseDone>) {
    let phases = machine.phases();
    for &phase in phases.iter().skip(*told) {
        let _ = progress.try_send(phase_done(phase));
    }
    *told = phases.len();
}
