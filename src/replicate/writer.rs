//! Produce requests to the standby, shared by the streams whose partitions the same broker leads. A stream has at most one
//! batch under way, so batches of one partition cannot overtake each other whatever fails.

use std::collections::HashMap;
use std::sync::Arc;
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
/// Requests under way to one broker: hides the way there and back.
const IN_FLIGHT: usize = 4;
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

    /// Appends one batch through the partition's leader. `None`: the writer has stopped.
    pub async fn append(&self, leader: i32, tp: &TopicPartition, batch: Bytes) -> Option<Outcome> {
        let (done, outcome) = oneshot::channel();
        let lane = self.lane(leader);
        let size = batch.len() as u64;
        lane.send(Job { tp: tp.clone(), batch, done }).await.ok()?;
        let outcome = outcome.await.ok()?;
        if matches!(&outcome, Ok(produced) if produced.error == 0) {
            self.appended.increment(size);
        }
        Some(outcome)
    }

    fn lane(&self, leader: i32) -> mpsc::Sender<Job> {
        let mut lanes = self.lanes.lock();
        let open = lanes.entry(leader).or_insert_with(|| {
            let (tx, rx) = mpsc::channel(QUEUE);
            let (standby, stop, tasks) = (self.standby.clone(), self.stop.clone(), self.tasks.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = run(standby, leader, rx, tasks) => {}
                    () = stop.cancelled() => {}
                }
            });
            tx
        });
        open.clone()
    }
}

async fn run(standby: Cluster, leader: i32, mut jobs: mpsc::Receiver<Job>, tasks: TaskTracker) {
    let slots = Arc::new(Semaphore::new(IN_FLIGHT));
    while let Some(first) = jobs.recv().await {
        // The permit comes before the collecting: what arrives while all slots are taken shares the next request.
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let mut size = first.batch.len();
        let mut request = vec![first];
        while size < REQUEST_BYTES {
            let Ok(job) = jobs.try_recv() else { break };
            size += job.batch.len();
            request.push(job);
        }
        let standby = standby.clone();
        // Tracked and not cancelled: once the streams have stopped nothing of theirs may land on the standby any more.
        tasks.spawn(async move {
            send(&standby, leader, request).await;
            drop(slot);
        });
    }
}

async fn send(standby: &Cluster, leader: i32, request: Vec<Job>) {
    let batches = request.iter().map(|j| (j.tp.clone(), j.batch.clone())).collect();
    match standby.produce(leader, batches, -1, TIMEOUT).await {
        Ok(mut produced) => {
            for job in request {
                if let Some(outcome) = produced.remove(&job.tp) {
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
