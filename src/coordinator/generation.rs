//! What runs for one generation: streams, topic and group copying, each from the active cluster to the standby.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Coordinator, Roles};
use crate::catalog::Catalog;
use crate::groups::GroupSync;
use crate::model::ClusterIx;
use crate::replicate::{Streams, TopicSync};

/// How often transactional ids are looked through: their expiry is counted in days.
const SWEEP: Duration = Duration::from_secs(3600);

/// How often it is looked whether a cluster is back whose state topic missed something. The standby is not in sync before.
const LEVEL: Duration = Duration::from_millis(250);

/// Everything that belongs to one generation.
pub struct Running {
    pub topics: Arc<TopicSync>,
    /// `None`: no standby.
    pub streams: Option<Arc<Streams>>,
    pub groups: Option<Arc<GroupSync>>,
    /// Somebody wants the topics looked at now.
    pub topics_due: Arc<Notify>,
    stop: CancellationToken,
}

impl Running {
    /// Gives every partition of the catalog that is to be copied a stream.
    pub fn cover(&self, catalog: &Catalog) {
        if let Some(streams) = &self.streams {
            streams.cover(&catalog.partitions());
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Stops everything; afterwards nothing of this generation is written to the standby any more.
    pub async fn stop(&self) {
        self.stop.cancel();
        if let Some(streams) = &self.streams {
            streams.stop().await;
        }
        if let Some(groups) = &self.groups {
            groups.stop().await;
        }
    }
}

impl Coordinator {
    /// Starts what belongs to a generation and makes it the current one.
    pub(super) fn run_generation(self: &Arc<Self>, roles: &Roles) -> Arc<Running> {
        let stop = self.stop.child_token();
        let from = roles.active;
        let (active, standby) = (self.cluster(from).cloned(), self.cluster(from.other()).cloned());
        let active = active.expect("the active cluster is configured");
        let topics = Arc::new(TopicSync::new(
            self.live.clone(),
            self.catalog.clone(),
            self.store.clone(),
            active.clone(),
            standby.clone(),
            from,
            roles.generation,
            self.names.clone(),
        ));
        let streams = standby.clone().map(|standby| {
            let clusters = (active.clone(), standby);
            Streams::start(
                roles.generation,
                from,
                clusters,
                self.names.clone(),
                self.catalog.clone(),
                self.store.clone(),
            )
        });
        let groups = standby.map(|standby| {
            let (catalog, rehome) = (self.catalog.clone(), self.rehome.clone());
            Arc::new(GroupSync::new(catalog, [active, standby], from, roles.generation, rehome))
        });
        if let Some(groups) = groups.clone() {
            let (interval, stop) = (self.config.groups.sync_interval, stop.clone());
            tokio::spawn(async move { groups.run(interval, stop).await });
        }
        let running =
            Arc::new(Running { topics, streams, groups, topics_due: Arc::new(Notify::new()), stop: stop.clone() });
        self.running.store(Arc::new(Some(running.clone())));
        tokio::spawn(keep_topics(self.clone(), running.clone(), stop.clone()));
        tokio::spawn(sweep_transactions(self.clone(), stop.clone()));
        tokio::spawn(level_state(self.clone(), stop));
        running
    }
}

/// Forgets transactional ids that nobody uses any more.
async fn sweep_transactions(coordinator: Arc<Coordinator>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            _ = tick.tick() => coordinator.sweep_transactions(),
            () = stop.cancelled() => return,
        }
    }
}

/// Brings a cluster's state topic level once it is back from where it missed something.
async fn level_state(coordinator: Arc<Coordinator>, stop: CancellationToken) {
    let behind = |ix: &ClusterIx| coordinator.cluster(*ix).is_some() && !coordinator.store.is_level(*ix);
    loop {
        tokio::select! {
            () = tokio::time::sleep(LEVEL) => {}
            () = stop.cancelled() => return,
        }
        for ix in ClusterIx::BOTH.into_iter().filter(behind) {
            let clusters = ClusterIx::BOTH.into_iter().filter_map(|ix| coordinator.cluster(ix));
            let there = futures_util::future::join_all(clusters.map(|cluster| cluster.reachable(LEVEL))).await;
            if !there.into_iter().all(|there| there) {
                continue;
            }
            if let Err(error) = coordinator.store.level(ix).await {
                tracing::debug!(%error, "a state topic is not level");
            }
        }
    }
}

/// Looks at the topics of both clusters from time to time, and when somebody asks.
async fn keep_topics(coordinator: Arc<Coordinator>, running: Arc<Running>, stop: CancellationToken) {
    let interval = coordinator.config.topics.refresh_interval.max(Duration::from_millis(50));
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = running.topics_due.notified() => {}
            () = stop.cancelled() => return,
        }
        if let Err(reason) = running.topics.pass().await {
            tracing::debug!(reason, "topics are not up to date");
        }
        running.cover(&coordinator.catalog);
        coordinator.store.check_ownership();
        coordinator.note_brokers().await;
        coordinator.new_brokers();
    }
}

impl Coordinator {
    /// Opens ports for brokers that were added, and shows them to clients.
    fn new_brokers(&self) {
        let (Some(roles), Some(view)) = (self.roles(), self.gate.view()) else { return };
        let fresh = self.view_of(&roles);
        if fresh.brokers == view.brokers || fresh.generation != view.generation {
            return;
        }
        match self.server.get().map(|s| s.listen_brokers(fresh.brokers.count())) {
            Some(Ok(())) => self.gate.refresh(fresh),
            Some(Err(error)) => tracing::error!(%error, "a broker was added that clients cannot reach"),
            None => {}
        }
    }
}
