use super::memory::{DEFAULT_SESSION, KEEP, SWEEP_EVERY};
use super::*;

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(30);

fn at(ms: u64) -> At {
    Duration::from_millis(ms)
}

fn who(member: &str, generation: Generation) -> Who<'_> {
    Who { group: "g", member, generation }
}

fn joined(instance: Option<&str>) -> Joined<'_> {
    Joined { instance, session: SESSION, complete: true }
}

/// A memory old enough to be complete, in which `members` joined under generation 0 at 20 s, heard last at 30 s.
fn grown(members: &[&str]) -> Members {
    let mut all = Members::new(at(0));
    for member in members {
        all.joined(who(member, 0), joined(None), at(20_000));
        all.alive(who(member, 0), at(30_000));
    }
    all
}

fn beat(all: &mut Members, member: &str, generation: Generation, ms: u64) -> Beat {
    match all.beat(who(member, generation), at(ms), at(ms)) {
        Beat::Wait(_) => {
            all.waiting(who(member, generation), true);
            all.beat(who(member, generation), at(ms), at(ms))
        }
        told => told,
    }
}

fn join(all: &mut Members, member: &str, generation: Generation, ms: u64) -> (Join, Option<At>) {
    let rule = all.join(who(member, generation), None, REBALANCE, at(ms));
    (rule, all.hold("g", generation, at(ms)))
}

#[test]
fn nothing_is_held_or_changed_within_a_generation() {
    let mut all = grown(&["a", "b"]);
    assert_eq!(beat(&mut all, "a", 0, 31_000), Beat::Native);
    assert_eq!(all.commit(who("a", 0), &[], at(31_000)), Commit::Native);
    assert!(!all.sync(who("a", 0), at(31_000)));
    assert_eq!(join(&mut all, "a", 0, 31_000), (Join::Native, None));
    assert_eq!(join(&mut all, "", 0, 31_000), (Join::Fresh, None));
    assert!(!all.leave("g", [("a", None)].into_iter(), 0, at(31_000)));
}

#[test]
fn several_members_are_called_together_commit_and_then_join() {
    let mut all = grown(&["a", "b", "c"]);
    // All of them go on reading until the last one's heartbeat.
    assert_eq!(beat(&mut all, "a", 1, 40_000), Beat::Wait(at(40_000) + SESSION / 3));
    assert_eq!(all.commit(who("b", 1), &[], at(40_500)), Commit::Simple, "b does not know of anything yet");
    assert_eq!(beat(&mut all, "b", 1, 41_000), Beat::Wait(at(41_000) + SESSION / 3));
    assert_eq!(beat(&mut all, "c", 1, 42_000), Beat::Rebalance);
    assert_eq!(all.beat(who("a", 1), at(40_000), at(42_000)), Beat::Rebalance);
    // The last to be expected decides; each may commit until then.
    assert_eq!(join(&mut all, "a", 1, 42_100), (Join::Rehome, Some(at(52_000))));
    assert_eq!(join(&mut all, "", 1, 42_200), (Join::Fresh, Some(at(52_000))), "a new member waits too");
    assert_eq!(join(&mut all, "b", 1, 42_300), (Join::Rehome, Some(at(52_000))));
    assert_eq!(all.commit(who("c", 1), &[], at(42_400)), Commit::Simple);
    assert_eq!(all.commit(who("a", 1), &[], at(42_400)), Commit::Simple);
    assert_eq!(join(&mut all, "c", 1, 42_500), (Join::Rehome, None));
    assert_eq!(all.hold("g", 1, at(42_500)), None, "now everyone goes on");
    // What still comes by the old id is told to rejoin, never refused in a way that drops its position.
    assert_eq!(all.commit(who("a", 1), &[], at(42_600)), Commit::Rebalance);
    assert!(all.sync(who("a", 1), at(42_600)));
    assert_eq!(beat(&mut all, "a", 1, 42_600), Beat::Rebalance);
    all.joined(who("a1", 1), joined(None), at(42_700));
    assert_eq!(beat(&mut all, "a1", 1, 42_800), Beat::Native);
    assert_eq!(all.commit(who("a1", 1), &[], at(42_800)), Commit::Native);
}

#[test]
fn joins_that_the_new_cluster_lost_wait_for_each_other_once_more() {
    let mut all = grown(&["a", "b", "c"]);
    for (member, ms) in [("a", 40_000), ("b", 40_001), ("c", 40_002)] {
        join(&mut all, member, 1, ms);
    }
    assert_eq!(all.hold("g", 1, at(40_002)), None, "they go on, and the cluster dies; only c has got its reply");
    all.joined(who("c1", 1), joined(None), at(40_010));
    all.replaced(who("c", 1));
    assert_eq!(join(&mut all, "b", 1, 42_000), (Join::Rehome, Some(at(42_000) + GATHER)), "not without a");
    assert_eq!(all.commit(who("a", 1), &[("t", 0, 5)], at(42_100)), Commit::Simple, "whose place still counts");
    assert_eq!(join(&mut all, "a", 1, 43_000), (Join::Rehome, None));
    assert_eq!(join(&mut all, "b", 1, 50_000), (Join::Rehome, Some(at(50_000) + GATHER)), "and again");
    assert_eq!(all.hold("g", 1, at(50_000) + GATHER), None, "a does not come");
}

#[test]
fn a_heartbeat_is_not_held_longer_than_the_client_bears() {
    let mut all = grown(&["a", "b"]);
    assert_eq!(beat(&mut all, "a", 1, 40_000), Beat::Wait(at(40_000) + SESSION / 3));
    assert_eq!(all.beat(who("a", 1), at(40_000), at(43_400)), Beat::GoOn, "b may still come");
    all.waiting(who("a", 1), false);
    assert_eq!(beat(&mut all, "b", 1, 44_000), Beat::Wait(at(45_000)), "a's is not held any more");
    assert_eq!(all.beat(who("b", 1), at(44_000), at(45_000)), Beat::Rebalance, "time is up");
    assert_eq!(beat(&mut all, "a", 1, 46_000), Beat::Rebalance);
}

#[test]
fn one_that_never_comes_is_waited_for_as_long_as_its_session_or_the_rebalance() {
    // (rebalance timeout s, c heartbeats at s: its session starts anew, go at s)
    for (rebalance, heard, go) in
        [(30, None, 50), (4, None, 45), (30, Some(45), 55), (30, Some(49), 59), (90, Some(45), 55)]
    {
        let mut all = grown(&["a", "c"]);
        assert!(matches!(beat(&mut all, "a", 1, 40_000), Beat::Wait(_)));
        let limit = Duration::from_secs(rebalance);
        assert_eq!(all.join(who("a", 1), None, limit, at(41_000)), Join::Rehome);
        if let Some(heard) = heard {
            assert_eq!(beat(&mut all, "c", 1, heard * 1000), Beat::Rebalance, "someone waits already");
        }
        assert_eq!(all.hold("g", 1, at(go * 1000 - 1)), Some(at(go * 1000)), "{rebalance} {heard:?}");
        assert_eq!(all.hold("g", 1, at(go * 1000)), None, "{rebalance} {heard:?}");
        assert_eq!(all.commit(who("c", 1), &[], at(go * 1000 + 1)), Commit::Simple, "the coordinator decides");
        assert_eq!(join(&mut all, "c", 1, go * 1000 + 2), (Join::Rehome, None), "late, never held");
        assert_eq!(join(&mut all, "", 1, go * 1000 + 3), (Join::Fresh, None));
    }
}

#[test]
fn the_hold_has_a_cap_of_its_own() {
    let mut all = Members::new(at(0));
    for member in ["a", "b"] {
        let patient = Joined { session: Duration::from_secs(600), ..joined(None) };
        all.joined(who(member, 0), patient, at(20_000));
    }
    assert_eq!(all.join(who("a", 1), None, Duration::from_secs(300), at(40_000)), Join::Rehome);
    assert_eq!(all.hold("g", 1, at(40_000)), Some(at(40_000) + MAX_HOLD));
}

#[test]
fn who_has_left_or_was_silent_before_the_cutover_is_not_waited_for() {
    let mut all = grown(&["a", "b", "silent"]);
    for ms in [31_000, 36_000, 41_000] {
        all.alive(who("a", 0), at(ms));
        all.alive(who("b", 0), at(ms));
    }
    assert!(matches!(beat(&mut all, "a", 1, 42_000), Beat::Wait(_)));
    assert!(all.leave("g", [("b", None)].into_iter(), 1, at(42_100)), "answered here: the cluster never knew b");
    assert_eq!(all.beat(who("a", 1), at(42_000), at(42_100)), Beat::Rebalance);
    assert_eq!(join(&mut all, "a", 1, 42_200), (Join::Rehome, None));
    assert_eq!(beat(&mut all, "silent", 1, 43_000), Beat::Native, "its session was over before");
    assert_eq!(all.commit(who("silent", 1), &[], at(43_000)), Commit::Native);
    assert!(!all.leave("g", [("b", None), ("a1", None)].into_iter(), 1, at(44_000)), "a1 is the cluster's");
    assert!(!all.leave("g", [].into_iter(), 1, at(44_000)));
}

#[test]
fn silence_of_the_cluster_itself_is_not_a_members_fault() {
    // The active cluster died at 30 s; the failover comes 10 minutes later.
    let mut all = grown(&["a", "b"]);
    let late = 630_000;
    assert!(matches!(beat(&mut all, "a", 1, late), Beat::Wait(_)), "b is still waited for");
    assert_eq!(beat(&mut all, "b", 1, late + 50), Beat::Rebalance);
    assert_eq!(join(&mut all, "a", 1, late + 100), (Join::Rehome, Some(at(late + 50) + SESSION)));
    assert_eq!(join(&mut all, "b", 1, late + 120), (Join::Rehome, None));
}

#[test]
fn a_static_member_started_anew_stands_for_its_former_self() {
    let mut all = Members::new(at(0));
    all.joined(who("s-1", 0), joined(Some("s")), at(10_000));
    all.joined(who("t-1", 0), joined(Some("t")), at(10_000));
    all.joined(who("t-2", 0), joined(Some("t")), at(20_000));
    assert!(!all.is_old(who("t-1", 1)), "replaced by t-2");
    assert_eq!(all.join(who("", 1), Some("s"), REBALANCE, at(25_000)), Join::Fresh);
    assert_eq!(all.hold("g", 1, at(25_000)), Some(at(35_000)), "t-2 is to come");
    assert!(all.leave("g", [("", Some("t"))].into_iter(), 1, at(25_100)), "an administrator removes t");
    assert_eq!(all.hold("g", 1, at(25_100)), None);
}

#[test]
fn cutovers_may_follow_each_other_while_members_are_on_the_way() {
    let mut all = grown(&["a", "b", "c"]);
    assert_eq!(join(&mut all, "a", 1, 40_000), (Join::Rehome, Some(at(50_000))));
    all.joined(who("n", 1), Joined { complete: false, ..joined(None) }, at(40_500));
    // Generation 2: a's request is still held and comes again; b and c have not been heard of since generation 0.
    assert_eq!(join(&mut all, "a", 2, 41_000), (Join::Rehome, Some(at(51_000))));
    assert_eq!(beat(&mut all, "b", 2, 41_500), Beat::Rebalance);
    assert_eq!(all.commit(who("b", 2), &[], at(41_600)), Commit::Simple);
    assert_eq!(
        join(&mut all, "n", 2, 41_700),
        (Join::Rehome, Some(at(51_600))),
        "its id was given by the other cluster"
    );
    assert_eq!(join(&mut all, "b", 2, 41_800).1, Some(at(51_000)));
    assert_eq!(join(&mut all, "c", 2, 42_000), (Join::Rehome, None));
    all.joined(who("a2", 2), joined(None), at(42_100));
    all.replaced(who("a", 2));
    // Generation 3: a goes on as a2; b, c and n had not got into generation 2, and a cooperative one holds its partitions.
    assert!(matches!(beat(&mut all, "a2", 3, 43_000), Beat::Wait(_)));
    assert_eq!(beat(&mut all, "a", 3, 43_100), Beat::Rebalance);
    assert_eq!(join(&mut all, "b", 3, 43_200), (Join::Rehome, Some(at(53_000))), "a2 is to come");
    assert_eq!(beat(&mut all, "a2", 3, 43_300), Beat::Rebalance);
    assert_eq!(join(&mut all, "a2", 3, 43_400), (Join::Rehome, Some(at(48_000))), "c and n come soon or never");
    assert_eq!(join(&mut all, "c", 3, 43_500), (Join::Rehome, Some(at(48_000))));
    assert_eq!(join(&mut all, "n", 3, 43_600), (Join::Rehome, None));
}

#[test]
fn an_empty_memory_takes_strangers_for_members_of_before() {
    let mut all = Members::new(at(0));
    assert_eq!(beat(&mut all, "a", 4, 1000), Beat::Native);
    assert!(all.adopt(who("a", 4), Met::Heartbeat, at(1010)), "the cluster said that it does not know a");
    assert!(all.adopt(who("a", 4), Met::Other, at(1020)), "two requests were on their way");
    assert!(!all.is_outside(who("a", 4)));
    assert_eq!(all.commit(who("a", 4), &[], at(1030)), Commit::Simple);
    assert!(all.is_outside(who("a", 4)));
    assert_eq!(beat(&mut all, "a", 4, 4000), Beat::Wait(at(6010)), "others may be there that nobody knows");
    assert!(all.adopt(who("b", 4), Met::Join, at(4500)));
    assert_eq!(
        join(&mut all, "", 4, 4600),
        (Join::Fresh, Some(at(16_010).max(at(4000) + DEFAULT_SESSION).min(at(4600) + REBALANCE)))
    );
    assert_eq!(all.beat(who("a", 4), at(4000), at(4600)), Beat::Rebalance, "b waits");
    assert_eq!(join(&mut all, "a", 4, 4700), (Join::Rehome, Some(at(6010))));
    assert_eq!(all.hold("g", 4, at(6010)), None);
    assert!(!all.adopt(who("zombie", 4), Met::Heartbeat, at(1000) + ADOPT_WITHIN + at(1)), "expelled long ago");
    assert!(
        !Members::new(at(0)).adopt(who("x", 0), Met::Heartbeat, at(10)),
        "there was no generation before the first"
    );
}

#[test]
fn a_process_that_comes_after_a_cutover_lets_nobody_join_before_others_can_be_heard_of() {
    let mut all = Members::new(at(0));
    assert_eq!(join(&mut all, "", 4, 100), (Join::Fresh, Some(at(0) + GATHER)));
    assert_eq!(join(&mut all, "given-by-the-new-cluster", 4, 200), (Join::Fresh, Some(at(0) + GATHER)));
    assert_eq!(all.hold("g", 4, at(0) + GATHER), None);
    assert_eq!(join(&mut all, "late", 4, 5001).0, Join::Native);
    // Where the new cluster knows a member the group is at home.
    let mut all = Members::new(at(0));
    all.alive(who("a", 4), at(50));
    assert_eq!(join(&mut all, "b", 4, 100).0, Join::Native);
    assert_eq!(all.hold("g", 4, at(100)), None);
    let mut all = Members::new(at(0));
    assert_eq!(join(&mut all, "a", 0, 100).0, Join::Native, "there was no cutover");
}

#[test]
fn a_stranger_that_commits_has_its_next_heartbeat_answered_at_once() {
    let mut all = Members::new(at(0));
    assert!(all.adopt(who("a", 4), Met::Other, at(1000)));
    assert_eq!(beat(&mut all, "a", 4, 1500), Beat::GoOn);
    assert_eq!(beat(&mut all, "a", 4, 4500), Beat::Wait(at(6000)));
}

#[test]
fn who_the_cluster_expelled_in_this_generation_is_no_stranger() {
    let mut all = grown(&["a"]);
    all.joined(who("a1", 1), joined(None), at(40_000));
    all.expelled(who("a1", 1), at(50_000));
    assert!(!all.adopt(who("a1", 1), Met::Heartbeat, at(50_010)));
    assert_eq!(beat(&mut all, "a1", 1, 50_020), Beat::Native);
    // Silence alone does the same.
    all.joined(who("b1", 1), joined(None), at(40_000));
    all.joined(who("c1", 1), joined(None), at(99_000));
    assert!(!all.adopt(who("b1", 1), Met::Heartbeat, at(99_010)));
}

#[test]
fn a_memory_that_was_young_at_the_cutover_waits_for_those_it_may_lack() {
    let mut all = Members::new(at(0));
    all.alive(who("a", 0), at(1000));
    assert_eq!(beat(&mut all, "a", 1, 2000), Beat::Wait(at(2000) + GATHER));
    assert_eq!(all.beat(who("a", 1), at(2000), at(2000) + GATHER), Beat::Rebalance);
}

#[test]
fn memory_has_limits_and_forgets() {
    let mut all = Members::new(at(0));
    let names: Vec<String> = (0..MAX_MEMBERS + 5).map(|i| format!("m{i}")).collect();
    for name in &names {
        all.joined(who(name, 0), joined(None), at(1000));
    }
    assert_eq!(all.len(), (1, MAX_MEMBERS));
    all.alive(Who { group: "other", member: "x", generation: 0 }, at(1500));
    assert_eq!(all.len(), (1, MAX_MEMBERS), "no room for another group either");
    all.alive(who("m0", 0), at(1000) + SESSION + SWEEP_EVERY); // the others turn into tombstones
    all.alive(who("m0", 0), at(1000) + KEEP + SWEEP_EVERY + at(1));
    assert_eq!(all.len(), (1, 1));

    let mut all = Members::new(at(0));
    for name in &names[..MAX_GROUPS + 5] {
        all.joined(Who { group: name, member: "m", generation: 0 }, joined(None), at(1000));
    }
    assert_eq!(all.len(), (MAX_GROUPS, MAX_GROUPS));
}

#[test]
fn a_commit_that_comes_again_behind_a_later_one_is_refused_until_all_have_joined() {
    let mut all = grown(&["a", "b"]);
    let (early, late) = ([("t", 0, 10), ("t", 1, 10)], [("t", 0, 10), ("t", 1, 12)]);
    assert_eq!(all.commit(who("a", 1), &early, at(40_000)), Commit::Simple);
    assert_eq!(all.commit(who("a", 1), &late, at(40_100)), Commit::Simple);
    assert_eq!(all.commit(who("a", 1), &late, at(40_100)), Commit::Simple, "the same again does no harm");
    assert_eq!(all.commit(who("a", 1), &early, at(40_200)), Commit::Rebalance);
    assert_eq!(all.commit(who("b", 1), &[("t", 1, 11)], at(40_200)), Commit::Rebalance, "nor by who had it before");
    assert_eq!(all.commit(who("b", 1), &[("u", 1, 3)], at(40_300)), Commit::Simple);
    assert_eq!(join(&mut all, "a", 1, 40_400).0, Join::Rehome);
    assert_eq!(all.commit(who("a", 1), &early, at(40_500)), Commit::Rebalance, "on its way while its sender joins");
    join(&mut all, "b", 1, 40_600);
    // The next cutover starts anew: what is committed there is another matter.
    all.joined(who("a1", 1), joined(None), at(41_000));
    assert_eq!(all.commit(who("a1", 2), &early, at(50_000)), Commit::Simple);
}

#[test]
fn positions_beyond_the_limit_are_not_compared() {
    let mut all = grown(&["a"]);
    let many: Vec<_> = (0..MAX_POSITIONS as i32 + 1).map(|p| ("t", p, 10)).collect();
    assert_eq!(all.commit(who("a", 1), &many, at(40_000)), Commit::Simple);
    assert_eq!(all.commit(who("a", 1), &[("t", 0, 9)], at(40_000)), Commit::Rebalance);
    assert_eq!(all.commit(who("a", 1), &[("t", MAX_POSITIONS as i32, 9)], at(40_000)), Commit::Simple);
    join(&mut all, "a", 1, 40_100);
    all.joined(who("a1", 1), joined(None), at(41_000));
    assert_eq!(all.commit(who("a1", 2), &many, at(50_000)), Commit::Simple);
    assert_eq!(all.commit(who("a1", 2), &[("t", 0, 9)], at(50_000)), Commit::Rebalance, "there is room again");
}

#[test]
fn ids_by_which_nobody_joined_are_told_once_and_only_to_the_next_generation() {
    let mut all = Members::new(at(0));
    let given = Joined { complete: false, ..joined(None) };
    for (member, generation) in [("early", 0), ("late", 1), ("joined", 1)] {
        all.joined(who(member, generation), given, at(1000));
    }
    all.joined(who("joined", 1), joined(None), at(1100));
    assert_eq!(all.take_unjoined(1), [("g".to_owned(), vec!["early".to_owned()])]);
    assert_eq!(all.take_unjoined(2), [("g".to_owned(), vec!["late".to_owned()])]);
    assert_eq!(all.take_unjoined(2), []);
}

#[test]
fn a_group_settles_for_a_while() {
    let mut all = grown(&["a"]);
    assert!(!all.is_settling("g", 0, at(40_000)), "nobody was re-homed");
    join(&mut all, "a", 1, 40_000);
    assert!(all.is_settling("g", 1, at(40_000)) && !all.is_settling("g", 1, at(40_000) + SETTLE));
}
