use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const TV1: i16 = 11;
const TV2: i16 = 12;
const ID: &str = "app/0_1";
/// Time and entropy.
const NOW: (At, i64) = (1_000, 7 << 60);

fn p(id: i64, epoch: i16) -> Producer {
    Producer { id, epoch }
}

fn produce(version: i16) -> Ask {
    Ask::Produce { version, transactional: true }
}

fn end(version: i16, committed: bool) -> Ask {
    Ask::End { version, committed, library: Library::Other }
}

fn add(version: i16) -> Ask {
    Ask::AddPartitions { version, library: Library::Other }
}

/// A memory in which a cluster gave `real` in generation 0.
fn born(real: Producer) -> Memory {
    let mut memory = Memory::default();
    assert_eq!(memory.init(ID, None, 4, 0, 0), Init::AsIs);
    let (told, record) = memory.initialised(ID, None, 5_000, real, 0, NOW);
    assert_eq!((told, record.told, record.timeout_ms), (real, real, 5_000));
    memory
}

/// Takes the id in under a new generation, as for a request of a client that goes on.
fn map(memory: &mut Memory, real: Producer, generation: Generation) {
    let record = memory.map(ID, real, generation, 0).unwrap();
    memory.adopt(ID, &record, None);
}

#[test]
fn nothing_is_rewritten_where_an_id_was_born() {
    let mut memory = born(p(5, 0));
    for ask in [produce(TV2), add(3), end(5, true)] {
        assert_eq!(memory.judge(ID, p(5, 0), ask, 0, NOW), Verdict::AsIs);
    }
    assert_eq!(memory.ended(ID, p(5, 0), true, Some(p(5, 1)), 0, NOW), (p(5, 1), None));
    // A zombie's and a stranger's requests are the coordinator's to judge.
    assert_eq!(memory.judge(ID, p(5, 0), produce(TV2), 0, NOW), Verdict::AsIs);
    assert_eq!(memory.judge("other", p(5, 9), produce(TV2), 0, NOW), Verdict::AsIs);
}

#[test]
fn an_idle_producer_goes_on_under_a_mapping_and_its_zombie_is_fenced() {
    let mut memory = born(p(5, 3));
    assert!(memory.break_open(None, 0).is_empty());
    assert_eq!(memory.judge(ID, p(5, 3), produce(TV2), 1, NOW), Verdict::Map(5_000));
    map(&mut memory, p(90, 0), 1);
    assert_eq!(memory.judge(ID, p(5, 3), produce(TV2), 1, NOW), Verdict::As(p(90, 0)));
    assert_eq!(memory.judge(ID, p(5, 3), end(5, true), 1, NOW), Verdict::As(p(90, 0)));
    assert_eq!(memory.ended(ID, p(5, 3), true, Some(p(90, 1)), 1, NOW), (p(5, 4), None));
    assert_eq!(memory.judge(ID, p(5, 4), produce(TV2), 1, NOW), Verdict::As(p(90, 1)));
    assert_eq!(memory.judge(ID, p(5, 2), produce(TV2), 1, NOW), Verdict::Refuse(47));
    assert_eq!(memory.judge(ID, p(6, 4), add(3), 1, NOW), Verdict::Refuse(90));
    assert_eq!(memory.judge(ID, p(6, 4), add(1), 1, NOW), Verdict::Refuse(47));
}

#[test]
fn what_was_open_must_be_aborted_and_the_abort_is_answered_here() {
    for (version, after) in [(5, p(5, 4)), (3, p(5, 3))] {
        let mut memory = born(p(5, 3));
        memory.judge(ID, p(5, 3), produce(TV1), 0, NOW);
        let broken = memory.break_open(Some(&HashSet::new()), 0);
        assert!(matches!(&broken[..], [(id, record)] if id == ID && record.broken && record.mapping.is_none()));
        let codes = [
            (produce(12), 47),
            (produce(11), 120),
            (produce(9), 48),
            (add(3), 59),
            (Ask::AddOffsets { version: 4, library: Library::Other }, 120),
            (Ask::AddOffsets { version: 3, library: Library::Other }, 59),
            (Ask::CommitOffsets { version: 4 }, 120),
            (Ask::CommitOffsets { version: 3 }, 22),
            (end(version, true), if version == 5 { 120 } else { 59 }),
            (Ask::AddPartitions { version: 3, library: Library::Java }, 120),
            (Ask::End { version: 4, committed: true, library: Library::Java }, 120),
            (Ask::End { version: 3, committed: true, library: Library::Java }, 59),
        ];
        for (ask, code) in codes {
            assert_eq!(memory.judge(ID, p(5, 3), ask, 1, NOW), Verdict::Refuse(code), "{ask:?}");
        }
        assert_eq!(memory.judge(ID, p(5, 2), end(version, false), 1, NOW), Verdict::Refuse(90), "a zombie's");
        for _ in 0..2 {
            assert_eq!(memory.judge(ID, p(5, 3), end(version, false), 1, NOW), Verdict::Done(after));
        }
        assert_eq!(memory.judge(ID, after, produce(TV1), 1, NOW), Verdict::Map(5_000));
        map(&mut memory, p(90, 0), 1);
        assert_eq!(memory.judge(ID, after, produce(TV1), 1, NOW), Verdict::As(p(90, 0)));
    }
}

/// Java ends what it believes to be empty without an EndTxn.
#[test]
fn of_java_what_was_open_and_not_written_to_begins_anew() {
    let add = Ask::AddPartitions { version: 3, library: Library::Java };
    let offsets = Ask::AddOffsets { version: 4, library: Library::Java };
    for (open, ask) in [(add, add), (add, offsets), (offsets, add)] {
        let mut memory = born(p(5, 3));
        memory.judge(ID, p(5, 3), open, 0, NOW);
        assert_eq!(memory.break_open(None, 0).len(), 1);
        assert_eq!(
            memory.judge(ID, p(5, 3), produce(TV1), 1, NOW),
            Verdict::Refuse(120),
            "its addition was acknowledged"
        );
        assert_eq!(memory.judge(ID, p(5, 3), ask, 1, NOW), Verdict::Map(5_000));
        map(&mut memory, p(90, 0), 1);
        assert_eq!(memory.judge(ID, p(5, 3), ask, 1, NOW), Verdict::As(p(90, 0)));
    }
    for wrote in [produce(TV1), Ask::CommitOffsets { version: 4 }] {
        let mut memory = born(p(5, 3));
        memory.judge(ID, p(5, 3), add, 0, NOW);
        memory.judge(ID, p(5, 3), wrote, 0, NOW);
        memory.break_open(None, 0);
        for _ in 0..2 {
            assert_eq!(memory.judge(ID, p(5, 3), add, 1, NOW), Verdict::Refuse(120));
        }
        assert_eq!(memory.judge(ID, p(5, 3), end(3, false), 1, NOW), Verdict::Done(p(5, 3)));
    }
    // Restored from the state topic: whether it has written is not known, and an InitProducerId has to follow.
    let mut memory = Memory::default();
    let record = Record { told: p(5, 3), timeout_ms: 5_000, mapping: None, broken: true, at_ms: 0 };
    memory.restore(ID, record, 0);
    assert_eq!(memory.judge(ID, p(5, 3), add, 1, NOW), Verdict::Refuse(59));
}

#[test]
fn an_init_after_a_cutover_is_a_new_incarnation_whose_retry_is_known() {
    let mut memory = born(p(5, 3));
    memory.judge(ID, p(5, 3), produce(TV1), 0, NOW);
    memory.break_open(None, 0);
    assert_eq!(memory.init(ID, Some(p(5, 2)), 5, 1, 0), Init::Refuse(90));
    assert_eq!(memory.init(ID, Some(p(5, 2)), 3, 1, 0), Init::Refuse(47));
    assert_eq!(memory.init(ID, Some(p(5, 3)), 5, 1, 0), Init::Map);
    let record = memory.map_init(ID, 6_000, p(90, 0), 1, NOW).unwrap();
    assert_eq!((record.told, record.timeout_ms), (p(5, 4), 6_000));
    memory.adopt(ID, &record, Some(Some(p(5, 3))));
    assert_eq!(memory.init(ID, Some(p(5, 3)), 5, 1, 0), Init::As(p(90, 0)), "its reply was lost");
    assert_eq!(memory.judge(ID, p(5, 4), produce(TV1), 1, NOW), Verdict::As(p(90, 0)));
    assert_eq!(memory.judge(ID, p(5, 3), produce(TV1), 1, NOW), Verdict::Refuse(47));
    // Another incarnation by its own InitProducerId: the first one's retry is a zombie's now.
    assert_eq!(memory.init(ID, None, 5, 1, 0), Init::AsIs);
    assert_eq!(memory.initialised(ID, None, 6_000, p(90, 1), 1, NOW).0, p(5, 5));
    assert_eq!(memory.init(ID, Some(p(5, 3)), 5, 1, 0), Init::Refuse(90));
    assert_eq!(memory.init(ID, Some(p(5, 5)), 5, 1, 0), Init::As(p(90, 1)));
}

#[test]
fn after_a_restart_the_stored_epoch_is_a_bound_from_below() {
    let mut first = born(p(5, 3));
    let (_, record) = first.initialised(ID, None, 5_000, p(5, 4), 0, NOW);
    let mut memory = Memory::default();
    memory.restore(ID, record.clone(), 0);
    // In the same generation, and with the epochs that transactions have taken since.
    assert_eq!(memory.judge(ID, p(5, 40), produce(TV2), 0, NOW), Verdict::AsIs);
    assert_eq!(memory.break_open(None, 0).len(), 1, "open for all that is known");
    // Over a switchover that finds nothing open.
    let mut memory = Memory::default();
    memory.restore(ID, record, 0);
    assert!(memory.break_open(Some(&HashSet::new()), 0).is_empty());
    assert_eq!(memory.judge(ID, p(5, 3), produce(TV2), 1, NOW), Verdict::Refuse(47));
    assert_eq!(memory.judge(ID, p(5, 40), produce(TV2), 1, NOW), Verdict::Map(5_000));
    // Whatever was told to the incarnation before: another id fences it.
    let record = memory.map_init(ID, 5_000, p(90, 0), 1, NOW).unwrap();
    assert_eq!(record.told, p(NOW.1, 0));
}

#[test]
fn an_unknown_id_is_taken_at_its_word_and_must_abort_first() {
    let mut memory = Memory::default();
    assert_eq!(memory.judge(ID, p(5, 3), produce(TV2), 2, NOW), Verdict::Refuse(47));
    assert_eq!(memory.judge(ID, p(5, 3), end(5, false), 2, NOW), Verdict::Done(p(5, 4)));
    assert_eq!(memory.judge(ID, p(5, 4), produce(TV2), 2, NOW), Verdict::Map(60_000));
    assert_eq!(memory.init("new", None, 5, 2, 0), Init::AsIs);
    assert_eq!(memory.init("old", Some(p(8, 3)), 5, 2, 0), Init::Map);
}

#[test]
fn sequences_of_a_resumed_client_begin_at_zero_for_a_producer_that_the_cluster_knew() {
    let mut memory = born(p(5, 3));
    memory.break_open(None, 0);
    memory.judge(ID, p(5, 3), produce(TV1), 1, NOW);
    let at = (1, 0);
    map(&mut memory, p(90, 0), 1);
    assert_eq!(memory.sequence(ID, p(5, 3), TV1, "t/0", 17, at), Sequence::As(17), "a fresh one takes any");
    memory.break_open(None, 0);
    let at = (2, 0);
    memory.judge(ID, p(5, 3), produce(TV1), 2, NOW);
    map(&mut memory, p(5, 4), 2);
    let Sequence::Store(record) = memory.sequence(ID, p(5, 3), TV1, "t/0", i32::MAX, at) else { panic!() };
    memory.store_sequence(ID, &record);
    assert_eq!(memory.sequence(ID, p(5, 3), TV1, "t/0", i32::MAX, at), Sequence::As(0));
    assert_eq!(memory.sequence(ID, p(5, 3), TV1, "t/0", 3, at), Sequence::As(4), "wrapped");
    assert_eq!(memory.sequence(ID, p(5, 3), TV2, "t/0", 0, at), Sequence::As(0), "its own epoch");
    assert_eq!(memory.sequence(ID, p(5, 4), TV1, "t/0", 0, at), Sequence::As(0), "a new epoch");
    // Stored: a restarted proxy goes on so.
    let mut restarted = Memory::default();
    restarted.restore(ID, record, 0);
    assert_eq!(restarted.judge(ID, p(5, 3), produce(TV1), 2, NOW), Verdict::As(p(5, 4)));
    assert_eq!(restarted.sequence(ID, p(5, 3), TV1, "t/0", 3, at), Sequence::As(4));
}

/// Equal numbers are no identity when the client goes on with its sequences.
#[test]
fn a_mapping_onto_the_same_numbers_still_moves_sequences() {
    let mut memory = born(p(0, 0));
    memory.break_open(None, 0);
    let record = memory.map_init(ID, 5_000, p(0, 0), 1, NOW).unwrap();
    memory.adopt(ID, &record, Some(None));
    memory.break_open(None, 0);
    assert_eq!(memory.judge(ID, p(0, 1), produce(TV1), 2, NOW), Verdict::Map(5_000));
    map(&mut memory, p(0, 1), 2);
    assert_eq!(memory.judge(ID, p(0, 1), produce(TV1), 2, NOW), Verdict::As(p(0, 1)));
    assert!(matches!(memory.sequence(ID, p(0, 1), TV1, "t/0", 1, (2, 0)), Sequence::Store(_)));
}

#[test]
fn epochs_end_on_either_side() {
    // The shown one: a fresh id, which the coordinator's next replies are counted from.
    let mut memory = born(p(5, LAST_EPOCH - 1));
    memory.break_open(None, 0);
    memory.judge(ID, p(5, LAST_EPOCH - 1), produce(TV2), 1, NOW);
    map(&mut memory, p(90, 0), 1);
    assert_eq!(memory.ended(ID, p(5, LAST_EPOCH - 1), true, Some(p(90, 1)), 1, NOW).0, p(5, LAST_EPOCH));
    let (told, record) = memory.ended(ID, p(5, LAST_EPOCH), true, Some(p(90, 2)), 1, NOW);
    assert_eq!((told, record.map(|r| r.told)), (p(NOW.1, 0), Some(p(NOW.1, 0))));
    assert_eq!(memory.judge(ID, p(NOW.1, 0), produce(TV2), 1, NOW), Verdict::As(p(90, 2)));
    // The cluster's: the shown one goes on.
    let (told, record) = memory.ended(ID, p(NOW.1, 0), true, Some(p(91, 0)), 1, NOW);
    assert_eq!((told, record.is_some()), (p(NOW.1, 1), true));
    assert_eq!(memory.judge(ID, told, produce(TV2), 1, NOW), Verdict::As(p(91, 0)));
    // Where nothing is rewritten, the cluster's new id is shown.
    let mut memory = born(p(5, LAST_EPOCH));
    memory.judge(ID, p(5, LAST_EPOCH), end(5, true), 0, NOW);
    let (told, record) = memory.ended(ID, p(5, LAST_EPOCH), true, Some(p(77, 0)), 0, NOW);
    assert_eq!((told, record.map(|r| r.told)), (p(77, 0), Some(p(77, 0))));
    memory.break_open(None, 0);
    assert_eq!(memory.judge(ID, p(77, 0), produce(TV2), 1, NOW), Verdict::Map(5_000));
}

#[test]
fn a_commit_whose_reply_was_lost_is_answered_after_the_cutover() {
    let batch = bytes::Bytes::from_static(b"batch");
    for (version, next) in [(5, p(5, 4)), (3, p(5, 3))] {
        let mut memory = born(p(5, 3));
        memory.judge(ID, p(5, 3), produce(TV1), 0, NOW);
        memory.touched(ID, &TopicPartition::new("t", 0), 10, 12, Some(&batch));
        memory.judge(ID, p(5, 3), end(version, true), 0, NOW);
        let doubtful = memory.in_doubt();
        assert_eq!(doubtful.len(), 1);
        let tp = TopicPartition::new("t", 0);
        let written = &doubtful[0].touched.partitions[&tp];
        assert_eq!(written.above(0), [(10, 12)]);
        assert_eq!(doubtful[0].whole.of(&tp, written), Some(&Batches::from([(10, (12, batch.clone()))])));
        memory.found_committed(ID, NOW.1);
        assert!(memory.in_doubt().is_empty() && memory.break_open(None, 0).is_empty());
        assert_eq!(memory.judge(ID, p(5, 3), end(version, true), 1, NOW), Verdict::Done(next));
        assert_ne!(memory.judge(ID, p(5, 3), end(version, false), 1, NOW), Verdict::Done(next), "another question");
        assert_eq!(memory.judge(ID, next, produce(TV1), 1, NOW), Verdict::Map(5_000));
    }
}

#[test]
fn what_is_open_is_waited_for_as_long_as_its_coordinator_would() {
    let mut memory = born(p(5, 3));
    let quiet = |memory: &Memory, at: At| (memory.any_open(at), memory.is_idle(ID));
    assert_eq!(quiet(&memory, NOW.0), (false, true));
    memory.judge(ID, p(5, 3), produce(TV1), 0, NOW);
    assert_eq!(quiet(&memory, NOW.0), (true, false));
    assert_eq!(quiet(&memory, NOW.0 + 5_000), (false, false), "its timeout is over");
    memory.judge(ID, p(5, 3), end(5, true), 0, NOW);
    assert_eq!(quiet(&memory, NOW.0), (true, false));
    memory.ended(ID, p(5, 3), true, Some(p(5, 4)), 0, NOW);
    assert_eq!(quiet(&memory, NOW.0), (false, true));
    memory.judge(ID, p(5, 4), produce(TV2), 0, NOW);
    memory.break_open(None, 0);
    assert_eq!(quiet(&memory, NOW.0), (false, false), "it must be aborted first");
    assert!(!memory.is_idle("unknown"));
}

#[test]
fn offsets_of_the_last_committed_transaction_are_known_for_a_moment() {
    let mut memory = born(p(5, 3));
    let offsets = || vec![(TopicPartition::new("in", 0), 7, String::new())];
    let mut run = |epoch, committed, at: At| {
        memory.judge(ID, p(5, epoch), produce(TV2), 0, (at, 0));
        memory.touched_offsets(ID, p(5, epoch), "group", offsets());
        assert!(memory.lately_committed(at).is_empty() || epoch > 4, "not committed yet");
        memory.judge(ID, p(5, epoch), end(5, committed), 0, (at, 0));
        memory.ended(ID, p(5, epoch), committed, Some(p(5, epoch + 1)), 0, (at, 0));
        memory.lately_committed(at).len()
    };
    assert_eq!(run(3, false, NOW.0), 0);
    assert_eq!(run(4, true, NOW.0), 1);
    assert_eq!(run(5, false, NOW.0), 1, "an aborted one changes nothing");
    assert_eq!(memory.lately_committed(NOW.0)[0].offsets["group"], offsets());
    assert!(memory.lately_committed(NOW.0 + 60_000).is_empty());
    memory.break_open(None, NOW.0);
    assert!(memory.lately_committed(NOW.0).is_empty(), "offsets of a cluster that is left");
}

#[test]
fn a_commit_that_was_refused_is_not_in_doubt() {
    let mut memory = born(p(5, 3));
    memory.judge(ID, p(5, 3), produce(TV1), 0, NOW);
    memory.judge(ID, p(5, 3), end(5, true), 0, NOW);
    memory.end_refused(ID, p(5, 2));
    assert_eq!(memory.in_doubt().len(), 1, "a zombie's was refused");
    memory.end_refused(ID, p(5, 3));
    assert!(memory.in_doubt().is_empty());
    assert_eq!(memory.break_open(None, 0).len(), 1, "for all that is known it is open");
}

#[test]
fn a_plain_batch_opens_nothing_and_a_zombie_does_not_either() {
    let mut memory = born(p(5, 3));
    memory.judge(ID, p(5, 3), Ask::Produce { version: TV1, transactional: false }, 0, NOW);
    memory.judge(ID, p(5, 2), produce(TV1), 0, NOW);
    memory.judge(ID, p(4, 9), end(5, true), 0, NOW);
    assert!(memory.in_doubt().is_empty() && memory.break_open(None, 0).is_empty());
}

#[test]
fn unused_ids_are_forgotten_and_used_ones_stored_again() {
    const DAY: At = 24 * 3600 * 1000;
    let mut memory = born(p(5, 3));
    let at = |day: At| (day * DAY, 0);
    memory.initialised("other", None, 1, p(6, 0), 0, at(0));
    memory.judge(ID, p(5, 3), produce(TV1), 0, at(5));
    let (gone, again) = memory.sweep(6 * DAY);
    assert_eq!((gone.len(), again.len()), (0, 1));
    assert_eq!(again[0].0, ID);
    let (gone, again) = memory.sweep(8 * DAY);
    assert_eq!((gone, again.len()), (vec!["other".to_string()], 0));
    assert_eq!(memory.len(), 1);
}

#[test]
fn the_number_of_ids_is_bounded() {
    let mut memory = Memory::default();
    for n in 0..MAX_IDS as i64 + 10 {
        memory.initialised(&format!("id-{n}"), None, 1, p(n, 0), 0, (n, 0));
    }
    assert_eq!(memory.len(), MAX_IDS);
    assert_eq!(memory.sweep(0).0.len(), 10);
}

proptest! {
    /// However cutovers, commits and new incarnations follow each other: what a client is told rises (or is another
    /// id), two incarnations are never taken for the same, and what goes to a cluster is what its coordinator expects.
    #[test]
    fn the_newest_incarnation_alone_goes_through(steps in prop::collection::vec(0u8..5, 1..40)) {
        let mut memory = Memory::default();
        let (mut generation, mut fresh) = (0u32, 1i64 << 61);
        // What each cluster's coordinator knows of the id.
        let mut real = [p(100, -1), p(100, -1)];
        let (mut told, mut zombie) = (None::<Producer>, None::<Producer>);
        for step in steps {
            let side = (generation % 2) as usize;
            fresh += 1;
            match step {
                // A new incarnation.
                0 => {
                    real[side].epoch += 1;
                    let new = match memory.init(ID, None, 5, generation, 0) {
                        Init::AsIs => memory.initialised(ID, None, 1, real[side], generation, (0, fresh)).0,
                        Init::Map => {
                            let record = memory.map_init(ID, 1, real[side], generation, (0, fresh)).unwrap();
                            memory.adopt(ID, &record, Some(None));
                            record.told
                        }
                        other => panic!("{other:?}"),
                    };
                    if let Some(old) = told {
                        prop_assert!(new.id != old.id || new.epoch > old.epoch, "{old:?} {new:?}");
                        zombie = Some(old);
                    }
                    told = Some(new);
                }
                // A transaction under protocol 2.
                1 | 2 => {
                    let Some(who) = told else { continue };
                    let mut verdict = memory.judge(ID, who, produce(TV2), generation, (0, fresh));
                    if matches!(verdict, Verdict::Map(_)) {
                        real[side].epoch += 1;
                        map(&mut memory, real[side], generation);
                        verdict = memory.judge(ID, who, produce(TV2), generation, (0, fresh));
                    }
                    let sent = if let Verdict::As(sent) = verdict { sent } else { who };
                    prop_assert!(matches!(verdict, Verdict::As(_) | Verdict::AsIs), "{verdict:?}");
                    prop_assert_eq!(sent, real[side]);
                    memory.judge(ID, who, end(5, true), generation, (0, fresh));
                    real[side].epoch += 1;
                    told = Some(memory.ended(ID, who, true, Some(real[side]), generation, (0, fresh)).0);
                }
                // A switchover with nothing open.
                3 => {
                    memory.break_open(Some(&HashSet::new()), 0);
                    generation += 1;
                }
                // A zombie.
                _ => {
                    let Some(who) = zombie else { continue };
                    let verdict = memory.judge(ID, who, produce(TV2), generation, (0, fresh));
                    let sent = match verdict {
                        Verdict::As(sent) => sent,
                        Verdict::AsIs => who,
                        _ => continue,
                    };
                    prop_assert_ne!(sent, real[side], "a zombie came through");
                }
            }
        }
    }
}
