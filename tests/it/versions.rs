//! Two releases of Kafka as a pair, either of them active: clients under load move to the other one and back.

use crate::reading::{MINUTE, assert_verified, switch};
use crate::support::checker::check;
use crate::support::cluster::{Cluster, Spec};
use crate::support::kafka::Version;
use crate::support::load::{Load, LoadSpec};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::scan;
use crate::support::shared::repetitions;

fn there_and_back(active: Version, standby: Version) {
    let specs = [Spec::new("east").version(active), Spec::new("west").version(standby)];
    let [east, west] = Cluster::start_all(specs);
    east.create_topic("numbers", 6, &[]);
    let proxy = Proxy::start(ProxySpec::new(&east, &west, "sync"));
    let load = Load::start(LoadSpec::new(&proxy.bootstrap(), "numbers"));
    let some = repetitions(1500, 20_000) as u64;
    load.wait_for_more(some, MINUTE);
    for to in ["west", "east"] {
        let report = switch(&proxy);
        assert_eq!(report["to"], to);
        load.wait_for_more(some, MINUTE);
        proxy.wait_in_sync(MINUTE);
    }
    let outcome = load.finish(MINUTE);
    outcome.assert_no_errors("two releases");
    let mut history = outcome.history;
    history.stored = Some(scan::numbered(&proxy.bootstrap(), "numbers", MINUTE).expect("a scan"));
    check(&history).assert_clean("two releases");
    proxy.wait_in_sync(MINUTE);
    assert_verified(&proxy, None);
}

#[test]
fn the_older_kafka_active_and_the_newer_standby() {
    there_and_back(Version::V3_9, Version::V4_3);
}

#[test]
fn the_newer_kafka_active_and_the_older_standby() {
    there_and_back(Version::V4_3, Version::V3_9);
}
