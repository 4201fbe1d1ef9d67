//! What connections ask of the rest of the proxy.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Coordinator;
use crate::catalog::Partition;
use crate::model::TopicPartition;
use crate::proxy::House;
use crate::state::{InSyncRecord, Key};

/// How long a client waits for new topics to be on the standby too; the copying goes on behind it.
const TOPICS_WAIT: Duration = Duration::from_secs(3);

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl House for Coordinator {
    fn leave_in_sync<'a>(&'a self, partition: &'a Arc<Partition>) -> Boxed<'a, Result<(), String>> {
        Box::pin(async move {
            if !partition.in_sync() {
                return Ok(());
            }
            let roles = self.roles().ok_or("the proxy is not ready")?;
            let tp = &partition.tp;
            let replicated = partition.progress().replicated.max(0);
            let from = partition.offsets.read().map(roles.active).position_out(replicated);
            let key = Key::InSync { topic: tp.topic.to_string(), partition: tp.partition };
            let entry = || vec![self.store.entry(&key, &InSyncRecord { in_sync: false, from })];
            self.store.write(roles.active, entry()).await.map_err(|e| e.to_string())?;
            partition.set_in_sync(false);
            self.store.write_soon(roles.active.other(), entry());
            tracing::error!(%tp, from, "the standby is out of sync: acknowledgements no longer wait for it");
            Ok(())
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
            groups.notify(group);
        }
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
