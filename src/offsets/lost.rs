//! What a copy has that its source has lost: the active cluster's log was truncated (an unclean leader election), its names
//! go on elsewhere, and the copy's records under the names in between are nobody's copy any more.

use super::OffsetMap;

/// What a copy must leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The copy's offset of the first record that its source has lost.
    pub from: i64,
    /// The logical offset at which the copy goes on.
    pub logical: i64,
}

/// `copy` is what the copy holds (closed at the end of its log) of `source`; what this generation wrote begins at the logical
/// offset `began`: below it a copy may name things that its source never did (markers of the time when it was active).
pub(super) fn lost(source: &OffsetMap, copy: &OffsetMap, began: i64) -> Option<Lost> {
    let last = copy.logical_end().checked_sub(1).filter(|&last| last >= began)?;
    let logical = source.gap_at(last)?;
    // The names of the source end, below the gap, behind the last of its records.
    let below = source.runs().iter().rev().find(|run| run.logical <= last);
    let first = below.map_or(0, |run| run.logical.saturating_add(run.len));
    Some(Lost { from: copy.position_in(first), logical })
}

#[cfg(test)]
mod tests {
    use super::super::Run;
    use super::*;

    fn map(runs: &[(i64, i64, i64)]) -> OffsetMap {
        OffsetMap::from_runs(runs.iter().map(|&(logical, cluster, len)| Run { logical, cluster, len }).collect())
            .unwrap()
    }

    #[test]
    fn records_whose_names_the_source_has_skipped_are_lost() {
        let whole = map(&[(0, 0, Run::OPEN)]);
        let truncated = map(&[(0, 0, 80), (100, 80, Run::OPEN)]);
        let cases = [
            // (the copy, its source, what is lost)
            (map(&[(0, 0, 100)]), &whole, None),
            (map(&[(0, 0, 80)]), &truncated, None),
            (map(&[(0, 0, 100)]), &truncated, Some((80, 100))),
            (map(&[(0, 0, 81)]), &truncated, Some((80, 100))),
            // A marker at 40 that the copy lacks.
            (map(&[(0, 0, 40), (41, 40, 55)]), &truncated, Some((79, 100))),
            (map(&[(0, 0, 40), (85, 40, 5)]), &truncated, Some((40, 100))),
            // Gone on already.
            (map(&[(0, 0, 80), (100, 100, 3)]), &truncated, None),
            (map(&[]), &truncated, None),
        ];
        for (copy, source, want) in cases {
            let found = lost(source, &copy, 0).map(|l| (l.from, l.logical));
            assert_eq!(found, want, "{copy:?}");
        }
        assert_eq!(lost(&truncated, &map(&[(0, 0, 100)]), 100), None, "of a generation before");
        // All of it.
        let emptied = map(&[(100, 0, Run::OPEN)]);
        assert_eq!(lost(&emptied, &map(&[(0, 0, 100)]), 0), Some(Lost { from: 0, logical: 100 }));
    }
}
