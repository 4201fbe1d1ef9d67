//! Acknowledged logical ranges that have not crossed yet: what a failover would lose, exactly.

use std::collections::BTreeMap;

/// Ranges kept per partition; beyond it neighbours are joined over the gap between them, which then counts as acknowledged.
const MAX_RANGES: usize = 10_000;

/// Disjoint ranges by start; the value is the end (exclusive).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    ranges: BTreeMap<i64, i64>,
}

impl Ranges {
    /// Adds a range, joining it with those that it touches.
    pub fn add(&mut self, mut from: i64, mut to: i64) {
        if from >= to {
            return;
        }
        let touching: Vec<i64> =
            self.ranges.range(..=to).rev().take_while(|&(_, &end)| end >= from).map(|(&start, _)| start).collect();
        for start in touching {
            if let Some(end) = self.ranges.remove(&start) {
                from = from.min(start);
                to = to.max(end);
            }
        }
        self.ranges.insert(from, to);
        if self.ranges.len() > MAX_RANGES {
            self.join_first();
        }
    }

    fn join_first(&mut self) {
        let (Some((first, _)), Some((_, end))) = (self.ranges.pop_first(), self.ranges.pop_first()) else { return };
        self.ranges.insert(first, end);
    }

    pub fn forget_below(&mut self, offset: i64) {
        while let Some(entry) = self.ranges.first_entry() {
            let (from, to) = (*entry.key(), *entry.get());
            if from >= offset {
                return;
            }
            entry.remove();
            if to > offset {
                self.ranges.insert(offset, to);
                return;
            }
        }
    }

    /// Is some of `from` to `to` (exclusive) in a range?
    pub fn overlaps(&self, from: i64, to: i64) -> bool {
        self.ranges.range(..to).next_back().is_some_and(|(_, &end)| end > from)
    }

    /// Behind the last range; `None`: there is none.
    pub fn end(&self) -> Option<i64> {
        self.ranges.values().next_back().copied()
    }

    /// Ranges at or above `offset`, cut there.
    pub fn above(&self, offset: i64) -> Vec<(i64, i64)> {
        self.ranges.iter().filter(|&(_, &to)| to > offset).map(|(&from, &to)| (from.max(offset), to)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn touching_ranges_join_and_forgotten_ones_are_cut() {
        let mut r = Ranges::default();
        for (from, to) in [(10, 12), (14, 16), (12, 14), (20, 21), (5, 5)] {
            r.add(from, to);
        }
        assert_eq!(r.above(0), [(10, 16), (20, 21)]);
        for (from, to, want) in
            [(0, 10, false), (9, 11, true), (15, 20, true), (16, 20, false), (20, 30, true), (21, 30, false)]
        {
            assert_eq!(r.overlaps(from, to), want, "{from} to {to}");
        }
        r.forget_below(15);
        assert_eq!((r.above(0), r.above(16)), (vec![(15, 16), (20, 21)], vec![(20, 21)]));
    }

    #[test]
    fn number_is_bounded_and_nothing_acknowledged_is_left_out() {
        let mut r = Ranges::default();
        for i in 0..(MAX_RANGES as i64 + 100) {
            r.add(i * 10, i * 10 + 1);
        }
        let all = r.above(0);
        assert_eq!(all.len(), MAX_RANGES);
        assert!((0..MAX_RANGES as i64 + 100).all(|i| all.iter().any(|&(f, t)| f <= i * 10 && i * 10 < t)));
    }

    proptest! {
        #[test]
        fn is_the_set_of_its_members(adds in prop::collection::vec((0i64..60, 1i64..8), 0..30), below in 0i64..60) {
            let mut r = Ranges::default();
            let mut set = std::collections::BTreeSet::new();
            for (from, n) in adds {
                r.add(from, from + n);
                set.extend(from..from + n);
            }
            r.forget_below(below);
            let members: Vec<i64> = r.above(0).into_iter().flat_map(|(f, t)| f..t).collect();
            prop_assert_eq!(members, set.into_iter().filter(|&o| o >= below).collect::<Vec<_>>());
        }
    }
}
