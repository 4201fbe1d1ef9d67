//! The standby's copy beside MirrorMaker 2: its CPU and its lag at a steady rate, and how fast and at what cost it catches
//! up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::super::book::percentile;
use super::super::load::{self, Paced};
use super::super::peers::{PARTITIONS, Peer};
use super::super::wire::{Consumer, Producer, Target};
use super::super::{Bench, GB};
use super::throughput::fill;

/// The load of a batching producer at 20 MB/s: a request every 5 ms with 25 records of 1 KB for each partition.
const RATE: f64 = 200.0;
const RECORDS: usize = 25;
const RECORD: usize = 1000;

/// 20 MB/s: the copy's CPU is that of `async` less that of `off`, which carries the same load and copies nothing.
pub fn steady(bench: &mut Bench) {
    let peers = bench.peers(&["off", "async", "mm2"]);
    for round in 0..bench.sizes.rounds {
        for peer in &peers {
            let topic = peer.topic("copy", round);
            bench.rig.create(peer, &topic);
            steady_one(bench, peer, &topic);
            bench.rig.delete(peer, &topic);
        }
        let cost = |peer| bench.book.last("copy", peer, "cpu_s_per_gb");
        if let (Some(with), Some(without)) = (cost("async"), cost("off")) {
            bench.note("copy", "async less off", "cpu_s_per_gb", with - without);
        }
    }
}

fn steady_one(bench: &mut Bench, peer: &Peer, topic: &str) {
    let all: Vec<i32> = (0..PARTITIONS).collect();
    let producer = Producer::connect(&peer.find(topic), &all, RECORDS, RECORD);
    let copied = peer.name != "off";
    let standby = bench.rig.pair().standby.bootstrap();
    let watch = copied.then(|| Watch::start(Target::find(&standby, topic, true), &all));
    // Twice the usual window: the difference of two small figures is wanted.
    let time = 2 * bench.sizes.window;
    let (seen, cost) = bench.costs("copy", peer, |rig| {
        let seen = load::paced(producer, RATE, time);
        if copied {
            rig.wait_copied(peer, topic);
        }
        seen
    });
    bench.note("copy", peer.name, "cpu_s_per_gb", cost.cpu / (seen.bytes as f64 / GB));
    bench.note("copy", peer.name, "resident_mb", cost.resident);
    if let Some(watch) = watch {
        let lags = lags(&seen, &watch.finish());
        bench.note("copy", peer.name, "lag_p50_ms", percentile(&lags, 500));
        bench.note("copy", peer.name, "lag_p99_ms", percentile(&lags, 990));
    }
}

/// When which partition of the standby was readable up to where.
type Sightings = Vec<(Instant, i32, i64)>;

/// A reader of the standby's copy.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Sightings>,
}

impl Watch {
    fn start(target: Target, partitions: &[i32]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut consumer = Consumer::connect(&target, partitions);
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut seen = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                consumer.ask();
                let (_, ends) = consumer.take();
                let now = Instant::now();
                seen.extend(ends.into_iter().map(|(partition, end)| (now, partition, end)));
            }
            seen
        });
        Self { stop, thread }
    }

    fn finish(self) -> Sightings {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the reader of the standby")
    }
}

/// From each acknowledgement to the moment at which a consumer of the standby had the records, in milliseconds.
fn lags(produced: &Paced, seen: &Sightings) -> Vec<f64> {
    let lag = |&(at, partition, end): &(Instant, i32, i64)| {
        let (when, ..) = seen.iter().find(|(_, p, e)| *p == partition && *e >= end)?;
        Some(when.saturating_duration_since(at).as_secs_f64() * 1e3)
    };
    produced.acknowledged.iter().filter_map(lag).collect()
}

/// The copying process is stopped while the active cluster is written to directly, then goes on: warm, and far behind.
pub fn catchup(bench: &mut Bench) {
    let peers = bench.peers(&["async", "mm2"]);
    for round in 0..=bench.sizes.rounds {
        for peer in &peers {
            let topic = peer.topic("catchup", round);
            bench.rig.create(peer, &topic);
            let target = bench.rig.source(peer, &topic);
            // Copied already, so that the topic is known there.
            fill(&target, 1_000_000);
            bench.rig.wait_copied(peer, &topic);
            bench.rig.signal(peer, "STOP");
            let bytes = bench.sizes.consumed / 2;
            fill(&target, bytes);
            let ((), cost) = bench.costs("catchup", peer, |rig| {
                rig.signal(peer, "CONT");
                rig.wait_copied(peer, &topic);
            });
            // The first round warms up.
            if round > 0 {
                bench.note("catchup", peer.name, "mb_per_s", bytes as f64 / 1e6 / cost.wall);
                bench.note("catchup", peer.name, "cpu_s_per_gb", cost.cpu / (bytes as f64 / GB));
                bench.note("catchup", peer.name, "peak_mb", cost.peak);
            }
            bench.rig.delete(peer, &topic);
        }
    }
}

/// What `sync` adds to an acknowledgement at half of the load that it bears.
pub fn sync(bench: &mut Bench) {
    let peers = bench.peers(&["off", "sync", "standby"]);
    let all: Vec<i32> = (0..PARTITIONS).collect();
    for peer in &peers {
        bench.rig.create(peer, &peer.topic("half", 0));
    }
    let Some(sync) = peers.iter().find(|peer| peer.name == "sync") else { return };
    let connect = |peer: &Peer| Producer::connect(&peer.find(&peer.topic("half", 0)), &all, RECORDS, RECORD);
    let requests = 300;
    let start = Instant::now();
    let moved = load::produce(&mut [connect(sync)], 5, requests);
    let rate = requests as f64 / start.elapsed().as_secs_f64() / 2.0;
    bench.note("sync", "sync", "half_load_mb_per_s", rate * moved.bytes as f64 / requests as f64 / 1e6);
    for _ in 0..bench.sizes.rounds {
        for peer in &peers {
            let time = bench.sizes.window;
            let seen = load::paced(connect(peer), rate, time);
            bench.note("sync", peer.name, "p50_ms", percentile(&seen.latencies, 500));
            bench.note("sync", peer.name, "p99_ms", percentile(&seen.latencies, 990));
        }
    }
}
