//! Batches of open transactions, kept until their end is acknowledged: if the active cluster is lost while one is being
//! committed, what the standby lacks of it is written from here. Without them a transaction of which one partition has
//! crossed and another has not would stay torn.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::model::TopicPartition;
use crate::stream::Ranges;

/// Bytes of all open transactions together. A transaction that does not fit is not kept: it may be torn by a failover, and
/// its report says so then.
pub const MAX_KEPT: usize = 32 << 20;
/// Batches likewise: bounds the overhead of many tiny ones.
const MAX_BATCHES: usize = 100_000;

/// By the offset at which the active cluster stored a batch: the offset behind it, and the batch as it was sent.
pub type Batches = BTreeMap<i64, (i64, Bytes)>;

/// The batches of one transaction by partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    partitions: BTreeMap<TopicPartition, Batches>,
}

impl Whole {
    /// The batches of a partition, if they are all that the transaction wrote there.
    pub fn of(&self, partition: &TopicPartition, written: &Ranges) -> Option<&Batches> {
        let batches = self.partitions.get(partition)?;
        let mut kept = Ranges::default();
        batches.iter().for_each(|(&base, &(next, _))| kept.add(base, next));
        (kept == *written).then_some(batches)
    }

    fn all(&self) -> impl Iterator<Item = &(i64, Bytes)> {
        self.partitions.values().flat_map(|batches| batches.values())
    }
}

/// What is kept, by transactional id.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// `None`: not kept until its transaction has ended.
    by_id: HashMap<Box<str>, Option<Whole>>,
    bytes: usize,
    batches: usize,
}

impl Kept {
    /// Keeps a batch that was stored at `base`; `None`: the cluster has not stored it as it was sent.
    pub fn add(&mut self, id: &str, partition: &TopicPartition, base: i64, next: i64, batch: Option<&Bytes>) {
        let fits = |b: &&Bytes| self.bytes + b.len() <= MAX_KEPT && self.batches < MAX_BATCHES;
        let Some(batch) = batch.filter(fits) else {
            self.forget(id);
            self.by_id.insert(id.into(), None);
            return;
        };
        let Some(whole) = self.by_id.entry(id.into()).or_insert_with(|| Some(Whole::default())) else { return };
        let batches = whole.partitions.entry(partition.clone()).or_default();
        self.bytes += batch.len();
        self.batches += 1;
        if let Some((_, before)) = batches.insert(base, (next, batch.clone())) {
            // A retry, which the broker has answered as the duplicate that it is.
            self.bytes -= before.len();
            self.batches -= 1;
        }
    }

    pub fn get(&self, id: &str) -> Option<&Whole> {
        self.by_id.get(id)?.as_ref()
    }

    /// The transaction has ended, or is none any more.
    pub fn forget(&mut self, id: &str) {
        if let Some(Some(whole)) = self.by_id.remove(id) {
            for (_, batch) in whole.all() {
                self.bytes -= batch.len();
                self.batches -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    fn written(ranges: &[(i64, i64)]) -> Ranges {
        let mut all = Ranges::default();
        ranges.iter().for_each(|&(from, to)| all.add(from, to));
        all
    }

    #[test]
    fn a_partition_is_given_whole_or_not_at_all() {
        let mut kept = Kept::default();
        let batch = Bytes::from_static(b"0123456789");
        for (partition, base, next) in [(0, 5, 7), (0, 9, 10), (1, 3, 4), (0, 5, 7)] {
            kept.add("a", &tp(partition), base, next, Some(&batch));
        }
        assert_eq!((kept.bytes, kept.batches), (30, 3), "a retry counts once");
        let whole = kept.get("a").unwrap();
        let batches = whole.of(&tp(0), &written(&[(5, 7), (9, 10)])).unwrap();
        assert_eq!(batches.keys().copied().collect::<Vec<_>>(), [5, 9]);
        assert_eq!(whole.of(&tp(0), &written(&[(5, 7), (9, 10), (12, 13)])), None, "one is missing");
        assert_eq!(whole.of(&tp(2), &written(&[(0, 1)])), None);
        kept.forget("a");
        assert_eq!((kept.bytes, kept.batches, kept.get("a")), (0, 0, None));
    }

    #[test]
    fn what_does_not_fit_is_given_up_until_its_end() {
        let mut kept = Kept::default();
        let (half, small) = (Bytes::from(vec![0; MAX_KEPT / 2]), Bytes::from_static(b"x"));
        kept.add("a", &tp(0), 0, 1, Some(&half));
        kept.add("b", &tp(0), 1, 2, Some(&half));
        kept.add("b", &tp(0), 2, 3, Some(&small));
        assert_eq!((kept.bytes, kept.get("b")), (half.len(), None));
        kept.add("b", &tp(0), 3, 4, Some(&small));
        assert_eq!(kept.get("b"), None, "its first batches are gone");
        assert!(kept.get("a").is_some(), "another one's are not");
        kept.forget("b");
        kept.add("b", &tp(0), 4, 5, Some(&small));
        assert!(kept.get("b").is_some(), "the next transaction");
        kept.add("b", &tp(0), 5, 6, None);
        assert_eq!((kept.bytes, kept.get("b")), (half.len(), None), "stored in another form");
    }
}
