//! Produce requests to the standby, shared by the streams whose partitions the same broker leads. What a stream has handed
//! over goes out in that order, on one connection, one batch per partition and request.
//!
//! A broker serves a connection's requests one at a time. What is teed shares one, since few requests cost least. What is
//! fetched, when a lot is to be copied, has others, so that the broker reads a request while it stores the last one.

mod line;

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash, Hasher};
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
use crate::upstream::{self, Cluster, ProducedPartition, UpstreamError};

/// Bytes put into one request before it is sent, one batch more at most.
const REQUEST_BYTES: usize = 4 << 20;
/// Requests under way on one connection: hides the way there and back, which to another region is long.
const IN_FLIGHT: usize = 64;
/// With so many under way the next one waits for company: a request costs more than the batches in it.
const EAGER: usize = 4;
const LINGER: Duration = Duration::from_millis(1);
/// Bytes under way on one connection, one request more at most.
const BYTES_IN_FLIGHT: usize = 16 << 20;
/// Connections to a broker for what is fetched; a partition keeps to one of them.
const FETCHED_LANES: u16 = 4;
/// The first of their numbers, see [`Lane::Own`](upstream::Lane::Own).
const FIRST_LANE: u16 = 20;
/// What the standby's broker gets to collect its acknowledgements.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What became of one append.
type Outcome = Result<ProducedPartition, Arc<UpstreamError>>;

/// By which the standby's answer to one append comes.
pub type Answer = oneshot::Receiver<Outcome>;

pub const STOPPING: &str = "the stream is stopping";

pub async fn outcome(answer: Answer) -> Result<ProducedPartition, String> {
    match answer.await {
        Ok(Ok(produced)) => Ok(produced),
        Ok(Err(error)) => Err(format!("standby: {error}")),
        Err(_) => Err(STOPPING.into()),
    }
}

struct Job {
    batch: Split,
    done: oneshot::Sender<Outcome>,
}

/// Where a stream has its batches from. It changes over only when nothing that it has handed over is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    Tee,
    Fetch,
}

impl Feed {
    fn lane(self, tp: &TopicPartition) -> upstream::Lane {
        match self {
            Feed::Tee => upstream::Lane::Produce,
            Feed::Fetch => {
                let mut hasher = DefaultHasher::new();
                tp.topic.hash(&mut hasher);
                // Those of one topic in turns.
                let turn = hasher.finish().wrapping_add(tp.partition as u64) % u64::from(FETCHED_LANES);
                upstream::Lane::Own(FIRST_LANE + turn as u16)
            }
        }
    }
}

/// What streams have handed over for one connection. They bound it: each waits for what it has handed over before it takes more.
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
    lanes: Mutex<HashMap<(i32, upstream::Lane), Arc<Lane>>>,
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
    pub fn append(&self, leader: i32, feed: Feed, tp: &TopicPartition, batch: Split) -> Option<Answer> {
        let (done, outcome) = oneshot::channel();
        let lane = self.lane(leader, feed.lane(tp));
        lane.line.lock().as_mut()?.push(tp, Job { batch, done });
        lane.filled.notify_one();
        Some(outcome)
    }

    fn lane(&self, leader: i32, by: upstream::Lane) -> Arc<Lane> {
        let mut lanes = self.lanes.lock();
        let open = lanes.entry((leader, by)).or_insert_with(|| {
            let lane = Lane::open();
            let to = To { standby: self.standby.clone(), leader, by, appended: self.appended.clone() };
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
    by: upstream::Lane,
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
    match to.standby.produce(to.leader, to.by, batches, -1, TIMEOUT).await {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_fetched_of_a_topic_takes_turns_and_keeps_to_its_connection() {
        let tp = |partition| TopicPartition::new("topic", partition);
        let taken: Vec<_> = (0..8).map(|partition| Feed::Fetch.lane(&tp(partition))).collect();
        assert_eq!(taken[..4], taken[4..]);
        let numbers = taken.iter().map(|lane| match lane {
            upstream::Lane::Own(number) => *number,
            other => panic!("{other:?} is what others wait on"),
        });
        assert_eq!(numbers.collect::<BTreeSet<_>>(), (FIRST_LANE..FIRST_LANE + FETCHED_LANES).collect());
        assert!((0..8).all(|partition| Feed::Tee.lane(&tp(partition)) == upstream::Lane::Produce));
    }
}
