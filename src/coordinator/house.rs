//! What connections ask of the rest of the proxy.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Coordinator, Roles};
use crate::catalog::Partition;
use crate::config::TeeMode;
use crate::groups::{Met, Teed};
use crate::model::{ClusterIx, TopicPartition};
use crate::proxy::House;
use crate::state::{Entry, InSyncRecord, Key};
use crate::transactions::Record;

/// How long a client waits for new topics to be on the standby too; the copying goes on behind it.
const TOPICS_WAIT: Duration = Duration::from_secs(3);

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How long the standby gets to show that only one partition is slow, not all of it.
const STANDBY_PROBE: Duration = Duration::from_millis(100);

impl Coordinator {
    /// The partitions that leave the in-sync state with this one: all, if the standby as a whole is gone, so that clients
    /// wait once and not once for each partition.
    async fn leaving_with(&self, partition: &Arc<Partition>, roles: &Roles) -> Vec<Arc<Partition>> {
        let alone = match self.cluster(roles.active.other()) {
            Some(standby) => standby.reachable(STANDBY_PROBE).await,
            None => false,
        };
        if alone {
            return vec![partition.clone()];
        }
        let all = self.catalog.partitions().into_iter();
        all.filter(|p| p.mode() == TeeMode::Sync && p.in_sync()).collect()
    }

    fn out_of_sync(&self, partition: &Partition, active: ClusterIx) -> Entry {
        let tp = &partition.tp;
        let from = partition.offsets.read().map(active).position_out(partition.progress().replicated.max(0));
        let key = Key::InSync { topic: tp.topic.to_string(), partition: tp.partition };
        self.store.entry(&key, &InSyncRecord { in_sync: false, from })
    }
}

impl House for Coordinator {
    fn leave_in_sync<'a>(&'a self, partition: &'a Arc<Partition>) -> Boxed<'a, Result<(), String>> {
        Box::pin(async move {
            if !partition.in_sync() {
                return Ok(());
            }
            let roles = self.roles().ok_or("the proxy is not ready")?;
            // One at a time: those who waited meanwhile find it done.
            let _one = self.leaving.lock().await;
            if !partition.in_sync() {
                return Ok(());
            }
            let leaving = self.leaving_with(partition, &roles).await;
            let mut transitions = Vec::new();
            for partition in &leaving {
                transitions.push(partition.transition.lock().await);
            }
            let entries = || leaving.iter().map(|p| self.out_of_sync(p, roles.active)).collect::<Vec<_>>();
            self.store.write(roles.active, entries()).await.map_err(|e| e.to_string())?;
            leaving.iter().for_each(|p| p.set_in_sync(false));
            self.store.write_soon(roles.active.other(), entries());
            tracing::error!(
                partition = %partition.tp,
                partitions = leaving.len(),
                "the standby is out of sync: acknowledgements no longer wait for it"
            );
            Ok(())
        })
    }

    fn check_log<'a>(&'a self, partition: &'a Arc<Partition>) -> Boxed<'a, Result<(), String>> {
        Box::pin(async move {
            match self.running().and_then(|r| r.streams.clone()) {
                Some(streams) => streams.check_log(partition).await,
                // Without a standby names are the cluster's own.
                None => Ok(()),
            }
        })
    }

    fn topics_changed(&self) -> Boxed<'_, ()> {
        Box::pin(async move {
            let Some(running) = self.running() else { return };
            let pass = async {
                if let Err(reason) = running.topics.pass().await {
                    tracing::warn!(reason, "topics are not up to date on the standby");
                }
                running.cover(&self.catalog);
            };
            let _ = tokio::time::timeout(TOPICS_WAIT, pass).await;
        })
    }

    fn group_committed(&self, group: &str) {
        if let Some(groups) = self.running().and_then(|r| r.groups.clone()) {
            groups.notify(group, false);
        }
    }

    fn share_group_moved(&self, group: &str) {
        if let Some(groups) = self.running().and_then(|r| r.groups.clone()) {
            groups.notify(group, true);
        }
    }

    fn share_read(&self, group: &str, partition: &TopicPartition, met: Met) {
        if let Some(groups) = self.running().and_then(|r| r.groups.clone()) {
            groups.share_read(group, partition, met);
        }
    }

    fn remember_transaction<'a>(&'a self, id: &'a str, record: &'a Record) -> Boxed<'a, Result<(), String>> {
        Box::pin(async move {
            let active = self.roles().ok_or("the proxy is not ready")?.active;
            let entry = || vec![self.store.entry(&Key::Transaction { id: id.into() }, record)];
            self.store.write(active, entry()).await.map_err(|e| e.to_string())?;
            self.store.write_soon(active.other(), entry());
            self.warm_transactions(active.other(), id);
            Ok(())
        })
    }

    fn offsets_copied<'a>(&'a self, group: &'a str, partitions: &'a [TopicPartition]) -> Boxed<'a, Result<(), String>> {
        Box::pin(async move {
            let groups = self.running().and_then(|r| r.groups.clone()).ok_or("group offsets are not copied now")?;
            groups.copy_committed(group, partitions).await
        })
    }

    fn commit_teed<'a>(
        &'a self,
        group: &'a str,
        partitions: &'a [TopicPartition],
        deadline: Instant,
    ) -> Boxed<'a, Teed> {
        Box::pin(async move {
            match self.running().and_then(|r| r.groups.clone()) {
                Some(groups) => groups.tee(group, partitions, deadline).await,
                None => Teed::OnActive,
            }
        })
    }

    fn records_deleted(&self, topic: &str, partition: i32, logical: i64) {
        let Some(roles) = self.roles() else { return };
        let Some(standby) = self.cluster(roles.active.other()).cloned() else { return };
        let Some(found) = self.catalog.partition(topic, partition) else { return };
        let offset = found.offsets.read().map(roles.active.other()).position_in(logical);
        let end = found.progress().standby_end;
        let tp = TopicPartition::new(topic, partition);
        tokio::spawn(async move {
            if offset <= 0 || end <= 0 {
                return;
            }
            if let Err(error) = standby.delete_records(&[(tp.clone(), offset.min(end))]).await {
                tracing::warn!(%tp, %error, "records deleted on the active cluster stay on the standby");
            }
        });
    }
}
