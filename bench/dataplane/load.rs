//! Load on a target: as fast as it goes with a bounded number of requests under way, or at a fixed rate.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::wire::{Consumer, Producer, Target};

/// What is produced over how many connections.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub connections: usize,
    /// Requests of one connection under way: `max.in.flight.requests.per.connection` is 5 at most for idempotence.
    pub depth: usize,
    /// Of each batch; one batch per request.
    pub records: usize,
    pub record_bytes: usize,
}

/// 1 KB records in batches of nearly `max.message.bytes`.
pub const BATCHED: Shape = Shape { connections: 4, depth: 3, records: 1000, record_bytes: 1000 };
/// A record per request.
pub const SMALL: Shape = Shape { connections: 16, depth: 4, records: 1, record_bytes: 1200 };
/// What consumers read: batches as a linger of some milliseconds makes them.
pub const STORED: Shape = Shape { connections: 4, depth: 3, records: 100, record_bytes: 1000 };

/// How much was moved.
#[derive(Debug, Clone, Copy)]
pub struct Moved {
    pub requests: usize,
    pub bytes: usize,
}

/// Connections, each on a partition of its own.
pub fn producers(target: &Target, shape: Shape, partitions: i32) -> Vec<Producer> {
    let connect = |i: usize| Producer::connect(target, &[i as i32 % partitions], shape.records, shape.record_bytes);
    (0..shape.connections).map(connect).collect()
}

/// Sends `requests` requests in all.
pub fn produce(producers: &mut [Producer], depth: usize, requests: usize) -> Moved {
    let each = requests.div_ceil(producers.len());
    let bytes = producers.iter().map(|p| p.request_bytes() * each).sum();
    thread::scope(|scope| {
        for producer in producers.iter_mut() {
            scope.spawn(move || {
                for _ in 0..depth.min(each) {
                    producer.send();
                }
                for n in 0..each {
                    producer.acknowledged();
                    if n + depth < each {
                        producer.send();
                    }
                }
            });
        }
    });
    Moved { requests: each * producers.len(), bytes }
}

/// Reads a topic from its start to `ends`, a connection for each partition. Bytes are those of the replies.
pub fn consume(target: &Target, ends: &[i64]) -> Moved {
    let read = |partition: i32| {
        let mut consumer = Consumer::connect(target, &[partition]);
        let mut moved = Moved { requests: 0, bytes: 0 };
        while !consumer.has_read(ends) {
            consumer.ask();
            moved.bytes += consumer.take().0;
            moved.requests += 1;
        }
        moved
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..ends.len()).map(|p| scope.spawn(move || read(p as i32))).collect();
        let all = readers.into_iter().map(|reader| reader.join().expect("a reader"));
        all.fold(Moved { requests: 0, bytes: 0 }, |sum, one| Moved {
            requests: sum.requests + one.requests,
            bytes: sum.bytes + one.bytes,
        })
    })
}

/// What a paced producer saw.
pub struct Paced {
    /// From a request's due time to its acknowledgement, in milliseconds: a load that falls behind shows it.
    pub latencies: Vec<f64>,
    /// When which partition was acknowledged up to where.
    pub acknowledged: Vec<(Instant, i32, i64)>,
    pub bytes: usize,
}

/// Sends `rate` requests per second for `time`, whatever is still unanswered.
pub fn paced(mut producer: Producer, rate: f64, time: Duration) -> Paced {
    let count = (rate * time.as_secs_f64()) as usize;
    let bytes = producer.request_bytes() * count;
    let mut acks = producer.reader();
    let (due, dues) = mpsc::channel::<Instant>();
    let reader = thread::spawn(move || {
        let (mut latencies, mut acknowledged) = (Vec::new(), Vec::new());
        for due in dues {
            let ends = acks.next();
            let now = Instant::now();
            latencies.push(now.saturating_duration_since(due).as_secs_f64() * 1e3);
            acknowledged.extend(ends.into_iter().map(|(partition, end)| (now, partition, end)));
        }
        (latencies, acknowledged)
    });
    let start = Instant::now();
    for n in 0..count {
        let at = start + Duration::from_secs_f64(n as f64 / rate);
        thread::sleep(at.saturating_duration_since(Instant::now()));
        // The sleep's own lateness is the timer's, a write that blocks is not.
        let at = if at.elapsed() < TIMER { Instant::now() } else { at };
        let _ = due.send(at);
        producer.send();
    }
    drop(due);
    let (latencies, acknowledged) = reader.join().expect("the reader of acknowledgements");
    Paced { latencies, acknowledged, bytes }
}

/// How late a sleeping thread may wake on a busy machine without being behind its load.
const TIMER: Duration = Duration::from_millis(1);
