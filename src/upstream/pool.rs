//! Keeps one connection per broker and lane, and spaces out the attempts to get one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::cluster::Lane;
use super::conn::{ConnOptions, Connection};
use super::error::{Kind, Place, UpstreamError};

/// First pause after a failed or lost connection: short, since most losses are a broker's restart or a moved leader.
const BACKOFF_MIN: Duration = Duration::from_millis(25);
/// Longest pause: a broker that comes back is noticed within about a second.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Doublings of the pause until `BACKOFF_MAX` is reached.
const BACKOFF_DOUBLINGS: u32 = 6;

/// Who is at the other end: a bootstrap address by its place in the list, or a broker by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Node {
    Bootstrap(usize),
    Broker(i32),
}

/// What to do when the last attempt on a node was too recent for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Wait until an attempt is due, within the deadline.
    Wait,
    /// Fail with [`PoolError::NotYet`]: the caller has other nodes to try.
    Skip,
}

#[derive(Debug)]
pub(super) enum PoolError {
    /// No attempt before this instant.
    NotYet(Instant),
    Failed(UpstreamError),
}

type Slots = HashMap<(Node, Lane), Arc<Slot>>;

#[derive(Default)]
pub(super) struct Pool {
    slots: Mutex<Slots>,
}

/// One place for a connection.
#[derive(Default)]
struct Slot {
    /// Apart from `attempts`, so that a live connection is had without waiting: the order of requests depends on it.
    conn: Mutex<Option<Arc<Connection>>>,
    /// Held while connecting, so that many callers make one attempt.
    attempts: tokio::sync::Mutex<Attempts>,
}

#[derive(Default)]
struct Attempts {
    failures: u32,
    not_before: Option<Instant>,
}

impl Pool {
    /// The live connection of a node and lane, or a new one. Never waits past `deadline`.
    pub async fn get(
        &self,
        node: Node,
        lane: Lane,
        place: &Place,
        options: &ConnOptions,
        deadline: Instant,
        patience: Patience,
    ) -> Result<Arc<Connection>, PoolError> {
        let slot = self.slots.lock().entry((node, lane)).or_default().clone();
        let unreachable =
            |why: &str| PoolError::Failed(UpstreamError::new("connect", place, Kind::Unreachable(why.into())));
        if let Some(conn) = slot.live() {
            return Ok(conn);
        }
        let Ok(mut attempts) = tokio::time::timeout_at(deadline, slot.attempts.lock()).await else {
            return Err(unreachable("another attempt to connect is still under way"));
        };
        if let Some(conn) = slot.live() {
            return Ok(conn);
        }
        if let Some(due) = attempts.not_before.filter(|due| *due > Instant::now()) {
            match patience {
                Patience::Skip => return Err(PoolError::NotYet(due)),
                Patience::Wait if due < deadline => tokio::time::sleep_until(due).await,
                Patience::Wait => return Err(unreachable("the next attempt to connect is due after the deadline")),
            }
        }
        let conn = attempts.connect(place, options, deadline).await.map_err(PoolError::Failed)?;
        *slot.conn.lock() = Some(conn.clone());
        Ok(conn)
    }

    /// The live connection of a node and lane, if there is one. Does not wait.
    pub fn live(&self, node: Node, lane: Lane) -> Option<Arc<Connection>> {
        self.slots.lock().get(&(node, lane)).cloned()?.live()
    }

    /// Forgets the nodes that are gone or have moved: `address_of` is where each one is now. Calls in flight on their
    /// connections still finish.
    pub fn retain(&self, address_of: impl Fn(Node) -> Option<String>) {
        self.slots.lock().retain(|(node, _), slot| match (address_of(*node), slot.live()) {
            (None, _) => false,
            (Some(address), Some(conn)) => conn.address() == address,
            (Some(_), None) => true,
        });
    }
}

impl Slot {
    fn live(&self) -> Option<Arc<Connection>> {
        self.conn.lock().clone().filter(|conn| conn.is_alive())
    }
}

impl Attempts {
    async fn connect(
        &mut self,
        place: &Place,
        options: &ConnOptions,
        deadline: Instant,
    ) -> Result<Arc<Connection>, UpstreamError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let options = ConnOptions { connect_timeout: options.connect_timeout.min(left), ..options.clone() };
        // Set first: an attempt that its caller drops half-way counts too.
        self.not_before = Some(Instant::now() + backoff(self.failures, rand::random::<f64>()));
        match Connection::open(place.clone(), &options).await {
            Ok(conn) => {
                tracing::debug!(cluster = %place.cluster, broker = place.broker, address = %place.address, "connected");
                let conn = Arc::new(conn);
                self.failures = 0;
                self.not_before = Some(Instant::now() + BACKOFF_MIN);
                Ok(conn)
            }
            Err(e) => {
                tracing::debug!(cluster = %place.cluster, broker = place.broker, error = %e, "cannot connect");
                self.not_before = Some(Instant::now() + backoff(self.failures, rand::random::<f64>()));
                self.failures = self.failures.saturating_add(1);
                Err(e)
            }
        }
    }
}

/// The pause after the given number of earlier failures: doubling from 25 ms to 1 s, less up to a fifth of jitter so
/// that lanes and instances do not knock in step. `jitter` is in 0..1.
fn backoff(failures: u32, jitter: f64) -> Duration {
    let pause = BACKOFF_MIN.saturating_mul(1 << failures.min(BACKOFF_DOUBLINGS)).min(BACKOFF_MAX);
    pause.mul_f64(1.0 - 0.2 * jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_limit() {
        let pauses: Vec<_> = (0..8).map(|n| backoff(n, 0.0).as_millis()).collect();
        assert_eq!(pauses, [25, 50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff(u32::MAX, 1.0), Duration::from_millis(800));
    }
}
