//! The gate through which every connection must pass: open onto one generation's view, or held. A cutover closes it, waits
//! until no connection has anything in flight, and opens it onto the next view: all connections swap in one step.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::catalog::View;

#[derive(Clone)]
pub enum GateState {
    Open(Arc<View>),
    /// New requests wait. `hard`: the active cluster is given up, so nothing in flight is waited for.
    Held {
        hard: bool,
    },
}

pub struct Gate {
    state: watch::Sender<GateState>,
    busy: AtomicUsize,
    idle: Notify,
    /// Ends the passes of the current generation by force.
    abort: Mutex<CancellationToken>,
}

impl Default for Gate {
    /// Closed until the first view is known.
    fn default() -> Self {
        Gate {
            abort: Mutex::default(),
            state: watch::Sender::new(GateState::Held { hard: false }),
            busy: AtomicUsize::new(0),
            idle: Notify::new(),
        }
    }
}

impl Gate {
    pub fn open(&self, view: Arc<View>) {
        self.state.send_replace(GateState::Open(view));
    }

    /// Shows a changed view of the same generation, if the gate is still open onto that.
    pub fn refresh(&self, view: Arc<View>) {
        self.state.send_if_modified(|state| match state {
            GateState::Open(open) if open.generation == view.generation => {
                *open = view;
                true
            }
            _ => false,
        });
    }

    /// Closes the gate and waits until every connection is quiet. Those that are not by the deadline: `hard` ends them,
    /// else the answer is `false` (the gate stays closed).
    pub async fn hold(&self, hard: bool, deadline: Instant) -> bool {
        self.state.send_replace(GateState::Held { hard });
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.busy.load(Ordering::SeqCst) == 0 {
                return true;
            }
            if tokio::time::timeout_at(deadline, idle.as_mut()).await.is_err() {
                if !hard {
                    return false;
                }
                std::mem::take(&mut *self.abort.lock()).cancel();
                idle.await;
            }
        }
    }

    /// Connections that have passed and may have requests in flight.
    pub fn busy(&self) -> usize {
        self.busy.load(Ordering::SeqCst)
    }

    pub fn watch(&self) -> watch::Receiver<GateState> {
        self.state.subscribe()
    }

    /// The view if the gate is open.
    pub fn view(&self) -> Option<Arc<View>> {
        match &*self.state.borrow() {
            GateState::Open(view) => Some(view.clone()),
            GateState::Held { .. } => None,
        }
    }

    /// Passes if the gate is open. The pass is counted before the state is read, so that a hold either sees it or is seen.
    fn try_pass(self: &Arc<Self>) -> Option<Pass> {
        self.busy.fetch_add(1, Ordering::SeqCst);
        let guard = Busy(self.clone());
        let abort = self.abort.lock().clone();
        self.view().map(|view| Pass { view, abort, _guard: guard })
    }

    /// Waits until the gate is open and passes.
    pub async fn pass(self: &Arc<Self>) -> Pass {
        let mut watch = self.watch();
        loop {
            watch.borrow_and_update();
            if let Some(pass) = self.try_pass() {
                return pass;
            }
            // The sender lives in `self`: this cannot fail.
            let _ = watch.changed().await;
        }
    }
}

struct Busy(Arc<Gate>);

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

/// The right to send requests of one generation; a hold waits until it is dropped.
pub struct Pass {
    pub view: Arc<View>,
    /// Cancelled when a hold could not wait any longer.
    pub abort: CancellationToken,
    _guard: Busy,
}

/// Resolves when the gate is no longer open onto `generation`.
pub async fn closed(watch: &mut watch::Receiver<GateState>, generation: u32) -> bool {
    let changed = watch.wait_for(|s| !matches!(s, GateState::Open(view) if view.generation == generation)).await;
    matches!(changed.as_deref(), Ok(GateState::Held { hard: true }))
}

/// Is the gate no longer open onto `generation`? Costs next to nothing while nothing changes.
pub fn is_closed(watch: &mut watch::Receiver<GateState>, generation: u32) -> bool {
    // The sender outlives all connections; if it were gone, nobody would open the gate again.
    watch.has_changed().unwrap_or(true)
        && !matches!(&*watch.borrow_and_update(), GateState::Open(view) if view.generation == generation)
}

/// Resolves when the gate has been held for `limit` without a break.
pub async fn held_for(watch: &mut watch::Receiver<GateState>, limit: Duration) {
    let is_held = |s: &GateState| matches!(s, GateState::Held { .. });
    loop {
        if watch.wait_for(is_held).await.is_err() {
            return std::future::pending().await;
        }
        if tokio::time::timeout(limit, watch.wait_for(|s| !is_held(s))).await.is_err() {
            return;
        }
    }
}
