use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::{GroupId, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::*;
use crate::offsets::member_epoch_out;

const NEW_EPOCH: i32 = 3;

fn at(ms: u64) -> At {
    Duration::from_millis(ms)
}

fn parts(of: &[i32]) -> Parts {
    of.iter().map(|p| (Uuid::from_u128(1), *p)).collect()
}

fn topics(of: &[i32]) -> Option<Vec<TopicPartitions>> {
    Some(vec![TopicPartitions::default().with_topic_id(Uuid::from_u128(1)).with_partitions(of.to_vec())])
}

/// A heartbeat that says only what changed.
fn short(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId("g".into()))
        .with_member_id(StrBytes::from_string(member.to_owned()))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
        .with_topic_partitions(None)
        .with_subscribed_topic_names(None)
}

fn full(member: &str, epoch: i32, owned: &[i32]) -> ConsumerGroupHeartbeatRequest {
    short(member, epoch)
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(Some(vec![TopicName("t".into())]))
        .with_topic_partitions(topics(owned))
}

fn ok(epoch: i32, assignment: Option<&[i32]>) -> Answer {
    Answer { code: 0, epoch, assignment: assignment.map(parts) }
}

/// Members that joined under generation 0 at 1 s and own what they were assigned, heard last at 20 s.
fn grown(members: &[(&str, &[i32])]) -> Consumers {
    let mut all = Consumers::new(at(0));
    for (member, owned) in members {
        let join = full(member, 0, &[]);
        assert_eq!(all.beat(&join, 0, at(1000)), Beat::Native);
        assert_eq!(all.answered(&join, member, 0, ok(5, Some(owned)), at(1000)), Shown::default());
        let have = short(member, 5).with_topic_partitions(topics(owned));
        assert_eq!(all.beat(&have, 0, at(20_000)), Beat::Native);
        assert_eq!(all.answered(&have, member, 0, ok(5, None), at(20_000)), Shown::default());
    }
    all
}

fn epoch(real: i32) -> i32 {
    member_epoch_out(1, real)
}

/// The coordinator of generation 1 has dealt out so.
fn move_to(all: &mut Consumers, dealt: &[(&str, &[i32])], ms: u64) -> Vec<String> {
    for (member, dealt) in dealt {
        all.joined("g", 1, member, NEW_EPOCH, parts(dealt));
    }
    all.settled("g", 1, dealt.iter().map(|(m, _)| (*m).to_owned()).collect(), at(ms))
}

/// One heartbeat and its reply, in which the coordinator has nothing new.
fn exchange(all: &mut Consumers, req: &ConsumerGroupHeartbeatRequest, ms: u64) -> (Beat, Shown) {
    let beat = all.beat(req, 1, at(ms));
    let shown = all.answered(req, &req.member_id, 1, ok(NEW_EPOCH, None), at(ms));
    (beat, shown)
}

fn told(of: &[i32], soon: bool) -> Shown {
    Shown { assignment: Some(parts(of)), soon }
}

/// Nothing new, but the move is not over.
const QUIET: Shown = Shown { assignment: None, soon: true };

fn sent(of: &[i32]) -> Beat {
    Beat::As { epoch: NEW_EPOCH, owned: parts(of), full: None }
}

#[test]
fn nothing_is_changed_within_a_generation() {
    let mut all = grown(&[("a", &[0, 1])]);
    assert_eq!(all.beat(&short("a", 5), 0, at(25_000)), Beat::Native);
    assert_eq!(all.epoch("g", "a", 5, 0, at(25_000)), Epoch::Native);
    assert_eq!(all.due("g", 0, at(25_000)), None);
    let revoke = all.answered(&short("a", 5), "a", 0, ok(5, Some(&[0])), at(25_000));
    assert_eq!(revoke, Shown::default());
    assert_eq!(all.beat(&short("a", -1), 0, at(26_000)), Beat::Native);
}

#[test]
fn members_are_joined_at_once_and_keep_what_they_are_given_again() {
    let mut all = grown(&[("a", &[0, 1]), ("b", &[2])]);
    assert_eq!(all.beat(&short("a", 5), 1, at(21_000)), Beat::GoOn);
    assert_eq!(all.epoch("g", "b", 5, 1, at(21_000)), Epoch::Wait);
    let due = all.due("g", 1, at(21_000)).expect("old members");
    assert_eq!(due.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let join = due[0].1.full("g", "a");
    assert_eq!(join, full("a", 0, &[]).with_topic_partitions(Some(Vec::new())), "all that it ever said");
    assert_eq!(all.due("g", 1, at(21_000)), None, "once");
    assert_eq!(all.held("g"), parts(&[0, 1, 2]));
    assert_eq!(all.beat(&short("b", 5), 1, at(21_100)), Beat::GoOn);
    assert_eq!(all.beat(&full("new", 0, &[]), 1, at(21_100)), Beat::Refuse(LATER));
    all.joined("g", 1, "b", 1, parts(&[]));
    assert_eq!(all.epoch("g", "b", 5, 1, at(21_100)), Epoch::As(1), "a commit need not wait for the others");
    assert_eq!(all.beat(&short("b", 5), 1, at(21_100)), Beat::GoOn);
    assert!(move_to(&mut all, &[("a", &[0, 1]), ("b", &[2])], 21_200).is_empty());
    assert_eq!(exchange(&mut all, &short("a", 5), 21_300), (sent(&[0, 1]), told(&[0, 1], true)));
    assert_eq!(exchange(&mut all, &short("b", 5), 21_400), (sent(&[2]), told(&[2], false)), "all is done");
    assert_eq!(exchange(&mut all, &short("a", epoch(3)), 21_800), (Beat::Native, Shown::default()));
    assert_eq!(all.epoch("g", "a", epoch(3), 1, at(21_900)), Epoch::Native);
    assert_eq!(all.epoch("g", "a", 5, 1, at(21_900)), Epoch::As(NEW_EPOCH), "a late commit");
}

#[test]
fn nobody_is_told_of_a_partition_that_another_has_not_given_up() {
    let mut all = grown(&[("a", &[0, 1]), ("b", &[2, 3])]);
    assert_eq!(all.beat(&short("a", 5), 1, at(21_000)), Beat::GoOn);
    all.due("g", 1, at(21_000));
    // 1 goes from a to b, 2 from b to a.
    move_to(&mut all, &[("a", &[0, 2]), ("b", &[1, 3])], 21_100);
    assert_eq!(exchange(&mut all, &short("a", 5), 21_200).1, told(&[0, 1], true), "goes on until b is there");
    assert_eq!(exchange(&mut all, &short("b", 5), 24_000).1, told(&[3], true), "both are there: 2 is to be given up");
    assert_eq!(exchange(&mut all, &short("a", epoch(3)), 24_100).1, told(&[0], true));
    // a has committed and given up 1; b has not been heard of since.
    let given_up = short("a", epoch(3)).with_topic_partitions(topics(&[0]));
    assert_eq!(exchange(&mut all, &given_up, 24_200), (sent(&[0]), QUIET), "2 is still b's");
    assert_eq!(exchange(&mut all, &short("b", epoch(3)), 24_500).1, told(&[1, 3], true), "1 is free");
    assert_eq!(exchange(&mut all, &short("a", epoch(3)), 24_600).1, QUIET);
    let given_up = short("b", epoch(3)).with_topic_partitions(topics(&[1, 3]));
    assert_eq!(exchange(&mut all, &given_up, 24_700).1, Shown::default(), "now 2 is free, all is done");
    assert_eq!(exchange(&mut all, &short("a", epoch(3)), 24_800), (sent(&[0]), told(&[0, 2], false)));
    let taken = short("a", epoch(3)).with_topic_partitions(topics(&[0, 2]));
    assert_eq!(exchange(&mut all, &taken, 24_900), (Beat::Native, Shown::default()));
    assert_eq!(exchange(&mut all, &short("a", epoch(3)), 29_800), (Beat::Native, Shown::default()));
}

#[test]
fn a_lost_reply_is_said_again_and_what_was_told_counts_as_had() {
    let mut all = grown(&[("a", &[0]), ("b", &[1])]);
    all.beat(&short("a", 5), 1, at(21_000));
    all.due("g", 1, at(21_000));
    move_to(&mut all, &[("a", &[1]), ("b", &[0])], 21_100);
    for ms in [21_200, 21_300] {
        assert_eq!(exchange(&mut all, &short("a", 5), ms), (sent(&[0]), told(&[0], true)), "by the old epoch again");
    }
    exchange(&mut all, &short("b", 5), 21_400);
    // a was told to give 0 up, but the reply was lost: it comes by its old epoch and still has 0.
    assert_eq!(exchange(&mut all, &short("a", epoch(3)), 21_500).1, told(&[], true));
    assert_eq!(exchange(&mut all, &short("a", 5), 21_600).1, told(&[], true));
    assert_eq!(exchange(&mut all, &short("b", epoch(3)), 21_700).1, told(&[], true), "0 is not free");
}

#[test]
fn an_assignment_is_said_until_it_is_owned_and_asked_for_after_a_lost_reply() {
    let mut all = grown(&[("a", &[0])]);
    let grown = short("a", 5);
    assert_eq!(all.beat(&grown, 0, at(21_000)), Beat::Native);
    // The reply was lost on its way to the proxy, or was never read.
    let Beat::As { epoch: 5, owned, full: Some(full) } = all.beat(&grown, 0, at(22_000)) else { panic!("not asked") };
    assert_eq!(owned, parts(&[0]));
    let mut filled = grown.clone();
    full.fill(&mut filled);
    assert_eq!(filled, super::tests::full("a", 5, &[]).with_topic_partitions(None));
    assert_eq!(all.answered(&grown, "a", 0, ok(5, Some(&[0, 1])), at(22_000)), Shown::default());
    for ms in [23_000, 24_000] {
        assert_eq!(all.beat(&grown, 0, at(ms)), Beat::Native);
        assert_eq!(all.answered(&grown, "a", 0, ok(5, None), at(ms)), told(&[0, 1], false));
    }
    let owns = short("a", 5).with_topic_partitions(topics(&[0, 1]));
    assert_eq!(all.beat(&owns, 0, at(25_000)), Beat::Native);
    assert_eq!(all.answered(&owns, "a", 0, ok(5, None), at(25_000)), Shown::default());
}

#[test]
fn who_is_dead_has_left_or_does_not_give_up_holds_nothing_for_ever() {
    // b: leaves, stays silent, or keeps what it has.
    for case in ["leaves", "silent", "stuck"] {
        let mut all = grown(&[("a", &[0]), ("b", &[1])]);
        all.beat(&short("a", 5), 1, at(21_000));
        all.due("g", 1, at(21_000));
        move_to(&mut all, &[("a", &[0, 1]), ("b", &[])], 21_000);
        assert_eq!(exchange(&mut all, &short("a", 5), 21_100).1, told(&[0], true));
        match case {
            "leaves" => {
                let leave = short("b", -1);
                assert_eq!(all.beat(&leave, 1, at(22_000)), Beat::Native, "the proxy has joined it there");
                assert_eq!(exchange(&mut all, &short("a", epoch(3)), 22_100).1, told(&[0, 1], false));
            }
            "silent" => {
                let late = 20_000 + SESSION.as_millis() as u64;
                assert_eq!(exchange(&mut all, &short("a", epoch(3)), late).1, QUIET);
                assert_eq!(exchange(&mut all, &short("a", epoch(3)), late + 10).1, told(&[0, 1], false));
            }
            _ => {
                exchange(&mut all, &short("b", 5), 21_200);
                for ms in [30_000, 40_000, 50_000] {
                    assert_eq!(exchange(&mut all, &short("b", epoch(3)), ms).1, told(&[], true));
                }
                assert_eq!(all.beat(&short("b", epoch(3)), 1, at(51_300)), Beat::Refuse(FENCED), "30 s are over");
                assert_eq!(exchange(&mut all, &short("a", epoch(3)), 51_400).1, told(&[0, 1], false));
            }
        }
    }
}

#[test]
fn members_that_died_before_the_cutover_are_not_joined_and_those_that_leave_meanwhile_are_sent_after() {
    let mut all = grown(&[("a", &[0]), ("b", &[1]), ("dead", &[2])]);
    let late = 20_000 + SESSION.as_millis() as u64 + 10;
    for member in ["a", "b"] {
        all.answered(&short(member, 5), member, 0, ok(5, None), at(late));
    }
    assert_eq!(all.beat(&short("a", 5), 1, at(late + 100)), Beat::GoOn);
    let due = all.due("g", 1, at(late + 100)).expect("old members");
    assert_eq!(due.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(all.beat(&short("b", -1), 1, at(late + 200)), Beat::Left, "answered here");
    assert_eq!(move_to(&mut all, &[("a", &[0]), ("b", &[1, 2])], late + 300), ["b"]);
    assert_eq!(all.beat(&short("dead", 5), 1, at(late + 400)), Beat::Refuse(FENCED));
    assert_eq!(all.epoch("g", "dead", 5, 1, at(late + 400)), Epoch::Stale);
}

#[test]
fn an_empty_memory_asks_for_all_and_waits_for_the_others() {
    let mut all = Consumers::new(at(0));
    let old = member_epoch_out(3, 7);
    assert_eq!(all.epoch("g", "a", old, 4, at(100)), Epoch::Outside, "nobody can have joined yet");
    assert_eq!(all.epoch("g", "a", 7, 4, at(100)), Epoch::Native, "a classic member's?");
    assert_eq!(all.beat(&short("a", old), 4, at(200)), Beat::Refuse(ASK_FOR_ALL));
    assert_eq!(all.epoch("g", "a", 7, 4, at(200)), Epoch::Outside, "it is not");
    assert_eq!(all.beat(&full("a", old, &[0, 1]), 4, at(300)), Beat::GoOn);
    assert_eq!(all.epoch("g", "a", old, 4, at(300)), Epoch::Outside);
    assert_eq!(all.due("g", 4, at(300)), None, "others may be there that nobody knows");
    assert_eq!(all.beat(&full("b", old, &[2]), 4, at(5000)), Beat::GoOn);
    assert_eq!(all.held("g"), parts(&[0, 1, 2]));
    assert_eq!(all.due("g", 4, at(100) + HEAR_ALL).map(|due| due.len()), Some(2));
    assert_eq!(all.beat(&full("late", old, &[3]), 4, at(7000)), Beat::Refuse(FENCED), "others may have its partitions");
    assert_eq!(all.epoch("g", "a", old, 4, at(7000)), Epoch::Wait);
    assert_eq!(all.epoch("g", "late", old, 4, at(7000)), Epoch::Later);
    // One that says nothing about itself.
    let mut all = Consumers::new(at(0));
    for want in [ASK_FOR_ALL, ASK_FOR_ALL, FENCED] {
        assert_eq!(all.beat(&short("a", old), 4, at(200)), Beat::Refuse(want));
    }
    // Within its own generation a stranger is asked once, so that the next cutover finds it known.
    let mut all = Consumers::new(at(0));
    assert_eq!(all.beat(&short("a", 7), 0, at(200)), Beat::Refuse(ASK_FOR_ALL));
    assert_eq!(all.beat(&short("a", 7), 0, at(300)), Beat::Native);
    assert_eq!(all.beat(&short("b", 7), 0, at(300)), Beat::Refuse(ASK_FOR_ALL));
    assert_eq!(all.beat(&full("b", 7, &[1]), 0, at(400)), Beat::Native);
    assert_eq!(all.answered(&full("b", 7, &[1]), "b", 0, ok(7, Some(&[1])), at(400)), Shown::default());
    assert_eq!(all.beat(&short("b", 7), 0, at(500)), Beat::Native);
}

#[test]
fn who_was_asked_is_waited_for_as_long_again_and_no_longer() {
    let old = member_epoch_out(3, 7);
    let grown = || {
        let mut all = Consumers::new(at(0));
        assert_eq!(all.beat(&full("a", old, &[0]), 4, at(100)), Beat::GoOn);
        assert_eq!(all.beat(&short("b", old), 4, at(5000)), Beat::Refuse(ASK_FOR_ALL));
        assert_eq!(all.due("g", 4, at(100) + HEAR_ALL), None, "it is on its way");
        assert_eq!(all.epoch("g", "a", old, 4, at(9000)), Epoch::Outside);
        all
    };
    let mut all = grown();
    assert_eq!(all.beat(&full("b", old, &[1]), 4, at(9500)), Beat::GoOn);
    assert_eq!(all.due("g", 4, at(9500)).map(|due| due.len()), Some(2));
    let mut all = grown();
    assert_eq!(all.due("g", 4, at(99) + 2 * HEAR_ALL), None);
    assert_eq!(all.due("g", 4, at(100) + 2 * HEAR_ALL).map(|due| due.len()), Some(1), "it has died");
}

#[test]
fn a_second_cutover_in_the_middle_begins_anew_with_what_each_has() {
    let mut all = grown(&[("a", &[0, 1]), ("b", &[2, 3])]);
    all.beat(&short("a", 5), 1, at(21_000));
    all.due("g", 1, at(21_000));
    move_to(&mut all, &[("a", &[0, 2]), ("b", &[1, 3])], 21_100);
    exchange(&mut all, &short("a", 5), 21_200);
    exchange(&mut all, &short("b", 5), 21_300); // told to give up 2
    assert_eq!(all.beat(&short("b", epoch(3)), 2, at(21_400)), Beat::GoOn);
    assert_eq!(all.due("g", 2, at(21_400)).map(|due| due.len()), Some(2));
    assert_eq!(all.held("g"), parts(&[0, 1, 2, 3]), "b may still have 2");
    assert!(move_to(&mut all, &[("a", &[])], 21_500).is_empty(), "what comes late from generation 1 is nothing");
    assert_eq!(all.beat(&short("a", 5), 2, at(21_600)), Beat::GoOn);
}

#[test]
fn whom_the_coordinator_refuses_joins_anew_and_its_partitions_are_free() {
    let mut all = grown(&[("a", &[0]), ("b", &[1])]);
    all.beat(&short("a", 5), 1, at(21_000));
    all.due("g", 1, at(21_000));
    move_to(&mut all, &[("a", &[0, 1])], 21_100);
    assert_eq!(exchange(&mut all, &short("a", 5), 21_200).1, told(&[0], true));
    assert_eq!(all.beat(&short("b", 5), 1, at(21_300)), Beat::Refuse(FENCED), "it could not be joined");
    assert_eq!(exchange(&mut all, &short("a", epoch(3)), 21_400).1, told(&[0, 1], false));
    let join = full("b", 0, &[]);
    assert_eq!(all.beat(&join, 1, at(21_500)), Beat::Native);
    assert_eq!(all.answered(&join, "b", 1, ok(4, Some(&[])), at(21_500)), Shown::default());
    assert_eq!(all.beat(&short("b", epoch(4)), 1, at(22_000)), Beat::Native);
    // One that the coordinator expels.
    let fenced = Answer { code: FENCED, epoch: 0, assignment: None };
    all.answered(&short("b", epoch(4)), "b", 1, fenced, at(23_000));
    assert!(all.member("g", "b").is_some_and(|m| m.gone));
}

#[test]
fn memory_has_limits_and_forgets() {
    let mut all = Consumers::new(at(0));
    let many: Vec<i32> = (0..400_000).collect();
    for member in ["a", "b", "c"] {
        let join = full(member, 0, &[]);
        all.beat(&join, 0, at(1000));
        all.answered(&join, member, 0, ok(5, Some(&many)), at(1000));
    }
    let (groups, members, noted) = all.len();
    assert!(groups == 1 && members == 2 && noted <= MAX_NOTED, "{groups} {members} {noted}");
    let other = full("x", 0, &[]).with_group_id(GroupId("other".into()));
    for seconds in [30, 60, 90] {
        all.answered(&other, "x", 0, ok(1, None), at(seconds * 1000));
    }
    assert_eq!(all.len(), (1, 1, 1), "the silent are forgotten");
}
