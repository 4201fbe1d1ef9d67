//! KIP-848 consumer groups over a cutover: members go on without an error, a gap or a repeat, on both ways.

use std::time::Duration;

use crate::rig::{PATIENCE, Rig, assert_done};
use crate::support::checker::{History, Verdict, check};
use crate::support::java_group::JavaGroup;
use crate::support::load::{Commit, Load, LoadSpec, Outcome};
use crate::support::proxy::ProxySpec;
use crate::support::scan;
use crate::support::shared::repetitions;
use crate::support::wait::wait_until;

const MINUTE: Duration = Duration::from_secs(60);
/// A Java source is compiled first, on a busy machine.
const JAVA_START: Duration = Duration::from_secs(180);
const TOPIC: &str = "t";

fn rig(topics: &[&str]) -> Rig {
    let rig = Rig::start_with("sync", |east, spec| {
        topics.iter().for_each(|topic| east.create_topic(topic, 6, &[]));
        verbose(spec);
    });
    rig.proxy.wait_in_sync(MINUTE);
    rig
}

/// What became of members is part of a failed test's report.
fn verbose(spec: &mut ProxySpec) {
    spec.environment.push(("KAFKA_STANDBY_LOG".into(), "info,kafka_standby::groups=debug".into()));
}

/// Three librdkafka consumers in one group, by the new protocol, with producers.
fn group_of_three(rig: &Rig, topic: &str, commit: Commit, more: &[(&str, &str)]) -> Load {
    let spec = LoadSpec { consumers: 3, commit, ..LoadSpec::new(&rig.proxy.bootstrap(), topic) };
    let protocol = [("group.protocol", "consumer")];
    let consumer_config = protocol.iter().chain(more).map(|(k, v)| ((*k).into(), (*v).into())).collect();
    Load::start(LoadSpec { consumer_config, ..spec })
}

/// Three Java consumers in one group, by the new protocol.
fn java_group(rig: &Rig, topic: &str, more: &[&str]) -> JavaGroup {
    let properties: Vec<&str> = ["group.protocol=consumer"].iter().chain(more).copied().collect();
    JavaGroup::start(&rig.proxy.bootstrap(), topic, "java", 3, &properties)
}

fn judge(rig: &Rig, who: &str, topic: &str, mut history: History) -> Verdict {
    history.stored = Some(scan::numbered(&rig.proxy.bootstrap(), topic, PATIENCE).expect("a scan"));
    let verdict = check(&history);
    eprintln!("{who} {topic}: {verdict}");
    verdict
}

fn judge_load(rig: &Rig, topic: &str, outcome: Outcome) -> Verdict {
    eprintln!("{topic}: {:?} {:?}", outcome.longest_consumer_stall, outcome.notices);
    outcome.assert_no_errors(topic);
    judge(rig, "librdkafka", topic, outcome.history)
}

/// What the Java members read, judged against what a load wrote.
fn judge_java(rig: &Rig, topic: &str, history: History, group: JavaGroup) -> Verdict {
    group.wait_for(history.acknowledged.len(), MINUTE);
    let said = group.finish();
    eprintln!("java: {:#?}", said.notices);
    assert!(said.errors.is_empty(), "{:#?}", said.errors);
    judge(rig, "java", topic, history.read_by_others(said.records))
}

/// Waits until this many groups have been moved in all.
fn wait_joined(rig: &Rig, moved: usize) {
    wait_until("the members to be joined", MINUTE, || rig.proxy.log().matches("members joined").count() >= moved);
}

#[test]
fn members_of_several_groups_go_on_over_switchovers() {
    let topics = [("by-itself", Commit::Auto(Duration::from_secs(1))), ("by-hand", Commit::Manual)];
    let rig = rig(&topics.map(|(topic, _)| topic));
    let loads = topics.map(|(topic, commit)| (topic, group_of_three(&rig, topic, commit, &[])));
    for round in 0..repetitions(2, 3) {
        loads.iter().for_each(|(_, load)| load.wait_for_more(1500, MINUTE));
        loads.iter().for_each(|(_, load)| load.open_window());
        let report = rig.switch();
        loads.iter().for_each(|(_, load)| load.wait_for_more(repetitions(5000, 8000) as u64, MINUTE));
        let gaps: Vec<_> = loads.iter().map(|(_, load)| load.window().1).collect();
        eprintln!("round {round}: held {} ms, {gaps:?}", report["hold_ms"]);
    }
    for (topic, load) in loads {
        judge_load(&rig, topic, load.finish(MINUTE)).assert_clean(topic);
    }
}

/// A switchover, and then a failover with the active cluster killed.
#[test]
fn java_and_librdkafka_members_go_on_over_a_switchover_and_a_failover() {
    let mut rig = rig(&[TOPIC]);
    let load = group_of_three(&rig, TOPIC, Commit::Auto(Duration::from_secs(1)), &[]);
    let java = java_group(&rig, TOPIC, &["auto.commit.interval.ms=1000"]);
    java.wait_for(3000, JAVA_START);
    rig.switch();
    load.wait_for_more(repetitions(6000, 10_000) as u64, MINUTE);
    rig.proxy.wait_switchable(MINUTE);
    rig.west.kill();
    assert_done(&rig.proxy.failover());
    load.wait_for_more(repetitions(6000, 10_000) as u64, MINUTE);
    let outcome = load.finish(MINUTE);
    let written = outcome.history.clone();
    judge_load(&rig, TOPIC, outcome).assert_clean("librdkafka");
    judge_java(&rig, TOPIC, written, java).assert_clean("java");
}

/// A switchover, and in the long form a failover with the active cluster killed, each followed at once by the end of the proxy: the next one
/// knows no member. What was committed is not read again, and no more than that can be asked for: a member of which the next
/// proxy does not hear in time joins anew.
#[test]
fn members_go_on_when_the_proxy_is_replaced_in_between() {
    let mut rig = rig(&[TOPIC]);
    let load = group_of_three(&rig, TOPIC, Commit::Auto(Duration::from_secs(1)), &[]);
    let java = java_group(&rig, TOPIC, &["auto.commit.interval.ms=1000"]);
    java.wait_for(3000, JAVA_START);
    rig.switch();
    rig.proxy.restart();
    let more = repetitions(2000, 20_000) as u64;
    wait_joined(&rig, 2);
    load.wait_for_more(more, MINUTE);
    for failover in 1..=repetitions(0, 1) {
        rig.proxy.wait_switchable(MINUTE);
        rig.west.kill();
        assert_done(&rig.proxy.failover());
        rig.proxy.restart();
        wait_joined(&rig, 2 * (failover + 1));
        load.wait_for_more(more, MINUTE);
    }
    let outcome = load.finish(MINUTE);
    let written = outcome.history.clone();
    for verdict in [judge_load(&rig, TOPIC, outcome), judge_java(&rig, TOPIC, written, java)] {
        let bounded = verdict.repeated.len() < 2 * 1000;
        assert!(verdict.is_at_least_once() && bounded, "{verdict}{}", verdict.examples());
    }
}
