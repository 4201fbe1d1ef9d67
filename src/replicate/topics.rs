//! Keeps the standby's topics like the active cluster's, and the catalog like both: new topics, added partitions, changed
//! settings. Nothing is ever deleted on the standby unless `topics.on_delete = "follow"` says so.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::catalog::{Catalog, Partition, STATE_TOPIC, Topic};
use crate::config::{Config, TeeMode};
use crate::model::{ClusterIx, Generation, TopicPartition};
use crate::offsets::PartitionOffsets;
use crate::state::{Key, Store, TopicRecord};
use crate::upstream::{self, Cluster, Configs, Snapshot};

/// Settings that make a true copy while a topic is on the standby: the timestamps and bytes of the source are kept.
const COPY_SETTINGS: [(&str, &str); 4] = [
    ("message.timestamp.type", "CreateTime"),
    ("message.timestamp.before.max.ms", "9223372036854775807"),
    ("message.timestamp.after.max.ms", "9223372036854775807"),
    ("compression.type", "producer"),
];
/// Settings that name brokers, or that the fitted replication decides.
const NOT_COPIED: [&str; 3] =
    ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas", "min.insync.replicas"];
/// Room on the standby for batches that grow a little when they are encoded anew.
const SIZE_SLACK: i64 = 64 << 10;
/// Topics described in one request.
const DESCRIBE_BATCH: usize = 200;
/// Topics that are given their own settings back at a time.
const RESTORED_TOGETHER: usize = 32;

/// A topic that is not one of Kafka's own or the proxy's.
pub fn is_user_topic(name: &str) -> bool {
    !name.starts_with("__")
}

/// Brings catalog and standby up to date for one generation.
pub struct TopicSync {
    pub config: Arc<ArcSwap<Config>>,
    pub catalog: Arc<Catalog>,
    pub store: Arc<Store>,
    pub active: Cluster,
    pub standby: Option<Cluster>,
    pub active_ix: ClusterIx,
    pub generation: Generation,
    pub names: [String; 2],
    /// Settings of the active cluster's topics as last carried over.
    pub(super) applied: Mutex<HashMap<Arc<str>, Configs>>,
    /// Topics that the active cluster did not have in the last pass.
    missing: Mutex<HashSet<Arc<str>>>,
    /// One pass at a time; `true` once the active cluster's topics have their own settings.
    restored: tokio::sync::Mutex<bool>,
}

impl TopicSync {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        config: Arc<ArcSwap<Config>>,
        catalog: Arc<Catalog>,
        store: Arc<Store>,
        active: Cluster,
        standby: Option<Cluster>,
        active_ix: ClusterIx,
        generation: Generation,
        names: [String; 2],
    ) -> Self {
        let applied = Mutex::default();
        // Before the first cutover no topic of the active cluster ever was a copy.
        let restored = tokio::sync::Mutex::new(generation == 0);
        TopicSync {
            config,
            catalog,
            store,
            active,
            standby,
            active_ix,
            generation,
            names,
            applied,
            missing: Mutex::default(),
            restored,
        }
    }

    /// One pass; gives what went wrong with the standby (the catalog is up to date all the same).
    pub async fn pass(&self) -> Result<(), String> {
        let mut restored = self.restored.lock().await;
        if !*restored {
            self.restore_own_settings().await;
            *restored = true;
        }
        // A client may make a topic known while the cluster is being asked: that one is not missing from the answer.
        let known = self.catalog.topics();
        let seen = self.active.refresh().await.map_err(|e| format!("active cluster: {e}"))?;
        let settings = self.settings(&seen).await?;
        let standby = match &self.standby {
            Some(cluster) => Some((cluster, cluster.refresh().await.map_err(|e| format!("standby: {e}")))),
            None => None,
        };
        let standby_seen = standby.iter().filter_map(|(_, seen)| seen.as_ref().ok());
        for own in std::iter::once(&seen).chain(standby_seen).filter_map(|seen| seen.topic(STATE_TOPIC)) {
            self.catalog.hide(own.id);
        }
        let mut failures = Vec::new();
        let other = standby.as_ref().and_then(|(c, s)| s.as_ref().ok().map(|s| (*c, &**s)));
        if let Some((_, snapshot)) = other
            && snapshot.topic(STATE_TOPIC).is_none()
        {
            // A standby that was wiped: without what is known it could not take over.
            let replication = self.config.load().topics.state_replication_factor;
            let rebuilt = self.store.rebuild(self.active_ix.other(), replication).await;
            rebuilt.map_err(|e| e.to_string())?;
        }
        for source in seen.topics.values().filter(|t| is_user_topic(&t.name) && t.error == 0) {
            let topic = match self.note(source, other).await {
                Ok(topic) => topic,
                Err(error) => {
                    failures.push(format!("topic {}: {error}", source.name));
                    continue;
                }
            };
            if let Some(configs) = settings.get(&source.name) {
                note_settings(&topic, configs);
                if topic.set_settings(configs) {
                    self.store_topic(&topic);
                }
            }
            let Some((cluster, snapshot)) = &standby else { continue };
            if topic.mode() == TeeMode::Off {
                continue;
            }
            let result = match snapshot {
                Ok(snapshot) => self.carry_over(cluster, snapshot, source, &topic, settings.get(&source.name)).await,
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = result {
                failures.push(format!("topic {}: {error}", source.name));
            }
        }
        failures.extend(self.deleted(known, &seen, other).await);
        if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
    }

    /// Settings that differ from the broker's defaults, and the two that decide about the tee in force.
    async fn settings(&self, seen: &Snapshot) -> Result<HashMap<Arc<str>, Configs>, String> {
        let names: Vec<&str> = seen.topics.keys().map(|n| &**n).filter(|n| is_user_topic(n)).collect();
        let mut all = HashMap::new();
        for chunk in names.chunks(DESCRIBE_BATCH) {
            let found = self.active.topic_configs(chunk).await.map_err(|e| format!("active cluster: {e}"))?;
            all.extend(found.into_iter().filter_map(|(topic, configs)| configs.ok().map(|c| (topic, c))));
        }
        Ok(all)
    }

    /// Puts a topic of the active cluster into the catalog. One with another id than before is another topic, whatever its
    /// name: clients see a new id, and offsets begin anew.
    async fn note(
        &self,
        source: &upstream::Topic,
        standby: Option<(&Cluster, &Snapshot)>,
    ) -> Result<Arc<Topic>, String> {
        if let Some(old) = self.catalog.topic(&source.name)
            && old.real_id(self.active_ix).is_some_and(|id| id != source.id && !source.id.is_nil())
        {
            tracing::warn!(topic = %source.name, "the topic was deleted and created anew on the active cluster");
            self.end_incarnation(&old, standby).await?;
        }
        let topic = match self.catalog.topic(&source.name) {
            Some(topic) => topic,
            None => {
                register(&self.catalog, &self.config.load(), &source.name, source.id, self.active_ix, self.generation)
            }
        };
        let had = topic.real_id(self.active_ix);
        self.catalog.note_real_id(&topic, self.active_ix, source.id);
        let grown = topic.grow(source.partitions.len(), |index| {
            let tp = TopicPartition::new(topic.name.clone(), index);
            Partition::new(tp, topic.mode(), PartitionOffsets::born(self.active_ix, self.generation))
        });
        if had.is_none() || !grown.is_empty() {
            self.store_topic(&topic);
        }
        Ok(topic)
    }

    fn store_topic(&self, topic: &Topic) {
        let ids =
            ClusterIx::BOTH.into_iter().filter_map(|c| topic.real_id(c).map(|id| (self.names[c.ix()].clone(), id)));
        let record = TopicRecord {
            virtual_id: topic.virtual_id,
            born_on: self.names[topic.born.0.ix()].clone(),
            born_in: topic.born.1,
            ids: ids.collect::<BTreeMap<_, _>>(),
            settings: topic.settings(),
        };
        let key = Key::Topic { topic: topic.name.to_string() };
        for cluster in ClusterIx::BOTH {
            self.store.write_soon(cluster, vec![self.store.entry(&key, &record)]);
        }
    }

    async fn carry_over(
        &self,
        standby: &Cluster,
        snapshot: &Snapshot,
        source: &upstream::Topic,
        topic: &Arc<Topic>,
        settings: Option<&Configs>,
    ) -> Result<(), String> {
        let text = |e: upstream::UpstreamError| e.to_string();
        let wanted = settings.map(copy_settings);
        match snapshot.topic(&source.name) {
            None => {
                let Some(wanted) = &wanted else { return Ok(()) };
                let replication = self.replication(source, snapshot);
                let partitions = i32::try_from(source.partitions.len()).map_err(|e| e.to_string())?;
                let create = async {
                    let created = standby.create_topic(&source.name, partitions, replication, wanted, false).await;
                    created.map_err(text)
                };
                // That it can be created proves that it is gone, not only unknown to a broker that has just started.
                match topic.real_id(self.active_ix.other()) {
                    Some(_) => self.renew_copy(topic, create).await?,
                    None => create.await?,
                }
                tracing::info!(topic = %source.name, partitions, replication, "topic created on the standby");
                let snapshot = standby.refresh().await.map_err(text)?;
                if let Some(copy) = snapshot.topic(&source.name) {
                    self.note_copy(topic, copy.id);
                }
                self.applied.lock().insert(source.name.clone(), wanted.clone());
                topic.settle_copy(self.generation);
            }
            Some(copy) => {
                if topic.real_id(self.active_ix.other()).is_some_and(|id| id != copy.id && !copy.id.is_nil()) {
                    self.renew_copy(topic, std::future::ready(Ok(()))).await?;
                }
                self.note_copy(topic, copy.id);
                if copy.partitions.len() < source.partitions.len() {
                    let total = i32::try_from(source.partitions.len()).map_err(|e| e.to_string())?;
                    standby.create_partitions(&source.name, total).await.map_err(text)?;
                    standby.refresh().await.map_err(text)?;
                    tracing::info!(topic = %source.name, total, "partitions added on the standby");
                }
                if let Some(wanted) = wanted {
                    self.adjust(standby, &source.name, wanted).await?;
                    topic.settle_copy(self.generation);
                }
            }
        }
        Ok(())
    }

    fn note_copy(&self, topic: &Arc<Topic>, id: Uuid) {
        let cluster = self.active_ix.other();
        if topic.real_id(cluster).is_none() && self.catalog.note_real_id(topic, cluster, id) {
            self.store_topic(topic);
        }
    }

    /// Sets what differs; entries that the active cluster no longer has are taken back.
    async fn adjust(&self, standby: &Cluster, name: &Arc<str>, wanted: Configs) -> Result<(), String> {
        if self.applied.lock().get(name) == Some(&wanted) {
            return Ok(());
        }
        let found = standby.topic_configs(&[name]).await.map_err(|e| e.to_string())?;
        let Some(Ok(current)) = found.get(name) else { return Ok(()) };
        let set: Configs =
            wanted.iter().filter(|(k, v)| current.get(*k) != Some(v)).map(|(k, v)| (k.clone(), v.clone())).collect();
        let delete: Vec<&str> = current
            .keys()
            .filter(|k| !wanted.contains_key(*k) && !NOT_COPIED.contains(&k.as_str()))
            .map(String::as_str)
            .collect();
        standby.alter_topic_configs(name, &set, &delete).await.map_err(|e| e.to_string())?;
        self.applied.lock().insert(name.clone(), wanted);
        Ok(())
    }

    /// As on the active cluster, fitted to the standby's size.
    fn replication(&self, source: &upstream::Topic, standby: &Snapshot) -> i16 {
        let of_source = source.partitions.values().map(|p| p.replicas.len()).max().unwrap_or(1);
        let wanted = self.config.load().topics.replication_factor.unwrap_or(i16::try_from(of_source).unwrap_or(1));
        wanted.min(i16::try_from(standby.brokers.len()).unwrap_or(i16::MAX)).max(1)
    }

    /// Forgets topics that the active cluster no longer has. `known`: what the catalog had before the cluster was asked. Gives
    /// what went wrong.
    async fn deleted(
        &self,
        known: Vec<Arc<Topic>>,
        seen: &Snapshot,
        standby: Option<(&Cluster, &Snapshot)>,
    ) -> Vec<String> {
        let mut failures = Vec::new();
        for topic in known {
            if seen.topic(&topic.name).is_some() || topic.real_id(self.active_ix).is_none() {
                self.missing.lock().remove(&topic.name);
                continue;
            }
            // Seen twice: what is forgotten does not come back if one broker was wrong.
            if self.missing.lock().insert(topic.name.clone()) {
                continue;
            }
            tracing::info!(topic = %topic.name, "topic deleted on the active cluster");
            match self.end_incarnation(&topic, standby).await {
                Ok(()) => {
                    self.missing.lock().remove(&topic.name);
                }
                Err(error) => failures.push(format!("topic {}: {error}", topic.name)),
            }
        }
        failures
    }

    /// Gives the topics of a cluster that has become active their own settings back. Until that is done its settings are
    /// those of copies and must not be taken for the topics' own.
    async fn restore_own_settings(&self) {
        let topics: Vec<_> = self.catalog.topics().into_iter().filter(|t| t.mode() != TeeMode::Off).collect();
        // Clients wait for it; and one that has been deleted is asked for several times.
        let restored = stream::iter(topics).for_each_concurrent(RESTORED_TOGETHER, |topic| async move {
            let own = topic.settings();
            let set: Configs =
                COPY_SETTINGS.iter().filter_map(|&(k, _)| own.get(k).map(|v| (k.to_string(), v.clone()))).collect();
            let delete: Vec<&str> = COPY_SETTINGS.iter().map(|(k, _)| *k).filter(|k| !own.contains_key(*k)).collect();
            if let Err(error) = self.active.alter_topic_configs(&topic.name, &set, &delete).await {
                tracing::warn!(topic = %topic.name, %error, "the topic keeps the settings of a copy");
            }
        });
        restored.await;
    }
}

/// Adds a topic under its own id on `active`.
pub fn register(
    catalog: &Catalog,
    config: &Config,
    name: &str,
    id: Uuid,
    active: ClusterIx,
    generation: Generation,
) -> Arc<Topic> {
    let mode = if is_user_topic(name) { config.tee.mode(name) } else { TeeMode::Off };
    catalog.register(Topic::new(name.into(), id, (active, generation), mode))
}

fn note_settings(topic: &Topic, settings: &Configs) {
    let is = |key: &str, plain: &str| settings.get(key).is_none_or(|v| v == plain);
    let as_sent = is("message.timestamp.type", "CreateTime") && is("compression.type", "producer");
    topic.stored_as_sent.store(as_sent, Ordering::Relaxed);
    let compacted = settings.get("cleanup.policy").is_some_and(|v| v.contains("compact"));
    topic.compacted.store(compacted, Ordering::Relaxed);
}

/// The settings of the copy of a topic.
fn copy_settings(own: &Configs) -> Configs {
    let mut copy: Configs =
        own.iter().filter(|(k, _)| !NOT_COPIED.contains(&k.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect();
    for (key, value) in COPY_SETTINGS {
        copy.insert(key.into(), value.into());
    }
    if let Some(max) = copy.get_mut("max.message.bytes")
        && let Ok(bytes) = max.parse::<i64>()
    {
        *max = bytes.saturating_add(SIZE_SLACK).min(i64::from(i32::MAX)).to_string();
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_timestamps_and_bytes_whatever_the_topic_says() {
        let own: Configs = [
            ("message.timestamp.type", "LogAppendTime"),
            ("compression.type", "zstd"),
            ("retention.ms", "1000"),
            ("min.insync.replicas", "2"),
            ("max.message.bytes", "1000"),
        ]
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .into();
        let copy = copy_settings(&own);
        assert_eq!(copy["message.timestamp.type"], "CreateTime");
        assert_eq!(copy["compression.type"], "producer");
        assert_eq!(copy["retention.ms"], "1000");
        assert_eq!(copy["max.message.bytes"], (1000 + SIZE_SLACK).to_string());
        assert!(!copy.contains_key("min.insync.replicas"));
    }
}
