//! Masked ranges: what a cluster's log holds behind the place where a cutover retired it, and in front of what was copied
//! there afterwards; and what a copy holds that the active cluster's log has lost (an unclean leader election). Found from
//! the maps alone: a cluster's map is contiguous in cluster offsets except for them.

use super::{Cut, OffsetMap};
use crate::model::{ClusterIx, Generation};

/// A cutover as the cluster saw it that was active until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    /// The generation that began.
    pub generation: Generation,
    /// The cluster that was retired.
    pub cluster: ClusterIx,
    /// Its offset behind the last record that crossed.
    pub from: i64,
    /// A switchover: nothing lay behind `from`.
    pub planned: bool,
}

impl Retired {
    pub fn by(cut: &Cut) -> Self {
        Retired { generation: cut.generation, cluster: cut.to.other(), from: cut.from_end, planned: cut.planned }
    }
}

/// Records of one cluster without a logical name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masked {
    /// The generation that the cutover began which left them behind, or in which the active cluster lost them.
    pub generation: Generation,
    pub planned: bool,
    /// The cluster was the standby; the active one has lost what these are copies of.
    pub truncated: bool,
    /// Cluster offset of the first.
    pub from: i64,
    /// Cluster offset behind the last; `None`: as far as the log goes, since nothing has been copied behind it yet.
    pub to: Option<i64>,
    /// The logical offset under which clients saw the first one before the cutover; the others follow one by one.
    pub logical: i64,
}

pub(super) fn ranges(
    map: &OffsetMap,
    cuts: &[(Generation, i64)],
    retired: &[Retired],
    cluster: ClusterIx,
) -> Vec<Masked> {
    let own: Vec<Retired> = retired.iter().copied().filter(|r| r.cluster == cluster).collect();
    let mut found = Vec::new();
    for (i, r) in own.iter().enumerate() {
        // A run that goes on over the place has joined what was copied next: nothing lies between.
        let next_run = map.runs().iter().find(|run| run.cluster_end() > r.from).map(|run| run.cluster.max(r.from));
        // A later cutover retired the cluster again before anything was copied: what lies behind that is the later one's.
        let next_cut = own.get(i + 1).map(|later| later.from);
        let to = next_run.into_iter().chain(next_cut).min();
        if to.is_some_and(|to| to <= r.from) {
            continue;
        }
        // The cluster's own generation is the one before: its names go on behind its last run, or, where nothing of that
        // generation crossed (its run is gone), begin where the generation began.
        let began = cuts.iter().rev().find(|&&(g, _)| g < r.generation).map_or(0, |&(_, logical)| logical);
        let before = map.runs().iter().rev().find(|run| run.cluster < r.from);
        let named = before.map_or(0, |run| run.logical.saturating_add(run.len.min(r.from - run.cluster)));
        found.push(Masked {
            generation: r.generation,
            planned: r.planned,
            truncated: false,
            from: r.from,
            to,
            logical: named.max(began),
        });
    }
    let known = found.len();
    for pair in map.runs().windows(2) {
        let [before, after] = pair else { continue };
        let (from, to) = (before.cluster_end(), after.cluster);
        let of_cutover = |m: &Masked| m.from < to && m.to.is_none_or(|end| end > from);
        if from < to && !found.iter().take(known).any(of_cutover) {
            let generation = cuts.iter().rev().find(|&&(_, logical)| logical <= after.logical).map_or(0, |&(g, _)| g);
            let logical = before.logical.saturating_add(before.len);
            found.push(Masked { generation, planned: false, truncated: true, from, to: Some(to), logical });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::{PartitionOffsets, Run};
    use super::*;

    const EAST: ClusterIx = ClusterIx::FIRST;
    const WEST: ClusterIx = ClusterIx::SECOND;

    fn cut(generation: Generation, to: ClusterIx, logical: i64, to_end: i64, from_end: i64) -> Cut {
        Cut { generation, to, logical, to_end, from_end, planned: false, completed: Vec::new() }
    }

    #[test]
    fn a_tail_is_open_until_something_is_copied_behind_it_and_keeps_its_old_name() {
        let mut p = PartitionOffsets::born(EAST, 0);
        p.map_mut(WEST).append(0, 0, 150);
        assert!(p.masked(EAST).is_empty());
        p.cut(&cut(1, WEST, 160, 150, 150));
        let tail = |to| Masked { generation: 1, planned: false, truncated: false, from: 150, to, logical: 150 };
        assert_eq!((p.masked(EAST), p.masked(WEST)), (vec![tail(None)], vec![]));
        p.map_mut(EAST).append(160, 163, Run::OPEN);
        assert_eq!(p.masked(EAST), [tail(Some(163))]);
        // There again: the range stays what it was, whoever is active.
        p.cut(&cut(2, EAST, 170, 173, 160));
        assert_eq!(p.masked(EAST), [tail(Some(163))]);
        let of_west = Masked { generation: 2, planned: false, truncated: false, from: 160, to: None, logical: 170 };
        assert_eq!(p.masked(WEST), [of_west]);
    }

    #[test]
    fn nothing_is_masked_where_the_copy_goes_on_at_once() {
        let mut p = PartitionOffsets::born(EAST, 0);
        p.map_mut(WEST).append(0, 0, 10);
        p.cut(&cut(1, WEST, 10, 10, 10));
        p.map_mut(EAST).append(10, 10, Run::OPEN);
        assert!(p.masked(EAST).is_empty());
    }

    #[test]
    fn a_generation_of_which_nothing_crossed_has_its_own_names() {
        let mut p = PartitionOffsets::born(EAST, 0);
        p.map_mut(WEST).append(0, 0, 50);
        p.cut(&cut(1, WEST, 160, 50, 50));
        // West wrote 160 to 164; east came back only as the target of the next failover.
        p.cut(&cut(2, EAST, 200, 70, 50));
        let of_west = Masked { generation: 2, planned: false, truncated: false, from: 50, to: None, logical: 160 };
        assert_eq!(p.masked(WEST), [of_west]);
        assert_eq!(p.masked(EAST)[0].to, Some(70));
        // And once more before anything was copied to it: two ranges that meet.
        p.cut(&cut(3, WEST, 300, 55, 75));
        assert_eq!(p.masked(WEST)[0].to, Some(55));
        assert_eq!(p.masked(EAST).iter().map(|m| (m.from, m.to)).collect::<Vec<_>>(), [(50, Some(70)), (75, None)]);
    }
}
