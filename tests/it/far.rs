//! A standby in another region: every batch takes long there and back, many are produced meanwhile. The copy keeps up all
//! the same, and nobody's producer is told that it is out of order when the far cluster becomes active.

use std::time::Duration;

use crate::rig::{PATIENCE, Rig};
use crate::support::cluster::{Cluster, Spec};
use crate::support::distance::Distance;
use crate::support::load::{Load, LoadSpec};
use crate::support::proxy::{Proxy, ProxySpec};

const TOPIC: &str = "far";
const ONE_WAY: Duration = Duration::from_millis(30);
/// Of each of two producers. One batch at a time would be 17 a second.
const BATCHES_PER_SECOND: u32 = 75;

#[test]
fn a_copy_far_away_keeps_up_and_takes_over() {
    let way = Distance::new(ONE_WAY);
    let advertised = format!("PLAINTEXT://127.0.0.1:{}", way.port());
    let [east, west] =
        Cluster::start_all([Spec::new("east"), Spec::new("west").set("advertised.listeners", &advertised)]);
    let address = west.bootstrap();
    way.leads_to(address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port"));
    east.create_topic(TOPIC, 1, &[]);
    let rig = Rig { proxy: Proxy::start(ProxySpec::new(&east, &west, "async")), east, west };
    rig.proxy.wait_in_sync(PATIENCE);

    let mut spec = LoadSpec { records_per_second: BATCHES_PER_SECOND, ..LoadSpec::new(&rig.proxy.bootstrap(), TOPIC) };
    spec.producer_config.push(("linger.ms".into(), "0".into()));
    spec.producer_config.push(("batch.num.messages".into(), "1".into()));
    let load = Load::start(spec);
    load.wait_for_more(u64::from(BATCHES_PER_SECOND) * 12, PATIENCE);
    rig.proxy.wait_status("the copy to keep up under load", PATIENCE, |status| {
        status["partitions"][0]["lag_records"].as_u64().is_some_and(|lag| lag < 2 * u64::from(BATCHES_PER_SECOND))
    });
    assert!(rig.proxy.log().contains("it goes on with many batches at a time"), "was it behind at all?");

    rig.switch();
    load.wait_for_more(300, PATIENCE);
    rig.switch();
    load.wait_for_more(300, PATIENCE);
    let outcome = load.finish(PATIENCE);
    rig.judge(TOPIC, outcome, "a standby far away");
    rig.assert_equal();
}
