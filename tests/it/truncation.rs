//! The active cluster loses the end of a log that clients have seen and that has been copied: that is found and told, what the
//! standby has more is kept apart, new records get names of their own, and everything goes on.

use kafka_standby::records::{Codec, NewRecord, Stamp, build};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::divergence::hour_ago;
use crate::operator::assert_exit;
use crate::planted::edit_log;
use crate::reading::{MINUTE, Positioned, Raw, all, assert_verified, switch, wait_level};
use crate::support::client;
use crate::support::cluster::{Cluster, Spec};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::wait::wait_for;
use crate::wire::frames::metric;

const TOPIC: &str = "shortened";
/// Records of a batch.
const RECORDS: i64 = 2;

/// Writes batches and gives the offset of each.
fn fill(to: &Raw, text: &str, batches: usize) -> Vec<i64> {
    let batch = |n| {
        let value = format!("{text} {n}");
        let record = NewRecord { value: Some(value.as_bytes()), timestamp: hour_ago(), ..Default::default() };
        build(&[record.clone(), record], Codec::None, Stamp::NONE).expect("a batch")
    };
    (0..batches).map(|n| to.produce(TOPIC, 0, batch(n)).base_offset).collect()
}

/// What a client of the proxy reads in the end.
fn values(through: &Raw) -> Vec<(i64, String)> {
    let text = |value: &Option<Vec<u8>>| String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned();
    all(through, TOPIC, 1)[&0].iter().map(|r| (r.offset, text(&r.content.value))).collect()
}

/// Kills the cluster, leaves only so many batches of its log, and starts it again.
fn shorten(east: &mut Cluster, batches: usize) {
    east.kill();
    edit_log(east, TOPIC, |n, _, _| (n < batches).then_some(()));
    east.restart();
}

fn wait_truncated(proxy: &Proxy, from: i64, to: i64) {
    let told = |status: &Value| {
        let row = &status["partitions"][0];
        let alarms = status["alarms"].as_array().into_iter().flatten();
        let alarmed = alarms.filter_map(Value::as_str).any(|a| a.contains("has lost records"));
        row["truncations"] == json!([[from, to]]) && alarmed
    };
    proxy.wait_status("the loss to be told", MINUTE, told);
}

fn ranges(proxy: &Proxy) -> Vec<(i64, i64, i64, i64)> {
    let (code, found) = proxy.get("/v1/divergence").expect("an answer");
    assert_eq!(code, 200, "{found}");
    let rows = found["ranges"].as_array().into_iter().flatten();
    let range = |r: &Value| {
        assert_eq!((&r["truncated"], &r["cluster"]), (&json!(true), &json!("west")), "{r:#}");
        let of = |key: &str| r[key].as_i64().expect("a number");
        (of("logical_from"), of("logical_to"), of("records"), of("reinjected_records"))
    };
    rows.map(range).collect()
}

#[test]
fn a_log_that_lost_its_end_is_found_and_its_names_are_not_given_again() {
    let [mut east, west] = Cluster::start_all([Spec::new("east"), Spec::new("west")]);
    east.create_topic(TOPIC, 1, &[]);
    let mut proxy = Proxy::start(ProxySpec::new(&east, &west, "sync"));
    let through = Raw::new("proxy", &proxy.bootstrap());
    fill(&through, "first", 10);
    wait_level(&proxy, &Raw::new("east", &east.bootstrap()), TOPIC, 1);
    let before = values(&through);

    // While the proxy serves: the first that it hears of it may be a producer's own batch.
    let idempotent: BaseProducer =
        client::config(&proxy.bootstrap()).set("enable.idempotence", "true").create().expect("a producer");
    shorten(&mut east, 7);
    idempotent.send(BaseRecord::<(), _>::to(TOPIC).partition(0).payload("second 0")).expect("queued");
    idempotent.flush(MINUTE).expect("acknowledged");
    wait_truncated(&proxy, 14, 20);
    fill(&through, "second", 2);
    let straight = Raw::new("east", &east.bootstrap());
    wait_level(&proxy, &straight, TOPIC, 1);
    let after = values(&through);
    assert_eq!(after[..14], before[..14], "what is left keeps its name");
    assert_eq!(after[14..].iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [20, 21, 22, 23, 24]);
    assert!(after[14..].iter().all(|(_, value)| value.starts_with("second")), "{after:?}");
    // Who has read some of what is gone goes on with what is new.
    let reader = Positioned::new(&proxy.bootstrap(), TOPIC);
    for position in [14, 17, 20] {
        assert_eq!(reader.at(0, position).map(|r| r.offset), Some(20), "from {position} on");
    }
    assert_verified(&proxy, None);
    assert_eq!(metric(&proxy, "kafka_standby_log_truncations_total "), 1);
    assert_eq!(ranges(&proxy), [(14, 20, 6, 0)]);
    assert_exit(&mut proxy, "divergence reinject --yes", 0);
    assert_eq!(ranges(&proxy), [(14, 20, 6, 6)]);
    let mut whole = after;
    whole.extend((25..).zip(before[14..].iter().map(|(_, value)| value.clone())));
    assert_eq!(values(&through), whole, "what only the standby had is there again, as new records");
    wait_level(&proxy, &straight, TOPIC, 1);

    // While there is no proxy: the log grows beyond where it ended, by somebody who goes around it.
    proxy.kill();
    shorten(&mut east, 7 + 3 + 2);
    let kept = straight.ends(TOPIC, 1)[0];
    fill(&Raw::new("east", &east.bootstrap()), "third", 8);
    proxy.restart();
    let straight = Raw::new("east", &east.bootstrap());
    wait_level(&proxy, &straight, TOPIC, 1);
    assert_verified(&proxy, None);
    let now = values(&through);
    let kept = usize::try_from(kept).expect("an offset");
    assert_eq!((kept, &now[..kept]), (now.len() - 8 * RECORDS as usize, &whole[..kept]));
    let newest = whole.last().map_or(0, |(offset, _)| *offset);
    assert!(now[kept..].iter().all(|(offset, value)| *offset > newest && value.starts_with("third")), "{now:?}");
    assert_eq!(ranges(&proxy).iter().map(|r| r.2).collect::<Vec<_>>(), [6, 2], "{:?}", ranges(&proxy));

    switch(&proxy);
    assert_eq!(values(&through), now, "the same records under the same names");
    fill(&through, "fourth", 1);
    wait_level(&proxy, &Raw::new("west", &west.bootstrap()), TOPIC, 1);
    assert_verified(&proxy, None);
}

/// Leader and follower of the partition, as places in the list of brokers.
fn replicas(east: &Cluster) -> (usize, usize) {
    let consumer: BaseConsumer = client::config(&east.bootstrap()).create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(TOPIC), MINUTE).expect("metadata");
    let partition = &metadata.topics()[0].partitions()[0];
    let follower = partition.replicas().iter().find(|&&id| id != partition.leader()).expect("a follower");
    (partition.leader() as usize - 1, *follower as usize - 1)
}

fn wait_leader(east: &Cluster, what: &str, wanted: impl Fn(i32, usize) -> bool) {
    wait_for(what, MINUTE, || match client::leader_and_isr(&east.bootstrap(), TOPIC, 0)? {
        (leader, in_sync) if wanted(leader, in_sync) => Ok(()),
        told => Err(format!("{told:?}")),
    });
}

/// The real thing: the follower is away while the leader takes more, the leader dies, and the follower becomes the leader of a
/// log that ends where it was left.
#[test]
fn an_unclean_leader_election_is_found_and_everything_goes_on() {
    let [mut east, west] = Cluster::start_all([Spec::new("east").brokers(3), Spec::new("west")]);
    let unclean = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
    client::create_topic(&east.bootstrap(), TOPIC, 1, 2, &unclean);
    let proxy = Proxy::start(ProxySpec::new(&east, &west, "sync"));
    let through = Raw::new("proxy", &proxy.bootstrap());
    let straight = Raw::new("east", &east.bootstrap());
    fill(&through, "first", 10);
    wait_level(&proxy, &straight, TOPIC, 1);
    let (leader, follower) = replicas(&east);
    east.kill_broker(follower);
    wait_leader(&east, "the leader to be alone", |now, in_sync| now == leader as i32 + 1 && in_sync == 1);
    fill(&through, "lost", 5);
    wait_level(&proxy, &straight, TOPIC, 1);
    let before = values(&through);
    assert_eq!(before.len(), 30);

    east.kill_broker(leader);
    east.restart_broker(follower);
    wait_leader(&east, "the follower to lead", |now, _| now == follower as i32 + 1);
    assert_eq!(straight.ends(TOPIC, 1), [20], "it lacks what the dead one had");
    fill(&through, "second", 3);
    wait_truncated(&proxy, 20, 30);
    wait_level(&proxy, &straight, TOPIC, 1);
    let after = values(&through);
    assert_eq!(after[..20], before[..20], "what is left keeps its name");
    // Whose acknowledgement is in doubt is sent again, and without a producer id stored again: names are new all the same.
    let news = &after[20..];
    assert_eq!(
        news.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(),
        (30..30 + news.len() as i64).collect::<Vec<_>>()
    );
    let mut told: Vec<&str> = news.iter().map(|(_, value)| value.as_str()).collect();
    assert!((6..=12).contains(&told.len()), "{after:?}");
    told.dedup();
    assert_eq!(told, ["second 0", "second 1", "second 2"], "in their order");
    assert_verified(&proxy, None);
    assert_eq!(ranges(&proxy), [(20, 30, 10, 0)]);

    // The dead one comes back and follows.
    east.restart_broker(leader);
    wait_leader(&east, "both to be in sync", |_, in_sync| in_sync == 2);
    fill(&through, "third", 1);
    wait_level(&proxy, &straight, TOPIC, 1);
    let whole = values(&through);
    switch(&proxy);
    assert_eq!(values(&through), whole, "the same records under the same names");
}
