//! The offset map of one partition on one cluster: runs (logical start, cluster start, length), rising in both. What no run
//! covers has no logical name: holes, control batches, or a masked range that a failover left behind.

/// `len` consecutive records whose logical and cluster offsets differ by one constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub logical: i64,
    pub cluster: i64,
    /// Records; [`Run::OPEN`] for the last run of the active cluster, which grows by itself.
    pub len: i64,
}

impl Run {
    /// Length of a run that has no end yet.
    pub const OPEN: i64 = i64::MAX;

    /// What lies between its records `first` and `last` (included), counted from 0, as far as it has them.
    fn part(&self, first: i64, last: i64) -> Run {
        let first = first.max(0);
        let end = last.saturating_add(1).min(self.len);
        Run { logical: self.logical + first, cluster: self.cluster + first, len: end - first }
    }

    fn logical_end(&self) -> i64 {
        self.logical.saturating_add(self.len)
    }

    pub(super) fn cluster_end(&self) -> i64 {
        self.cluster.saturating_add(self.len)
    }
}

/// Runs in rising order of both logical and cluster offset, never overlapping. A map knows how much of it is stored, which two
/// equal maps may differ in.
#[derive(Clone, Debug, Default)]
pub struct OffsetMap {
    runs: Vec<Run>,
    /// Runs in front of these that were forgotten.
    forgotten: usize,
    kept: Kept,
}

impl PartialEq for OffsetMap {
    fn eq(&self, other: &Self) -> bool {
        (&self.runs, self.forgotten) == (&other.runs, other.forgotten)
    }
}

impl Eq for OffsetMap {}

/// How far a map and what is stored of it agree. Runs are counted from the first that the map ever had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The first run that may be stored otherwise, or not at all.
    pub unstored: usize,
    /// Behind the last run that may be stored, in this map's sense or a former one.
    pub end: usize,
    /// Changes so far.
    changes: u64,
}

impl OffsetMap {
    /// The map of a cluster whose offsets are the logical ones.
    pub fn identity() -> Self {
        let runs = vec![Run { logical: 0, cluster: 0, len: Run::OPEN }];
        OffsetMap { runs, ..OffsetMap::default() }
    }

    /// Builds a map from stored runs; `None` if they do not rise in both offsets (corrupt or foreign data).
    pub fn from_runs(runs: Vec<Run>) -> Option<Self> {
        Self::from_runs_behind(0, runs)
    }

    /// As [`Self::from_runs`], behind so many that were forgotten.
    pub fn from_runs_behind(forgotten: usize, runs: Vec<Run>) -> Option<Self> {
        let sane = runs.iter().all(|r| r.logical >= 0 && r.cluster >= 0 && r.len > 0)
            && runs.windows(2).all(|w| w[0].logical_end() <= w[1].logical && w[0].cluster_end() <= w[1].cluster);
        sane.then_some(OffsetMap { runs, forgotten, kept: Kept::default() })
    }

    /// How far it is stored.
    pub fn kept(&self) -> Kept {
        self.kept
    }

    /// All of it is about to be stored, and may be from now on.
    pub fn storing(&mut self) -> Kept {
        self.kept.end = self.kept.end.max(self.forgotten + self.runs.len());
        self.kept
    }

    /// What it was when it said so ([`Self::storing`]) is stored, and nothing behind that. If it has changed since, it is stored
    /// again from where it was not before.
    pub fn stored(&mut self, then: Kept) {
        if self.kept.changes == then.changes {
            let end = self.forgotten + self.runs.len();
            (self.kept.unstored, self.kept.end) = (end, end);
        }
    }

    /// Run `at` of those that are there, and what follows, is not what is stored any more.
    fn change(&mut self, at: usize) {
        self.kept.unstored = self.kept.unstored.min(self.forgotten + at);
        self.kept.changes += 1;
    }

    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// True if both offsets are equal for every record: nothing needs rewriting.
    pub fn is_identity(&self) -> bool {
        matches!(self.runs.as_slice(), [Run { logical: 0, cluster: 0, len: Run::OPEN }])
    }

    /// Adds a run behind the last one, joining it where the difference stays. A run that would not rise in both offsets
    /// is refused (`false`): the caller's idea of the log is wrong.
    #[must_use = "false: the run does not follow the map"]
    pub fn try_append(&mut self, logical: i64, cluster: i64, len: i64) -> bool {
        if len <= 0 || logical < 0 || cluster < 0 {
            return len == 0;
        }
        match self.runs.last_mut() {
            Some(last) if last.logical_end() > logical || last.cluster_end() > cluster => return false,
            Some(last) if last.logical_end() == logical && last.cluster_end() == cluster => {
                last.len = last.len.saturating_add(len);
            }
            _ => self.runs.push(Run { logical, cluster, len }),
        }
        self.change(self.runs.len() - 1);
        true
    }

    /// As [`Self::try_append`] where the caller has just made room (a closed map, offsets behind it).
    pub fn append(&mut self, logical: i64, cluster: i64, len: i64) {
        let followed = self.try_append(logical, cluster, len);
        debug_assert!(followed, "run ({logical}, {cluster}, {len}) does not follow {:?}", self.runs.last());
    }

    /// Ends the map at cluster offset `end` (exclusive): what was planned or lies above has no logical name.
    pub fn close_at_cluster(&mut self, end: i64) {
        while let Some(last) = self.runs.last_mut().filter(|last| last.cluster_end() > end) {
            if last.cluster >= end {
                self.runs.pop();
                self.change(self.runs.len());
            } else {
                last.len = end - last.cluster;
                self.change(self.runs.len() - 1);
            }
        }
    }

    /// The run that holds cluster offset `c`, or else the first one above it.
    fn at_cluster(&self, c: i64) -> Option<(&Run, bool)> {
        let i = self.runs.partition_point(|r| r.cluster_end() <= c);
        self.runs.get(i).map(|r| (r, r.cluster <= c))
    }

    fn at_logical(&self, l: i64) -> Option<(&Run, bool)> {
        let i = self.runs.partition_point(|r| r.logical_end() <= l);
        self.runs.get(i).map(|r| (r, r.logical <= l))
    }

    /// Logical offset of the record at cluster offset `c`; `None` if it has none.
    pub fn to_logical(&self, c: i64) -> Option<i64> {
        self.at_cluster(c).and_then(|(r, inside)| inside.then(|| r.logical + (c - r.cluster)))
    }

    /// Cluster offset of the record at logical offset `l`; `None` if this cluster has no such record.
    pub fn to_cluster(&self, l: i64) -> Option<i64> {
        self.at_logical(l).and_then(|(r, inside)| inside.then(|| r.cluster + (l - r.logical)))
    }

    /// Logical position for the cluster position `c` (the next record to be read is the first at or after it).
    pub fn position_out(&self, c: i64) -> i64 {
        match self.at_cluster(c) {
            Some((r, true)) => r.logical + (c - r.cluster),
            Some((r, false)) => r.logical,
            None => self.logical_end(),
        }
    }

    /// Cluster position for a logical position: the first cluster offset that holds a record at or after it, or the
    /// end of the map.
    pub fn position_in(&self, l: i64) -> i64 {
        match self.at_logical(l) {
            Some((r, true)) => r.cluster + (l - r.logical),
            Some((r, false)) => r.cluster,
            None => self.cluster_end(),
        }
    }

    /// The lowest cluster offset at which something may lie that came after the record before `l`: behind that record, so in
    /// front of a masked range that follows it.
    pub fn position_behind(&self, l: i64) -> i64 {
        let run = self.runs.iter().rev().find(|r| r.logical < l);
        run.map_or(0, |r| r.cluster.saturating_add(r.len.min(l - r.logical)))
    }

    /// What the runs have of the logical offsets from `first` to `last` (included), `limit` pieces at most.
    pub fn runs_of_logical(&self, first: i64, last: i64, limit: usize) -> Vec<Run> {
        let from = self.runs.partition_point(|r| r.logical_end() <= first);
        let runs = self.runs[from..].iter().take_while(|r| r.logical <= last);
        runs.map(|r| r.part(first - r.logical, last - r.logical)).take(limit).collect()
    }

    /// The same of the cluster offsets from `first` to `last`.
    pub fn runs_of_cluster(&self, first: i64, last: i64, limit: usize) -> Vec<Run> {
        let from = self.runs.partition_point(|r| r.cluster_end() <= first);
        let runs = self.runs[from..].iter().take_while(|r| r.cluster <= last);
        runs.map(|r| r.part(first - r.cluster, last - r.cluster)).take(limit).collect()
    }

    /// Where the next run begins if the logical offset `l` lies before it and in none: there is no record in between.
    pub fn gap_at(&self, l: i64) -> Option<i64> {
        self.at_logical(l).and_then(|(r, inside)| (!inside).then_some(r.logical))
    }

    /// Logical offset behind the last mapped record (0 for an empty map; `i64::MAX` for an open one).
    pub fn logical_end(&self) -> i64 {
        self.runs.last().map_or(0, Run::logical_end)
    }

    /// Cluster offset behind the last mapped record (0 for an empty map; `i64::MAX` for an open one).
    pub fn cluster_end(&self) -> i64 {
        self.runs.last().map_or(0, Run::cluster_end)
    }

    /// How many runs in front of [`Self::runs`] were forgotten.
    pub fn forgotten(&self) -> usize {
        self.forgotten
    }

    /// Forgets runs that lie wholly below cluster offset `start` (retention took their records), `together` at a time. The last
    /// of them stays: it says where the log goes on, or where the names in front of a masked range end.
    pub fn forget_below(&mut self, start: i64, together: usize) {
        let below = self.runs.partition_point(|r| r.cluster_end() <= start).min(self.runs.len()).saturating_sub(1);
        let gone = below - below % together.max(1);
        self.runs.drain(..gone);
        self.runs.shrink_to(self.runs.len() * 2);
        self.forgotten += gone;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(runs: &[(i64, i64, i64)]) -> OffsetMap {
        let mut m = OffsetMap::default();
        for &(l, c, n) in runs {
            assert!(m.try_append(l, c, n));
        }
        m
    }

    #[test]
    fn a_range_is_cut_into_what_the_runs_have_of_it() {
        let m = map(&[(100, 0, 10), (110, 15, 5), (120, 20, Run::OPEN)]);
        let run = |logical, cluster, len| Run { logical, cluster, len };
        assert_eq!(m.runs_of_logical(108, 121, 9), [run(108, 8, 2), run(110, 15, 5), run(120, 20, 2)]);
        assert_eq!(m.runs_of_logical(108, 121, 2), [run(108, 8, 2), run(110, 15, 5)]);
        assert_eq!(m.runs_of_logical(115, 119, 9), []);
        assert_eq!(m.runs_of_logical(130, i64::MAX, 9), [run(130, 30, i64::MAX - 130 + 1)]);
        assert_eq!(m.runs_of_logical(0, 100, 9), [run(100, 0, 1)]);
        assert_eq!(m.runs_of_cluster(8, 16, 9), [run(108, 8, 2), run(110, 15, 2)]);
        assert_eq!(m.runs_of_cluster(10, 14, 9), []);
        assert_eq!(m.runs_of_cluster(3, 3, 9), [run(103, 3, 1)]);
        assert_eq!(OffsetMap::default().runs_of_cluster(0, 9, 9), []);
    }

    #[test]
    fn contiguous_appends_cost_one_run() {
        let m = map(&[(100, 0, 10), (110, 10, 5), (116, 15, 4)]);
        assert_eq!(m.runs(), [Run { logical: 100, cluster: 0, len: 15 }, Run { logical: 116, cluster: 15, len: 4 }]);
    }

    #[test]
    fn positions_in_holes_move_up_and_ends_stay_ends() {
        let m = map(&[(0, 0, 3), (5, 3, 2), (10, 9, 1)]);
        for (logical, cluster) in [(0, 0), (2, 2), (3, 3), (4, 3), (5, 3), (6, 4), (7, 9), (10, 9), (11, 10), (99, 10)]
        {
            assert_eq!(m.position_in(logical), cluster, "position_in({logical})");
        }
        for (cluster, logical) in [(0, 0), (3, 5), (4, 6), (5, 10), (8, 10), (9, 10), (10, 11), (50, 11)] {
            assert_eq!(m.position_out(cluster), logical, "position_out({cluster})");
        }
        assert_eq!((m.to_cluster(3), m.to_logical(5)), (None, None));
    }

    #[test]
    fn what_does_not_rise_is_refused() {
        let mut m = map(&[(10, 10, 10)]);
        let before = m.clone();
        for (l, c, n) in [(19, 20, 1), (20, 19, 1), (-1, 30, 1), (30, 30, -1)] {
            assert!(!m.try_append(l, c, n));
        }
        assert_eq!(m, before);
        assert!(
            OffsetMap::from_runs(vec![Run { logical: 5, cluster: 5, len: 2 }, Run { logical: 6, cluster: 9, len: 1 }])
                .is_none()
        );
    }

    #[test]
    fn closing_cuts_runs_and_plans() {
        let mut m = map(&[(0, 0, 3), (5, 3, 4)]);
        m.close_at_cluster(5);
        assert_eq!((m.logical_end(), m.cluster_end()), (7, 5));
        m.close_at_cluster(3);
        assert_eq!(m.runs(), [Run { logical: 0, cluster: 0, len: 3 }]);
        let mut open = OffsetMap::identity();
        open.close_at_cluster(40);
        assert_eq!(open.logical_end(), 40);
    }

    #[test]
    fn forgetting_keeps_the_place_where_the_log_goes_on() {
        let mut m = map(&[(0, 0, 3), (5, 3, 4), (20, 7, 1)]);
        m.forget_below(7, 1);
        assert_eq!(
            (m.runs(), m.forgotten()),
            (&[Run { logical: 5, cluster: 3, len: 4 }, Run { logical: 20, cluster: 7, len: 1 }][..], 1)
        );
        m.forget_below(100, 2);
        assert_eq!(m.forgotten(), 1, "not so many at a time");
        m.forget_below(100, 1);
        assert_eq!((m.logical_end(), m.runs().len(), m.forgotten()), (21, 1, 2));
    }

    #[test]
    fn behind_a_record_lies_the_masked_range() {
        let m = map(&[(0, 0, 150), (160, 163, 5)]);
        for (l, c) in [(0, 0), (1, 1), (150, 150), (155, 150), (160, 150), (161, 164), (170, 168)] {
            assert_eq!(m.position_behind(l), c, "behind what is before {l}");
        }
    }

    #[test]
    fn gaps_lie_between_runs() {
        let m = map(&[(2, 0, 3), (5, 9, 4), (20, 13, 1)]);
        let rows = [
            (0, Some(2)),
            (1, Some(2)),
            (2, None),
            (4, None),
            (5, None),
            (8, None),
            (9, Some(20)),
            (20, None),
            (21, None),
        ];
        for (l, gap) in rows {
            assert_eq!(m.gap_at(l), gap, "at {l}");
        }
    }

    proptest! {
        #[test]
        fn maps_are_exact_both_ways(gaps in prop::collection::vec((0i64..4, 0i64..4, 1i64..6), 1..20)) {
            let (mut l, mut c) = (0, 0);
            let mut m = OffsetMap::default();
            let mut pairs = Vec::new();
            for (gl, gc, n) in gaps {
                l += gl;
                c += gc;
                prop_assert!(m.try_append(l, c, n));
                for i in 0..n { pairs.push((l + i, c + i)); }
                l += n;
                c += n;
            }
            for &(l, c) in &pairs {
                prop_assert_eq!(m.to_cluster(l), Some(c));
                prop_assert_eq!(m.to_logical(c), Some(l));
            }
            for l in 0..=m.logical_end() {
                let want = pairs.iter().find(|p| p.0 >= l).map_or(m.cluster_end(), |p| p.1);
                prop_assert_eq!(m.position_in(l), want);
            }
            for c in 0..=m.cluster_end() {
                let want = pairs.iter().find(|p| p.1 >= c).map_or(m.logical_end(), |p| p.0);
                prop_assert_eq!(m.position_out(c), want);
            }
            prop_assert_eq!(OffsetMap::from_runs(m.runs().to_vec()), Some(m));
        }

        /// What lies at or above the place below which all was forgotten is what it was; what lies below moves up, never beyond it.
        #[test]
        fn forgetting_changes_nothing_that_is_there(
            gaps in prop::collection::vec((0i64..4, 0i64..4, 1i64..6), 1..40),
            start in 0i64..200,
            together in 1usize..5,
        ) {
            let (mut l, mut c) = (0, 0);
            let mut whole = OffsetMap::default();
            for (gl, gc, n) in gaps {
                prop_assert!(whole.try_append(l + gl, c + gc, n));
                (l, c) = (l + gl + n, c + gc + n);
            }
            let mut m = whole.clone();
            m.forget_below(start, together);
            prop_assert_eq!(m.forgotten() % together, 0);
            prop_assert_eq!(&whole.runs()[m.forgotten()..], m.runs());
            prop_assert!(!m.is_empty());
            let floor = whole.position_out(start);
            for at in start..=whole.cluster_end() {
                prop_assert_eq!((m.to_logical(at), m.position_out(at)), (whole.to_logical(at), whole.position_out(at)));
            }
            for at in floor..=whole.logical_end() {
                prop_assert_eq!((m.to_cluster(at), m.position_in(at)), (whole.to_cluster(at), whole.position_in(at)));
                prop_assert_eq!(m.position_behind(at + 1), whole.position_behind(at + 1));
            }
            for at in 0..floor {
                prop_assert!((whole.position_in(at)..=whole.position_in(floor)).contains(&m.position_in(at)));
            }
        }
    }
}
