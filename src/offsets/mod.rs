//! Logical offsets: one continuous space per partition, for ever, over exact run-length maps to each cluster's offsets.
//! Pure.

mod epochs;
mod lost;
mod map;
mod masked;
mod member_epochs;

pub use epochs::{EPOCH_BITS, generation_of, real_epoch, virtual_epoch};
pub use lost::Lost;
pub use map::{Kept, OffsetMap, Run};
pub use masked::{Masked, Retired};
pub use member_epochs::{MEMBER_EPOCH_BITS, is_marked, member_epoch_in, member_epoch_out};

use crate::model::{ClusterIx, Generation};

/// Where logical offsets go on if it is not known what clients have seen of a log that is gone: no client has seen 2^40
/// records more of a partition than were stored with the state.
pub const UNKNOWN_JUMP: i64 = 1 << 40;

/// What one partition knows about its offsets: a map per cluster and where each generation began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionOffsets {
    maps: [OffsetMap; 2],
    /// (generation, first logical offset of that generation), rising in both; the first entry is the partition's birth.
    cuts: Vec<(Generation, i64)>,
    /// Where each cutover left the cluster that it retired, in order of generation.
    retired: Vec<Retired>,
    /// See [`Cut::completed`], with the cluster.
    completed: Vec<(ClusterIx, i64, i64)>,
}

impl PartitionOffsets {
    /// A partition first seen on `active` in `generation`: there the logical offset is the cluster offset.
    pub fn born(active: ClusterIx, generation: Generation) -> Self {
        let mut offsets = PartitionOffsets { cuts: vec![(generation, 0)], ..Default::default() };
        offsets.maps[active.ix()] = OffsetMap::identity();
        offsets
    }

    /// Puts together what was stored.
    pub fn restore(maps: [OffsetMap; 2], cuts: Vec<(Generation, i64)>, later: &[&Cut]) -> Self {
        let retired = later.iter().map(|cut| Retired::by(cut)).collect();
        let completed = later.iter().flat_map(|cut| completed(cut)).collect();
        PartitionOffsets { maps, cuts, retired, completed }
    }

    pub fn map(&self, cluster: ClusterIx) -> &OffsetMap {
        &self.maps[cluster.ix()]
    }

    pub fn map_mut(&mut self, cluster: ClusterIx) -> &mut OffsetMap {
        &mut self.maps[cluster.ix()]
    }

    pub fn cuts(&self) -> &[(Generation, i64)] {
        &self.cuts
    }

    /// The generation that writes here: that of the last cut.
    pub fn generation(&self) -> Generation {
        self.cuts.last().map_or(0, |&(generation, _)| generation)
    }

    /// The generation that wrote the record at a logical offset.
    pub fn generation_at(&self, logical: i64) -> Generation {
        let after = self.cuts.partition_point(|&(_, start)| start <= logical);
        self.cuts.get(after.saturating_sub(1)).map_or(0, |&(generation, _)| generation)
    }

    /// End (exclusive, logical) of what `generation` wrote, or of the generations before it if it wrote nothing here;
    /// `None` while nothing later has begun.
    pub fn generation_end(&self, generation: Generation) -> Option<i64> {
        self.cuts.iter().find(|&&(g, _)| g > generation).map(|&(_, start)| start)
    }

    /// Carries out a cutover on this partition. Idempotent: a cut that was applied already changes nothing.
    pub fn cut(&mut self, cut: &Cut) {
        if self.cuts.last().is_some_and(|&(g, _)| g >= cut.generation) {
            return;
        }
        let to = cut.to;
        self.maps[to.other().ix()].close_at_cluster(cut.from_end);
        let map = &mut self.maps[to.ix()];
        map.close_at_cluster(cut.to_end);
        map.append(cut.logical, cut.to_end, Run::OPEN);
        self.cuts.push((cut.generation, cut.logical));
        self.retired.push(Retired::by(cut));
        self.completed.extend(completed(cut));
    }

    /// The log of `active` was truncated at `at` (an unclean leader election): what comes next there gets names from `logical`
    /// on, or higher ones if the map has given those. The names of what is gone are not given again.
    pub fn truncate(&mut self, active: ClusterIx, at: i64, logical: i64) {
        let map = &mut self.maps[active.ix()];
        map.close_at_cluster(at);
        let logical = logical.max(map.logical_end());
        map.append(logical, at, Run::OPEN);
    }

    /// What the copy on the cluster other than `active`, whose log ends at `end`, has of records that the active one has lost.
    pub fn lost(&self, active: ClusterIx, end: i64) -> Option<Lost> {
        let mut copy = self.map(active.other()).clone();
        copy.close_at_cluster(end);
        lost::lost(self.map(active), &copy, self.cuts.last().map_or(0, |&(_, logical)| logical))
    }

    /// Forgets runs of both maps that lie below the starts of both clusters' logs, `together` at a time. `true`: there were some.
    pub fn forget_below(&mut self, starts: [i64; 2], together: usize) -> bool {
        let before = ClusterIx::BOTH.map(|c| self.map(c).forgotten());
        let logical = |c: ClusterIx| self.map(c).position_out(starts[c.ix()]);
        let floor = ClusterIx::BOTH.into_iter().filter(|&c| !self.map(c).is_empty()).map(logical).min().unwrap_or(0);
        for cluster in ClusterIx::BOTH {
            let start = self.map(cluster).position_in(floor);
            self.map_mut(cluster).forget_below(start, together);
        }
        before != ClusterIx::BOTH.map(|c| self.map(c).forgotten())
    }

    /// Where the last cutover left `cluster`, if it was the one that it retired.
    pub fn retired(&self, cluster: ClusterIx) -> Option<Retired> {
        self.retired.last().copied().filter(|r| r.cluster == cluster)
    }

    /// The ranges of `cluster`'s log that lost their names at a cutover, oldest first. Empty ones are left out.
    pub fn masked(&self, cluster: ClusterIx) -> Vec<Masked> {
        masked::ranges(self.map(cluster), &self.cuts, &self.retired, cluster)
    }

    /// What of `cluster`'s masked ranges has crossed after all: see [`Cut::completed`].
    pub fn completed(&self, cluster: ClusterIx) -> Vec<(i64, i64)> {
        self.completed.iter().filter(|c| c.0 == cluster).map(|&(_, from, to)| (from, to)).collect()
    }
}

fn completed(cut: &Cut) -> impl Iterator<Item = (ClusterIx, i64, i64)> {
    cut.completed.iter().map(|&(from, to)| (cut.to.other(), from, to))
}

/// What a cutover fixes for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub generation: Generation,
    /// The cluster that becomes active.
    pub to: ClusterIx,
    /// First logical offset that the new generation writes.
    pub logical: i64,
    /// Log end offset of the new active cluster: where `logical` will be stored.
    pub to_end: i64,
    /// Offset of the old active cluster behind the last record that crossed; what lies above is masked.
    pub from_end: i64,
    /// A switchover: the old cluster's log ended at `from_end` when no client could write any more.
    pub planned: bool,
    /// A failover: records of the old active cluster above `from_end` (its offset of the first, and behind the last) that the
    /// new one has all the same, under their own logical offsets: a transaction of which other partitions had crossed already
    /// was completed. They lie in the masked range, and come back by the reverse stream.
    pub completed: Vec<(i64, i64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EAST: ClusterIx = ClusterIx::FIRST;
    const WEST: ClusterIx = ClusterIx::SECOND;

    #[test]
    fn cut_opens_new_side_and_masks_the_tail_of_the_old() {
        let mut p = PartitionOffsets::born(EAST, 0);
        p.map_mut(WEST).append(100, 0, 50); // east began at 100 (retention)
        // failover: clients saw up to 160, the standby has up to 150
        let cut = Cut {
            generation: 1,
            to: WEST,
            logical: 160,
            to_end: 50,
            from_end: 150,
            planned: false,
            completed: Vec::new(),
        };
        p.cut(&cut);
        assert_eq!(p.map(WEST).to_logical(49), Some(149));
        assert_eq!(p.map(WEST).to_logical(50), Some(160));
        assert_eq!(p.map(EAST).to_logical(149), Some(149));
        assert_eq!(p.map(EAST).to_logical(155), None, "the lost tail has no logical name on the old cluster any more");
        assert_eq!((p.generation_at(149), p.generation_at(160)), (0, 1));
        assert_eq!(p.generation_end(0), Some(160));
        assert_eq!(p.generation_end(1), None);
        assert_eq!(p.generation(), 1);
        let before = p.clone();
        p.cut(&cut);
        assert_eq!(p, before, "applying the same cut twice changes nothing");
    }

    #[test]
    fn what_a_truncated_log_loses_keeps_its_names_and_is_masked_on_the_copy() {
        let mut p = PartitionOffsets::born(EAST, 0);
        p.map_mut(WEST).append(10, 0, Run::OPEN); // east began at 10 (retention)
        assert_eq!(p.lost(EAST, 90), None);
        // East had 100, clients saw them all, west has 90 of them; east comes back with 60.
        p.truncate(EAST, 60, 100);
        assert_eq!(p.map(EAST).to_logical(59), Some(59));
        assert_eq!(p.map(EAST).to_logical(60), Some(100), "a new record has a new name");
        assert_eq!(p.map(EAST).position_in(75), 60, "who read some of what is gone goes on with what is new");
        let lost = p.lost(EAST, 90).unwrap();
        assert_eq!(lost, Lost { from: 50, logical: 100 });
        p.map_mut(WEST).close_at_cluster(lost.from);
        p.map_mut(WEST).append(lost.logical, 90, Run::OPEN);
        assert_eq!(p.lost(EAST, 90), None, "dealt with");
        assert_eq!(p.lost(EAST, 95), None);
        let masked = Masked { generation: 0, planned: false, truncated: true, from: 50, to: Some(90), logical: 60 };
        assert_eq!((p.masked(WEST), p.masked(EAST)), (vec![masked], vec![]));
        // The masked range is still one after a cutover, and nobody's tail.
        p.cut(&Cut {
            generation: 1,
            to: WEST,
            logical: 110,
            to_end: 100,
            from_end: 70,
            planned: true,
            completed: Vec::new(),
        });
        assert_eq!(p.masked(WEST), [masked]);
        assert_eq!(p.map(WEST).to_logical(60), None);
        assert_eq!(p.map(WEST).to_logical(95), Some(105));
        assert_eq!(p.generation_at(65), 0);
    }

    #[test]
    fn what_one_cluster_still_has_is_not_forgotten_on_the_other() {
        let mut p = PartitionOffsets::born(EAST, 0);
        for n in 0..10 {
            // A marker behind every four records.
            p.map_mut(WEST).close_at_cluster(4 * n);
            p.map_mut(WEST).append(5 * n, 4 * n, Run::OPEN);
        }
        assert!(!p.clone().forget_below([0, 40], 2), "east has all of it");
        assert!(!p.clone().forget_below([50, 0], 2), "west has");
        let whole = p.clone();
        // East begins in the seventh run (logical 32), west in the eighth.
        assert!(p.forget_below([32, 30], 2));
        assert_eq!((p.map(WEST).forgotten(), p.map(WEST).runs()), (4, &whole.map(WEST).runs()[4..]));
        assert!(p.map(EAST).is_identity());
        assert!(!p.forget_below([32, 30], 2));
    }

    #[test]
    fn what_was_completed_has_its_name_on_the_new_side_only() {
        let mut p = PartitionOffsets::born(EAST, 0);
        p.map_mut(WEST).append(0, 0, 10);
        // East has 14 and 15 of a transaction; something that did not cross lies in front.
        p.map_mut(WEST).append(14, 10, Run::OPEN);
        let cut = Cut {
            generation: 1,
            to: WEST,
            logical: 17,
            to_end: 12,
            from_end: 10,
            planned: false,
            completed: vec![(14, 16)],
        };
        p.cut(&cut);
        let names = |ix, cluster| p.map(ix).to_logical(cluster);
        assert_eq!(
            [names(WEST, 9), names(WEST, 10), names(WEST, 11), names(WEST, 12)],
            [Some(9), Some(14), Some(15), Some(17)]
        );
        assert_eq!([names(EAST, 9), names(EAST, 14)], [Some(9), None]);
        assert_eq!((p.completed(EAST), p.completed(WEST)), (vec![(14, 16)], vec![]));
        // Where the reverse stream begins.
        assert_eq!(p.map(WEST).position_out(p.map(WEST).position_in(p.map(EAST).logical_end())), 14);
        assert_eq!(PartitionOffsets::restore(p.maps.clone(), p.cuts.clone(), &[&cut]), p);
    }

    #[test]
    fn there_and_back_keeps_names() {
        let mut p = PartitionOffsets::born(EAST, 0);
        p.map_mut(WEST).append(0, 0, 10);
        p.map_mut(WEST).append(11, 10, 5); // a transaction marker at 10
        p.cut(&Cut {
            generation: 1,
            to: WEST,
            logical: 17,
            to_end: 15,
            from_end: 17,
            planned: true,
            completed: Vec::new(),
        });
        // west wrote 3 (17..20), copied to east behind its own marker at 16
        p.map_mut(EAST).append(17, 17, 3);
        p.cut(&Cut {
            generation: 2,
            to: EAST,
            logical: 20,
            to_end: 20,
            from_end: 18,
            planned: true,
            completed: Vec::new(),
        });
        for (logical, east, west) in [(9, 9, 9), (11, 11, 10), (15, 15, 14), (17, 17, 15), (19, 19, 17)] {
            assert_eq!(p.map(EAST).to_cluster(logical), Some(east));
            assert_eq!(p.map(WEST).to_cluster(logical), Some(west));
        }
        assert_eq!(p.map(EAST).to_cluster(25), Some(25), "open on the active side");
        assert_eq!(p.map(WEST).to_cluster(20), None, "closed on the other");
    }
}
