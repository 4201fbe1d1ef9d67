//! Memory and idle CPU by connections and partitions, and a storm of reconnecting clients.

use std::thread;

use super::super::Bench;
use super::super::load::{self, SMALL};
use super::super::peers::{Crowd, PARTITIONS};
use super::super::support::client;
use super::super::usage::usage;
use super::super::wire::Wire;

/// What a proxy of its own is looked at with, one after the other: partitions, then connections on top.
const STEPS: [(i32, &[usize]); 3] = [(1, &[0]), (100, &[0, 100, 1000]), (1000, &[0, 1000])];
/// Further ones, which take a machine with room for brokers of that size.
const LARGE: [(i32, &[usize]); 2] = [(1000, &[9000]), (9000, &[0])];
/// A topic whose load must not feel the idle crowd; it is not copied.
const LOADED: &str = "off-scale-load";
/// Idle connections of the other contestants.
const OTHERS: usize = 1000;
/// Connections that come at once.
const STORM: usize = 2000;
/// Threads that open and use them.
const HANDS: usize = 8;

/// Idle connections and partitions: the proxy between two clusters, everything copied asynchronously. Each connection has
/// asked for metadata, so each has its connection to the broker as well.
pub fn scale(bench: &mut Bench) {
    let Some(peer) = bench.peers(&["async"]).pop() else { return };
    bench.rig.cluster(&peer).create_topic(LOADED, PARTITIONS, &[]);
    let large = bench.sizes.large;
    let steps = STEPS.into_iter().chain(LARGE.into_iter().filter(|_| large));
    for (n, (partitions, crowds)) in steps.enumerate() {
        let topic = format!("async-scale-{n}");
        bench.rig.cluster(&peer).create_topic(&topic, partitions, &[]);
        // A proxy that has just started: what it once needed for something else is not counted.
        bench.rig.pair().restart();
        let peer = bench.peers(&["async"]).pop().unwrap_or(peer.clone());
        for &connections in crowds {
            let crowd = Crowd::of(&peer, &topic, connections);
            let name = format!("{connections} connections, {partitions} partitions");
            let time = bench.sizes.window;
            let ((), cost) = bench.costs("scale", &peer, |_| thread::sleep(time));
            bench.note("scale", &name, "resident_mb", cost.resident);
            bench.note("scale", &name, "idle_cpu_percent", cost.cpu / cost.wall * 100.0);
            let requests = bench.sizes.requests / 8;
            let mut producers = load::producers(&peer.find(LOADED), SMALL, PARTITIONS);
            let (moved, cost) = bench.costs("scale", &peer, |_| load::produce(&mut producers, SMALL.depth, requests));
            bench.note("scale", &name, "cpu_us_per_small_request", cost.cpu * 1e6 / moved.requests as f64);
            drop(crowd);
        }
        client::delete_topic(&bench.rig.cluster(&peer).bootstrap(), &topic);
    }
    slopes(bench);
    // The others' memory, though not of processes that have just started.
    for peer in bench.peers(&["haproxy", "relay-64k", "plain"]) {
        let topic = peer.topic("crowd", 0);
        bench.rig.create(&peer, &topic);
        let _crowd = Crowd::of(&peer, &topic, OTHERS);
        let ((), cost) = bench.costs("scale", &peer, |_| ());
        bench.note("scale", &format!("{}, {OTHERS} connections", peer.name), "resident_mb", cost.resident);
    }
}

/// What each further connection and partition takes.
fn slopes(bench: &mut Bench) {
    let resident = |connections: usize, partitions: i32| {
        let name = format!("{connections} connections, {partitions} partitions");
        bench.book.median("scale", &name, "resident_mb")
    };
    let per = |more: Option<f64>, less: Option<f64>, count: f64| Some((more? - less?) * 1e6 / 1024.0 / count);
    let connection = per(resident(1000, 100), resident(100, 100), 900.0);
    let partition = per(resident(0, 1000), resident(0, 100), 900.0);
    for (name, value) in [("each connection", connection), ("each partition", partition)] {
        if let Some(value) = value {
            bench.note("scale", name, "resident_kib", value);
        }
    }
}

/// All clients lose their connections and come back at once: time until each has its first answer.
pub fn storm(bench: &mut Bench) {
    let peers = bench.peers(&["direct", "haproxy", "relay-64k", "plain"]);
    for peer in &peers {
        bench.rig.create(peer, &peer.topic("storm", 0));
    }
    for _ in 0..bench.sizes.rounds {
        for peer in &peers {
            let topic = peer.topic("storm", 0);
            let address = peer.find(&topic).address;
            let before = Crowd::of(peer, &topic, STORM);
            let (failed, cost) = bench.costs("storm", peer, |_| {
                drop(before);
                reconnect(&address, &topic)
            });
            bench.note("storm", peer.name, "not_answered", failed as f64);
            bench.note("storm", peer.name, "all_answered_ms", cost.wall * 1e3);
            if let Some(pid) = peer.pid {
                bench.note("storm", peer.name, "cpu_us_per_connection", cost.cpu * 1e6 / STORM as f64);
                bench.note("storm", peer.name, "peak_mb", usage(pid).peak);
            }
        }
    }
}

/// Connects all before any waits for its answer; gives how many got none.
fn reconnect(address: &str, topic: &str) -> usize {
    let hand = || {
        let open = |_| Wire::try_connect(address).ok();
        let mut wires: Vec<_> = (0..STORM / HANDS).filter_map(open).collect();
        let asked: Vec<bool> = wires.iter_mut().map(|wire| wire.send_metadata(topic).is_ok()).collect();
        let answered =
            wires.iter_mut().zip(asked).filter_map(|(wire, asked)| (asked && wire.frame().is_ok()).then_some(()));
        STORM / HANDS - answered.count()
    };
    thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS).map(|_| scope.spawn(hand)).collect();
        hands.into_iter().map(|hand| hand.join().expect("a hand")).sum()
    })
}
