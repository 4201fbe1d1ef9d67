//! What the proxy knows about topics and partitions, shared by connections, streams and cutovers. One [`Partition`] is the
//! meeting point of the clients' connections and the partition's stream; no lock here is held across an await.

mod brokers;
mod partition;
mod view;

pub use brokers::VirtualBrokers;
pub use partition::{InSync, Partition, Progress, StreamState, TEE_BUDGET};
pub use view::View;

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use dashmap::DashMap;
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use crate::config::TeeMode;
use crate::model::{ClusterIx, Generation};

/// The proxy's own compacted topic on each cluster; hidden from clients.
pub const STATE_TOPIC: &str = "__kafka_standby_state";

/// One topic under the name and id that clients see.
pub struct Topic {
    pub name: Arc<str>,
    /// The id clients see: that of the cluster on which the topic was first seen, kept for ever.
    pub virtual_id: Uuid,
    /// Where and when the topic was first seen; there logical offsets are cluster offsets.
    pub born: (ClusterIx, Generation),
    mode: RwLock<TeeMode>,
    real_ids: Mutex<[Option<Uuid>; 2]>,
    /// Settings that differ from the brokers' defaults, as the topic's owner made them.
    settings: Mutex<BTreeMap<String, String>>,
    partitions: RwLock<Vec<Arc<Partition>>>,
    /// The active cluster stores batches of this topic byte for byte as sent (CreateTime, `compression.type=producer`).
    pub stored_as_sent: AtomicBool,
    /// `cleanup.policy` contains `compact`.
    pub compacted: AtomicBool,
    /// Generation plus one in which the copy on the standby was last known to have the settings of a copy.
    copy_settled: AtomicU32,
}

impl Topic {
    pub fn new(name: Arc<str>, virtual_id: Uuid, born: (ClusterIx, Generation), mode: TeeMode) -> Self {
        Topic {
            name,
            virtual_id,
            born,
            mode: RwLock::new(mode),
            real_ids: Mutex::new([None, None]),
            settings: Mutex::default(),
            partitions: RwLock::default(),
            stored_as_sent: AtomicBool::new(false),
            compacted: AtomicBool::new(false),
            copy_settled: AtomicU32::new(0),
        }
    }

    /// The standby's copy has the settings of a copy from now on, as long as `generation` lasts.
    pub fn settle_copy(&self, generation: Generation) {
        self.copy_settled.store(generation.saturating_add(1), Ordering::Release);
    }

    /// Would the standby keep what is appended to the copy? A topic of append times that was active until the last cutover
    /// gives records its own times until it has been told otherwise; other settings of a topic refuse records at worst.
    pub fn keeps_copies(&self, generation: Generation) -> bool {
        let append_time = self.settings.lock().get("message.timestamp.type").is_some_and(|v| v == "LogAppendTime");
        !append_time || self.copy_settled.load(Ordering::Acquire) == generation.saturating_add(1)
    }

    pub fn mode(&self) -> TeeMode {
        *self.mode.read()
    }

    /// A reload changed the rule.
    pub fn set_mode(&self, mode: TeeMode) {
        *self.mode.write() = mode;
        for partition in self.partitions.read().iter() {
            partition.set_mode(mode);
        }
    }

    pub fn settings(&self) -> BTreeMap<String, String> {
        self.settings.lock().clone()
    }

    /// `true`: they were others.
    pub fn set_settings(&self, settings: &BTreeMap<String, String>) -> bool {
        let mut current = self.settings.lock();
        let changed = *current != *settings;
        if changed {
            current.clone_from(settings);
        }
        changed
    }

    pub fn real_id(&self, cluster: ClusterIx) -> Option<Uuid> {
        self.real_ids.lock()[cluster.ix()]
    }

    pub fn set_real_id(&self, cluster: ClusterIx, id: Option<Uuid>) {
        self.real_ids.lock()[cluster.ix()] = id;
    }

    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().clone()
    }

    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        usize::try_from(index).ok().and_then(|i| self.partitions.read().get(i).cloned())
    }

    /// Adds partitions up to `count` with offsets made by `make`; returns those that are new.
    pub fn grow(&self, count: usize, make: impl Fn(i32) -> Partition) -> Vec<Arc<Partition>> {
        let mut partitions = self.partitions.write();
        let from = partitions.len();
        for index in from..count {
            partitions.push(Arc::new(make(index as i32)));
        }
        partitions[from.min(count)..].to_vec()
    }

    pub fn is_compacted(&self) -> bool {
        self.compacted.load(Ordering::Relaxed)
    }
}

/// All topics by name and by the id clients see.
#[derive(Default)]
pub struct Catalog {
    by_name: DashMap<Arc<str>, Arc<Topic>>,
    by_id: DashMap<Uuid, Arc<Topic>>,
    by_real_id: [DashMap<Uuid, Arc<Topic>>; 2],
    /// Ids of the state topic on either cluster: who names it by id must not reach it either.
    hidden: RwLock<HashSet<Uuid>>,
}

impl Catalog {
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.get(name).map(|t| t.clone())
    }

    pub fn topic_by_id(&self, virtual_id: Uuid) -> Option<Arc<Topic>> {
        self.by_id.get(&virtual_id).map(|t| t.clone())
    }

    /// Notes an id of the state topic.
    pub fn hide(&self, id: Uuid) {
        if !id.is_nil() && !self.is_hidden(id) {
            self.hidden.write().insert(id);
        }
    }

    pub fn is_hidden(&self, id: Uuid) -> bool {
        self.hidden.read().contains(&id)
    }

    pub fn topic_by_real_id(&self, cluster: ClusterIx, id: Uuid) -> Option<Arc<Topic>> {
        self.by_real_id[cluster.ix()].get(&id).map(|t| t.clone())
    }

    pub fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.by_name.get(topic).and_then(|t| t.partition(index))
    }

    pub fn topics(&self) -> Vec<Arc<Topic>> {
        let mut all: Vec<_> = self.by_name.iter().map(|t| t.value().clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.topics().iter().flat_map(|t| t.partitions()).collect()
    }

    /// The partitions that have a copy on the standby.
    pub fn copied(&self) -> Vec<Arc<Partition>> {
        self.partitions().into_iter().filter(|p| p.mode() != TeeMode::Off).collect()
    }

    /// Registers a topic unless its name is known; returns the one that stands.
    pub fn register(&self, topic: Topic) -> Arc<Topic> {
        let entry = self.by_name.entry(topic.name.clone()).or_insert_with(|| Arc::new(topic));
        let topic = entry.value().clone();
        drop(entry);
        self.by_id.insert(topic.virtual_id, topic.clone());
        topic
    }

    /// Notes the topic's own id on a cluster. `false`: another id stood there, so the topic was deleted and created
    /// anew on that cluster; the old id stays until somebody decides.
    pub fn note_real_id(&self, topic: &Arc<Topic>, cluster: ClusterIx, id: Uuid) -> bool {
        if id.is_nil() {
            return true;
        }
        match topic.real_id(cluster) {
            Some(known) => known == id,
            None => {
                topic.set_real_id(cluster, Some(id));
                self.by_real_id[cluster.ix()].insert(id, topic.clone());
                true
            }
        }
    }

    /// The topic is not on this cluster any more, or another one stands in its place.
    pub fn forget_real_id(&self, topic: &Topic, cluster: ClusterIx) {
        if let Some(id) = topic.real_id(cluster) {
            self.by_real_id[cluster.ix()].remove(&id);
            topic.set_real_id(cluster, None);
        }
    }

    /// Forgets a topic (deleted on the active cluster).
    pub fn remove(&self, name: &str) -> Option<Arc<Topic>> {
        let (_, topic) = self.by_name.remove(name)?;
        self.by_id.remove(&topic.virtual_id);
        for cluster in ClusterIx::BOTH {
            if let Some(id) = topic.real_id(cluster) {
                self.by_real_id[cluster.ix()].remove(&id);
            }
        }
        for partition in topic.partitions() {
            partition.retire();
        }
        Some(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_append_times_takes_copies_only_once_it_is_settled_in_this_generation() {
        let topic = Topic::new("t".into(), Uuid::from_u128(1), (ClusterIx::FIRST, 0), TeeMode::Sync);
        assert!(topic.keeps_copies(0) && topic.keeps_copies(7), "a plain topic always does");
        topic.set_settings(&[("message.timestamp.type".to_string(), "LogAppendTime".to_string())].into());
        assert!(!topic.keeps_copies(0));
        topic.settle_copy(0);
        assert!(topic.keeps_copies(0) && !topic.keeps_copies(1), "the other cluster's topic is another one");
        topic.settle_copy(1);
        assert!(topic.keeps_copies(1));
    }
}
