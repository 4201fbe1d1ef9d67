//! What it takes to open the streams of many partitions, at a start and, in the other direction, after a switchover.

use std::thread;
use std::time::{Duration, Instant};

use super::super::Bench;
use super::super::peers::{PATIENCE, Pair};
use super::super::support::client;
use super::super::support::proxy::Proxy;
use super::super::support::wait::wait_until;
use super::super::usage::usage;
use super::super::wire::Producer;

/// Copied partitions, each with a record.
const STEP: i32 = 1000;
/// With `--large`.
const LARGE: i32 = 10_000;
/// A request's part of them.
const IN_ONE_REQUEST: usize = 1000;
/// The first start stores what is new and lets Java warm up: it is not counted.
const WARM_UP: u32 = 1;

pub fn open(bench: &mut Bench) {
    let Some(peer) = bench.peers(&["async"]).pop() else { return };
    for partitions in [STEP].into_iter().chain(bench.sizes.large.then_some(LARGE)) {
        let topic = format!("async-open-{partitions}");
        bench.rig.cluster(&peer).create_topic(&topic, partitions, &[]);
        let source = bench.rig.source(&peer, &topic);
        // Led is not yet there: a broker makes its logs one after the other.
        wait_until("the partitions to be there", PATIENCE, || source.ends_of_log().iter().all(|&end| end >= 0));
        for some in (0..partitions).collect::<Vec<_>>().chunks(IN_ONE_REQUEST) {
            Producer::connect(&source, some, 1, 100);
        }
        bench.rig.wait_copied(&peer, &topic);
        for round in 0..bench.sizes.rounds + WARM_UP {
            let mut note = |what: &str, measure: &str, value: f64| {
                if round >= WARM_UP {
                    bench.book.note("open", &format!("{what}, {partitions} partitions"), measure, value);
                }
                println!("open       {what}, {partitions} partitions  {measure:20} {value:.1}");
            };
            let pair = bench.rig.pair();
            started(pair, &topic, partitions, &mut note);
            // There and back.
            for _ in 0..2 {
                switched(pair, &topic, partitions, &mut note);
            }
        }
        client::delete_topic(&bench.rig.cluster(&peer).bootstrap(), &topic);
    }
}

/// A start of the process.
fn started(pair: &mut Pair, topic: &str, partitions: i32, note: &mut impl FnMut(&str, &str, f64)) {
    pair.proxy.terminate();
    let start = Instant::now();
    pair.proxy.launch();
    wait_open(&pair.proxy, topic, partitions, 0);
    let (open, used) = (start.elapsed(), usage(pair.proxy.id()));
    pair.proxy.wait_ready();
    note("start", "open_ms", open.as_secs_f64() * 1e3);
    note("start", "ready_ms", start.elapsed().as_secs_f64() * 1e3);
    note("start", "cpu_ms", used.cpu * 1e3);
    note("start", "peak_mb", used.peak);
    note("start", "upstream_requests", requests(&pair.proxy));
}

/// A switchover, until all streams run the other way.
fn switched(pair: &mut Pair, topic: &str, partitions: i32, note: &mut impl FnMut(&str, &str, f64)) {
    pair.proxy.wait_switchable(PATIENCE);
    let pid = pair.proxy.id();
    let (before, sent) = (usage(pid).cpu, requests(&pair.proxy));
    let start = Instant::now();
    let report = pair.proxy.switchover();
    assert_eq!(report["outcome"], "done", "{report:#}");
    let answered = start.elapsed();
    wait_open(&pair.proxy, topic, partitions, report["generation"].as_u64().expect("a generation"));
    note("switchover", "open_ms", start.elapsed().as_secs_f64() * 1e3);
    note("switchover", "cpu_ms", (usage(pid).cpu - before) * 1e3);
    note("switchover", "upstream_requests", requests(&pair.proxy) - sent);
    note("switchover", "hold_ms", report["hold_ms"].as_f64().expect("hold_ms"));
    note("switchover", "report_ms", answered.as_secs_f64() * 1e3);
    std::mem::swap(&mut pair.active, &mut pair.standby);
}

/// Looks as seldom as is exact enough: to tell of thousands of partitions costs the proxy something, too.
fn wait_open(proxy: &Proxy, topic: &str, partitions: i32, generation: u64) {
    let pause = Duration::from_millis(partitions.max(STEP) as u64 / 40);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let open = match proxy.get("/v1/status") {
            Ok((200, status)) if status["generation"].as_u64() >= Some(generation) => {
                let rows = status["partitions"].as_array().into_iter().flatten();
                rows.filter(|row| row["topic"] == topic && row["stream"] == "tee").count()
            }
            _ => 0,
        };
        if open == partitions as usize {
            return;
        }
        assert!(Instant::now() < deadline, "{open} of {partitions} streams are open:\n{}", proxy.log());
        thread::sleep(pause);
    }
}

/// What the proxy has asked of both clusters so far.
fn requests(proxy: &Proxy) -> f64 {
    let Ok((200, text)) = proxy.get("/metrics") else { return f64::NAN };
    let counts = text.as_str().unwrap_or_default().lines().filter_map(|line| {
        let rest = line.strip_prefix("kafka_standby_upstream_request_seconds_count")?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    });
    counts.sum()
}
