//! The commit of a cutover and what follows it, or the way back.

use super::super::Roles;
use super::super::witness::{self, Witness};
use super::{Drive, RETRY};
use crate::admin::types::UtcMillis;
use crate::config::{LossPolicy, TeeMode};
use crate::cutover::{Event, Kind};
use crate::model::ClusterIx;
use crate::state::records::CUTS_PER_RECORD;
use crate::state::{CutRecord, Entry, GenerationRecord, InSyncRecord, Key};

impl Drive<'_> {
    /// Stores the cuts and, behind them, the generation: that record is the commit.
    pub(super) async fn commit(&mut self) -> Event {
        if let Err(reason) = self.complete_torn().await {
            return Event::Unknown(reason);
        }
        match self.write_commit(self.roles.active.other()).await {
            Ok(()) => Event::Succeeded,
            Err(reason) => Event::Unknown(reason),
        }
    }

    pub(super) async fn write_commit(&self, cluster: ClusterIx) -> Result<(), String> {
        self.house.store.write(cluster, self.records()).await.map_err(|e| e.to_string())
    }

    /// The cuts and, last, the generation: the commit on the new active cluster, and what tells the old one that it is
    /// retired.
    fn records(&self) -> Vec<Entry> {
        let store = &self.house.store;
        let generation = self.roles.generation + 1;
        let to = self.house.name(self.roles.active.other());
        let mut entries = Vec::new();
        for (part, chunk) in self.cuts.chunks(CUTS_PER_RECORD).enumerate() {
            let cuts =
                chunk.iter().map(|(p, c)| (p.tp.topic.to_string(), p.tp.partition, c.logical, c.to_end, c.from_end));
            let completed = chunk.iter().flat_map(|(p, c)| {
                c.completed.iter().map(|&(from, to)| (p.tp.topic.to_string(), p.tp.partition, from, to))
            });
            let record = CutRecord {
                to: to.into(),
                planned: self.kind == Kind::Switchover,
                cuts: cuts.collect(),
                completed: completed.collect(),
            };
            entries.push(store.entry_in(generation, &Key::Cut { generation, part }, &record));
        }
        if self.kind == Kind::Failover {
            for (partition, cut) in self.cuts.iter().filter(|(p, _)| p.mode() == TeeMode::Sync) {
                let key = Key::InSync { topic: partition.tp.topic.to_string(), partition: partition.tp.partition };
                let record = InSyncRecord { in_sync: false, from: cut.logical };
                entries.push(store.entry_in(generation, &key, &record));
            }
        }
        for (id, record) in &self.broken {
            entries.push(store.entry_in(generation, &Key::Transaction { id: id.clone() }, record));
        }
        let record = GenerationRecord {
            generation,
            active: to.into(),
            cluster_id: self.roles.cluster_id.clone(),
            at_ms: UtcMillis::now().0,
        };
        entries.push(store.entry_in(generation, &Key::Generation, &record));
        entries
    }

    /// The commit may be stored or not. Writing it again settles that: the records say the same.
    pub(super) async fn resolve(&mut self) -> Event {
        tokio::time::sleep(RETRY).await;
        if let Err(reason) = self.complete_torn().await {
            tracing::error!(reason, "a transaction is not completed; requests stay held until it is");
            return Event::Unknown(reason);
        }
        match self.write_commit(self.roles.active.other()).await {
            Ok(()) => Event::Succeeded,
            Err(reason) => {
                tracing::error!(reason, "the commit's outcome is not known; requests stay held until it is");
                Event::Unknown(reason)
            }
        }
    }

    /// Swaps the routing and lets everything go.
    pub(super) async fn resume(&mut self) -> Event {
        let house = self.house;
        let old = self.roles.clone();
        let to = old.active.other();
        let degrade = house.live.load().tee.on_standby_loss == LossPolicy::Degrade;
        for (partition, cut) in &self.cuts {
            partition.offsets.write().cut(cut);
            partition.begin_generation(cut.logical);
            if self.kind == Kind::Failover && degrade {
                partition.set_in_sync(false);
            }
        }
        if self.kind == Kind::Failover {
            // Of the lost cluster's batches those count that crossed. Others may lie above the cut too: nobody was told of
            // them, so their retries must be stored.
            for (partition, _) in &self.cuts {
                let end = partition.offsets.read().map(old.active).logical_end();
                partition.duplicates.lock().forget_from(end);
            }
        }
        let roles = Roles { generation: old.generation + 1, active: to, cluster_id: old.cluster_id.clone() };
        house.store.set_generation(roles.generation);
        *house.roles.write() = Some(roles.clone());
        if let Some(path) = &house.config.state_file {
            witness::write(path, &Witness { generation: roles.generation, active: house.name(to).into() });
        }
        if house.ready.load(std::sync::atomic::Ordering::Acquire) {
            house.gate.open(house.view_of(&roles));
        } // else `serve` does, when it knows what retries may come
        self.after_resume(old, roles);
        Event::Succeeded
    }

    /// What clients need not wait for: the retired cluster's word, topic settings, the reverse streams.
    pub(super) fn after_resume(&self, old: Roles, roles: Roles) {
        let house = self.house.clone();
        let retire = self.records();
        let was_ready = house.ready.load(std::sync::atomic::Ordering::Acquire);
        tokio::spawn(async move {
            house.store.write_soon(old.active, retire);
            if !was_ready {
                house.decided.notify_one();
                if let Err(reason) = house.serve(roles.clone()).await {
                    tracing::error!(reason, "the proxy cannot serve clients after the failover");
                }
                return;
            }
            let running = house.run_generation(&roles);
            running.cover(&house.catalog);
            running.topics_due.notify_one();
        });
    }

    /// Lets everything go on the old cluster.
    pub(super) async fn roll_back(&mut self) -> Event {
        let house = self.house;
        // They were aborted, or are taken for that.
        for (id, record) in &self.broken {
            let entry = house.store.entry(&Key::Transaction { id: id.clone() }, record);
            house.store.write_soon(self.roles.active, vec![entry]);
        }
        let stopped = self.running.as_ref().is_none_or(|r| r.is_stopped());
        if stopped {
            for partition in self.copied() {
                partition.restart_stream();
            }
            let running = house.run_generation(&self.roles);
            running.cover(&house.catalog);
        }
        house.gate.open(house.view_of(&self.roles));
        Event::Succeeded
    }
}
