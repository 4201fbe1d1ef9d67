//! What a contestant adds to the time of a produce at a fixed rate that leaves the machine room.

use super::super::Bench;
use super::super::book::percentile;
use super::super::load;
use super::super::wire::Producer;

const PEERS: [&str; 6] = ["direct", "haproxy", "relay-64k", "plain", "async", "sync"];
/// Requests per second, one record of 100 B each, on one connection.
const RATE: f64 = 500.0;
const RECORD: usize = 100;

pub fn latency(bench: &mut Bench) {
    let peers = bench.peers(&PEERS);
    for peer in &peers {
        bench.rig.create(peer, &peer.topic("latency", 0));
    }
    for _ in 0..bench.sizes.rounds {
        for peer in &peers {
            let producer = Producer::connect(&peer.find(&peer.topic("latency", 0)), &[0], 1, RECORD);
            let time = bench.sizes.window;
            let (seen, cost) = bench.costs("latency", peer, |_| load::paced(producer, RATE, time));
            bench.note("latency", peer.name, "p50_ms", percentile(&seen.latencies, 500));
            bench.note("latency", peer.name, "p99_ms", percentile(&seen.latencies, 990));
            if peer.pid.is_some() {
                bench.note("latency", peer.name, "cpu_us_per_request", cost.cpu * 1e6 / seen.latencies.len() as f64);
            }
        }
    }
}
