//! The metrics: counters and timings that the data path counts into, and gauges written from the status at each scrape.
//!
//! [`install`] must come before anything is counted: handles are kept, and one made without a recorder counts nowhere.
//! Labels take their values from this program and its configuration, never from clients. Gauges are not kept in the
//! recorder but written from the status: a partition that is gone leaves no series behind.

mod gauges;

use std::sync::OnceLock;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::types::Report;

pub use gauges::gauges;

/// API keys are small; a larger one (refused anyway) counts under [`OTHER_API`].
const MAX_API_KEY: usize = 128;
const OTHER_API: &str = "other";

/// Seconds. The proxy adds microseconds as a rule and tens of seconds at worst, while it holds requests.
const BUCKETS: [f64; 14] =
    [50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 250e-3, 1.0, 5.0, 30.0];

/// How a client's request was dealt with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestResult {
    /// Passed on as bytes.
    Forwarded,
    /// Passed on, decoded and changed.
    Rewritten,
    /// Answered by the proxy.
    Answered,
    /// Answered by the proxy with an error.
    Refused,
    /// Never answered: its connection broke first.
    Failed,
}

/// What became of a batch that was offered to a stream by the tee.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TeeResult {
    /// Went to the standby as it was.
    Fed,
    /// Not contiguous with the last one: the gap is fetched.
    Gap,
    /// The buffer was full: the stream catches up by fetching.
    Overflow,
    /// Maybe not stored as it was sent: the stored bytes are fetched.
    NotVerbatim,
}

/// Which way bytes went, on which side of the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    ClientIn,
    ClientOut,
    ClusterIn,
    ClusterOut,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Client,
    Cluster,
}

/// What buffered bytes wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pool {
    /// The standby.
    Tee,
    /// The end of a cutover.
    Held,
    /// Their client.
    Replies,
}

/// The handles of one API.
pub struct ApiMetrics {
    results: [Counter; 5],
    /// Time added by the proxy: from the last byte in to the first byte out, both ways, without the cluster's own.
    pub seconds: Histogram,
}

impl ApiMetrics {
    fn new(api: &'static str) -> ApiMetrics {
        let results = ["forwarded", "rewritten", "answered", "refused", "failed"];
        ApiMetrics {
            results: results.map(|result| counter!("kafka_standby_requests_total", "api" => api, "result" => result)),
            seconds: histogram!("kafka_standby_request_seconds", "api" => api),
        }
    }

    /// Counts one request.
    pub fn count(&self, result: RequestResult) {
        self.count_many(result, 1);
    }

    /// Counts so many requests.
    pub fn count_many(&self, result: RequestResult, requests: usize) {
        let at = match result {
            RequestResult::Forwarded => 0,
            RequestResult::Rewritten => 1,
            RequestResult::Answered => 2,
            RequestResult::Refused => 3,
            RequestResult::Failed => 4,
        };
        if let Some(counter) = self.results.get(at) {
            counter.increment(requests as u64);
        }
    }
}

/// The handles of an API; `name` is the label the first time that the key is asked for.
pub fn api(key: i16, name: &'static str) -> &'static ApiMetrics {
    static KNOWN: [OnceLock<ApiMetrics>; MAX_API_KEY] = [const { OnceLock::new() }; MAX_API_KEY];
    static OTHER: OnceLock<ApiMetrics> = OnceLock::new();
    match usize::try_from(key).ok().and_then(|key| KNOWN.get(key)) {
        Some(slot) => slot.get_or_init(|| ApiMetrics::new(name)),
        None => OTHER.get_or_init(|| ApiMetrics::new(OTHER_API)),
    }
}

/// Counts one request: `requests_total{api,result}`.
pub fn request(key: i16, name: &'static str, result: RequestResult) {
    api(key, name).count(result);
}

/// Time that a cluster took to answer, for the caller to keep: `upstream_request_seconds{cluster,api}`.
pub fn upstream_seconds(cluster: &str, api: &'static str) -> Histogram {
    histogram!("kafka_standby_upstream_request_seconds", "cluster" => cluster.to_owned(), "api" => api)
}

/// `tee_batches_total{result}`.
pub fn tee_batches(result: TeeResult) -> &'static Counter {
    static FED: OnceLock<Counter> = OnceLock::new();
    static GAP: OnceLock<Counter> = OnceLock::new();
    static OVERFLOW: OnceLock<Counter> = OnceLock::new();
    static NOT_VERBATIM: OnceLock<Counter> = OnceLock::new();
    let (slot, label) = match result {
        TeeResult::Fed => (&FED, "fed"),
        TeeResult::Gap => (&GAP, "gap"),
        TeeResult::Overflow => (&OVERFLOW, "overflow"),
        TeeResult::NotVerbatim => (&NOT_VERBATIM, "not_verbatim"),
    };
    slot.get_or_init(|| counter!("kafka_standby_tee_batches_total", "result" => label))
}

/// Bytes of batches that streams appended to a cluster while it was the standby: `stream_bytes_total{cluster}`.
pub fn stream_bytes(cluster: &str) -> Counter {
    counter!("kafka_standby_stream_bytes_total", "cluster" => cluster.to_owned())
}

/// Logs of the active cluster that were found cut off below what had been read of them: `log_truncations_total`.
pub fn log_truncations() -> &'static Counter {
    static COUNTER: OnceLock<Counter> = OnceLock::new();
    COUNTER.get_or_init(|| counter!("kafka_standby_log_truncations_total"))
}

/// `bytes_total{direction}`.
pub fn bytes(direction: Direction) -> &'static Counter {
    static CLIENT_IN: OnceLock<Counter> = OnceLock::new();
    static CLIENT_OUT: OnceLock<Counter> = OnceLock::new();
    static CLUSTER_IN: OnceLock<Counter> = OnceLock::new();
    static CLUSTER_OUT: OnceLock<Counter> = OnceLock::new();
    let (slot, label) = match direction {
        Direction::ClientIn => (&CLIENT_IN, "client_in"),
        Direction::ClientOut => (&CLIENT_OUT, "client_out"),
        Direction::ClusterIn => (&CLUSTER_IN, "cluster_in"),
        Direction::ClusterOut => (&CLUSTER_OUT, "cluster_out"),
    };
    slot.get_or_init(|| counter!("kafka_standby_bytes_total", "direction" => label))
}

/// Open connections: `connections{side}`; incremented and decremented by whoever opens and closes them.
pub fn connections(side: Side) -> &'static Gauge {
    static CLIENT: OnceLock<Gauge> = OnceLock::new();
    static CLUSTER: OnceLock<Gauge> = OnceLock::new();
    let (slot, label) = match side {
        Side::Client => (&CLIENT, "client"),
        Side::Cluster => (&CLUSTER, "cluster"),
    };
    slot.get_or_init(|| gauge!("kafka_standby_connections", "side" => label))
}

/// Buffered bytes: `buffer_bytes{pool}`.
pub fn buffer_bytes(pool: Pool) -> &'static Gauge {
    static TEE: OnceLock<Gauge> = OnceLock::new();
    static HELD: OnceLock<Gauge> = OnceLock::new();
    static REPLIES: OnceLock<Gauge> = OnceLock::new();
    let (slot, label) = match pool {
        Pool::Tee => (&TEE, "tee"),
        Pool::Held => (&HELD, "held"),
        Pool::Replies => (&REPLIES, "replies"),
    };
    slot.get_or_init(|| gauge!("kafka_standby_buffer_bytes", "pool" => label))
}

/// Counts something in a gauge for as long as this lives.
pub struct Counted {
    gauge: &'static Gauge,
    amount: f64,
}

impl Counted {
    /// An open connection.
    pub fn connection(side: Side) -> Self {
        Counted::new(connections(side), 1.0)
    }

    /// Bytes that wait.
    pub fn bytes(pool: Pool, bytes: usize) -> Self {
        Counted::new(buffer_bytes(pool), bytes as f64)
    }

    fn new(gauge: &'static Gauge, amount: f64) -> Self {
        gauge.increment(amount);
        Counted { gauge, amount }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.decrement(self.amount);
    }
}

/// Counts a closed connection by its cause, a constant of the caller: `disconnects_total{side,cause}`.
pub fn disconnect(side: Side, cause: &'static str) {
    let side = match side {
        Side::Client => "client",
        Side::Cluster => "cluster",
    };
    counter!("kafka_standby_disconnects_total", "side" => side, "cause" => cause).increment(1);
}

/// Counts a finished cutover and its phases; dry runs are not cutovers.
pub fn cutover(report: &Report) {
    if report.dry_run {
        return;
    }
    let (kind, outcome) = (report.kind.name(), report.outcome.name());
    counter!("kafka_standby_cutovers_total", "kind" => kind, "outcome" => outcome).increment(1);
    for phase in &report.phases {
        histogram!("kafka_standby_cutover_seconds", "phase" => phase.name.name()).record(phase.ms / 1e3);
    }
}

/// Sets up the recorder of this process; a second call gives the first one's handle.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    static INSTALLED: parking_lot::Mutex<Option<PrometheusHandle>> = parking_lot::Mutex::new(None);
    let mut installed = INSTALLED.lock();
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let timings = Matcher::Suffix("_seconds".to_owned());
    let handle = PrometheusBuilder::new().set_buckets_for_metric(timings, &BUCKETS)?.install_recorder()?;
    describe();
    *installed = Some(handle.clone());
    Ok(handle)
}

fn describe() {
    let count = |name: &'static str, text: &'static str| describe_counter!(name, text);
    count("kafka_standby_requests_total", "Requests of clients, by how they were dealt with.");
    count("kafka_standby_tee_batches_total", "Batches offered to streams by the tee, by what became of them.");
    count("kafka_standby_stream_bytes_total", "Bytes of batches that streams appended to a standby.");
    count("kafka_standby_log_truncations_total", "Logs whose end the active cluster has lost.");
    count("kafka_standby_bytes_total", "Bytes read and written.");
    count("kafka_standby_disconnects_total", "Connections closed, by cause.");
    count("kafka_standby_cutovers_total", "Cutovers, by kind and outcome.");
    let time = |name: &'static str, text: &'static str| describe_histogram!(name, Unit::Seconds, text);
    time("kafka_standby_request_seconds", "Time that the proxy added to a request.");
    time("kafka_standby_upstream_request_seconds", "Time that a cluster took to answer the proxy.");
    time("kafka_standby_cutover_seconds", "Time of each phase of a cutover.");
    describe_gauge!("kafka_standby_connections", "Open connections.");
    describe_gauge!("kafka_standby_buffer_bytes", Unit::Bytes, "Bytes buffered, by what they wait for.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_under_the_documented_names() {
        let handle = install().unwrap();
        request(126, "TestApi", RequestResult::Rewritten);
        request(-7, "ignored", RequestResult::Refused);
        api(126, "TestApi").seconds.record(0.002);
        tee_batches(TeeResult::Overflow).increment(2);
        bytes(Direction::ClientIn).increment(5);
        let _kept = Counted::bytes(Pool::Held, 9);
        drop(Counted::bytes(Pool::Held, 5));
        disconnect(Side::Cluster, "test_only");
        upstream_seconds("east", "TestApi").record(0.1);
        let text = install().unwrap().render();
        assert_eq!(text.is_empty(), handle.render().is_empty());
        for line in [
            "kafka_standby_requests_total{api=\"TestApi\",result=\"rewritten\"} 1",
            "kafka_standby_requests_total{api=\"other\",result=\"refused\"} 1",
            "kafka_standby_request_seconds_bucket{api=\"TestApi\",le=\"0.0025\"} 1",
            "kafka_standby_tee_batches_total{result=\"overflow\"} 2",
            "kafka_standby_bytes_total{direction=\"client_in\"} 5",
            "kafka_standby_buffer_bytes{pool=\"held\"} 9",
            "kafka_standby_disconnects_total{side=\"cluster\",cause=\"test_only\"} 1",
            "kafka_standby_upstream_request_seconds_count{cluster=\"east\",api=\"TestApi\"} 1",
            "# TYPE kafka_standby_requests_total counter",
            "# HELP kafka_standby_bytes_total Bytes read and written.",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    /// Each metric that an alert rule asks for is one that the program has.
    #[test]
    fn alerts_ask_for_metrics_that_exist() {
        let counted = include_str!("metrics.rs");
        let rules = include_str!("../../config/alerts.yml");
        let text = gauges(&crate::admin::types::tests::status(), true, true);
        let names: Vec<&str> = rules
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("kafka_standby_"))
            .collect();
        assert!(names.len() >= 6);
        for name in names {
            let known =
                text.contains(&format!("# TYPE {name} gauge")) || counted.contains(&format!("count(\"{name}\""));
            assert!(known, "{name}");
        }
    }
}
