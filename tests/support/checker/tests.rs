//! Each fault planted in a clean history is found, and nothing else.

use super::*;

fn seen(partition: i32, offset: i64, key: u32, seq: u64) -> Seen {
    Seen { partition, offset, id: RecordId { key, seq } }
}

/// Two partitions, keys 0 and 1, ten records each, everything as it should be.
fn clean() -> History {
    let all: Vec<Seen> = (0..10).flat_map(|n| [seen(0, n, 0, n as u64), seen(1, n, 1, n as u64)]).collect();
    History { acknowledged: all.clone(), consumed: all.clone(), stored: Some(all), ..History::default() }
}

#[test]
fn a_clean_history_has_no_faults() {
    let verdict = check(&clean());
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.acknowledged, verdict.consumed), (20, 20));
}

#[test]
fn an_unacknowledged_record_may_be_there_or_not() {
    let mut history = clean();
    history.acknowledged.retain(|s| s.id.seq != 9);
    assert!(check(&history).is_clean());
    history.consumed.retain(|s| s.id.seq != 9);
    assert!(check(&history).is_clean());
}

#[test]
fn an_acknowledged_record_that_the_log_lacks_is_lost() {
    let mut history = clean();
    history.consumed.remove(4);
    history.stored.as_mut().unwrap().remove(4);
    let verdict = check(&history);
    assert_eq!(verdict, Verdict { lost: vec![seen(0, 2, 0, 2)], ..counts(20, 19) });
}

#[test]
fn a_record_lost_after_its_delivery_is_still_lost() {
    let mut history = clean();
    history.stored.as_mut().unwrap().remove(4);
    assert_eq!(check(&history).lost, [seen(0, 2, 0, 2)]);
}

#[test]
fn without_a_scan_a_record_not_delivered_is_lost() {
    let mut history = clean();
    history.stored = None;
    history.consumed.remove(5);
    assert_eq!(check(&history), Verdict { lost: vec![seen(1, 2, 1, 2)], ..counts(20, 19) });
}

#[test]
fn a_stored_record_not_delivered_is_skipped() {
    let mut history = clean();
    history.consumed.remove(5);
    assert_eq!(check(&history), Verdict { skipped: vec![seen(1, 2, 1, 2)], ..counts(20, 19) });
}

#[test]
fn a_second_delivery_is_a_repeat_and_no_disorder() {
    let mut history = clean();
    history.consumed.push(seen(0, 3, 0, 3));
    assert_eq!(check(&history), Verdict { repeated: vec![seen(0, 3, 0, 3)], ..counts(20, 21) });
}

#[test]
fn a_record_appended_twice_is_found_in_the_log_and_by_the_consumer() {
    let mut history = clean();
    history.consumed.push(seen(0, 10, 0, 3));
    history.stored.as_mut().unwrap().push(seen(0, 10, 0, 3));
    let twice = vec![seen(0, 10, 0, 3)];
    let expected = Verdict { repeated: twice.clone(), stored_twice: twice.clone(), renamed: twice, ..counts(20, 21) };
    assert_eq!(check(&history), expected);
}

#[test]
fn swapped_deliveries_of_one_key_are_out_of_order() {
    let mut history = clean();
    history.consumed.swap(4, 6);
    assert_eq!(check(&history), Verdict { out_of_order: vec![seen(0, 2, 0, 2)], ..counts(20, 20) });
}

#[test]
fn swapped_deliveries_of_two_keys_are_fine() {
    let mut history = clean();
    history.consumed.swap(4, 5);
    assert!(check(&history).is_clean());
}

#[test]
fn an_offset_that_names_two_records_is_renamed() {
    let mut history = clean();
    // Read at offset 10 before a failover lost it; another record got the offset.
    history.consumed.insert(0, seen(0, 10, 0, 77));
    history.acknowledged.push(seen(0, 10, 0, 10));
    history.consumed.push(seen(0, 10, 0, 10));
    history.stored.as_mut().unwrap().push(seen(0, 10, 0, 10));
    assert!(check(&history).renamed.contains(&seen(0, 10, 0, 77)));
}

#[test]
fn a_record_read_at_another_offset_than_acknowledged_is_renamed() {
    let mut history = clean();
    history.stored = None;
    let moved = history.consumed.iter_mut().find(|s| **s == seen(1, 9, 1, 9)).unwrap();
    moved.offset = 12;
    assert_eq!(check(&history), Verdict { renamed: vec![seen(1, 12, 1, 9)], ..counts(20, 20) });
}

#[test]
fn an_acknowledgement_without_an_offset_names_no_place() {
    let mut history = clean();
    history.acknowledged[4].offset = -1001;
    assert!(check(&history).is_clean());
    history.stored.as_mut().unwrap().remove(4);
    assert_eq!(check(&history).lost.len(), 1, "it is an acknowledgement all the same");
}

fn counts(acknowledged: usize, consumed: usize) -> Verdict {
    Verdict { acknowledged, consumed, ..Verdict::default() }
}

/// Two records each in both partitions: the first transaction has 0 and 1, the second 2 and 3, and so on.
fn transactions(end: End) -> Vec<Transaction> {
    let records = |n: u64| (2 * n..2 * n + 2).flat_map(|seq| [RecordId { key: 0, seq }, RecordId { key: 1, seq }]);
    (0..5).map(|n| Transaction { records: records(n).collect(), end }).collect()
}

#[test]
fn whole_transactions_are_fine_whatever_became_of_those_that_nobody_knows() {
    for end in [End::Committed, End::Unknown] {
        assert!(check(&History { transactions: transactions(end), ..clean() }).is_clean());
    }
    let mut history = History { transactions: transactions(End::Unknown), ..clean() };
    let last = |s: &Seen| s.id.seq >= 8;
    history.acknowledged.retain(|s| !last(s));
    history.consumed.retain(|s| !last(s));
    history.stored.as_mut().unwrap().retain(|s| !last(s));
    assert!(check(&history).is_clean(), "all of it is missing");
}

#[test]
fn a_record_of_an_aborted_transaction_must_not_be_seen() {
    let mut history = History { transactions: transactions(End::Committed), ..clean() };
    history.transactions[4].end = End::Aborted;
    history.acknowledged.retain(|s| s.id.seq < 8);
    history.stored.as_mut().unwrap().retain(|s| s.id.seq < 8);
    history.consumed.retain(|s| s.id.seq < 8 || *s == seen(1, 8, 1, 8));
    assert_eq!(check(&history), Verdict { aborted: vec![seen(1, 8, 1, 8)], ..counts(16, 17) });
    history.consumed.pop();
    assert!(check(&history).is_clean());
    history.stored.as_mut().unwrap().push(seen(0, 9, 0, 9));
    assert_eq!(check(&history).aborted, [seen(0, 9, 0, 9)], "in the log is as bad as read");
}

#[test]
fn a_transaction_of_which_a_part_is_there_is_torn() {
    let torn = RecordId { key: 1, seq: 9 };
    for end in [End::Committed, End::Unknown] {
        let mut history = History { transactions: transactions(end), ..clean() };
        for view in [&mut history.acknowledged, &mut history.consumed, history.stored.as_mut().unwrap()] {
            view.retain(|s| s.id != torn);
        }
        assert_eq!(check(&history), Verdict { torn: vec![torn], ..counts(19, 19) }, "{end:?}");
        history.stored = None;
        assert_eq!(check(&history).torn, [torn], "{end:?} by what was read");
    }
}

#[test]
fn only_what_was_not_committed_may_be_delivered_again() {
    let mut history = clean();
    // Partition 0 was read and committed up to 5 when the last delivery had come.
    history.commits.push(Commit { partition: 0, next: 5, after: 20 });
    history.consumed.push(seen(0, 5, 0, 5));
    assert_eq!(check(&history), Verdict { repeated: vec![seen(0, 5, 0, 5)], ..counts(20, 21) });
    history.consumed.push(seen(0, 4, 0, 4));
    assert_eq!(check(&history).reread, [seen(0, 4, 0, 4)]);
    history.commits[0].after = 22;
    assert!(check(&history).reread.is_empty(), "it was delivered before the commit");
}

#[test]
fn a_producer_without_idempotence_may_store_a_record_twice_but_nothing_worse() {
    let twice = seen(0, 10, 0, 9);
    let mut history = History { at_least_once: true, ..clean() };
    history.consumed.push(twice);
    history.stored.as_mut().unwrap().push(twice);
    assert_eq!(check(&history), counts(20, 21));
    history.consumed.push(twice);
    assert_eq!(check(&history).repeated, [twice], "read twice is another thing");
    history.consumed.pop();
    history.stored.as_mut().unwrap()[4].id.seq = 77;
    let verdict = check(&history);
    assert_eq!((verdict.lost.len(), verdict.renamed.len()), (1, 1), "{verdict}");
}
