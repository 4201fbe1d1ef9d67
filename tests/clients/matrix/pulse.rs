//! How long this process did not get to run: on a busy machine a client's silence may be nobody's fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const BEAT: Duration = Duration::from_millis(5);

/// A thread that looks at the clock again and again.
pub struct Pulse {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Pulse {
    pub fn start() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let beats = ended.clone();
        let thread = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !beats.load(Ordering::Relaxed) {
                let before = Instant::now();
                thread::sleep(BEAT);
                longest = longest.max(before.elapsed().saturating_sub(BEAT));
            }
            longest
        });
        Self { ended, thread }
    }

    /// The longest delay of a beat, in milliseconds.
    pub fn stop(self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().map_or(0, |longest| longest.as_millis() as u64)
    }
}
