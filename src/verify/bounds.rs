//! Which part of a partition's two logs is compared: what the stream says it has copied, no more and no less. Pure.

use std::ops::Range;

use super::compare::Scope;
use crate::catalog::{Progress, StreamState};
use crate::offsets::OffsetMap;

/// What the clusters answered about their logs: the standby's end first, the active cluster's next, then [`Seen`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub active_start: i64,
    /// High watermark.
    pub active_end: i64,
    /// Last stable offset.
    pub active_committed: i64,
    pub standby_start: i64,
    pub standby_end: i64,
}

/// What the proxy knows of the partition.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub progress: Progress,
    pub state: StreamState,
    pub active: OffsetMap,
    pub standby: OffsetMap,
}

/// What to compare.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub scope: Scope,
    /// Offsets to read, each in its cluster's own space.
    pub active: Range<i64>,
    pub standby: Range<i64>,
    /// As far as the active cluster may be read to explain what compaction took.
    pub active_end: i64,
    /// The stream has found the copy to be wrong.
    pub diverged: Option<String>,
    /// Why this is not all that should be compared.
    pub skipped: Option<String>,
}

impl Seen {
    fn opened(&self) -> bool {
        self.progress.replicated >= 0
    }

    /// Whether waiting a moment cannot tell more (an open transaction lets a stream wait for long).
    pub fn settled(&self, ends: &Ends) -> bool {
        self.diverged() || (self.opened() && !self.behind(ends) && self.accounts(ends))
    }

    fn diverged(&self) -> bool {
        matches!(self.state, StreamState::Diverged(_))
    }

    /// Whether it is known who wrote each record of the standby. The active cluster's end was read after the standby's, so a
    /// stream that has come that far has the answers to all its appends below the standby's end; one that stopped sends none.
    fn accounts(&self, ends: &Ends) -> bool {
        let Progress { replicated, standby_end, .. } = self.progress;
        self.diverged() || standby_end >= ends.standby_end || replicated >= ends.active_committed
    }

    /// The stream has stopped short of what it could copy. One that merely lags does not wait.
    fn behind(&self, ends: &Ends) -> bool {
        matches!(self.state, StreamState::Waiting(_)) && self.progress.replicated < ends.active_committed
    }

    fn skipped(&self, ends: &Ends, end: i64) -> Option<String> {
        match &self.state {
            // Reported as a difference.
            StreamState::Diverged(_) => None,
            StreamState::Waiting(reason) if !self.opened() || self.behind(ends) => {
                Some(format!("the stream is waiting ({reason}); compared below logical offset {end} only"))
            }
            state if !self.opened() => {
                Some(format!("the stream is not open ({}); compared below logical offset {end} only", state.word()))
            }
            _ if !self.accounts(ends) => Some(format!(
                "the stream has not accounted for the standby's offsets {} to {} yet",
                self.progress.standby_end,
                ends.standby_end - 1
            )),
            _ => None,
        }
    }
}

pub(super) fn bounds(seen: &Seen, ends: &Ends, compacted: bool) -> Bounds {
    let (active, standby, progress) = (&seen.active, &seen.standby, seen.progress);
    let from = active.position_out(ends.active_start).max(standby.position_out(ends.standby_start));
    let (end, active_until, standby_until, foreign_from) = if seen.opened() {
        let (until, foreign) = match seen.accounts(ends) {
            // A stream that is written to has gone on since the ends were read.
            true => (ends.standby_end.max(progress.standby_end), progress.standby_end),
            false => (progress.standby_end.min(ends.standby_end), i64::MAX),
        };
        (active.position_out(progress.replicated), progress.replicated, until, foreign)
    } else {
        // The map up to the standby's log end says what is there.
        let mut filled = standby.clone();
        filled.close_at_cluster(ends.standby_end);
        let end = filled.logical_end();
        (end, active.position_in(end).min(ends.active_committed), ends.standby_end, i64::MAX)
    };
    let diverged = match &seen.state {
        StreamState::Diverged(reason) => Some(reason.clone()),
        _ => None,
    };
    Bounds {
        scope: Scope { from, end, foreign_from, compacted },
        active: active.position_in(from).max(ends.active_start)..active_until,
        standby: standby.position_in(from).max(ends.standby_start).min(standby_until)..standby_until,
        active_end: ends.active_end.max(active_until),
        diverged,
        skipped: seen.skipped(ends, end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offsets::Run;

    fn map(runs: &[(i64, i64, i64)]) -> OffsetMap {
        OffsetMap::from_runs(runs.iter().map(|&(logical, cluster, len)| Run { logical, cluster, len }).collect())
            .unwrap()
    }

    const ENDS: Ends =
        Ends { active_start: 10, active_end: 120, active_committed: 110, standby_start: 0, standby_end: 90 };

    /// Logical 10 is the standby's offset 0.
    fn seen(replicated: i64, standby_end: i64, state: StreamState) -> Seen {
        Seen {
            progress: Progress { replicated, standby_end, active_end: replicated },
            state,
            active: OffsetMap::identity(),
            standby: map(&[(10, 0, i64::MAX)]),
        }
    }

    fn waiting() -> StreamState {
        StreamState::Waiting("no leader".into())
    }

    #[test]
    fn a_stream_that_went_on_since_the_ends_were_read_is_compared_on_both_sides() {
        let bounds = bounds(&seen(115, 95, StreamState::Tee), &ENDS, false);
        assert_eq!((bounds.active.end, bounds.standby.end, bounds.scope.end), (115, 95, 115));
    }

    #[test]
    fn an_open_stream_is_compared_as_far_as_it_has_come() {
        let bounds = bounds(&seen(100, 90, StreamState::Tee), &ENDS, true);
        assert_eq!(bounds.scope, Scope { from: 10, end: 100, foreign_from: 90, compacted: true });
        assert_eq!((bounds.active, bounds.standby, bounds.active_end), (10..100, 0..90, 120));
        assert_eq!((bounds.diverged, bounds.skipped), (None, None));
    }

    #[test]
    fn the_higher_log_start_counts_in_logical_terms() {
        let ends = Ends { standby_start: 25, ..ENDS };
        let found = bounds(&seen(100, 90, StreamState::Tee), &ends, false);
        assert_eq!((found.scope.from, found.active, found.standby), (35, 35..100, 25..90));
        let ends = Ends { active_start: 50, ..ENDS };
        let found = bounds(&seen(100, 90, StreamState::Tee), &ends, false);
        assert_eq!((found.scope.from, found.active, found.standby), (50, 50..100, 40..90));
    }

    #[test]
    fn a_stream_that_is_not_open_is_compared_by_the_map_and_skipped_aloud() {
        let found = bounds(&seen(-1, -1, waiting()), &ENDS, false);
        assert_eq!((found.scope.end, found.active, found.standby), (100, 10..100, 0..90));
        assert!(found.skipped.unwrap().contains("no leader"));
        // Nothing is mapped: nothing can be compared.
        let none = Seen { standby: OffsetMap::default(), ..seen(-1, -1, StreamState::Off) };
        let found = bounds(&none, &ENDS, false);
        assert_eq!((found.scope.end, found.active.is_empty(), found.standby.is_empty()), (0, true, false));
        assert!(found.skipped.is_some());
        // The active cluster's log is shorter than what was copied: read to its end.
        let found = bounds(&seen(-1, -1, waiting()), &Ends { active_committed: 60, ..ENDS }, false);
        assert_eq!((found.scope.end, found.active), (100, 10..60));
    }

    #[test]
    fn waiting_is_skipped_only_where_something_is_left_to_copy() {
        assert!(bounds(&seen(100, 90, waiting()), &ENDS, false).skipped.is_some());
        assert!(bounds(&seen(110, 90, waiting()), &ENDS, false).skipped.is_none());
        assert!(bounds(&seen(100, 90, StreamState::CatchUp), &ENDS, false).skipped.is_none());
        let diverged = bounds(&seen(100, 90, StreamState::Diverged("foreign".into())), &ENDS, false);
        assert_eq!((diverged.diverged.as_deref(), diverged.skipped), (Some("foreign"), None));
    }

    #[test]
    fn records_are_foreign_only_if_no_append_can_be_under_way() {
        let level = bounds(&seen(110, 88, StreamState::Tee), &ENDS, false);
        assert_eq!((level.scope.foreign_from, level.standby, level.skipped), (88, 0..90, None));
        let stopped = bounds(&seen(99, 88, StreamState::Diverged("foreign".into())), &ENDS, false);
        assert_eq!((stopped.scope.foreign_from, stopped.standby), (88, 0..90));
        let busy = bounds(&seen(99, 88, StreamState::CatchUp), &ENDS, false);
        assert_eq!((busy.scope.foreign_from, busy.standby), (i64::MAX, 0..88));
        assert!(busy.skipped.unwrap().contains("88 to 89"));
    }

    #[test]
    fn settled_means_that_the_stream_accounts_for_the_standby() {
        let rows = [
            (seen(100, 90, StreamState::Tee), true),
            (seen(99, 89, StreamState::Tee), false),
            (seen(110, 89, StreamState::Tee), true),
            (seen(100, 95, StreamState::CatchUp), true),
            (seen(100, 90, waiting()), false),
            (seen(110, 90, waiting()), true),
            (seen(-1, -1, waiting()), false),
            (seen(-1, -1, StreamState::Diverged("x".into())), true),
        ];
        for (seen, settled) in rows {
            assert_eq!(seen.settled(&ENDS), settled, "{seen:?}");
        }
    }
}
