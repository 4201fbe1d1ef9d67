//! The pause between two attempts of one operation, and when to stop trying.

use std::time::Duration;

use tokio::time::Instant;

use super::cluster::Cluster;
use super::error::{Kind, UpstreamError, code, means_stale_metadata};

/// First pause: a new leader or coordinator is usually known within tens of milliseconds.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Longest pause: an election or a broker's start takes seconds, polling faster only costs requests.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How long UNKNOWN_TOPIC_OR_PARTITION counts as a delay in spreading metadata; afterwards the topic is not there.
const UNKNOWN_TOPIC_PATIENCE: Duration = Duration::from_secs(1);

/// The attempts of one operation against one cluster.
pub(super) struct Retry<'a> {
    cluster: &'a Cluster,
    group: Option<&'a str>,
    started: Instant,
    deadline: Instant,
    pause: Duration,
}

impl<'a> Retry<'a> {
    pub fn new(cluster: &'a Cluster) -> Self {
        let started = Instant::now();
        Retry { cluster, group: None, started, deadline: started + cluster.timeout(), pause: PAUSE_MIN }
    }

    /// For an operation on a group's coordinator.
    pub fn for_group(cluster: &'a Cluster, group: &'a str) -> Self {
        Retry { group: Some(group), ..Retry::new(cluster) }
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Time left for the next attempt.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether a code on one partition is worth another attempt now.
    pub fn may_retry_code(&self, code: i16) -> bool {
        if code == code::UNKNOWN_TOPIC_OR_PARTITION && self.started.elapsed() > UNKNOWN_TOPIC_PATIENCE {
            return false;
        }
        super::error::is_retriable(code) && !self.left().is_zero()
    }

    /// Notes what a partition's code says about the cached metadata.
    pub fn note_code(&self, code: i16) {
        if means_stale_metadata(code) {
            self.cluster.mark_stale();
        }
        if let (Some(group), code::NOT_COORDINATOR | code::COORDINATOR_NOT_AVAILABLE) = (self.group, code) {
            self.cluster.forget_coordinator(group);
        }
    }

    /// Waits before another attempt, or hands the error back when another cannot help or would come too late.
    pub async fn pause(&mut self, error: UpstreamError) -> Result<(), UpstreamError> {
        let may = match error.kind() {
            Kind::Kafka(e) => {
                self.note_code(e.code);
                self.may_retry_code(e.code)
            }
            _ => error.is_retriable(),
        };
        if !may || self.left() <= self.pause {
            return Err(error);
        }
        tracing::trace!(cluster = %self.cluster.name(), %error, "trying again");
        self.sleep().await;
        Ok(())
    }

    /// Waits before another attempt on some partitions; false when there is no time for one.
    pub async fn sleep(&mut self) -> bool {
        if self.left() <= self.pause {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}
