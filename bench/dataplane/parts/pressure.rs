//! What others feel: a mix of loads, consumers that do not read what they asked for, a standby that stands still.

use std::thread;
use std::time::Duration;

use super::super::book::percentile;
use super::super::load::{self, BATCHED, STORED, Shape};
use super::super::peers::{PARTITIONS, Peer};
use super::super::usage::usage;
use super::super::wire::{Consumer, Producer};
use super::super::{Bench, GB};
use super::throughput::fill;

/// The connection whose latency is looked at: requests per second, one record of 100 B each.
const RATE: f64 = 200.0;
const RECORD: usize = 100;
/// Requests per second of 100 KB beside it: 20 MB/s.
const BULK: f64 = 200.0;
/// Consumers that ask and never read, and how often each asks: 4 MB a time.
const SLOW: usize = 50;
const ASKED: usize = 8;
/// Producers that push at a stopped broker, and how many requests of 1 MB each has under way.
const PUSHING: usize = 50;
const PUSHED: usize = 5;
/// Until what is under way fills every buffer.
const FILLING: Duration = Duration::from_secs(1);

/// A bulk producer at 20 MB/s, a consumer behind it, and small requests, at once.
pub fn mixed(bench: &mut Bench) {
    let peers = bench.peers(&["direct", "haproxy", "relay-64k", "plain", "async"]);
    for round in 0..bench.sizes.rounds {
        for peer in &peers {
            let topic = peer.topic("mixed", round);
            bench.rig.create(peer, &topic);
            let target = peer.find(&topic);
            // Partition 0 is for the small requests: what they wait for is not the other load's disk order.
            let bulk = Producer::connect(&target, &[1], STORED.records, STORED.record_bytes);
            let small = Producer::connect(&target, &[0], 1, RECORD);
            let mut consumer = Consumer::connect(&target, &[1]);
            let time = bench.sizes.window;
            let ((seen, bytes), cost) = bench.costs("mixed", peer, |_| {
                thread::scope(|scope| {
                    let bulk = scope.spawn(|| load::paced(bulk, BULK, time).bytes);
                    // Requests and the one that came first.
                    let last = 1 + (BULK * time.as_secs_f64()) as i64;
                    let end = last * STORED.records as i64;
                    let reader = scope.spawn(move || {
                        let mut bytes = 0;
                        while !consumer.has_read(&[0, end]) {
                            consumer.ask();
                            bytes += consumer.take().0;
                        }
                        bytes
                    });
                    let seen = load::paced(small, RATE, time);
                    (seen, bulk.join().expect("the bulk") + reader.join().expect("the consumer"))
                })
            });
            bench.note("mixed", peer.name, "small_p50_ms", percentile(&seen.latencies, 500));
            bench.note("mixed", peer.name, "small_p99_ms", percentile(&seen.latencies, 990));
            if peer.pid.is_some() {
                bench.note("mixed", peer.name, "cpu_s_per_gb", cost.cpu / (bytes as f64 / GB));
            }
            bench.rig.delete(peer, &topic);
        }
    }
}

/// Other connections' latency and the proxy's memory beside slow consumers, and beside a standby that does not answer.
pub fn pressure(bench: &mut Bench) {
    for peer in bench.peers(&["direct", "haproxy", "plain"]) {
        let topic = peer.topic("slow", 0);
        bench.rig.create(&peer, &topic);
        let target = bench.rig.source(&peer, &topic);
        fill(&target, 40_000_000);
        let all: Vec<i32> = (0..PARTITIONS).collect();
        for _ in 0..bench.sizes.rounds {
            look(bench, &peer, &topic, "alone");
            let mut slow: Vec<_> = (0..SLOW).map(|_| Consumer::connect(&peer.find(&topic), &all)).collect();
            slow.iter_mut().for_each(|consumer| (0..ASKED).for_each(|_| consumer.ask()));
            thread::sleep(FILLING);
            look(bench, &peer, &topic, "slow consumers");
        }
        bench.rig.delete(&peer, &topic);
    }
    stopped_broker(bench);
    silent_standby(bench);
}

fn silent_standby(bench: &mut Bench) {
    let Some(peer) = bench.peers(&["async"]).pop() else { return };
    let topic = peer.topic("silent", 0);
    bench.rig.create(&peer, &topic);
    for _ in 0..bench.sizes.rounds {
        look(bench, &peer, &topic, "alone");
        bench.rig.pair().standby.pause();
        // The tee's buffers fill first.
        fill(&peer.find(&topic), 200_000_000);
        look(bench, &peer, &topic, "silent standby");
        bench.rig.pair().standby.resume();
        bench.rig.wait_copied(&peer, &topic);
    }
    bench.rig.delete(&peer, &topic);
}

/// Producers send what the broker does not take: memory must stay bounded, and all of it must arrive afterwards.
fn stopped_broker(bench: &mut Bench) {
    for peer in bench.peers(&["haproxy", "plain"]) {
        let topic = peer.topic("stopped", 0);
        bench.rig.create(&peer, &topic);
        let pushing = Shape { connections: PUSHING, ..BATCHED };
        let mut producers = load::producers(&peer.find(&topic), pushing, PARTITIONS);
        bench.rig.east.pause();
        let cost = thread::scope(|scope| {
            let sent = scope.spawn(|| load::produce(&mut producers, PUSHED, PUSHING * PUSHED));
            thread::sleep(FILLING);
            let cost = peer.pid.map(usage);
            bench.rig.east.resume();
            sent.join().expect("all is acknowledged");
            cost
        });
        if let Some(cost) = cost {
            bench.note("pressure", &format!("{}, stopped broker", peer.name), "resident_mb", cost.resident);
        }
        bench.rig.delete(&peer, &topic);
    }
}

fn look(bench: &mut Bench, peer: &Peer, topic: &str, beside: &str) {
    let producer = Producer::connect(&peer.find(topic), &[0], 1, RECORD);
    // The slowest hundredth of fewer requests is a matter of one pause of the broker's.
    let time = bench.sizes.window * 2;
    let (seen, cost) = bench.costs("pressure", peer, |_| load::paced(producer, RATE, time));
    let name = format!("{}, {beside}", peer.name);
    bench.note("pressure", &name, "p50_ms", percentile(&seen.latencies, 500));
    bench.note("pressure", &name, "p99_ms", percentile(&seen.latencies, 990));
    if peer.pid.is_some() {
        bench.note("pressure", &name, "resident_mb", cost.resident);
        bench.note("pressure", &name, "peak_mb", cost.peak);
    }
}
