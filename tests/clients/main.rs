//! The client matrix as a command: every client program under tests/clients through cutovers, a table of what that cost.

#[path = "../demo/interrupt.rs"]
mod interrupt;
mod matrix;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;

use matrix::judge::Judgement;
use matrix::known::{CLIENTS, Known, find};
use matrix::program::{Unprepared, prepare};
use matrix::results;
use matrix::scenario::{Results, Rig};
use matrix::table::{NoRuns, Row, Runs, markdown};

/// For one client, both ways; a run that takes longer hangs.
const LIMIT_EACH: Duration = Duration::from_secs(900);

/// Every client library through a switchover, a failover and the switchover back
#[derive(Parser)]
struct Arguments {
    /// Clients to run, by the names that --list shows [default: all]
    clients: Vec<String>,
    /// Names them and ends
    #[arg(long)]
    list: bool,
    /// Records per second of each client
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// The proxy's executable [default: the one built beside this runner]
    #[arg(long)]
    proxy: Option<PathBuf>,
    /// A client that this machine has no tools for counts as a failure
    #[arg(long)]
    all: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        CLIENTS.iter().for_each(|known| println!("{:24} {}", known.name, known.title));
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&'static Known> = match arguments.clients.as_slice() {
        [] => CLIENTS.iter().collect(),
        names => match names.iter().map(|name| find(name).ok_or(name)).collect() {
            Ok(known) => known,
            Err(name) => {
                eprintln!("no client is called {name}; see --list");
                return ExitCode::from(2);
            }
        },
    };
    interrupt::on_signal_or_after(LIMIT_EACH * u32::try_from(wanted.len()).unwrap_or(u32::MAX));
    let rows: Vec<Row> = wanted.into_iter().map(|known| run(known, &arguments)).collect();
    println!("\n{}", markdown(&rows));
    let kept = results::keep(&rows, &results::directory());
    match &kept {
        Ok(()) => println!("kept in {}", results::directory().display()),
        Err(error) => eprintln!("the results could not be kept: {error}"),
    }
    let broken = rows.iter().any(|row| !row.violations().is_empty());
    if kept.is_err() || broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run(known: &'static Known, arguments: &Arguments) -> Row {
    println!("==> {} ({})", known.title, known.name);
    let prepared = match prepare(known, false) {
        Ok(prepared) => prepared,
        Err(Unprepared::Absent(reason)) => {
            println!("    NOT RUN: {reason}");
            return Row { known, outcome: Err(NoRuns { reason, is_failure: arguments.all }) };
        }
        Err(Unprepared::Failed(reason)) => {
            println!("    BROKEN: {reason}");
            return Row { known, outcome: Err(NoRuns { reason, is_failure: true }) };
        }
    };
    // What cannot be done panics, as in a test: the other clients get their turn all the same.
    let (rate, proxy) = (arguments.rate, arguments.proxy.clone());
    let both = thread::spawn(move || {
        let mut rig = Rig::start(rate, known.transaction_version, proxy);
        let first = |mut results: Results| results.remove(0).1;
        let proxied: Judgement = first(rig.through_the_proxy(std::slice::from_ref(&prepared)));
        // At once: what follows may come to no end.
        let violations = proxied.violations(|role| known.limit(role));
        println!("    through the proxy: {} acknowledged, {violations:?}, {:?}", proxied.acknowledged, proxied.notes);
        let stamp = results::stamp();
        Runs { stamp, rate, proxied, direct: first(rig.without_a_proxy(&[prepared])) }
    });
    let failed = NoRuns { reason: "the run came to no end".into(), is_failure: true };
    let row = Row { known, outcome: both.join().map_err(|_| failed) };
    match row.violations().as_slice() {
        [] => println!("    holds"),
        violations => violations.iter().for_each(|v| println!("    BROKEN: {v}")),
    }
    row
}
