//! Cutovers in random order and at random moments, with deaths of the proxy and of clusters in between, under the load of
//! every kind of client; the checker finds nothing. The order follows from a seed: `RIG_SEED` chooses another one.

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rdkafka::message::Message;
use serde_json::Value;

use crate::rig::{Rig, assert_done};
use crate::support::checker::{History, Verdict, check};
use crate::support::cluster::Cluster;
use crate::support::load::{Commit, Load, LoadSpec};
use crate::support::scan;
use crate::support::shared::repetitions;
use crate::support::wait::wait_for;

const SEED: u64 = 4;
/// For each wait; transactions and groups have time limits of their own within it.
const PATIENCE: Duration = Duration::from_secs(240);
const NUMBERS: &str = "numbers";
const PLAIN: &str = "plain";
const LEDGER: &str = "ledger";

/// What is done to the rig. Each leaves two clusters and a proxy behind that run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Switchover,
    /// With SIGKILL of the active cluster, which comes back.
    Failover,
    /// SIGKILL of the proxy at a random moment of a switchover.
    SwitchoverCutShort,
    /// SIGKILL of the standby, which comes back after acknowledgements have gone on without it.
    StandbyLost,
    /// SIGKILL of the active cluster, and of the proxy at a random moment of the failover.
    FailoverCutShort,
    /// SIGKILL of the standby at a random moment of a switchover.
    StandbyLostInSwitchover,
}

/// In the short form the first three, once each.
const STEPS: [Step; 6] = [
    Step::Switchover,
    Step::SwitchoverCutShort,
    Step::Failover,
    Step::StandbyLost,
    Step::FailoverCutShort,
    Step::StandbyLostInSwitchover,
];

/// Each kind as often as any other, in random order.
fn steps(random: &mut StdRng, count: usize) -> Vec<Step> {
    let mut all: Vec<Step> = STEPS.into_iter().cycle().take(count).collect();
    all.shuffle(random);
    all
}

/// The clients, by what they read or write.
struct Clients {
    /// Two idempotent producers, and a classic eager group.
    numbers: Load,
    /// Readers of the same: a cooperative group, a KIP-848 group, and one with an assignment of its own.
    readers: [(&'static str, Load); 3],
    /// A producer without idempotence, and a reader.
    plain: Load,
    /// A transactional producer, and a group.
    ledger: Load,
}

fn spec(bootstrap: &str, topic: &str, producers: &[&str], more: &[(&str, &str)]) -> LoadSpec {
    let producers = producers.iter().map(|&codec| codec.into()).collect();
    let consumer_config = more.iter().map(|&(k, v)| (k.into(), v.into())).collect();
    LoadSpec {
        producers,
        consumer_config,
        records_per_second: 40,
        record_bytes: 200,
        ..LoadSpec::new(bootstrap, topic)
    }
}

impl Clients {
    fn start(bootstrap: &str) -> Self {
        // A coordinator waits this long for a member whose first JoinGroup was cut off, as it does without a proxy.
        let session = ("session.timeout.ms", "10000");
        let reader = |name: &str, commit, consumers, more: &[(&str, &str)]| {
            let group = format!("{NUMBERS}-{name}");
            Load::start(LoadSpec { group, commit, consumers, ..spec(bootstrap, NUMBERS, &[], more) })
        };
        let by_itself = Commit::Auto(Duration::from_secs(1));
        let cooperative = [("partition.assignment.strategy", "cooperative-sticky"), session];
        let mut plain = LoadSpec { commit: Commit::Assigned, consumers: 1, ..spec(bootstrap, PLAIN, &["lz4"], &[]) };
        // One request at a time: nothing else keeps the order of what is sent again.
        let retries_in_order = [("enable.idempotence", "false"), ("max.in.flight.requests.per.connection", "1")];
        plain.producer_config.extend(retries_in_order.map(|(k, v)| (k.into(), v.into())));
        Clients {
            numbers: Load::start(spec(bootstrap, NUMBERS, &["lz4", "gzip"], &[session])),
            readers: [
                ("cooperative", reader("cooperative", Commit::Manual, 2, &cooperative)),
                ("KIP-848", reader("kip848", by_itself, 2, &[("group.protocol", "consumer")])),
                ("assigned", reader("assigned", Commit::Assigned, 1, &[])),
            ],
            plain: Load::start(plain),
            ledger: Load::start(LoadSpec { transactional: true, ..spec(bootstrap, LEDGER, &["none"], &[session]) }),
        }
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &Load)> {
        let writers = [("numbers", &self.numbers), ("plain", &self.plain), ("ledger", &self.ledger)];
        writers.into_iter().chain(self.readers.iter().map(|(name, load)| (*name, load)))
    }

    fn wait_for_more(&self, more: u64) {
        for (name, load) in self.all() {
            let start = load.progress();
            wait_for(&format!("{more} more records, {name}"), PATIENCE, || {
                let now = load.progress();
                let written = name == "numbers" || name == "plain" || name == "ledger";
                let is_there = (!written || now.acknowledged >= start.acknowledged + more)
                    && now.consumed >= start.consumed + more;
                if is_there { Ok(()) } else { Err(format!("from {start:?} to {now:?}")) }
            });
        }
    }

    /// Ends them and judges what each saw.
    fn judge(mut self, bootstrap: &str) {
        for load in [&mut self.numbers, &mut self.plain, &mut self.ledger] {
            load.stop_producing(PATIENCE);
        }
        for (_, reader) in &self.readers {
            reader.read_all_of(&self.numbers, PATIENCE);
        }
        let stored = |topic| Some(scan::numbered(bootstrap, topic, PATIENCE).expect("a scan"));
        let numbers = finish("numbers", self.numbers, |history| history.stored = stored(NUMBERS));
        let mut verdicts = vec![("numbers", numbers.1, false)];
        for (name, reader) in self.readers {
            let (_, verdict) = finish(name, reader, |history| {
                history.acknowledged.clone_from(&numbers.0.acknowledged);
                history.stored.clone_from(&numbers.0.stored);
            });
            verdicts.push((name, verdict, name == "assigned"));
        }
        let (_, plain) = finish("plain", self.plain, |history| {
            (history.stored, history.at_least_once) = (stored(PLAIN), true);
        });
        let (ledger, verdict) = finish("ledger", self.ledger, |history| history.stored = stored(LEDGER));
        assert!(ledger.transactions.len() > 20, "only {} transactions", ledger.transactions.len());
        verdicts.extend([("plain", plain, true), ("ledger", verdict, false)]);
        // A group may get again what it had not committed; a reader that keeps its position by itself gets nothing again.
        let faulty = |verdict: &Verdict, alone| if alone { !verdict.is_clean() } else { !verdict.is_at_least_once() };
        let faults = verdicts.iter().filter(|(_, verdict, alone)| faulty(verdict, *alone));
        let faults: Vec<_> = faults.map(|(name, v, _)| format!("{name}: {v}{}", v.examples())).collect();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}

/// Ends a load; `complete` adds to its history what it cannot know.
fn finish(name: &str, load: Load, complete: impl FnOnce(&mut History)) -> (History, Verdict) {
    let outcome = load.finish(PATIENCE);
    outcome.assert_no_errors(name);
    let mut history = outcome.history;
    complete(&mut history);
    let verdict = check(&history);
    eprintln!("{name}: {verdict}");
    assert!(verdict.acknowledged > 100, "{name}: {verdict}");
    (history, verdict)
}

struct Chaos {
    rig: Rig,
    random: StdRng,
}

impl Chaos {
    /// A random part of `most`.
    fn moment(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.random.random_range(0..most))
    }

    /// (active, standby)
    fn roles(&mut self) -> (&mut Cluster, &mut Cluster) {
        let status = self.rig.proxy.status();
        let Rig { east, west, .. } = &mut self.rig;
        if status["active"] == "east" { (east, west) } else { (west, east) }
    }

    /// Both clusters serve, and the standby has all that is acknowledged.
    fn wait_whole(&self) {
        self.rig.proxy.wait_ready();
        self.rig.proxy.wait_status("the standby to be in sync", PATIENCE, |status| {
            let mut partitions = status["partitions"].as_array().into_iter().flatten();
            status["standby_in_sync"] == true && partitions.all(|p| p["mode"] == "off" || p["in_sync"] == true)
        });
    }

    fn generation(&self) -> u64 {
        self.rig.proxy.status()["generation"].as_u64().expect("a generation")
    }

    /// Asks for a cutover and does not wait for it.
    fn ask_for(&self, kind: &str) -> JoinHandle<Value> {
        let url = format!("{}/v1/{kind}", self.rig.proxy.admin());
        thread::spawn(move || {
            let reply = ureq::post(url).config().http_status_as_error(false).build();
            let reply = reply.content_type("application/json").send("{}");
            let body = reply.ok().and_then(|mut reply| reply.body_mut().read_to_string().ok());
            body.and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default()
        })
    }

    /// The next proxy; every second one finds an empty disk.
    fn replace_proxy(&mut self) {
        self.rig.proxy.kill();
        if self.random.random_bool(0.5) {
            self.rig.proxy.forget_state();
        }
        self.rig.proxy.launch();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Switchover => {
                self.rig.switch();
            }
            Step::Failover => {
                self.roles().0.kill();
                assert_done(&self.rig.proxy.failover());
                thread::sleep(self.moment(1000));
                // The standby of now is the one that was killed.
                self.roles().1.restart();
            }
            Step::SwitchoverCutShort => {
                let before = self.generation();
                let asked = self.ask_for("switchover");
                thread::sleep(self.moment(400));
                self.replace_proxy();
                let told = asked.join().expect("the call returns");
                self.rig.proxy.wait_ready();
                let after = self.generation();
                let may_be_old = told["outcome"] != "done";
                assert!(after == before + 1 || (after == before && may_be_old), "{before} then {after}, told {told}");
            }
            Step::StandbyLost => {
                self.roles().1.kill();
                thread::sleep(self.moment(3000));
                self.roles().1.restart();
            }
            Step::FailoverCutShort => self.cut_failover_short(),
            Step::StandbyLostInSwitchover => {
                let (before, delay) = (self.generation(), self.moment(400));
                let asked = self.ask_for("switchover");
                thread::sleep(delay);
                let standby = if before % 2 == 0 { &mut self.rig.west } else { &mut self.rig.east };
                standby.kill();
                // If the commit is under way, it goes on until its outcome is known.
                standby.restart();
                let told = asked.join().expect("the call returns");
                self.rig.proxy.wait_ready();
                let after = self.generation();
                let expected = before + u64::from(told["outcome"] == "done");
                assert_eq!(after, expected, "told {told}");
            }
        }
    }

    /// The proxy that comes after the death of both is told to fail over, if it does not know that this is done; or the
    /// cluster comes back first.
    fn cut_failover_short(&mut self) {
        let before = self.generation();
        let delay = self.moment(600);
        self.roles().0.kill();
        let asked = self.ask_for("failover");
        thread::sleep(delay);
        self.replace_proxy();
        let told = asked.join().expect("the call returns");
        let returns_first = self.random.random_bool(0.5);
        if !returns_first {
            wait_for("a proxy on the living cluster", PATIENCE, || {
                let active = |status: &Value| status["generation"].as_u64() == Some(before + 1);
                match self.rig.proxy.get("/v1/status")? {
                    (200, status) if active(&status) => Ok(()),
                    _ => Err(format!("{:?}", self.rig.proxy.post("/v1/failover", &serde_json::json!({})))),
                }
            });
        }
        let dead = if before.is_multiple_of(2) { &mut self.rig.east } else { &mut self.rig.west };
        dead.restart();
        self.rig.proxy.wait_ready();
        let after = self.generation();
        let may_be_old = returns_first && told["outcome"] != "done";
        assert!(after == before + 1 || (after == before && may_be_old), "{before} then {after}, told {told}");
    }
}

/// What a cluster's state topic says: by key the newest record's data.
fn state(cluster: &Cluster) -> Result<BTreeMap<String, Value>, String> {
    let mut newest = BTreeMap::new();
    scan::visit(&cluster.bootstrap(), "__kafka_standby_state", PATIENCE, |message| {
        let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        let stored = serde_json::from_slice(message.payload().unwrap_or_default());
        let mut stored: Value = stored.map_err(|e| e.to_string())?;
        let stamp = (stored["generation"].as_u64(), stored["seq"].as_u64());
        if let Some(data) = stored["data"].as_object_mut() {
            data.remove("at_ms"); // of each writing
        }
        let known = newest.entry(key).or_insert((stamp, Value::Null));
        if stamp >= known.0 {
            *known = (stamp, stored["data"].take());
        }
        Ok(())
    })?;
    newest.remove("owner"); // each cluster's own
    Ok(newest.into_iter().map(|(key, (_, data))| (key, data)).collect())
}

/// A proxy that could read one cluster only would know all that there is to know.
fn assert_states_agree(rig: &Rig) {
    wait_for("both state topics to say the same", PATIENCE, || {
        let [east, west] = [state(&rig.east)?, state(&rig.west)?];
        assert!(east.len() > 5, "{east:?}");
        let differ = east.keys().chain(west.keys()).filter(|key| east.get(*key) != west.get(*key));
        let differ: Vec<_> = differ.map(|key| (key, east.get(key), west.get(key))).collect();
        if differ.is_empty() { Ok(()) } else { Err(format!("{differ:?}")) }
    });
}

#[test]
fn cutovers_in_random_order_under_mixed_load_leave_nothing_to_find() {
    let seed: u64 = std::env::var("RIG_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(SEED);
    let mut random = StdRng::seed_from_u64(seed);
    let steps = steps(&mut random, repetitions(3, 50));
    eprintln!("RIG_SEED={seed} {steps:?}");
    let rig = Rig::start_with("sync", |east, spec| {
        for (topic, partitions) in [(NUMBERS, 4), (PLAIN, 2), (LEDGER, 2)] {
            east.create_topic(topic, partitions, &[]);
        }
        // A busy machine is no reason to leave the in-sync state, a lost standby is.
        spec.tee_lines = "sync_timeout = \"4s\"".into();
        spec.environment.push(("KAFKA_STANDBY_LOG".into(), "info,kafka_standby::groups=trace".into()));
    });
    let mut chaos = Chaos { rig, random };
    let clients = Clients::start(&chaos.rig.proxy.bootstrap());
    clients.wait_for_more(50);
    for (n, step) in steps.iter().enumerate() {
        chaos.wait_whole();
        let pause = chaos.moment(500);
        thread::sleep(pause);
        eprintln!("{n}: {step:?} in generation {}", chaos.generation());
        chaos.take(*step);
        clients.wait_for_more(30);
    }
    chaos.wait_whole();
    clients.judge(&chaos.rig.proxy.bootstrap());
    chaos.rig.assert_equal();
    assert_states_agree(&chaos.rig);
}
