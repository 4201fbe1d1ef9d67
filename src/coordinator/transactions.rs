//! Transactions at a cutover. What is open on a cluster that is about to be retired must not cross, and what lies behind it
//! in the log can only cross once it is decided: so it is aborted there, by fencing, which is what a coordinator does to a
//! transaction whose producer does not come back.

use std::time::Duration;

use tokio::time::Instant;

use super::Coordinator;
use crate::model::ClusterIx;
use crate::proxy::{fresh, now};
use crate::state::{Entry, Key};
use crate::transactions::{InDoubt, Record, Touched};
use crate::upstream::{Cluster, transaction};

/// For the standby's coordinator to come up where there were no transactions before.
const WARM: Duration = Duration::from_secs(30);

impl Coordinator {
    /// A switchover: ends what is open on the active cluster, and learns what became of transactions whose end was under way.
    /// Gives the ids aborted, and what must be stored with the cutover.
    pub(super) async fn leave_transactions(
        &self,
        active: &Cluster,
        deadline: Instant,
    ) -> Result<(Vec<String>, Vec<(String, Record)>), String> {
        let left = deadline.saturating_duration_since(Instant::now());
        let aborted = active.with_timeout(left).end_transactions(|_| true).await.map_err(|e| e.to_string())?;
        for doubt in self.doubtful_transactions().into_iter().filter(|d| !aborted.contains(&d.id)) {
            let found = active.describe_transaction(&doubt.id).await.map_err(|e| e.to_string())?;
            if found.is_some_and(|t| t.state == transaction::COMMITTED) {
                self.found_committed(&doubt.id);
            }
        }
        let broken = self.transactions.memory.lock().break_open(Some(&aborted), now());
        let mut aborted: Vec<_> = aborted.into_iter().collect();
        aborted.sort_unstable();
        Ok((aborted, broken))
    }

    /// A failover: the cluster cannot be asked. Gives what must be stored with the cutover.
    pub(super) fn lose_transactions(&self) -> Vec<(String, Record)> {
        self.transactions.memory.lock().break_open(None, now())
    }

    /// Transactions whose EndTxn(commit) was under way.
    pub(super) fn doubtful_transactions(&self) -> Vec<InDoubt> {
        self.transactions.memory.lock().in_doubt()
    }

    /// Acknowledged transactions whose group offsets may not have crossed.
    pub(super) fn lately_committed_transactions(&self) -> Vec<Touched> {
        self.transactions.memory.lock().lately_committed(now())
    }

    pub(super) fn found_committed(&self, id: &str) {
        self.transactions.memory.lock().found_committed(id, fresh());
    }

    /// Has the standby find its coordinator of transactions, once: the first request after a cutover would wait for that.
    pub(super) fn warm_transactions(&self, standby: ClusterIx, id: &str) {
        let Some(standby) = self.cluster(standby).cloned() else { return };
        if self.transactions_warm.swap(true, std::sync::atomic::Ordering::AcqRel) {
            return;
        }
        let id = id.to_owned();
        tokio::spawn(async move {
            if let Err(error) = standby.with_timeout(WARM).warm_transactions(&id).await {
                tracing::debug!(%error, "the standby's coordinator of transactions is not up");
            }
        });
    }

    /// Forgets ids that nobody uses any more, and stores again what is in use.
    pub(super) fn sweep_transactions(&self) {
        let (gone, again) = self.transactions.memory.lock().sweep(now());
        let removed = gone.into_iter().map(|id| self.store.tombstone(&Key::Transaction { id })).collect::<Vec<_>>();
        for cluster in ClusterIx::BOTH {
            let kept = again.iter().map(|(id, record)| self.store.entry(&Key::Transaction { id: id.clone() }, record));
            let entries: Vec<Entry> = removed.iter().cloned().chain(kept).collect();
            if !entries.is_empty() {
                self.store.write_soon(cluster, entries);
            }
        }
    }
}
