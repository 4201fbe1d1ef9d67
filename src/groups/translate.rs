//! Committed offsets of the active cluster in the standby's own offsets. Pure.

use crate::catalog::Progress;
use crate::model::ClusterIx;
use crate::offsets::PartitionOffsets;

/// The standby's offset for a position committed on the active cluster; `None` while the standby lacks a record below it.
/// Exact: the next record that a consumer reads there is the one that it would have read on the active cluster.
///
/// `progress` must have been read before `offsets`, so that the maps cover it.
pub fn standby_offset(
    offsets: &PartitionOffsets,
    active: ClusterIx,
    progress: Progress,
    committed: i64,
) -> Option<i64> {
    if committed < 0 || progress.standby_end < 0 || committed > progress.replicated {
        return None;
    }
    let logical = offsets.map(active).position_out(committed);
    // The standby's last run is open: behind it lies what has not been written yet. Holes at the active cluster's end
    // (control batches) have no place there.
    Some(offsets.map(active.other()).position_in(logical).min(progress.standby_end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offsets::{Cut, OffsetMap, Run};

    const EAST: ClusterIx = ClusterIx::FIRST;
    const WEST: ClusterIx = ClusterIx::SECOND;

    fn copied(runs: &[(i64, i64, i64)]) -> PartitionOffsets {
        let mut offsets = PartitionOffsets::born(EAST, 0);
        for &(logical, west, len) in runs {
            offsets.map_mut(WEST).append(logical, west, len);
        }
        offsets
    }

    fn progress(replicated: i64, standby_end: i64) -> Progress {
        Progress { replicated, standby_end, active_end: replicated }
    }

    #[test]
    fn only_what_the_standby_has_is_translated_and_exactly() {
        // East: 100..110, a marker at 110, 111..116, a marker at 116. West: the same records from 0 on.
        let offsets = copied(&[(100, 0, 10), (111, 10, Run::OPEN)]);
        let whole = progress(117, 15);
        for (committed, west) in [
            (0, Some(0)),
            (100, Some(0)),
            (109, Some(9)),
            (110, Some(10)),
            (111, Some(10)),
            (115, Some(14)),
            (116, Some(15)),
            (117, Some(15)),
            (118, None),
            (-1, None),
        ] {
            assert_eq!(standby_offset(&offsets, EAST, whole, committed), west, "{committed}");
        }
        let behind = progress(113, 12);
        for (committed, west) in [(110, Some(10)), (112, Some(11)), (113, Some(12)), (114, None), (117, None)] {
            assert_eq!(standby_offset(&offsets, EAST, behind, committed), west, "{committed} while behind");
        }
        assert_eq!(standby_offset(&offsets, EAST, Progress::UNKNOWN, 100), None, "not opened yet");
    }

    #[test]
    fn an_empty_partition_translates_to_its_start() {
        let offsets = PartitionOffsets::born(EAST, 0);
        assert_eq!(standby_offset(&offsets, EAST, progress(0, 0), 0), Some(0));
        assert_eq!(standby_offset(&offsets, EAST, progress(7, 0), 7), Some(0), "control batches only");
    }

    #[test]
    fn the_way_back_translates_too() {
        let mut offsets = copied(&[(0, 0, 10)]);
        offsets.cut(&Cut {
            generation: 1,
            to: WEST,
            logical: 12,
            to_end: 10,
            from_end: 11,
            planned: true,
            completed: Vec::new(),
        });
        offsets.map_mut(EAST).append(12, 11, Run::OPEN);
        for (west, east) in [(4, Some(4)), (10, Some(11)), (13, Some(14)), (14, None)] {
            assert_eq!(standby_offset(&offsets, WEST, progress(13, 14), west), east, "{west}");
        }
    }

    #[test]
    fn read_positions_agree_over_random_holes() {
        use proptest::prelude::*;
        let mut runner = proptest::test_runner::TestRunner::default();
        let runs = prop::collection::vec((0i64..3, 1i64..5), 1..12);
        runner
            .run(&(runs, 0i64..60), |(runs, committed)| {
                let (mut logical, mut map) = (0, OffsetMap::default());
                let mut records = Vec::new();
                for (hole, len) in runs {
                    logical += hole;
                    prop_assert!(map.try_append(logical, records.len() as i64, len));
                    records.extend(logical..logical + len);
                    logical += len;
                }
                let mut offsets = PartitionOffsets::born(EAST, 0);
                *offsets.map_mut(WEST) = map;
                let got = standby_offset(&offsets, EAST, progress(logical, records.len() as i64), committed);
                let want = records.iter().filter(|&&r| r < committed).count() as i64;
                prop_assert_eq!(got, (committed <= logical).then_some(want));
                Ok(())
            })
            .unwrap();
    }
}
