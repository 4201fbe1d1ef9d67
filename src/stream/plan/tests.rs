use super::*;
use crate::records::{Codec, NewRecord, Relabel, Stamp as Producer, build, crc_ok, relabel};
use crate::stream::client_producer_id;

fn batch(values: &[&str], producer_id: i64, base_sequence: i32) -> Bytes {
    let records: Vec<NewRecord> = values
        .iter()
        .map(|v| NewRecord { key: None, value: Some(v.as_bytes()), headers: Vec::new(), timestamp: 1_000 })
        .collect();
    let producer_epoch = if producer_id < 0 { -1 } else { 0 };
    build(&records, Codec::None, Producer { producer_id, producer_epoch, base_sequence }).unwrap()
}

/// The batch as the log has it at `offset`.
fn at(offset: i64, batch: Bytes) -> Batch {
    let bytes = relabel(batch, |_| Relabel::Keep { base_offset: offset, leader_epoch: 3 }).unwrap();
    Batch::new(bytes).unwrap()
}

fn planned(batches: Vec<Batch>, cursor: Cursor, standby: &OffsetMap) -> Plan {
    plan(batches.into_iter().map(Ok), Vec::new(), cursor, &OffsetMap::identity(), standby).unwrap()
}

const START: Cursor = Cursor { active_next: 0, standby_end: 0 };

#[test]
fn a_first_append_and_a_hole_break_the_map_and_what_follows_does_not() {
    let id = client_producer_id(7);
    let batches = vec![at(0, batch(&["a", "b"], id, 0)), at(2, batch(&["c"], id, 2)), at(5, batch(&["d"], id, 3))];
    let plan = planned(batches, START, &OffsetMap::default());
    assert_eq!(plan.breaks, [(0, 0), (5, 3)]);
    assert_eq!(plan.gaps, [(3, 5)], "what the log has nothing of is told");
    let places: Vec<_> = plan.appends.iter().map(|a| (a.logical, a.standby_base, a.active_next)).collect();
    assert_eq!(places, [(0, 0, 2), (2, 2, 3), (5, 3, 6)]);
    let mut map = OffsetMap::default();
    apply_breaks(&mut map, &plan.breaks);
    assert_eq!((map.to_cluster(2), map.to_cluster(4), map.to_cluster(5)), (Some(2), None, Some(3)));
    let next = planned(vec![at(6, batch(&["e"], id, 4))], Cursor { active_next: 6, standby_end: 4 }, &map);
    assert!(next.breaks.is_empty());
}

#[test]
fn a_run_that_a_cutover_closed_is_opened_again_even_where_the_next_record_follows() {
    let mut map = OffsetMap::identity();
    map.close_at_cluster(10);
    let cursor = Cursor { active_next: 10, standby_end: 10 };
    let plan = planned(vec![at(10, batch(&["x"], client_producer_id(1), 0))], cursor, &map);
    assert_eq!(plan.breaks, [(10, 10)]);
    apply_breaks(&mut map, &plan.breaks);
    assert!(map.is_identity());
}

#[test]
fn client_ids_keep_their_bytes_and_all_else_is_stamped() {
    let client = at(0, batch(&["a"], client_producer_id(1), 5));
    let none = at(1, batch(&["b"], -1, -1));
    let native = at(2, batch(&["c"], 4000, 0));
    let plan = planned(vec![client.clone(), none, native], START, &OffsetMap::default());
    let stamps: Vec<_> = plan.appends.iter().map(|a| a.stamp).collect();
    assert_eq!(stamps, [Stamp::Client, Stamp::Stream, Stamp::Stream]);
    let state = StampState { producer_id: 99, epoch: 0, next_sequence: i32::MAX };
    let kept = Batch::new(plan.appends[0].split(&state, false).join()).unwrap();
    assert_eq!((kept.header().crc, kept.header().base_offset), (client.header().crc, 0));
    assert_eq!(plan.appends[0].seen.map(|(_, s)| (s.first_sequence, s.logical)), Some((5, 0)));
    for (append, forced) in [(&plan.appends[0], true), (&plan.appends[1], false), (&plan.appends[2], false)] {
        let stamped = Batch::new(append.split(&state, forced).join()).unwrap();
        assert!(crc_ok(&stamped));
        assert_eq!((stamped.header().producer_id, stamped.header().base_sequence), (99, i32::MAX));
    }
    let mut state = state;
    state.advance(1);
    assert_eq!(state.next_sequence, 0, "sequences wrap to 0");
}

#[test]
fn append_times_are_written_out_and_the_batch_stays_its_clients() {
    let stored = |producer_id, base_offset, base_sequence| {
        let sent = Batch::new(batch(&["a", "b"], producer_id, base_sequence)).unwrap();
        let header = BatchHeader { attributes: 0b1000, max_timestamp: 5_000, base_offset, ..*sent.header() };
        Batch::new(header.encode(&sent.payload()).unwrap()).unwrap()
    };
    let id = client_producer_id(1);
    let plan = planned(vec![stored(id, 0, 7), stored(4000, 2, 7)], START, &OffsetMap::default());
    let rows: Vec<_> = plan.appends.iter().map(|a| (a.stamp, a.logical, a.standby_base, a.active_next)).collect();
    assert_eq!(rows, [(Stamp::Client, 0, 0, 2), (Stamp::Stream, 2, 2, 4)]);
    assert_eq!(plan.appends[0].seen.map(|(i, s)| (i, s.first_sequence, s.logical_end)), Some((id, 7, 2)));
    let state = StampState { producer_id: 99, epoch: 0, next_sequence: 0 };
    for (append, producer) in plan.appends.iter().zip([(id, 7), (99, 0)]) {
        let sent = Batch::new(append.split(&state, false).join()).unwrap();
        assert!(crc_ok(&sent) && !sent.header().log_append_time());
        assert_eq!((sent.header().producer_id, sent.header().base_sequence), producer);
        assert_eq!((sent.header().base_timestamp, sent.header().max_timestamp), (5_000, 5_000));
    }
    // Part of a batch is nobody's.
    let rest = planned(vec![stored(id, 0, 7)], Cursor { active_next: 1, standby_end: 1 }, &OffsetMap::identity());
    assert_eq!(rest.appends.iter().map(|a| (a.stamp, a.count)).collect::<Vec<_>>(), [(Stamp::Stream, 1)]);
}

#[test]
fn what_the_stream_has_and_what_is_masked_on_the_source_is_left_out() {
    let mut source = OffsetMap::default();
    source.append(0, 0, 2);
    source.append(10, 5, Run::OPEN); // cluster offsets 2 to 4 are a masked tail
    let batches = [(0, "a"), (1, "b"), (2, "lost"), (3, "lost"), (5, "c")].map(|(o, v)| Ok(at(o, batch(&[v], -1, -1))));
    let cursor = Cursor { active_next: 1, standby_end: 1 };
    let mut standby = OffsetMap::default();
    standby.append(0, 0, Run::OPEN);
    let plan = plan(batches.into_iter(), Vec::new(), cursor, &source, &standby).unwrap();
    let places: Vec<_> = plan.appends.iter().map(|a| (a.logical, a.standby_base)).collect();
    assert_eq!((places, plan.active_next), (vec![(1, 1), (10, 2)], 6));
    assert_eq!(plan.gaps, [(2, 5)], "it has no logical offsets");
}

#[test]
fn a_batch_begun_before_the_cursor_is_cut_there() {
    let source = at(4, batch(&["a", "b", "c"], client_producer_id(1), 0));
    let plan = planned(vec![source], Cursor { active_next: 5, standby_end: 0 }, &OffsetMap::default());
    assert_eq!(plan.appends.iter().map(|a| (a.logical, a.count, a.stamp)).collect::<Vec<_>>(), [(5, 2, Stamp::Stream)]);
}

#[test]
fn going_back_is_refused() {
    let mut standby = OffsetMap::default();
    standby.append(50, 0, Run::OPEN);
    let batches = [Ok(at(10, batch(&["a"], -1, -1)))];
    let cursor = Cursor { active_next: 10, standby_end: 3 };
    let refused = plan(batches.into_iter(), Vec::new(), cursor, &OffsetMap::identity(), &standby);
    assert!(matches!(refused, Err(PlanError::Backwards { logical: 10, standby: 3 })));
}

#[test]
fn teed_and_fetched_batches_are_planned_alike() {
    let sent = batch(&["a", "b"], client_producer_id(3), 0);
    let cursor = Cursor { active_next: 8, standby_end: 6 };
    let mut standby = OffsetMap::default();
    standby.append(0, 0, Run::OPEN);
    let teed = plan_teed(vec![sent.clone()], cursor, &OffsetMap::identity(), &standby).unwrap();
    let fetched = planned(vec![at(8, sent)], cursor, &standby);
    assert_eq!((teed.breaks, teed.active_next), (fetched.breaks, fetched.active_next));
    let key = |p: &[Append]| {
        p.iter().map(|a| (a.logical, a.standby_base, a.active_next, a.count, a.seen)).collect::<Vec<_>>()
    };
    assert_eq!(key(&teed.appends), key(&fetched.appends));
    let state = StampState { producer_id: 1, epoch: 0, next_sequence: 0 };
    assert_eq!(teed.appends[0].split(&state, false).join(), fetched.appends[0].split(&state, false).join());
}
