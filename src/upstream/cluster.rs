//! The handle to one real cluster: finds the broker for a request, keeps metadata, sends.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use kafka_protocol::messages::{ApiVersionsResponse, FindCoordinatorRequest, MetadataRequest};
use kafka_protocol::protocol::{Message, StrBytes, VersionRange};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::conn::{ConnOptions, Connection};
use super::error::{KafkaError, Kind, Place, UpstreamError, code};
use super::metadata::{Broker, Snapshot};
use super::pool::{Node, Patience, Pool, PoolError};
use super::together::Together;
use super::versions;

/// Groups whose coordinator is remembered; when there are more the memory starts anew, at the price of a look-up each.
const MAX_COORDINATORS: usize = 10_000;
/// Metadata is not read again sooner than this after the last time just because something looked stale: a caller that
/// loops over a leaderless partition must not turn into a storm.
const STALE_REFRESH_GAP: Duration = Duration::from_millis(50);
/// FindCoordinator's key type for consumer groups.
const KEY_TYPE_GROUP: i8 = 0;
/// FindCoordinator has a list of keys from version 4 on (KIP-699); Kafka 3.9 and later all have it.
const FIND_COORDINATOR: VersionRange = VersionRange { min: 4, max: i16::MAX };

/// Which connection of a broker a request takes. A broker serves a connection's requests one at a time, so a long poll
/// or a produce that waits for replicas must not stand in front of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    Control,
    Fetch,
    Produce,
    /// A connection of the caller's own, by a number that the caller chooses. Each value costs a connection per broker.
    Own(u16),
}

/// Whom a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// Any broker that can be reached.
    Any,
    Broker(i32),
    /// Any broker: brokers of a KRaft cluster forward to the controller.
    Controller,
    /// The leader of a partition, by the cached metadata.
    Leader(&'a str, i32),
    /// The coordinator of a consumer group. Asking creates `__consumer_offsets` on a cluster that never had groups.
    Coordinator(&'a str),
}

/// How the client behaves towards one cluster.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Shown in the brokers' logs and quotas.
    pub client_id: String,
    /// Bound for one attempt to connect, ApiVersions included.
    pub connect_timeout: Duration,
    /// Bound for one operation of `ops` with all its retries; see [`Cluster::with_timeout`].
    pub timeout: Duration,
    /// Largest reply accepted, in bytes. A fetch reply exceeds its `max_bytes` by up to one batch.
    pub max_frame: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            client_id: "kafka-standby".to_owned(),
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(15),
            max_frame: 128 << 20,
        }
    }
}

/// A cheap handle to one cluster; clones share connections and metadata.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
    timeout: Duration,
}

struct Inner {
    place: Place,
    bootstrap: Vec<Arc<str>>,
    options: ConnOptions,
    pool: Pool,
    /// The node that last served `Target::Any`.
    last_good: Mutex<Option<Node>>,
    snapshot: ArcSwapOption<Snapshot>,
    stale: AtomicBool,
    /// Refreshes started so far.
    refreshes: AtomicU64,
    refreshed: tokio::sync::Mutex<Refreshed>,
    coordinators: Mutex<HashMap<String, i32>>,
    together: Together,
}

/// The last refresh that succeeded: its number among those started, and when.
#[derive(Default)]
struct Refreshed {
    number: u64,
    at: Option<Instant>,
    /// The last one found nobody to ask: those who waited for it need not knock as well.
    unreachable: Option<UpstreamError>,
}

impl Cluster {
    /// A handle to the cluster behind `bootstrap` (`host:port` each). Connects when first used; needs a tokio runtime
    /// from then on.
    pub fn new(name: impl Into<Arc<str>>, bootstrap: Vec<String>, options: ClientOptions) -> Self {
        let inner = Inner {
            place: Place::cluster_only(&name.into()),
            bootstrap: bootstrap.into_iter().map(Arc::from).collect(),
            options: ConnOptions {
                client_id: StrBytes::from_string(options.client_id),
                connect_timeout: options.connect_timeout,
                max_frame: options.max_frame,
            },
            pool: Pool::default(),
            last_good: Mutex::default(),
            snapshot: ArcSwapOption::empty(),
            stale: AtomicBool::new(false),
            refreshes: AtomicU64::new(0),
            refreshed: tokio::sync::Mutex::default(),
            coordinators: Mutex::default(),
            together: Together::default(),
        };
        Cluster { inner: Arc::new(inner), timeout: options.timeout }
    }

    /// The cluster's configured name.
    pub fn name(&self) -> &Arc<str> {
        &self.inner.place.cluster
    }

    /// The same cluster with another bound for each operation of `ops`.
    pub fn with_timeout(&self, timeout: Duration) -> Cluster {
        Cluster { inner: self.inner.clone(), timeout }
    }

    /// The bound for each operation of `ops`, retries included.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The cached metadata; read first if there is none yet or the cached one has proved stale.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, UpstreamError> {
        self.snapshot_by(Instant::now() + self.timeout).await
    }

    /// The cached metadata as it is, however old; `None` before the first read.
    pub fn cached_snapshot(&self) -> Option<Arc<Snapshot>> {
        self.inner.snapshot.load_full()
    }

    /// Reads the metadata of all topics now. Callers at the same time share one request, but never one that began
    /// before their call.
    pub async fn refresh(&self) -> Result<Arc<Snapshot>, UpstreamError> {
        self.refresh_by(Instant::now() + self.timeout).await
    }

    /// What every live broker of the cluster supports: the intersection of their ApiVersions replies. A broker that
    /// cannot be reached does not count.
    pub async fn api_versions(&self) -> Result<ApiVersionsResponse, UpstreamError> {
        let deadline = Instant::now() + self.timeout;
        let snapshot = self.refresh_by(deadline).await?;
        let mut opening = Vec::with_capacity(snapshot.brokers.len());
        for broker in &snapshot.brokers {
            opening.push(self.to_broker(broker, Lane::Control, deadline));
        }
        let mut failure = None;
        let mut conns = Vec::with_capacity(snapshot.brokers.len());
        for result in futures_util::future::join_all(opening).await {
            match result {
                Ok(conn) => conns.push(conn),
                Err(e) => failure = Some(e),
            }
        }
        versions::intersect(conns.iter().map(|c| c.api_versions()))
            .ok_or_else(|| failure.unwrap_or_else(|| self.error("ApiVersions", no_address())))
    }

    /// Questions of many tasks that are put together.
    pub(super) fn together(&self) -> &Together {
        &self.inner.together
    }

    /// The configured addresses, `host:port` each.
    pub(super) fn bootstrap(&self) -> &[Arc<str>] {
        &self.inner.bootstrap
    }

    /// Notes that the cached metadata misled someone; the next look at it reads it anew.
    pub(super) fn mark_stale(&self) {
        self.inner.stale.store(true, Ordering::Release);
    }

    pub(super) fn forget_coordinator(&self, group: &str) {
        self.inner.coordinators.lock().remove(group);
    }

    /// An error of the cluster as a whole.
    pub(super) fn error(&self, what: &'static str, kind: Kind) -> UpstreamError {
        UpstreamError::new(what, &self.inner.place, kind)
    }

    pub(super) fn kafka_error(&self, what: &'static str, code: i16, message: Option<&str>) -> UpstreamError {
        self.error(what, Kind::Kafka(KafkaError::new(code, message)))
    }

    pub(super) async fn snapshot_by(&self, deadline: Instant) -> Result<Arc<Snapshot>, UpstreamError> {
        match self.inner.snapshot.load_full() {
            Some(snapshot) if !self.inner.stale.load(Ordering::Acquire) => Ok(snapshot),
            // Boxed: thousands of tasks that ask have no room for what is needed so rarely.
            known => Box::pin(self.look_again(known.is_some(), deadline)).await,
        }
    }

    async fn look_again(&self, known: bool, deadline: Instant) -> Result<Arc<Snapshot>, UpstreamError> {
        if known {
            let last = tokio::time::timeout_at(deadline, self.inner.refreshed.lock()).await.ok().and_then(|r| r.at);
            if let Some(last) = last {
                tokio::time::sleep_until(deadline.min(last + STALE_REFRESH_GAP)).await;
            }
        }
        self.refresh_by(deadline).await
    }

    pub(super) async fn refresh_by(&self, deadline: Instant) -> Result<Arc<Snapshot>, UpstreamError> {
        let inner = &*self.inner;
        let started_before = inner.refreshes.load(Ordering::Acquire);
        let Ok(mut refreshed) = tokio::time::timeout_at(deadline, inner.refreshed.lock()).await else {
            return Err(self.error("Metadata", Kind::Unreachable("another refresh is still under way".into())));
        };
        if refreshed.number > started_before {
            if let Some(error) = &refreshed.unreachable {
                return Err(error.clone());
            }
            if let Some(snapshot) = inner.snapshot.load_full() {
                return Ok(snapshot);
            }
        }
        let number = inner.refreshes.fetch_add(1, Ordering::AcqRel) + 1;
        inner.stale.store(false, Ordering::Release);
        let result = self.read_metadata(deadline).await;
        let snapshot = match result {
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.mark_stale();
                if matches!(error.kind(), Kind::Unreachable(_)) {
                    *refreshed = Refreshed { number, at: refreshed.at, unreachable: Some(error.clone()) };
                }
                return Err(error);
            }
        };
        // What was prepared for one that says the same holds on.
        let snapshot = inner.snapshot.load_full().filter(|known| **known == *snapshot).unwrap_or(snapshot);
        inner.snapshot.store(Some(snapshot.clone()));
        inner.pool.retain(|node| match node {
            Node::Broker(id) => snapshot.broker(id).map(Broker::address),
            Node::Bootstrap(_) => None, // served its purpose
        });
        *refreshed = Refreshed { number, at: Some(Instant::now()), unreachable: None };
        Ok(snapshot)
    }

    async fn read_metadata(&self, deadline: Instant) -> Result<Arc<Snapshot>, UpstreamError> {
        let req = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
        let conn = self.any(Lane::Control, deadline).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let reply = conn.call(&req, MetadataRequest::VERSIONS, left).await?;
        if reply.error_code != code::NONE {
            return Err(self.kafka_error("Metadata", reply.error_code, None));
        }
        let snapshot = Snapshot::from_reply(&reply);
        if snapshot.brokers.is_empty() {
            // A broker that has just started knows no one yet, not even itself.
            return Err(self.kafka_error("Metadata", code::LEADER_NOT_AVAILABLE, Some("no live brokers")));
        }
        Ok(Arc::new(snapshot))
    }

    pub(super) async fn connection(
        &self,
        target: Target<'_>,
        lane: Lane,
        deadline: Instant,
    ) -> Result<Arc<Connection>, UpstreamError> {
        let id = match target {
            Target::Any | Target::Controller => return self.any(lane, deadline).await,
            Target::Broker(id) => id,
            Target::Leader(topic, partition) => {
                let leader = self.snapshot_by(deadline).await?.leader(topic, partition);
                leader.map_err(|code| {
                    self.mark_stale();
                    self.kafka_error("find the leader", code, Some(&format!("{topic}-{partition}")))
                })?
            }
            Target::Coordinator(group) => self.coordinator(group, deadline).await?,
        };
        // A connection that works beats metadata that may be stale because of some other broker.
        if let Some(conn) = self.inner.pool.live(Node::Broker(id), lane) {
            return Ok(conn);
        }
        let mut snapshot = self.snapshot_by(deadline).await?;
        if snapshot.broker(id).is_none() {
            snapshot = self.refresh_by(deadline).await?;
        }
        match snapshot.broker(id) {
            Some(broker) => self.to_broker(broker, lane, deadline).await,
            None => Err(self.error("connect", Kind::Unreachable(format!("the cluster has no broker {id} now").into()))),
        }
    }

    async fn to_broker(
        &self,
        broker: &Broker,
        lane: Lane,
        deadline: Instant,
    ) -> Result<Arc<Connection>, UpstreamError> {
        let node = Node::Broker(broker.id);
        let place = self.place(Some(broker.id), broker.address().into());
        let got = self.inner.pool.get(node, lane, &place, &self.inner.options, deadline, Patience::Wait).await;
        got.map_err(|e| match e {
            PoolError::Failed(e) => e,
            PoolError::NotYet(_) => UpstreamError::new("connect", &place, Kind::Unreachable("too soon".into())),
        })
    }

    fn place(&self, broker: Option<i32>, address: Arc<str>) -> Place {
        Place { cluster: self.inner.place.cluster.clone(), broker, address }
    }

    /// A connection to any broker: one that is up, else one round over all that are known and the bootstrap addresses.
    async fn any(&self, lane: Lane, deadline: Instant) -> Result<Arc<Connection>, UpstreamError> {
        let nodes = self.candidates();
        if let Some(conn) = nodes.iter().find_map(|(node, _)| self.inner.pool.live(*node, lane)) {
            return Ok(conn);
        }
        loop {
            let mut soonest: Option<Instant> = None;
            let mut failure = None;
            for (node, place) in &nodes {
                match self.inner.pool.get(*node, lane, place, &self.inner.options, deadline, Patience::Skip).await {
                    Ok(conn) => {
                        *self.inner.last_good.lock() = Some(*node);
                        return Ok(conn);
                    }
                    Err(PoolError::NotYet(due)) => soonest = Some(soonest.map_or(due, |s| s.min(due))),
                    Err(PoolError::Failed(e)) => failure = Some(e),
                }
            }
            match (failure, soonest) {
                (Some(e), _) => return Err(e),
                (None, Some(due)) if due < deadline => tokio::time::sleep_until(due).await,
                (None, Some(_)) => {
                    let why = "the next attempt to connect is due after the deadline";
                    return Err(self.error("connect", Kind::Unreachable(why.into())));
                }
                (None, None) => return Err(self.error("connect", no_address())),
            }
        }
    }

    /// The brokers last seen and the bootstrap addresses, the one that served last in front.
    fn candidates(&self) -> Vec<(Node, Place)> {
        let mut nodes = Vec::new();
        if let Some(snapshot) = self.inner.snapshot.load_full() {
            for broker in &snapshot.brokers {
                nodes.push((Node::Broker(broker.id), self.place(Some(broker.id), broker.address().into())));
            }
        }
        for (ix, address) in self.inner.bootstrap.iter().enumerate() {
            nodes.push((Node::Bootstrap(ix), self.place(None, address.clone())));
        }
        let last_good = *self.inner.last_good.lock();
        if let Some(at) = nodes.iter().position(|(node, _)| Some(*node) == last_good) {
            nodes.rotate_left(at);
        }
        nodes
    }

    /// The broker id of a group's coordinator, from memory or asked for once.
    async fn coordinator(&self, group: &str, deadline: Instant) -> Result<i32, UpstreamError> {
        if let Some(id) = self.inner.coordinators.lock().get(group) {
            return Ok(*id);
        }
        let req = FindCoordinatorRequest::default()
            .with_key_type(KEY_TYPE_GROUP)
            .with_coordinator_keys(vec![StrBytes::from_string(group.to_owned())]);
        let conn = self.any(Lane::Control, deadline).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let reply = conn.call(&req, FIND_COORDINATOR, left).await?;
        let Some(found) = reply.coordinators.iter().find(|c| c.key.as_str() == group) else {
            return Err(self.error("FindCoordinator", Kind::Protocol("the reply lacks the group asked for".into())));
        };
        if found.error_code != code::NONE {
            return Err(self.kafka_error("FindCoordinator", found.error_code, found.error_message.as_deref()));
        }
        let mut coordinators = self.inner.coordinators.lock();
        if coordinators.len() >= MAX_COORDINATORS {
            coordinators.clear();
        }
        coordinators.insert(group.to_owned(), found.node_id.0);
        Ok(found.node_id.0)
    }
}

fn no_address() -> Kind {
    Kind::Unreachable("no address to connect to".into())
}
