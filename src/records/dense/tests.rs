//! Pieces are compared with the source record by record, as a consumer sees them.

use proptest::prelude::*;

use super::*;
use crate::records::header::TRANSACTIONAL;
use crate::records::record::Records;
use crate::records::{crc_ok, fixtures, same_content};

/// Offset, timestamp and content.
type Seen = (i64, i64, Vec<u8>);

fn seen(batch: &Batch, base: i64) -> Vec<Seen> {
    let section = Section::open(batch).unwrap();
    let shift = base - batch.header().base_offset;
    section
        .records()
        .map(|record| {
            let r = record.unwrap();
            (section.offset(&r) + shift, section.timestamp(&r), r.content.to_vec())
        })
        .collect()
}

/// A batch as the cleaner leaves it: only the records of `batch` at `keep` (offset deltas), everything else as it was.
fn compacted(batch: &Batch, keep: &[i32]) -> Batch {
    let codec = batch.header().codec().unwrap();
    let section = Section::open(batch).unwrap();
    let mut left = Vec::new();
    for record in section.records() {
        let record = record.unwrap();
        if keep.contains(&record.offset_delta) {
            left.extend_from_slice(record.raw);
        }
    }
    let header = BatchHeader { count: keep.len() as i32, ..*batch.header() };
    Batch::new(header.encode(&deflate(codec, &Bytes::from(left)).unwrap()).unwrap()).unwrap()
}

/// Splits, checks what must hold for every piece, and gives (first offset, count) of each.
fn check(source: &Batch, fix: Fix) -> Vec<(i64, i32)> {
    let pieces = split_dense(source, fix, 0).unwrap();
    let mut all = Vec::new();
    for piece in &pieces {
        let batch = Batch::new(piece.bytes.clone()).unwrap();
        let header = batch.header();
        assert!(crc_ok(&batch));
        assert!(header.is_dense() && !header.is_transactional() && !header.has_producer());
        assert_eq!((header.base_offset, header.leader_epoch, header.count), (0, -1, piece.count));
        assert_eq!(header.codec().unwrap(), source.header().codec().unwrap());
        assert_eq!(header.attributes & !(CODEC_MASK | LOG_APPEND_TIME), 0);
        let mut records = seen(&batch, piece.first_offset);
        assert_eq!(header.max_timestamp, records.iter().map(|r| r.1).max().unwrap());
        let deltas: Vec<i64> = records.iter().map(|r| r.0 - piece.first_offset).collect();
        assert_eq!(deltas, (0..i64::from(piece.count)).collect::<Vec<_>>());
        all.append(&mut records);
    }
    assert_eq!(all, seen(source, source.header().base_offset));
    pieces.iter().map(|p| (p.first_offset, p.count)).collect()
}

#[test]
fn holes_at_start_middle_and_end_in_every_codec() {
    type Runs = [(i64, i32)];
    let cases: [(&[i32], &Runs); 7] = [
        (&[0, 1, 2], &[(7, 3)]),
        (&[1, 2], &[(8, 2)]),
        (&[0, 2], &[(7, 1), (9, 1)]),
        (&[0, 1], &[(7, 2)]),
        (&[1], &[(8, 1)]),
        (&[2], &[(9, 1)]),
        (&[], &[]),
    ];
    for hex in fixtures::JAVA_CODECS {
        for (keep, want) in cases {
            assert_eq!(check(&compacted(&fixtures::batch(hex), keep), Fix::Keep), want, "{keep:?}");
        }
    }
}

#[test]
fn a_dense_batch_keeps_its_bytes() {
    for hex in fixtures::JAVA_CODECS {
        let source = fixtures::batch(hex);
        let dirty = BatchHeader { attributes: source.header().attributes | TRANSACTIONAL, ..*source.header() };
        let dirty = Batch::new(dirty.encode(&source.payload()).unwrap()).unwrap();
        assert_eq!(check(&dirty, Fix::MakeExplicit), [(7, 3)]);
        let piece = split_dense(&dirty, Fix::MakeExplicit, 0).unwrap().remove(0);
        assert!(same_content(&Batch::new(piece.bytes).unwrap(), &source));
    }
}

#[test]
fn append_times_become_the_records_own() {
    let source = fixtures::batch(fixtures::JAVA_LOG_APPEND);
    for keep in [&[0, 1, 2][..], &[0, 2]] {
        let source = compacted(&source, keep);
        check(&source, Fix::MakeExplicit);
        for piece in split_dense(&source, Fix::MakeExplicit, 0).unwrap() {
            let batch = Batch::new(piece.bytes).unwrap();
            assert!(!batch.header().log_append_time());
            assert_eq!((batch.header().base_timestamp, batch.header().max_timestamp), (5555, 5555));
            let payload = batch.payload();
            let deltas: Vec<i64> = Records::new(&payload, piece.count).map(|r| r.unwrap().timestamp_delta).collect();
            assert!(deltas.iter().all(|&d| d == 0));
        }
        check(&source, Fix::Keep);
        for piece in split_dense(&source, Fix::Keep, 0).unwrap() {
            let header = BatchHeader::parse(&piece.bytes).unwrap();
            assert!(header.log_append_time());
            // The producer's own times stay under the append time: 1000 at offset 7, 1100 at offset 9.
            let base_timestamp = if piece.first_offset == 7 { 1000 } else { 1100 };
            assert_eq!((header.base_timestamp, header.max_timestamp), (base_timestamp, 5555));
        }
    }
}

#[test]
fn a_delete_horizon_goes_and_the_timestamps_stay() {
    let source = fixtures::batch(fixtures::JAVA_DELETE_HORIZON);
    assert_eq!(check(&source, Fix::Keep), [(7, 3)]);
    assert_eq!(check(&compacted(&source, &[0, 2]), Fix::Keep), [(7, 1), (9, 1)]);
}

#[test]
fn nonsense_is_refused() {
    assert!(matches!(split_dense(&fixtures::batch(fixtures::JAVA_ABORT), Fix::Keep, 0), Err(DenseError::Control)));
    // Deltas 0, 2 in a batch that says its last is 1; the same delta twice; fewer records than counted.
    let source = fixtures::batch(fixtures::JAVA_NONE);
    let with = |header: BatchHeader, payload: &[u8]| {
        split_dense(&Batch::new(header.encode(payload).unwrap()).unwrap(), Fix::Keep, 0)
    };
    let gap = compacted(&source, &[0, 2]);
    let lying = BatchHeader { last_offset_delta: 0, ..*gap.header() };
    assert!(matches!(with(lying, &gap.payload()), Err(DenseError::Order { previous: 0, delta: 2, last: 0 })));
    let one = compacted(&source, &[1]);
    let twice = BatchHeader { count: 2, last_offset_delta: 5, ..*one.header() };
    let payload = [one.payload(), one.payload()].concat();
    assert!(matches!(with(twice, &payload), Err(DenseError::Order { previous: 1, delta: 1, last: 5 })));
    assert!(matches!(with(twice, &one.payload()), Err(DenseError::Record(RecordError::Short))));
}

proptest! {
    #[test]
    fn any_compaction_keeps_every_record(
        kept in proptest::collection::btree_set(0i32..40, 1..30),
        timestamps in proptest::collection::vec(any::<i64>(), 40),
        hex in proptest::sample::select(&fixtures::JAVA_CODECS[..]),
        append: bool,
    ) {
        let template = *fixtures::batch(hex).header();
        let codec = template.codec().unwrap();
        let mut records = Vec::new();
        for &delta in &kept {
            let timestamp_delta = timestamps[delta as usize].wrapping_sub(template.base_timestamp);
            put_record(&mut records, 0, timestamp_delta, delta, &[1, 2, delta as u8, 0]).unwrap();
        }
        let attributes = template.attributes | if append { LOG_APPEND_TIME } else { 0 };
        let header = BatchHeader { count: kept.len() as i32, last_offset_delta: 45, attributes, ..template };
        let payload = deflate(codec, &Bytes::from(records)).unwrap();
        let source = Batch::new(header.encode(&payload).unwrap()).unwrap();
        let runs = check(&source, Fix::MakeExplicit);
        // Maximal runs: no two pieces touch.
        prop_assert!(runs.windows(2).all(|w| w[0].0 + i64::from(w[0].1) < w[1].0));
    }

    #[test]
    fn damage_never_panics(at in 0usize..120, value: u8, hex in proptest::sample::select(&fixtures::JAVA_ALL[..])) {
        let mut bytes = fixtures::bytes(hex);
        let len = bytes.len();
        bytes[at % len] = value;
        if let Ok(batch) = Batch::new(Bytes::from(bytes)) {
            let _ = split_dense(&batch, Fix::MakeExplicit, 0);
        }
    }
}
