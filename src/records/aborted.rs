//! Which batches of a `read_committed` fetch are data: the consumer's own algorithm (KIP-98; Kafka class
//! `CompletedFetch`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use super::batch::{Batch, Batches};
use super::header::BatchHeader;
use super::record::{RecordError, Section};

/// What a batch of a fetch is to a `read_committed` consumer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Data,
    /// A marker of the brokers; never shown to a consumer.
    Control,
    /// Part of a transaction that was aborted.
    Aborted,
}

/// What a control batch marks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlType {
    Abort,
    Commit,
    /// Leader changes, snapshots and whatever comes later.
    Other(i16),
}

/// Goes through the batches of one partition of one fetch reply, in order, and through those of no other reply: the list
/// of aborted transactions is that of the fetched range.
#[derive(Clone, Debug)]
pub struct AbortedFilter {
    /// (first offset, producer id), highest offset first: the next one to begin is the last.
    pending: Vec<(i64, i64)>,
    /// Producers whose batches belong to an aborted transaction, until its marker.
    aborting: BTreeSet<i64>,
}

impl AbortedFilter {
    /// `aborted`: (producer id, first offset) as in the reply, in any order, and in the offset space of the batches.
    pub fn new(aborted: impl IntoIterator<Item = (i64, i64)>) -> AbortedFilter {
        let mut pending: Vec<(i64, i64)> = aborted.into_iter().map(|(producer, first)| (first, producer)).collect();
        pending.sort_unstable_by(|a, b| b.cmp(a));
        AbortedFilter { pending, aborting: BTreeSet::new() }
    }

    /// Judges the next batch. Only control batches are opened; an error means that one could not be read.
    pub fn judge(&mut self, batch: &Batch) -> Result<Verdict, RecordError> {
        let header = batch.header();
        if header.has_producer() {
            let last = header.last_offset();
            while let Some((_, producer)) = self.pending.pop_if(|(first, _)| *first <= last) {
                self.aborting.insert(producer);
            }
        }
        if header.is_control() {
            if header.has_producer() && control_type(batch)? == Some(ControlType::Abort) {
                self.aborting.remove(&header.producer_id);
            }
            return Ok(Verdict::Control);
        }
        let aborted = header.is_transactional() && self.aborting.contains(&header.producer_id);
        Ok(if aborted { Verdict::Aborted } else { Verdict::Data })
    }
}

/// Aborted transactions, by (producer id, first offset), of which the marker lies where a client is shown nothing, and the
/// fetched batches without theirs. A client that were told of one would wait for its marker and take all that the same producer
/// writes later for aborted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unmarked {
    pub transactions: Vec<(i64, i64)>,
    pub records: Bytes,
}

/// Looks for such in one partition of one fetch reply: `aborted` as in [`AbortedFilter::new`], `shown` says whether a client sees
/// what lies at an offset. `None`: there are none.
pub fn unmarked(
    aborted: impl IntoIterator<Item = (i64, i64)>,
    records: &Bytes,
    shown: impl Fn(i64) -> bool,
) -> Option<Unmarked> {
    let mut pending = AbortedFilter::new(aborted).pending;
    let mut open: BTreeMap<i64, i64> = BTreeMap::new();
    // (producer id, first offset, that of the marker)
    let mut found: Vec<(i64, i64, i64)> = Vec::new();
    let batches = || Batches::new(records.clone()).map_while(Result::ok);
    for batch in batches() {
        let header = batch.header();
        while let Some((first, producer)) = pending.pop_if(|(first, _)| *first <= header.last_offset()) {
            open.insert(producer, first);
        }
        // Between a transaction's first batch and its marker its producer has no other one.
        if header.is_control()
            && let Some(first) = open.remove(&header.producer_id)
            && !shown(header.base_offset)
        {
            found.push((header.producer_id, first, header.base_offset));
        }
    }
    if found.is_empty() {
        return None;
    }
    let of_one = |header: &BatchHeader| {
        let is_its = |&(producer, first, marker): &(i64, i64, i64)| {
            header.producer_id == producer && (first..marker).contains(&header.base_offset)
        };
        header.is_transactional() && found.iter().any(is_its)
    };
    let mut kept = BytesMut::with_capacity(records.len());
    batches().filter(|batch| !of_one(batch.header())).for_each(|batch| kept.extend_from_slice(batch.bytes()));
    let transactions = found.iter().map(|&(producer, first, _)| (producer, first)).collect();
    Some(Unmarked { transactions, records: kept.freeze() })
}

/// What a control batch marks; `None` for one whose record compaction has removed. The key of the first record says it:
/// version and type, both int16 (Kafka class `ControlRecordType`).
pub fn control_type(batch: &Batch) -> Result<Option<ControlType>, RecordError> {
    let section = Section::open(batch)?;
    let Some(record) = section.records().next() else { return Ok(None) };
    let key = record?.key.and_then(|key| key.first_chunk::<4>()).ok_or(RecordError::ControlKey)?;
    let [version_high, _, high, low] = *key;
    if version_high & 0x80 != 0 {
        return Err(RecordError::ControlKey);
    }
    Ok(Some(match i16::from_be_bytes([high, low]) {
        0 => ControlType::Abort,
        1 => ControlType::Commit,
        other => ControlType::Other(other),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::fixtures;
    use crate::records::header::{BatchHeader, CONTROL, TRANSACTIONAL};

    fn batch(offset: i64, producer_id: i64, template: &str, attributes: i16) -> Batch {
        let source = fixtures::batch(template);
        let header = BatchHeader { base_offset: offset, producer_id, attributes, ..*source.header() };
        Batch::new(header.encode(&source.payload()).unwrap()).unwrap()
    }

    /// Three records from `offset`.
    fn txn(offset: i64, producer: i64) -> Batch {
        batch(offset, producer, fixtures::JAVA_NONE, TRANSACTIONAL)
    }

    fn plain(offset: i64, producer: i64) -> Batch {
        batch(offset, producer, fixtures::JAVA_NONE, 0)
    }

    fn abort(offset: i64, producer: i64) -> Batch {
        batch(offset, producer, fixtures::JAVA_ABORT, TRANSACTIONAL | CONTROL)
    }

    fn commit(offset: i64, producer: i64) -> Batch {
        batch(offset, producer, fixtures::JAVA_COMMIT, TRANSACTIONAL | CONTROL)
    }

    #[test]
    fn markers_say_what_they_are() {
        assert_eq!(control_type(&abort(0, 1)).unwrap(), Some(ControlType::Abort));
        assert_eq!(control_type(&commit(0, 1)).unwrap(), Some(ControlType::Commit));
        let keyless = batch(0, 1, fixtures::JAVA_NONE, CONTROL);
        assert!(matches!(control_type(&keyless), Err(RecordError::ControlKey)));
        let header = BatchHeader { count: 0, ..*abort(0, 1).header() };
        let empty = Batch::new(header.encode(&[]).unwrap()).unwrap();
        assert_eq!(control_type(&empty).unwrap(), None);
        assert!(AbortedFilter::new([]).judge(&keyless).is_err());
    }

    #[test]
    fn a_transaction_whose_marker_is_not_shown_is_not_told_of() {
        // Producer 1 aborts twice, the second time with a marker that no client sees; then it goes on, beside producer 2.
        let log = [
            txn(0, 1),
            abort(3, 1),
            txn(4, 1),
            plain(7, 1),
            txn(10, 2),
            abort(13, 1),
            txn(14, 1),
            commit(17, 1),
            txn(18, 2),
            abort(21, 2),
        ];
        let bytes = |batches: &[Batch]| -> Bytes { batches.iter().flat_map(|b| b.bytes().to_vec()).collect() };
        let aborted = [(2, 10), (1, 4), (1, 0)];
        assert_eq!(unmarked(aborted, &bytes(&log), |_| true), None);
        let found = unmarked(aborted, &bytes(&log), |offset| offset != 13).unwrap();
        let [a, b, _, c @ ..] = &log;
        let rest = bytes(&[&[a.clone(), b.clone()][..], c].concat());
        assert_eq!(found, Unmarked { transactions: vec![(1, 4)], records: rest.clone() });
        // What a consumer makes of it: nothing of the aborted ones, all of what was committed.
        let mut filter = AbortedFilter::new(aborted.into_iter().filter(|t| !found.transactions.contains(t)));
        let data: Vec<i64> = Batches::new(rest)
            .map(|batch| batch.unwrap())
            .filter(|batch| batch.header().base_offset != 13 && filter.judge(batch).unwrap() == Verdict::Data)
            .map(|batch| batch.header().base_offset)
            .collect();
        assert_eq!(data, [7, 14]);
        // A marker behind what was fetched: the client leaves out the rest, which is all of that transaction.
        assert_eq!(unmarked(aborted, &bytes(&log[..5]), |offset| offset != 13), None);
    }

    #[test]
    fn judges_as_a_consumer_does() {
        use Verdict::{Aborted, Control, Data};
        // Producer 1 aborts [0, 9], commits from 10; producer 2 aborts twice; 3 commits in between; 4 has none.
        let log = [
            (txn(0, 1), Aborted),
            (txn(3, 2), Aborted),
            (txn(6, 3), Data),
            (abort(9, 1), Control),
            (txn(10, 1), Data),
            (abort(13, 2), Control),
            (plain(14, 4), Data),
            (commit(17, 1), Control),
            (txn(18, 2), Aborted),
            // Same producer id, not transactional: data, whatever the list says.
            (plain(21, 2), Data),
            (commit(24, 3), Control),
            (abort(25, 2), Control),
            (txn(26, 2), Data),
            (plain(29, -1), Data),
        ];
        // Not in offset order on purpose.
        let mut filter = AbortedFilter::new([(2, 18), (1, 0), (2, 3)]);
        for (batch, want) in &log {
            assert_eq!(filter.judge(batch).unwrap(), *want, "offset {}", batch.header().base_offset);
        }
    }

    #[test]
    fn a_transaction_begun_before_the_fetch_is_known_from_the_list() {
        let mut filter = AbortedFilter::new([(1, 5)]);
        assert_eq!(filter.judge(&txn(100, 1)).unwrap(), Verdict::Aborted);
        // One that begins inside a batch counts for that whole batch.
        let mut filter = AbortedFilter::new([(1, 102), (2, 103)]);
        assert_eq!(filter.judge(&txn(100, 1)).unwrap(), Verdict::Aborted);
        assert_eq!(filter.judge(&txn(100, 2)).unwrap(), Verdict::Data);
    }
}
