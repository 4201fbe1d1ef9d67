//! Committed offsets where the clusters' offsets differ: each is on the standby as the standby's own offset of the same
//! record, soon after the commit, and finally at a switchover.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::rig::{PATIENCE, Rig, assert_done};
use crate::support::client;
use crate::support::cluster::Cluster;
use crate::support::load::{Load, LoadSpec};
use crate::support::scan;
use crate::support::wait::wait_for;

const TOPIC: &str = "shifted";
/// As configured: all groups are read this often. A commit through the proxy is followed up at once.
const SYNC_INTERVAL: Duration = Duration::from_secs(2);
/// A pass takes a moment, longer on a machine that is busy with other tests.
const SLACK: Duration = Duration::from_secs(8);

/// Transactions straight at the cluster, every second one aborted: their markers and aborted records shift the offsets.
fn transactions(cluster: &Cluster) {
    let producer: BaseProducer = client::config(&cluster.bootstrap())
        .set("transactional.id", "shifting")
        .create()
        .expect("a transactional producer");
    producer.init_transactions(PATIENCE).expect("init");
    for n in 0..6 {
        producer.begin_transaction().expect("begin");
        for i in 0..5 {
            let value = format!("{n}-{i}");
            producer.send(BaseRecord::<(), _>::to(TOPIC).partition(0).payload(&value)).expect("queued");
        }
        producer.flush(PATIENCE).expect("sent");
        if n % 2 == 0 { producer.commit_transaction(PATIENCE) } else { producer.abort_transaction(PATIENCE) }
            .expect("the transaction ends");
    }
}

/// (offset, value) of all committed records.
fn records(bootstrap: &str) -> Vec<(i64, Vec<u8>)> {
    let mut all = Vec::new();
    scan::visit(bootstrap, TOPIC, PATIENCE, |message| {
        all.push((message.offset(), message.payload().unwrap_or_default().to_vec()));
        Ok(())
    })
    .expect("a scan");
    all
}

fn consumer(bootstrap: &str, group: &str) -> BaseConsumer {
    client::config(bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .create()
        .expect("a consumer")
}

fn commit(consumer: &BaseConsumer, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(TOPIC, 0, Offset::Offset(offset)).expect("an offset");
    consumer.commit(&list, CommitMode::Sync).expect("committed");
}

fn committed(bootstrap: &str, group: &str) -> Result<Option<i64>, String> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition(TOPIC, 0);
    let told = consumer(bootstrap, group).committed_offsets(asked, SLACK).map_err(|e| e.to_string())?;
    Ok(told.elements().first().and_then(|e| if let Offset::Offset(o) = e.offset() { Some(o) } else { None }))
}

#[test]
fn commits_are_on_the_standby_in_its_own_offsets() {
    let mut rig = Rig::start_with("sync", |east, spec| {
        east.create_topic(TOPIC, 1, &[]);
        transactions(east);
        spec.more = format!("[groups]\nsync_interval = \"{}ms\"\n", SYNC_INTERVAL.as_millis());
    });
    let load = Load::start(LoadSpec { consumers: 0, ..LoadSpec::new(&rig.proxy.bootstrap(), TOPIC) });
    load.wait_for_more(300, PATIENCE);
    load.finish(PATIENCE);
    rig.proxy.wait_in_sync(PATIENCE);

    // The topic was born on east: logical offsets are east's.
    let (east, west) = (records(&rig.east.bootstrap()), records(&rig.west.bootstrap()));
    let values = |all: &[(i64, Vec<u8>)]| all.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
    assert_eq!(values(&east), values(&west));
    let last = east.len() - 1;
    let shift = east[last].0 - west[last].0;
    assert!(shift >= 20, "the offsets differ by {shift} only");
    let translated = |position: i64| {
        let next = east.iter().position(|&(offset, _)| offset >= position);
        next.map_or(west[last].0 + 1, |n| west[n].0)
    };

    let through = consumer(&rig.proxy.bootstrap(), "through");
    let past = consumer(&rig.east.bootstrap(), "past");
    let member = consumer(&rig.proxy.bootstrap(), "member");
    member.subscribe(&[TOPIC]).expect("subscribed");
    wait_for("a record for the member", PATIENCE, || match member.poll(Duration::from_millis(100)) {
        Some(Ok(_)) => Ok(()),
        other => Err(format!("{:?}", other.map(|r| r.map(|m| m.offset())))),
    });
    let groups = [("through", &through), ("past", &past), ("member", &member)];
    let end = east[last].0 + 1;
    // A record, an aborted one, a marker, backwards, the end.
    for position in [east[40].0, 7, 5, east[2].0, end] {
        for (group, consumer) in groups {
            commit(consumer, position);
            let since = Instant::now();
            wait_for(&format!("{group} at logical {position} on the standby"), SYNC_INTERVAL + SLACK, || {
                match committed(&rig.west.bootstrap(), group)? {
                    Some(offset) if offset == translated(position) => Ok(()),
                    other => Err(format!("it is at {other:?} instead of {}", translated(position))),
                }
            });
            println!("{group} at {position}: on the standby after {:?}", since.elapsed());
        }
    }

    // Finally: what is committed just before a switchover is there when it is over.
    let finals = [east[50].0, east[60].0, east[70].0];
    for ((_, consumer), position) in groups.into_iter().zip(finals) {
        commit(consumer, position);
    }
    rig.switch();
    for ((group, _), position) in groups.into_iter().zip(finals) {
        assert_eq!(committed(&rig.west.bootstrap(), group), Ok(Some(translated(position))), "{group} on west");
        assert_eq!(committed(&rig.proxy.bootstrap(), group), Ok(Some(position)), "{group} through the proxy");
    }

    // And on the way back: from west's offsets into east's.
    commit(&through, east[80].0);
    rig.switch();
    assert_eq!(committed(&rig.east.bootstrap(), "through"), Ok(Some(east[80].0)), "back on east");
    rig.assert_equal();

    // What a group knows to be committed is not taken away by the loss of the cluster that took it.
    for position in [east[85].0, east[90].0, east[95].0] {
        commit(&through, position);
        assert_eq!(committed(&rig.west.bootstrap(), "through"), Ok(Some(translated(position))), "when acknowledged");
    }
    commit(&through, east[88].0);
    rig.east.kill();
    assert_done(&rig.proxy.failover());
    assert_eq!(committed(&rig.proxy.bootstrap(), "through"), Ok(Some(east[88].0)), "after a failover");
}
