//! A failover from a cluster that the standby lags behind: what is missing is listed exactly, its offsets are never used
//! again, and the old cluster can come back.

use std::collections::{BTreeMap, BTreeSet};

use kafka_standby::records::{Codec, NewRecord, Stamp, build};
use kafka_standby::stream::client_producer_id;
use serde_json::{Value, json};

use crate::reading::{
    MINUTE, Positioned, Raw, Rec, all, assert_same_contents, assert_verified, settled_trial, switch, wait_level,
};
use crate::support::cluster::{Cluster, Spec};
use crate::support::load::{Commit, Load, LoadSpec};
use crate::support::proxy::{Proxy, ProxySpec};

const PARTITIONS: i32 = 3;
/// What the tee holds (at most this much, see the configuration) is still copied when the active cluster is gone; so more
/// must be written.
const TEE_BYTES: u64 = 1 << 20;
const RECORD_BYTES: u64 = 1 << 10;

fn failover(proxy: &Proxy, dry_run: bool) -> Value {
    let (code, report) = proxy.post("/v1/failover", &json!({ "dry_run": dry_run })).expect("POST /v1/failover");
    assert_eq!(code, 200, "{report}");
    report
}

/// The offsets that a report says are lost, by partition.
fn lost(report: &Value) -> BTreeSet<(i32, i64)> {
    let mut lost = BTreeSet::new();
    for range in report["lost"].as_array().expect("lost ranges") {
        let of = |key: &str| range[key].as_i64().unwrap_or_else(|| panic!("{key} of {range}"));
        assert_eq!((&range["topic"], of("records")), (&json!("lagging"), of("logical_to") - of("logical_from")));
        for offset in of("logical_from")..of("logical_to") {
            assert!(lost.insert((of("partition") as i32, offset)), "{offset} is listed twice: {report:#}");
        }
    }
    lost
}

/// Where logical offsets go on.
fn report_end(report: &Value, partition: i32) -> i64 {
    let rows = report["partitions"].as_array().into_iter().flatten();
    let row = rows.into_iter().find(|p| p["partition"] == partition).expect("a row");
    row["logical_end"].as_i64().expect("an end")
}

fn offsets(records: &BTreeMap<i32, Vec<Rec>>) -> BTreeSet<(i32, i64)> {
    records.values().flatten().map(|r| (r.partition, r.offset)).collect()
}

/// A batch of three records as an idempotent producer of the proxy's own ids sends it.
fn batch(sequence: i32, text: &str) -> bytes::Bytes {
    let stamp = Stamp { producer_id: client_producer_id(77), producer_epoch: 0, base_sequence: sequence };
    let values: Vec<String> = (0..3).map(|n| format!("{text} {n}")).collect();
    let records: Vec<_> = values
        .iter()
        .map(|v| NewRecord { value: Some(v.as_bytes()), timestamp: 1_750_000_000_000, ..Default::default() })
        .collect();
    build(&records, Codec::None, stamp).expect("a batch")
}

/// Clusters, proxy and load; the standby has stood still for so long that the tee has overflowed, and what was acknowledged
/// meanwhile is only on the active cluster.
struct Lagging {
    east: Cluster,
    west: Cluster,
    proxy: Proxy,
    /// What producers were told, by (partition, offset).
    acknowledged: BTreeSet<(i32, i64)>,
    /// Where the logs ended for clients, by partition.
    seen_ends: Vec<i64>,
    /// The whole log as clients saw it.
    before: BTreeMap<i32, Vec<Rec>>,
    /// Where the batch with sequence 3 is, whose acknowledgement a client may not have got.
    doubtful: i64,
}

fn lagging() -> Lagging {
    let [east, mut west] = Cluster::start_all([Spec::new("east"), Spec::new("west")]);
    east.create_topic("lagging", PARTITIONS, &[]);
    let mut spec = ProxySpec::new(&east, &west, "async");
    spec.more = format!("[limits]\ntee_buffer = \"{}KiB\"\n", TEE_BYTES >> 10);
    let proxy = Proxy::start(spec);
    let through = Raw::new("proxy", &proxy.bootstrap());
    let first = through.produce("lagging", 0, batch(0, "copied"));
    wait_level(&proxy, &Raw::new("east", &east.bootstrap()), "lagging", PARTITIONS);
    let mut load = Load::start(LoadSpec {
        producers: vec!["none".into(), "none".into()],
        record_bytes: RECORD_BYTES as usize,
        consumers: 1,
        commit: Commit::Manual,
        ..LoadSpec::new(&proxy.bootstrap(), "lagging")
    });
    load.wait_for_more(500, MINUTE);
    west.pause();
    load.wait_for_more(TEE_BYTES / RECORD_BYTES * 4, MINUTE);
    load.stop_producing(MINUTE);
    let second = through.produce("lagging", 0, batch(3, "lost"));
    let seen_ends = through.ends("lagging", PARTITIONS);
    let before = all(&through, "lagging", PARTITIONS);
    let outcome = load.finish(MINUTE);
    // The foreign batches are no error of a client.
    let errors: Vec<_> = outcome.errors.iter().filter(|e| !e.text.contains("foreign record")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let load_acknowledged = outcome.history.acknowledged.iter().map(|s| (s.partition, s.offset));
    let own = [first.base_offset, second.base_offset].into_iter().flat_map(|base| (base..base + 3).map(|o| (0, o)));
    let acknowledged = load_acknowledged.chain(own).collect();
    Lagging { east, west, proxy, acknowledged, seen_ends, before, doubtful: second.base_offset }
}

#[test]
fn a_lagging_standby_takes_over_and_says_exactly_what_it_lacks() {
    let Lagging { mut east, mut west, proxy, acknowledged, seen_ends, before, doubtful } = lagging();
    east.kill();
    west.resume();
    // What the tee still held is on its way to the standby.
    let dry = settled_trial(&proxy);
    assert_eq!((&dry["dry_run"], &dry["generation"]), (&json!(true), &json!(0)), "{dry:#}");
    assert_eq!(proxy.status()["active"], "east", "a trial changes nothing");
    let report = failover(&proxy, false);
    assert_eq!((&report["outcome"], &report["to"]), (&json!("done"), &json!("west")), "{report:#}");
    assert_eq!(report["lost"], dry["lost"]);

    let through = Raw::new("proxy", &proxy.bootstrap());
    let standby = Raw::new("west", &west.bootstrap());
    let after = all(&through, "lagging", PARTITIONS);
    assert_same_contents("shown and stored", &all(&standby, "lagging", PARTITIONS), &after);
    let missing: BTreeSet<_> = acknowledged.difference(&offsets(&after)).copied().collect();
    assert!(missing.len() > 100, "the standby was to lag: {} records missing", missing.len());
    assert_eq!(lost(&report), missing, "what is listed and what is missing");
    assert!(missing.contains(&(0, doubtful)));
    for (partition, records) in &after {
        assert_eq!(
            records[..],
            before[partition][..records.len()],
            "partition {partition}: what is left is what was there"
        );
    }

    // A reader that wants to reach the end that it is told, gets there over what is lost.
    let reader = Positioned::new(&proxy.bootstrap(), "lagging");
    for (partition, records) in &after {
        assert_eq!(reader.watermarks(*partition).1, report_end(&report, *partition), "partition {partition}");
        assert_eq!(reader.at(*partition, records.last().map_or(0, |r| r.offset + 1)), None, "partition {partition}");
    }

    // New records, one of them a retry of what was lost: above all that anybody has seen.
    for (partition, &end) in (0..).zip(&seen_ends) {
        let produced = through.produce("lagging", partition, batch(3, "written anew"));
        assert!(produced.base_offset >= end, "partition {partition}: {} was seen up to {end}", produced.base_offset);
    }
    let now = all(&through, "lagging", PARTITIONS);
    for (partition, records) in &now {
        let new = &records[after[partition].len()..];
        assert_eq!(new.len(), 3, "partition {partition}");
        assert!(new.iter().all(|r| r.offset >= seen_ends[*partition as usize]), "partition {partition}: {new:?}");
        assert_eq!(records[..after[partition].len()], after[partition][..]);
    }

    // The old cluster comes back with the tail that nobody may see.
    east.restart();
    wait_level(&proxy, &standby, "lagging", PARTITIONS);
    assert_verified(&proxy, None);
    switch(&proxy);
    assert_eq!(now, all(&through, "lagging", PARTITIONS), "the same records at the same offsets on the old cluster");
    wait_level(&proxy, &Raw::new("east", &east.bootstrap()), "lagging", PARTITIONS);
    assert_verified(&proxy, None);
}
