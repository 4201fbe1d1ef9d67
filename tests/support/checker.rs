//! Compares what producers were acknowledged with what consumers read and, where it was scanned, with what the log
//! holds. Pure: it knows no client and no clock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// Names one written record: keys are numbered over all producers, `seq` counts up from 0 within a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId {
    pub key: u32,
    pub seq: u64,
}

/// One sighting of a record: an acknowledgement, a delivery to a consumer, or an entry of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub id: RecordId,
}

/// What was observed of one topic.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// In any order. A negative offset: the client does not know where (librdkafka takes the success of a later batch for
    /// that of the earlier ones).
    pub acknowledged: Vec<Seen>,
    /// As the consumers got them; members of one group in one list, in the order of delivery.
    pub consumed: Vec<Seen>,
    /// The whole log at the end, each partition in offset order; `None` when it was not read.
    pub stored: Option<Vec<Seen>>,
}

/// The outcome. Each list is sorted and names the records, so that a test can compare it with what it expects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub acknowledged: usize,
    /// Deliveries, repeats included.
    pub consumed: usize,
    /// Acknowledged and nowhere to be found: not in the log, or, without a scan, not consumed.
    pub lost: Vec<Seen>,
    /// Acknowledged and in the log, but never delivered to a consumer.
    pub skipped: Vec<Seen>,
    /// Deliveries of a record that had been delivered before.
    pub repeated: Vec<Seen>,
    /// Log entries of a record that the log holds already at a lower offset.
    pub stored_twice: Vec<Seen>,
    /// Deliveries, or log entries, of a record after a later one of the same key; repeats do not count.
    pub out_of_order: Vec<Seen>,
    /// Sightings at an offset that another record had, or of a record that had another offset when it was acknowledged.
    pub renamed: Vec<Seen>,
}

impl Verdict {
    /// Nothing lost, skipped, repeated, reordered or renamed.
    pub fn is_clean(&self) -> bool {
        [&self.lost, &self.skipped, &self.repeated, &self.stored_twice, &self.out_of_order, &self.renamed]
            .iter()
            .all(|faults| faults.is_empty())
    }

    /// Panics with the counts and examples of the faults, if there are any.
    pub fn assert_clean(&self, context: &str) {
        assert!(self.is_clean(), "{context}: {self}{}", self.examples());
    }

    /// A few faults of each kind, a line each.
    pub fn examples(&self) -> String {
        /// Enough to see a pattern, few enough to read.
        const EXAMPLES: usize = 5;
        let mut text = String::new();
        for (name, faults) in [
            ("lost", &self.lost),
            ("skipped", &self.skipped),
            ("repeated", &self.repeated),
            ("stored twice", &self.stored_twice),
            ("out of order", &self.out_of_order),
            ("renamed", &self.renamed),
        ] {
            for seen in faults.iter().take(EXAMPLES) {
                let Seen { partition, offset, id } = seen;
                text += &format!("\n  {name}: partition {partition} offset {offset} key {} seq {}", id.key, id.seq);
            }
        }
        text
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "acknowledged={} consumed={} lost={} skipped={} repeated={} stored_twice={} out_of_order={} renamed={}",
            self.acknowledged,
            self.consumed,
            self.lost.len(),
            self.skipped.len(),
            self.repeated.len(),
            self.stored_twice.len(),
            self.out_of_order.len(),
            self.renamed.len()
        )
    }
}

/// Compares the three views of a topic. A record that was sent but not acknowledged may be there or not.
pub fn check(history: &History) -> Verdict {
    let (delivered, repeated, mut out_of_order) = walk(&history.consumed);
    let stored = history.stored.as_deref();
    let (in_log, stored_twice, log_disorder) = stored.map(walk).unwrap_or_default();
    out_of_order.extend(log_disorder);

    let (mut lost, mut skipped) = (Vec::new(), Vec::new());
    for seen in &history.acknowledged {
        if stored.is_some() && !in_log.contains(&seen.id) {
            lost.push(*seen);
        } else if !delivered.contains(&seen.id) {
            if stored.is_some() { skipped.push(*seen) } else { lost.push(*seen) }
        }
    }
    Verdict {
        acknowledged: history.acknowledged.len(),
        consumed: history.consumed.len(),
        lost: sorted(lost),
        skipped: sorted(skipped),
        repeated: sorted(repeated),
        stored_twice: sorted(stored_twice),
        out_of_order: sorted(out_of_order),
        renamed: sorted(renamed(history)),
    }
}

fn sorted(mut faults: Vec<Seen>) -> Vec<Seen> {
    faults.sort_unstable();
    faults.dedup();
    faults
}

/// The distinct records of a view, the sightings of known ones, and the new ones that came after a later of their key.
fn walk(view: &[Seen]) -> (HashSet<RecordId>, Vec<Seen>, Vec<Seen>) {
    let mut known = HashSet::with_capacity(view.len());
    let mut highest: HashMap<u32, u64> = HashMap::new();
    let (mut again, mut late) = (Vec::new(), Vec::new());
    for seen in view {
        if !known.insert(seen.id) {
            again.push(*seen);
            continue;
        }
        let top = highest.entry(seen.id.key).or_insert(seen.id.seq);
        if seen.id.seq < *top {
            late.push(*seen);
        }
        *top = seen.id.seq.max(*top);
    }
    (known, again, late)
}

/// Sightings that break "an offset names one record for ever", over all views together.
fn renamed(history: &History) -> Vec<Seen> {
    let mut names: BTreeMap<(i32, i64), RecordId> = BTreeMap::new();
    let mut places: HashMap<RecordId, (i32, i64)> = HashMap::new();
    let mut faults = Vec::new();
    let placed = |seen: &&Seen| seen.offset >= 0;
    for seen in history.acknowledged.iter().filter(placed) {
        places.insert(seen.id, (seen.partition, seen.offset));
    }
    let views = [&history.acknowledged, &history.consumed];
    for seen in views.into_iter().flatten().chain(history.stored.iter().flatten()).filter(placed) {
        let place = (seen.partition, seen.offset);
        let first_name = *names.entry(place).or_insert(seen.id);
        // A copy at another offset than the acknowledged one counts here too, besides being repeated or stored twice.
        let moved = places.get(&seen.id).is_some_and(|&acknowledged| acknowledged != place);
        if first_name != seen.id || moved {
            faults.push(*seen);
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(partition: i32, offset: i64, key: u32, seq: u64) -> Seen {
        Seen { partition, offset, id: RecordId { key, seq } }
    }

    /// Two partitions, keys 0 and 1, ten records each, everything as it should be.
    fn clean() -> History {
        let all: Vec<Seen> = (0..10).flat_map(|n| [seen(0, n, 0, n as u64), seen(1, n, 1, n as u64)]).collect();
        History { acknowledged: all.clone(), consumed: all.clone(), stored: Some(all) }
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
        let expected =
            Verdict { repeated: twice.clone(), stored_twice: twice.clone(), renamed: twice, ..counts(20, 21) };
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
}
