//! The proxy is disposable: killed at any instant under load, with its disk lost, it goes on where it was; a cutover that
//! was half done is completed or was never begun.

use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::support::checker::check;
use crate::support::cluster::{Cluster, Spec};
use crate::support::load::{Load, LoadSpec, Outcome};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::scan;
use crate::support::shared::repetitions;
use crate::support::wait::wait_until;

const MINUTE: Duration = Duration::from_secs(60);
const TOPIC: &str = "numbers";
/// Names the step of a cutover at which the proxy aborts itself (`coordinator::cutover`).
const FAULT: &str = "KAFKA_STANDBY_FAULT";

/// A rig under load whose proxy is killed again and again.
struct Rig {
    proxy: Proxy,
    load: Load,
    random: StdRng,
    // After the proxy and the load: they go first.
    _clusters: [Cluster; 2],
}

impl Rig {
    fn start() -> Self {
        let seed: u64 = std::env::var("RIG_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
        eprintln!("RIG_SEED={seed}");
        let clusters = Cluster::start_all([Spec::new("east"), Spec::new("west")]);
        clusters[0].create_topic(TOPIC, 6, &[]);
        let proxy = Proxy::start(ProxySpec::new(&clusters[0], &clusters[1], "sync"));
        proxy.wait_in_sync(MINUTE);
        let mut spec = LoadSpec::new(&proxy.bootstrap(), TOPIC);
        // A coordinator waits this long for a member whose first JoinGroup was cut off, as it does without a proxy.
        spec.consumer_config.push(("session.timeout.ms".into(), "10000".into()));
        let load = Load::start(spec);
        load.wait_for_more(500, MINUTE);
        Rig { proxy, load, random: StdRng::seed_from_u64(seed), _clusters: clusters }
    }

    fn pause(&mut self, most: Duration) {
        thread::sleep(self.random.random_range(Duration::ZERO..most));
    }

    /// The proxy is dead: a new one with an empty disk takes over.
    fn replace(&mut self) {
        self.proxy.kill();
        self.proxy.forget_state();
        self.proxy.launch();
    }

    fn wait_for_more(&self, what: &str) {
        eprintln!("{what}: {:?}", self.load.progress());
        self.load.wait_for_more(200, MINUTE);
    }

    /// Ends the load and finds nothing lost, repeated, reordered or renamed, and the clusters equal.
    fn finish(self, context: &str) {
        let Outcome { history, errors, .. } = {
            let outcome = self.load.finish(MINUTE);
            self.proxy.wait_in_sync(MINUTE);
            outcome
        };
        assert!(errors.is_empty(), "{context}: client errors: {errors:#?}");
        let mut history = history;
        history.stored = Some(scan::numbered(&self.proxy.bootstrap(), TOPIC, MINUTE).expect("a scan"));
        let verdict = check(&history);
        eprintln!("{context}: {verdict}");
        verdict.assert_clean(context);
        assert!(verdict.acknowledged > 1000, "{verdict}");
        let verified = self.proxy.verify();
        assert_eq!(verified["equal"], true, "{context}: {verified}");
        let compared: u64 = records(&verified);
        assert!(compared >= verdict.acknowledged as u64, "{context}: only {compared} records were compared");
    }
}

/// Records that a verification compared.
fn records(verified: &Value) -> u64 {
    let topics = verified["topics"].as_array().into_iter().flatten();
    topics.flat_map(|t| t["partitions"].as_array().into_iter().flatten()).filter_map(|p| p["records"].as_u64()).sum()
}

/// SIGKILL at random instants: while it starts, while it catches up, while it serves. Each time its disk is lost.
#[test]
fn a_proxy_killed_at_random_instants_loses_and_doubles_nothing() {
    let mut rig = Rig::start();
    let kills = repetitions(6, 50);
    for kill in 1..=kills {
        rig.replace();
        if kill % 3 != 0 {
            // Often before it is ready, or in the midst of its catch-up.
            rig.pause(Duration::from_millis(1500));
            continue;
        }
        rig.proxy.wait_ready();
        rig.wait_for_more(&format!("after kill {kill} of {kills}"));
        rig.pause(Duration::from_millis(500));
    }
    rig.replace();
    rig.proxy.wait_ready();
    rig.wait_for_more("after the last kill");
    assert_eq!(rig.proxy.status()["generation"], 0);
    rig.finish("random kills");
}

/// What the next proxy must find after a death at a step.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Found {
    /// The cutover never was.
    Old,
    /// It is done.
    New,
    /// One of both: the commit was under way.
    Either,
}

/// The proxy dies at each step of a switchover; the next one, which has no disk, serves the old generation if the death
/// came before the commit, else the new one.
#[test]
fn a_switchover_that_dies_half_way_is_completed_or_never_was() {
    use Found::*;
    let short = [
        ("after_preflight", Old),
        ("during_hold", Old),
        ("during_drain", Old),
        ("during_finalise", Old),
        ("before_commit", Old),
        ("during_commit", Either),
        ("after_commit", New),
        ("after_resume", New),
    ];
    let rest = [
        ("before_preflight", Old),
        ("during_preflight", Old),
        ("before_hold", Old),
        ("after_hold", Old),
        ("before_drain", Old),
        ("after_drain", Old),
        ("before_finalise", Old),
        ("after_finalise", Old),
        ("before_resume", New),
        ("during_resume", New),
    ];
    let mut rig = Rig::start();
    for round in 0..repetitions(1, 3) {
        let rest = &rest[..repetitions(0, rest.len())];
        for (step, found) in short.iter().chain(rest) {
            rig.die_at(step, *found);
            eprintln!("round {round}: {step} done");
        }
    }
    rig.finish("deaths at each step");
}

/// SIGKILL from outside at random instants of a switchover.
#[test]
fn a_switchover_killed_at_random_instants_is_completed_or_never_was() {
    let mut rig = Rig::start();
    for n in 1..=repetitions(3, 30) {
        rig.proxy.wait_in_sync(MINUTE);
        let before = generation(&rig.proxy);
        let delay = rig.random.random_range(Duration::ZERO..Duration::from_millis(400));
        let url = format!("{}/v1/switchover", rig.proxy.admin());
        let asked = thread::spawn(move || ureq::post(url).content_type("application/json").send("{}"));
        thread::sleep(delay);
        rig.replace();
        let reply = asked.join().expect("the call returns").and_then(|mut reply| reply.body_mut().read_to_string());
        rig.proxy.wait_ready();
        let after = generation(&rig.proxy);
        rig.wait_for_more(&format!("kill {n}, {delay:?} into the switchover: generation {before} then {after}"));
        // Told that it was done, an operator must find it done.
        let report: Value = reply.ok().and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default();
        let told = report["outcome"] == "done";
        assert!(after == before + 1 || (after == before && !told), "{before} then {after}, told {report}");
    }
    rig.finish("switchovers killed at random instants");
}

impl Rig {
    /// Starts a switchover under a proxy that aborts at `step`, and replaces that proxy.
    fn die_at(&mut self, step: &str, found: Found) {
        self.proxy.spec_mut().environment = vec![(FAULT.into(), step.into())];
        self.replace();
        self.proxy.wait_ready();
        self.proxy.wait_in_sync(MINUTE);
        self.wait_for_more(step);
        let before = generation(&self.proxy);
        let asked = self.proxy.post("/v1/switchover", &json!({}));
        // Beside a step the answer may come before the death: then the cutover must be found done.
        let found = if asked.is_ok() { Found::New } else { found };
        assert!(asked.is_err() || step.starts_with("during_"), "{step}: the proxy lives and answered {asked:?}");
        wait_until("the proxy to abort", MINUTE, || !self.proxy.is_alive());
        self.proxy.spec_mut().environment.clear();
        self.replace();
        self.proxy.wait_ready();
        let after = generation(&self.proxy);
        let expected = match found {
            Found::Old => after == before,
            Found::New => after == before + 1,
            Found::Either => after == before || after == before + 1,
        };
        assert!(expected, "{step}: generation {before}, then {after}, expected {found:?}");
        self.wait_for_more(&format!("{step}: generation {before}, then {after}"));
    }
}

fn generation(proxy: &Proxy) -> u64 {
    let status = proxy.status();
    let (generation, active) = (status["generation"].as_u64().expect("a generation"), &status["active"]);
    let expected = if generation.is_multiple_of(2) { "east" } else { "west" };
    assert_eq!(active, expected, "who is active in generation {generation}");
    generation
}
