//! Produce, small requests, consume: CPU per gigabyte or request, and how much goes through.

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::super::load::{self, BATCHED, Moved, SMALL, STORED, Shape};
use super::super::peers::{PARTITIONS, PATIENCE, Peer};
use super::super::support::client;
use super::super::usage::Cost;
use super::super::wire::Target;
use super::super::{Bench, GB};

const PRODUCE: [&str; 7] = ["direct", "haproxy", "relay-64k", "relay-256k", "plain", "async", "sync"];
const CONSUME: [&str; 5] = ["direct", "haproxy", "relay-64k", "relay-256k", "plain"];

/// 1 KB records in batches of 1 MB, acks=all.
pub fn produce(bench: &mut Bench) {
    let requests = bench.sizes.produced / (BATCHED.records * BATCHED.record_bytes);
    produce_rounds(bench, "produce", BATCHED, requests);
}

/// One record of 1.2 KB per request, many connections.
pub fn small(bench: &mut Bench) {
    let requests = bench.sizes.requests;
    produce_rounds(bench, "small", SMALL, requests);
}

fn produce_rounds(bench: &mut Bench, part: &str, shape: Shape, requests: usize) {
    let peers = bench.peers(&PRODUCE);
    for round in 0..bench.sizes.rounds {
        for peer in &peers {
            let topic = peer.topic(part, round);
            bench.rig.create(peer, &topic);
            let mut producers = load::producers(&peer.find(&topic), shape, PARTITIONS);
            let mut wall = 0.0;
            let (moved, mut cost) = bench.costs(part, peer, |rig| {
                let start = std::time::Instant::now();
                let moved = load::produce(&mut producers, shape.depth, requests);
                wall = start.elapsed().as_secs_f64();
                // What was acknowledged before it was copied is still to be paid for.
                if peer.name == "async" {
                    rig.wait_copied(peer, &topic);
                }
                moved
            });
            cost.wall = wall;
            note(bench, part, peer, moved, cost);
            drop(producers);
            bench.rig.delete(peer, &topic);
        }
    }
}

/// Reads a topic from its start, offsets as the cluster has them.
pub fn consume(bench: &mut Bench) {
    let peers = bench.peers(&CONSUME);
    let topic = "off-consume";
    bench.rig.east.create_topic(topic, PARTITIONS, &[]);
    let bootstrap = bench.rig.east.bootstrap();
    let ends = fill(&Target::find(&bootstrap, topic, true), bench.sizes.consumed);
    for _ in 0..bench.sizes.rounds {
        for peer in &peers {
            consume_round(bench, "consume", peer, topic, &ends);
        }
    }
    client::delete_topic(&bootstrap, topic);
}

/// Writes `bytes` of 1 KB records, and gives the partitions' ends.
pub fn fill(target: &Target, bytes: usize) -> Vec<i64> {
    let mut producers = load::producers(target, STORED, PARTITIONS);
    load::produce(&mut producers, STORED.depth, bytes / (STORED.records * STORED.record_bytes));
    target.ends_of_log()
}

fn consume_round(bench: &mut Bench, part: &str, peer: &Peer, topic: &str, ends: &[i64]) {
    let target = peer.find(topic);
    let (moved, cost) = bench.costs(part, peer, |_| load::consume(&target, ends));
    note(bench, part, peer, moved, cost);
}

fn note(bench: &mut Bench, part: &str, peer: &Peer, moved: Moved, cost: Cost) {
    let gigabytes = moved.bytes as f64 / GB;
    bench.note(part, peer.name, "mb_per_s", gigabytes * 1e3 / cost.wall);
    bench.note(part, peer.name, "requests_per_s", moved.requests as f64 / cost.wall);
    if peer.pid.is_some() {
        bench.note(part, peer.name, "cpu_s_per_gb", cost.cpu / gigabytes);
        bench.note(part, peer.name, "cpu_us_per_request", cost.cpu * 1e6 / moved.requests as f64);
        bench.note(part, peer.name, "resident_mb", cost.resident);
    }
}

/// Reads a topic whose offsets, epochs and id are not the cluster's: after a switchover, behind a transaction whose marker
/// was not copied.
pub fn after(bench: &mut Bench) {
    let peers = bench.peers(&["haproxy", "after"]);
    let Some(ours) = peers.iter().find(|peer| peer.name == "after").cloned() else { return };
    let topic = "async-after";
    bench.rig.create(&ours, topic);
    transactions(ours.bootstrap(), topic);
    let target = ours.find(topic);
    let bytes = bench.sizes.consumed;
    let ends = fill(&target, bytes);
    bench.rig.wait_level(topic);
    bench.rig.pair().switch();
    let real = bench.rig.source(&ours, topic).ends_of_log();
    assert!(ends.iter().zip(&real).all(|(shown, real)| shown != real), "offsets differ: {ends:?} {real:?}");
    // The same amount behind HAProxy, on its own cluster.
    bench.rig.east.create_topic(topic, PARTITIONS, &[]);
    let east = bench.rig.east.bootstrap();
    let direct = fill(&Target::find(&east, topic, true), bytes);
    for _ in 0..bench.sizes.rounds {
        for peer in &peers {
            let ends = if peer.name == "after" { &ends } else { &direct };
            consume_round(bench, "after", peer, topic, ends);
        }
    }
}

/// A transaction in each partition: its marker takes an offset on the active cluster only.
fn transactions(bootstrap: &str, topic: &str) {
    let mut config = client::config(bootstrap);
    config.set("transactional.id", "bench");
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(PATIENCE).expect("transactions");
    producer.begin_transaction().expect("a transaction begins");
    for partition in 0..PARTITIONS {
        let record = BaseRecord::<(), _>::to(topic).partition(partition).payload("in a transaction");
        producer.send(record).map_err(|(error, _)| error).expect("room in the queue");
    }
    producer.flush(PATIENCE).expect("all is sent");
    producer.commit_transaction(PATIENCE).expect("the transaction is committed");
}
