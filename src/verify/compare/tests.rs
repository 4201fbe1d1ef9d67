//! Tables of what must and must not show as a difference, and random logs cut anywhere.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::offsets::Run;
use crate::records::compress::{Codec, deflate};
use crate::records::record::{Header, put_content, put_record};
use crate::records::{BatchHeader, Stamp};
use crate::verify::chunk;

const CREATE: Option<i64> = None;

#[derive(Clone, Debug, PartialEq)]
struct Rec {
    offset: i64,
    key: Option<&'static str>,
    value: Option<String>,
    headers: Vec<(&'static str, Option<&'static str>)>,
    timestamp: i64,
}

fn rec(offset: i64, key: &'static str, value: &str) -> Rec {
    Rec { offset, key: Some(key), value: Some(value.into()), headers: Vec::new(), timestamp: 1000 + offset }
}

fn tombstone(offset: i64, key: &'static str) -> Rec {
    Rec { value: None, ..rec(offset, key, "") }
}

fn numbered(offsets: std::ops::Range<i64>) -> Vec<Rec> {
    offsets.map(|o| rec(o, "k", &format!("v{o}"))).collect()
}

/// Records `shift` higher than they are in the source, as one batch; `append_time` makes it a LogAppendTime batch.
fn batch(records: &[Rec], shift: i64, codec: Codec, append_time: Option<i64>) -> Batch {
    let (first, last) = (&records[0], &records[records.len() - 1]);
    let mut section = Vec::new();
    for r in records {
        let headers = r.headers.iter().map(|(k, v)| Header { key: k.as_bytes(), value: v.map(str::as_bytes) });
        let mut content = Vec::new();
        let value = r.value.as_ref().map(String::as_bytes);
        put_content(&mut content, r.key.map(str::as_bytes), value, headers).unwrap();
        let delta = (r.offset - first.offset) as i32;
        put_record(&mut section, 0, r.timestamp - first.timestamp, delta, &content).unwrap();
    }
    let max = records.iter().map(|r| r.timestamp).max().unwrap();
    let header = BatchHeader {
        base_offset: first.offset + shift,
        length: 0,
        leader_epoch: 0,
        crc: 0,
        attributes: i16::from(codec.id()) | if append_time.is_some() { 8 } else { 0 },
        last_offset_delta: (last.offset - first.offset) as i32,
        base_timestamp: first.timestamp,
        max_timestamp: append_time.unwrap_or(max),
        producer_id: Stamp::NONE.producer_id,
        producer_epoch: Stamp::NONE.producer_epoch,
        base_sequence: Stamp::NONE.base_sequence,
        count: records.len() as i32,
    };
    Batch::new(header.encode(&deflate(codec, &Bytes::from(section)).unwrap()).unwrap()).unwrap()
}

fn plain(records: &[Rec]) -> Batch {
    batch(records, 0, Codec::None, CREATE)
}

fn map(runs: &[(i64, i64, i64)]) -> OffsetMap {
    OffsetMap::from_runs(runs.iter().map(|&(logical, cluster, len)| Run { logical, cluster, len }).collect()).unwrap()
}

fn scope(end: i64) -> Scope {
    Scope { from: 0, end, foreign_from: i64::MAX, compacted: false }
}

fn ran(maps: (OffsetMap, OffsetMap), scope: Scope, active: Vec<Batch>, standby: Vec<Batch>) -> Compare {
    let mut compare = Compare::new(maps.0, maps.1, scope);
    let mut logs = [active.into_iter(), standby.into_iter()];
    while let Some(side) = compare.wants() {
        match logs[usize::from(side == Side::Standby)].next() {
            Some(batch) => compare.push(side, [batch]),
            None => compare.end(side),
        }
    }
    compare
}

fn identity() -> (OffsetMap, OffsetMap) {
    (OffsetMap::identity(), OffsetMap::identity())
}

fn compared(scope: Scope, active: Vec<Batch>, standby: Vec<Batch>) -> Outcome {
    ran(identity(), scope, active, standby).finish()
}

fn found(outcome: &Outcome) -> Vec<(i64, &str)> {
    assert_eq!(outcome.differences as usize, outcome.described.len());
    outcome.described.iter().map(|f| (f.logical_offset, f.what.as_str())).collect()
}

#[test]
fn equal_batches_are_compared_by_their_bytes() {
    let log = || vec![plain(&numbered(0..3)), batch(&numbered(3..9), 0, Codec::Zstd, CREATE)];
    let outcome = compared(scope(9), log(), log());
    assert_eq!(outcome, Outcome { batches: 2, records: 9, fingerprints: 2, ..Outcome::default() });
}

#[test]
fn other_splits_and_codecs_are_compared_record_by_record() {
    let active = vec![batch(&numbered(0..5), 0, Codec::Gzip, CREATE), plain(&numbered(5..6)), plain(&numbered(6..8))];
    let standby = vec![plain(&numbered(0..1)), plain(&numbered(1..6)), plain(&numbered(6..8))];
    let outcome = compared(scope(8), active, standby);
    assert_eq!(outcome, Outcome { batches: 3, records: 8, fingerprints: 1, ..Outcome::default() });
}

#[test]
fn each_field_that_differs_is_named() {
    let headers = |h: &[(&'static str, Option<&'static str>)]| Rec { headers: h.to_vec(), ..rec(0, "k", "v") };
    let base = headers(&[("a", Some("1")), ("a", None)]);
    let rows: [(Rec, &str); 9] = [
        (Rec { key: Some("x"), ..base.clone() }, "key differs"),
        (Rec { key: None, ..base.clone() }, "key differs"),
        (Rec { value: Some("w".into()), ..base.clone() }, "value differs"),
        (Rec { value: None, ..base.clone() }, "value differs"),
        (headers(&[("a", None), ("a", Some("1"))]), "headers differ"),
        (headers(&[("a", Some("1"))]), "headers differ"),
        (headers(&[("a", Some("1")), ("a", Some(""))]), "headers differ"),
        (Rec { timestamp: 12, ..base.clone() }, "timestamp differs: 1000 and 12"),
        (
            Rec { key: Some("x"), value: None, timestamp: 12, ..base.clone() },
            "key differs, value differs, timestamp differs: 1000 and 12",
        ),
    ];
    for (changed, what) in rows {
        let outcome = compared(scope(1), vec![plain(std::slice::from_ref(&base))], vec![plain(&[changed])]);
        assert_eq!(found(&outcome), [(0, what)]);
        assert_eq!((outcome.records, outcome.fingerprints), (1, 0));
    }
}

#[test]
fn missing_and_extra_records_show_where_they_are() {
    let all = vec![plain(&numbered(0..3)), plain(&numbered(3..6))];
    for gone in 0..6 {
        let mut rest = numbered(0..6);
        rest.remove(gone);
        let rest: Vec<Batch> = rest.iter().map(|r| plain(std::slice::from_ref(r))).collect();
        let outcome = compared(scope(6), all.clone(), rest.clone());
        assert_eq!(found(&outcome), [(gone as i64, "missing on the standby")]);
        assert_eq!(outcome.records, 6);
        let outcome = compared(scope(6), rest, all.clone());
        assert_eq!(found(&outcome), [(gone as i64, "only on the standby")]);
    }
    assert_eq!(compared(scope(6), all.clone(), vec![]).differences, 6);
    assert_eq!(compared(scope(0), vec![], all).differences, 6);
}

#[test]
fn only_the_scope_is_compared() {
    let changed = |o| plain(&[rec(o, "k", "changed")]);
    let same = |o| plain(&numbered(o..o + 1));
    let active = vec![same(0), same(1), same(2), same(3), same(4)];
    let standby = vec![changed(0), changed(1), same(2), same(3)];
    let within = Scope { from: 2, ..scope(4) };
    assert_eq!(found(&compared(within, active.clone(), standby.clone())), []);
    let wider = Scope { from: 1, ..scope(5) };
    assert_eq!(found(&compared(wider, active.clone(), standby.clone())).len(), 2);
    // One batch that reaches over both ends.
    let outcome = compared(within, vec![plain(&numbered(0..5))], standby);
    assert_eq!((found(&outcome).len(), outcome.records), (0, 2));
    // What the standby has beyond the end, and the active cluster has not.
    let outcome = compared(scope(3), active[..3].to_vec(), vec![same(0), same(1), same(2), same(3)]);
    assert_eq!(found(&outcome), [(3, "only on the standby")]);
}

#[test]
fn a_start_that_rises_meanwhile_is_followed() {
    let mut compare = Compare::new(OffsetMap::identity(), map(&[(0, 0, 2), (4, 2, i64::MAX)]), scope(8));
    compare.push(Side::Active, [plain(&numbered(0..2)), plain(&numbered(4..8))]);
    // The standby's offset 4 is logical 6.
    compare.raise_start(Side::Standby, 4);
    compare.push(Side::Standby, [batch(&numbered(6..8), -2, Codec::None, CREATE)]);
    compare.end(Side::Active);
    compare.end(Side::Standby);
    let outcome = compare.finish();
    assert_eq!((found(&outcome).len(), outcome.records), (0, 2));
}

#[test]
fn offsets_may_differ_by_runs_and_batches_have_holes() {
    // Offsets 2 and 3 were control records, 5 and 8 are compacted away: dense on the standby, in pieces.
    let holed: Vec<Rec> = numbered(4..10).into_iter().filter(|r| ![5, 8].contains(&r.offset)).collect();
    let active = || vec![plain(&numbered(0..2)), batch(&holed, 0, Codec::Lz4, CREATE)];
    let runs = [(0, 0, 2), (4, 2, 1), (6, 3, 2), (9, 5, i64::MAX)];
    let piece = |range, shift| batch(&numbered(range), shift, Codec::Lz4, CREATE);
    let standby = || vec![plain(&numbered(0..2)), piece(4..5, -2), piece(6..8, -3), piece(9..10, -4)];
    let maps = || (OffsetMap::identity(), map(&runs));
    let outcome = ran(maps(), scope(10), active(), standby()).finish();
    assert_eq!(outcome, Outcome { batches: 2, records: 6, fingerprints: 1, ..Outcome::default() });
    // The same bytes one offset further are not the same records.
    let moved = vec![plain(&numbered(0..2)), piece(4..5, -2), piece(6..8, -2), piece(9..10, -4)];
    assert!(ran(maps(), scope(10), active(), moved).finish().differences > 0);
}

#[test]
fn equal_bytes_over_a_run_border_are_not_one_fingerprint() {
    // The standby's map skips logical 2: a batch of 4 there holds 0, 1, 3, 4.
    let maps = (OffsetMap::identity(), map(&[(0, 0, 2), (3, 2, i64::MAX)]));
    let outcome = ran(maps, scope(4), vec![plain(&numbered(0..4))], vec![plain(&numbered(0..4))]).finish();
    let offsets: Vec<i64> = found(&outcome).iter().map(|f| f.0).collect();
    assert_eq!((offsets, outcome.fingerprints), (vec![2, 3, 4], 0));
}

#[test]
fn append_times_equal_the_same_times_made_explicit() {
    let at = |time| numbered(0..3).into_iter().map(|r| Rec { timestamp: time, ..r }).collect::<Vec<_>>();
    let active = || vec![batch(&numbered(0..3), 0, Codec::Snappy, Some(5555))];
    assert_eq!(compared(scope(3), active(), vec![plain(&at(5555))]).differences, 0);
    let outcome = compared(scope(3), active(), vec![plain(&at(5556))]);
    assert_eq!(found(&outcome)[2], (2, "timestamp differs: 5555 and 5556"));
    // The records' own times do not count on either side.
    assert_eq!(compared(scope(3), active(), vec![batch(&at(1), 0, Codec::None, Some(5555))]).differences, 0);
}

#[test]
fn masked_ranges_are_passed_over_and_foreign_records_are_not() {
    // After a failover that lost offsets 3 and 4: the old cluster's tail is masked, new records follow above it.
    let old = map(&[(0, 0, 3), (10, 5, i64::MAX)]);
    let new = map(&[(0, 0, 3), (10, 3, i64::MAX)]);
    let active = || vec![plain(&numbered(0..3)), batch(&numbered(10..12), -7, Codec::None, CREATE)];
    let standby =
        |more: &[Batch]| [&[plain(&numbered(0..5)), batch(&numbered(10..12), -5, Codec::None, CREATE)], more].concat();
    let outcome = ran((new.clone(), old.clone()), scope(12), active(), standby(&[])).finish();
    assert_eq!((outcome.differences, outcome.records, outcome.fingerprints), (0, 5, 1));
    // Somebody wrote to the standby itself; nothing was copied to offsets 7 and 8.
    let limits = Scope { foreign_from: 7, ..scope(12) };
    let planted = batch(&numbered(20..22), -13, Codec::None, CREATE);
    let outcome = ran((new.clone(), old), limits, active(), standby(std::slice::from_ref(&planted))).finish();
    let what = "only on the standby: 2 records at its offsets 7 to 8, which nobody copied there";
    assert_eq!(found(&outcome), [(12, what)]);
    // Also where the standby's map has no run for it.
    let closed = map(&[(0, 0, 3)]);
    let limits = Scope { foreign_from: 7, ..scope(3) };
    let outcome = ran((new, closed), limits, vec![plain(&numbered(0..3))], standby(&[planted])).finish();
    assert_eq!(found(&outcome), [(3, what)]);
}

#[test]
fn compaction_may_take_what_a_later_record_replaces() {
    let no_key = Rec { key: None, ..rec(0, "", "v") };
    let one = |r: &Rec| plain(std::slice::from_ref(r));
    let (a0, b1, a2, gone_a2, a9) =
        (rec(0, "a", "1"), rec(1, "b", "1"), rec(2, "a", "2"), tombstone(2, "a"), rec(9, "a", "9"));
    // Active log, standby log, the active log behind the scope, differences.
    type Row<'a> = (&'a str, &'a [&'a Rec], &'a [&'a Rec], &'a [&'a Rec], Vec<(i64, &'a str)>);
    let lost = |side| match side {
        Side::Standby => "missing on the standby and no later record has its key",
        Side::Active => "missing on the active cluster and no later record has its key",
    };
    let rows: [Row; 12] = [
        ("cleaned on the standby", &[&a0, &b1, &a2], &[&b1, &a2], &[], vec![]),
        ("cleaned on the active cluster", &[&b1, &a2], &[&a0, &b1, &a2], &[], vec![]),
        ("another key explains nothing", &[&a0, &b1], &[&b1], &[], vec![(0, lost(Side::Standby))]),
        ("nor does it on the other side", &[&b1], &[&a0, &b1], &[], vec![(0, lost(Side::Active))]),
        ("an earlier record explains nothing", &[&a0, &a2], &[&a0], &[], vec![(2, lost(Side::Standby))]),
        ("the newer one is not there yet", &[], &[&a0, &b1], &[&rec(7, "b", "7"), &a9], vec![]),
        ("nor ever", &[], &[&a0], &[&rec(7, "b", "7")], vec![(0, lost(Side::Active))]),
        ("a tombstone may go", &[&a0, &gone_a2], &[&a0], &[], vec![]),
        ("with all it deleted", &[&a0, &gone_a2], &[], &[], vec![]),
        ("a record without a key may go", &[&no_key], &[], &[], vec![]),
        ("the last one of many must be there", &[&a0, &a2], &[], &[&b1], vec![(2, lost(Side::Standby))]),
        ("what is there on both must be equal", &[&a0], &[&rec(0, "a", "x")], &[&a9], vec![(0, "value differs")]),
    ];
    for (name, active, standby, behind, want) in rows {
        let log = |records: &[&Rec]| records.iter().map(|r| one(r)).collect::<Vec<_>>();
        let limits = Scope { compacted: true, ..scope(3) };
        let mut compare = ran(identity(), limits, log(active), log(standby));
        if compare.unexplained() {
            compare.explain(log(behind));
        }
        let outcome = compare.finish();
        let got: Vec<_> = outcome.described.iter().map(|f| (f.logical_offset, f.what.as_str())).collect();
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn a_later_key_inside_equal_batches_counts() {
    let tail = plain(&[rec(3, "b", "1"), rec(4, "a", "2")]);
    let limits = Scope { compacted: true, ..scope(5) };
    let outcome = compared(limits, vec![plain(&[rec(0, "a", "1")]), tail.clone()], vec![tail]);
    assert_eq!((outcome.differences, outcome.fingerprints), (0, 0));
}

#[test]
fn memory_for_missing_keys_is_bounded_and_says_so() {
    let mut compare = Compare::new(OffsetMap::identity(), OffsetMap::identity(), Scope { compacted: true, ..scope(4) });
    compare.missing_limit = 2;
    compare.push(Side::Active, [plain(&[rec(0, "a", "1"), rec(1, "b", "1"), rec(2, "b", "2"), rec(3, "c", "1")])]);
    compare.end(Side::Active);
    compare.end(Side::Standby);
    let outcome = compare.finish();
    assert_eq!((outcome.differences, outcome.overflowed), (2, true));
}

#[test]
fn descriptions_are_capped_and_short_however_large_the_values() {
    let large = "x".repeat(1 << 20);
    let other = format!("{large}y");
    let log = |value: &str| (0..150).map(|o| batch(&[rec(o, "k", value)], 0, Codec::Zstd, CREATE)).collect();
    let outcome = compared(scope(150), log(&large), log(&other));
    assert_eq!((outcome.differences, outcome.described.len()), (150, MAX_DESCRIBED));
    assert!(outcome.described.iter().all(|f| f.what == "value differs"));
}

#[test]
fn damage_is_a_difference_on_either_side() {
    let good = batch(&numbered(0..3), 0, Codec::Zstd, CREATE);
    let damage = |at: usize| {
        let mut bytes = good.bytes().to_vec();
        bytes[at] ^= 0x40;
        Batch::new(Bytes::from(bytes)).unwrap()
    };
    let stamped = damage(50);
    let outcome = compared(scope(3), vec![good.clone()], vec![stamped.clone()]);
    assert_eq!(found(&outcome), [(0, "the batch at offset 0 of the standby fails its checksum")]);
    assert_eq!(compared(scope(3), vec![stamped], vec![good.clone()]).differences, 1);
    let broken = compared(scope(3), vec![good.clone()], vec![damage(61)]);
    assert!(broken.described.iter().any(|f| f.what.starts_with("a batch of the standby cannot be read")), "{broken:?}");
    assert!(broken.described.iter().any(|f| f.what == "missing on the standby"));
    // Offsets that do not rise: the same batch twice.
    let outcome = compared(scope(3), vec![good.clone(), good.clone()], vec![good.clone()]);
    assert!(found(&outcome)[0].1.contains("offset 0 where 3 is the least"), "{outcome:?}");
    let outcome = compared(scope(3), vec![good.clone(), good.clone()], vec![good.clone(), good]);
    assert_eq!(outcome.differences, 2);
}

/// A leader's answer to a fetch: bytes from the batch that holds the offset on, cut anywhere but inside the first one.
fn fetch(log: &[Batch], from: i64, max_bytes: usize) -> Bytes {
    let rest: Vec<&Batch> = log.iter().filter(|b| b.header().next_offset() > from).collect();
    let blob: Vec<u8> = rest.iter().flat_map(|b| b.bytes().iter().copied()).collect();
    let first = rest.first().map_or(0, |b| b.bytes().len());
    let cut = max_bytes.max(first).min(blob.len());
    Bytes::copy_from_slice(&blob[..cut])
}

/// Both logs read in replies of at most so many bytes.
fn fetched(scope: Scope, maps: (OffsetMap, OffsetMap), logs: [&[Batch]; 2], max_bytes: [usize; 2]) -> Outcome {
    let mut compare = Compare::new(maps.0, maps.1, scope);
    let mut next = [0; 2];
    while let Some(side) = compare.wants() {
        let i = usize::from(side == Side::Standby);
        let reply = chunk::read(fetch(logs[i], next[i], max_bytes[i]), vec![], next[i], i64::MAX).unwrap();
        if reply.next == next[i] {
            compare.end(side);
        }
        next[i] = reply.next;
        compare.push(side, reply.batches);
    }
    compare.finish()
}

/// Cuts records into batches at random places.
fn cut(records: &[Rec], cuts: &[bool], shift: impl Fn(i64) -> i64, codec: Codec) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut start = 0;
    for end in 1..=records.len() {
        let split = records
            .get(end)
            .is_none_or(|next| cuts[end % cuts.len()] || shift(next.offset) != shift(records[end - 1].offset));
        if split {
            batches.push(batch(&records[start..end], shift(records[start].offset), codec, CREATE));
            start = end;
        }
    }
    batches
}

#[test]
fn replies_may_be_cut_at_every_byte() {
    let records = numbered(0..7);
    let active = cut(&records, &[true, false, false], |_| 0, Codec::None);
    let standby = cut(&records, &[false, true], |_| 0, Codec::None);
    let mut changed = records.clone();
    changed[4].value = Some("other".into());
    let changed = cut(&changed, &[false, true], |_| 0, Codec::None);
    let total: usize = active.iter().map(|b| b.bytes().len()).sum();
    for max in 0..=total {
        for bytes in [[max, usize::MAX], [usize::MAX, max], [max, max]] {
            let outcome = fetched(scope(7), identity(), [&active, &standby], bytes);
            assert_eq!((outcome.differences, outcome.records), (0, 7), "{bytes:?}");
            let outcome = fetched(scope(7), identity(), [&active, &changed], bytes);
            assert_eq!(found(&outcome), [(4, "value differs")], "{bytes:?}");
        }
    }
}

proptest! {
    #[test]
    fn random_logs_differ_exactly_where_they_were_changed(
        gaps in prop::collection::vec(0i64..3, 1..40),
        cuts in (prop::collection::vec(any::<bool>(), 1..12), prop::collection::vec(any::<bool>(), 1..12)),
        max_bytes in (0usize..2000, 0usize..2000),
        codecs in (0u8..5, 0u8..5),
        changes in prop::collection::btree_set(0usize..40, 0..5),
    ) {
        let mut offset = 0;
        let mut records = Vec::new();
        for gap in gaps {
            offset += gap;
            records.push(rec(offset, "k", &format!("value {offset}")));
            offset += 1;
        }
        // Dense on the standby: a run for every stretch without a gap.
        let mut dense = OffsetMap::default();
        for (cluster, r) in (0i64..).zip(&records) {
            prop_assert!(dense.try_append(r.offset, cluster, 1));
        }
        let (a, s) = (Codec::from_id(codecs.0).unwrap(), Codec::from_id(codecs.1).unwrap());
        let active = cut(&records, &cuts.0, |_| 0, a);
        let mut copy = records.clone();
        let mut want = Vec::new();
        for (i, r) in copy.iter_mut().enumerate().filter(|(i, _)| changes.contains(i)) {
            r.timestamp += i as i64 + 1;
            want.push(r.offset);
        }
        let standby = cut(&copy, &cuts.1, |l| dense.to_cluster(l).unwrap() - l, s);
        let maps = (OffsetMap::identity(), dense);
        let outcome = fetched(scope(offset), maps, [&active, &standby], [max_bytes.0, max_bytes.1]);
        let got: Vec<i64> = outcome.described.iter().map(|f| f.logical_offset).collect();
        prop_assert_eq!(got, want);
        prop_assert_eq!(outcome.records, records.len() as u64);
        prop_assert_eq!(outcome.batches, active.len() as u64);
    }
}
