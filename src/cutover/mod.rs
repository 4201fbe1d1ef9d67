//! The cutover as a pure state machine: events and time in, commands out. It knows the order of the steps, the deadlines,
//! and when there is no way back.
//!
//! ```text
//!             Preflight --refused--> Finished(Refused)
//!                 | passed
//!               Hold ----------+
//!                 | quiet      | deadline, failure
//!               Drain ---------+--> RollBack --> Finished(RolledBack)
//!                 | drained    |
//!              Finalise -------+
//!                 | final offsets stored
//!               Commit --refused for certain--> RollBack
//!                 | committed        \ unknown: asked again until it is known, never guessed
//!               Resume --> Finished(Done)
//! ```
//!
//! The commit is one stored record. Killed before it, the old generation goes on; killed after it, the next start finds
//! the new one: no step needs undoing.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Planned: nothing is lost, or nothing is changed.
    Switchover,
    /// The active cluster is lost.
    Failover,
}

/// Phases as reported (INTERFACE.md). `Steady` is the time outside a cutover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Steady,
    Preflight,
    Hold,
    Drain,
    Commit,
    Resume,
}

impl Phase {
    pub fn word(self) -> &'static str {
        match self {
            Phase::Steady => "steady",
            Phase::Preflight => "preflight",
            Phase::Hold => "hold",
            Phase::Drain => "drain",
            Phase::Commit => "commit",
            Phase::Resume => "resume",
        }
    }
}

/// What the driver must do next. Exactly one is outstanding at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Look at everything that could go wrong while nothing is held yet.
    Preflight,
    /// Hold new requests; finish or cut what is in flight.
    Hold,
    /// Switchover: bring every stream level with the active cluster's end. Failover: stop the streams where they are.
    Drain,
    /// Switchover: final group offsets to the standby.
    Finalise,
    /// Store the cuts and, last, the new generation.
    Commit,
    /// Find out whether the commit of unknown outcome is stored.
    Resolve,
    /// Swap the routing, let the held requests go, start the reverse streams.
    Resume,
    /// Let everything go on the old cluster.
    RollBack,
    /// Nothing more; the outcome stands.
    Finish(Outcome),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// A dry run that would have gone ahead.
    WouldDo,
    Refused(Vec<String>),
    RolledBack(Vec<String>),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The outstanding command was carried out.
    Succeeded,
    /// It was not, for these reasons. For a commit: for certain not stored.
    Failed(Vec<String>),
    /// Only for a commit: it may or may not be stored.
    Unknown(String),
    /// Time has passed.
    Tick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Preflight,
    Hold,
    Drain,
    Finalise,
    Commit,
    Resolve,
    Resume,
    RollBack,
    Finished,
}

impl Step {
    fn phase(self) -> Phase {
        match self {
            Step::Preflight => Phase::Preflight,
            Step::Hold => Phase::Hold,
            Step::Drain | Step::Finalise => Phase::Drain,
            Step::Commit | Step::Resolve => Phase::Commit,
            Step::Resume | Step::RollBack => Phase::Resume,
            Step::Finished => Phase::Steady,
        }
    }
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub kind: Kind,
    pub dry_run: bool,
    /// From the request to the commit; behind it everything is rolled back.
    pub timeout: Duration,
}

pub struct Cutover {
    wish: Wish,
    step: Step,
    /// (phase, since when), in order; times since the request.
    trail: Vec<(Phase, Duration)>,
    reasons: Vec<String>,
}

impl Cutover {
    /// The machine and its first command.
    pub fn start(wish: Wish) -> (Self, Command) {
        let cutover = Cutover {
            wish,
            step: Step::Preflight,
            trail: vec![(Phase::Preflight, Duration::ZERO)],
            reasons: Vec::new(),
        };
        (cutover, Command::Preflight)
    }

    pub fn phase(&self) -> Phase {
        self.step.phase()
    }

    pub fn wish(&self) -> Wish {
        self.wish
    }

    /// Time left for the outstanding command; `None`: no deadline (there is no way back, or the way back is being taken).
    pub fn time_left(&self, now: Duration) -> Option<Duration> {
        self.can_turn_back().then(|| self.wish.timeout.saturating_sub(now))
    }

    fn can_turn_back(&self) -> bool {
        matches!(self.step, Step::Preflight | Step::Hold | Step::Drain | Step::Finalise)
    }

    /// Takes what happened at `now` (since the request); `None`: go on waiting for the outstanding command.
    pub fn on(&mut self, event: Event, now: Duration) -> Option<Command> {
        match event {
            Event::Tick if self.can_turn_back() && now >= self.wish.timeout => {
                let phase = self.step.phase().word();
                let limit = self.wish.timeout;
                Some(self.fail(vec![format!("{phase} was not done within the time limit of {limit:?}")], now))
            }
            Event::Tick => None,
            Event::Succeeded => Some(self.succeed(now)),
            Event::Failed(reasons) => Some(self.fail(reasons, now)),
            Event::Unknown(_) if matches!(self.step, Step::Commit | Step::Resolve) => {
                Some(self.go(Step::Resolve, Command::Resolve, now))
            }
            Event::Unknown(reason) => Some(self.fail(vec![reason], now)),
        }
    }

    fn succeed(&mut self, now: Duration) -> Command {
        match self.step {
            Step::Preflight if self.wish.dry_run => self.finish(Outcome::WouldDo, now),
            Step::Preflight => self.go(Step::Hold, Command::Hold, now),
            Step::Hold => self.go(Step::Drain, Command::Drain, now),
            Step::Drain if self.wish.kind == Kind::Switchover => self.go(Step::Finalise, Command::Finalise, now),
            Step::Drain | Step::Finalise => self.go(Step::Commit, Command::Commit, now),
            Step::Commit | Step::Resolve => self.go(Step::Resume, Command::Resume, now),
            Step::Resume => self.finish(Outcome::Done, now),
            Step::RollBack => {
                let reasons = std::mem::take(&mut self.reasons);
                self.finish(Outcome::RolledBack(reasons), now)
            }
            Step::Finished => self.finish(Outcome::Done, now),
        }
    }

    fn fail(&mut self, reasons: Vec<String>, now: Duration) -> Command {
        match self.step {
            Step::Preflight => self.finish(Outcome::Refused(reasons), now),
            Step::Hold | Step::Drain | Step::Finalise | Step::Commit | Step::Resolve => {
                self.reasons = reasons;
                self.go(Step::RollBack, Command::RollBack, now)
            }
            // Behind the commit there is only forward; a rollback that failed is tried again likewise.
            Step::Resume => Command::Resume,
            Step::RollBack => Command::RollBack,
            Step::Finished => self.finish(Outcome::Refused(reasons), now),
        }
    }

    fn go(&mut self, step: Step, command: Command, now: Duration) -> Command {
        self.step = step;
        if self.trail.last().is_none_or(|&(phase, _)| phase != step.phase()) {
            self.trail.push((step.phase(), now));
        }
        command
    }

    fn finish(&mut self, outcome: Outcome, now: Duration) -> Command {
        self.go(Step::Finished, Command::Finish(outcome), now)
    }

    /// Phases gone through and how long each took.
    pub fn phases(&self) -> Vec<(Phase, Duration)> {
        self.trail.windows(2).map(|w| (w[0].0, w[1].1.saturating_sub(w[0].1))).collect()
    }

    /// How long requests were held: from the hold to the end.
    pub fn held(&self) -> Duration {
        let hold = self.trail.iter().find(|(phase, _)| *phase == Phase::Hold);
        let end = self.trail.iter().find(|(phase, _)| *phase == Phase::Steady);
        match (hold, end) {
            (Some(&(_, from)), Some(&(_, to))) => to.saturating_sub(from),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests;
