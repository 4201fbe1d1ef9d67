//! Where share groups began to read partitions, as the proxy saw it. Pure.
//!
//! A share group's start offset is unknown to its cluster until something is acknowledged. Until then a broker keeps it in
//! memory: where the log ended when the first member asked, for a group that begins at the end. After a cutover such a group
//! would begin at the end anew, and skip what it had not acknowledged.

use std::collections::HashMap;

use crate::model::TopicPartition;

/// Partitions noted, of all groups. Beyond that nothing is: a group that has acknowledged something does not need it.
const MAX_NOTED: usize = 100_000;

/// What was seen of a group in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// A member asked for records while the log ended here, in logical offsets.
    Asked(i64),
    /// A member got records, the first of them at this logical offset.
    Acquired(i64),
}

#[derive(Default)]
struct First {
    asked: Option<i64>,
    acquired: Option<i64>,
}

/// Of one generation.
#[derive(Default)]
pub struct Starts {
    groups: HashMap<String, HashMap<TopicPartition, First>>,
    count: usize,
}

impl Starts {
    /// Keeps the first of each kind.
    pub fn meet(&mut self, group: &str, partition: &TopicPartition, met: Met) {
        let known = self.groups.get_mut(group).and_then(|partitions| partitions.get_mut(partition));
        let first = match known {
            Some(first) => first,
            None if self.count >= MAX_NOTED => return,
            None => {
                self.count += 1;
                self.groups.entry(group.to_owned()).or_default().entry(partition.clone()).or_default()
            }
        };
        let (place, at) = match met {
            Met::Asked(at) => (&mut first.asked, at),
            Met::Acquired(at) => (&mut first.acquired, at),
        };
        place.get_or_insert(at);
    }

    /// Where the group began, or before; `None` if that is not known. `latest`: groups begin at the end of the log.
    pub fn of(&self, group: &str, partition: &TopicPartition, latest: bool) -> Option<i64> {
        let first = self.groups.get(group)?.get(partition)?;
        if latest { first.asked.into_iter().chain(first.acquired).min() } else { first.acquired }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_began_where_it_first_asked_or_got_something() {
        let (mut starts, tp) = (Starts::default(), TopicPartition::new("t", 0));
        assert_eq!(starts.of("g", &tp, true), None);
        starts.meet("g", &tp, Met::Asked(7));
        assert_eq!(starts.of("g", &tp, true), Some(7), "it began at the end of the log");
        assert_eq!(starts.of("g", &tp, false), None, "it began anywhere");
        for met in [Met::Asked(5), Met::Acquired(9), Met::Acquired(3)] {
            starts.meet("g", &tp, met);
        }
        assert_eq!((starts.of("g", &tp, true), starts.of("g", &tp, false)), (Some(7), Some(9)), "the first counts");
        starts.meet("g", &TopicPartition::new("t", 1), Met::Acquired(3));
        assert_eq!(starts.of("g", &TopicPartition::new("t", 1), true), Some(3));
        assert_eq!(starts.of("other", &tp, true), None);
    }

    #[test]
    fn it_has_a_limit() {
        let mut starts = Starts::default();
        for p in 0..=MAX_NOTED as i32 {
            starts.meet("g", &TopicPartition::new("t", p), Met::Asked(1));
        }
        assert_eq!(starts.of("g", &TopicPartition::new("t", MAX_NOTED as i32 - 1), true), Some(1));
        assert_eq!(starts.of("g", &TopicPartition::new("t", MAX_NOTED as i32), true), None);
        starts.meet("g", &TopicPartition::new("t", 0), Met::Acquired(0));
        assert_eq!(starts.of("g", &TopicPartition::new("t", 0), true), Some(0));
    }
}
