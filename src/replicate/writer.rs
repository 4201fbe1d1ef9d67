//! Produce requests to the standby, shared by the streams whose partitions the same broker leads. What a stream has handed
//! over goes out in that order, on one connection, one batch per partition and request.

mod line;

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ::metrics::Counter;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};
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
/// What bytes in flight are counted in.
const UNIT: usize = 4 << 10;
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

    /// Waits until there is something to send.
    async fn filled(&self) {
        while self.line.lock().as_ref().is_none_or(Line::is_empty) {
            self.filled.notified().await;
        }
    }

    fn wants_company(&self) -> bool {
        self.line.lock().as_ref().is_some_and(Line::wants_company)
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
            let (standby, stop, tasks) = (self.standby.clone(), self.stop.clone(), self.tasks.clone());
            let (appended, served) = (self.appended.clone(), lane.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = run(standby, leader, &served, tasks, appended) => {}
                    () = stop.cancelled() => {}
                }
                // Nobody is to wait for what will not be sent any more.
                *served.line.lock() = None;
            });
            lane
        });
        open.clone()
    }
}

async fn run(standby: Cluster, leader: i32, lane: &Lane, tasks: TaskTracker, appended: Counter) {
    let slots = Arc::new(Semaphore::new(IN_FLIGHT));
    let room = Arc::new(Semaphore::new(BYTES_IN_FLIGHT / UNIT));
    loop {
        // Both the pause and the permit come before the collecting: what arrives meanwhile shares the request.
        lane.filled().await;
        if slots.available_permits() <= IN_FLIGHT - EAGER && lane.wants_company() {
            tokio::time::sleep(LINGER).await;
        } else {
            // One reply of the active cluster wakes many streams: let them have their say first.
            tokio::task::yield_now().await;
        }
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let request = lane.take();
        let size: usize = request.iter().map(|(_, job)| job.batch.len()).sum();
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

async fn send(standby: &Cluster, leader: i32, request: Vec<(TopicPartition, Job)>, appended: &Counter) {
    let mut waiting = Vec::with_capacity(request.len());
    let mut batches = Vec::with_capacity(request.len());
    for (tp, Job { batch, done }) in request {
        waiting.push((tp.clone(), batch.len(), done));
        batches.push((tp, batch));
    }
    match standby.produce(leader, batches, -1, TIMEOUT).await {
        Ok(mut produced) => {
            for (tp, size, done) in waiting {
                if let Some(outcome) = produced.remove(&tp) {
                    if outcome.error == 0 {
                        appended.increment(size as u64);
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
