//! Consumer groups over a cutover: members are re-homed without a repeat or a gap, committed offsets are on the standby.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::rig::{Rig, assert_done};
use crate::support::checker::check;
use crate::support::client;
use crate::support::cluster::{Cluster, Spec};
use crate::support::load::{Commit, Load, LoadSpec};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::scan;
use crate::support::wait::{wait_for, wait_until};

const MINUTE: Duration = Duration::from_secs(60);

/// Eager and cooperative groups of three, one with automatic and one with manual commits, ride through switchovers there
/// and back; the way back finds members left behind on the first cluster.
#[test]
fn members_of_several_groups_are_re_homed_there_and_back() {
    let [east, west] = Cluster::start_all([Spec::new("east"), Spec::new("west")]);
    let topics = ["eager", "cooperative"];
    for topic in topics {
        east.create_topic(topic, 6, &[]);
    }
    let proxy = Proxy::start(ProxySpec::new(&east, &west, "sync"));
    proxy.wait_in_sync(MINUTE);
    let start = |topic: &str, strategy: &str, commit| {
        let spec = LoadSpec { consumers: 3, commit, ..LoadSpec::new(&proxy.bootstrap(), topic) };
        let strategy = ("partition.assignment.strategy".to_owned(), strategy.to_owned());
        Load::start(LoadSpec { consumer_config: vec![strategy], ..spec })
    };
    let loads = [
        start(topics[0], "range", Commit::Auto(Duration::from_secs(1))),
        start(topics[1], "cooperative-sticky", Commit::Manual),
    ];
    for round in 0..3 {
        for load in &loads {
            load.wait_for_more(3000, MINUTE);
        }
        proxy.wait_switchable(MINUTE);
        let report = proxy.switchover();
        eprintln!("round {round}: held {} ms", report["hold_ms"]);
        assert_eq!(report["outcome"], "done", "{report}");
    }
    for load in &loads {
        load.wait_for_more(3000, MINUTE);
    }
    for (topic, load) in topics.iter().zip(loads) {
        let outcome = load.finish(MINUTE);
        eprintln!(
            "{topic}: producers {:?}, consumers {:?}",
            outcome.longest_producer_stall, outcome.longest_consumer_stall
        );
        outcome.assert_no_errors(topic);
        let mut history = outcome.history;
        history.stored = Some(scan::numbered(&proxy.bootstrap(), topic, MINUTE).expect("a scan"));
        check(&history).assert_clean(topic);
    }
}

/// A group that keeps its positions elsewhere: no commit of it ever finds that it has members on the standby.
#[test]
fn a_group_that_commits_nothing_does_not_wait_for_those_it_left_behind() {
    let mut rig = Rig::start_with("sync", |east, _| east.create_topic("t", 1, &[]));
    let mut config = client::config(&rig.proxy.bootstrap());
    config.set("group.id", "own").set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    consumer.subscribe(&["t"]).expect("subscribed");
    let producer: BaseProducer = client::config(&rig.proxy.bootstrap()).create().expect("a producer");
    let goes_on = |word: &str, limit: Duration| {
        producer.send(BaseRecord::<str, str>::to("t").payload(word)).expect("sent");
        producer.flush(MINUTE).expect("acknowledged");
        wait_until(word, limit, || {
            let message = consumer.poll(Duration::from_millis(100)).and_then(Result::ok);
            message.is_some_and(|m| m.payload() == Some(word.as_bytes()))
        });
    };
    goes_on("before", MINUTE);
    rig.switch();
    goes_on("after the switchover", MINUTE);
    // Its session there goes on for 45 s.
    let there = member(&rig.east.bootstrap(), "looks");
    wait_until("members left on the standby to be removed", Duration::from_secs(15), || {
        consumer.poll(Duration::ZERO);
        let list = there.fetch_group_list(Some("own"), MINUTE).expect("a list");
        list.groups().iter().all(|group| group.members().is_empty())
    });
    rig.west.kill();
    assert_done(&rig.proxy.failover());
    goes_on("after the failover", Duration::from_secs(20));
}

/// Commits through the proxy and past it, of a new group, forwards and backwards, reach the standby.
#[test]
fn committed_offsets_of_all_groups_follow_to_the_standby() {
    let [east, west] = Cluster::start_all([Spec::new("east"), Spec::new("west")]);
    east.create_topic("t", 2, &[]);
    let proxy = Proxy::start(ProxySpec::new(&east, &west, "sync"));
    let load = Load::start(LoadSpec { consumers: 0, ..LoadSpec::new(&proxy.bootstrap(), "t") });
    load.wait_for_more(500, MINUTE);
    load.finish(MINUTE);
    proxy.wait_in_sync(MINUTE);
    let through = member(&proxy.bootstrap(), "through");
    let past = member(&east.bootstrap(), "past");
    for (group, consumer, offset) in
        [("through", &through, 40), ("past", &past, 60), ("through", &through, 7), ("past", &past, 90)]
    {
        let mut commit = TopicPartitionList::new();
        commit.add_partition_offset("t", 1, Offset::Offset(offset)).expect("an offset");
        consumer.commit(&commit, CommitMode::Sync).expect("committed");
        let committed = Instant::now();
        let there = member(&west.bootstrap(), group);
        wait_for("the commit on the standby", Duration::from_secs(10), || match position(&there)? {
            Offset::Offset(o) if o == offset => Ok(()),
            other => Err(format!("{group} is at {other:?}, not {offset}")),
        });
        eprintln!("{group} {offset}: {:?}", committed.elapsed());
    }
}

fn member(bootstrap: &str, group: &str) -> BaseConsumer {
    client::config(bootstrap).set("group.id", group).create().expect("a consumer")
}

fn position(consumer: &BaseConsumer) -> Result<Offset, String> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition("t", 1);
    let told = consumer.committed_offsets(asked, Duration::from_secs(5)).map_err(|e| e.to_string())?;
    told.elements().first().map(|e| e.offset()).ok_or_else(|| "nothing told".to_owned())
}
