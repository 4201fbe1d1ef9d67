//! Compares the two copies of one partition in logical order: whole batches by their bytes where both clusters cut them
//! alike, records one by one elsewhere. Incremental: chunks of either log go in as they are read. Pure.

use std::fmt::Write;

use super::feed::{Feed, Head, Side};
use super::missing::{MAX_MISSING_KEYS, Missing};
use crate::offsets::OffsetMap;
use crate::records::{Batch, RecordError, Section, crc_ok, same_content};

/// Differences described per partition; more are only counted. A copy that is wholly wrong needs no longer list.
pub const MAX_DESCRIBED: usize = 100;

/// What of a partition is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scope {
    /// First logical offset: the higher one of both log starts.
    pub from: i64,
    /// Logical offset behind the last one that must be on the standby.
    pub end: i64,
    /// Offset of the standby from which on nobody has copied anything: a record there is foreign. `i64::MAX`: not known.
    pub foreign_from: i64,
    /// The topic is compacted: a record may be missing if a later one has its key.
    pub compacted: bool,
}

/// One difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub logical_offset: i64,
    /// One sentence.
    pub what: String,
}

/// What a comparison came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Compared, on the active side.
    pub batches: u64,
    pub records: u64,
    /// Of the batches: equal byte for byte, no record was decoded.
    pub fingerprints: u64,
    /// All differences.
    pub differences: u64,
    /// The first [`MAX_DESCRIBED`] of them.
    pub described: Vec<Found>,
    /// More keys of a compacted topic were missing at a time than [`MAX_MISSING_KEYS`]: some differences may not show.
    pub overflowed: bool,
}

impl Outcome {
    /// Counts a difference, and describes it while there is room.
    pub fn differ(&mut self, logical_offset: i64, what: impl FnOnce() -> String) {
        self.differences += 1;
        if self.described.len() < MAX_DESCRIBED {
            self.described.push(Found { logical_offset, what: what() });
        }
    }
}

/// A running comparison. Feed the side that [`Compare::wants`] names until it names none; each feed holds what was pushed
/// and not compared yet, so at most one chunk and one inflated batch per side are in memory.
#[derive(Default)]
pub struct Compare {
    scope: Scope,
    active: Feed,
    standby: Feed,
    missing: Missing,
    missing_limit: usize,
    outcome: Outcome,
}

impl Compare {
    /// `active`, `standby`: the offset maps of the two clusters.
    pub fn new(active: OffsetMap, standby: OffsetMap, scope: Scope) -> Compare {
        Compare {
            scope,
            active: Feed::new(active),
            standby: Feed::new(standby),
            missing: Missing::default(),
            missing_limit: MAX_MISSING_KEYS,
            outcome: Outcome::default(),
        }
    }

    /// The side whose next chunk is needed; `None` when both have ended and all is compared.
    pub fn wants(&self) -> Option<Side> {
        let hungry = |feed: &Feed| !feed.ended && feed.is_empty();
        if hungry(&self.active) {
            return Some(Side::Active);
        }
        hungry(&self.standby).then_some(Side::Standby)
    }

    /// Takes the next batches of one side: committed data, in log order. A batch may come again or reach below the scope;
    /// what does not count is passed over.
    pub fn push(&mut self, side: Side, batches: impl IntoIterator<Item = Batch>) {
        for batch in batches {
            self.admit(side, batch);
        }
        self.run();
    }

    /// One side's log has been read to its end.
    pub fn end(&mut self, side: Side) {
        self.feed(side).ended = true;
        self.run();
    }

    /// A cluster has deleted the beginning of its log up to its offset `start` (retention): what lies below is not compared.
    pub fn raise_start(&mut self, side: Side, start: i64) {
        let logical = self.feed(side).map.position_out(start);
        self.scope.from = self.scope.from.max(logical);
    }

    /// Whether batches of the active cluster behind the scope are needed to explain records missing by compaction.
    pub fn unexplained(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Takes batches of the active cluster that lie behind the scope, see [`Compare::unexplained`].
    pub fn explain(&mut self, batches: impl IntoIterator<Item = Batch>) {
        for batch in batches {
            if let Err(error) = see_all(&mut self.missing, &batch) {
                let logical = self.active.span(&batch).0;
                self.outcome.differ(logical, || unreadable(Side::Active, &error));
            }
        }
    }

    /// The result so far, when a log cannot be read on: what is missing may only be so because of that.
    pub fn give_up(mut self) -> Outcome {
        self.outcome.overflowed = self.missing.overflowed();
        self.outcome
    }

    /// The result, once [`Compare::wants`] names no side.
    pub fn finish(mut self) -> Outcome {
        debug_assert!(self.wants().is_none(), "a side has not ended");
        self.outcome.overflowed = self.missing.overflowed();
        for (logical, side) in self.missing.into_rest() {
            self.outcome.differ(logical, || format!("missing on the {} and no later record has its key", side.name()));
        }
        self.outcome
    }

    fn feed(&mut self, side: Side) -> &mut Feed {
        match side {
            Side::Active => &mut self.active,
            Side::Standby => &mut self.standby,
        }
    }

    fn admit(&mut self, side: Side, batch: Batch) {
        let header = *batch.header();
        if header.count == 0 {
            // What the cleaner leaves of a producer's last batch.
            return;
        }
        let (from, foreign_from) = (self.scope.from, self.scope.foreign_from);
        let feed = self.feed(side);
        let (first, next) = feed.span(&batch);
        if side == Side::Standby && header.base_offset >= foreign_from {
            let (count, base, last) = (header.count, header.base_offset, header.last_offset());
            self.outcome.differ(first, || {
                format!(
                    "only on the standby: {count} records at its offsets {base} to {last}, which nobody copied there"
                )
            });
            return;
        }
        if first >= next || next <= from {
            return;
        }
        let sound = crc_ok(&batch);
        feed.push(batch);
        if !sound {
            self.outcome.differ(first, || {
                format!("the batch at offset {} of the {} fails its checksum", header.base_offset, side.name())
            });
        }
    }

    /// Compares until a side must be fed, or nothing is left.
    fn run(&mut self) {
        loop {
            // First of all, so that a batch of which nothing is left to compare is closed: the fast way needs both closed.
            self.settle(Side::Active);
            self.settle(Side::Standby);
            let waits = |feed: &Feed| feed.is_empty() && !feed.ended;
            if waits(&self.active) || waits(&self.standby) || (self.active.is_empty() && self.standby.is_empty()) {
                return;
            }
            if self.same_batch() {
                continue;
            }
            let opened = (self.open(Side::Active), self.open(Side::Standby));
            if opened == (false, false) {
                self.compare_heads();
            }
        }
    }

    /// The fast way: both front batches are the same bytes under the same logical offsets.
    fn same_batch(&mut self) -> bool {
        if !self.missing.is_empty() {
            return false;
        }
        let (Some(a), Some(s)) = (self.active.front(), self.standby.front()) else { return false };
        let base = self.active.dense_base(a).filter(|&base| base >= self.scope.from);
        if base.is_none() || base != self.standby.dense_base(s) || !same_content(a, s) {
            return false;
        }
        self.outcome.batches += 1;
        self.outcome.fingerprints += 1;
        self.outcome.records += u64::try_from(a.header().count).unwrap_or(0);
        self.active.pass();
        self.standby.pass();
        true
    }

    /// Puts a side whose batch is open on the next record that counts.
    fn settle(&mut self, side: Side) {
        let from = self.scope.from;
        let feed = self.feed(side);
        let at = feed.position();
        if let Err(error) = feed.seek(from) {
            self.outcome.differ(at, || unreadable(side, &error));
        }
    }

    /// Opens the front batch of a side that has none open; `true` if there was one, readable or not.
    fn open(&mut self, side: Side) -> bool {
        let feed = self.feed(side);
        let Some(base) = feed.front().map(|batch| feed.span(batch).0) else { return false };
        match feed.open() {
            Ok(()) => self.outcome.batches += u64::from(side == Side::Active),
            Err(error) => self.outcome.differ(base, || unreadable(side, &error)),
        }
        true
    }

    fn compare_heads(&mut self) {
        let (a, s) = (self.active.head(), self.standby.head());
        match (a, s) {
            (Some(a), Some(s)) if a.logical == s.logical => {
                if let Some(what) = differences(&a, &s) {
                    self.outcome.differ(a.logical, || what);
                }
                self.missing.seen(&a.record);
                self.missing.seen(&s.record);
                self.outcome.records += 1;
                self.active.consume();
                self.standby.consume();
            }
            (Some(a), s) if s.as_ref().is_none_or(|s| a.logical < s.logical) => {
                if a.logical < self.scope.end {
                    self.outcome.records += 1;
                    let logical = a.logical;
                    if self.scope.compacted {
                        self.missing.lacks(Side::Standby, logical, &a.record, self.missing_limit);
                    } else {
                        self.outcome.differ(logical, || "missing on the standby".into());
                    }
                } else {
                    self.missing.seen(&a.record);
                }
                self.active.consume();
            }
            (_, Some(s)) => {
                if self.scope.compacted && s.logical < self.scope.end {
                    self.missing.lacks(Side::Active, s.logical, &s.record, self.missing_limit);
                } else {
                    self.outcome.differ(s.logical, || "only on the standby".into());
                }
                self.standby.consume();
            }
            // The first arm with a guard takes every active record that stands alone.
            (_, None) => {}
        }
    }
}

/// What differs between two records of the same logical offset.
fn differences(a: &Head<'_>, s: &Head<'_>) -> Option<String> {
    let mut what = String::new();
    let mut say = |part: std::fmt::Arguments<'_>| {
        let comma = if what.is_empty() { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = write!(what, "{comma}{part}");
    };
    // Equal bytes are equal fields; the reverse need not hold, as lengths can be written longer than they must.
    if a.record.content != s.record.content {
        if a.record.key != s.record.key {
            say(format_args!("key differs"));
        }
        if a.record.value != s.record.value {
            say(format_args!("value differs"));
        }
        if !a.record.headers.clone().eq(s.record.headers.clone()) {
            say(format_args!("headers differ"));
        }
    }
    if a.timestamp != s.timestamp {
        say(format_args!("timestamp differs: {} and {}", a.timestamp, s.timestamp));
    }
    (!what.is_empty()).then_some(what)
}

fn see_all(missing: &mut Missing, batch: &Batch) -> Result<(), RecordError> {
    let section = Section::open(batch)?;
    for record in section.records() {
        missing.seen(&record?);
    }
    Ok(())
}

fn unreadable(side: Side, error: &dyn std::error::Error) -> String {
    format!("a batch of the {} cannot be read: {error}", side.name())
}

#[cfg(test)]
mod tests;
