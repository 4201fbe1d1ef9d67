//! Clients ride through cutovers under load: nothing acknowledged is lost, repeated, skipped or out of order, and no
//! error reaches an application.

use crate::rig::{PATIENCE, Rig, assert_done};
use crate::support::load::{Load, LoadSpec};
use crate::support::shared::repetitions;

const TOPIC: &str = "orders";
/// Records through producers and consumers before and after each cutover.
const SOME: u64 = 1500;

/// Six partitions, two idempotent producers with a codec each, 1 KB records, a group of two.
#[test]
fn a_switchover_under_load_costs_no_record() {
    for _ in 0..repetitions(1, 10) {
        let rig = Rig::start_with("sync", |east, _| east.create_topic(TOPIC, 6, &[]));
        let load = Load::start(LoadSpec::new(&rig.proxy.bootstrap(), TOPIC));
        load.wait_for_more(SOME, PATIENCE);
        let report = rig.switch();
        assert_eq!((&report["from"], &report["to"]), (&"east".into(), &"west".into()));
        load.wait_for_more(SOME, PATIENCE);
        let outcome = load.finish(PATIENCE);
        let stalls = (outcome.longest_producer_stall, outcome.longest_consumer_stall);
        let verdict = rig.judge(TOPIC, outcome, "after the switchover");
        println!("switchover: {verdict} hold_ms={} stalls={stalls:?}", report["hold_ms"]);
        assert!(verdict.acknowledged as u64 >= 2 * SOME, "{verdict}");
        rig.assert_equal();
    }
}

/// The whole active cluster dies by SIGKILL. What was acknowledged is on the standby, since topics are teed synchronously.
#[test]
fn a_failover_from_a_killed_cluster_costs_no_record() {
    for _ in 0..repetitions(1, 10) {
        let mut rig = Rig::start_with("sync", |east, _| east.create_topic(TOPIC, 6, &[]));
        let load = Load::start(LoadSpec::new(&rig.proxy.bootstrap(), TOPIC));
        load.wait_for_more(SOME, PATIENCE);
        rig.proxy.wait_status("the standby to be in sync", PATIENCE, |s| s["standby_in_sync"] == true);
        rig.east.kill();
        let report = rig.proxy.failover();
        assert_done(&report);
        assert_eq!(report["to"], "west", "{report:#}");
        load.wait_for_more(SOME, PATIENCE);

        // The old cluster comes back as the standby: what it alone has is masked, the rest is copied to it.
        rig.east.restart();
        load.wait_for_more(SOME, PATIENCE);
        let outcome = load.finish(PATIENCE);
        let stalls = (outcome.longest_producer_stall, outcome.longest_consumer_stall);
        let verdict = rig.judge(TOPIC, outcome, "after the failover");
        println!("failover: {verdict} hold_ms={} stalls={stalls:?}", report["hold_ms"]);
        assert!(verdict.acknowledged as u64 >= 3 * SOME, "{verdict}");
        rig.assert_equal();
    }
}

/// To and fro, with a group of three eager members (range) and one of three cooperative members: each switchover needs
/// the reverse streams that the one before started by itself.
#[test]
fn switchovers_in_a_row_under_load_cost_no_record() {
    let rig = Rig::start_with("sync", |east, _| {
        for topic in ["range", "cooperative-sticky"] {
            east.create_topic(topic, 6, &[]);
        }
    });
    let loads = ["range", "cooperative-sticky"].map(|assignor| {
        let spec = LoadSpec::new(&rig.proxy.bootstrap(), assignor);
        let strategy = ("partition.assignment.strategy".into(), assignor.into());
        Load::start(LoadSpec { consumers: 3, records_per_second: 300, consumer_config: vec![strategy], ..spec })
    });
    loads.iter().for_each(|load| load.wait_for_more(300, PATIENCE));
    let times = repetitions(3, 10);
    for n in 0..times {
        let report = rig.switch();
        println!("switchover {n}: hold_ms={}", report["hold_ms"]);
        loads.iter().for_each(|load| load.wait_for_more(400, PATIENCE));
    }
    for (load, topic) in loads.into_iter().zip(["range", "cooperative-sticky"]) {
        let outcome = load.finish(PATIENCE);
        let stalls = (outcome.longest_producer_stall, outcome.longest_consumer_stall);
        let verdict = rig.judge(topic, outcome, &format!("{topic} after {times} switchovers"));
        println!("{topic}: {verdict} stalls={stalls:?}");
    }
    rig.assert_equal();
}
