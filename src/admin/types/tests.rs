use super::*;
use serde_json::{Value, json};

/// The status that INTERFACE shows.
pub(crate) fn status() -> Status {
    Status {
        active: "east".to_owned(),
        standby: Some("west".to_owned()),
        generation: 0,
        phase: Phase::Steady,
        standby_in_sync: true,
        connections: 12,
        partitions: vec![PartitionStatus {
            topic: "t".to_owned(),
            partition: 0,
            mode: TeeMode::Sync,
            stream: StreamState::Tee,
            in_sync: true,
            logical_start: 0,
            logical_end: 42,
            active_end: 42,
            standby_end: Some(42),
            lag_records: 0,
            lag_bytes: 0,
            lag_seconds: 0.0,
            bypass_batches: 0,
            holes: Vec::new(),
            truncations: Vec::new(),
            detail: None,
        }],
        last_cutover: None,
        last_verify: None,
        alarms: Vec::new(),
        offset_map_runs: 1,
        offset_map_bytes: 24,
    }
}

/// The report that INTERFACE shows.
pub(crate) fn report() -> Report {
    let phase = |name, ms| PhaseDone { name, ms };
    Report {
        kind: CutoverKind::Switchover,
        outcome: Outcome::Done,
        dry_run: false,
        generation: 1,
        from: "east".to_owned(),
        to: "west".to_owned(),
        started_at: UtcMillis(1_767_225_600_000),
        hold_ms: 41.7,
        phases: vec![
            phase(Phase::Preflight, 12.1),
            phase(Phase::Hold, 3.0),
            phase(Phase::Drain, 20.2),
            phase(Phase::Commit, 15.3),
            phase(Phase::Resume, 3.2),
        ],
        lost: vec![LostRange { topic: "t".to_owned(), partition: 0, logical_from: 40, logical_to: 42, records: 2 }],
        partitions: vec![PartitionEnd {
            topic: "t".to_owned(),
            partition: 0,
            logical_end: 42,
            from_end: Some(42),
            to_end: Some(42),
        }],
        reasons: Vec::new(),
        warnings: Vec::new(),
    }
}

/// Of two clusters that differ in one record.
pub(crate) fn verify_report() -> VerifyReport {
    VerifyReport {
        equal: false,
        started_at: UtcMillis(0),
        ms: 5.5,
        topics: vec![VerifiedTopic {
            topic: "t".to_owned(),
            partitions: vec![VerifiedPartition {
                partition: 0,
                batches: 3,
                records: 30,
                fingerprints: 2,
                differences: 1,
            }],
        }],
        differences: vec![Difference {
            topic: "t".to_owned(),
            partition: 0,
            logical_offset: 7,
            what: "the value differs".to_owned(),
        }],
        differences_total: 1,
        skipped: Vec::new(),
    }
}

/// Asserts that `value` has the given JSON and that the JSON reads back as `value`.
fn golden<T: Serialize + for<'de> Deserialize<'de> + PartialEq + fmt::Debug>(value: &T, wanted: Value) {
    let found = serde_json::to_value(value).unwrap();
    assert_eq!(found, wanted);
    assert_eq!(&serde_json::from_value::<T>(found).unwrap(), value);
}

#[test]
fn status_json() {
    let mut full = status();
    full.last_cutover = Some(CutoverSummary {
        kind: CutoverKind::Failover,
        outcome: Outcome::RolledBack,
        generation: 0,
        started_at: UtcMillis(1),
        hold_ms: 2.5,
    });
    full.partitions[0].stream = StreamState::CatchUp;
    full.partitions[0].detail = Some("why".to_owned());
    golden(
        &full,
        json!({"active":"east","standby":"west","generation":0,"phase":"steady","standby_in_sync":true,"connections":12,
            "partitions":[{"topic":"t","partition":0,"mode":"sync","stream":"catch_up","in_sync":true,
                "logical_start":0,"logical_end":42,"active_end":42,"standby_end":42,
                "lag_records":0,"lag_bytes":0,"lag_seconds":0.0,"bypass_batches":0,"detail":"why"}],
            "last_cutover":{"kind":"failover","outcome":"rolled_back","generation":0,
                "started_at":"1970-01-01T00:00:00.001Z","hold_ms":2.5},
            "last_verify":null,"alarms":[],"offset_map_runs":1,"offset_map_bytes":24}),
    );
    full.standby = None;
    full.partitions[0].standby_end = None;
    let json = serde_json::to_value(&full).unwrap();
    assert_eq!(json["standby"], Value::Null);
    assert_eq!(json["partitions"][0]["standby_end"], Value::Null);
}

/// A status of the fixed fields only, as another version may write it, can be read.
#[test]
fn the_fixed_fields_are_enough_to_read_a_status() {
    let text = r#"{"active":"east","standby":"west","generation":0,"phase":"steady","standby_in_sync":true,
        "connections":12,"later":1,
        "partitions":[{"topic":"t","partition":0,"mode":"sync","stream":"tee","in_sync":true,
          "logical_start":0,"logical_end":42,"active_end":42,"standby_end":42,
          "lag_records":0,"lag_bytes":0,"lag_seconds":0.0}]}"#;
    let mut wanted = status();
    (wanted.offset_map_runs, wanted.offset_map_bytes) = (0, 0);
    assert_eq!(serde_json::from_str::<Status>(text).unwrap(), wanted);
}

#[test]
fn report_json() {
    let mut wanted = json!({"kind":"switchover","outcome":"done","generation":1,"from":"east","to":"west",
        "started_at":"2026-01-01T00:00:00.000Z","hold_ms":41.7,
        "phases":[{"name":"preflight","ms":12.1},{"name":"hold","ms":3.0},{"name":"drain","ms":20.2},
            {"name":"commit","ms":15.3},{"name":"resume","ms":3.2}],
        "lost":[{"topic":"t","partition":0,"logical_from":40,"logical_to":42,"records":2}],
        "partitions":[{"topic":"t","partition":0,"logical_end":42,"from_end":42,"to_end":42}]});
    golden(&report(), wanted.clone());
    let mut refused = report();
    refused.outcome = Outcome::Refused;
    refused.dry_run = true;
    refused.reasons = vec!["the standby is not in sync".to_owned()];
    wanted["outcome"] = json!("refused");
    wanted["dry_run"] = json!(true);
    wanted["reasons"] = json!(["the standby is not in sync"]);
    golden(&refused, wanted);
}

#[test]
fn verify_json() {
    golden(
        &verify_report(),
        json!({"equal":false,"started_at":"1970-01-01T00:00:00.000Z","ms":5.5,
            "topics":[{"topic":"t","partitions":[
                {"partition":0,"batches":3,"records":30,"fingerprints":2,"differences":1}]}],
            "differences":[{"topic":"t","partition":0,"logical_offset":7,"what":"the value differs"}],
            "differences_total":1,"skipped":[]}),
    );
}

#[test]
fn the_rest() {
    golden(&CutoverRequest::default(), json!({"dry_run":false}));
    golden(&CutoverRequest { dry_run: true, timeout_ms: Some(5) }, json!({"dry_run":true,"timeout_ms":5}));
    assert!(serde_json::from_str::<CutoverRequest>(r#"{"dryrun":true}"#).is_err());
    let clusters = [("east".to_owned(), Some(3)), ("west".to_owned(), None)];
    golden(
        &Translation {
            topic: "t".to_owned(),
            partition: 1,
            logical_offset: Some(5),
            cluster_offsets: clusters.into(),
            detail: Some("not copied yet".to_owned()),
        },
        json!({"topic":"t","partition":1,"logical_offset":5,"cluster_offsets":{"east":3,"west":null},
            "detail":"not copied yet"}),
    );
    golden(
        &ReloadReport { changed: vec!["tee".to_owned()], needs_restart: vec![] },
        json!({"changed":["tee"],"needs_restart":[]}),
    );
    golden(&CutoverEvent::Phase(PhaseDone { name: Phase::Hold, ms: 1.0 }), json!({"phase":{"name":"hold","ms":1.0}}));
}

/// The names in labels and in JSON are the same.
#[test]
fn names() {
    use Phase::*;
    for phase in [Steady, Preflight, Hold, Drain, Commit, Resume] {
        assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
    }
    for state in StreamState::ALL {
        assert_eq!(serde_json::to_value(state).unwrap(), state.name());
    }
    for outcome in [Outcome::Done, Outcome::Refused, Outcome::RolledBack] {
        assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.name());
    }
    for kind in [CutoverKind::Switchover, CutoverKind::Failover] {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
}
