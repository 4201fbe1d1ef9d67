//! Static members (KIP-345) of both group protocols over a switchover and a failover: nobody is fenced, nothing is skipped
//! or read twice.

use std::time::Duration;

use crate::rig::{PATIENCE, Rig, assert_done};
use crate::support::checker::check;
use crate::support::java_group::JavaGroup;
use crate::support::load::{Commit, Load, LoadSpec};
use crate::support::scan;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn static_members_keep_their_place_over_a_switchover_and_a_failover() {
    let topics = [("classic", "group.protocol"), ("consumer", "group.protocol")];
    let mut rig = Rig::start_with("sync", |east, spec| {
        topics.iter().for_each(|(topic, _)| east.create_topic(topic, 6, &[]));
        spec.environment.push(("KAFKA_STANDBY_LOG".into(), "info,kafka_standby::groups=debug".into()));
    });
    rig.proxy.wait_in_sync(MINUTE);
    let loads = topics.map(|(topic, key)| {
        let instance = ("group.instance.id".to_owned(), "member-{n}".to_owned());
        let spec = LoadSpec {
            // What counts is the members, not the load.
            producers: vec!["lz4".into()],
            records_per_second: 150,
            consumers: 3,
            commit: Commit::Auto(Duration::from_secs(1)),
            consumer_config: vec![(key.to_owned(), topic.to_owned()), instance],
            ..LoadSpec::new(&rig.proxy.bootstrap(), topic)
        };
        (topic, Load::start(spec))
    });
    // Named after its topic, each protocol has a group of Java members too.
    let bootstrap = rig.proxy.bootstrap();
    let groups = topics.map(|(topic, key)| {
        let protocol = format!("{key}={topic}");
        let properties = [protocol.as_str(), "group.instance.id=java-{n}", "auto.commit.interval.ms=1000"];
        JavaGroup::start(&bootstrap, topic, &format!("java-{topic}"), 2, &properties)
    });
    groups.iter().for_each(|group| group.wait_for(500, 3 * MINUTE)); // a Java source is compiled first
    rig.switch();
    loads.iter().for_each(|(_, load)| load.wait_for_more(900, MINUTE));
    rig.proxy.wait_switchable(MINUTE);
    rig.west.kill();
    assert_done(&rig.proxy.failover());
    loads.iter().for_each(|(_, load)| load.wait_for_more(900, MINUTE));
    for ((topic, load), group) in loads.into_iter().zip(groups) {
        let outcome = load.finish(MINUTE);
        eprintln!("{topic}: {:?} {:?}", outcome.longest_consumer_stall, outcome.notices);
        outcome.assert_no_errors(topic);
        let mut history = outcome.history;
        group.wait_for(history.acknowledged.len(), PATIENCE);
        let said = group.finish();
        assert!(said.errors.is_empty(), "{:#?}", said.errors);
        history.stored = Some(scan::numbered(&bootstrap, topic, PATIENCE).expect("a scan"));
        let java = history.clone().read_by_others(said.records);
        for (who, history) in [("librdkafka", history), ("java", java)] {
            let mut verdict = check(&history);
            eprintln!("{who} {topic}: {verdict}");
            // A classic member whose commit the dying cluster kept may go back to the one before, a second ago.
            if topic == "classic" {
                assert!(verdict.repeated.len() <= 300, "{who} {topic}: {verdict}");
                verdict.repeated.clear();
            }
            assert!(verdict.is_clean(), "{who} {topic}: {verdict}{} {:#?}", verdict.examples(), said.notices);
        }
    }
}
