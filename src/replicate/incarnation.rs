//! A topic that another one of the same name has replaced, on either cluster: what was known of the old one's offsets is
//! forgotten, for certain, before anything is copied to or from the new one.

use std::sync::Arc;

use super::TopicSync;
use crate::catalog::{Progress, Topic};
use crate::config::OnDelete;
use crate::model::TopicPartition;
use crate::offsets::OffsetMap;
use crate::state::{Entry, Key, MapRecord, Store};
use crate::upstream::{Cluster, Snapshot};

/// Records of a partition's map on a cluster, as entries of the state topic.
pub fn map_entries<'a>(
    store: &Store,
    cluster: &str,
    tp: &TopicPartition,
    parts: impl IntoIterator<Item = &'a (usize, MapRecord)>,
) -> Vec<Entry> {
    let key =
        |part| Key::Map { cluster: cluster.to_owned(), topic: tp.topic.to_string(), partition: tp.partition, part };
    parts.into_iter().map(|(part, record)| store.entry(&key(*part), record)).collect()
}

impl TopicSync {
    /// Records that say: nothing is known of these offsets.
    fn forgotten(&self, topic: &Topic, both: bool) -> Vec<Entry> {
        let (active, standby) = (self.active_ix, self.active_ix.other());
        let clusters = [standby].into_iter().chain(both.then_some(active));
        let mut entries = Vec::new();
        for cluster in clusters {
            for partition in topic.partitions() {
                let parts = MapRecord::parts(partition.offsets.read().map(cluster));
                let empty: Vec<_> = parts.map(|part| (part, MapRecord::default())).collect();
                entries.extend(map_entries(&self.store, &self.names[cluster.ix()], &partition.tp, &empty));
            }
        }
        entries
    }

    /// The copy on the standby is gone, or another topic stands in its place: it is copied anew from the start. `create` makes
    /// the new one, if it is not there yet; if that fails nothing has changed.
    pub(super) async fn renew_copy(
        &self,
        topic: &Arc<Topic>,
        create: impl Future<Output = Result<(), String>>,
    ) -> Result<(), String> {
        let standby = self.active_ix.other();
        let partitions = topic.partitions();
        // Waits for appends under way, each of which has its own time limit.
        let mut copies = Vec::with_capacity(partitions.len());
        for partition in &partitions {
            copies.push(partition.copy.write().await);
        }
        create.await?;
        let stored = self.store.write(standby, self.forgotten(topic, false)).await;
        self.store.write_soon(self.active_ix, self.forgotten(topic, false));
        for (partition, copy) in partitions.iter().zip(&mut copies) {
            // A stream that finds an old map finds its copy cut short, and stores a new one before it appends.
            if stored.is_ok() {
                *partition.offsets.write().map_mut(standby) = OffsetMap::default();
            }
            partition.advance(|p| *p = Progress { active_end: p.active_end, ..Progress::UNKNOWN });
            **copy = copy.wrapping_add(1);
        }
        drop(copies);
        // Streams that sleep have another topic to open.
        partitions.iter().for_each(|partition| partition.kick(0));
        stored.map_err(|e| e.to_string())?;
        self.catalog.forget_real_id(topic, standby);
        self.applied.lock().remove(&topic.name);
        tracing::warn!(topic = %topic.name, "the copy on the standby was gone or is another topic: it is copied anew");
        Ok(())
    }

    /// The topic is gone from the active cluster, or another one stands in its place. Its copy stays unless the configuration
    /// says otherwise: a new topic's copy then has to wait until somebody removes the old one.
    pub(super) async fn end_incarnation(
        &self,
        topic: &Arc<Topic>,
        standby: Option<(&Cluster, &Snapshot)>,
    ) -> Result<(), String> {
        if self.standby.is_some() {
            let stored = self.store.write(self.active_ix, self.forgotten(topic, true)).await;
            stored.map_err(|e| e.to_string())?;
            self.store.write_soon(self.active_ix.other(), self.forgotten(topic, true));
        }
        self.catalog.remove(&topic.name);
        self.applied.lock().remove(&topic.name);
        if let Some((cluster, snapshot)) = standby
            && self.config.load().topics.on_delete == OnDelete::Follow
            && snapshot.topic(&topic.name).is_some()
        {
            match cluster.delete_topic(&topic.name).await {
                Ok(()) => tracing::info!(topic = %topic.name, "the copy of a deleted topic was deleted on the standby"),
                Err(error) => tracing::warn!(topic = %topic.name, %error, "the copy on the standby was not deleted"),
            }
        }
        Ok(())
    }
}
