//! Produce requests to the standby, shared by the streams whose partitions the same broker leads. What a stream has handed
//! over goes out in that order, on one connection, one batch per partition and request.

mod line;

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ::metrics::Counter;
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use line::Line;

use crate::admin::metrics;
use crate::model::TopicPartition;
use crate::records::Split;
use crate::upstream::{Cluster, ProducedPartition, UpstreamError};

/// Bytes put into one request before it is sent, one batch more at most.
const REQUEST_BYTES: usize = 4 << 20;
/// Requests under way to one broker: hides the way there and back, which to another region is long.
const IN_FLIGHT: usize = 64;
/// With so many under way the next one waits for company: a request costs more than the batches in it.
const EAGER: usize = 4;
const LINGER: Duration = Duration::from_millis(1);
/// Bytes under way to one broker, one request more at most.
const BYTES_IN_FLIGHT: usize = 16 << 20;
/// What the standby's broker gets to collect its acknowledgements.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What became of one append.
pub type Outcome = Result<ProducedPartition, Arc<UpstreamError>>;

struct Job {
    batch: Split,
    done: oneshot::Sender<Outcome>,
}

/// What streams have handed over for one broker. They bound it: each waits for what it has handed over before it takes more.
struct Lane {
    /// `None`: the writer has stopped.
    line: Mutex<Option<Line<Job>>>,
    filled: Notify,
}

impl Lane {
    fn open() -> Arc<Lane> {
        Arc::new(Lane { line: Mutex::new(Some(Line::default())), filled: Notify::new() })
    }

    /// Waits until there is something to send, and a moment longer if that helps.
    async fn gathered(&self, under_way: usize) {
        while self.line.lock().as_ref().is_none_or(Line::is_empty) {
            self.filled.notified().await;
        }
        if under_way >= EAGER && self.line.lock().as_ref().is_some_and(Line::wants_company) {
            tokio::time::sleep(LINGER).await;
        }
    }

    /// One batch of each partition whose turn it is.
    fn take(&self) -> Vec<(TopicPartition, Job)> {
        let mut line = self.line.lock();
        line.as_mut().map(|line| line.take(REQUEST_BYTES, |job| job.batch.len())).unwrap_or_default()
    }
}

pub struct Writer {
    standby: Cluster,
    appended: Counter,
    lanes: Mutex<HashMap<i32, Arc<Lane>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Writer {
    pub fn new(standby: Cluster, tasks: TaskTracker, stop: CancellationToken) -> Self {
        let appended = metrics::stream_bytes(standby.name());
        Writer { standby, appended, lanes: Mutex::default(), tasks, stop }
    }

    /// Hands one batch over to be appended through the partition's leader: in the order of these calls. The answer comes by
    /// the channel; it closes when the writer has stopped. `None`: it has.
    pub fn append(&self, leader: i32, tp: &TopicPartition, batch: Split) -> Option<oneshot::Receiver<Outcome>> {
        let (done, outcome) = oneshot::channel();
        let lane = self.lane(leader);
        lane.line.lock().as_mut()?.push(tp, Job { batch, done });
        lane.filled.notify_one();
        Some(outcome)
    }

    fn lane(&self, leader: i32) -> Arc<Lane> {
        let mut lanes = self.lanes.lock();
        let open = lanes.entry(leader).or_insert_with(|| {
            let lane = Lane::open();
            let to = To { standby: self.standby.clone(), leader, appended: self.appended.clone() };
            self.tasks.spawn(run(to, lane.clone(), self.stop.clone()));
            lane
        });
        open.clone()
    }
}

/// Whom a lane is for.
struct To {
    standby: Cluster,
    leader: i32,
    appended: Counter,
}

async fn run(to: To, lane: Arc<Lane>, stop: CancellationToken) {
    let mut under_way = FuturesUnordered::new();
    let mut bytes = 0;
    let mut stopped = pin!(stop.cancelled());
    loop {
        let requests = under_way.len();
        let full = requests >= IN_FLIGHT || bytes >= BYTES_IN_FLIGHT;
        tokio::select! {
            biased;
            () = &mut stopped => break,
            Some(size) = under_way.next() => bytes -= size,
            () = lane.gathered(requests), if !full => {
                let request = lane.take();
                let size: usize = request.iter().map(|(_, job)| job.batch.len()).sum();
                let mut sent = Box::pin(send(&to, request).map(move |()| size));
                // Requests reach the broker in the order in which they are first polled.
                let polled = poll_fn(|context| Poll::Ready(sent.as_mut().poll(context))).await;
                if polled.is_pending() {
                    bytes += size;
                    under_way.push(sent);
                }
            }
        }
    }
    // Nobody is to wait for what will not be sent any more.
    *lane.line.lock() = None;
    // Awaited, not cancelled: once the streams have stopped nothing of theirs may land on the standby any more.
    while under_way.next().await.is_some() {}
}

async fn send(to: &To, request: Vec<(TopicPartition, Job)>) {
    let mut waiting = Vec::with_capacity(request.len());
    let mut batches = Vec::with_capacity(request.len());
    for (tp, Job { batch, done }) in request {
        waiting.push((tp.clone(), batch.len(), done));
        batches.push((tp, batch));
    }
    match to.standby.produce(to.leader, batches, -1, TIMEOUT).await {
        Ok(mut produced) => {
            for (tp, size, done) in waiting {
                if let Some(outcome) = produced.remove(&tp) {
                    if outcome.error == 0 {
                        to.appended.increment(size as u64);
                    }
                    let _ = done.send(Ok(outcome));
                }
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for (_, _, done) in waiting {
                let _ = done.send(Err(error.clone()));
            }
        }
    }
}
