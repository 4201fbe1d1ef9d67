//! Offsets that go to the standby before their commit is acknowledged.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::GroupSync;
use crate::model::TopicPartition;

/// Pause between looks at offsets whose transaction is being completed.
const MARKER_WAIT: Duration = Duration::from_millis(3);

/// Where offsets are that the active cluster has just taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teed {
    OnBoth,
    /// The standby could not take them in time.
    OnActive,
    /// The active cluster does not answer any more, or a cutover has begun: it may be lost, and they with it.
    Unknown,
}

impl GroupSync {
    /// Brings offsets to the standby that a member has just committed, until `deadline`.
    pub async fn tee(&self, group: &str, partitions: &[TopicPartition], deadline: Instant) -> Teed {
        let Ok(_writing) = timeout_at(deadline, self.writing.read()).await else { return Teed::OnActive };
        let Ok(_turn) = timeout_at(deadline, self.turn(group)).await else { return Teed::OnActive };
        if self.closed.load(Ordering::Acquire) {
            return Teed::Unknown;
        }
        // Read, not taken from the request: of two commits that pass at the same time the cluster knows which came last.
        let read = self.read(self.active.offset_fetch_stable(group, partitions));
        let committed = match timeout_at(deadline, read).await {
            Ok(Ok(Some(committed))) => committed,
            Ok(Ok(None)) => return Teed::OnActive, // a transaction is about to change them; its end brings them over
            Ok(Err(_)) | Err(_) => return Teed::Unknown,
        };
        match timeout_at(deadline, self.put(group, committed)).await {
            Ok(Ok((_, 0))) => Teed::OnBoth,
            _ => Teed::OnActive,
        }
    }

    /// Brings offsets to the standby that a transaction has just committed; comes back when they are there. To be bounded by
    /// the caller.
    ///
    /// # Errors
    /// Why they are not there.
    pub async fn copy_committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<(), String> {
        let _writing = self.writing.read().await;
        let _turn = self.turn(group).await;
        loop {
            if self.closed.load(Ordering::Acquire) {
                return Err("the copying of group offsets has been stopped".into());
            }
            if let Some(committed) = self.read(self.active.offset_fetch_stable(group, partitions)).await? {
                let (_, waiting) = self.put(group, committed).await?;
                if waiting == 0 {
                    return Ok(());
                }
            }
            tokio::time::sleep(MARKER_WAIT).await;
        }
    }
}
