//! Which batches of the active cluster's log did not come through the proxy. Counted, never judged by more than that: such
//! writers are legal, and their batches cross like all others.
//!
//! A batch under a producer id of the proxy's namespace is known by it. Of others the proxy knows the place from the broker's
//! reply, which may be processed after the stream has fetched the batch: so each is looked at a second time, a moment later.

use std::collections::VecDeque;

use super::{Ranges, is_client_id};

/// How long the reply to a produce request may take behind the stream that has fetched its batch, milliseconds.
const PATIENCE_MS: i64 = 2_000;
/// Batches that wait to be looked at again; beyond it the oldest is looked at at once.
const MAX_WAITING: usize = 10_000;

/// Of one partition.
#[derive(Debug, Default)]
pub struct Bypass {
    /// Offset below which nothing is known: it was written before this process looked.
    from: Option<i64>,
    /// Offsets of the active cluster that producers of the proxy were told.
    own: Ranges,
    /// Offset up to which batches have been looked at: a stream that is opened again fetches some a second time.
    looked: i64,
    waiting: VecDeque<(i64, i64)>,
    /// Batches sent under `acks=0`, whose places nobody tells, less those that were found.
    unanswered: u64,
    counted: u64,
}

impl Bypass {
    /// The log ends at `end` and is watched from now on. Later calls change nothing.
    pub fn begin(&mut self, end: i64) {
        self.from.get_or_insert(end);
    }

    /// Offsets are another log's from now on. What was counted stays.
    pub fn restart(&mut self) {
        *self = Bypass { counted: self.counted, ..Default::default() };
    }

    /// The log was cut off: what comes at these offsets are other batches.
    pub fn cut_off(&mut self, at: i64) {
        self.looked = self.looked.min(at);
        self.from = self.from.map(|from| from.min(at));
        self.waiting.retain(|&(offset, _)| offset < at);
    }

    /// A producer of the proxy was told that its batch lies here.
    pub fn own(&mut self, producer_id: i64, offset: i64, next: i64) {
        if !is_client_id(producer_id) {
            self.own.add(offset, next);
        }
    }

    /// A producer of the proxy has sent a batch under `acks=0`.
    pub fn unanswered(&mut self, producer_id: i64) {
        if !is_client_id(producer_id) {
            self.unanswered = self.unanswered.saturating_add(1);
        }
    }

    /// The stream has fetched a batch with records; `now_ms` is any clock that rises.
    pub fn fetched(&mut self, producer_id: i64, offset: i64, now_ms: i64) {
        let watched = self.from.is_some_and(|from| offset >= from) && offset >= self.looked;
        if !watched {
            return;
        }
        self.looked = offset.saturating_add(1);
        if is_client_id(producer_id) {
            return;
        }
        self.waiting.push_back((offset, now_ms));
        if self.waiting.len() > MAX_WAITING
            && let Some((offset, _)) = self.waiting.pop_front()
        {
            self.count(offset);
        }
    }

    /// Looks at batches that have waited long enough. The stream has come to offset `copied`; what has been teed lies below it
    /// and is not fetched.
    pub fn settle(&mut self, copied: i64, now_ms: i64) {
        while let Some(&(offset, since)) = self.waiting.front()
            && now_ms.saturating_sub(since) >= PATIENCE_MS
        {
            self.waiting.pop_front();
            self.count(offset);
        }
        let keep = self.waiting.front().map_or(copied, |&(offset, _)| offset.min(copied));
        self.own.forget_below(keep);
    }

    fn count(&mut self, offset: i64) {
        if self.own.overlaps(offset, offset.saturating_add(1)) {
            return;
        }
        match self.unanswered.checked_sub(1) {
            Some(rest) => self.unanswered = rest,
            None => self.counted += 1,
        }
    }

    /// Batches that came around the proxy since it began to look.
    pub fn counted(&self) -> u64 {
        self.counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::client_producer_id;

    const LATER: i64 = PATIENCE_MS;

    #[test]
    fn what_the_proxy_did_not_pass_on_is_counted_once() {
        let mut bypass = Bypass::default();
        let proxys = client_producer_id(7);
        bypass.fetched(-1, 3, 0);
        bypass.begin(10);
        bypass.begin(99);
        bypass.fetched(-1, 9, 0);
        bypass.own(-1, 12, 14);
        // (producer id, offset): by a namespace id; told; told later; nobody's; a transaction of somebody else; again.
        for (id, offset) in [(proxys, 10), (-1, 12), (-1, 14), (-1, 16), (4000, 17), (-1, 16)] {
            bypass.fetched(id, offset, 5);
        }
        bypass.own(-1, 14, 16);
        bypass.settle(18, 5);
        assert_eq!(bypass.counted(), 0, "not yet");
        bypass.settle(18, 5 + LATER);
        assert_eq!(bypass.counted(), 2);
        // One under acks=0 and one around the proxy.
        bypass.unanswered(-1);
        bypass.fetched(-1, 18, 9);
        bypass.fetched(-1, 19, 9);
        bypass.settle(20, 9 + LATER);
        assert_eq!(bypass.counted(), 3);
        assert_eq!(bypass.own, Ranges::default(), "what was copied is forgotten");
        bypass.restart();
        bypass.fetched(-1, 30, 0);
        bypass.settle(31, LATER);
        assert_eq!(bypass.counted(), 3, "another log is not watched yet");
    }

    #[test]
    fn a_log_that_was_cut_off_has_other_batches_at_the_same_offsets() {
        let mut bypass = Bypass::default();
        bypass.begin(10);
        bypass.fetched(-1, 10, 0);
        bypass.fetched(-1, 11, 0);
        bypass.cut_off(11);
        bypass.fetched(-1, 11, 0);
        bypass.settle(12, LATER);
        assert_eq!(bypass.counted(), 2);
    }

    #[test]
    fn many_waiting_ones_are_counted_at_once() {
        let mut bypass = Bypass::default();
        bypass.begin(0);
        (0..MAX_WAITING as i64 + 7).for_each(|offset| bypass.fetched(-1, offset, 0));
        assert_eq!((bypass.counted(), bypass.waiting.len()), (7, MAX_WAITING));
    }
}
