//! Streams, many in one task: what one reply of the active cluster wakes is done in one go, and its batches leave in one request.
//! As tasks of their own they would wake a thread for each, which costs more than what they do.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Processors for each such task: the copying itself, sockets and all, is done elsewhere.
const CORES_EACH: usize = 4;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) struct Crew {
    doors: Vec<mpsc::UnboundedSender<Stream>>,
    turn: AtomicUsize,
}

impl Crew {
    pub fn start(tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let doors = (0..cores.div_ceil(CORES_EACH)).map(|_| {
            let (door, entering) = mpsc::unbounded_channel();
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = run(entering) => {}
                    () = stop.cancelled() => {}
                }
            });
            door
        });
        Crew { doors: doors.collect(), turn: AtomicUsize::new(0) }
    }

    /// Runs a stream until it ends, or all of them are stopped.
    pub fn take(&self, stream: impl Future<Output = ()> + Send + 'static) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.doors.len();
        // One that panics takes no other one with it.
        let alone = Box::pin(AssertUnwindSafe(stream).catch_unwind().map(drop));
        // Closed once they are stopped.
        let _ = self.doors[turn].send(alone);
    }
}

async fn run(mut entering: mpsc::UnboundedReceiver<Stream>) {
    let mut streams = FuturesUnordered::new();
    loop {
        tokio::select! {
            entered = entering.recv() => match entered {
                Some(stream) => streams.push(stream),
                None => return,
            },
            Some(()) = streams.next() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn streams_run_beside_each_other_whatever_becomes_of_one() {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let crew = Crew::start(&tasks, &stop);
        let (ran, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
        for n in 0..100 {
            let (ran, held) = (ran.clone(), dropped.clone());
            crew.take(async move {
                let _held = held;
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert!(n != 7, "one of them fails: this is expected in the test's output");
                ran.fetch_add(1, Ordering::Relaxed);
                if n % 2 == 0 {
                    std::future::pending::<()>().await;
                }
            });
        }
        let all = async {
            while ran.load(Ordering::Relaxed) < 99 || Arc::strong_count(&dropped) > 51 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), all).await.expect("all have run");
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        assert_eq!(Arc::strong_count(&dropped), 1, "none outlives the stop");
    }
}
