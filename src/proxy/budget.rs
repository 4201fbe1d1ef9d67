//! Memory for replies that are gathered whole: how much of it all connections hold together, and what happens when that is
//! much. A consumer that does not read what it has asked for holds a reply, of 50 MiB if it is a Java client; many of them must not
//! be the proxy's end.
//!
//! While memory is tight, Fetch requests ask the broker for less, and of replies to those that were on their way already only the
//! first batches are kept. Nobody waits for anybody: readers beside slow ones get on in smaller steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::admin::metrics::{Counted, Pool};

/// Bytes of records that one Fetch brings while memory is tight, or its first batch. (A broker gives that batch whole, whatever
/// the limit, and does not wait for more bytes than the limit allows: Kafka class KafkaApis.)
pub const TIGHT_FETCH: usize = 256 << 10;
/// What is smaller is not counted.
const SMALL: usize = 16 << 10;

pub struct Budget {
    held: AtomicUsize,
    limit: usize,
}

impl Budget {
    /// `limit`: bytes of replies that wait for their clients, of all connections (`limits.reply_buffer`).
    pub fn new(limit: u64) -> Self {
        Budget { held: AtomicUsize::new(0), limit: usize::try_from(limit).unwrap_or(usize::MAX) }
    }

    /// The most that a Fetch may ask for. What it brought beyond the limit would be thrown away, so less is asked for before that.
    pub fn fetch_limit(&self) -> i32 {
        if self.held.load(Ordering::Relaxed) > self.limit / 2 { TIGHT_FETCH as i32 } else { i32::MAX }
    }

    /// Counts so many bytes if they fit. A reply that is larger than the limit may be held if it is the only one.
    pub fn try_hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let fits = |held: usize| (held == 0 || held.saturating_add(bytes) <= self.limit).then_some(held + bytes);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(self.held_already(bytes))
    }

    /// Counts so many bytes that are there in any case.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.held_already(bytes)
    }

    /// Counts a frame for as long as any of it is held.
    pub fn count(self: &Arc<Self>, frame: Bytes) -> Bytes {
        if frame.len() <= SMALL { frame } else { self.hold(frame.len()).within(frame) }
    }

    fn held_already(self: &Arc<Self>, bytes: usize) -> Held {
        Held { budget: self.clone(), bytes, _gauge: Counted::bytes(Pool::Replies, bytes) }
    }
}

/// Bytes that count until this is dropped.
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
    _gauge: Counted,
}

impl Held {
    /// Lives from now on as long as any of the frame does.
    pub fn within(self, frame: Bytes) -> Bytes {
        Bytes::from_owner(Whole { frame, _held: self })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct Whole {
    frame: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    #[test]
    fn what_does_not_fit_is_refused_unless_it_is_alone() {
        let budget = Arc::new(Budget::new(LIMIT as u64));
        let large = budget.try_hold(2 * LIMIT).expect("alone");
        assert!(budget.try_hold(1).is_none());
        drop(large);
        let half = budget.try_hold(LIMIT / 2).expect("room");
        assert_eq!(budget.fetch_limit(), i32::MAX);
        let more = budget.try_hold(LIMIT / 2).expect("room");
        assert_eq!(budget.fetch_limit(), TIGHT_FETCH as i32);
        assert!(budget.try_hold(1).is_none());
        drop(half);
        assert!(budget.try_hold(1).is_some());
        drop(more);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_frame_counts_until_its_last_part_is_gone() {
        let budget = Arc::new(Budget::new(LIMIT as u64));
        let small = budget.count(Bytes::from(vec![1; SMALL]));
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
        let frame = budget.count(Bytes::from(vec![1; SMALL + 1]));
        let part = frame.slice(5..9);
        drop((small, frame));
        assert_eq!(budget.held.load(Ordering::Relaxed), SMALL + 1);
        drop(part);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }
}
