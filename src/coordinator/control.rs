//! What operators ask (the HTTP API's [`Control`]).

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Coordinator;
use crate::admin::control::Answer;
use crate::admin::types::{
    CutoverRequest, Divergence, DivergenceRequest, ExportQuery, PhaseDone, ReloadReport, Report, Status,
    TranslateQuery, Translation, UtcMillis, VerifyReport, VerifySummary,
};
use crate::admin::{Control, ControlError};
use crate::config::Config;
use crate::cutover::Kind;
use crate::model::{ClusterIx, Generation};
use crate::upstream::OffsetSpec;

/// For the active cluster to say where a log ends; an operator waits, and what is known without it will do.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Handle to the coordinator for the HTTP API.
pub struct Operator(pub std::sync::Arc<Coordinator>);

impl Control for Operator {
    fn status(&self) -> Answer<'_, Status> {
        Box::pin(async {
            let starting = || ControlError::Unavailable(self.0.not_ready.lock().join("; "));
            self.0.status_now().ok_or_else(starting)
        })
    }

    fn switchover(&self, request: CutoverRequest, progress: mpsc::Sender<PhaseDone>) -> Answer<'_, Report> {
        Box::pin(self.0.cut_over(Kind::Switchover, request, progress))
    }

    fn failover(&self, request: CutoverRequest, progress: mpsc::Sender<PhaseDone>) -> Answer<'_, Report> {
        Box::pin(self.0.cut_over(Kind::Failover, request, progress))
    }

    fn reports(&self) -> Answer<'_, Vec<Report>> {
        Box::pin(async { Ok(self.0.reports.lock().iter().rev().cloned().collect()) })
    }

    fn report(&self, generation: Generation) -> Answer<'_, Report> {
        Box::pin(async move {
            let reports = self.0.reports.lock();
            let done = |r: &&Report| r.generation == generation && r.outcome == crate::admin::types::Outcome::Done;
            let found = reports.iter().rev().find(done).cloned();
            found.ok_or_else(|| ControlError::NotFound(format!("no cutover led to generation {generation}")))
        })
    }

    fn verify(&self, topic: Option<String>) -> Answer<'_, VerifyReport> {
        Box::pin(async move {
            let unavailable = |why: &str| ControlError::Unavailable(why.into());
            let roles = self.0.roles().ok_or_else(|| unavailable("the proxy is not ready"))?;
            if let Some(name) = &topic
                && self.0.catalog.topic(name).is_none()
            {
                return Err(ControlError::NotFound(format!("no topic {name}")));
            }
            let (active, standby) = (self.0.cluster(roles.active), self.0.cluster(roles.active.other()));
            let (Some(active), Some(standby)) = (active, standby) else {
                return Err(unavailable("no standby is configured"));
            };
            let report = crate::verify::verify(crate::verify::Input {
                active: active.clone(),
                standby: standby.clone(),
                active_ix: roles.active,
                catalog: self.0.catalog.clone(),
                topic,
            })
            .await;
            let (equal, differences_total) = (report.equal, report.differences_total);
            *self.0.last_verify.lock() = Some(VerifySummary { at: UtcMillis::now(), equal, differences_total });
            Ok(report)
        })
    }

    fn translate(&self, query: TranslateQuery) -> Answer<'_, Translation> {
        Box::pin(async move {
            let end = self.0.active_end(&query.topic, query.partition).await;
            self.0.translate_now(query, end)
        })
    }

    fn divergence(&self) -> Answer<'_, Divergence> {
        Box::pin(async { Ok(self.0.divergence_now(&DivergenceRequest::default()).await) })
    }

    fn export(&self, query: ExportQuery) -> Answer<'_, mpsc::Receiver<Bytes>> {
        Box::pin(self.0.export_range(query))
    }

    fn reinject(&self, request: DivergenceRequest) -> Answer<'_, Divergence> {
        Box::pin(async move { self.0.reinject_ranges(&request).await })
    }

    fn discard(&self, request: DivergenceRequest) -> Answer<'_, Divergence> {
        Box::pin(async move { self.0.discard_ranges(&request).await })
    }

    fn reload(&self) -> Answer<'_, ReloadReport> {
        Box::pin(async {
            let mut fresh = Config::load(&self.0.config.source).map_err(|e| ControlError::Invalid(e.to_string()))?;
            fresh.assume_active = self.0.config.assume_active;
            let report = ReloadReport::from(self.0.live.load().changes(&fresh));
            self.0.take_over(fresh);
            Ok(report)
        })
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        if self.0.ready.load(Ordering::Acquire) { Ok(()) } else { Err(self.0.not_ready.lock().clone()) }
    }
}

impl Coordinator {
    /// Makes the live keys of a new configuration count; the others are read at the start only.
    fn take_over(&self, fresh: Config) {
        for topic in self.catalog.topics().iter().filter(|t| crate::replicate::is_user_topic(&t.name)) {
            topic.set_mode(fresh.tee.mode(&topic.name));
        }
        self.live.store(std::sync::Arc::new(fresh));
        if let Some(running) = self.running() {
            running.topics_due.notify_one();
        }
    }

    /// End of the active cluster's log: as it says itself, or as far as is known if it does not answer.
    async fn active_end(&self, topic: &str, index: i32) -> Option<i64> {
        let partition = self.catalog.partition(topic, index)?;
        let active = self.roles()?.active;
        let tps = [partition.tp.clone()];
        if let Some(cluster) = self.cluster(active)
            && let Ok(Ok(ends)) =
                tokio::time::timeout(ASK_TIMEOUT, cluster.list_offsets(&tps, OffsetSpec::Latest)).await
            && let Some(Ok(end)) = ends.get(&tps[0])
        {
            return Some(*end);
        }
        let exposed = partition.offsets.read().map(active).position_in(partition.exposed());
        Some(partition.progress().active_end.max(exposed))
    }

    /// `active_end`: where the active cluster's log ends.
    fn translate_now(&self, query: TranslateQuery, active_end: Option<i64>) -> Result<Translation, ControlError> {
        let missing = || ControlError::NotFound(format!("no partition {}-{}", query.topic, query.partition));
        let partition = self.catalog.partition(&query.topic, query.partition).ok_or_else(missing)?;
        let offsets = partition.offsets.read();
        let logical = match &query.cluster {
            None => Some(query.offset),
            Some(name) => {
                let unknown = || ControlError::NotFound(format!("no cluster {name}"));
                let ix = self.config.cluster_named(name).ok_or_else(unknown)?;
                offsets.map(ix).to_logical(query.offset)
            }
        };
        let roles = self.roles();
        let cluster_offset = |ix: ClusterIx| {
            let offset = logical.and_then(|l| offsets.map(ix).to_cluster(l))?;
            // The maps reach beyond the logs: what is not there yet has no offset.
            let standby = roles.as_ref().is_some_and(|r| r.active != ix);
            let end = if standby { partition.progress().standby_end } else { active_end.unwrap_or(i64::MAX) };
            (offset < end).then_some(offset)
        };
        let configured = ClusterIx::BOTH.into_iter().filter(|&ix| self.cluster(ix).is_some());
        let cluster_offsets: std::collections::BTreeMap<_, _> =
            configured.map(|ix| (self.name(ix).to_string(), cluster_offset(ix))).collect();
        // An offset that no cluster has names no record.
        let logical = logical.filter(|_| query.cluster.is_none() || cluster_offsets.values().any(Option::is_some));
        let complete = logical.is_some() && cluster_offsets.values().all(Option::is_some);
        let detail = (!complete).then(|| {
            "a cluster has no record there: not copied (control batch, aborted or not yet replicated), or masked after a failover"
                .to_string()
        });
        Ok(Translation {
            topic: query.topic.clone(),
            partition: query.partition,
            logical_offset: logical,
            cluster_offsets,
            detail,
        })
    }
}
