//! The stream of one partition: takes batches from the tee while they follow each other, fetches whatever is missing, and
//! appends to the standby: one batch at a time while the batches are their clients' own, many at a time under the stream's
//! own stamp.

mod ahead;
mod cleaned;
mod in_sync;
mod maps;
mod pipeline;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::OptionFuture;
use parking_lot::RwLockReadGuard;
use tokio::sync::OwnedRwLockReadGuard;
use tokio::time::Instant;

pub(super) use ahead::PIECES;
use ahead::Piece;
use in_sync::Return;
pub(super) use maps::store_map;
use pipeline::Behind;

use super::open::{Begin, OpenError, Opened, open};
use super::writer::{Answer, Feed, STOPPING, outcome};
use super::{Direction, RETRY_WAIT};
use crate::admin::metrics::{self, TeeResult};
use crate::catalog::{Partition, StreamState};
use crate::offsets::{OffsetMap, PartitionOffsets, Run};
use crate::records::{Batches, Split};
use crate::stream::{Append, Cursor, Plan, Stamp, StampState, apply_breaks, plan, plan_teed};
use crate::upstream::ProducedPartition;

/// How long a batch that is missing in front of teed ones may still come by the tee (replies overtake each other on
/// different connections) before it is fetched.
const REORDER_WAIT: Duration = Duration::from_millis(3);
/// Pause when a fetch finds nothing although the log is known to go on (below the high watermark in a moment, or an open
/// transaction), growing to the second.
const EMPTY_WAIT: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));
/// How often a stream with nothing to do looks whether its standby is back.
const RETURN_LOOK: Duration = Duration::from_millis(250);
/// How often a stream whose copy has diverged looks whether an operator has removed that.
const RENEWED_LOOK: Duration = Duration::from_millis(250);

/// Kafka error codes (class Errors).
const OUT_OF_ORDER_SEQUENCE: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const OFFSET_OUT_OF_RANGE: i16 = 1;

/// Why the stream must be opened again.
enum Stop {
    Reopen(String),
    Diverged(String),
}

struct Stream {
    direction: Arc<Direction>,
    partition: Arc<Partition>,
    cursor: Cursor,
    stamp: StampState,
    /// Which topic of the standby this stream knows as the copy, see [`Partition::copy`].
    copy: u32,
    /// Which log of the active cluster it knows, see [`Partition::log_number`].
    log: u32,
    back: Return,
    behind: Behind,
    /// Where what is sent next was had from.
    feed: Feed,
    /// Read already, to be copied next.
    ahead: Option<Box<Piece>>,
}

/// Runs until it is cancelled or the topic is gone.
pub async fn run(direction: Arc<Direction>, partition: Arc<Partition>) {
    let mut pause = RETRY_WAIT.0;
    while !partition.is_retired() {
        partition.take_standby_seen();
        let (copy, log) = (*partition.copy.read().await, partition.log_number());
        // Boxed, as is whatever a stream does rarely: it waits most of the time, and there are thousands of them.
        match Box::pin(open(&direction, &partition)).await {
            Ok(Opened { cursor, stamp, begin }) => {
                pause = RETRY_WAIT.0;
                if cursor.standby_end == 0 && partition.level_at_ms() == 0 {
                    partition.set_level_at_ms(now_ms());
                }
                let mut stream = Stream {
                    direction: direction.clone(),
                    partition: partition.clone(),
                    cursor,
                    stamp,
                    copy,
                    log,
                    back: Return::default(),
                    behind: Behind::default(),
                    feed: Feed::Tee,
                    ahead: None,
                };
                if let Some(Begin { ends, logical, at }) = begin {
                    let Ok(_copy) = stream.hold_copy().await else { continue };
                    let run = |map: &mut OffsetMap| {
                        map.close_at_cluster(ends);
                        map.append(logical, at, Run::OPEN);
                    };
                    Box::pin(stream.store_map(run)).await;
                }
                stream.publish();
                match stream.pump().await {
                    Stop::Reopen(reason) => {
                        tracing::info!(partition = %partition.tp, reason, "stream is opened again");
                        partition.set_state(StreamState::Waiting(reason));
                    }
                    Stop::Diverged(reason) => diverged(&partition, reason, copy).await,
                }
            }
            Err(OpenError::NotYet(reason)) => partition.set_state(StreamState::Waiting(reason)),
            Err(OpenError::Diverged(reason)) => diverged(&partition, reason, copy).await,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_WAIT.1);
    }
    partition.set_state(StreamState::Off);
}

/// Says so until another topic has become the copy.
async fn diverged(partition: &Partition, reason: String, copy: u32) {
    tracing::error!(partition = %partition.tp, reason, "the standby's copy has diverged; its stream stays stopped");
    partition.set_state(StreamState::Diverged(reason));
    while *partition.copy.read().await == copy && !partition.is_retired() {
        tokio::time::sleep(RENEWED_LOOK).await;
    }
}

/// Did the standby take the batch for one that it stores below the copy's end? A cluster that was failed over from has the
/// client's first attempts in its masked tail; what the client then sent again, to the new active cluster, must be copied
/// behind it under the stream's own identity. -1 is a batch that was appended (copies are CreateTime topics).
fn is_older_duplicate(produced: &ProducedPartition, expected: i64) -> bool {
    produced.base_offset < expected && produced.log_append_time != -1
}

pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

const OTHER_COPY: &str = "another topic has become the copy";
const NEW_LEADER: &str = "the active cluster's log has a new leader";

impl Stream {
    async fn pump(&mut self) -> Stop {
        let mut empty = EMPTY_WAIT.0;
        let mut gap_since = None;
        self.partition.set_state(StreamState::CatchUp);
        loop {
            if self.partition.is_retired() {
                return Stop::Reopen("the topic is gone".into());
            }
            if self.partition.log_number() != self.log {
                return Stop::Reopen(NEW_LEADER.into());
            }
            let next = self.cursor.active_next;
            let (teed, first, end) = self.partition.with_tee(|t| (t.take(next), t.first(), t.seen_end()));
            let returning = self.return_to_sync(end).await;
            if let Some(item) = teed {
                (gap_since, self.ahead) = (None, None);
                self.feed = Feed::Tee;
                let batches = self.with_followers(item);
                if let Err(stop) = self.teed(batches).await {
                    return stop;
                }
                self.partition.set_state(StreamState::Tee);
                continue;
            }
            if end <= next {
                // Who has nothing to append would not notice otherwise.
                if self.partition.copy.try_read().is_ok_and(|copy| *copy != self.copy) {
                    return Stop::Reopen(OTHER_COPY.into());
                }
                // Nothing of this stream is under way, so what the standby has beyond is not its own.
                if self.partition.take_standby_seen().is_some_and(|seen| seen > self.cursor.standby_end) {
                    return Stop::Reopen("the standby's log does not end where this stream left it".into());
                }
                self.level();
                self.behind = Behind::default();
                let woken = self.partition.woken();
                if returning {
                    let _ = tokio::time::timeout(RETURN_LOOK, woken).await;
                } else {
                    woken.await;
                }
                // However long it had nothing to do: it was level until now.
                self.partition.set_level_at_ms(now_ms());
                continue;
            }
            // What keeps arriving behind the gap must not put the fetch off for ever.
            let waited = gap_since.get_or_insert_with(Instant::now).elapsed();
            if first.is_some() && waited < REORDER_WAIT {
                let _ = tokio::time::timeout(REORDER_WAIT, self.partition.woken()).await;
                continue;
            }
            gap_since = None;
            if first.is_some() {
                metrics::tee_batches(TeeResult::Gap).increment(1);
            }
            match Box::pin(self.catch_up()).await {
                Ok(true) => empty = EMPTY_WAIT.0,
                Ok(false) => {
                    let marker = self.partition.marker_expected();
                    empty = match tokio::time::timeout(empty, marker).await {
                        Ok(()) => EMPTY_WAIT.0,
                        Err(_) => (empty * 2).min(EMPTY_WAIT.1),
                    };
                }
                Err(stop) => return stop,
            }
        }
    }

    /// The stream is level with the active cluster as far as it knows.
    fn level(&self) {
        self.partition.set_level_at_ms(now_ms());
        self.partition.set_state(StreamState::Tee);
    }

    /// The maps, as long as the active cluster's log is the one that the stream knows.
    fn offsets(&self) -> Result<RwLockReadGuard<'_, PartitionOffsets>, Stop> {
        let offsets = self.partition.offsets.read();
        match self.partition.log_number() == self.log {
            true => Ok(offsets),
            false => Err(Stop::Reopen(NEW_LEADER.into())),
        }
    }

    /// Copies consecutive batches of the tee.
    async fn teed(&mut self, batches: Vec<Bytes>) -> Result<(), Stop> {
        let plan = {
            let offsets = self.offsets()?;
            plan_teed(batches, self.cursor, offsets.map(self.direction.from), offsets.map(self.direction.to()))
        };
        match plan {
            Ok(plan) => Box::pin(self.execute(plan)).await,
            Err(error) => Err(Stop::Diverged(error.to_string())),
        }
    }

    /// Fetches the next piece of the log; `false`: nothing there yet.
    async fn catch_up(&mut self) -> Result<bool, Stop> {
        let next = self.cursor.active_next;
        let piece = match self.ahead.take().filter(|piece| piece.from == next) {
            Some(piece) => *piece,
            None => self.read(next).await,
        };
        let Piece { fetched, room, .. } = piece;
        let part = match fetched {
            Ok(Some(part)) => part,
            Ok(None) => return Ok(false),
            Err(error) => {
                self.partition.set_state(StreamState::Waiting(format!("active cluster: {error}")));
                return Ok(false);
            }
        };
        match part.error {
            0 => {}
            OFFSET_OUT_OF_RANGE => return Err(Stop::Reopen(format!("offset {next} is out of the active log's range"))),
            code => {
                self.partition.set_state(StreamState::Waiting(format!("active cluster: Kafka error {code}")));
                return Ok(false);
            }
        }
        self.partition.advance(|p| p.active_end = p.active_end.max(part.high_watermark));
        let plan = {
            let offsets = self.offsets()?;
            let (from, to) = (offsets.map(self.direction.from), offsets.map(self.direction.to()));
            plan(Batches::new(part.records), part.aborted, self.cursor, from, to)
        };
        let plan = plan.map_err(|e| Stop::Diverged(e.to_string()))?;
        if plan.active_next == next {
            if part.last_stable_offset < part.high_watermark && part.last_stable_offset <= next {
                self.partition.set_state(StreamState::Waiting("a transaction is open on the active cluster".into()));
            }
            return Ok(false);
        }
        self.partition.set_state(StreamState::CatchUp);
        self.feed = Feed::Fetch;
        self.note_cleaned(&plan.gaps);
        let ahead = (room.is_some() && plan.active_next < part.last_stable_offset).then(|| self.read(plan.active_next));
        {
            let mut bypass = self.partition.bypass.lock();
            plan.fetched.iter().for_each(|&(id, offset)| bypass.fetched(id, offset, now_ms()));
        }
        let (executed, ahead) = tokio::join!(self.execute(plan), OptionFuture::from(ahead));
        drop(room);
        executed?;
        self.ahead = ahead.filter(Piece::is_filled).map(Box::new);
        if self.ahead.is_some() {
            // Goes on at once, whoever else has told of it or not.
            self.partition.with_tee(|tee| tee.see_end(part.last_stable_offset));
        }
        Ok(true)
    }

    async fn execute(&mut self, plan: Plan) -> Result<(), Stop> {
        if !plan.breaks.is_empty() {
            // A break of the copy before must not get into the map of the next one.
            let _copy = self.hold_copy().await?;
            Box::pin(self.store_map(|map| apply_breaks(map, &plan.breaks))).await;
        }
        self.keep_up(&plan.appends).await;
        let stamped = self.partition.is_stamped();
        let is_own = |append: &Append| stamped || append.stamp == Stamp::Stream;
        for run in plan.appends.chunk_by(|a, b| is_own(a) && is_own(b)) {
            if let [append] = run
                && !is_own(append)
            {
                self.append(append).await?;
                self.landed(append);
            } else {
                self.append_all(run).await?;
            }
        }
        if self.cursor.active_next < plan.active_next {
            self.cursor.active_next = plan.active_next;
            self.publish();
        }
        Ok(())
    }

    /// A batch is on the standby.
    fn landed(&mut self, append: &Append) {
        self.cursor = Cursor { active_next: append.active_next, standby_end: append.standby_base + append.count };
        if let Some((producer_id, seen)) = append.seen {
            self.partition.duplicates.lock().record(producer_id, seen);
        }
        self.publish();
    }

    /// Appends one batch where it must land; comes back when it is there.
    async fn append(&mut self, append: &Append) -> Result<(), Stop> {
        let mut forced = false;
        let mut tried = false;
        let mut pause = RETRY_WAIT.0;
        let since = Instant::now();
        loop {
            let stamped = forced || append.stamp == Stamp::Stream;
            let copy = self.hold_copy().await?;
            let outcome = match self.send(append.split(&self.stamp, forced)).await {
                Ok(answer) => outcome(answer).await,
                Err(reason) => Err(reason),
            };
            drop(copy);
            let reason = match outcome {
                Ok(produced) if produced.error == 0 => {
                    if stamped {
                        self.stamp.advance(append.count);
                    }
                    if produced.base_offset == append.standby_base {
                        if tried {
                            // It was the standby that did not answer: that says nothing about how fast it is.
                            self.behind = Behind::default();
                        }
                        return Ok(());
                    }
                    if is_older_duplicate(&produced, append.standby_base) && !stamped {
                        forced = true;
                        continue;
                    }
                    return Err(self.misplaced(append, produced.base_offset, tried));
                }
                // The standby does not know the batch before this one of the same producer.
                Ok(p) if matches!(p.error, OUT_OF_ORDER_SEQUENCE | INVALID_PRODUCER_EPOCH) && !stamped => {
                    forced = true;
                    continue;
                }
                Ok(p) if matches!(p.error, OUT_OF_ORDER_SEQUENCE | INVALID_PRODUCER_EPOCH) => {
                    return Err(Stop::Reopen("the standby expects another sequence of this stream".into()));
                }
                Ok(p) => format!("standby: Kafka error {} {}", p.error, p.message.unwrap_or_default()),
                Err(reason) => reason,
            };
            tried = true;
            if since.elapsed() > Duration::from_millis(200) {
                self.partition.set_state(StreamState::Waiting(reason));
            }
            if self.partition.is_retired() {
                return Err(Stop::Reopen("the topic is gone".into()));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_WAIT.1);
        }
    }

    /// Nothing takes the copy's place as long as this is held.
    async fn hold_copy(&self) -> Result<OwnedRwLockReadGuard<u32>, Stop> {
        let held = self.partition.copy.clone().read_owned().await;
        match *held == self.copy {
            true => Ok(held),
            false => Err(Stop::Reopen(OTHER_COPY.into())),
        }
    }

    /// Hands a batch over to the standby's leader of the partition.
    async fn send(&self, batch: Split) -> Result<Answer, String> {
        let tp = &self.partition.tp;
        let snapshot = self.direction.standby.snapshot().await.map_err(|e| format!("standby: {e}"))?;
        let leader = snapshot.leader(&tp.topic, tp.partition);
        let leader = leader.map_err(|code| format!("standby: no leader for the partition (Kafka error {code})"))?;
        self.direction.writer.append(leader, self.feed, tp, batch).ok_or_else(|| STOPPING.into())
    }

    /// The standby put the batch elsewhere: its log is not what this stream believed.
    fn misplaced(&self, append: &Append, base: i64, tried: bool) -> Stop {
        let expected = append.standby_base;
        if base < expected {
            // The log was cut (an unclean election), or a retry found its first copy lower down: look again.
            return Stop::Reopen(format!(
                "the standby stored a batch at {base} instead of {expected} (retried: {tried})"
            ));
        }
        Stop::Diverged(format!(
            "a batch landed at the standby's offset {base} instead of {expected}: somebody else wrote {} records to the copy \
             on {}, from its offset {expected} on",
            base - expected,
            self.direction.standby_name(),
        ))
    }

    fn publish(&self) {
        // The lock is kept: what holds of one log of the active cluster is not to be said of the next.
        let Ok(offsets) = self.offsets() else { return };
        let Cursor { active_next, standby_end } = self.cursor;
        self.partition.set_watched(self.log);
        self.partition.crossed(offsets.map(self.direction.from).position_out(active_next));
        self.partition.advance(|p| {
            p.replicated = active_next;
            p.standby_end = standby_end;
            p.active_end = p.active_end.max(active_next);
        });
    }
}
