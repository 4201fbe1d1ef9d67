use super::*;
use proptest::prelude::*;

fn wish(kind: Kind) -> Wish {
    Wish { kind, dry_run: false, timeout: Duration::from_secs(30) }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Feeds events until the machine finishes; returns commands in order.
fn run(wish: Wish, events: &[Event]) -> Vec<Command> {
    let (mut machine, first) = Cutover::start(wish);
    let mut commands = vec![first];
    for (i, event) in events.iter().enumerate() {
        commands.extend(machine.on(event.clone(), ms(i as u64)));
    }
    commands
}

#[test]
fn switchover_goes_through_every_step_in_order() {
    let commands = run(wish(Kind::Switchover), &vec![Event::Succeeded; 6]);
    use Command::*;
    assert_eq!(commands, [Preflight, Hold, Drain, Finalise, Commit, Resume, Finish(Outcome::Done)]);
}

#[test]
fn failover_needs_nothing_of_the_lost_cluster() {
    let commands = run(wish(Kind::Failover), &vec![Event::Succeeded; 5]);
    use Command::*;
    assert_eq!(commands, [Preflight, Hold, Drain, Commit, Resume, Finish(Outcome::Done)]);
}

#[test]
fn dry_run_and_refusal_hold_nothing() {
    let dry = Wish { dry_run: true, ..wish(Kind::Switchover) };
    assert_eq!(run(dry, &[Event::Succeeded]), [Command::Preflight, Command::Finish(Outcome::WouldDo)]);
    let reasons = vec!["lag".to_string()];
    assert_eq!(
        run(wish(Kind::Switchover), &[Event::Failed(reasons.clone())]),
        [Command::Preflight, Command::Finish(Outcome::Refused(reasons))]
    );
}

#[test]
fn failures_before_the_commit_roll_back_and_after_it_go_forward() {
    for done in 1..=4 {
        let mut events = vec![Event::Succeeded; done];
        events.push(Event::Failed(vec!["x".into()]));
        events.push(Event::Succeeded);
        let commands = run(wish(Kind::Switchover), &events);
        assert_eq!(
            commands[commands.len() - 2..],
            [Command::RollBack, Command::Finish(Outcome::RolledBack(vec!["x".into()]))]
        );
    }
    let mut events = vec![Event::Succeeded; 5];
    events.push(Event::Failed(vec!["x".into()]));
    assert_eq!(run(wish(Kind::Switchover), &events).last(), Some(&Command::Resume));
}

#[test]
fn unknown_commit_is_resolved_not_guessed() {
    let mut events = vec![Event::Succeeded; 4];
    events.extend([Event::Unknown("reply lost".into()), Event::Unknown("still".into()), Event::Succeeded]);
    let commands = run(wish(Kind::Switchover), &events);
    assert_eq!(commands[4..], [Command::Commit, Command::Resolve, Command::Resolve, Command::Resume]);
}

#[test]
fn deadline_turns_back_only_while_there_is_a_way_back() {
    let (mut machine, _) = Cutover::start(wish(Kind::Switchover));
    machine.on(Event::Succeeded, ms(1));
    assert_eq!(machine.on(Event::Tick, ms(29_999)), None);
    assert_eq!(machine.on(Event::Tick, ms(30_000)), Some(Command::RollBack));
    let (mut machine, _) = Cutover::start(wish(Kind::Switchover));
    for i in 0..4 {
        machine.on(Event::Succeeded, ms(i));
    }
    assert_eq!(machine.phase(), Phase::Commit);
    assert_eq!((machine.on(Event::Tick, ms(99_000)), machine.time_left(ms(99_000))), (None, None));
}

#[test]
fn times_are_told_by_phase() {
    let (mut machine, _) = Cutover::start(wish(Kind::Switchover));
    for at in [10, 15, 35, 40, 50, 52] {
        machine.on(Event::Succeeded, ms(at));
    }
    let phases =
        [(Phase::Preflight, 10), (Phase::Hold, 5), (Phase::Drain, 25), (Phase::Commit, 10), (Phase::Resume, 2)];
    assert_eq!(machine.phases(), phases.map(|(p, t)| (p, ms(t))));
    assert_eq!(machine.held(), ms(42));
}

proptest! {
    /// Whatever happens: never a resume without a commit known to be stored, never a rollback after it, and what was
    /// held is let go (resume or rollback precedes the end).
    #[test]
    fn order_is_safe(events in prop::collection::vec(0u8..4, 1..40), failover: bool) {
        let kind = if failover { Kind::Failover } else { Kind::Switchover };
        let (mut machine, mut last) = Cutover::start(wish(kind));
        let (mut held, mut committed) = (false, false);
        for (i, e) in events.into_iter().enumerate() {
            let event = match e {
                0 => Event::Tick,
                1 => Event::Failed(vec!["f".into()]),
                2 => Event::Unknown("u".into()),
                _ => Event::Succeeded,
            };
            let was = last.clone();
            if matches!(was, Command::Commit | Command::Resolve) && event == Event::Succeeded { committed = true; }
            let Some(next) = machine.on(event.clone(), ms(i as u64 * 1000)) else { continue };
            match &next {
                Command::Hold => held = true,
                Command::Resume => prop_assert!(committed),
                Command::RollBack => prop_assert!(!committed),
                Command::Finish(Outcome::Done) => prop_assert!(committed && was == Command::Resume),
                Command::Finish(Outcome::RolledBack(_)) => prop_assert!(held && was == Command::RollBack),
                Command::Finish(_) => prop_assert!(!held),
                _ => {}
            }
            if matches!(next, Command::Finish(_)) { break; }
            last = next;
        }
    }
}
