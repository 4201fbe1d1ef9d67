//! The coordinator: knows the roles of the clusters, starts what belongs to a generation (view, streams, topic and group
//! copying), carries out cutovers, answers operators.
//!
//! `start` finds out who is active, `generation` runs what belongs to one generation, `cutover` drives the pure state
//! machine, `divergence` deals with what a failover left behind, `house` is what connections ask, `control` what operators ask.

mod control;
mod cutover;
mod divergence;
mod generation;
mod house;
mod start;
mod status;
mod transactions;
mod witness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::admin::types::{Report, VerifySummary};
use crate::catalog::{Catalog, View};
use crate::config::Config;
use crate::cutover::Phase;
use crate::groups::Rehome;
use crate::model::{ClusterIx, Generation};
use crate::proxy::{Budget, Context, Gate, Server, Transactions};
use crate::state::{Store, Superseded};
use crate::upstream::{ClientOptions, Cluster};
use crate::wire::versions::Advertised;

pub use control::Operator;
pub use generation::Running;

/// How long clients get to finish what is in flight at a stop.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(10);

/// Who is what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    pub generation: Generation,
    pub active: ClusterIx,
    /// The cluster id that clients see.
    pub cluster_id: String,
}

pub struct Coordinator {
    /// As at the start.
    config: Arc<Config>,
    /// As reloaded.
    live: Arc<ArcSwap<Config>>,
    names: [String; 2],
    clusters: [Option<Cluster>; 2],
    catalog: Arc<Catalog>,
    store: Arc<Store>,
    gate: Arc<Gate>,
    rehome: Arc<Rehome>,
    transactions: Arc<Transactions>,
    /// The standby's coordinator of transactions has been looked for.
    transactions_warm: AtomicBool,
    /// What is known of the roles; `None` until a cluster has been read.
    roles: RwLock<Option<Roles>>,
    /// Real broker ids by slot, per cluster.
    slots: Mutex<[Vec<i32>; 2]>,
    /// What runs for the current generation.
    running: ArcSwap<Option<Arc<Running>>>,
    /// One partition at a time finds the standby out of sync.
    leaving: tokio::sync::Mutex<()>,
    /// One cutover at a time.
    cutting: tokio::sync::Mutex<()>,
    phase: Mutex<Phase>,
    reports: Mutex<Vec<Report>>,
    last_verify: Mutex<Option<VerifySummary>>,
    divergences: divergence::Divergences,
    /// Why clients are not served yet.
    not_ready: Mutex<Vec<String>>,
    /// Set by an operator's failover while the start still waits for proof of who is active.
    decided: Notify,
    ready: AtomicBool,
    context: std::sync::OnceLock<Arc<Context>>,
    server: std::sync::OnceLock<Server>,
    stop: CancellationToken,
}

impl Coordinator {
    /// Builds the coordinator; nothing is connected yet.
    pub fn new(config: Arc<Config>, stop: CancellationToken) -> Arc<Self> {
        let names = ClusterIx::BOTH.map(|ix| config.cluster(ix).map_or_else(String::new, |c| c.name.clone()));
        let clusters = ClusterIx::BOTH.map(|ix| {
            config.cluster(ix).map(|c| {
                let bootstrap = c.bootstrap.iter().map(ToString::to_string).collect();
                Cluster::new(c.name.as_str(), bootstrap, ClientOptions::default())
            })
        });
        crate::catalog::TEE_BUDGET.set_limit(usize::try_from(config.limits.tee_buffer).unwrap_or(usize::MAX));
        // A plain proxy keeps no state: there is no generation but the first.
        let stored = if config.standby.is_some() { clusters.clone() } else { [None, None] };
        let coordinator = Arc::new(Coordinator {
            names,
            catalog: Arc::default(),
            store: Arc::new(Store::new(stored)),
            gate: Arc::default(),
            rehome: Arc::default(),
            transactions: Arc::new(Transactions::new(config.standby.is_some())),
            transactions_warm: AtomicBool::new(false),
            roles: RwLock::new(None),
            slots: Mutex::default(),
            running: ArcSwap::from_pointee(None),
            leaving: tokio::sync::Mutex::new(()),
            cutting: tokio::sync::Mutex::new(()),
            phase: Mutex::new(Phase::Steady),
            reports: Mutex::default(),
            last_verify: Mutex::default(),
            divergences: divergence::Divergences::default(),
            not_ready: Mutex::new(vec!["the proxy is starting".into()]),
            decided: Notify::new(),
            ready: AtomicBool::new(false),
            context: std::sync::OnceLock::new(),
            server: std::sync::OnceLock::new(),
            clusters,
            live: Arc::new(ArcSwap::new(config.clone())),
            config,
            stop,
        });
        let context = Arc::new(Context {
            config: coordinator.config.clone(),
            live: coordinator.live.clone(),
            gate: coordinator.gate.clone(),
            clusters: coordinator.clusters.clone(),
            advertised: ArcSwap::from_pointee(Advertised::of(&[])),
            rehome: coordinator.rehome.clone(),
            heartbeats: Arc::default(),
            transactions: coordinator.transactions.clone(),
            house: coordinator.clone(),
            connections: AtomicUsize::new(0),
            budget: Arc::new(Budget::new(coordinator.config.limits.reply_buffer)),
        });
        let server = Server::new(context.clone(), coordinator.stop.clone());
        let _ = coordinator.context.set(context);
        let _ = coordinator.server.set(server);
        coordinator
    }

    /// Resolves when another process has taken over: whatever this one acknowledged from now on, nobody might know of. All
    /// its connections are closed.
    pub async fn superseded(&self) -> Superseded {
        let superseded = self.store.superseded().await;
        tracing::error!(%superseded, "this process ends: two must not serve the same clusters");
        self.stop.cancel();
        superseded
    }

    /// Lets clients finish what is in flight, then ends their connections and all that runs.
    pub async fn drain(&self) {
        let deadline = tokio::time::Instant::now() + DRAIN;
        if !self.gate.hold(false, deadline).await {
            tracing::warn!(connections = self.gate.busy(), "connections with requests in flight are closed");
        }
        self.stop.cancel();
        if let Some(server) = self.server.get() {
            server.finished().await;
        }
        if let Some(running) = self.running() {
            running.stop().await;
        }
    }

    fn context(&self) -> &Arc<Context> {
        self.context.get().expect("set in new")
    }

    fn cluster(&self, ix: ClusterIx) -> Option<&Cluster> {
        self.clusters[ix.ix()].as_ref()
    }

    fn name(&self, ix: ClusterIx) -> &str {
        &self.names[ix.ix()]
    }

    pub fn roles(&self) -> Option<Roles> {
        self.roles.read().clone()
    }

    fn running(&self) -> Option<Arc<Running>> {
        self.running.load().as_ref().clone()
    }

    fn has_standby(&self) -> bool {
        self.config.standby.is_some()
    }

    fn view_of(&self, roles: &Roles) -> Arc<View> {
        let slots = self.slots.lock();
        let listener = &self.config.listener;
        let (active, other) = (slots[roles.active.ix()].clone(), slots[roles.active.other().ix()].len());
        let brokers =
            crate::catalog::VirtualBrokers::new(listener.advertise.clone(), listener.brokers.from, active, other);
        let config = self.live.clone();
        let registrar = move |catalog: &Catalog, name: &str, id, active, generation| {
            crate::replicate::register(catalog, &config.load(), name, id, active, generation)
        };
        Arc::new(View {
            generation: roles.generation,
            active: roles.active,
            cluster_id: roles.cluster_id.clone(),
            brokers,
            catalog: self.catalog.clone(),
            registrar: Arc::new(registrar),
        })
    }
}
