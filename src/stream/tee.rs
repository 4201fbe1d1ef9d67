//! The tee's buffer of one partition: puts batches that arrive in reply order back into log order, and turns everything
//! else (gaps, overflow, batches that may not be copied from the request) into a fetch.

use std::collections::BTreeMap;

use bytes::Bytes;

/// A batch that the active cluster has acknowledged under `acks=all`, as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeeItem {
    /// Offset at which the active cluster stored its first record.
    pub base_offset: i64,
    /// Offset behind its last record.
    pub next_offset: i64,
    /// The batch as the client sent it (base offset 0).
    pub batch: Bytes,
}

/// Bytes that one partition's tee may hold before batches are dropped (and fetched later).
pub const MAX_BYTES: usize = 8 << 20;
/// Batches likewise: bounds the overhead of many tiny ones.
pub const MAX_ITEMS: usize = 4096;

/// Bounded, ordered by base offset.
#[derive(Debug, Default)]
pub struct TeeBuffer {
    items: BTreeMap<i64, TeeItem>,
    bytes: usize,
    /// The active cluster's log is known to reach at least here.
    seen_end: i64,
    dropped: u64,
}

impl TeeBuffer {
    /// `false`: there is no room, so the batch is dropped and will be fetched.
    pub fn push(&mut self, item: TeeItem) -> bool {
        self.see_end(item.next_offset);
        let size = item.batch.len();
        if self.bytes + size > MAX_BYTES || self.items.len() >= MAX_ITEMS {
            self.dropped += 1;
            return false;
        }
        if let Some(old) = self.items.insert(item.base_offset, item) {
            self.bytes -= old.batch.len();
        }
        self.bytes += size;
        true
    }

    /// Notes that the active cluster's log reaches `end`.
    pub fn see_end(&mut self, end: i64) {
        self.seen_end = self.seen_end.max(end);
    }

    /// The next batch if it starts exactly at `next`; what lies below is dropped (the stream has it already).
    pub fn take(&mut self, next: i64) -> Option<TeeItem> {
        while let Some(entry) = self.items.first_entry() {
            if *entry.key() > next {
                return None;
            }
            let item = entry.remove();
            self.bytes -= item.batch.len();
            if item.base_offset == next {
                return Some(item);
            }
        }
        None
    }

    /// Offset of the first batch held, if any: with `take` giving none, there is a gap below it.
    pub fn first(&self) -> Option<i64> {
        self.items.keys().next().copied()
    }

    pub fn seen_end(&self) -> i64 {
        self.seen_end
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Forgets everything (a cutover: offsets are those of another cluster now).
    pub fn reset(&mut self) {
        *self = TeeBuffer { dropped: self.dropped, ..Default::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(base: i64, next: i64, size: usize) -> TeeItem {
        TeeItem { base_offset: base, next_offset: next, batch: Bytes::from(vec![0; size]) }
    }

    #[test]
    fn replies_out_of_order_leave_in_log_order() {
        let mut tee = TeeBuffer::default();
        for (b, n) in [(10, 12), (4, 10), (12, 13)] {
            tee.push(item(b, n, 5));
        }
        assert_eq!(tee.take(0), None, "a gap below the first batch");
        assert_eq!((tee.first(), tee.seen_end()), (Some(4), 13));
        let mut next = 4;
        let mut order = Vec::new();
        while let Some(i) = tee.take(next) {
            next = i.next_offset;
            order.push(i.base_offset);
        }
        assert_eq!((order, next, tee.bytes()), (vec![4, 10, 12], 13, 0));
    }

    #[test]
    fn what_the_stream_already_has_is_dropped() {
        let mut tee = TeeBuffer::default();
        tee.push(item(0, 5, 1));
        tee.push(item(5, 6, 1));
        assert_eq!(tee.take(5).map(|i| i.base_offset), Some(5));
        tee.push(item(2, 4, 1));
        assert_eq!((tee.take(6), tee.bytes()), (None, 0));
    }

    #[test]
    fn overflow_becomes_a_gap_not_memory() {
        let mut tee = TeeBuffer::default();
        for i in 0..20 {
            tee.push(item(i, i + 1, 1 << 20));
        }
        assert!(tee.bytes() <= MAX_BYTES);
        assert_eq!((tee.seen_end(), tee.dropped()), (20, 12));
    }
}
