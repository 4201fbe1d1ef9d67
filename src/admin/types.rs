//! What the API says: status, reports and the rest, as JSON with the fixed field names. Reports are also what the state
//! topic keeps, so everything here reads back what it wrote; unknown fields of later versions are skipped.

mod divergence;

pub use divergence::{Divergence, DivergenceRequest, DivergenceState, DivergentRange, ExportFrame, ExportQuery};

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::config::TeeMode;
use crate::model::Generation;

/// At most this many differences are listed in a [`VerifyReport`]; more are only counted. Bounds the answer's size.
pub const MAX_DIFFERENCES: usize = 100;

/// A moment, in milliseconds since 1970 (UTC); in JSON `2026-01-01T00:00:00.000Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct UtcMillis(pub i64);

impl UtcMillis {
    /// The system clock's time.
    pub fn now() -> UtcMillis {
        UtcMillis(jiff::Timestamp::now().as_millisecond())
    }
}

impl fmt::Display for UtcMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{}", time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")),
            // Outside the years -9999 to 9999.
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for UtcMillis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UtcMillis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(de::Error::custom)?;
        Ok(UtcMillis(time.as_millisecond()))
    }
}

/// Where the proxy is between two cutovers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Steady,
    Preflight,
    Hold,
    Drain,
    Commit,
    Resume,
}

impl Phase {
    /// The name in JSON and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Steady => "steady",
            Phase::Preflight => "preflight",
            Phase::Hold => "hold",
            Phase::Drain => "drain",
            Phase::Commit => "commit",
            Phase::Resume => "resume",
        }
    }
}

/// What feeds a stream right now, or why nothing does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    Tee,
    CatchUp,
    Waiting,
    Diverged,
    Off,
}

impl StreamState {
    pub const ALL: [StreamState; 5] =
        [StreamState::Tee, StreamState::CatchUp, StreamState::Waiting, StreamState::Diverged, StreamState::Off];

    /// The name in JSON and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            StreamState::Tee => "tee",
            StreamState::CatchUp => "catch_up",
            StreamState::Waiting => "waiting",
            StreamState::Diverged => "diverged",
            StreamState::Off => "off",
        }
    }
}

/// `GET /v1/status`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Name of the active cluster.
    pub active: String,
    /// `null` for a plain proxy.
    pub standby: Option<String>,
    pub generation: Generation,
    pub phase: Phase,
    /// Every sync topic is in sync. `false` for a plain proxy.
    pub standby_in_sync: bool,
    /// Open client connections.
    pub connections: u64,
    pub partitions: Vec<PartitionStatus>,
    /// The newest cutover, dry runs not counted.
    #[serde(default)]
    pub last_cutover: Option<CutoverSummary>,
    #[serde(default)]
    pub last_verify: Option<VerifySummary>,
    /// What an operator should look at, one sentence each; empty when all is well.
    #[serde(default)]
    pub alarms: Vec<String>,
    /// Runs in all offset maps, and the bytes that they take in memory.
    #[serde(default)]
    pub offset_map_runs: u64,
    #[serde(default)]
    pub offset_map_bytes: u64,
}

/// One partition's stream.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PartitionStatus {
    pub topic: String,
    pub partition: i32,
    pub mode: TeeMode,
    pub stream: StreamState,
    pub in_sync: bool,
    /// Logical offsets; the end is exclusive.
    pub logical_start: i64,
    pub logical_end: i64,
    /// End offset (exclusive) on the active cluster.
    pub active_end: i64,
    /// End offset (exclusive) on the standby; `null` while it is not known.
    pub standby_end: Option<i64>,
    pub lag_records: u64,
    pub lag_bytes: u64,
    /// Age of the oldest record that the standby lacks; 0 when it lacks none.
    pub lag_seconds: f64,
    /// Batches that clients produced straight to the active cluster, since this proxy started.
    #[serde(default)]
    pub bypass_batches: u64,
    /// Logical ranges (start, end) that the active cluster deleted before they were copied, since this proxy started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holes: Vec<(i64, i64)>,
    /// Logical ranges (start, end) that the active cluster has lost (an unclean leader election), since this proxy started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub truncations: Vec<(i64, i64)>,
    /// Why the stream waits or is diverged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CutoverSummary {
    pub kind: CutoverKind,
    pub outcome: Outcome,
    pub generation: Generation,
    pub started_at: UtcMillis,
    pub hold_ms: f64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VerifySummary {
    pub at: UtcMillis,
    pub equal: bool,
    pub differences_total: u64,
}

/// Body of `POST /v1/switchover` and `POST /v1/failover`; an empty body means the defaults.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CutoverRequest {
    /// Say what would happen; change nothing.
    pub dry_run: bool,
    /// Roll back if not committed by then; `None`: `[cutover] timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutoverKind {
    Switchover,
    Failover,
}

impl CutoverKind {
    /// The name in JSON and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            CutoverKind::Switchover => "switchover",
            CutoverKind::Failover => "failover",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Committed; of a dry run: would be tried.
    Done,
    /// Nothing was begun; `reasons` says why.
    Refused,
    /// Begun and undone; `reasons` says why.
    RolledBack,
}

impl Outcome {
    /// The name in JSON and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Refused => "refused",
            Outcome::RolledBack => "rolled_back",
        }
    }
}

/// What a cutover did, or a dry run would do.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    pub kind: CutoverKind,
    pub outcome: Outcome,
    /// `true`: nothing was changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// The new generation if `done`, else the one that stayed.
    pub generation: Generation,
    pub from: String,
    pub to: String,
    pub started_at: UtcMillis,
    /// How long requests were held.
    pub hold_ms: f64,
    pub phases: Vec<PhaseDone>,
    /// Acknowledged records that the new active cluster lacks; empty for a switchover.
    pub lost: Vec<LostRange>,
    pub partitions: Vec<PartitionEnd>,
    /// Why it was refused or rolled back, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What should be known although it went on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A phase that is over, and how long it took.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct PhaseDone {
    pub name: Phase,
    pub ms: f64,
}

/// Logical offsets from `logical_from` up to `logical_to` (exclusive); `records` of them held an acknowledged record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LostRange {
    pub topic: String,
    pub partition: i32,
    pub logical_from: i64,
    pub logical_to: i64,
    pub records: u64,
}

/// Where a partition stood at the cutover: ends (exclusive) in logical offsets and on both clusters. `null`: not known
/// (the lost cluster of a failover could not be asked).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionEnd {
    pub topic: String,
    pub partition: i32,
    pub logical_end: i64,
    pub from_end: Option<i64>,
    pub to_end: Option<i64>,
}

/// Body of `POST /v1/verify`; an empty body means every teed topic.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

/// What comparing the two clusters found.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VerifyReport {
    /// No difference, and nothing that should have been compared was skipped.
    pub equal: bool,
    pub started_at: UtcMillis,
    pub ms: f64,
    pub topics: Vec<VerifiedTopic>,
    /// At most [`MAX_DIFFERENCES`].
    pub differences: Vec<Difference>,
    pub differences_total: u64,
    /// Partitions that could not be compared.
    #[serde(default)]
    pub skipped: Vec<Skipped>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerifiedTopic {
    pub topic: String,
    pub partitions: Vec<VerifiedPartition>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerifiedPartition {
    pub partition: i32,
    /// Compared, on the active side.
    pub batches: u64,
    pub records: u64,
    /// Of the batches: equal by checksum, so that no record was decoded.
    pub fingerprints: u64,
    pub differences: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Difference {
    pub topic: String,
    pub partition: i32,
    pub logical_offset: i64,
    /// One sentence.
    pub what: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Skipped {
    pub topic: String,
    pub partition: i32,
    pub reason: String,
}

/// Query of `GET /v1/translate`. Without `cluster`, `offset` is logical; with it, an offset of that cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranslateQuery {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    #[serde(default)]
    pub cluster: Option<String>,
}

/// The same record by all its offsets. `null`: that cluster has no such record, and `detail` says why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Translation {
    pub topic: String,
    pub partition: i32,
    pub logical_offset: Option<i64>,
    /// By cluster name.
    pub cluster_offsets: BTreeMap<String, Option<i64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What a reload of the configuration changed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Keys or sections taken over.
    pub changed: Vec<String>,
    /// Keys or sections that differ but wait for a restart.
    pub needs_restart: Vec<String>,
}

impl From<crate::config::Changes> for ReloadReport {
    fn from(changes: crate::config::Changes) -> Self {
        let owned = |keys: Vec<&'static str>| keys.into_iter().map(str::to_owned).collect();
        ReloadReport { changed: owned(changes.live), needs_restart: owned(changes.restart) }
    }
}

/// RFC 9457, the body of every error.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// The single reasons, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// One line of a streamed cutover (`application/x-ndjson`): phases as they end, then exactly one of the others.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutoverEvent {
    Phase(PhaseDone),
    Report(Box<Report>),
    Error(Problem),
}

#[cfg(test)]
pub(crate) mod tests;
