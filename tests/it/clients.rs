//! The short form of the client matrix: the clients that this machine has, all of them together through the cutovers.

use crate::matrix::known::{CLIENTS, Known};
use crate::matrix::program::{Prepared, Unprepared, prepare};
use crate::matrix::scenario::Rig;

/// These need nothing but the test clusters' own jars. One of them writes and processes in transactions, with the same
/// producers all the time.
const ALWAYS: [&str; 3] = ["java-4.3.1", "java-3.9.2", "java-txn"];
/// Taken along where `make clients` has left them: one of each family, and Kafka Streams.
const IF_THERE: [&str; 3] = ["librdkafka", "franz-go", "streams"];
/// Of each client, in a planned cutover: what stands still for longer does not go on by itself. The promise of a second
/// is measured by `make clients`, one client at a time; here clusters, clients and other tests share what there is.
const STALL_MS: u64 = 10_000;
/// Slow enough that streams come level again while the machine does everything at once.
const RATE: u32 = 20;

fn prepared(known: &'static Known) -> Option<Prepared> {
    let always = ALWAYS.contains(&known.name);
    if !always && !IF_THERE.contains(&known.name) {
        return None;
    }
    match prepare(known, !always) {
        Ok(prepared) => Some(prepared),
        Err(Unprepared::Absent(reason)) if !always => {
            println!("NOT TESTED: {}: {reason}", known.name);
            None
        }
        Err(reason) => panic!("{}: {reason:?}", known.name),
    }
}

#[test]
fn clients_of_several_libraries_ride_through_cutovers() {
    let clients: Vec<Prepared> = CLIENTS.iter().filter_map(prepared).collect();
    assert!(clients.len() >= ALWAYS.len());
    for (name, judgement) in Rig::start(RATE, 2, None).through_the_proxy(&clients) {
        println!("{name}: {judgement:#?}");
        let violations = judgement.violations(|_| STALL_MS);
        assert!(violations.is_empty(), "{name}: {violations:#?}{}", judgement.examples);
        assert!(judgement.acknowledged > 300, "{name}: {}", judgement.acknowledged);
    }
}
