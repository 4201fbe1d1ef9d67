//! What became of the active cluster's log while it was copied: records that it deleted before they were, an end that it lost.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::Partition;
use crate::model::ClusterIx;
use crate::offsets::{OffsetMap, UNKNOWN_JUMP};
use crate::stream::TeeBuffer;

/// Holes, and truncations, kept per partition; beyond it the last one is stretched.
const MAX_HOLES: usize = 100;

impl Partition {
    /// The active cluster deleted these records (retention, DeleteRecords) before they were copied.
    pub fn note_hole(&self, logical: i64, logical_end: i64) {
        note(&mut self.holes.lock(), logical, logical_end);
    }

    /// Logical ranges that are missing on the standby, as far as this process has seen.
    pub fn holes(&self) -> Vec<(i64, i64)> {
        self.holes.lock().clone()
    }

    /// The log of `active` was cut off at its offset `at`: new records get names above all that clients have seen, or that the
    /// copy has (`copied`), and streams begin anew. Gives the logical range that is gone; `None`: its map is not `judged` any
    /// more, so that what was found out no longer holds.
    pub fn truncate(&self, active: ClusterIx, at: i64, copied: i64, judged: &OffsetMap) -> Option<(i64, i64)> {
        let (lost, next) = {
            let mut offsets = self.offsets.write();
            // Retention may have taken runs at its start meanwhile.
            if offsets.map(active).runs().last() != judged.runs().last() {
                return None;
            }
            let lost = offsets.map(active).position_out(at);
            let seen = self.exposed().max(copied);
            let known = self.watched.load(Ordering::Acquire);
            offsets.truncate(active, at, if known { seen } else { seen.saturating_add(UNKNOWN_JUMP) });
            self.logs.fetch_add(1, Ordering::AcqRel);
            (lost, offsets.map(active).position_out(at))
        };
        self.expose(next);
        self.duplicates.lock().forget_from(lost);
        self.bypass.lock().cut_off(at);
        self.with_tee(TeeBuffer::reset);
        self.advance(|p| (p.replicated, p.active_end) = (p.replicated.min(at), at));
        note(&mut self.truncations.lock(), lost, next);
        self.wake.notify_one();
        Some((lost, next))
    }

    /// Logical ranges that the active cluster has lost, as far as this process has seen.
    pub fn truncations(&self) -> Vec<(i64, i64)> {
        self.truncations.lock().clone()
    }

    /// The active cluster's log has a new leader, which may have written from `at` on: what waits in the tee may not be in its
    /// log, and neither what a stream has copied beyond.
    pub fn doubt_from(&self, at: i64) {
        self.with_tee(|tee| (tee.seen_end() > at).then(|| tee.reset()));
        if self.progress().replicated > at {
            self.logs.fetch_add(1, Ordering::AcqRel);
        }
        self.wake.notify_one();
    }

    /// Changes whenever a stream must begin anew, see [`Self::truncate`] and [`Self::doubt_from`].
    pub fn log_number(&self) -> u32 {
        self.logs.load(Ordering::Acquire)
    }

    /// A stream is open on this log: from now on this process sees what clients see. To be called before the progress tells
    /// of it.
    pub fn set_watched(&self, log: u32) {
        self.watched.store(true, Ordering::Release);
        self.open_on.store(log, Ordering::Release);
    }

    /// Waits until a stream has looked at its copy since the log was last in doubt; `false`: not in time.
    pub async fn beyond_doubt(&self, deadline: Instant) -> bool {
        let settled = self.progressed(|_| self.open_on.load(Ordering::Acquire) == self.log_number());
        tokio::time::timeout_at(deadline, settled).await.is_ok()
    }
}

/// Adds a logical range to those that were told.
fn note(ranges: &mut Vec<(i64, i64)>, from: i64, to: i64) {
    let full = ranges.len() >= MAX_HOLES;
    match ranges.last_mut() {
        // A stream that is opened again finds the same one.
        Some(last) if last.0 == from || last.1 == from || full => last.1 = last.1.max(to),
        _ => ranges.push((from, to)),
    }
}
