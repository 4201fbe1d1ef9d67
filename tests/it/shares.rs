//! Share groups (KIP-932) over cutovers: nothing is skipped, members come back by themselves, and what is delivered again is
//! bounded.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use kafka_standby::records::{Codec, NewRecord, Stamp, build};

use crate::divergence::hour_ago;
use crate::reading::{Raw, all, settled_trial, switch, wait_level};
use crate::rig::{Rig, assert_done};
use crate::support::checker::{RecordId, Seen};
use crate::support::cluster::{Cluster, Spec};
use crate::support::java_group::{JavaGroup, Said};
use crate::support::load::{Load, LoadSpec, encode_value};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::shared::repetitions;
use crate::support::wait::wait_for;

const MINUTE: Duration = Duration::from_secs(60);
/// A Java source is compiled first, on a busy machine.
const JAVA_START: Duration = Duration::from_secs(180);
const TOPIC: &str = "t";
const MEMBERS: usize = 3;

fn rig() -> Rig {
    let rig = Rig::start_with("sync", |east, spec| {
        east.create_topic(TOPIC, 6, &[]);
        spec.environment.push((
            "KAFKA_STANDBY_LOG".into(),
            "info,kafka_standby::groups=debug,kafka_standby::proxy::shares=debug".into(),
        ));
    });
    rig.proxy.wait_in_sync(MINUTE);
    rig
}

/// Two groups, from the start of the log: one acknowledges by reading on, one each record by itself.
fn groups(rig: &Rig) -> [(&'static str, JavaGroup); 2] {
    ["implicit", "explicit"].map(|mode| {
        let acknowledge = format!("share.acknowledgement.mode={mode}");
        let properties = [acknowledge.as_str(), "reset=earliest"];
        (mode, JavaGroup::start_share(&rig.proxy.bootstrap(), TOPIC, mode, MEMBERS, &properties))
    })
}

fn producers(rig: &Rig) -> Load {
    Load::start(LoadSpec { consumers: 0, records_per_second: 200, ..LoadSpec::new(&rig.proxy.bootstrap(), TOPIC) })
}

/// Waits until a group was given everything that was acknowledged; answers what it said.
fn all_read(who: &str, group: JavaGroup, acknowledged: &[Seen]) -> Said {
    wait_for(&format!("everything at {who}"), MINUTE, || {
        let said = group.said();
        let read: HashSet<_> = said.records.iter().map(|seen| seen.id).collect();
        let missing: Vec<_> = acknowledged.iter().filter(|seen| !read.contains(&seen.id)).collect();
        match missing.len() {
            0 => Ok(()),
            n => Err(format!("{n} of {} skipped, {:?}", acknowledged.len(), &missing[..n.min(10)])),
        }
    });
    group.finish()
}

/// No error, no offset with two names; how many records were given again.
fn judge(who: &str, said: &Said) -> usize {
    assert!(said.errors.is_empty(), "{who}: {:#?}", said.errors);
    let mut names = HashMap::new();
    let mut again = 0;
    for seen in &said.records {
        let before = names.insert((seen.partition, seen.offset), seen.id);
        assert!(before.is_none_or(|id| id == seen.id), "{who}: {seen:?} was {before:?}");
        again += usize::from(before.is_some());
    }
    let notices: HashSet<&str> = said.notices.iter().map(|n| n.split_once(' ').map_or(&**n, |(_, n)| n)).collect();
    eprintln!("{who}: {} deliveries, {again} again, {} notices: {notices:?}", said.records.len(), said.notices.len());
    again
}

#[test]
fn share_groups_go_on_over_switchovers_and_a_failover() {
    let mut rig = rig();
    let load = producers(&rig);
    let groups = groups(&rig);
    groups.iter().for_each(|(_, group)| group.wait_for(1000, JAVA_START));
    for round in 0..repetitions(2, 4) {
        let report = rig.switch();
        eprintln!("round {round}: held {} ms", report["hold_ms"]);
        for (_, group) in &groups {
            let so_far = group.said().records.len();
            group.wait_for(so_far + repetitions(2000, 5000), MINUTE);
        }
        for (who, group) in &groups {
            judge(who, &group.said());
        }
    }
    rig.proxy.wait_switchable(MINUTE);
    rig.east.kill();
    assert_done(&rig.proxy.failover());
    load.wait_for_more(2000, MINUTE);
    let outcome = load.finish(MINUTE);
    outcome.assert_no_errors(TOPIC);
    let acknowledged = outcome.history.acknowledged;
    for (who, group) in groups {
        let said = all_read(who, group, &acknowledged);
        judge(who, &said);
    }
}

/// Its cluster does not know where a group begins that has acknowledged nothing: at the end of the log, once. The standby is told.
#[test]
fn a_share_group_that_has_acknowledged_nothing_yet_skips_nothing() {
    let mut rig = rig();
    let old = fill(&Raw::new("proxy", &rig.proxy.bootstrap()), 1, 10);
    let mut group = JavaGroup::start_share(&rig.proxy.bootstrap(), TOPIC, "new", 1, &[]);
    let west = Raw::new("west", &rig.west.bootstrap());
    wait_for("the group's start on the standby", JAVA_START, || {
        let starts: Vec<i64> = west.share_starts("new").values().copied().collect();
        let mut want = vec![0; 6];
        want[0] = old.len() as i64;
        if starts == want { Ok(()) } else { Err(format!("{starts:?}")) }
    });
    // It gets nothing of this before the failover.
    group.pause();
    let load = producers(&rig);
    load.wait_for_more(500, MINUTE);
    rig.east.kill();
    assert_done(&rig.proxy.failover());
    let outcome = load.finish(MINUTE);
    outcome.assert_no_errors(TOPIC);
    group.resume();
    let said = all_read("new", group, &outcome.history.acknowledged);
    judge("new", &said);
    assert!(said.records.iter().all(|seen| !old.contains(&seen.id)), "it began behind what was there");
}

/// Batches of a hundred records to partition 0; what is in them.
fn fill(to: &Raw, key: u32, batches: u64) -> HashSet<RecordId> {
    const RECORDS: u64 = 100;
    let ids = |batch: u64| (0..RECORDS).map(move |n| RecordId { key: 1_000_000 + key, seq: batch * RECORDS + n });
    for batch in 0..batches {
        let values: Vec<Vec<u8>> = ids(batch).map(|id| encode_value(id, 400)).collect();
        let record = |value| NewRecord { value: Some(value), timestamp: hour_ago(), ..Default::default() };
        let records: Vec<_> = values.iter().map(|value| record(value.as_slice())).collect();
        to.produce(TOPIC, 0, build(&records, Codec::None, Stamp::NONE).expect("a batch"));
    }
    (0..batches).flat_map(ids).collect()
}

/// What a failover left behind is given to nobody, and the group does not wait for it: it is more than a broker has under way for
/// one partition (`group.share.partition.max.record.locks`, 2,000), and would be given up after five times half a minute.
#[test]
fn a_share_group_passes_what_a_failover_left_behind() {
    let [mut east, mut west] = Cluster::start_all([Spec::new("east"), Spec::new("west")]);
    east.create_topic(TOPIC, 1, &[]);
    let mut spec = ProxySpec::new(&east, &west, "async");
    spec.more = "[limits]\ntee_buffer = \"1MiB\"\n".into();
    let proxy = Proxy::start(spec);
    let through = Raw::new("proxy", &proxy.bootstrap());
    fill(&through, 1, 5);
    wait_level(&proxy, &Raw::new("east", &east.bootstrap()), TOPIC, 1);
    west.pause();
    let behind = fill(&through, 2, 60);
    east.kill();
    west.resume();
    settled_trial(&proxy);
    assert_eq!(proxy.failover()["outcome"], "done");
    east.restart();
    fill(&through, 3, 5);
    wait_level(&proxy, &Raw::new("west", &west.bootstrap()), TOPIC, 1);
    switch(&proxy);
    let visible = all(&through, TOPIC, 1)[&0].len();
    assert!(visible < 1000 + behind.len() - 2500, "{visible} records are left");

    let group = JavaGroup::start_share(&proxy.bootstrap(), TOPIC, "later", 1, &["reset=earliest"]);
    group.wait_for(visible, JAVA_START);
    fill(&through, 4, 1);
    group.wait_for(visible + 100, Duration::from_secs(20));
    // The group has begun behind all of it. Brokers store that with the next acknowledgement, so the last batch is not counted.
    let east = Raw::new("east", &east.bootstrap());
    wait_for("the group to be level", MINUTE, || {
        let (start, end) = (east.share_starts("later").into_values().next(), east.ends(TOPIC, 1)[0]);
        if start.is_some_and(|start| start >= end - 100) { Ok(()) } else { Err(format!("{start:?} of {end}")) }
    });
    let said = group.finish();
    assert_eq!((judge("later", &said), said.records.len()), (0, visible + 100));
}

/// A standby that has them switched off: the proxy does not offer them, and those that are read around it keep nobody from a
/// switchover.
#[test]
fn share_groups_that_the_standby_does_not_serve_are_left_alone() {
    let [east, west] = Cluster::start_all([Spec::new("east"), Spec::new("west").feature("share.version", 0)]);
    east.create_topic(TOPIC, 1, &[]);
    let proxy = Proxy::start(ProxySpec::new(&east, &west, "sync"));
    let through = Raw::new("proxy", &proxy.bootstrap());
    fill(&through, 1, 5);
    let group = JavaGroup::start_share(&east.bootstrap(), TOPIC, "around", 1, &["reset=earliest"]);
    group.wait_for(500, JAVA_START);
    let error = through.try_share_starts("around").expect_err("not offered");
    assert!(error.contains("ShareGroupOffsets"), "{error}");
    wait_level(&proxy, &Raw::new("east", &east.bootstrap()), TOPIC, 1);
    switch(&proxy);
    assert!(group.finish().errors.is_empty());
}
