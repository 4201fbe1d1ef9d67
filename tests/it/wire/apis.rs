//! Check 11: every row of the API table through the proxy, compared with the broker's own answer, on either side of a
//! switchover.

use std::time::Duration;

use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, MetadataRequest};
use kafka_standby::offsets::virtual_epoch;
use kafka_standby::wire::apis::{self, How, Row};

use super::cases::{self, Side};
use super::expect::{Seen, World, difference};
use super::ids::{self, Followed};
use super::raw::{Raw, text};
use crate::support::cluster::{Cluster, Spec};
use crate::support::proxy::{Proxy, ProxySpec};

const PATIENCE: Duration = Duration::from_secs(60);
/// Numbers of a living broker (sizes, states) may change between two calls: so many pairs of calls to find two equal.
const ATTEMPTS: usize = 10;
const TOPICS: [&str; 7] = ["api-p", "api-d", "api-x", "txn-p", "txn-d", ids::TOPICS[0], ids::TOPICS[1]];
/// Metadata of all topics with ids and epochs.
const METADATA: i16 = 12;

/// Two clusters with an authorizer that knows the rig as its super user, so that ACL requests do something.
fn spec(name: &str) -> Spec {
    Spec::new(name)
        .set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .set("super.users", "User:ANONYMOUS")
}

#[test]
fn every_api_answers_as_the_broker_does_before_and_after_a_switchover() {
    let [east, west] = Cluster::start_all([spec("east"), spec("west")]);
    for name in TOPICS {
        east.create_topic(name, 2, &[]);
    }
    let proxy = Proxy::start(ProxySpec::new(&east, &west, "async"));
    let before = world(&proxy, &east, 0);
    assert_eq!(before.proxy.cluster_id, before.broker.cluster_id, "the first active cluster's id is shown for ever");
    assert_eq!(before.proxy.topics, before.broker.topics, "and the ids of its topics");
    cases::prepare(&mut side(&proxy.bootstrap(), 'p', &before.proxy, "prepare"));
    let mut followed = Followed::new(&proxy.bootstrap());
    followed.write_and_read();
    let mut failures = every_row(&proxy, &east, &before, "before");
    refused_rows(&proxy);

    proxy.wait_in_sync(PATIENCE);
    let report = proxy.switchover();
    assert_eq!(report["outcome"], "done", "{report}");
    followed.write_and_read();
    let after = world(&proxy, &west, 1);
    assert_ne!(after.proxy.cluster_id, after.broker.cluster_id, "the clusters are not the same");
    assert_ne!(after.proxy.topics, after.broker.topics, "nor are their topics");
    assert_stable(&before.proxy, &after.proxy);
    let mut direct = side(&west.address(0), 'd', &after.broker, "again");
    cases::members(&mut direct);
    failures.extend(every_row(&proxy, &west, &after, "after"));
    refused_rows(&proxy);
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
}

/// Everything that a client remembers of a cluster is what it was, and epochs have not fallen.
fn assert_stable(before: &Seen, after: &Seen) {
    assert_eq!((&before.cluster_id, before.broker_id, before.port), (&after.cluster_id, after.broker_id, after.port));
    for topic in &before.topics {
        assert!(after.topics.contains(topic), "{topic:?} is not in {:?}", after.topics);
    }
    for (name, old) in before.epochs.iter().filter(|(name, _)| TOPICS.contains(&name.as_str())) {
        let (_, new) = after.epochs.iter().find(|(other, _)| other == name).expect("the topic is there");
        assert!(old.len() == new.len() && old.iter().zip(new).all(|(old, new)| new > old), "{name}: {old:?} {new:?}");
    }
}

/// How the proxy shows the active cluster, and how that shows itself.
fn world(proxy: &Proxy, active: &Cluster, generation: u32) -> World {
    let all = MetadataRequest::default().with_topics(None);
    let mut seen = Seen::of(&Raw::connect(&proxy.bootstrap()).ask(METADATA, &all));
    let mut broker = Seen::of(&Raw::connect(&active.address(0)).ask(METADATA, &all));
    assert!(
        seen.topics.iter().all(|(name, _)| name != kafka_standby::catalog::STATE_TOPIC),
        "the state topic is hidden"
    );
    assert_eq!(seen.broker_id, 0, "virtual brokers are numbered from 0");
    // Others may be made in between.
    for seen in [&mut seen, &mut broker] {
        seen.topics.retain(|(name, _)| TOPICS.contains(&name.as_str()));
    }
    World { proxy: seen, broker, epoch_base: virtual_epoch(generation, 0) }
}

fn side(address: &str, tag: char, seen: &Seen, round: &str) -> Side {
    let epochs: Vec<i32> =
        seen.epochs.iter().filter(|(name, _)| name == cases::READ).flat_map(|(_, epochs)| epochs.clone()).collect();
    Side { raw: Raw::connect(address), tag, broker: seen.broker_id, epoch: epochs[0], round: round.into() }
}

/// Drives each advertised API in its lowest and highest version; returns what differs.
fn every_row(proxy: &Proxy, active: &Cluster, world: &World, when: &str) -> Vec<String> {
    let address = format!("127.0.0.1:{}", world.proxy.port);
    // Brokers refuse a client without a name.
    let named =
        ApiVersionsRequest::default().with_client_software_name(text("raw")).with_client_software_version(text("1"));
    let advertised: ApiVersionsResponse = Raw::connect(&address).ask(3, &named);
    let theirs: ApiVersionsResponse = Raw::connect(&active.address(0)).ask(3, &named);
    let mut failures = assert_advertised(&advertised, &theirs);
    let mut driven = 0;
    for api in &advertised.api_keys {
        let row = apis::row(api.api_key).expect("a row");
        let min = api.min_version.max(row.versions.0);
        for version in [min, api.max_version] {
            if row.how != How::Answer {
                failures.extend(one(&address, &active.address(0), world, row, version, when));
            }
            driven += 1;
        }
    }
    assert!(driven >= 100, "only {driven} exchanges");
    assert!(proxy.is_alive());
    failures
}

/// One API in one version, on both sides.
fn one(proxy: &str, broker: &str, world: &World, row: &Row, version: i16, when: &str) -> Option<String> {
    let api = ApiKey::try_from(row.key).expect("a key that the codec knows");
    let mut last = None;
    for attempt in 0..ATTEMPTS {
        let round = format!("{when}-{}-{version}-{attempt}", row.key);
        let mut direct = side(broker, 'd', &world.broker, &round);
        let mut through = side(proxy, 'p', &world.proxy, &round);
        let expected = cases::drive(&mut direct, api, version).unwrap_or_else(|| panic!("{} has no case", row.name));
        let got = cases::drive(&mut through, api, version).expect("a case");
        let differs = difference(row.how, world, &expected, &got)?;
        last = Some(format!("{} v{version} {when}: {differs}", row.name));
        // A reply that was decoded has its volatile fields blanked: it must be right at once.
        if row.how != How::Forward {
            break;
        }
    }
    last
}

/// ApiVersions: nothing that the broker lacks, everything that the table serves.
fn assert_advertised(ours: &ApiVersionsResponse, theirs: &ApiVersionsResponse) -> Vec<String> {
    let mut failures = Vec::new();
    for api in &theirs.api_keys {
        let shown = ours.api_keys.iter().find(|a| a.api_key == api.api_key);
        let served = apis::row(api.api_key).and_then(apis::served);
        match (shown, served) {
            (None, None) => {}
            (Some(shown), Some(served)) => {
                let want = apis::meet(served, (api.min_version, api.max_version));
                let floor = if api.api_key == 0 { 0 } else { want.0 };
                if (shown.min_version, shown.max_version) != (floor, want.1) {
                    failures.push(format!("{shown:?} is advertised, {want:?} could be"));
                }
            }
            (shown, served) => failures.push(format!("API {}: {shown:?} advertised, {served:?}", api.api_key)),
        }
    }
    assert_eq!(
        ours.api_keys.iter().filter(|a| theirs.api_keys.iter().all(|b| b.api_key != a.api_key)).count(),
        0,
        "an API that the broker does not have is advertised"
    );
    let feature = |r: &ApiVersionsResponse, name: &str| {
        r.finalized_features.iter().find(|f| &*f.name == name).map(|f| f.max_version_level)
    };
    assert_eq!(feature(ours, "transaction.version"), feature(theirs, "transaction.version"));
    assert_eq!(feature(ours, "share.version"), feature(theirs, "share.version"));
    assert_eq!((ours.error_code, feature(ours, "streams.version")), (0, None));
    failures
}

/// A row that is not served closes the connection, with a reason in the log and in the metric.
fn refused_rows(proxy: &Proxy) {
    let refused: Vec<&Row> = apis::rows().iter().filter(|row| row.how == How::Refuse).collect();
    let count = || super::frames::disconnects(proxy, "refused");
    let before = count();
    for row in &refused {
        let mut raw = Raw::connect(&proxy.bootstrap());
        raw.push_body(row.key, 0, &[0; 16]);
        raw.assert_closed(row.name);
        assert!(proxy.log().contains(&format!("{} is not served", row.name)), "{} is not in the log", row.name);
    }
    assert_eq!(count() - before, refused.len() as u64);
}
