//! Exactly once: what programs that process in transactions cost, and whether each record has one effect. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::events::{Role, Told};
use super::judge::{Judgement, Window, judge as judge_plain};
use super::known::Kind;
use crate::support::checker::{History, RecordId, Seen, Verdict, check};

/// Keys of a program: record `n` has the key `n % KEYS`.
const KEYS: u64 = 24;
/// Records of one transaction of the producer: record `n` belongs to transaction `n / TRANSACTION`.
const TRANSACTION: u64 = 4;
/// Records of transactions that are aborted on purpose have keys from here on.
const ABORTED: u32 = 1000;

/// `input` and `output`: both logs as a reader of committed records sees them, each partition in offset order.
pub fn judge(kind: Kind, told: &Told, input: Vec<Seen>, output: Vec<Seen>, windows: &[Window]) -> Judgement {
    let seen = |role| told.of(role).iter().map(|s| s.seen).collect::<Vec<_>>();
    let mut broken = Vec::new();
    let mut note = |what: &str, count: usize| {
        if count > 0 {
            broken.push(format!("{count} {what}"));
        }
    };
    let all = [&input, &output].into_iter().flatten().copied().chain(Role::ALL.into_iter().flat_map(seen));
    note("of aborted transactions seen", all.filter(|s| s.id.key >= ABORTED).count());
    if kind == Kind::Transactions {
        note("transactions torn", torn(&input));
    }
    let names = |log: &[Seen]| log.iter().map(|s| s.id).collect::<BTreeSet<RecordId>>();
    let (put_in, got_out) = (names(&input), names(&output));
    note("in the input without an effect in the output", put_in.difference(&got_out).count());
    note("in the output without a cause in the input", got_out.difference(&put_in).count());

    let against = |acknowledged: Vec<Seen>, reader, log: &[Seen]| {
        check(&History { acknowledged, consumed: seen(reader), stored: Some(log.to_vec()), ..History::default() })
    };
    // The producer's word and, in transactions, the processor's, which gives it when its transaction is committed; a
    // stream processor does not tell.
    let reader = if kind == Kind::Transactions { Role::Group } else { Role::Producer };
    let on_input = against(seen(Role::Producer), reader, &input);
    // Readers of the output: it has a name for each, but no place that was acknowledged.
    let expected: Vec<Seen> = input.iter().map(|s| Seen { offset: -1, ..*s }).collect();
    let mut verdicts = vec![on_input, against(expected.clone(), Role::Assigned, &output)];
    if kind == Kind::Streams {
        verdicts.push(against(expected, Role::Group, &output));
    }
    let sum = |of: fn(&Verdict) -> &Vec<Seen>| verdicts.iter().map(|v| of(v).len()).sum::<usize>();
    let rest = judge_plain(told, Vec::new(), windows);
    if kind == Kind::Transactions {
        note("processed again after their transaction was committed", rest.redelivered);
    }
    Judgement {
        lost: verdicts[0].lost.len(),
        duplicates: verdicts[0].stored_twice.len() + verdicts[1].stored_twice.len(),
        skipped: sum(|v| &v.skipped),
        out_of_order: sum(|v| &v.out_of_order),
        renamed: verdicts[0].renamed.len(),
        redelivered: if kind == Kind::Streams { rest.redelivered } else { 0 },
        examples: verdicts.iter().map(Verdict::examples).collect(),
        broken,
        ..rest
    }
}

/// Transactions of which the log has some records, but not all.
fn torn(input: &[Seen]) -> usize {
    let mut present: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for id in input.iter().map(|s| s.id).filter(|id| id.key < ABORTED) {
        let number = id.seq * KEYS + u64::from(id.key);
        present.entry(number / TRANSACTION).or_default().insert(number);
    }
    present.values().filter(|records| records.len() as u64 != TRANSACTION).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::events::Sighting;

    fn record(n: u64) -> Seen {
        Seen { partition: 0, offset: n as i64, id: RecordId { key: (n % KEYS) as u32, seq: n / KEYS } }
    }

    /// Ten transactions, processed one to one.
    fn clean() -> (Told, Vec<Seen>, Vec<Seen>) {
        let log: Vec<Seen> = (0..10 * TRANSACTION).map(record).collect();
        let sighted: Vec<Sighting> = log.iter().map(|&seen| Sighting { ms: 1000, seen }).collect();
        let told = Told {
            idempotent: true,
            acknowledged: sighted.clone(),
            group: sighted.clone(),
            assigned: sighted,
            ..Told::default()
        };
        (told, log.clone(), log)
    }

    fn violations(kind: Kind, told: &Told, input: Vec<Seen>, output: Vec<Seen>) -> Vec<String> {
        judge(kind, told, input, output, &[]).violations(|_| 1000)
    }

    #[test]
    fn one_effect_each_is_clean() {
        for kind in [Kind::Transactions, Kind::Streams] {
            let (told, input, output) = clean();
            assert_eq!(violations(kind, &told, input, output), [""; 0]);
        }
    }

    #[test]
    fn each_planted_fault_is_a_violation() {
        type Fault = (&'static str, fn(&mut Told, &mut Vec<Seen>, &mut Vec<Seen>));
        let faults: [Fault; 9] = [
            ("1 lost", |_, input, output| {
                input.truncate(39);
                output.truncate(39);
            }),
            ("1 transactions torn", |told, input, output| {
                told.acknowledged.truncate(36);
                input.truncate(38);
                output.truncate(38);
            }),
            ("2 of aborted transactions seen", |_, input, output| {
                for log in [input, output] {
                    log.push(Seen { id: RecordId { key: ABORTED + 3, seq: 0 }, ..record(40) });
                }
            }),
            ("1 in the input without an effect in the output", |_, _, output| output.truncate(39)),
            ("1 in the output without a cause in the input", |_, _, output| output.push(record(44))),
            ("1 stored twice", |_, _, output| output.push(Seen { offset: 40, ..record(7) })),
            ("1 processed again after their transaction was committed", |told, _, _| told.group.push(told.group[3])),
            ("1 skipped", |told, _, _| told.group.truncate(39)),
            ("1 skipped", |told, _, _| told.assigned.truncate(39)),
        ];
        for (expected, plant) in faults {
            let (mut told, mut input, mut output) = clean();
            plant(&mut told, &mut input, &mut output);
            let found = violations(Kind::Transactions, &told, input, output);
            assert!(found.iter().any(|v| v == expected), "{expected}: {found:?}");
        }
    }

    #[test]
    fn a_count_that_was_made_twice_is_a_violation() {
        let (told, input, mut output) = clean();
        // The second record of key 0 counted twice: its count goes one further than there are records.
        output.push(record(2 * KEYS));
        assert!(!violations(Kind::Streams, &told, input, output).is_empty());
    }
}
