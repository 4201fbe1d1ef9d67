//! Produce requests to the standby, shared by the streams whose partitions the same broker leads. What a stream has handed
//! over goes out in that order, on one connection, one batch per partition and request.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ::metrics::Counter;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::metrics;
use crate::model::TopicPartition;
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
/// What bytes in flight are counted in.
const UNIT: usize = 4 << 10;
/// What the standby's broker gets to collect its acknowledgements.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that may wait for one broker; more wait in line.
const QUEUE: usize = 1024;

/// What became of one append.
pub type Outcome = Result<ProducedPartition, Arc<UpstreamError>>;

struct Job {
    tp: TopicPartition,
    batch: Bytes,
    done: oneshot::Sender<Outcome>,
}

pub struct Writer {
    standby: Cluster,
    appended: Counter,
    lanes: Mutex<HashMap<i32, mpsc::Sender<Job>>>,
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
    pub async fn append(&self, leader: i32, tp: &TopicPartition, batch: Bytes) -> Option<oneshot::Receiver<Outcome>> {
        let (done, outcome) = oneshot::channel();
        let lane = self.lane(leader);
        lane.send(Job { tp: tp.clone(), batch, done }).await.ok()?;
        Some(outcome)
    }

    fn lane(&self, leader: i32) -> mpsc::Sender<Job> {
        let mut lanes = self.lanes.lock();
        let open = lanes.entry(leader).or_insert_with(|| {
            let (tx, rx) = mpsc::channel(QUEUE);
            let (standby, stop, tasks) = (self.standby.clone(), self.stop.clone(), self.tasks.clone());
            let appended = self.appended.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = run(standby, leader, rx, tasks, appended) => {}
                    () = stop.cancelled() => {}
                }
            });
            tx
        });
        open.clone()
    }
}

async fn run(standby: Cluster, leader: i32, mut jobs: mpsc::Receiver<Job>, tasks: TaskTracker, appended: Counter) {
    let slots = Arc::new(Semaphore::new(IN_FLIGHT));
    let room = Arc::new(Semaphore::new(BYTES_IN_FLIGHT / UNIT));
    let mut next = None;
    loop {
        // Both the pause and the permit come before the collecting: what arrives meanwhile shares the request.
        let first = match next.take() {
            Some(job) => job,
            None => {
                let Some(job) = jobs.recv().await else { return };
                if slots.available_permits() <= IN_FLIGHT - EAGER {
                    tokio::time::sleep(LINGER).await;
                }
                job
            }
        };
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let mut size = first.batch.len();
        let mut named = HashSet::from([first.tp.clone()]);
        let mut request = vec![first];
        while size < REQUEST_BYTES {
            let Ok(job) = jobs.try_recv() else { break };
            if !named.insert(job.tp.clone()) {
                // Brokers take one batch per partition and request.
                next = Some(job);
                break;
            }
            size += job.batch.len();
            request.push(job);
        }
        let units = (size / UNIT).clamp(1, BYTES_IN_FLIGHT / UNIT) as u32;
        let Ok(bytes) = room.clone().acquire_many_owned(units).await else { return };
        let (standby, appended) = (standby.clone(), appended.clone());
        let mut sent = Box::pin(async move {
            send(&standby, leader, request, &appended).await;
            drop((slot, bytes));
        });
        // Requests reach the broker in the order in which they are first polled.
        let polled = poll_fn(|context| Poll::Ready(sent.as_mut().poll(context))).await;
        if polled.is_pending() {
            // Tracked and not cancelled: once the streams have stopped nothing of theirs may land on the standby any more.
            tasks.spawn(sent);
        }
    }
}

async fn send(standby: &Cluster, leader: i32, request: Vec<Job>, appended: &Counter) {
    let batches = request.iter().map(|j| (j.tp.clone(), j.batch.clone())).collect();
    match standby.produce(leader, batches, -1, TIMEOUT).await {
        Ok(mut produced) => {
            for job in request {
                if let Some(outcome) = produced.remove(&job.tp) {
                    if outcome.error == 0 {
                        appended.increment(job.batch.len() as u64);
                    }
                    let _ = job.done.send(Ok(outcome));
                }
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for job in request {
                let _ = job.done.send(Err(error.clone()));
            }
        }
    }
}
