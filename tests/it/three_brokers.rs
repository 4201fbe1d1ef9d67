//! An active cluster of three brokers whose leaders move and one of whose brokers dies under load, with a standby of one
//! broker: nothing is lost, and a switchover to the smaller cluster works.

use std::time::Duration;

use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{AlterPartitionReassignmentsRequest, BrokerId, ElectLeadersRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use kafka_standby::upstream::{ClientOptions, Cluster as Client, Lane, Target};

use crate::support::checker::check;
use crate::support::client;
use crate::support::cluster::{Cluster, Spec};
use crate::support::load::{Load, LoadSpec};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::scan;
use crate::support::shared::repetitions;
use crate::support::wait::wait_for;

const MINUTE: Duration = Duration::from_secs(60);
const TOPIC: &str = "numbers";
const PARTITIONS: i32 = 6;
const BROKERS: i32 = 3;

#[test]
fn nothing_is_lost_while_leaders_move_and_a_broker_dies() {
    let [mut east, west] = Cluster::start_all([Spec::new("east").brokers(3), Spec::new("west")]);
    east.create_topic(TOPIC, PARTITIONS, &[]);
    let proxy = Proxy::start(ProxySpec::new(&east, &west, "sync"));
    proxy.wait_in_sync(MINUTE);
    let load = Load::start(LoadSpec::new(&proxy.bootstrap(), TOPIC));
    load.wait_for_more(500, MINUTE);

    for round in 0..repetitions(1, 10) as i32 {
        for partition in 0..PARTITIONS {
            move_leader(&east, partition);
        }
        load.wait_for_more(500, MINUTE);
        eprintln!("round {round}: leaders moved, {:?}", load.progress());

        let (leader, _) = client::leader_and_isr(&east.bootstrap(), TOPIC, round % PARTITIONS).expect("a leader");
        let victim = usize::try_from(leader - 1).expect("ids from 1");
        east.kill_broker(victim);
        for partition in 0..PARTITIONS {
            wait_leader(&east, partition, |now| now >= 0 && now != leader);
        }
        load.wait_for_more(500, MINUTE);
        eprintln!("round {round}: broker {leader} dead, {:?}", load.progress());

        east.restart_broker(victim);
        wait_for("all replicas in sync", MINUTE, || {
            for partition in 0..PARTITIONS {
                let (_, in_sync) = client::leader_and_isr(&east.bootstrap(), TOPIC, partition)?;
                if in_sync != BROKERS as usize {
                    return Err(format!("{in_sync} replicas of partition {partition}"));
                }
            }
            Ok(())
        });
        load.wait_for_more(200, MINUTE);
    }

    proxy.wait_status("the standby to be in sync", MINUTE, |s| s["standby_in_sync"] == true);
    let report = proxy.switchover();
    assert_eq!((&report["outcome"], &report["to"]), (&"done".into(), &"west".into()), "{report}");
    load.wait_for_more(500, MINUTE);
    let outcome = load.finish(MINUTE);
    outcome.assert_no_errors("over three brokers and a switchover");
    let mut history = outcome.history;
    history.stored = Some(scan::numbered(&proxy.bootstrap(), TOPIC, MINUTE).expect("a scan"));
    let verdict = check(&history);
    eprintln!(
        "{verdict}, longest stalls: producer {:?}, consumer {:?}, held {} ms",
        outcome.longest_producer_stall, outcome.longest_consumer_stall, report["hold_ms"]
    );
    verdict.assert_clean("over three brokers and a switchover");
    proxy.wait_in_sync(MINUTE);
    let verified = proxy.verify();
    assert_eq!(verified["equal"], true, "{verified}");
}

/// Makes another replica the preferred one and elects it.
fn move_leader(cluster: &Cluster, partition: i32) {
    let (leader, _) = client::leader_and_isr(&cluster.bootstrap(), TOPIC, partition).expect("a leader");
    let next = leader % BROKERS + 1;
    let rest = (1..=BROKERS).filter(|&id| id != next);
    let replicas: Vec<BrokerId> = std::iter::once(next).chain(rest).map(BrokerId).collect();
    let name = || TopicName(StrBytes::from_static_str(TOPIC));
    let order = ReassignablePartition::default().with_partition_index(partition).with_replicas(Some(replicas));
    let reassign = AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(10_000)
        .with_topics(vec![ReassignableTopic::default().with_name(name()).with_partitions(vec![order])]);
    let elect = ElectLeadersRequest::default().with_timeout_ms(10_000).with_topic_partitions(Some(vec![
        TopicPartitions::default().with_topic(name()).with_partitions(vec![partition]),
    ]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let addresses = cluster.bootstrap().split(',').map(str::to_owned).collect();
    let controller = runtime.block_on(async { Client::new("east", addresses, ClientOptions::default()) });
    let reply = runtime.block_on(controller.call(Target::Controller, Lane::Control, &reassign, MINUTE));
    assert_eq!(reply.expect("an answer").error_code, 0);
    wait_for("another leader", MINUTE, || {
        // Until the new order has come to the controller's knowledge there is nothing to elect.
        let reply = runtime.block_on(controller.call(Target::Controller, Lane::Control, &elect, MINUTE));
        reply.map_err(|e| e.to_string())?;
        match client::leader_and_isr(&cluster.bootstrap(), TOPIC, partition)? {
            (now, _) if now == next => Ok(()),
            (now, _) => Err(format!("the leader of partition {partition} is {now}, not {next}")),
        }
    });
}

fn wait_leader(cluster: &Cluster, partition: i32, wanted: impl Fn(i32) -> bool) {
    wait_for("another leader", MINUTE, || match client::leader_and_isr(&cluster.bootstrap(), TOPIC, partition)? {
        (now, _) if wanted(now) => Ok(()),
        (now, _) => Err(format!("the leader of partition {partition} is {now}")),
    });
}
