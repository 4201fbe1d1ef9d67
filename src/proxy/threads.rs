//! The threads that serve clients. A connection stays on one of them for life, apart from the pool that all else runs on: in a
//! pool each reply wakes another thread to look for work, which costs more than all that is done with a small request.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Cores for each of these threads. One moves gigabytes per second; the other core is for streams, and for the kernel.
const CORES: usize = 2;

/// How many there are.
pub fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).div_ceil(CORES)
}

/// Lives as long as there are connections to serve; the threads end when it is dropped.
pub struct Threads {
    handles: Vec<Handle>,
    next: AtomicUsize,
    _run: Vec<oneshot::Sender<()>>,
}

impl Threads {
    pub fn start() -> std::io::Result<Self> {
        let mut threads = Threads { handles: Vec::new(), next: AtomicUsize::new(0), _run: Vec::new() };
        for n in 0..count() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (run, ended) = oneshot::channel::<()>();
            threads.handles.push(runtime.handle().clone());
            threads._run.push(run);
            let serve = move || drop(runtime.block_on(ended));
            std::thread::Builder::new().name(format!("clients-{n}")).spawn(serve)?;
        }
        Ok(threads)
    }

    /// The one for the next connection.
    pub fn next(&self) -> Option<&Handle> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        self.handles.get(n % self.handles.len().max(1))
    }
}
