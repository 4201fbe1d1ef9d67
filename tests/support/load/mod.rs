//! Load by real clients (librdkafka): idempotent producers that write numbered records per key, a consumer group that
//! reads them, and a record of everything that was acknowledged, read, or went wrong.

mod consumer;
mod observe;
mod producer;
mod transactions;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::checker::{History, RecordId};
use super::wait::wait_until;
use observe::Observed;
pub use observe::{ClientError, Gaps, Progress};

/// Keys of one producer are numbered from its own number times this.
pub const KEYS_PER_PRODUCER: u32 = 1000;

/// What load to put on one topic.
#[derive(Debug, Clone)]
pub struct LoadSpec {
    pub bootstrap: String,
    /// Must exist.
    pub topic: String,
    /// One producer per entry, with that `compression.type` (none, gzip, snappy, lz4).
    pub producers: Vec<String>,
    pub keys_per_producer: u32,
    /// Size of a value.
    pub record_bytes: usize,
    /// Per producer.
    pub records_per_second: u32,
    /// Members of the group; none for load without readers.
    pub consumers: usize,
    pub group: String,
    pub commit: Commit,
    /// The producers write in transactions, every fifth of which they abort.
    pub transactional: bool,
    /// librdkafka properties that win over the rig's own; `{n}` in a consumer's is its number.
    pub producer_config: Vec<(String, String)>,
    pub consumer_config: Vec<(String, String)>,
}

/// How the group commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// The client by itself, at this interval, at a rebalance and at the end.
    Auto(Duration),
    /// The application: not waiting after every hundred records, waiting at a rebalance and at the end.
    Manual,
    /// Nobody: the one consumer is in no group and reads all partitions from the start.
    Assigned,
}

impl LoadSpec {
    /// Two producers with two codecs, 1 KB records, a group of two that commits by itself every second.
    pub fn new(bootstrap: &str, topic: &str) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            topic: topic.into(),
            producers: vec!["lz4".into(), "gzip".into()],
            keys_per_producer: 24,
            record_bytes: 1024,
            records_per_second: 500,
            consumers: 2,
            group: format!("{topic}-group"),
            commit: Commit::Auto(Duration::from_secs(1)),
            transactional: false,
            producer_config: Vec::new(),
            consumer_config: Vec::new(),
        }
    }
}

/// Running load. Dropping it ends its threads without a look at the outcome.
pub struct Load {
    observed: Arc<Observed>,
    producers: Vec<JoinHandle<()>>,
    consumers: Vec<JoinHandle<()>>,
}

/// What a load saw in the end.
#[derive(Debug)]
pub struct Outcome {
    /// `stored` is not filled in: see `scan`.
    pub history: History,
    /// Errors that reached the application and that the client does not retry by itself.
    pub errors: Vec<ClientError>,
    /// What the client reported but retries by itself (a connection lost, a request timed out).
    pub notices: Vec<ClientError>,
    /// The longest time in which a partition that was being written got no acknowledgement, or no delivery.
    pub longest_producer_stall: Duration,
    pub longest_consumer_stall: Duration,
}

impl Outcome {
    /// Panics when an error reached the application.
    pub fn assert_no_errors(&self, context: &str) {
        assert!(self.errors.is_empty(), "{context}: client errors: {:#?}", self.errors);
    }
}

impl Load {
    /// Starts the consumers, then the producers. Returns at once.
    pub fn start(spec: LoadSpec) -> Self {
        assert!(spec.keys_per_producer > 0 && spec.keys_per_producer <= KEYS_PER_PRODUCER);
        let observed = Arc::new(Observed::new());
        let spec = Arc::new(spec);
        let consumers = (0..spec.consumers).map(|n| consumer::start(n, spec.clone(), observed.clone())).collect();
        let start = if spec.transactional { transactions::start } else { producer::start };
        let producers = (0..spec.producers.len()).map(|n| start(n, spec.clone(), observed.clone())).collect();
        Self { observed, producers, consumers }
    }

    pub fn progress(&self) -> Progress {
        self.observed.progress()
    }

    /// The distinct client errors so far that reached the application.
    pub fn errors(&self) -> Vec<ClientError> {
        self.observed.errors(false)
    }

    /// Waits until `more` further records were acknowledged and, when there are consumers, as many delivered.
    pub fn wait_for_more(&self, more: u64, deadline: Duration) {
        let goal = self.progress();
        wait_until(&format!("{more} more records acknowledged and consumed"), deadline, || {
            let now = self.progress();
            (self.producers.is_empty() || now.acknowledged >= goal.acknowledged + more)
                && (self.consumers.is_empty() || now.consumed >= goal.consumed + more)
        });
    }

    /// Begins to measure silences anew; [`Self::window`] tells of what came after.
    pub fn open_window(&self) {
        self.observed.open_window();
    }

    /// (producers, consumers) since the last [`Self::open_window`].
    pub fn window(&self) -> (Gaps, Gaps) {
        self.observed.window()
    }

    /// Ends the producers: what was sent gets up to `drain` for its acknowledgement.
    pub fn stop_producing(&mut self, drain: Duration) {
        self.observed.stop_producing(drain);
        for producer in self.producers.drain(..) {
            producer.join().expect("a producer thread ends well");
        }
    }

    /// Gives the consumers of a load without producers up to `deadline` to read everything that those of `writers` were
    /// acknowledged. Whether they have is seen by the checker.
    pub fn read_all_of(&self, writers: &Load, deadline: Duration) {
        let start = Instant::now();
        while start.elapsed() < deadline && !self.observed.has_read_all_of(&writers.observed) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the producers, gives the consumers up to `drain` to read everything acknowledged, ends them with a commit.
    pub fn finish(mut self, drain: Duration) -> Outcome {
        self.stop_producing(drain);
        let start = Instant::now();
        while !self.consumers.is_empty() && start.elapsed() < drain && !self.observed.is_caught_up() {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.observed.stop_consuming();
        for consumer in self.consumers.drain(..) {
            consumer.join().expect("a consumer thread ends well");
        }
        self.observed.outcome()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.observed.stop_producing(Duration::ZERO);
        self.observed.stop_consuming();
        for thread in self.producers.drain(..).chain(self.consumers.drain(..)) {
            let _ = thread.join();
        }
    }
}

/// `key-seq ` and then filler that compresses, but not to nothing.
pub fn encode_value(id: RecordId, bytes: usize) -> Vec<u8> {
    let mut value = format!("{}-{} ", id.key, id.seq).into_bytes();
    let mut state = id.seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(id.key);
    while value.len() < bytes {
        // A step of splitmix64: half of each word's digits vary.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = format!("{:08x}--------", (state ^ (state >> 31)) as u32);
        let rest = bytes - value.len();
        value.extend_from_slice(&word.as_bytes()[..word.len().min(rest)]);
    }
    value
}

/// The number that `encode_value` wrote; `None` for anything else.
pub fn decode_value(value: &[u8]) -> Option<RecordId> {
    let text = value.split(|&byte| byte == b' ').next()?;
    let (key, seq) = std::str::from_utf8(text).ok()?.split_once('-')?;
    Some(RecordId { key: key.parse().ok()?, seq: seq.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_its_size_and_number() {
        for (key, seq, bytes) in [(0, 0, 4), (1003, 12_345, 1024), (7, u64::MAX, 100)] {
            let id = RecordId { key, seq };
            let value = encode_value(id, bytes);
            assert_eq!(value.len(), bytes.max(value.len().min(30)));
            assert_eq!(decode_value(&value), Some(id));
        }
        assert_eq!(decode_value(b"something else"), None);
    }
}
