//! What the API says about the records that a failover left behind on the cluster that it retired.

use serde::{Deserialize, Serialize};

use super::{Problem, UtcMillis};
use crate::divergence::Class;
use crate::model::Generation;

/// What was decided about a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DivergenceState {
    /// Nothing yet.
    Open,
    /// Its records are being written again, or an attempt was cut short: the same command goes on.
    Reinjecting,
    Reinjected,
    Discarded,
}

impl DivergenceState {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            DivergenceState::Open => "open",
            DivergenceState::Reinjecting => "reinjecting",
            DivergenceState::Reinjected => "reinjected",
            DivergenceState::Discarded => "discarded",
        }
    }
}

/// Consecutive records of a partition on one cluster that no client can see any more. Ends are exclusive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DivergentRange {
    pub topic: String,
    pub partition: i32,
    /// The cluster that has them.
    pub cluster: String,
    /// The generation that the cutover began which left them behind, or in which the active cluster lost them.
    pub generation: Generation,
    /// They lie behind a switchover, so somebody wrote to the cluster after it was retired.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bypass: bool,
    /// No cutover left them behind: `cluster` was the standby, and the active cluster has lost what these are copies of (an
    /// unclean leader election).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// The cluster's own offsets.
    pub from_offset: i64,
    pub to_offset: i64,
    /// The offsets under which clients saw them before the cutover. No later record has one of these.
    pub logical_from: i64,
    pub logical_to: i64,
    /// Nothing has been copied behind it yet: it could still grow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub growing: bool,
    /// Records of producers, of aborted transactions, and behind the first record of a transaction that is still open.
    pub records: u64,
    pub aborted_records: u64,
    pub undecided_records: u64,
    pub control_batches: u64,
    pub batches: u64,
    /// As stored.
    pub bytes: u64,
    #[serde(default)]
    pub first_timestamp: Option<UtcMillis>,
    #[serde(default)]
    pub last_timestamp: Option<UtcMillis>,
    /// Offsets at its start that the cluster's retention has taken.
    #[serde(default)]
    pub expired_offsets: u64,
    pub state: DivergenceState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_at: Option<UtcMillis>,
    /// Records written again so far.
    #[serde(default)]
    pub reinjected_records: u64,
    /// Why the counts are not known, or what was asked for was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// `GET /v1/divergence`, and the answer of what deals with ranges: those that were chosen, as they are now.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Divergence {
    pub ranges: Vec<DivergentRange>,
    /// Clusters that could not be asked, and why: what they hold is not in `ranges`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreachable: Vec<String>,
}

/// Body of `POST /v1/divergence/reinject` and `/discard`: which ranges. An empty one means all that are open.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DivergenceRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
}

impl DivergenceRequest {
    pub fn chooses(&self, topic: &str, partition: i32, generation: Generation) -> bool {
        self.topic.as_deref().is_none_or(|t| t == topic)
            && self.partition.is_none_or(|p| p == partition)
            && self.generation.is_none_or(|g| g == generation)
    }
}

/// Query of `GET /v1/divergence/export`: one range. A generation retires one cluster, so this is enough, except for ranges
/// that the active cluster has lost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    pub topic: String,
    pub partition: i32,
    pub generation: Generation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_offset: Option<i64>,
}

/// What stands in front of an export's parts: a line of JSON each. A batch's line is followed by its bytes as stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportFrame {
    /// First.
    Range(Box<DivergentRange>),
    Batch {
        base_offset: i64,
        bytes: u64,
        kind: Class,
    },
    /// Last, if nothing went wrong. The checksum is CRC-32C over the bytes of all batches.
    End {
        batches: u64,
        bytes: u64,
        crc32c: u32,
    },
    /// Last, if something went wrong: what came is not all.
    Error(Problem),
}
