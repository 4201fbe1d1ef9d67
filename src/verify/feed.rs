//! One cluster's side of a comparison: batches in log order, turned into records with logical offsets as late as possible.
//! A batch stays compressed bytes until its records must be looked at one by one. Pure.

use std::collections::VecDeque;

use crate::offsets::OffsetMap;
use crate::records::{Batch, RecordError, RecordRef, Records, Section};

/// Which cluster's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Active,
    Standby,
}

impl Side {
    pub fn other(self) -> Side {
        match self {
            Side::Active => Side::Standby,
            Side::Standby => Side::Active,
        }
    }

    /// As it stands in sentences.
    pub fn name(self) -> &'static str {
        match self {
            Side::Active => "active cluster",
            Side::Standby => "standby",
        }
    }
}

/// A batch that cannot be walked.
#[derive(Debug, thiserror::Error)]
pub(super) enum FeedError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("offset {offset} where {least} is the least that can follow")]
    Order { offset: i64, least: i64 },
}

/// A record at the front of a feed.
pub(super) struct Head<'a> {
    pub logical: i64,
    /// Milliseconds, as consumers see it.
    pub timestamp: i64,
    pub record: RecordRef<'a>,
}

/// The log of one cluster, as far as it was read and not compared yet: waiting batches, and at most one open batch.
#[derive(Default)]
pub(super) struct Feed {
    pub map: OffsetMap,
    /// Nothing more will be pushed.
    pub ended: bool,
    queue: VecDeque<Batch>,
    open: Option<Cursor>,
    /// Behind the cluster offset of the last record that was passed; records rise.
    next: i64,
}

/// A place inside an inflated batch.
struct Cursor {
    section: Section,
    at: usize,
    left: i32,
    /// Of the record at `at`, once [`Feed::seek`] has found it worth comparing.
    logical: i64,
}

impl Cursor {
    fn record(&self) -> Option<Result<RecordRef<'_>, RecordError>> {
        Records::new(self.section.bytes().get(self.at..).unwrap_or_default(), self.left).next()
    }

    fn skip(&mut self, bytes: usize) {
        self.at += bytes;
        self.left -= 1;
    }
}

impl Feed {
    pub fn new(map: OffsetMap) -> Feed {
        Feed { map, ..Feed::default() }
    }

    /// Logical offsets of a batch, from its first to behind its last mapped one; empty if it has none.
    pub fn span(&self, batch: &Batch) -> (i64, i64) {
        let header = batch.header();
        (self.map.position_out(header.base_offset), self.map.position_out(header.next_offset()))
    }

    /// Logical base of a batch whose offsets are all there and in one run of the map.
    pub fn dense_base(&self, batch: &Batch) -> Option<i64> {
        let header = batch.header();
        let (base, last) = (header.base_offset, header.last_offset());
        let run = self.map.runs().get(self.map.runs().partition_point(|r| r.cluster <= base).checked_sub(1)?)?;
        let inside = header.is_dense() && last < run.cluster.saturating_add(run.len) && base >= self.next;
        inside.then(|| run.logical + (base - run.cluster))
    }

    pub fn push(&mut self, batch: Batch) {
        self.queue.push_back(batch);
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_none() && self.queue.is_empty()
    }

    /// The next batch, if no other is open.
    pub fn front(&self) -> Option<&Batch> {
        self.queue.front().filter(|_| self.open.is_none())
    }

    /// Passes the front batch as a whole.
    pub fn pass(&mut self) {
        if let Some(batch) = self.queue.pop_front() {
            self.next = batch.header().next_offset();
        }
    }

    /// Opens the front batch, if no other is open. On an error the batch is gone.
    pub fn open(&mut self) -> Result<(), FeedError> {
        if self.open.is_none()
            && let Some(batch) = self.queue.pop_front()
        {
            let section = Section::open(&batch)?;
            self.open = Some(Cursor { section, at: 0, left: batch.header().count, logical: 0 });
        }
        Ok(())
    }

    /// Logical offset behind the last record that was passed.
    pub fn position(&self) -> i64 {
        self.map.position_out(self.next)
    }

    /// Goes on to the next record of the open batch that has a logical offset of at least `from`; closes the batch behind
    /// its last record. On an error the rest of the batch is gone.
    pub fn seek(&mut self, from: i64) -> Result<(), FeedError> {
        while let Some(mut cursor) = self.open.take() {
            let Some(record) = cursor.record().transpose()? else { break };
            let offset = cursor.section.offset(&record);
            if offset < self.next {
                return Err(FeedError::Order { offset, least: self.next });
            }
            let bytes = record.raw.len();
            if let Some(logical) = self.map.to_logical(offset).filter(|&l| l >= from) {
                cursor.logical = logical;
                self.open = Some(cursor);
                break;
            }
            self.next = offset.saturating_add(1);
            cursor.skip(bytes);
            self.open = Some(cursor);
        }
        Ok(())
    }

    /// The record that [`Self::seek`] stopped at.
    pub fn head(&self) -> Option<Head<'_>> {
        let cursor = self.open.as_ref()?;
        let record = cursor.record()?.ok()?;
        Some(Head { logical: cursor.logical, timestamp: cursor.section.timestamp(&record), record })
    }

    /// Passes the record that [`Self::seek`] stopped at.
    pub fn consume(&mut self) {
        let Some(cursor) = &mut self.open else { return };
        let Some(Ok(record)) = cursor.record() else { return };
        let (offset, bytes) = (cursor.section.offset(&record), record.raw.len());
        cursor.skip(bytes);
        self.next = offset.saturating_add(1);
    }
}
