//! Two clusters with a proxy between them for one test that cuts over, and what is looked at afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::message::Message;
use serde_json::Value;

use crate::support::checker::{Verdict, check};
use crate::support::cluster::{Cluster, Spec};
use crate::support::load::Outcome;
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::scan;

/// For each wait inside a test, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// The values that a reader with `read_committed` finds, each record once.
pub fn values_once(bootstrap: &str, topic: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    scan::visit(bootstrap, topic, PATIENCE, |message| {
        let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
        if all.insert(value.clone()) { Ok(()) } else { Err(format!("{value} is there twice")) }
    })
    .expect("a scan");
    all
}

/// The proxy first: it goes before its clusters do.
pub struct Rig {
    pub proxy: Proxy,
    pub east: Cluster,
    pub west: Cluster,
}

impl Rig {
    /// `east` is active; every topic is teed in this mode. `before` may put topics on the active cluster and change the configuration before the proxy starts.
    pub fn start_with(tee: &str, before: impl FnOnce(&Cluster, &mut ProxySpec)) -> Self {
        let [east, west] = Cluster::start_all([Spec::new("east"), Spec::new("west")]);
        let mut spec = ProxySpec::new(&east, &west, tee);
        before(&east, &mut spec);
        Self { proxy: Proxy::start(spec), east, west }
    }

    pub fn cluster(&mut self, name: &str) -> &mut Cluster {
        if name == self.east.name() { &mut self.east } else { &mut self.west }
    }

    /// Waits until the preflight of a switchover passes, switches over and checks the report.
    pub fn switch(&self) -> Value {
        self.proxy.wait_switchable(PATIENCE);
        let before = self.proxy.status();
        let report = self.proxy.switchover();
        assert_done(&report);
        assert_eq!(report["from"], before["active"], "{report:#}");
        assert_eq!(report["to"], before["standby"], "{report:#}");
        assert_eq!(report["generation"].as_u64(), before["generation"].as_u64().map(|g| g + 1), "{report:#}");
        let after = self.proxy.status();
        assert_eq!((&after["active"], &after["generation"]), (&report["to"], &report["generation"]), "{after:#}");
        report
    }

    /// What clients saw of `topic` against its log: through the proxy, and the same records on each cluster.
    pub fn judge(&self, topic: &str, outcome: Outcome, context: &str) -> Verdict {
        outcome.assert_no_errors(context);
        let mut history = outcome.history;
        let stored = scan::numbered(&self.proxy.bootstrap(), topic, PATIENCE).expect("a scan through the proxy");
        history.stored = Some(stored);
        let verdict = check(&history);
        verdict.assert_clean(context);
        verdict
    }

    /// `verify` over everything finds the clusters equal, and has compared something.
    pub fn assert_equal(&self) {
        self.proxy.wait_in_sync(PATIENCE);
        let report = self.proxy.verify();
        assert_eq!(report["equal"], true, "{report:#}");
        assert_eq!(report["differences_total"], 0, "{report:#}");
        assert!(records_verified(&report) > 0, "nothing was compared: {report:#}");
    }
}

/// Records that a `verify` has compared.
pub fn records_verified(report: &Value) -> u64 {
    let topics = report["topics"].as_array().into_iter().flatten();
    topics.flat_map(|t| t["partitions"].as_array().into_iter().flatten()).filter_map(|p| p["records"].as_u64()).sum()
}

/// A cutover that went through and lost nothing.
pub fn assert_done(report: &Value) {
    assert_eq!(report["outcome"], "done", "{report:#}");
    assert_eq!(report["lost"].as_array().map(Vec::len), Some(0), "{report:#}");
}
