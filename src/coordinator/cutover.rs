//! Drives the pure state machine of a cutover: carries its commands out, tells it what happened, writes the report.

mod commit;
mod doubt;
mod prepare;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Coordinator, Roles, Running};
use crate::admin::ControlError;
use crate::admin::metrics;
use crate::admin::types::{self, CutoverKind, CutoverRequest, LostRange, PartitionEnd, PhaseDone, Report, UtcMillis};
use crate::catalog::Partition;
use crate::cutover::{Command, Cutover, Event, Kind, Outcome, Phase, Wish};
use crate::offsets::Cut;
use crate::proxy::Calm;
use crate::state::Key;
use crate::transactions::Record;

/// How long a cluster gets to show that it is there.
const PROBE: Duration = Duration::from_secs(3);
/// How long a failover lets connections come to rest by themselves; then they are closed. An acknowledgement that waits for
/// the standby, which is alive, gets through in that time.
const GIVE_UP: Duration = Duration::from_millis(150);
/// How long a switchover lets open transactions come to their ends, before it holds anybody: several times what Kafka Streams
/// takes from one commit to the next (`commit.interval.ms`: 100 ms). What is open then is aborted.
const LET_END: Duration = Duration::from_millis(500);
/// Pause between attempts at a step that has no way back.
const RETRY: Duration = Duration::from_millis(100);

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
    /// Transactional ids whose transaction ends with the generation, as they are to be stored.
    broken: Vec<(String, Record)>,
    /// What has to be brought over of transactions that were being committed on a lost cluster.
    torn: doubt::Torn,
    /// Until the gate is held.
    calm: Option<Calm>,
    dry_run: bool,
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
            broken: Vec::new(),
            torn: doubt::Torn::default(),
            calm: None,
            dry_run: request.dry_run,
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

    /// What the new active cluster lacks although no cutover lost it: retention was faster than the copying, or an unclean
    /// leader election took it.
    fn gone(&self) -> Vec<String> {
        let told = |p: &Arc<Partition>| {
            let told = [super::status::holes(&p.holes()), super::status::truncations(&p.truncations())];
            told.into_iter().flatten().map(|told| format!("{}: {told}", p.tp)).collect::<Vec<_>>()
        };
        self.copied().iter().flat_map(told).collect()
    }

    fn copied(&self) -> Vec<Arc<Partition>> {
        self.house.catalog.copied()
    }

    async fn hold(&mut self) -> Event {
        let hard = self.kind == Kind::Failover;
        let limit = self.house.live.load().limits.hold_deadline;
        self.deadline = self.deadline.min(Instant::now() + limit);
        let deadline = if hard { Instant::now() + GIVE_UP } else { self.deadline };
        let quiet = self.house.gate.hold(hard, deadline).await;
        self.calm = None;
        if quiet || hard {
            return Event::Succeeded;
        }
        Event::Failed(vec![format!("{} connections still had requests in flight", self.house.gate.busy())])
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
            warnings: self.warnings.iter().cloned().chain(self.gone()).collect(),
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
