//! How long clients stand still at a cutover: the longest silence of any partition, for producers and for consumers, over
//! many switchovers, and over failovers measured from the command. bench/README.md says how to read the results.

#[path = "stall/figures.rs"]
mod figures;
// A bench is built with its unit tests' helpers, but without the tests.
#[allow(unused_imports)]
#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};

use figures::{Figures, ms, table};
use support::checker::check;
use support::cluster::{Cluster, Spec};
use support::load::{Gaps, Load, LoadSpec};
use support::proxy::{Proxy, ProxySpec};
use support::scan;
use support::wait::{wait_for, wait_until};

const TOPIC: &str = "stall";
const PARTITIONS: i32 = 6;
/// For each wait: a killed cluster that recovers its log on a busy machine is the longest.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between the loss of the active cluster and the command: nothing that was under way is taken for a resumption.
const NOTICED: Duration = Duration::from_secs(1);
/// Switchovers per failover, and per window without a cutover.
const RARER: u32 = 5;

/// Stalls of switchovers and failovers under load, between two real Kafka clusters
#[derive(Parser)]
struct Arguments {
    /// Switchovers; a fifth as many windows without a cutover
    #[arg(long, default_value_t = 50)]
    runs: u32,
    /// Failovers; a fifth as many as switchovers unless said
    #[arg(long)]
    failovers: Option<u32>,
    /// Records per second of each of the two producers
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// What an acknowledgement means for the standby: sync or async
    #[arg(long, default_value = "sync")]
    tee: String,
    /// Seconds that belong to a cutover: consumer groups are re-homed within five
    #[arg(long, default_value_t = 7)]
    window: u64,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

/// One measured window.
struct Run {
    producer: Duration,
    consumer: Duration,
    /// The proxy's report; null without a cutover.
    report: Value,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut rig = Rig::start(&arguments);
    let rarer = arguments.runs.div_ceil(RARER);
    let quiet = rig.repeat("quiet", rarer, Rig::quiet);
    let switchovers = rig.repeat("switchover", arguments.runs, Rig::switchover);
    let failovers = rig.repeat("failover", arguments.failovers.unwrap_or(rarer), Rig::failover);
    let sound = rig.conclude();

    let kinds = [("quiet", quiet), ("switchover", switchovers), ("failover", failovers)];
    let text = table(&kinds.iter().map(|(kind, runs)| (*kind, figures(runs))).collect::<Vec<_>>());
    println!("\n{text}\n{sound}");
    let clean = sound.is_clean();
    let mut document = json!({
        "topic": {"partitions": PARTITIONS, "record_bytes": 1024, "records_per_second": 2 * arguments.rate},
        "tee": arguments.tee,
        "window_s": arguments.window,
        "profile": if cfg!(debug_assertions) { "dev" } else { "release" },
        "cores": thread::available_parallelism().map_or(0, usize::from),
        "verdict": sound.to_string(),
    });
    for (kind, runs) in &kinds {
        document[*kind] = json!({"figures": figures(runs), "runs": runs.iter().map(Run::json).collect::<Vec<_>>()});
    }
    if let Err(error) = keep(&document, &text) {
        eprintln!("the results could not be kept: {error}");
        return ExitCode::FAILURE;
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Run {
    fn new(producer: Duration, consumer: Duration, report: Value) -> Self {
        Self { producer, consumer, report }
    }

    fn hold_ms(&self) -> Option<f64> {
        self.report["hold_ms"].as_f64()
    }

    fn json(&self) -> Value {
        let (producer, consumer) = (ms(self.producer), ms(self.consumer));
        let phases = self.report["phases"].clone();
        json!({"producer_ms": producer, "consumer_ms": consumer, "hold_ms": self.hold_ms(), "phases": phases})
    }
}

fn figures(runs: &[Run]) -> Figures {
    let of = |value: fn(&Run) -> Option<f64>| runs.iter().filter_map(value).collect::<Vec<_>>();
    Figures {
        runs: runs.len(),
        hold: of(Run::hold_ms).into(),
        producer: of(|run| Some(ms(run.producer))).into(),
        consumer: of(|run| Some(ms(run.consumer))).into(),
    }
}

fn keep(document: &Value, table: &str) -> std::io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/results");
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("stall.json"), format!("{document:#}\n"))?;
    std::fs::write(directory.join("stall.md"), table)?;
    println!("kept in {}", directory.display());
    Ok(())
}

/// Two clusters, the proxy and the load, which live through all runs.
struct Rig {
    // In this order: clients go first, clusters last.
    load: Load,
    proxy: Proxy,
    east: Cluster,
    west: Cluster,
    window: Duration,
}

impl Rig {
    fn start(arguments: &Arguments) -> Self {
        let [east, west] = Cluster::start_all([Spec::new("east"), Spec::new("west")]);
        east.create_topic(TOPIC, PARTITIONS, &[]);
        let proxy = Proxy::start(ProxySpec::new(&east, &west, &arguments.tee));
        proxy.wait_in_sync(PATIENCE);
        let spec = LoadSpec { records_per_second: arguments.rate, ..LoadSpec::new(&proxy.bootstrap(), TOPIC) };
        let load = Load::start(spec);
        load.wait_for_more(1000, PATIENCE);
        Self { load, proxy, east, west, window: Duration::from_secs(arguments.window) }
    }

    fn repeat(&mut self, kind: &str, times: u32, run: fn(&mut Self) -> Run) -> Vec<Run> {
        let mut runs = Vec::new();
        for n in 1..=times {
            let done = run(self);
            let hold = done.hold_ms().map(|hold| format!(", held {hold:.1} ms")).unwrap_or_default();
            let (producer, consumer) = (ms(done.producer), ms(done.consumer));
            let again = self.load.window().1.again;
            let again = if again > 0 { format!(", {again} records read again") } else { String::new() };
            println!("{kind} {n}/{times}: producers {producer:.0} ms, consumers {consumer:.0} ms{hold}{again}");
            runs.push(done);
        }
        runs
    }

    /// What the load shows of itself without a cutover.
    fn quiet(&mut self) -> Run {
        self.load.open_window();
        let (producer, consumer) = self.close_window();
        Run::new(producer.longest, consumer.longest, Value::Null)
    }

    fn switchover(&mut self) -> Run {
        self.level();
        self.load.open_window();
        let report = done(self.proxy.switchover());
        let (producer, consumer) = self.close_window();
        Run::new(producer.longest, consumer.longest, report)
    }

    /// Stalls count from the command on: until then it is the operator's time, not the proxy's.
    fn failover(&mut self) -> Run {
        let active = self.level()["active"].as_str().unwrap_or_default().to_owned();
        self.cluster(&active).kill();
        thread::sleep(NOTICED);
        self.load.open_window();
        let report = done(self.proxy.failover());
        let both = |(producer, consumer): (Gaps, Gaps)| producer.resumed.zip(consumer.resumed);
        let resumed = wait_for("the load to go on", PATIENCE, || both(self.load.window()).ok_or("it does not".into()));
        // Groups are re-homed behind it, which consumers may notice once more.
        self.load.open_window();
        let (producer, consumer) = self.close_window();
        self.cluster(&active).restart();
        Run::new(resumed.0.max(producer.longest), resumed.1.max(consumer.longest), report)
    }

    fn cluster(&mut self, name: &str) -> &mut Cluster {
        if name == self.east.name() { &mut self.east } else { &mut self.west }
    }

    /// Waits until both clusters have the same and the load flows; gives the status.
    fn level(&self) -> Value {
        let status = self.proxy.wait_in_sync(PATIENCE);
        self.load.wait_for_more(100, PATIENCE);
        status
    }

    /// Lets the window's time pass and looks into it once every partition has been heard of in it.
    fn close_window(&self) -> (Gaps, Gaps) {
        let start = Instant::now();
        wait_until("the load to go on", self.window + PATIENCE, || {
            let (producer, consumer) = self.load.window();
            start.elapsed() >= self.window && producer.resumed.is_some() && consumer.resumed.is_some()
        });
        self.load.window()
    }

    /// Figures of a run that lost something would be worth nothing.
    fn conclude(self) -> support::checker::Verdict {
        let outcome = self.load.finish(PATIENCE);
        for error in &outcome.errors {
            println!("client error after {:.1} s: {}: {}", error.at.as_secs_f64(), error.who, error.text);
        }
        let mut history = outcome.history;
        match scan::numbered(&self.proxy.bootstrap(), TOPIC, PATIENCE) {
            Ok(stored) => history.stored = Some(stored),
            Err(error) => println!("the topic could not be read again: {error}"),
        }
        let verdict = check(&history);
        if !verdict.is_clean() {
            println!("{}", verdict.examples());
        }
        verdict
    }
}

/// The report of a cutover that came about.
fn done(report: Value) -> Value {
    assert_eq!(report["outcome"], "done", "{report:#}");
    report
}
