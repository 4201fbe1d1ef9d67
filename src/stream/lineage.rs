//! Whether the active cluster's log still is the one that was read before, told by leader epochs as followers tell it (KIP-101,
//! KIP-279): a leader that does not know the end of an epoch as it was seen has lost what lay behind.

use std::collections::VecDeque;

/// Epochs remembered; a leader that goes back further than that is judged by the oldest one.
const MAX_EPOCHS: usize = 16;

/// What was seen of one partition's log on the active cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// (leader epoch, offset at which it began), rising in both.
    epochs: VecDeque<(i32, i64)>,
    /// The log was seen to reach up to here, below the high watermark, in the last of these epochs.
    end: i64,
}

/// What a look at the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The epoch is the one that is known (or an older one: an answer that was late).
    Known,
    /// The leader must be asked where this epoch ended.
    Rose { after: i32 },
}

/// What became of the log at a change of its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Everything that was seen below is there; what lies from here on may be another's than was seen since the last look.
    Whole { from: i64 },
    /// What was seen from this offset on is gone.
    Truncated { at: i64 },
}

impl Lineage {
    /// A leader says that its epoch is `epoch` and that the log reaches up to `end`.
    pub fn look(&mut self, epoch: i32, end: i64) -> Look {
        match self.epochs.back() {
            // Brokers without leader epochs tell nothing.
            _ if epoch < 0 => {}
            None => {
                self.epochs.push_back((epoch, 0));
                self.end = end;
            }
            Some(&(known, _)) if epoch > known => return Look::Rose { after: known },
            Some(&(known, _)) if epoch == known => self.end = self.end.max(end),
            Some(_) => {}
        }
        Look::Known
    }

    /// The leader of `epoch`, whose log reaches up to `end`, knows of no higher epoch than `found` among those up to the last
    /// one that was seen, and has that one end at `found_end`.
    pub fn change(&mut self, epoch: i32, end: i64, (found, found_end): (i32, i64)) -> Change {
        // The epoch behind `found` as it was seen: what `found` had beyond its start was not seen either.
        let own_end = self.epochs.iter().find(|(seen, _)| *seen > found).map_or(i64::MAX, |&(_, start)| start);
        let from = found_end.min(own_end).max(0);
        let change = if from < self.end { Change::Truncated { at: from } } else { Change::Whole { from } };
        while self.epochs.back().is_some_and(|&(seen, start)| seen > found || start > from) {
            self.epochs.pop_back();
        }
        self.epochs.push_back((epoch, from));
        if self.epochs.len() > MAX_EPOCHS {
            self.epochs.pop_front();
        }
        self.end = end;
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_new_leader_with_all_that_was_seen_changes_nothing() {
        let mut log = Lineage::default();
        assert_eq!(log.look(3, 100), Look::Known);
        assert_eq!(log.look(3, 140), Look::Known);
        assert_eq!(log.look(2, 150), Look::Known, "an answer that was late");
        assert_eq!(log.look(5, 160), Look::Rose { after: 3 });
        assert_eq!(log.look(5, 160), Look::Rose { after: 3 }, "until it is judged");
        assert_eq!(log.change(5, 160, (3, 150)), Change::Whole { from: 150 });
        assert_eq!(log.look(5, 170), Look::Known);
    }

    #[test]
    fn a_shorter_log_is_found_at_once_and_when_it_has_grown_again() {
        for end in [90, 90_000] {
            let mut log = Lineage::default();
            log.look(3, 100);
            assert_eq!(log.look(4, end), Look::Rose { after: 3 });
            assert_eq!(log.change(4, end, (3, 80)), Change::Truncated { at: 80 });
            assert_eq!(log.look(4, end), Look::Known);
            // Again, further down.
            assert_eq!(log.change(6, 85, (3, 70)), Change::Truncated { at: 70 });
        }
    }

    #[test]
    fn a_leader_that_never_knew_the_epoch_goes_back_to_where_it_began() {
        let mut log = Lineage::default();
        log.look(3, 100);
        assert_eq!(log.change(4, 120, (3, 100)), Change::Whole { from: 100 });
        log.look(4, 150);
        // Its own epoch 3 is longer than the one that was seen: what was seen of epoch 4 began at 100.
        assert_eq!(log.change(7, 200, (3, 130)), Change::Truncated { at: 100 });
        // A log that was emptied.
        assert_eq!(log.change(9, 0, (7, 0)), Change::Truncated { at: 0 });
    }

    /// Two replicas as Kafka has them: a list of epochs, one per record.
    fn answer(log: &[i32], asked: i32) -> (i32, i64) {
        let end = log.iter().filter(|&&e| e <= asked).count() as i64;
        (log.iter().copied().filter(|&e| e <= asked).max().unwrap_or(asked), end)
    }

    proptest! {
        /// Whatever elections there were, the common prefix is found exactly, or nothing was lost.
        #[test]
        fn what_is_common_is_found(steps in prop::collection::vec((0usize..40, 0usize..20), 1..12)) {
            let mut lineage = Lineage::default();
            let mut log: Vec<i32> = Vec::new();
            let mut epoch = 0;
            for (cut, grow) in steps {
                // A leader that has lost some of the log writes in an epoch of its own.
                epoch += 1;
                let keep = log.len().saturating_sub(cut);
                let seen = log.len() as i64;
                log.truncate(keep);
                log.extend(std::iter::repeat_n(epoch, grow));
                let end = log.len() as i64;
                match lineage.look(epoch, end) {
                    Look::Known => prop_assert_eq!(epoch, 1),
                    Look::Rose { after } => {
                        let change = lineage.change(epoch, end, answer(&log, after));
                        let want = if (keep as i64) < seen { Change::Truncated { at: keep as i64 } } else { Change::Whole { from: keep as i64 } };
                        prop_assert_eq!(change, want);
                    }
                }
            }
        }
    }
}
