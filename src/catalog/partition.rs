//! One partition: the meeting point of client connections (which acknowledge and expose records) and its stream (which
//! copies them).

mod history;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::TeeMode;
use crate::model::TopicPartition;
use crate::offsets::PartitionOffsets;
use crate::stream::{Bypass, DuplicateWindow, Lineage, Ranges, TeeBuffer, TeeItem};

/// How far the stream of a partition has come, in offsets of the active cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Everything below this offset of the active cluster is on the standby (or never crosses: control batches, aborted
    /// records). -1: the stream has not been opened.
    pub replicated: i64,
    /// Log end offset of the standby.
    pub standby_end: i64,
    /// Highest offset known to be below the active cluster's high watermark.
    pub active_end: i64,
}

impl Progress {
    pub const UNKNOWN: Progress = Progress { replicated: -1, standby_end: -1, active_end: -1 };
}

/// What feeds the stream at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// No standby, or the topic is not copied.
    Off,
    /// Waiting for the standby (topic, leader, connection), with the reason.
    Waiting(String),
    CatchUp,
    Tee,
    /// The standby's log is not the copy it should be; the stream stays stopped.
    Diverged(String),
}

impl StreamState {
    /// The word in the status (INTERFACE.md).
    pub fn word(&self) -> &'static str {
        match self {
            StreamState::Off => "off",
            StreamState::Waiting(_) => "waiting",
            StreamState::CatchUp => "catch_up",
            StreamState::Tee => "tee",
            StreamState::Diverged(_) => "diverged",
        }
    }
}

/// How a wait for the standby ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InSync {
    /// The standby has it.
    Replicated,
    /// The standby did not get it in time.
    TimedOut,
}

const SYNC: u8 = 2;
const ASYNC: u8 = 1;

fn code(mode: TeeMode) -> u8 {
    match mode {
        TeeMode::Sync => SYNC,
        TeeMode::Async => ASYNC,
        TeeMode::Off => 0,
    }
}

/// Bytes of teed batches that wait for the standby, all partitions together (`limits.tee_buffer`). One process serves one
/// pair of clusters, so there is one.
pub struct TeeBudget {
    used: AtomicUsize,
    limit: AtomicUsize,
}

pub static TEE_BUDGET: TeeBudget = TeeBudget { used: AtomicUsize::new(0), limit: AtomicUsize::new(64 << 20) };

impl TeeBudget {
    pub fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.used() < self.limit.load(Ordering::Relaxed)
    }

    fn note(&self, before: usize, after: usize) {
        if after >= before {
            self.used.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(before - after, Ordering::Relaxed);
        }
    }
}

pub struct Partition {
    pub tp: TopicPartition,
    mode: AtomicU8,
    pub offsets: RwLock<PartitionOffsets>,
    pub duplicates: Mutex<DuplicateWindow>,
    /// The batches that the log held before this process came are in `duplicates`.
    recalled: AtomicBool,
    /// Logical offset behind the highest record that any client was shown or promised.
    exposed: AtomicI64,
    /// Logical ranges acknowledged to producers that the standby is not known to have.
    acknowledged: Mutex<Ranges>,
    /// Logical offset below which the standby has everything.
    crossed: AtomicI64,
    /// `sync` topics: the standby is in sync, so an acknowledgement waits for it.
    in_sync: AtomicBool,
    /// Held while the in-sync state is stored: a leave and a return must not cross, or what is stored would not be what
    /// holds.
    pub transition: tokio::sync::Mutex<()>,
    /// Copies go under the stream's own stamp in this generation (`replicate::partition::pipeline`).
    stamped: AtomicBool,
    tee: Mutex<TeeBuffer>,
    wake: Notify,
    /// The end of a transaction is about to show in the log.
    marker: Notify,
    progress: Mutex<Progress>,
    /// The progress was told of.
    moved: Notify,
    state: Mutex<StreamState>,
    retired: AtomicBool,
    /// Counts the topics that stood for the copy on the standby. Who appends there holds it for reading, so that nothing
    /// meant for one of them lands in the next.
    pub copy: Arc<tokio::sync::RwLock<u32>>,
    /// Logical ranges that the active cluster had deleted before they were copied.
    holes: Mutex<Vec<(i64, i64)>>,
    /// Logical ranges that clients have seen and the active cluster has lost.
    truncations: Mutex<Vec<(i64, i64)>>,
    /// Batches of writers that go around the proxy.
    pub bypass: Mutex<Bypass>,
    /// The active cluster's log as it was seen.
    pub lineage: Mutex<Lineage>,
    /// Held while it is found out, and stored, whether the active cluster's log still is the one that was seen.
    pub log_check: tokio::sync::Mutex<()>,
    /// How often that log may have become another one: a stream that began before must begin anew.
    logs: AtomicU32,
    /// The one on which a stream is open: it has found its copy to be that log's.
    open_on: AtomicU32,
    /// A stream has been open in this generation: what clients were shown is known.
    watched: AtomicBool,
    /// Where the standby's log was last seen to end, by somebody else than the stream; -1 for not since the stream was opened.
    standby_seen: AtomicI64,
    /// Unix ms when the stream was last level with the active cluster.
    level_at_ms: AtomicI64,
}

impl Partition {
    pub fn new(tp: TopicPartition, mode: TeeMode, offsets: PartitionOffsets) -> Self {
        Partition {
            tp,
            mode: AtomicU8::new(code(mode)),
            offsets: RwLock::new(offsets),
            duplicates: Mutex::default(),
            recalled: AtomicBool::new(false),
            exposed: AtomicI64::new(0),
            acknowledged: Mutex::default(),
            crossed: AtomicI64::new(0),
            in_sync: AtomicBool::new(mode == TeeMode::Sync),
            transition: tokio::sync::Mutex::default(),
            stamped: AtomicBool::new(false),
            tee: Mutex::default(),
            wake: Notify::new(),
            marker: Notify::new(),
            progress: Mutex::new(Progress::UNKNOWN),
            moved: Notify::new(),
            state: Mutex::new(StreamState::Off),
            retired: AtomicBool::new(false),
            copy: Arc::default(),
            holes: Mutex::default(),
            truncations: Mutex::default(),
            bypass: Mutex::default(),
            lineage: Mutex::default(),
            log_check: tokio::sync::Mutex::default(),
            logs: AtomicU32::new(0),
            open_on: AtomicU32::new(0),
            watched: AtomicBool::new(false),
            standby_seen: AtomicI64::new(-1),
            level_at_ms: AtomicI64::new(0),
        }
    }

    pub fn mode(&self) -> TeeMode {
        match self.mode.load(Ordering::Relaxed) {
            SYNC => TeeMode::Sync,
            ASYNC => TeeMode::Async,
            _ => TeeMode::Off,
        }
    }

    /// A reload changed the rule. A topic that becomes `sync` waits for the standby from its next level moment on.
    pub fn set_mode(&self, mode: TeeMode) {
        if self.mode.swap(code(mode), Ordering::Relaxed) != code(mode) {
            self.set_in_sync(false);
            self.kick(0);
        }
    }

    /// A client was shown that the log reaches `logical_end`.
    pub fn expose(&self, logical_end: i64) {
        self.exposed.fetch_max(logical_end, Ordering::AcqRel);
    }

    /// A producer was told that the records from `logical` up to `logical_end` are stored.
    pub fn acknowledge(&self, logical: i64, logical_end: i64) {
        self.expose(logical_end);
        let crossed = self.crossed.load(Ordering::Acquire);
        if logical_end > crossed {
            self.acknowledged.lock().add(logical, logical_end);
        }
    }

    /// Is one of these logical offsets known to be another record's already: copied, or acknowledged?
    pub fn is_taken(&self, logical: i64, logical_end: i64) -> bool {
        logical < self.crossed.load(Ordering::Acquire) || self.acknowledged.lock().overlaps(logical, logical_end)
    }

    /// The standby has everything below `logical`.
    pub fn crossed(&self, logical: i64) {
        self.crossed.fetch_max(logical, Ordering::AcqRel);
        self.acknowledged.lock().forget_below(logical);
    }

    /// Acknowledged ranges (logical start, end) at or above `logical`.
    pub fn acknowledged_above(&self, logical: i64) -> Vec<(i64, i64)> {
        self.acknowledged.lock().above(logical)
    }

    pub fn exposed(&self) -> i64 {
        self.exposed.load(Ordering::Acquire)
    }

    /// A cutover: offsets of the active cluster mean another cluster from now on.
    pub fn begin_generation(&self, logical: i64) {
        self.expose(logical);
        self.acknowledged.lock().forget_below(i64::MAX);
        self.crossed.store(logical, Ordering::Release);
        self.stamped.store(false, Ordering::Release);
        *self.lineage.lock() = Lineage::default();
        self.bypass.lock().restart();
        self.watched.store(true, Ordering::Release);
        self.restart_stream();
    }

    /// The stream begins anew (at a cutover, or after one that was rolled back).
    pub fn restart_stream(&self) {
        self.with_tee(TeeBuffer::reset);
        self.advance(|p| *p = Progress::UNKNOWN);
        self.set_state(StreamState::Waiting("the stream is being opened".into()));
    }

    /// Whether older batches are known as duplicates, see [`Self::set_recalled`].
    pub fn is_recalled(&self) -> bool {
        self.recalled.load(Ordering::Acquire)
    }

    /// The newest batches that the log held when this process came have been read.
    pub fn set_recalled(&self) {
        self.recalled.store(true, Ordering::Release);
    }

    pub fn is_stamped(&self) -> bool {
        self.stamped.load(Ordering::Acquire)
    }

    /// From now on, for the rest of the generation.
    pub fn set_stamped(&self) {
        self.stamped.store(true, Ordering::Release);
    }

    pub fn in_sync(&self) -> bool {
        self.in_sync.load(Ordering::Acquire)
    }

    pub fn set_in_sync(&self, yes: bool) {
        self.in_sync.store(yes, Ordering::Release);
        if !yes {
            // The stream looks for the way back.
            self.wake.notify_one();
        }
    }

    /// Hands a batch that the active cluster has just acknowledged to the stream. A full buffer drops it: the stream then
    /// finds the gap and fetches it. `false`: it was dropped.
    pub fn tee(&self, item: TeeItem) -> bool {
        let end = item.next_offset;
        let taken = self.with_tee(|tee| {
            if TEE_BUDGET.has_room() {
                return tee.push(item);
            }
            tee.see_end(end);
            false
        });
        self.wake.notify_one();
        taken
    }

    /// Tells the stream that there is something to fetch up to `active_end` (0: unknown).
    pub fn kick(&self, active_end: i64) {
        self.with_tee(|tee| tee.see_end(active_end));
        self.wake.notify_one();
    }

    pub fn with_tee<T>(&self, f: impl FnOnce(&mut TeeBuffer) -> T) -> T {
        let mut tee = self.tee.lock();
        let before = tee.bytes();
        let result = f(&mut tee);
        TEE_BUDGET.note(before, tee.bytes());
        result
    }

    /// Resolves when something was teed or kicked since the last call.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// A transaction with records in this partition was ended: its marker comes in a moment.
    pub fn expect_marker(&self) {
        self.marker.notify_one();
    }

    /// Resolves when a marker was expected since the last call.
    pub async fn marker_expected(&self) {
        self.marker.notified().await;
    }

    pub fn progress(&self) -> Progress {
        *self.progress.lock()
    }

    /// Resolves when the progress is such, with it; looks whenever it is told of.
    pub async fn progressed(&self, is_such: impl Fn(&Progress) -> bool) -> Progress {
        loop {
            let mut moved = pin!(self.moved.notified());
            // Before the look: what is told after it is not to be missed.
            moved.as_mut().enable();
            let progress = self.progress();
            if is_such(&progress) {
                return progress;
            }
            moved.await;
        }
    }

    pub fn advance(&self, f: impl FnOnce(&mut Progress)) {
        f(&mut self.progress.lock());
        self.moved.notify_waiters();
    }

    pub fn state(&self) -> StreamState {
        self.state.lock().clone()
    }

    pub fn set_state(&self, state: StreamState) {
        *self.state.lock() = state;
    }

    pub fn level_at_ms(&self) -> i64 {
        self.level_at_ms.load(Ordering::Relaxed)
    }

    pub fn set_level_at_ms(&self, ms: i64) {
        self.level_at_ms.store(ms, Ordering::Relaxed);
    }

    /// Waits until the standby has everything below `active_offset` (an offset of the active cluster).
    pub async fn replicated(&self, active_offset: i64, deadline: Instant) -> InSync {
        let reached = self.progressed(|p| p.replicated >= active_offset);
        match tokio::time::timeout_at(deadline, reached).await {
            Ok(_) => InSync::Replicated,
            Err(_) => InSync::TimedOut,
        }
    }

    /// As [`Self::replicated`], with a duration.
    pub async fn replicated_within(&self, active_offset: i64, limit: Duration) -> InSync {
        self.replicated(active_offset, Instant::now() + limit).await
    }

    /// The standby's log was seen to end at `end`, beyond what the stream says; `i64::MAX`: below it.
    pub fn see_standby_end(&self, end: i64) {
        self.standby_seen.store(end, Ordering::Release);
        self.wake.notify_one();
    }

    /// What [`Self::see_standby_end`] was told last; forgets it.
    pub fn take_standby_seen(&self) -> Option<i64> {
        Some(self.standby_seen.swap(-1, Ordering::AcqRel)).filter(|&end| end >= 0)
    }

    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}
