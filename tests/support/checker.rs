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

/// How a transaction ended, as far as its producer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Committed,
    Aborted,
    /// Its producer died, or was never told.
    Unknown,
}

/// A transaction with all that was sent in it.
#[derive(Debug, Clone)]
pub struct Transaction {
    pub records: Vec<RecordId>,
    pub end: End,
}

/// A group was told that its offset is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    pub partition: i32,
    /// The next offset to read.
    pub next: i64,
    /// How many deliveries had been seen by then.
    pub after: usize,
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
    /// What was written in transactions; the records of committed ones are among `acknowledged` too.
    pub transactions: Vec<Transaction>,
    /// In the order in which they were acknowledged.
    pub commits: Vec<Commit>,
    /// The producer is not idempotent: its retries may store a record again.
    pub at_least_once: bool,
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
    /// Sightings of a record whose transaction was aborted.
    pub aborted: Vec<Seen>,
    /// Records that are missing while others of their transaction are there.
    pub torn: Vec<RecordId>,
    /// Deliveries of a record that had been delivered, and committed by its group, before; they are among `repeated` too.
    pub reread: Vec<Seen>,
}

impl History {
    /// The same records as another group got them, of whose commits nothing is known.
    pub fn read_by_others(self, consumed: Vec<Seen>) -> Self {
        Self { consumed, commits: Vec::new(), ..self }
    }
}

impl Verdict {
    /// Nothing lost, skipped, repeated, reordered or renamed, nothing aborted seen and nothing torn.
    pub fn is_clean(&self) -> bool {
        self.faults().iter().all(|(_, faults)| faults.is_empty()) && self.torn.is_empty()
    }

    /// As [`Self::is_clean`], except that a group may get again what it had not committed.
    pub fn is_at_least_once(&self) -> bool {
        Verdict { repeated: Vec::new(), ..self.clone() }.is_clean()
    }

    fn faults(&self) -> [(&'static str, &[Seen]); 8] {
        [
            ("lost", &self.lost),
            ("skipped", &self.skipped),
            ("repeated", &self.repeated),
            ("stored twice", &self.stored_twice),
            ("out of order", &self.out_of_order),
            ("renamed", &self.renamed),
            ("aborted", &self.aborted),
            ("read again though committed", &self.reread),
        ]
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
        for (name, faults) in self.faults() {
            for seen in faults.iter().take(EXAMPLES) {
                let Seen { partition, offset, id } = seen;
                text += &format!("\n  {name}: partition {partition} offset {offset} key {} seq {}", id.key, id.seq);
            }
        }
        for id in self.torn.iter().take(EXAMPLES) {
            text += &format!("\n  torn: key {} seq {} is missing", id.key, id.seq);
        }
        text
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "acknowledged={} consumed={} lost={} skipped={} repeated={} stored_twice={} out_of_order={} renamed={} \
             aborted={} torn={} reread={}",
            self.acknowledged,
            self.consumed,
            self.lost.len(),
            self.skipped.len(),
            self.repeated.len(),
            self.stored_twice.len(),
            self.out_of_order.len(),
            self.renamed.len(),
            self.aborted.len(),
            self.torn.len(),
            self.reread.len()
        )
    }
}

/// Compares the three views of a topic. A record that was sent but not acknowledged may be there or not.
pub fn check(history: &History) -> Verdict {
    let read = walk(&history.consumed, history.at_least_once);
    let stored = history.stored.as_deref().map(|stored| walk(stored, history.at_least_once));
    let (mut lost, mut skipped) = (Vec::new(), Vec::new());
    for seen in &history.acknowledged {
        match &stored {
            Some(log) if !log.known.contains(&seen.id) => lost.push(*seen),
            _ if read.known.contains(&seen.id) => {}
            Some(_) => skipped.push(*seen),
            None => lost.push(*seen),
        }
    }
    let mut out_of_order = read.late;
    let torn = torn(history, stored.as_ref().map_or(&read.known, |log| &log.known));
    let stored_twice = stored.map_or_else(Vec::new, |log| {
        out_of_order.extend(log.late);
        log.again
    });
    // Part of a transaction that was acknowledged is torn, not lost.
    lost.retain(|seen| torn.binary_search(&seen.id).is_err());
    Verdict {
        acknowledged: history.acknowledged.len(),
        consumed: history.consumed.len(),
        lost: sorted(lost),
        skipped: sorted(skipped),
        repeated: sorted(read.again),
        stored_twice: sorted(stored_twice),
        out_of_order: sorted(out_of_order),
        renamed: sorted(renamed(history)),
        aborted: sorted(aborted(history)),
        torn,
        reread: sorted(reread(history)),
    }
}

fn sorted(mut faults: Vec<Seen>) -> Vec<Seen> {
    faults.sort_unstable();
    faults.dedup();
    faults
}

/// One view of a topic, looked through in its order.
struct Walk {
    known: HashSet<RecordId>,
    /// Sightings of what had been seen before.
    again: Vec<Seen>,
    /// First sightings after one of a later record of the same key.
    late: Vec<Seen>,
}

/// `at_least_once`: a record may be at several places, and then only a place is seen again.
fn walk(view: &[Seen], at_least_once: bool) -> Walk {
    let mut walk = Walk { known: HashSet::with_capacity(view.len()), again: Vec::new(), late: Vec::new() };
    let mut highest: HashMap<u32, u64> = HashMap::new();
    let mut places = HashSet::new();
    for seen in view {
        let new_place = !at_least_once || places.insert((seen.partition, seen.offset));
        if !walk.known.insert(seen.id) {
            if !at_least_once || !new_place {
                walk.again.push(*seen);
            }
            continue;
        }
        let top = highest.entry(seen.id.key).or_insert(seen.id.seq);
        if seen.id.seq < *top {
            walk.late.push(*seen);
        }
        *top = seen.id.seq.max(*top);
    }
    walk
}

/// Sightings of what was aborted, by readers or in the log as readers of committed records see it.
fn aborted(history: &History) -> Vec<Seen> {
    let aborted = history.transactions.iter().filter(|t| t.end == End::Aborted);
    let ids: HashSet<RecordId> = aborted.flat_map(|t| t.records.iter().copied()).collect();
    let sightings = history.consumed.iter().chain(history.stored.iter().flatten());
    sightings.filter(|seen| ids.contains(&seen.id)).copied().collect()
}

/// What is missing of transactions of which something is there.
fn torn(history: &History, there: &HashSet<RecordId>) -> Vec<RecordId> {
    let mut missing = Vec::new();
    for transaction in history.transactions.iter().filter(|t| t.end != End::Aborted) {
        if transaction.records.iter().any(|id| there.contains(id)) {
            missing.extend(transaction.records.iter().filter(|id| !there.contains(id)));
        }
    }
    missing.sort_unstable();
    missing
}

/// Deliveries again of what its group knew to be committed.
fn reread(history: &History) -> Vec<Seen> {
    let (mut committed, mut highest) = (HashMap::new(), HashMap::new());
    let mut commits = history.commits.iter().peekable();
    let mut faults = Vec::new();
    for (n, seen) in history.consumed.iter().enumerate() {
        while let Some(commit) = commits.next_if(|c| c.after <= n) {
            committed.insert(commit.partition, commit.next);
        }
        let again = highest.get(&seen.partition).is_some_and(|top| seen.offset <= *top);
        if again && committed.get(&seen.partition).is_some_and(|next| seen.offset < *next) {
            faults.push(*seen);
        }
        let top = highest.entry(seen.partition).or_insert(seen.offset);
        *top = seen.offset.max(*top);
    }
    faults
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
        let moved = !history.at_least_once && places.get(&seen.id).is_some_and(|&known| known != place);
        if first_name != seen.id || moved {
            faults.push(*seen);
        }
    }
    faults
}

#[cfg(test)]
mod tests;
