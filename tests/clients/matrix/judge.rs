//! What a run cost one client: its own history against the log, and its silences at each cutover. Pure.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::errors::Errors;
use super::events::{Role, Sighting, Told};
use crate::support::checker::{History, Seen, check};

/// A stretch of time that is looked at by itself: around one cutover, or around nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    pub name: String,
    /// From the command (or the kill) to when all roles had gone on; milliseconds since 1970.
    pub from: u64,
    pub to: u64,
    /// Whether the promise of a stall under a second is for it.
    pub planned: bool,
    /// How long the proxy held requests, as it reports; nothing without a cutover.
    pub held_ms: Option<f64>,
    /// The longest time in which the runner itself did not get to run.
    pub machine: u64,
}

/// The longest silence of any partition in a window, in milliseconds. It may have begun before the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stall {
    pub window: String,
    pub planned: bool,
    pub producer: u64,
    pub group: u64,
    pub assigned: u64,
    pub held_ms: Option<f64>,
    pub machine: u64,
}

impl Stall {
    pub fn of(&self, role: Role) -> u64 {
        match role {
            Role::Producer => self.producer,
            Role::Group => self.group,
            Role::Assigned => self.assigned,
        }
    }
}

/// One client's row.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Judgement {
    pub version: String,
    pub idempotent: bool,
    pub acknowledged: usize,
    /// Acknowledged and not in the log.
    pub lost: usize,
    /// In the log twice.
    pub duplicates: usize,
    /// Acknowledged, in the log, never delivered, by either reader.
    pub skipped: usize,
    /// In the log, or delivered for the first time, behind a later record of its key.
    pub out_of_order: usize,
    /// An offset that named two records, or a record found elsewhere than acknowledged.
    pub renamed: usize,
    /// The same offset delivered to the group again.
    pub redelivered: usize,
    /// The same to the reader with a position of its own: never right.
    pub reread: usize,
    pub errors: Errors,
    pub stalls: Vec<Stall>,
    /// What went wrong with the run itself, such as a program that ended early.
    pub broken: Vec<String>,
    /// What the program itself had to say.
    pub notes: Vec<String>,
    /// A few of the faults, for a reader of the results.
    pub examples: String,
}

impl Judgement {
    /// What breaks the promise, a line each; `limit` says how long a role may stand still in a planned cutover.
    pub fn violations(&self, limit: impl Fn(Role) -> u64) -> Vec<String> {
        let mut all = self.broken.clone();
        let counts = [
            ("lost", self.lost, true),
            ("skipped", self.skipped, true),
            ("read again by the assigned reader", self.reread, true),
            ("renamed", self.renamed, self.idempotent),
            ("stored twice", self.duplicates, self.idempotent),
            ("out of order", self.out_of_order, self.idempotent),
        ];
        all.extend(counts.iter().filter(|(_, n, counts)| *counts && *n > 0).map(|(what, n, _)| format!("{n} {what}")));
        all.extend(self.errors.fatal.iter().map(|error| format!("fatal for the {error}")));
        for stall in self.stalls.iter().filter(|s| s.planned) {
            for role in Role::ALL.into_iter().filter(|&role| stall.of(role) > limit(role)) {
                let (window, still, machine) = (&stall.window, stall.of(role), stall.machine);
                all.push(format!("{window}: {} stood still for {still} ms (machine {machine} ms)", role.name()));
            }
        }
        if self.acknowledged == 0 {
            all.push("nothing was acknowledged".into());
        }
        all
    }
}

/// `stored`: the whole log at the end, each partition in offset order.
pub fn judge(told: &Told, stored: Vec<Seen>, windows: &[Window]) -> Judgement {
    let seen = |role| told.of(role).iter().map(|s| s.seen).collect::<Vec<_>>();
    let history = |reader| History {
        acknowledged: seen(Role::Producer),
        consumed: seen(reader),
        stored: Some(stored.clone()),
        ..History::default()
    };
    let (group, assigned) = (check(&history(Role::Group)), check(&history(Role::Assigned)));
    Judgement {
        version: told.version.clone(),
        idempotent: told.idempotent,
        acknowledged: told.acknowledged.len(),
        lost: group.lost.len(),
        duplicates: group.stored_twice.len(),
        skipped: group.skipped.len() + assigned.skipped.len(),
        out_of_order: group.out_of_order.len() + assigned.out_of_order.len(),
        renamed: group.renamed.len() + assigned.renamed.len(),
        redelivered: again(&told.group),
        reread: again(&told.assigned),
        errors: Errors::of(&told.errors),
        stalls: windows.iter().map(|window| stall(told, window)).collect(),
        broken: Vec::new(),
        notes: told.notes.clone(),
        examples: group.examples() + &assigned.examples(),
    }
}

/// Deliveries of an offset that had been delivered before.
fn again(sightings: &[Sighting]) -> usize {
    let mut places = HashSet::with_capacity(sightings.len());
    sightings.iter().filter(|s| !places.insert((s.seen.partition, s.seen.offset))).count()
}

fn stall(told: &Told, window: &Window) -> Stall {
    let of = |role| longest_silence(told.of(role), window);
    Stall {
        window: window.name.clone(),
        planned: window.planned,
        producer: of(Role::Producer),
        group: of(Role::Group),
        assigned: of(Role::Assigned),
        held_ms: window.held_ms,
        machine: window.machine,
    }
}

/// Over all partitions that were ever heard of; a silence that had not ended counts up to the window's end.
fn longest_silence(sightings: &[Sighting], window: &Window) -> u64 {
    let mut times: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
    for sighting in sightings {
        times.entry(sighting.seen.partition).or_default().push(sighting.ms);
    }
    let longest = |times: &Vec<u64>| {
        let before = times.iter().rev().find(|&&t| t < window.from).copied().unwrap_or(window.from);
        let inside = times.iter().filter(|&&t| t >= window.from && t < window.to).copied();
        let mut last = before;
        let mut longest = 0;
        for time in inside.chain([window.to]) {
            longest = longest.max(time.saturating_sub(last));
            last = time;
        }
        longest
    };
    times.values().map(longest).max().unwrap_or(window.to - window.from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::events::AppError;
    use crate::support::checker::RecordId;

    fn sighting(ms: u64, partition: i32, offset: i64, key: u32, seq: u64) -> Sighting {
        Sighting { ms, seen: Seen { partition, offset, id: RecordId { key, seq } } }
    }

    /// One partition, a record every 10 ms from 1000 on, read 1 ms later by both.
    fn clean() -> (Told, Vec<Seen>) {
        let mut told = Told { idempotent: true, flushed: true, ..Told::default() };
        for n in 0..100 {
            told.acknowledged.push(sighting(1000 + 10 * n, 0, n as i64, 0, n));
            told.group.push(sighting(1001 + 10 * n, 0, n as i64, 0, n));
            told.assigned.push(sighting(1001 + 10 * n, 0, n as i64, 0, n));
        }
        let stored = told.acknowledged.iter().map(|s| s.seen).collect();
        (told, stored)
    }

    fn window(from: u64, to: u64) -> Window {
        Window { name: "switchover".into(), from, to, planned: true, held_ms: None, machine: 0 }
    }

    const LIMIT: fn(Role) -> u64 = |_| 1000;

    #[test]
    fn a_clean_run_breaks_nothing() {
        let (told, stored) = clean();
        let judgement = judge(&told, stored, &[window(1100, 1500)]);
        assert_eq!(judgement.violations(LIMIT), [""; 0]);
        assert_eq!(judgement.stalls[0].producer, 10);
    }

    #[test]
    fn each_planted_fault_is_a_violation() {
        type Fault = (&'static str, fn(&mut Told, &mut Vec<Seen>));
        let faults: [Fault; 7] = [
            ("1 lost", |_, stored| stored.truncate(99)),
            ("1 skipped", |told, _| told.group.truncate(99)),
            ("1 skipped", |told, _| told.assigned.truncate(99)),
            ("1 read again by the assigned reader", |told, _| told.assigned.push(told.assigned[9])),
            ("1 stored twice", |_, stored| stored.push(sighting(0, 0, 100, 0, 7).seen)),
            ("1 out of order", |told, _| told.group.swap(3, 4)),
            ("fatal for the group: dead", |told, _| {
                told.errors.push(AppError { by: Role::Group, fatal: true, text: "dead".into(), ms: 0 })
            }),
        ];
        for (expected, plant) in faults {
            let (mut told, mut stored) = clean();
            plant(&mut told, &mut stored);
            let violations = judge(&told, stored, &[]).violations(LIMIT);
            assert!(violations.iter().any(|v| v == expected), "{expected}: {violations:?}");
        }
    }

    #[test]
    fn a_redelivery_to_the_group_is_counted_and_no_violation() {
        let (mut told, stored) = clean();
        told.group.extend_from_within(90..);
        let judgement = judge(&told, stored, &[]);
        assert_eq!((judgement.redelivered, judgement.violations(LIMIT).len()), (10, 0));
    }

    #[test]
    fn a_duplicate_of_a_producer_that_is_not_idempotent_is_counted_and_no_violation() {
        let (mut told, mut stored) = clean();
        told.idempotent = false;
        stored.push(sighting(0, 0, 100, 0, 7).seen);
        let judgement = judge(&told, stored, &[]);
        assert_eq!((judgement.duplicates, judgement.violations(LIMIT).len()), (1, 0));
    }

    #[test]
    fn a_silence_counts_from_the_last_sign_before_the_window_and_to_its_end() {
        let (mut told, stored) = clean();
        told.acknowledged.retain(|s| s.ms <= 1100);
        told.group.retain(|s| s.ms <= 1100 || s.ms > 1301);
        let stalls = judge(&told, stored, &[window(1150, 1950)]).stalls;
        assert_eq!((stalls[0].producer, stalls[0].group), (850, 220));
    }

    #[test]
    fn a_partition_that_stays_silent_is_not_hidden_by_the_others() {
        let (mut told, mut stored) = clean();
        told.acknowledged.insert(0, sighting(1005, 1, 0, 1, 0));
        stored.push(told.acknowledged[0].seen);
        assert_eq!(judge(&told, stored, &[window(1500, 1900)]).stalls[0].producer, 895);
    }

    #[test]
    fn a_long_stall_is_a_violation_only_where_it_was_planned() {
        let (told, stored) = clean();
        let mut late = window(1900, 4000);
        assert_eq!(judge(&told, stored.clone(), std::slice::from_ref(&late)).violations(LIMIT).len(), 3);
        late.planned = false;
        assert_eq!(judge(&told, stored, &[late]).violations(LIMIT).len(), 0);
    }
}
