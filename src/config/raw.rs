//! The configuration file as it is written: every key that exists, nothing checked yet. Values that are checked later
//! carry their place in the file.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::{LossPolicy, OnDelete, TeeMode};

pub(super) type Text = Spanned<String>;
pub(super) type Reserved = Option<Spanned<toml::Value>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub active: Text,
    pub standby: Option<Text>,
    pub state_file: Option<Text>,
    pub clusters: BTreeMap<String, Spanned<RawCluster>>,
    #[serde(default)]
    pub listener: RawListener,
    #[serde(default)]
    pub admin: RawAdmin,
    #[serde(default)]
    pub tee: RawTee,
    #[serde(default)]
    pub groups: RawGroups,
    #[serde(default)]
    pub topics: RawTopics,
    #[serde(default)]
    pub cutover: RawCutover,
    #[serde(default)]
    pub metrics: RawMetrics,
    #[serde(default)]
    pub limits: RawLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCluster {
    pub bootstrap: Spanned<Vec<Text>>,
    pub tls: Reserved,
    pub sasl: Reserved,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListener {
    pub bind: Option<Text>,
    pub brokers: Option<Text>,
    pub advertise: Option<Text>,
    pub tls: Reserved,
    pub sasl: Reserved,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAdmin {
    pub bind: Option<Text>,
    pub token_file: Option<Text>,
    pub token_env: Option<Text>,
    pub tls: Reserved,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTee {
    pub mode: Option<TeeMode>,
    pub include: Option<Vec<Text>>,
    pub exclude: Option<Vec<Text>>,
    pub sync_timeout: Option<Text>,
    pub on_standby_loss: Option<LossPolicy>,
    #[serde(default, rename = "override")]
    pub overrides: Vec<RawOverride>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOverride {
    #[serde(rename = "match")]
    pub patterns: Spanned<Vec<Text>>,
    pub mode: TeeMode,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGroups {
    pub sync_interval: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTopics {
    pub on_delete: Option<OnDelete>,
    pub refresh_interval: Option<Text>,
    pub replication_factor: Option<Spanned<i64>>,
    pub state_replication_factor: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCutover {
    pub timeout: Option<Text>,
    pub max_lag_records: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMetrics {
    pub per_partition: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub max_frame: Option<Text>,
    pub max_connections: Option<Spanned<i64>>,
    pub tee_buffer: Option<Text>,
    pub reply_buffer: Option<Text>,
    pub in_flight_per_connection: Option<Spanned<i64>>,
    pub hold_deadline: Option<Text>,
}
