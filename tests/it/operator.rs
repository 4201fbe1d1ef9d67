//! What operators type, scrape and script against: commands and exit codes, status, metrics, checks.

use std::process::{Command, Stdio};
use std::time::Duration;

use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use serde_json::Value;

use crate::support::cluster::{Cluster, Spec};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::wait::{wait_for, wait_until};
use crate::wire::frames::metric;
use crate::wire::raw::{Raw, batch, topic_name};

const PATIENCE: Duration = Duration::from_secs(60);
/// Nothing listens there.
const NOWHERE: [(&str, &str); 2] = [("east", "127.0.0.1:7"), ("west", "127.0.0.1:9")];

/// What a command said.
pub struct Said {
    pub exit: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

/// Runs a command of the program; `admin` is where the API is.
pub fn run(proxy: &mut Proxy, arguments: &str) -> Said {
    let admin = proxy.admin();
    let mut command = Command::new(&proxy.spec_mut().binary);
    command.args(arguments.split(' ')).env("KAFKA_STANDBY_ADMIN", admin).stdin(Stdio::null());
    let output = command.output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { exit: output.status.code().expect("an exit code"), out: text(&output.stdout), err: text(&output.stderr) }
}

pub fn assert_exit(proxy: &mut Proxy, arguments: &str, exit: i32) -> Said {
    let said = run(proxy, arguments);
    assert_eq!(said.exit, exit, "{arguments}\n{}\n{}", said.out, said.err);
    if exit != 0 {
        assert!(!said.err.is_empty() || !said.out.is_empty(), "{arguments}: an error says why");
    }
    said
}

/// A proxy that reaches neither cluster.
fn lonely() -> Proxy {
    let spec = ProxySpec::between(&NOWHERE, "async");
    Proxy::prepare(spec)
}

#[test]
fn a_proxy_without_clusters_is_alive_but_not_ready_and_says_why() {
    let mut proxy = lonely();
    proxy.launch();
    wait_until("the API", PATIENCE, || proxy.get("/livez").is_ok());
    assert_eq!(proxy.get("/livez").expect("alive").0, 200);
    let (status, problem) = proxy.get("/readyz").expect("an answer");
    assert_eq!((status, &problem["status"]), (503, &Value::from(503)), "{problem}");
    wait_for("the reasons", PATIENCE, || {
        let (_, problem) = proxy.get("/readyz")?;
        let text = problem["detail"].as_str().unwrap_or_default().to_owned();
        if text.contains("east") || text.contains("cluster") { Ok(()) } else { Err(text) }
    });
    let (status, page) = proxy.get("/metrics").expect("metrics all the same");
    assert!(status == 200 && page.as_str().is_some(), "{page}");
    // A question that cannot be answered is a failure, not a silence; the API itself is there.
    assert_exit(&mut proxy, "switchover", 1);
    assert_eq!(proxy.terminate(), 0, "SIGTERM ends it cleanly");
}

#[test]
fn exit_codes_tell_usage_from_an_absent_api() {
    let mut proxy = lonely();
    for command in
        ["status", "switchover", "failover --yes", "verify", "report", "translate --topic t --partition 0 --offset 1"]
    {
        let said = assert_exit(&mut proxy, command, 3);
        assert!(said.out.is_empty(), "{}", said.out);
    }
    for usage in
        ["", "frobnicate", "status --bogus", "translate --topic t", "switchover --timeout soon", "serve", "report x"]
    {
        assert_exit(&mut proxy, usage, 2);
    }
    // Nobody is there to answer.
    assert_exit(&mut proxy, "failover", 2);
    proxy.launch();
    proxy.kill();
    let good = proxy.config_path().display().to_string();
    assert_exit(&mut proxy, &format!("check --config {good}"), 0);
    let text = std::fs::read_to_string(&good).expect("the configuration");
    let bad = proxy.config_path().with_file_name("bad.toml");
    std::fs::write(&bad, text.replace("[listener]", "[listener]\nbindd = \"x\"")).expect("it is written");
    let bad = bad.display().to_string();
    let said = assert_exit(&mut proxy, &format!("check --config {bad}"), 2);
    assert!(said.err.contains("bindd") && said.err.contains("`bind`"), "the nearest known key: {}", said.err);
    assert_exit(&mut proxy, &format!("serve --config {bad}"), 2);
    assert_exit(&mut proxy, "check --config /no/such/file", 2);
    // Both clusters are out of reach: what was asked for does not hold.
    assert_exit(&mut proxy, &format!("check --config {good} --online"), 1);
}

#[test]
fn operators_see_ask_and_switch() {
    let [mut east, west] = Cluster::start_all([Spec::new("east"), Spec::new("west")]);
    east.create_topic("orders", 2, &[]);
    let mut proxy = Proxy::start(ProxySpec::new(&east, &west, "sync"));
    let mut client = Raw::connect(&proxy.bootstrap());
    produce(&mut client);
    proxy.wait_in_sync(PATIENCE);

    let status = proxy.status();
    assert_status(&status);
    let said = assert_exit(&mut proxy, "status --json", 0).json();
    assert_eq!((&said["active"], &said["generation"]), (&status["active"], &status["generation"]));
    let said = assert_exit(&mut proxy, "status", 0);
    assert!(said.out.contains("orders") && said.out.contains("east"), "{}", said.out);
    translations(&mut proxy);
    answers_of_the_api(&proxy);

    let dry = assert_exit(&mut proxy, "switchover --dry-run --json", 0).json();
    assert_eq!((&dry["outcome"], &dry["dry_run"], &dry["from"]), (&"done".into(), &true.into(), &"east".into()));
    assert_eq!(proxy.status()["generation"], 0, "a dry run changes nothing");
    assert_exit(&mut proxy, "report 1", 1);
    let report = assert_exit(&mut proxy, "switchover --timeout 30s --json", 0).json();
    assert_report(&report);
    assert_eq!(proxy.status()["generation"], 1);
    let kept = assert_exit(&mut proxy, "report 1 --json", 0).json();
    assert_eq!((&kept["generation"], &kept["started_at"]), (&report["generation"], &report["started_at"]));
    assert_exit(&mut proxy, "report", 0);
    produce(&mut client);
    proxy.wait_in_sync(PATIENCE);
    let verified = assert_exit(&mut proxy, "verify --json", 0).json();
    assert_eq!(verified["equal"], true, "{verified}");
    translations(&mut proxy);
    metrics(&proxy);

    // Without a standby a planned cutover is refused and nothing changes; a dry run of a failover says so too.
    east.kill();
    let refused = assert_exit(&mut proxy, "switchover --json", 1).json();
    assert_eq!(refused["outcome"], "refused", "{refused}");
    assert!(refused["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()), "{refused}");
    assert_exit(&mut proxy, "verify", 1);
    assert_eq!(proxy.get("/readyz").expect("an answer").0, 200, "clients are served");
    produce(&mut client);
    assert_eq!(proxy.terminate(), 0, "SIGTERM drains and ends it cleanly");
}

/// Three records into each partition of `orders`.
fn produce(client: &mut Raw) {
    let records = Some(batch("order", 3));
    let data = [0, 1].map(|n| PartitionProduceData::default().with_index(n).with_records(records.clone()));
    let topic = TopicProduceData::default().with_name(topic_name("orders")).with_partition_data(data.into());
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(20_000).with_topic_data(vec![topic]);
    let reply = client.ask(9, &request);
    assert!(reply.responses[0].partition_responses.iter().all(|p| p.error_code == 0), "{reply:?}");
}

fn assert_status(status: &Value) {
    for (field, expected) in [
        ("active", Value::from("east")),
        ("standby", "west".into()),
        ("generation", 0.into()),
        ("phase", "steady".into()),
        ("standby_in_sync", true.into()),
    ] {
        assert_eq!(status[field], expected, "{field}: {status}");
    }
    assert!(status["connections"].as_u64() >= Some(1), "{status}");
    let partitions = status["partitions"].as_array().expect("partitions");
    let orders: Vec<&Value> = partitions.iter().filter(|p| p["topic"] == "orders").collect();
    assert_eq!(orders.len(), 2, "{status}");
    for (number, partition) in orders.into_iter().enumerate() {
        for (field, expected) in [
            ("partition", Value::from(number)),
            ("mode", "sync".into()),
            ("stream", "tee".into()),
            ("in_sync", true.into()),
            ("logical_start", 0.into()),
            ("logical_end", 3.into()),
            ("active_end", 3.into()),
            ("standby_end", 3.into()),
            ("lag_records", 0.into()),
            ("lag_bytes", 0.into()),
            ("lag_seconds", 0.0.into()),
        ] {
            assert_eq!(partition[field], expected, "{field}: {partition}");
        }
    }
}

fn assert_report(report: &Value) {
    for (field, expected) in [
        ("kind", Value::from("switchover")),
        ("outcome", "done".into()),
        ("generation", 1.into()),
        ("from", "east".into()),
        ("to", "west".into()),
        ("lost", Value::Array(Vec::new())),
    ] {
        assert_eq!(report[field], expected, "{field}: {report}");
    }
    assert!(report["hold_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{report}");
    let started = report["started_at"].as_str().expect("a time");
    assert!(started.len() == 24 && started.ends_with('Z'), "{started}");
    let phases: Vec<&str> =
        report["phases"].as_array().expect("phases").iter().filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(phases, ["preflight", "hold", "drain", "commit", "resume"], "{report}");
    let partitions = report["partitions"].as_array().expect("partitions");
    let orders: Vec<_> = partitions.iter().filter(|p| p["topic"] == "orders").collect();
    assert_eq!(orders.len(), 2, "{report}");
    for partition in orders {
        for field in ["logical_end", "from_end", "to_end"] {
            assert_eq!(partition[field], 3, "{field}: {report}");
        }
    }
}

/// The same record by all its offsets; nothing for one that is not there.
fn translations(proxy: &mut Proxy) {
    for arguments in ["--offset 2", "--offset 2 --cluster west", "--offset 2 --cluster east"] {
        let said = assert_exit(proxy, &format!("translate --topic orders --partition 1 {arguments} --json"), 0).json();
        assert_eq!(said["logical_offset"], 2, "{said}");
        assert_eq!((&said["cluster_offsets"]["east"], &said["cluster_offsets"]["west"]), (&2.into(), &2.into()));
    }
    assert_exit(proxy, "translate --topic orders --partition 1 --offset 2", 0);
    for beyond in ["--offset 1000000", "--offset 1000000 --cluster east", "--offset 1000000 --cluster west"] {
        let said = assert_exit(proxy, &format!("translate --topic orders --partition 1 {beyond} --json"), 1).json();
        assert_eq!(said["cluster_offsets"]["east"], Value::Null, "{said}");
        assert_eq!(said["cluster_offsets"]["west"], Value::Null, "{said}");
    }
    for unknown in ["--topic none --partition 0 --offset 1", "--topic orders --partition 7 --offset 1"] {
        assert_exit(proxy, &format!("translate {unknown}"), 1);
    }
    assert_exit(proxy, "translate --topic orders --partition 0 --offset 1 --cluster north", 1);
}

fn answers_of_the_api(proxy: &Proxy) {
    for (path, expected) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/v1/status", 200),
        ("/v1/reports", 200),
        ("/v1/reports/7", 404),
        ("/v1/reports/x", 400),
        ("/v1/translate?topic=orders&partition=0&offset=1", 200),
        ("/v1/translate?topic=orders", 400),
        ("/v1/translate?topic=none&partition=0&offset=1", 404),
        ("/v1/openapi.json", 200),
        ("/v1/nothing", 404),
        ("/v1/switchover", 405),
    ] {
        let (status, body) = proxy.get(path).expect(path);
        assert_eq!(status, expected, "{path}: {body}");
        if expected >= 400 {
            assert_eq!(body["status"], expected, "{path} is a problem document: {body}");
            assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{path}: {body}");
        }
    }
    let (status, body) = proxy.post("/v1/switchover", &serde_json::json!({"dry_runn": true})).expect("an answer");
    assert_eq!(status, 400, "a misspelt key must not start a cutover: {body}");
    let described = proxy.get("/v1/openapi.json").expect("the description").1;
    for path in ["status", "switchover", "failover", "reports", "reports/{generation}", "verify", "translate", "reload"]
    {
        assert!(described["paths"][format!("/v1/{path}")].is_object(), "{path} is not described");
    }
}

/// Every name of the interface, after a cutover, with labels and values that are right.
fn metrics(proxy: &Proxy) {
    let page = proxy.get("/metrics").expect("the metrics").1;
    let page = page.as_str().expect("text");
    for name in [
        "generation",
        "active",
        "standby_in_sync",
        "stream_lag_records",
        "stream_lag_bytes",
        "stream_lag_seconds",
        "tee_batches_total",
        "requests_total",
        "request_seconds",
        "upstream_request_seconds",
        "bytes_total",
        "connections",
        "cutovers_total",
        "cutover_seconds",
        "buffer_bytes",
        "build_info",
    ] {
        assert!(page.contains(&format!("# TYPE kafka_standby_{name} ")), "{name} is missing in\n{page}");
    }
    let value = |series: &str| metric(proxy, &format!("kafka_standby_{series}"));
    for (series, expected) in [
        ("generation", 1),
        ("active{cluster=\"east\"}", 0),
        ("active{cluster=\"west\"}", 1),
        ("standby_in_sync", 1),
        ("stream_lag_records{topic=\"orders\",partition=\"0\"}", 0),
        ("stream_lag_bytes{topic=\"orders\",partition=\"1\"}", 0),
        ("cutovers_total{kind=\"switchover\",outcome=\"done\"}", 1),
        ("buffer_bytes{pool=\"tee\"}", 0),
        ("buffer_bytes{pool=\"held\"}", 0),
        ("requests_total{api=\"Produce\",result=\"rewritten\"}", 2),
        ("connections{side=\"client\"}", 1),
    ] {
        assert!(page.contains(&format!("kafka_standby_{series} ")), "{series} is missing in\n{page}");
        assert_eq!(value(series), expected, "{series}");
    }
    for series in [
        "tee_batches_total{result=\"fed\"}",
        "bytes_total{direction=\"client_in\"}",
        "bytes_total{direction=\"client_out\"}",
        "bytes_total{direction=\"cluster_in\"}",
        "bytes_total{direction=\"cluster_out\"}",
        "connections{side=\"cluster\"}",
        "request_seconds_count{api=\"Produce\"}",
        "upstream_request_seconds_count{cluster=\"east\",api=\"Produce\"}",
        "upstream_request_seconds_count{cluster=\"west\",api=\"Produce\"}",
        "cutover_seconds_count{phase=\"drain\"}",
    ] {
        assert!(value(series) > 0, "{series} in\n{page}");
    }
}
