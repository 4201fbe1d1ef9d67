//! The view of one generation: what stands behind every translated id, offset and epoch until the next cutover.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{Catalog, Partition, STATE_TOPIC, Topic, VirtualBrokers};
use crate::model::{ClusterIx, Generation};
use crate::offsets::{
    PartitionOffsets, Run, generation_of, member_epoch_in, member_epoch_out, real_epoch, virtual_epoch,
};
use crate::records::{Relabel, relabel};
use crate::rewrite::{Stretch, Translate};

/// Stretches that one range may fall into: a broker gives a share group no more records at a time
/// (`group.share.max.partition.max.record.locks`). What lies behind is not acknowledged, so it is delivered again.
const MAX_STRETCHES: usize = 10_000;

/// Makes the partition or topic entry when a reply names one for the first time.
pub type Registrar = dyn Fn(&Catalog, &str, Uuid, ClusterIx, Generation) -> Arc<Topic> + Send + Sync;

/// One generation's translation between what clients see and the active cluster.
pub struct View {
    pub generation: Generation,
    pub active: ClusterIx,
    pub cluster_id: String,
    pub brokers: VirtualBrokers,
    pub catalog: Arc<Catalog>,
    pub registrar: Arc<Registrar>,
}

impl View {
    /// Do clients see records of the partition under other offsets or epochs than the active cluster stores?
    pub fn renames(&self, partition: &Partition) -> bool {
        !self.stays(&partition.offsets.read())
    }

    /// True while what clients see and what the active cluster stores is the same for every id and epoch.
    pub fn is_identity(&self) -> bool {
        self.generation == 0
    }

    fn with_offsets<T>(&self, topic: &str, partition: i32, f: impl FnOnce(&PartitionOffsets) -> T) -> Option<T> {
        self.catalog.partition(topic, partition).map(|p| f(&p.offsets.read()))
    }

    /// All batches of the partition are labelled alike for clients and the active cluster.
    fn stays(&self, offsets: &PartitionOffsets) -> bool {
        offsets.map(self.active).is_identity() && offsets.cuts().len() <= 1 && self.is_identity()
    }

    /// Base offset and leader epoch that clients see; `None`: the batch never crossed, nobody may see it.
    fn label(&self, offsets: &PartitionOffsets, base_offset: i64, leader_epoch: i32) -> Option<(i64, i32)> {
        let logical = offsets.map(self.active).to_logical(base_offset)?;
        Some((logical, virtual_epoch(offsets.generation_at(logical), leader_epoch)))
    }

    pub fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.catalog.partition(topic, index)
    }
}

impl Translate for View {
    fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    fn broker_in(&self, virtual_id: i32) -> Option<i32> {
        self.brokers.to_real(virtual_id)
    }

    fn broker_out(&self, real_id: i32) -> Option<i32> {
        self.brokers.to_virtual(real_id)
    }

    fn brokers(&self, alive: &[i32]) -> Vec<(i32, String, u16)> {
        self.brokers.alive(alive)
    }

    fn endpoint(&self, virtual_id: i32) -> Option<(String, u16)> {
        self.brokers.endpoint(virtual_id)
    }

    fn epoch_in(&self, epoch: i32) -> i32 {
        if generation_of(epoch) == Some(self.generation) { real_epoch(epoch) } else { -1 }
    }

    fn epoch_out(&self, real: i32) -> i32 {
        virtual_epoch(self.generation, real)
    }

    /// Beyond every position: whatever a client has read of an earlier generation, nothing is missing below it, since no offset
    /// is ever used again. The true end would be right, and harm: librdkafka 2.12 asks for the epoch of the position that it
    /// had, compares the answer with where it stands by then, and reads records of the new generation a second time.
    fn epoch_end(&self, topic: &str, partition: i32, epoch: i32) -> Option<i64> {
        let generation = generation_of(epoch).filter(|&g| g < self.generation)?;
        self.with_offsets(topic, partition, |o| o.generation_end(generation)).flatten().map(|_| i64::MAX)
    }

    fn member_epoch_in(&self, shown: i32) -> i32 {
        member_epoch_in(self.generation, shown).unwrap_or(shown)
    }

    fn member_epoch_out(&self, real: i32) -> i32 {
        member_epoch_out(self.generation, real)
    }

    fn topic_id_in(&self, virtual_id: Uuid) -> Uuid {
        let real = self.catalog.topic_by_id(virtual_id).and_then(|t| t.real_id(self.active));
        real.unwrap_or(virtual_id)
    }

    fn topic_id_out(&self, name: Option<&str>, real_id: Uuid) -> Uuid {
        if real_id.is_nil() {
            return real_id;
        }
        if name.is_some_and(|name| self.hidden(name)) {
            self.catalog.hide(real_id);
            return real_id;
        }
        if let Some(topic) = self.catalog.topic_by_real_id(self.active, real_id) {
            return topic.virtual_id;
        }
        match name {
            Some(name) => {
                let topic = match self.catalog.topic(name) {
                    Some(topic) => topic,
                    None => (self.registrar)(&self.catalog, name, real_id, self.active, self.generation),
                };
                self.catalog.note_real_id(&topic, self.active, real_id);
                topic.virtual_id
            }
            None => real_id,
        }
    }

    fn topic_name(&self, virtual_id: Uuid) -> Option<String> {
        if self.catalog.is_hidden(virtual_id) {
            return Some(STATE_TOPIC.to_owned());
        }
        self.catalog.topic_by_id(virtual_id).map(|t| t.name.to_string())
    }

    fn hidden(&self, topic: &str) -> bool {
        topic == STATE_TOPIC
    }

    fn offset_in(&self, topic: &str, partition: i32, logical: i64) -> i64 {
        if logical < 0 {
            return logical;
        }
        self.with_offsets(topic, partition, |o| o.map(self.active).position_in(logical)).unwrap_or(logical)
    }

    fn offset_out(&self, topic: &str, partition: i32, cluster: i64) -> i64 {
        if cluster < 0 {
            return cluster;
        }
        self.with_offsets(topic, partition, |o| o.map(self.active).position_out(cluster)).unwrap_or(cluster)
    }

    fn stretches_in(&self, topic: &str, partition: i32, first: i64, last: i64) -> Vec<Stretch> {
        let runs =
            self.with_offsets(topic, partition, |o| o.map(self.active).runs_of_logical(first, last, MAX_STRETCHES));
        let stretch = |run: Run| Stretch { from: run.logical, to: run.cluster, count: run.len };
        runs.map_or_else(|| same(first, last), |runs| runs.into_iter().map(stretch).collect())
    }

    fn stretches_out(&self, topic: &str, partition: i32, first: i64, last: i64) -> Vec<Stretch> {
        let runs =
            self.with_offsets(topic, partition, |o| o.map(self.active).runs_of_cluster(first, last, MAX_STRETCHES));
        let stretch = |run: Run| Stretch { from: run.cluster, to: run.logical, count: run.len };
        runs.map_or_else(|| same(first, last), |runs| runs.into_iter().map(stretch).collect())
    }

    fn batches_out(&self, topic: &str, partition: i32, records: Bytes) -> Bytes {
        let Some(partition) = self.catalog.partition(topic, partition) else { return records };
        let offsets = partition.offsets.read();
        if self.stays(&offsets) {
            return records;
        }
        let relabelled = relabel(records, |header| {
            let label = self.label(&offsets, header.base_offset, header.leader_epoch);
            label.map_or(Relabel::Drop, |(base_offset, leader_epoch)| Relabel::Keep { base_offset, leader_epoch })
        });
        // A batch that cannot be read cannot be shown under its logical offset: the consumer asks again.
        relabelled.unwrap_or_else(|error| {
            tracing::error!(partition = %partition.tp, %error, "fetched records cannot be relabelled");
            Bytes::new()
        })
    }

    fn batch_out(&self, topic: &str, partition: i32, base_offset: i64, leader_epoch: i32) -> Option<(i64, i32)> {
        let label = self.with_offsets(topic, partition, |offsets| self.label(offsets, base_offset, leader_epoch));
        label.unwrap_or(Some((base_offset, leader_epoch)))
    }

    fn batches_stay(&self, topic: &str, partition: i32) -> bool {
        self.with_offsets(topic, partition, |offsets| self.stays(offsets)).unwrap_or(true)
    }
}

/// A partition that is not known has the same offsets on both sides.
fn same(first: i64, last: i64) -> Vec<Stretch> {
    let count = last.saturating_sub(first).saturating_add(1);
    if count > 0 { vec![Stretch { from: first, to: first, count }] } else { Vec::new() }
}
