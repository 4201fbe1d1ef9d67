//! What waits to be sent to one broker of the standby: a queue for each partition, which take turns, since a request has room
//! for one batch of each.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::model::TopicPartition;

/// Queues of `T`, served in turns.
#[derive(Debug)]
pub(super) struct Line<T> {
    /// The partitions with something in their queue, each once.
    turns: VecDeque<TopicPartition>,
    queues: HashMap<TopicPartition, VecDeque<T>>,
    waiting: usize,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Line { turns: VecDeque::new(), queues: HashMap::new(), waiting: 0 }
    }
}

impl<T> Line<T> {
    pub fn push(&mut self, tp: &TopicPartition, item: T) {
        let queue = self.queues.entry(tp.clone()).or_default();
        if queue.is_empty() {
            self.turns.push_back(tp.clone());
        }
        queue.push_back(item);
        self.waiting += 1;
    }

    /// Would the next request be larger if it waited? Not if something is left for the one after it.
    pub fn wants_company(&self) -> bool {
        self.waiting == self.turns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The first of each queue whose turn it is, until `limit` is reached by their sizes.
    pub fn take(&mut self, limit: usize, size: impl Fn(&T) -> usize) -> Vec<(TopicPartition, T)> {
        let mut taken = Vec::with_capacity(self.turns.len());
        let mut sum = 0;
        for _ in 0..self.turns.len() {
            let Some(tp) = self.turns.pop_front() else { break };
            let Entry::Occupied(mut queue) = self.queues.entry(tp.clone()) else { continue };
            let Some(item) = queue.get_mut().pop_front() else { continue };
            if queue.get().is_empty() {
                queue.remove();
            } else {
                self.turns.push_back(tp.clone());
            }
            self.waiting -= 1;
            sum += size(&item);
            taken.push((tp, item));
            if sum >= limit {
                break;
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_at_a_time_in_order_and_in_turns() {
        let mut line = Line::default();
        for (partition, item) in [(0, 1), (0, 2), (0, 3), (1, 4), (2, 5), (2, 6)] {
            line.push(&TopicPartition::new("t", partition), item);
        }
        let mut take =
            |limit| line.take(limit, |_| 1).into_iter().map(|(tp, item)| (tp.partition, item)).collect::<Vec<_>>();
        assert_eq!(take(2), [(0, 1), (1, 4)]);
        assert_eq!(take(1), [(2, 5)], "whoever has not been served comes first");
        assert_eq!(take(9), [(0, 2), (2, 6)]);
        assert_eq!(take(9), [(0, 3)]);
        assert!(line.wants_company());
        assert!(line.is_empty() && line.queues.is_empty());
    }
}
