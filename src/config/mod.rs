//! The configuration: the TOML file, checked whole, as the values that the other rooms use.
//!
//! A file is read into `raw` (every key, nothing checked), then `check` turns it into a [`Config`] or into the list of all
//! that is wrong with it. A [`Config`] in hand is therefore always usable.

mod check;
mod error;
mod raw;
mod reload;
mod tee;
pub mod units;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::{ConfigError, Problem};
pub use reload::Changes;
pub use tee::{LossPolicy, TeeMode, TeeRules};
pub use units::{HostPort, PortRange};

use crate::model::ClusterIx;

/// A checked configuration. `config/example.toml` explains every key.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The file it came from, for a reload.
    pub source: PathBuf,
    /// Configured as `active`; decides only at the very first start, afterwards the stored generation does.
    pub active: Cluster,
    /// Configured as `standby`; `None`: a plain proxy.
    pub standby: Option<Cluster>,
    /// Witness of the last generation; a relative path starts at the configuration file's folder.
    pub state_file: Option<PathBuf>,
    /// Not in the file: `serve --assume-active NAME`.
    pub assume_active: Option<ClusterIx>,
    pub listener: Listener,
    pub admin: Admin,
    pub tee: TeeRules,
    pub groups: Groups,
    pub topics: Topics,
    pub cutover: Cutover,
    pub metrics: Metrics,
    pub limits: Limits,
}

/// One real Kafka cluster.
#[derive(Clone, PartialEq, Debug)]
pub struct Cluster {
    /// At most 64 letters, digits, `-` and `_`: it becomes a metric label.
    pub name: String,
    /// At least one.
    pub bootstrap: Vec<HostPort>,
}

/// Where Kafka clients connect.
#[derive(Clone, PartialEq, Debug)]
pub struct Listener {
    pub bind: SocketAddr,
    /// One port per virtual broker; does not contain `bind` or the admin address.
    pub brokers: PortRange,
    /// Host that clients are told, without a port.
    pub advertise: String,
}

/// Where operators connect. Without a token `bind` is a loopback address.
#[derive(Clone, PartialEq, Debug)]
pub struct Admin {
    pub bind: SocketAddr,
    pub token: Option<Secret>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Groups {
    /// How often the committed offsets of all groups are read from the active cluster.
    pub sync_interval: Duration,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Topics {
    pub on_delete: OnDelete,
    /// How often the topics and their settings on the two clusters are compared.
    pub refresh_interval: Duration,
    /// Of topics created on the standby; `None`: as on the active cluster, at most the standby's broker count.
    pub replication_factor: Option<i16>,
    /// Of the proxy's own state topic; `None`: 3, at most the cluster's broker count.
    pub state_replication_factor: Option<i16>,
}

/// What happens to the standby's copy when a topic is deleted on the active cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDelete {
    /// The copy stays.
    Keep,
    /// The copy is deleted too.
    Follow,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Cutover {
    /// A cutover that is not committed by then is rolled back; a request may name a shorter or longer time.
    pub timeout: Duration,
    /// Preflight refuses a switchover while any partition lags by more records than this.
    pub max_lag_records: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Metrics {
    /// Whether the lag of each partition is a series of its own.
    pub per_partition: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Limits {
    /// Bytes of one request or reply; a larger one closes its connection.
    pub max_frame: u32,
    /// Client connections at a time.
    pub max_connections: u32,
    /// Bytes of teed batches that wait for the standby, all partitions together; beyond it a stream catches up by fetching.
    pub tee_buffer: u64,
    /// Bytes of replies that wait for their clients, all connections together; beyond it fetches bring less at a time.
    pub reply_buffer: u64,
    /// Requests of one connection that wait for their answer; beyond it the proxy stops reading from the client.
    pub in_flight_per_connection: u32,
    /// A request is held no longer than this at a cutover.
    pub hold_deadline: Duration,
}

/// A text that logs and debug output do not show.
#[derive(Clone, PartialEq)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Config {
    /// Reads and checks a file, and the secret files and variables that it names.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Config::parse(path, &text)
    }

    /// Checks `text`; `path` is named in errors and is where relative paths start.
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let raw = toml::from_str(text).map_err(|error| error::from_toml(path, text, &error))?;
        check::check(path, text, raw)
    }

    /// The cluster behind an index: [`ClusterIx::FIRST`] is the one configured as `active`.
    pub fn cluster(&self, ix: ClusterIx) -> Option<&Cluster> {
        if ix == ClusterIx::FIRST { Some(&self.active) } else { self.standby.as_ref() }
    }

    /// The index of a cluster by its name; `None`: no such cluster, or one that this proxy does not use.
    pub fn cluster_named(&self, name: &str) -> Option<ClusterIx> {
        ClusterIx::BOTH.into_iter().find(|ix| self.cluster(*ix).is_some_and(|cluster| cluster.name == name))
    }

    /// What would change if `new` took this one's place.
    pub fn changes(&self, new: &Config) -> Changes {
        reload::changes(self, new)
    }
}

#[cfg(test)]
mod tests;
