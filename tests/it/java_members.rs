//! Classic groups of the Java client, eager and cooperative, three members each, over a switchover and a failover: no error
//! comes to an application, nothing is skipped, and nothing is read again but what was not committed.

use std::time::Duration;

use crate::rig::{PATIENCE, Rig, assert_done};
use crate::support::checker::check;
use crate::support::java_group::JavaGroup;
use crate::support::load::{Load, LoadSpec};
use crate::support::scan;

const MINUTE: Duration = Duration::from_secs(60);
const TOPIC: &str = "t";
/// Kafka's assignors by the kind of their groups.
const KINDS: [(&str, &str); 2] = [
    ("eager", "org.apache.kafka.clients.consumer.RangeAssignor"),
    ("cooperative", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"),
];

#[test]
fn eager_and_cooperative_java_members_go_on_over_a_switchover_and_a_failover() {
    let mut rig = Rig::start_with("sync", |east, spec| {
        east.create_topic(TOPIC, 6, &[]);
        spec.environment.push(("KAFKA_STANDBY_LOG".into(), "info,kafka_standby::groups=debug".into()));
    });
    rig.proxy.wait_in_sync(MINUTE);
    let bootstrap = rig.proxy.bootstrap();
    let load = Load::start(LoadSpec { consumers: 0, records_per_second: 150, ..LoadSpec::new(&bootstrap, TOPIC) });
    let groups = KINDS.map(|(kind, assignor)| {
        let strategy = format!("partition.assignment.strategy={assignor}");
        let properties = [strategy.as_str(), "group.protocol=classic", "auto.commit.interval.ms=1000"];
        (kind, JavaGroup::start(&bootstrap, TOPIC, kind, 3, &properties))
    });
    groups.iter().for_each(|(_, group)| group.wait_for(500, 3 * MINUTE)); // a Java source is compiled first
    rig.switch();
    load.wait_for_more(1500, MINUTE);
    let repeats_before = groups.each_ref().map(|(_, group)| repeats(group));
    assert_eq!(repeats_before, [0, 0], "a switchover");
    rig.proxy.wait_switchable(MINUTE);
    rig.west.kill();
    assert_done(&rig.proxy.failover());
    load.wait_for_more(1500, MINUTE);
    let outcome = load.finish(MINUTE);
    outcome.assert_no_errors(TOPIC);
    let mut history = outcome.history;
    history.stored = Some(scan::numbered(&bootstrap, TOPIC, PATIENCE).expect("a scan"));
    for (kind, group) in groups {
        group.wait_for(history.acknowledged.len(), PATIENCE);
        let said = group.finish();
        assert!(said.errors.is_empty(), "{kind}: {:#?}", said.errors);
        let mut verdict = check(&history.clone().read_by_others(said.records));
        eprintln!("{kind}: {verdict}");
        // A commit that the dying cluster kept to itself: what came since the one before, a second ago, is read again.
        assert!(verdict.repeated.len() <= 600, "{kind}: {verdict}");
        verdict.repeated.clear();
        assert!(verdict.is_clean(), "{kind}: {verdict}{} {:#?}", verdict.examples(), said.notices);
    }
}

fn repeats(group: &JavaGroup) -> usize {
    let records = group.said().records;
    let once: std::collections::HashSet<_> = records.iter().map(|seen| (seen.partition, seen.offset)).collect();
    records.len() - once.len()
}
