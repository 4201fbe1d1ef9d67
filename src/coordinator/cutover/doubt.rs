//! Transactions whose EndTxn(commit) was under way when the active cluster died. What became of them is found from what
//! crossed, since only what is committed does; what did not cross of one that was committed is brought over from what the
//! proxy has kept of it, so that nobody sees it torn.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;

use super::Drive;
use crate::catalog::Partition;
use crate::config::TeeMode;
use crate::model::TopicPartition;
use crate::offsets::{Cut, OffsetMap};
use crate::replicate::{CompleteError, Completion};
use crate::stream::Ranges;
use crate::transactions::{InDoubt, Offsets, Touched};

/// Groups whose offsets on the standby are read at the same time.
const AT_ONCE: usize = 32;

/// What has to be brought over before the commit.
#[derive(Default)]
pub(super) struct Torn {
    partitions: BTreeMap<TopicPartition, Completion>,
    /// By group, in the lost cluster's offsets.
    offsets: Vec<(String, Offsets)>,
}

impl Drive<'_> {
    /// A failover, when the copies stand still: a transaction of which something crossed was committed. What is open, or of
    /// which nothing crossed, ends with the generation.
    pub(super) async fn lose_transactions(&mut self) {
        self.torn = Torn::default();
        let mut acknowledged: BTreeMap<String, Offsets> = BTreeMap::new();
        for Touched { partitions, offsets } in self.house.lately_committed_transactions() {
            if partitions.iter().all(|(tp, ranges)| self.crossed_whole(tp, ranges)) {
                offsets.into_iter().for_each(|(group, more)| acknowledged.entry(group).or_default().extend(more));
            }
        }
        self.raise(acknowledged).await;
        for doubt in self.house.doubtful_transactions() {
            if self.any_record_crossed(&doubt) || self.offsets_crossed(&doubt).await {
                self.house.found_committed(&doubt.id);
                self.plan_completion(doubt);
            }
        }
        let broken = self.house.lose_transactions();
        self.broken.extend(broken);
    }

    /// The copy of a partition and how far its map reaches.
    fn copy(&self, tp: &TopicPartition) -> Option<(&Arc<Partition>, &Cut, OffsetMap)> {
        let (partition, cut) = self.cuts.iter().find(|(p, _)| p.tp == *tp)?;
        let mut copied = partition.offsets.read().map(self.roles.active.other()).clone();
        copied.close_at_cluster(cut.to_end);
        Some((partition, cut, copied))
    }

    /// Which of these offsets of the lost cluster have a record in the copy: the places are those of whole batches.
    fn crossed<'p>(&self, tp: &TopicPartition, places: impl Iterator<Item = (i64, i64)> + 'p) -> Vec<(i64, bool)> {
        let Some((partition, _, copied)) = self.copy(tp) else { return Vec::new() };
        let offsets = partition.offsets.read();
        let lost = offsets.map(self.roles.active);
        let there = |offset| lost.to_logical(offset).is_some_and(|l| copied.to_cluster(l).is_some());
        places.map(|(first, _)| (first, there(first))).collect()
    }

    fn crossed_whole(&self, tp: &TopicPartition, ranges: &Ranges) -> bool {
        let ends = |(first, next): (i64, i64)| [(first, next), (next - 1, next)];
        let places = self.crossed(tp, ranges.above(0).into_iter().flat_map(ends));
        !places.is_empty() && places.iter().all(|&(_, there)| there)
    }

    /// Offsets of acknowledged transactions that the standby has lower are to be written: without the in-sync state nothing
    /// has waited for them, and what was processed would be processed again.
    async fn raise(&mut self, offsets: BTreeMap<String, Offsets>) {
        let Some(standby) = self.house.cluster(self.roles.active.other()).cloned() else { return };
        let groups: Vec<_> = offsets.into_iter().collect();
        for some in groups.chunks(AT_ONCE) {
            let found = join_all(some.iter().map(|(group, _)| standby.offset_fetch_all(group))).await;
            for ((group, offsets), there) in some.iter().zip(found) {
                let Ok(there) = there else { continue };
                let lower = |(tp, offset, _): &(TopicPartition, i64, String)| {
                    there.iter().find(|c| c.tp == *tp).is_none_or(|c| c.offset < *offset)
                };
                let behind: Vec<_> = self.in_the_copies(offsets).into_iter().filter(lower).map(|(tp, ..)| tp).collect();
                let late: Offsets = offsets.iter().filter(|(tp, ..)| behind.contains(tp)).cloned().collect();
                if !late.is_empty() {
                    self.torn.offsets.push((group.clone(), late));
                }
            }
        }
    }

    fn any_record_crossed(&self, doubt: &InDoubt) -> bool {
        let mut written = doubt.touched.partitions.iter();
        written.any(|(tp, ranges)| self.crossed(tp, ranges.above(0).into_iter()).iter().any(|&(_, there)| there))
    }

    /// Has the standby the offsets that the transaction committed for a group? They are copied apart from the records.
    async fn offsets_crossed(&self, doubt: &InDoubt) -> bool {
        let Some(standby) = self.house.cluster(self.roles.active.other()) else { return false };
        for (group, offsets) in &doubt.touched.offsets {
            let wanted = self.in_the_copies(offsets);
            let Ok(there) = standby.offset_fetch_all(group).await else { continue };
            let has = |(tp, offset, _): &(TopicPartition, i64, String)| {
                there.iter().any(|c| c.tp == *tp && c.offset == *offset)
            };
            if !wanted.is_empty() && wanted.iter().all(has) {
                return true;
            }
        }
        false
    }

    /// Offsets of the lost cluster in the standby's own. What lies behind the end of a copy is the next thing that comes there.
    fn in_the_copies(&self, offsets: &Offsets) -> Offsets {
        let translated = offsets.iter().filter_map(|(tp, offset, metadata)| {
            let (partition, cut, copied) = self.copy(tp)?;
            let logical = partition.offsets.read().map(self.roles.active).position_out(*offset);
            Some((tp.clone(), copied.position_in(logical).min(cut.to_end), metadata.clone()))
        });
        translated.collect()
    }

    /// What the standby lacks of a transaction that was committed.
    fn plan_completion(&mut self, doubt: InDoubt) {
        let (mut completed, mut lacking) = (Vec::new(), Vec::new());
        for (tp, ranges) in &doubt.touched.partitions {
            if self.crossed_whole(tp, ranges) {
                continue;
            }
            let on_standby = self.copy(tp).is_some_and(|(partition, ..)| partition.mode() != TeeMode::Off);
            let Some(batches) = doubt.whole.of(tp, ranges).filter(|_| on_standby) else {
                lacking.push(tp.to_string());
                continue;
            };
            let crossed = self.crossed(tp, batches.iter().map(|(&base, &(next, _))| (base, next)));
            let completion = self.torn.partitions.entry(tp.clone()).or_default();
            for (base, _) in crossed.into_iter().filter(|&(_, there)| !there) {
                if let Some((next, batch)) = batches.get(&base) {
                    completion.add(base, *next, batch.clone());
                }
            }
            completed.push(tp.to_string());
        }
        self.torn.offsets.extend(doubt.touched.offsets);
        let lost = self.house.name(self.roles.active);
        if !completed.is_empty() {
            let partitions = completed.join(", ");
            self.warnings.push(format!(
                "transaction {}: its commit on {lost} was under way; what had not crossed was completed: {partitions}",
                doubt.id
            ));
        }
        if !lacking.is_empty() {
            let partitions = lacking.join(", ");
            self.warnings.push(format!(
                "transaction {}: committed on {lost}, but its records in {partitions} did not cross",
                doubt.id
            ));
        }
    }

    /// Brings over what is torn. There is no way back from here, as from the commit that follows.
    ///
    /// # Errors
    /// Why it is not known to be there: to be tried again.
    pub(super) async fn complete_torn(&mut self) -> Result<(), String> {
        let Some(streams) = self.running.as_ref().and_then(|r| r.streams.clone()) else { return Ok(()) };
        while let Some(mut entry) = self.torn.partitions.first_entry() {
            let tp = entry.key().clone();
            let Some((partition, cut)) = self.cuts.iter_mut().find(|(p, _)| p.tp == tp) else {
                entry.remove();
                continue;
            };
            match entry.get_mut().step(streams.direction(), partition, cut.to_end).await {
                Ok(Some(done)) => {
                    cut.to_end = done.standby_end;
                    cut.logical = cut.logical.max(done.logical_end);
                    cut.completed.push(done.place);
                }
                Ok(None) => {
                    entry.remove();
                }
                Err(CompleteError::NotYet(reason)) => return Err(format!("{tp}: {reason}")),
                Err(CompleteError::Refused(reason)) => {
                    self.warnings.push(format!("{tp}: a transaction stays torn: {reason}"));
                }
            }
        }
        self.write_offsets().await
    }

    /// The offsets of groups that belong to what was committed.
    async fn write_offsets(&mut self) -> Result<(), String> {
        let Some(groups) = self.running.as_ref().and_then(|r| r.groups.clone()) else { return Ok(()) };
        while let Some((group, offsets)) = self.torn.offsets.last() {
            let offsets = self.in_the_copies(offsets);
            if !offsets.is_empty() {
                groups.write_lost(group, &offsets).await.map_err(|reason| format!("group {group}: {reason}"))?;
            }
            self.torn.offsets.pop();
        }
        Ok(())
    }
}
