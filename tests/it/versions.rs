//! Two releases of Kafka as a pair, either of them active: clients under load move to the other one and back, on a plain
//! topic and on one of append times.

use crate::reading::{MINUTE, Raw, assert_verified, switch};
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
    east.create_topic("stamped", 2, &[("message.timestamp.type", "LogAppendTime")]);
    let proxy = Proxy::start(ProxySpec::new(&east, &west, "sync"));
    let topics = ["numbers", "stamped"];
    let loads = topics.map(|topic| {
        let rate = if topic == "numbers" { 500 } else { 100 };
        Load::start(LoadSpec { records_per_second: rate, ..LoadSpec::new(&proxy.bootstrap(), topic) })
    });
    let some = repetitions(1000, 20_000) as u64;
    let more = || loads.iter().zip([some, some / 5]).for_each(|(load, count)| load.wait_for_more(count, MINUTE));
    more();
    for (to, cluster, other) in [("west", &west, &east), ("east", &east, &west)] {
        let report = switch(&proxy);
        assert_eq!(report["to"], to);
        more();
        proxy.wait_in_sync(MINUTE);
        // The topic keeps its kind where it is active; where it is a copy, times are kept as they come.
        for (cluster, kind) in [(cluster, "LogAppendTime"), (other, "CreateTime")] {
            let raw = Raw::new(cluster.name(), &cluster.bootstrap());
            assert_eq!(raw.setting("stamped", "message.timestamp.type"), kind, "on {}", cluster.name());
        }
    }
    for (load, topic) in loads.into_iter().zip(topics) {
        let outcome = load.finish(MINUTE);
        outcome.assert_no_errors(topic);
        let mut history = outcome.history;
        history.stored = Some(scan::numbered(&proxy.bootstrap(), topic, MINUTE).expect("a scan"));
        check(&history).assert_clean(topic);
    }
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
