//! The demo: two real clusters, the proxy, a producer and a consumer group that know only the proxy; a switchover, then
//! the loss of the active cluster and a failover; and the count of what that cost.
//!
//! Whatever it started dies with it, however it ends (see `support::process` and `support::temp`).

mod interrupt;
mod progress;
mod show;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use serde_json::Value;

use progress::Ticker;
use support::checker::{Seen, check};
use support::cluster::{Cluster, Spec};
use support::load::{Load, LoadSpec, Outcome};
use support::proxy::{Proxy, ProxySpec};
use support::scan;

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 6;
/// The promise: after the build the demo takes no longer, whatever goes wrong.
const LIMIT: Duration = Duration::from_secs(180);
/// For each wait inside.
const PATIENCE: Duration = Duration::from_secs(30);

/// A switchover and a failover under load, between two real Kafka clusters
#[derive(Parser)]
struct Arguments {
    /// How long the load runs: a third of it before the switchover, between the cutovers, and after the failover
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Records per second of each of the two producers
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// The proxy's executable [default: the one built beside this demo]
    #[arg(long)]
    proxy: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    interrupt::on_signal_or_after(LIMIT);
    show::step("starting two Kafka clusters, east and west");
    let [mut east, mut west] = Cluster::start_all([Spec::new("east"), Spec::new("west")]);
    east.create_topic(TOPIC, PARTITIONS, &[]);
    show::step("starting the proxy: east is active, west is the standby, tee mode sync");
    let mut spec = ProxySpec::new(&east, &west, "sync");
    if let Some(binary) = arguments.proxy {
        spec.binary = binary;
    }
    let proxy = Proxy::start(spec);
    proxy.wait_in_sync(PATIENCE);

    show::step(&format!("two producers and a group of two consumers at {}", proxy.bootstrap()));
    let spec = LoadSpec { records_per_second: arguments.rate, ..LoadSpec::new(&proxy.bootstrap(), TOPIC) };
    let load = Load::start(spec);
    let third = Duration::from_secs(arguments.seconds) / 3;
    let reports = thread::scope(|scope| {
        let _ticker = Ticker::start(scope, &proxy, &load);
        load.wait_for_more(1, PATIENCE);
        thread::sleep(third);

        show::step("switchover");
        let switchover = proxy.switchover();
        show::report(&switchover);
        thread::sleep(third);

        let active = proxy.wait_in_sync(PATIENCE)["active"].clone();
        show::step(&format!("SIGKILL of the active cluster, {}", active.as_str().unwrap_or("?")));
        if active == "east" {
            east.kill()
        } else {
            west.kill()
        }
        show::step("failover");
        let failover = proxy.failover();
        show::report(&failover);
        thread::sleep(third);
        [switchover, failover]
    });

    show::step("stopping the load, reading the topic once more from its start");
    let outcome = load.finish(PATIENCE);
    let stored = scan::numbered(&proxy.bootstrap(), TOPIC, PATIENCE);
    conclude(outcome, stored, &reports)
}

/// Prints the reports and the verdict.
fn conclude(outcome: Outcome, stored: Result<Vec<Seen>, String>, reports: &[Value]) -> ExitCode {
    for report in reports {
        show::whole_report(report);
    }
    for error in &outcome.errors {
        println!("client error after {:.1} s: {}: {}", error.at.as_secs_f64(), error.who, error.text);
    }
    let Outcome { mut history, errors, longest_producer_stall, longest_consumer_stall, .. } = outcome;
    let scanned = stored.is_ok();
    match stored {
        Ok(stored) => history.stored = Some(stored),
        Err(error) => println!("the topic could not be read again: {error}"),
    }
    let verdict = check(&history);
    if !verdict.is_clean() {
        println!("{verdict}{}", verdict.examples());
    }
    println!("{}", show::verdict_line(&verdict, longest_producer_stall, longest_consumer_stall));
    if verdict.is_clean() && verdict.acknowledged > 0 && scanned && errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
