//! The last five batches of each producer, so that the proxy answers a retry of a stored batch itself: brokers forget all
//! but the newest at a restart, and a false OUT_OF_ORDER_SEQUENCE makes clients store the batch twice or die.

use std::collections::{HashMap, VecDeque};

use super::client_id_of;

/// Batches remembered per producer: as many as an idempotent producer may have unacknowledged
/// (`max.in.flight.requests.per.connection`, Kafka class ProducerStateEntry).
const WINDOW: usize = 5;
/// Producers remembered per partition; beyond it the one seen longest ago is forgotten.
const MAX_PRODUCERS: usize = 4096;

/// One stored batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub epoch: i16,
    pub first_sequence: i32,
    pub last_sequence: i32,
    /// Logical offsets of its first record and behind its last one.
    pub logical: i64,
    pub logical_end: i64,
}

#[derive(Debug, Default)]
struct Producer {
    batches: VecDeque<Seen>,
    touched: u64,
}

/// Per partition.
#[derive(Debug, Default)]
pub struct DuplicateWindow {
    producers: HashMap<i64, Producer>,
    clock: u64,
}

impl DuplicateWindow {
    /// Remembers a stored batch. Told twice (by the reply and by the stream) it is kept once.
    pub fn record(&mut self, producer_id: i64, seen: Seen) {
        let producer_id = client_id_of(producer_id);
        self.clock += 1;
        let clock = self.clock;
        if !self.producers.contains_key(&producer_id) && self.producers.len() >= MAX_PRODUCERS {
            let oldest = self.producers.iter().min_by_key(|(_, p)| p.touched).map(|(&id, _)| id);
            oldest.and_then(|id| self.producers.remove(&id));
        }
        let producer = self.producers.entry(producer_id).or_default();
        producer.touched = clock;
        let batches = &mut producer.batches;
        if batches.iter().any(|b| b.logical == seen.logical) {
            return;
        }
        // Batches of one producer are stored in sequence order; the stream may tell of an older one after the reply told
        // of a newer one.
        let at = batches.iter().position(|b| b.logical > seen.logical).unwrap_or(batches.len());
        batches.insert(at, seen);
        if batches.len() > WINDOW {
            batches.pop_front();
        }
    }

    /// The stored batch of which a batch with these numbers is a retry.
    pub fn find(&self, producer_id: i64, epoch: i16, first: i32, last: i32) -> Option<Seen> {
        let batches = &self.producers.get(&client_id_of(producer_id))?.batches;
        batches.iter().find(|b| (b.epoch, b.first_sequence, b.last_sequence) == (epoch, first, last)).copied()
    }

    pub fn producers(&self) -> usize {
        self.producers.len()
    }

    /// Forgets the batches from a logical offset on: they did not survive a failover, acknowledged or not.
    pub fn forget_from(&mut self, logical: i64) {
        for producer in self.producers.values_mut() {
            producer.batches.retain(|b| b.logical < logical);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(first: i32, last: i32, logical: i64) -> Seen {
        Seen {
            epoch: 0,
            first_sequence: first,
            last_sequence: last,
            logical,
            logical_end: logical + i64::from(last - first) + 1,
        }
    }

    #[test]
    fn five_newest_by_log_order_whoever_tells_first() {
        let mut w = DuplicateWindow::default();
        for i in [1, 0, 2, 3, 2, 5, 4, 6] {
            w.record(9, seen(i * 2, i * 2 + 1, 100 + i64::from(i) * 2));
        }
        assert_eq!(w.find(9, 0, 4, 5).map(|s| s.logical), Some(104));
        assert_eq!(w.find(9, 0, 12, 13).map(|s| s.logical), Some(112));
        assert_eq!(w.find(9, 0, 2, 3), None, "older than the fifth");
        assert_eq!((w.find(9, 1, 4, 5), w.find(8, 0, 4, 5), w.find(9, 0, 4, 6)), (None, None, None));
    }

    #[test]
    fn a_producer_is_the_same_in_every_generation() {
        let (mut w, id) = (DuplicateWindow::default(), crate::stream::client_producer_id(7));
        w.record(crate::stream::cluster_producer_id(id, 3), seen(0, 0, 10));
        assert!(w.find(id, 0, 0, 0).is_some());
        assert!(w.find(crate::stream::cluster_producer_id(id, 4), 0, 0, 0).is_some());
    }

    #[test]
    fn lost_tail_is_forgotten() {
        let mut w = DuplicateWindow::default();
        w.record(1, seen(0, 0, 10));
        w.record(1, seen(1, 1, 11));
        w.forget_from(11);
        assert!(w.find(1, 0, 0, 0).is_some() && w.find(1, 0, 1, 1).is_none());
    }

    #[test]
    fn producers_are_bounded() {
        let mut w = DuplicateWindow::default();
        for id in 0..(MAX_PRODUCERS as i64 + 10) {
            w.record(id, seen(0, 0, id));
        }
        assert_eq!(w.producers(), MAX_PRODUCERS);
        assert!(w.find(0, 0, 0, 0).is_none() && w.find(MAX_PRODUCERS as i64, 0, 0, 0).is_some());
    }
}
