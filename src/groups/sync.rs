//! Keeps the committed offsets of all groups on the standby, in the standby's own offsets.
//!
//! A pass reads every group on the active cluster and writes to the standby what differs from what was last written there.
//! Offsets that the standby's copy has not reached yet are left for a later pass, never approximated. Between passes,
//! groups whose commits went through the proxy are brought up to date as soon as the commit is there.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::standby::{self, Refusal};
use super::translate::standby_offset;
use crate::catalog::{Catalog, StreamState};
use crate::config::TeeMode;
use crate::groups::Rehome;
use crate::model::{ClusterIx, Generation, TopicPartition};
use crate::upstream::{Cluster, Committed, ListedGroup, UpstreamError};

mod acknowledged;
mod left;
mod shares;

pub use acknowledged::Teed;

/// Groups worked on at the same time: enough to hide the round trips, few enough not to crowd out the control lane.
const AT_ONCE: usize = 32;
/// Groups whose standby offsets are remembered; when there are more the memory starts anew, at the price of a read each.
const MAX_REMEMBERED: usize = 20_000;
/// A commit through the proxy is followed up after this long, together with those that came meanwhile: time for the
/// coordinator to store it, and a bound on the rate for groups that commit often.
const FOLLOW_UP: Duration = Duration::from_millis(200);
/// Even what does not change is written again after this long, far below the standby's `offsets.retention.minutes` (7
/// days): without members there, the group would expire.
const REFRESH: Duration = Duration::from_secs(6 * 3600);
/// How long [`GroupSync::stop`] waits for a write that is under way.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// Locks for groups: more than are written at the same time.
const TURNS: usize = 64;
/// The type of groups of share consumers, which have start offsets in place of committed ones.
const SHARE: &str = "share";

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub groups: usize,
    /// Partitions written to the standby.
    pub written: usize,
    /// Partitions whose committed offset the standby's copy has not reached, or cannot reach.
    pub waiting: usize,
}

/// A group, and of which kind it is.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Named {
    group: String,
    share: bool,
}

impl From<ListedGroup> for Named {
    fn from(listed: ListedGroup) -> Self {
        Named { share: listed.group_type == SHARE, group: listed.group }
    }
}

/// What the standby holds of one group, as far as this process knows.
struct Known {
    offsets: HashMap<TopicPartition, (i64, String)>,
    /// When all of it was read or written.
    fresh_at: Instant,
    /// Some of it was written by this process.
    ours: bool,
}

#[derive(Default)]
struct Memory {
    groups: HashMap<String, Known>,
    /// Groups whose last attempt failed, so that it is logged once.
    failing: HashSet<String>,
}

/// Copies committed offsets for one generation, from its active cluster to its standby.
pub struct GroupSync {
    catalog: Arc<Catalog>,
    active: Cluster,
    standby: Cluster,
    active_ix: ClusterIx,
    generation: Generation,
    rehome: Arc<Rehome>,
    left: left::Left,
    memory: Mutex<Memory>,
    shares: Mutex<shares::Shares>,
    /// Shared by those who write to the standby; whoever stops them waits for it alone.
    writing: tokio::sync::RwLock<()>,
    /// One writer at a time for each group (by hash): an older offset must not overtake a newer one.
    turns: [tokio::sync::Mutex<()>; TURNS],
    /// Nothing is written any more, except by the final pass.
    closed: AtomicBool,
    /// Nothing is read from the active cluster any more: it may be lost, and would keep a writer waiting.
    halted: CancellationToken,
    due: Mutex<HashSet<Named>>,
    commits: Notify,
}

impl GroupSync {
    /// Copies from `active_ix` of `[active, standby]` in `generation`.
    pub fn new(
        catalog: Arc<Catalog>,
        [active, standby]: [Cluster; 2],
        active_ix: ClusterIx,
        generation: Generation,
        rehome: Arc<Rehome>,
    ) -> Self {
        GroupSync {
            catalog,
            active,
            standby,
            active_ix,
            generation,
            rehome,
            left: left::Left::default(),
            memory: Mutex::default(),
            shares: Mutex::default(),
            writing: tokio::sync::RwLock::default(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            closed: AtomicBool::new(false),
            halted: CancellationToken::new(),
            due: Mutex::default(),
            commits: Notify::new(),
        }
    }

    /// A commit of this group, or an acknowledgement of this share group, was sent to the active cluster: its copy is due.
    pub fn notify(&self, group: &str, share: bool) {
        let mut due = self.due.lock();
        // Beyond the limit the next pass finds it.
        if due.len() < MAX_REMEMBERED && due.insert(Named { group: group.to_owned(), share }) {
            self.commits.notify_one();
        }
    }

    /// Keeps the standby's offsets up to date until stopped: a pass every `interval`, and what was notified in between.
    pub async fn run(&self, interval: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => None,
                () = self.commits.notified() => {
                    tokio::time::sleep(FOLLOW_UP).await;
                    Some(std::mem::take(&mut *self.due.lock()))
                }
            };
            let _writing = self.writing.read().await;
            if self.closed.load(Ordering::Acquire) || stop.is_cancelled() {
                continue;
            }
            match due {
                Some(due) => {
                    self.copy_all(due.into_iter().collect(), false).await;
                }
                None => self.pass().await,
            }
        }
    }

    /// Stops writing to the standby for good, and waits (bounded) for what is under way: a late write would overwrite what
    /// the group's members commit there after a cutover.
    pub async fn stop(&self) {
        self.closed.store(true, Ordering::Release);
        self.halted.cancel();
        if tokio::time::timeout(STOP_LIMIT, self.writing.write()).await.is_err() {
            tracing::warn!("a write of group offsets to the standby is still under way");
        }
    }

    /// One full pass for a switchover, when nothing is committed any more and the streams are drained. Afterwards nothing
    /// else is written to the standby from here.
    ///
    /// # Errors
    /// Why groups are not up to date on the standby. Copying goes on as before.
    pub async fn final_pass(&self, deadline: Instant) -> Result<Summary, Vec<String>> {
        self.closed.store(true, Ordering::Release);
        let pass = async {
            let _writing = self.writing.write().await;
            let (active, standby) = tokio::join!(self.active.list_groups(), self.standby.list_groups());
            let active = active.map_err(|e| vec![format!("the active cluster's groups: {e}")])?;
            let standby = standby.map_err(|e| vec![format!("the standby's groups: {e}")])?;
            let groups: HashSet<Named> = active.into_iter().map(Named::from).collect();
            let ghosts = self.remove_ghosts(left::manned(standby).filter(|g| groups.contains(g)).collect()).await;
            self.remove_unjoined().await;
            let (summary, mut failures) = self.copy_all(groups.into_iter().collect(), true).await;
            failures.extend(ghosts.into_iter().map(|(named, reason)| format!("group {}: {reason}", named.group)));
            if failures.is_empty() { Ok(summary) } else { Err(failures) }
        };
        let late = || Err(vec!["the group offsets did not reach the standby in time".to_owned()]);
        let result = tokio::time::timeout_at(deadline, pass).await.unwrap_or_else(|_| late());
        if result.is_err() {
            self.closed.store(false, Ordering::Release);
        }
        result
    }

    /// Reads from the active cluster unless, or until, this is stopped.
    async fn read<T>(&self, work: impl Future<Output = Result<T, UpstreamError>>) -> Result<T, String> {
        tokio::select! {
            biased;
            () = self.halted.cancelled() => Err("the copying of group offsets has been stopped".into()),
            done = work => done.map_err(|e| e.to_string()),
        }
    }

    async fn pass(&self) {
        self.remove_unjoined().await;
        let groups = match self.read(self.active.list_groups()).await {
            Ok(groups) => groups,
            Err(error) => {
                counter!("kafka_standby_group_syncs_total", "result" => "failed").increment(1);
                tracing::debug!(%error, "groups cannot be listed");
                return;
            }
        };
        let groups: Vec<Named> = groups.into_iter().map(Named::from).collect();
        self.remove_left(&groups).await;
        self.follow_deletions(&groups).await;
        self.copy_all(groups, false).await;
    }

    /// Copies these groups; answers what was done and which failed, with the reason.
    async fn copy_all(&self, groups: Vec<Named>, last: bool) -> (Summary, Vec<String>) {
        let mut summary = Summary::default();
        let mut failures = Vec::new();
        let mut copies = stream::iter(groups)
            .map(|Named { group, share }| async move {
                let stopped = !last && self.closed.load(Ordering::Acquire);
                let copied = match share {
                    _ if stopped => None,
                    true => Some(self.copy_share(&group).await),
                    false => Some(self.copy(&group).await),
                };
                (group, copied)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((group, copied)) = copies.next().await {
            match copied {
                None => {}
                Some(Ok((written, waiting))) => {
                    summary.groups += 1;
                    summary.written += written;
                    summary.waiting += waiting;
                    self.worked(&group);
                }
                Some(Err(reason)) => {
                    self.failed(&group, &reason);
                    failures.push(format!("group {group}: {reason}"));
                }
            }
        }
        counter!("kafka_standby_group_offsets_written_total").increment(summary.written as u64);
        (summary, failures)
    }

    /// Writes offsets of the standby's own that a transaction has committed on a cluster that is lost. After [`Self::stop`].
    ///
    /// # Errors
    /// Why they are not there.
    pub async fn write_lost(&self, group: &str, offsets: &[(TopicPartition, i64, String)]) -> Result<(), String> {
        self.write(group, offsets).await.map(drop)
    }

    async fn turn(&self, group: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        group.hash(&mut hasher);
        self.turns[hasher.finish() as usize % TURNS].lock().await
    }

    /// Brings one group up to date: (partitions written, partitions that wait).
    async fn copy(&self, group: &str) -> Result<(usize, usize), String> {
        let _turn = self.turn(group).await;
        let committed = self.read(self.active.offset_fetch_all(group)).await?;
        self.put(group, committed).await
    }

    async fn put(&self, group: &str, committed: Vec<Committed>) -> Result<(usize, usize), String> {
        let (wanted, waiting) = self.translated(committed);
        if wanted.is_empty() {
            return Ok((0, waiting));
        }
        let mut known = match self.take_known(group) {
            Some(known) => known,
            None => read_known(&self.standby, group).await.map_err(|e| e.to_string())?,
        };
        let now = Instant::now();
        let stale = now - known.fresh_at > REFRESH;
        let differs = |(tp, offset, metadata): &(TopicPartition, i64, String)| {
            stale || known.offsets.get(tp).is_none_or(|(o, m)| o != offset || m != metadata)
        };
        let wanted: Vec<_> = wanted.into_iter().filter(differs).collect();
        // After a failure what the standby has is read again.
        let absent = self.write(group, &wanted).await?;
        let (mut written, all) = (0, wanted.len());
        for (tp, offset, metadata) in wanted.into_iter().filter(|(tp, _, _)| !absent.contains(tp)) {
            known.offsets.insert(tp, (offset, metadata));
            written += 1;
        }
        known.ours |= written > 0;
        if stale {
            known.fresh_at = now;
        }
        self.keep_known(group, known);
        Ok((written, waiting + all - written))
    }

    /// What the standby should hold, and how many partitions cannot be translated yet.
    fn translated(&self, committed: Vec<Committed>) -> (Vec<(TopicPartition, i64, String)>, usize) {
        let mut waiting = 0;
        let mut wanted = Vec::with_capacity(committed.len());
        for c in committed {
            let Some(partition) = self.catalog.partition(&c.tp.topic, c.tp.partition) else { continue };
            if partition.mode() == TeeMode::Off {
                continue;
            }
            let progress = partition.progress();
            let offset = match partition.state() {
                StreamState::Diverged(_) => None,
                _ => standby_offset(&partition.offsets.read(), self.active_ix, progress, c.offset),
            };
            match offset {
                Some(offset) => wanted.push((c.tp, offset, c.metadata)),
                None => waiting += 1,
            }
        }
        (wanted, waiting)
    }

    /// Writes to the standby; answers the partitions that it does not have yet. Members that are left in the group there
    /// from an earlier generation are removed.
    async fn write(
        &self,
        group: &str,
        offsets: &[(TopicPartition, i64, String)],
    ) -> Result<HashSet<TopicPartition>, String> {
        match standby::write(&self.standby, group, offsets).await {
            Err(Refusal::HasMembers) => {}
            done => return done.map_err(|refusal| refusal.to_string()),
        }
        standby::remove_members(&self.standby, group).await.map_err(|e| e.to_string())?;
        standby::write(&self.standby, group, offsets).await.map_err(|refusal| refusal.to_string())
    }

    /// Deletes groups on the standby that were written by this process and are no more on the active cluster.
    async fn follow_deletions(&self, listed: &[Named]) {
        let listed: HashSet<&str> = listed.iter().map(|named| named.group.as_str()).collect();
        self.follow_share_deletions(&listed).await;
        let ours =
            |(group, known): (&String, &Known)| (known.ours && !listed.contains(group.as_str())).then(|| group.clone());
        let missing: Vec<String> = self.memory.lock().groups.iter().filter_map(ours).collect();
        for group in missing {
            // A list can lack the groups of a coordinator that has just moved; the coordinator itself knows.
            match self.active.describe_group(&group).await {
                Ok(None) => {}
                _ => continue,
            }
            match standby::delete_group(&self.standby, &group).await {
                Ok(()) => {
                    tracing::info!(group, "deleted on the standby, as on the active cluster");
                    self.memory.lock().groups.remove(&group);
                }
                Err(error) => self.failed(&group, &error.to_string()),
            }
        }
    }

    fn take_known(&self, group: &str) -> Option<Known> {
        self.memory.lock().groups.remove(group)
    }

    fn keep_known(&self, group: &str, known: Known) {
        let mut memory = self.memory.lock();
        if memory.groups.len() >= MAX_REMEMBERED {
            memory.groups.clear();
        }
        memory.groups.insert(group.to_owned(), known);
    }

    fn worked(&self, group: &str) {
        if self.memory.lock().failing.remove(group) {
            tracing::info!(group, "the group's offsets are on the standby again");
        }
    }

    fn failed(&self, group: &str, reason: &str) {
        counter!("kafka_standby_group_syncs_total", "result" => "failed").increment(1);
        let mut memory = self.memory.lock();
        if memory.failing.len() >= MAX_REMEMBERED {
            memory.failing.clear();
        }
        if memory.failing.insert(group.to_owned()) {
            tracing::warn!(group, reason, "the group's offsets are not on the standby");
        }
    }
}

async fn read_known(standby: &Cluster, group: &str) -> Result<Known, UpstreamError> {
    let there = standby.offset_fetch_all(group).await?;
    let offsets = there.into_iter().map(|c| (c.tp, (c.offset, c.metadata))).collect();
    Ok(Known { offsets, fresh_at: Instant::now(), ours: false })
}
