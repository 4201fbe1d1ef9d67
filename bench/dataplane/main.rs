//! The data plane's cost beside its peers: CPU per byte and per request, latency, memory, the standby's copy, measured as
//! whole processes on real Kafka in interleaved rounds. bench/README.md says how to read the results.

mod book;
mod fetched;
mod load;
mod mirror;
mod parts;
mod peers;
mod perf;
mod relay;
mod report;
// A bench is built with its unit tests' helpers, but without the tests.
#[allow(unused_imports)]
#[path = "../../tests/support/mod.rs"]
mod support;
mod svg;
mod targets;
mod usage;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};

use book::{Book, short};
use peers::{Peer, Rig};
use usage::{Cost, costs};

/// Bytes, as in all figures here: decimal.
pub const GB: f64 = 1e9;

/// The data plane's cost beside its peers, on real Kafka
#[derive(Parser)]
struct Arguments {
    /// Parts to run; all of them without a name
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Interleaved rounds; the default is 3, with --quick 1
    #[arg(long)]
    rounds: Option<u32>,
    /// A look in about two minutes: too short for figures
    #[arg(long)]
    quick: bool,
    /// Amounts are multiplied by it
    #[arg(long, default_value_t = 1.0)]
    amount: f64,
    /// Ten thousand connections and partitions too: needs `ulimit -n 65536` and some minutes
    #[arg(long)]
    large: bool,
    /// Only these contestants, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Profile each measured process with perf and show its hottest functions
    #[arg(long)]
    perf: bool,
    /// Measure nothing: write the tables and plots of what is kept
    #[arg(long)]
    tables: bool,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Produce,
    Small,
    Consume,
    Latency,
    Copy,
    Catchup,
    Sync,
    Mixed,
    Pressure,
    Storm,
    Scale,
    Open,
    /// Consume after a cutover
    After,
}

/// How much is done.
pub struct Sizes {
    pub rounds: u32,
    /// Bytes produced for each contestant and round; bytes that each reads.
    pub produced: usize,
    pub consumed: usize,
    /// Small requests.
    pub requests: usize,
    /// Of a load at a fixed rate.
    pub window: Duration,
    /// Ten thousand connections and partitions too.
    pub large: bool,
}

impl Sizes {
    fn new(arguments: &Arguments) -> Self {
        let quick = if arguments.quick { 0.25 } else { 1.0 };
        let amount = |full: f64| full * quick * arguments.amount;
        Self {
            rounds: arguments.rounds.unwrap_or(if arguments.quick { 1 } else { 3 }).max(1),
            produced: amount(600e6) as usize,
            consumed: amount(1e9) as usize,
            requests: amount(40e3) as usize,
            window: Duration::from_secs_f64(amount(4.0).max(1.0)),
            large: arguments.large,
        }
    }
}

/// What the parts share.
pub struct Bench {
    pub rig: Rig,
    pub sizes: Sizes,
    pub book: Book,
    only: Vec<String>,
    perf: bool,
}

impl Bench {
    /// Those of the named contestants that take part in this run.
    pub fn peers(&mut self, names: &[&'static str]) -> Vec<Peer> {
        let wanted = |name: &&&'static str| self.only.is_empty() || self.only.iter().any(|only| only == **name);
        let names: Vec<_> = names.iter().filter(wanted).copied().collect();
        self.rig.peers(&names)
    }

    pub fn note(&mut self, part: &str, peer: &str, measure: &str, value: f64) {
        println!("{part:10} {peer:12} {measure:20} {}", short(value));
        self.book.note(part, peer, measure, value);
    }

    /// Does it and accounts for what the contestant used.
    pub fn costs<T>(&mut self, part: &str, peer: &Peer, work: impl FnOnce(&mut Rig) -> T) -> (T, Cost) {
        let profile =
            self.perf.then(|| peer.pid.map(|pid| perf::start(pid, &format!("{part}-{}", peer.name)))).flatten();
        let done = costs(peer.pid, || work(&mut self.rig));
        if let Some(profile) = profile {
            perf::finish(profile);
        }
        done
    }
}

fn main() -> ExitCode {
    // What runs as a contestant of its own is this executable again.
    let words: Vec<String> = std::env::args().collect();
    if let [_, relay, port, to, buffer] = words.as_slice()
        && relay == "relay"
    {
        let (port, to, buffer) = (port.parse(), to.parse(), buffer.parse());
        let run = relay::run(port.expect("a port"), to.expect("an address"), buffer.expect("a size"));
        run.expect("the relay runs");
    }
    let arguments = Arguments::parse();
    if arguments.tables {
        return kept(&Book::default(), &json!({}));
    }
    // Not all contestants, too short, or slowed down by being watched.
    let look = arguments.quick || arguments.perf || !arguments.only.is_empty();
    let chosen = |part: &Part| arguments.parts.is_empty() || arguments.parts.contains(part);
    let parts: Vec<Part> = Part::value_variants().iter().copied().filter(chosen).collect();
    let sizes = Sizes::new(&arguments);
    let mut bench =
        Bench { rig: Rig::start(), sizes, book: Book::default(), only: arguments.only, perf: arguments.perf };
    for part in parts {
        if !matches!(part, Part::Copy | Part::Catchup) {
            bench.rig.stop_mirror();
        }
        match part {
            Part::Produce => parts::throughput::produce(&mut bench),
            Part::Small => parts::throughput::small(&mut bench),
            Part::Consume => parts::throughput::consume(&mut bench),
            Part::Latency => parts::latency::latency(&mut bench),
            Part::Copy => parts::copy::steady(&mut bench),
            Part::Catchup => parts::copy::catchup(&mut bench),
            Part::Sync => parts::copy::sync(&mut bench),
            Part::Mixed => parts::pressure::mixed(&mut bench),
            Part::Pressure => parts::pressure::pressure(&mut bench),
            Part::Storm => parts::scale::storm(&mut bench),
            Part::Scale => parts::scale::scale(&mut bench),
            Part::Open => parts::open::open(&mut bench),
            Part::After => parts::throughput::after(&mut bench),
        }
    }
    println!("\n{}", targets::table(&bench.book));
    let how = json!({
        "rounds": bench.sizes.rounds,
        "amount": arguments.amount,
        "profile": if cfg!(debug_assertions) { "dev" } else { "release" },
    });
    if look {
        println!("a look: nothing is kept");
        return ExitCode::SUCCESS;
    }
    kept(&bench.book, &how)
}

fn kept(book: &Book, how: &Value) -> ExitCode {
    match report::keep(book, how) {
        Ok(directory) => println!("kept in {}", directory.display()),
        Err(error) => {
            eprintln!("the results could not be kept: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
