//! The start: who is active, as both clusters, a witness or the operator say; then everything that serves clients.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::witness::{self, Witness};
use super::{Coordinator, Roles};
use crate::admin::types::{Report, UtcMillis};
use crate::catalog::{Partition, STATE_TOPIC, Topic};
use crate::model::{ClusterIx, TopicPartition};
use crate::offsets::PartitionOffsets;
use crate::replicate::{is_user_topic, recall};
use crate::state::{GenerationRecord, Image, Key, Store};
use crate::wire::versions::{Advertised, ClusterVersions};

/// Pause between looks at clusters that cannot be read yet.
const RETRY: Duration = Duration::from_millis(300);
/// How long clients wait at a start for streams to open: no longer where the standby is away.
const OPEN_WAIT: Duration = Duration::from_secs(2);
/// How long they wait for the active cluster's logs to be read.
const RECALL_WAIT: Duration = Duration::from_secs(10);
/// How long one look at a cluster may take.
const LOOK: Duration = Duration::from_secs(5);

/// What the clusters said.
struct Found {
    /// What both say together.
    image: Image,
    /// What each says; an empty image where it could not be read.
    said: [Image; 2],
    /// Which clusters could be read.
    read: [bool; 2],
    problems: Vec<String>,
}

impl Coordinator {
    /// Runs until the proxy serves clients or is stopped.
    pub async fn start(self: &Arc<Self>) -> Result<(), String> {
        self.server().listen_bootstrap().map_err(|e| e.to_string())?;
        loop {
            let found = self.look().await;
            match self.decide(&found) {
                Ok(roles) => match self.begin(&found, roles).await {
                    Ok(()) => return Ok(()),
                    Err(reason) => self.not_ready_because(vec![reason]),
                },
                Err(reasons) => {
                    // What one cluster says is enough to fail over at the operator's word, not to serve.
                    if self.roles().is_none() && found.read != [false, false] {
                        self.provisional(&found);
                    }
                    self.not_ready_because(reasons);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.decided.notified() => return Ok(()),
                () = self.stop.cancelled() => return Ok(()),
            }
        }
    }

    fn server(&self) -> &crate::proxy::Server {
        self.server.get().expect("set in new")
    }

    fn not_ready_because(&self, reasons: Vec<String>) {
        let mut current = self.not_ready.lock();
        if *current != reasons {
            tracing::warn!(?reasons, "not ready");
            *current = reasons;
        }
    }

    /// Reads both clusters.
    async fn look(&self) -> Found {
        let mut found =
            Found { image: Image::default(), said: Default::default(), read: [false, false], problems: Vec::new() };
        let looks = ClusterIx::BOTH.map(|ix| async move {
            self.cluster(ix)?;
            Some((ix, tokio::time::timeout(LOOK, self.look_at(ix)).await))
        });
        let [first, second] = looks;
        let (first, second) = tokio::join!(first, second);
        for (ix, result) in [first, second].into_iter().flatten() {
            match result {
                Ok(Ok(image)) => {
                    found.read[ix.ix()] = true;
                    found.said[ix.ix()] = image.clone();
                    found.image.merge(image);
                }
                Ok(Err(problem)) => found.problems.push(problem),
                Err(_) => found.problems.push(format!("cluster {} did not answer within {LOOK:?}", self.name(ix))),
            }
        }
        found
    }

    async fn look_at(&self, ix: ClusterIx) -> Result<Image, String> {
        let cluster = self.cluster(ix).ok_or("not configured")?;
        if !self.has_standby() {
            cluster.refresh().await.map_err(|e| e.to_string())?;
            return Ok(Image::default());
        }
        // Claimed first: nothing that a process before this one has under way lands after what is read here.
        if cluster.refresh().await.map_err(|e| e.to_string())?.topic(STATE_TOPIC).is_some() {
            self.store.claim(ix).await.map_err(|e| e.to_string())?;
        }
        self.store.load(ix).await.map_err(|e| e.to_string())
    }

    /// Who is active, if that is certain.
    fn decide(&self, found: &Found) -> Result<Roles, Vec<String>> {
        let configured = ClusterIx::BOTH.into_iter().filter(|&ix| self.cluster(ix).is_some());
        let all = configured.clone().all(|ix| found.read[ix.ix()]);
        let mut reasons = found.problems.clone();
        let stored = found.image.generation();
        if !all {
            if found.read == [false, false] {
                return Err(reasons);
            }
            let vouched = stored.as_ref().is_some_and(|record| self.vouched(record));
            let ordered = self.config.assume_active.is_some();
            if !vouched && !ordered {
                reasons.push(
                    "only one cluster can be read, and it may have been failed over from: waiting for the other; \
                     a state_file of the last generation, `serve --assume-active NAME` or `kafka-standby failover` decides"
                        .into(),
                );
                return Err(reasons);
            }
        }
        let mut roles = self.roles_from(stored, found)?;
        if let (false, Some(assumed)) = (all, self.config.assume_active) {
            roles.active = assumed;
        }
        Ok(roles)
    }

    fn vouched(&self, record: &GenerationRecord) -> bool {
        let witness = self.config.state_file.as_deref().and_then(witness::read);
        witness == Some(Witness { generation: record.generation, active: record.active.clone() })
    }

    fn roles_from(&self, stored: Option<GenerationRecord>, found: &Found) -> Result<Roles, Vec<String>> {
        let Some(record) = stored else {
            let active = ClusterIx::FIRST;
            let snapshot = found.read[active.ix()].then(|| self.cluster(active)?.cached_snapshot()).flatten();
            let Some(snapshot) = snapshot else {
                return Err(vec![format!("first start: cluster {} cannot be read", self.name(active))]);
            };
            return Ok(Roles { generation: 0, active, cluster_id: snapshot.cluster_id.clone() });
        };
        let active = self.config.cluster_named(&record.active).ok_or_else(|| {
            vec![format!(
                "generation {} says that cluster {} is active, which the configuration does not name",
                record.generation, record.active
            )]
        })?;
        Ok(Roles { generation: record.generation, active, cluster_id: record.cluster_id })
    }

    /// Takes over what the readable cluster says, so that an operator can fail over.
    fn provisional(&self, found: &Found) {
        if let Ok(roles) = self.roles_from(found.image.generation(), found) {
            if let Err(reason) = self.restore(&found.image) {
                self.not_ready_because(vec![reason]);
                return;
            }
            self.store.set_generation(roles.generation);
            ClusterIx::BOTH.into_iter().filter(|ix| !found.read[ix.ix()]).for_each(|ix| self.store.missed(ix));
            *self.roles.write() = Some(roles);
        }
    }

    /// Brings everything up under these roles.
    async fn begin(self: &Arc<Self>, found: &Found, roles: Roles) -> Result<(), String> {
        self.restore(&found.image)?;
        self.store.set_generation(roles.generation);
        *self.roles.write() = Some(roles.clone());
        if self.has_standby() {
            self.agree(&roles, found).await?;
        }
        self.serve(roles).await
    }

    /// Makes both clusters' state topics say the same.
    async fn agree(&self, roles: &Roles, found: &Found) -> Result<(), String> {
        let record = GenerationRecord {
            generation: roles.generation,
            active: self.name(roles.active).into(),
            cluster_id: roles.cluster_id.clone(),
            at_ms: UtcMillis::now().0,
        };
        for ix in ClusterIx::BOTH.into_iter().filter(|ix| found.read[ix.ix()]) {
            let replication = self.config.topics.state_replication_factor;
            self.store.ensure_topic(ix, replication).await.map_err(|e| e.to_string())?;
            // All that it missed while it was away, the generation last: without a cut it would be worse than silent.
            let mut entries = Store::news(&found.image, &found.said[ix.ix()]);
            entries.push(self.store.entry(&Key::Generation, &record));
            self.store.write(ix, entries).await.map_err(|e| e.to_string())?;
        }
        ClusterIx::BOTH.into_iter().filter(|ix| !found.read[ix.ix()]).for_each(|ix| self.store.missed(ix));
        if let Some(path) = &self.config.state_file {
            witness::write(path, &Witness { generation: roles.generation, active: record.active });
        }
        Ok(())
    }

    /// Opens the doors.
    pub(super) async fn serve(self: &Arc<Self>, roles: Roles) -> Result<(), String> {
        self.note_brokers().await;
        self.advertise().await?;
        let running = self.run_generation(&roles);
        // Streams and maps of sync topics must be known before the first acknowledgement.
        if let Err(reason) = running.topics.pass().await {
            tracing::warn!(reason, "not all topics could be brought up to date");
        }
        running.cover(&self.catalog);
        tokio::join!(self.streams_open(), self.recall(&roles));
        let count = self.view_of(&roles).brokers.count();
        self.server().listen_brokers(count).map_err(|e| e.to_string())?;
        self.gate.open(self.view_of(&roles));
        self.not_ready.lock().clear();
        self.ready.store(true, Ordering::Release);
        tracing::info!(generation = roles.generation, active = self.name(roles.active), "serving clients");
        Ok(())
    }

    /// Reads from the active cluster's log of which batches retries may come; in the background if it takes long.
    async fn recall(&self, roles: &Roles) {
        let Some(active) = self.cluster(roles.active).cloned().filter(|_| self.has_standby()) else { return };
        let recalled = tokio::spawn(recall(active, roles.active, self.catalog.copied()));
        if tokio::time::timeout(RECALL_WAIT, recalled).await.is_err() {
            tracing::warn!("not all logs have been read for batches of which retries may come");
        }
    }

    /// Waits a moment for the streams to open: sync acknowledgements wait for them anyway.
    async fn streams_open(&self) {
        let copied = self.catalog.copied().into_iter().filter(|_| self.has_standby());
        let opened = futures_util::future::join_all(copied.map(|partition| async move {
            partition.progressed(|progress| progress.replicated >= 0).await;
        }));
        if tokio::time::timeout(OPEN_WAIT, opened).await.is_err() {
            tracing::warn!("not all streams are open yet");
        }
    }

    /// Gives every broker of the reachable clusters a slot; slots never change.
    pub(super) async fn note_brokers(&self) {
        for ix in ClusterIx::BOTH {
            let Some(snapshot) = self.cluster(ix).and_then(|c| c.cached_snapshot()) else { continue };
            let mut ids: Vec<i32> = snapshot.brokers.iter().map(|b| b.id).collect();
            ids.sort_unstable();
            let known = {
                let mut slots = self.slots.lock();
                let known = &mut slots[ix.ix()];
                let before = known.len();
                known.extend(ids.iter().filter(|id| !known.contains(id)).copied().collect::<Vec<_>>());
                (known.len() > before).then(|| known.clone())
            };
            if let Some(known) = known {
                let key = Key::Brokers { cluster: self.name(ix).into() };
                for cluster in ClusterIx::BOTH {
                    self.store.write_soon(cluster, vec![self.store.entry(&key, &known)]);
                }
            }
        }
    }

    /// Advertises what every reachable cluster has in common.
    async fn advertise(&self) -> Result<(), String> {
        let mut versions = Vec::new();
        for cluster in self.clusters.iter().flatten() {
            match cluster.api_versions().await {
                Ok(reply) => versions.push(ClusterVersions::from(&reply)),
                Err(error) => tracing::warn!(%error, "API versions of a cluster are not known"),
            }
        }
        if versions.is_empty() {
            return Err("no cluster told its API versions".into());
        }
        self.context().advertised.store(Arc::new(Advertised::of(&versions.iter().collect::<Vec<_>>())));
        Ok(())
    }

    /// Rebuilds the catalog from stored state.
    fn restore(&self, image: &Image) -> Result<(), String> {
        let named = |name: &str| self.config.cluster_named(name);
        let cuts = image.cuts(named);
        for (name, record) in image.topics().into_iter().filter(|(name, _)| is_user_topic(name)) {
            let Some(born_on) = named(&record.born_on) else { continue };
            let born = (born_on, record.born_in);
            let mode = self.config.tee.mode(&name);
            let topic = self.catalog.register(Topic::new(name.as_str().into(), record.virtual_id, born, mode));
            topic.set_settings(&record.settings);
            for (cluster, id) in &record.ids {
                if let Some(ix) = named(cluster) {
                    self.catalog.note_real_id(&topic, ix, *id);
                }
            }
            // Cuts up to its birth are those of a topic of the same name that is gone.
            let own = |(_, cuts): &(_, &Vec<_>)| cuts.iter().any(|cut: &crate::offsets::Cut| cut.generation > born.1);
            let cut = cuts.iter().filter(|((t, _), _)| *t == name).filter(own).map(|((_, p), _)| p + 1).max();
            let count = image.partitions_of(&name).max(cut.unwrap_or(0));
            let mut offsets = Vec::new();
            for partition in 0..count {
                let cuts = cuts.get(&(name.clone(), partition)).map_or(&[][..], Vec::as_slice);
                offsets.push(image.offsets(&self.names, &name, partition, born, cuts)?);
            }
            topic.grow(offsets.len(), |index| {
                let tp = TopicPartition::new(topic.name.clone(), index);
                let offsets = usize::try_from(index).ok().and_then(|i| offsets.get(i).cloned());
                Partition::new(tp, mode, offsets.unwrap_or_else(|| PartitionOffsets::born(born.0, born.1)))
            });
        }
        for ((topic, partition), record) in image.in_sync() {
            if let Some(partition) = self.catalog.partition(&topic, partition) {
                partition.set_in_sync(record.in_sync);
            }
        }
        let generation = image.generation().map_or(0, |record| record.generation);
        for (topic, partition) in image.stamped(generation) {
            if let Some(partition) = self.catalog.partition(&topic, partition) {
                partition.set_stamped();
            }
        }
        self.divergences.restore(image.divergences());
        {
            let mut memory = self.transactions.memory.lock();
            memory.clear();
            for (id, record) in image.transactions() {
                memory.restore(&id, record, crate::proxy::now());
            }
        }
        let mut slots = self.slots.lock();
        for ix in ClusterIx::BOTH {
            slots[ix.ix()] = image.brokers(self.name(ix));
        }
        let reports = image.reports().into_iter();
        *self.reports.lock() = reports.filter_map(|(_, r)| serde_json::from_value::<Report>(r).ok()).collect();
        Ok(())
    }
}
