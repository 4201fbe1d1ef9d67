//! What the threads of a load saw, gathered in one place.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Outcome;
use crate::support::checker::{Commit, History, Seen, Transaction};
use kafka_standby::admin::types::UtcMillis;

/// Something that a client reported.
#[derive(Debug, Clone)]
pub struct ClientError {
    /// Since the start of the load.
    pub at: Duration,
    /// The client.
    pub who: String,
    pub text: String,
}

/// Counts so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub sent: u64,
    pub acknowledged: u64,
    pub consumed: u64,
}

pub(super) struct Observed {
    start: Instant,
    producing: AtomicBool,
    consuming: AtomicBool,
    drain_ms: AtomicU64,
    sent: AtomicU64,
    acknowledged: Mutex<Side>,
    consumed: Mutex<Side>,
    commits: Mutex<Vec<Commit>>,
    transactions: Mutex<Vec<Transaction>>,
    errors: Mutex<Vec<(bool, ClientError)>>,
}

/// How one side (producers or consumers) fared since a window was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gaps {
    /// The longest silence of a partition that ended in the window; it may have begun before.
    pub longest: Duration,
    /// From the opening until every partition had been heard of again; `None` while one has not.
    pub resumed: Option<Duration>,
    /// Sightings at or below an offset that had been seen before: of consumers, what they read again.
    pub again: usize,
}

/// Sightings in order, and the gaps between them per partition.
#[derive(Default)]
struct Side {
    seen: Vec<Seen>,
    last: HashMap<i32, Instant>,
    highest: HashMap<i32, i64>,
    longest: Duration,
    window: Option<Window>,
}

struct Window {
    opened: Instant,
    longest: Duration,
    again: usize,
    /// First sighting of each partition in the window.
    first: HashMap<i32, Instant>,
}

impl Side {
    fn add(&mut self, seen: Seen) {
        let now = Instant::now();
        let gap = self.last.insert(seen.partition, now).map(|last| now - last).unwrap_or_default();
        self.longest = self.longest.max(gap);
        let again = self.highest.get(&seen.partition).is_some_and(|&highest| seen.offset <= highest);
        if let Some(window) = &mut self.window {
            window.again += usize::from(again);
            window.longest = window.longest.max(gap);
            window.first.entry(seen.partition).or_insert(now);
        }
        let highest = self.highest.entry(seen.partition).or_insert(seen.offset);
        *highest = seen.offset.max(*highest);
        self.seen.push(seen);
    }

    /// Counts a silence that had not ended at `end`.
    fn close(&mut self, end: Instant) {
        let silent = self.last.values().map(|&last| end.saturating_duration_since(last)).max();
        self.longest = self.longest.max(silent.unwrap_or_default());
    }

    fn gaps(&self) -> Gaps {
        let Some(window) = &self.window else { return Gaps::default() };
        let all = self.last.keys().all(|partition| window.first.contains_key(partition));
        let last = window.first.values().max().map(|&last| last.saturating_duration_since(window.opened));
        Gaps { longest: window.longest, resumed: last.filter(|_| all), again: window.again }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Observed {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            producing: AtomicBool::new(true),
            consuming: AtomicBool::new(true),
            drain_ms: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            acknowledged: Mutex::default(),
            consumed: Mutex::default(),
            commits: Mutex::default(),
            transactions: Mutex::default(),
            errors: Mutex::default(),
        }
    }

    pub fn is_producing(&self) -> bool {
        self.producing.load(Ordering::Acquire)
    }

    pub fn is_consuming(&self) -> bool {
        self.consuming.load(Ordering::Acquire)
    }

    /// Ends the writing; how long what is in flight may take is kept for the producers' flush.
    pub fn stop_producing(&self, drain: Duration) {
        self.drain_ms.store(drain.as_millis() as u64, Ordering::Release);
        if self.producing.swap(false, Ordering::AcqRel) {
            let now = Instant::now();
            // From here on silence is what was asked for.
            locked(&self.acknowledged).close(now);
            locked(&self.consumed).close(now);
        }
    }

    pub fn stop_consuming(&self) {
        self.consuming.store(false, Ordering::Release);
    }

    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms.load(Ordering::Acquire))
    }

    pub fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub fn acknowledged(&self, seen: Seen) {
        locked(&self.acknowledged).add(seen);
    }

    pub fn consumed(&self, who: &str, seen: Seen) {
        let mut consumed = locked(&self.consumed);
        let before = consumed.seen.iter().rev().find(|s| s.partition == seen.partition).map(|s| s.offset);
        if let Some(before) = before.filter(|&before| before >= seen.offset) {
            // Shown with a test that fails.
            let now = UtcMillis::now();
            println!("{now}: {who} goes back on partition {} from {before} to {}", seen.partition, seen.offset);
        }
        consumed.add(seen);
    }

    /// A group was told that this is its committed offset.
    pub fn committed(&self, partition: i32, next: i64) {
        let after = locked(&self.consumed).seen.len();
        locked(&self.commits).push(Commit { partition, next, after });
    }

    pub fn transaction(&self, transaction: Transaction) {
        locked(&self.transactions).push(transaction);
    }

    /// Takes note of an error. `final_word`: the client has given up on something.
    pub fn error(&self, who: &str, error: &KafkaError, text: &str, final_word: bool) {
        let retried = !final_word && error.rdkafka_error_code().is_some_and(is_retried);
        let text = if text.is_empty() { error.to_string() } else { format!("{error}: {text}") };
        locked(&self.errors).push((retried, ClientError { at: self.start.elapsed(), who: who.into(), text }));
    }

    /// A record that nobody of this load wrote, or another thing that must not be.
    pub fn fault(&self, who: &str, text: String) {
        locked(&self.errors).push((false, ClientError { at: self.start.elapsed(), who: who.into(), text }));
    }

    pub fn errors(&self, retried: bool) -> Vec<ClientError> {
        locked(&self.errors).iter().filter(|(kind, _)| *kind == retried).map(|(_, error)| error.clone()).collect()
    }

    pub fn progress(&self) -> Progress {
        Progress {
            sent: self.sent.load(Ordering::Relaxed),
            acknowledged: locked(&self.acknowledged).seen.len() as u64,
            consumed: locked(&self.consumed).seen.len() as u64,
        }
    }

    /// Whether the consumers have read each partition up to its highest acknowledged offset.
    pub fn is_caught_up(&self) -> bool {
        self.has_read_all_of(self)
    }

    pub fn has_read_all_of(&self, writers: &Observed) -> bool {
        let acknowledged = locked(&writers.acknowledged).highest.clone();
        let consumed = locked(&self.consumed);
        acknowledged.iter().all(|(partition, goal)| consumed.highest.get(partition).is_some_and(|at| at >= goal))
    }

    /// Opens a window on both sides, in place of the last one.
    pub fn open_window(&self) {
        let opened = Instant::now();
        for side in [&self.acknowledged, &self.consumed] {
            locked(side).window = Some(Window { opened, longest: Duration::ZERO, again: 0, first: HashMap::new() });
        }
    }

    /// (producers, consumers) since the window was opened.
    pub fn window(&self) -> (Gaps, Gaps) {
        (locked(&self.acknowledged).gaps(), locked(&self.consumed).gaps())
    }

    pub fn outcome(&self) -> Outcome {
        let acknowledged = locked(&self.acknowledged);
        let consumed = locked(&self.consumed);
        Outcome {
            history: History {
                acknowledged: acknowledged.seen.clone(),
                consumed: consumed.seen.clone(),
                transactions: locked(&self.transactions).clone(),
                commits: locked(&self.commits).clone(),
                ..History::default()
            },
            errors: self.errors(false),
            notices: self.errors(true),
            longest_producer_stall: acknowledged.longest,
            longest_consumer_stall: consumed.longest,
        }
    }
}

/// What librdkafka reports for information while it goes on by itself.
fn is_retried(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        code,
        BrokerTransportFailure
            | AllBrokersDown
            | OperationTimedOut
            | RequestTimedOut
            | Resolve
            | CoordinatorLoadInProgress
            | CoordinatorNotAvailable
            | WaitingForCoordinator
            | NotCoordinator
            | NotLeaderForPartition
            | LeaderNotAvailable
    )
}
