//! What the programs go through: with the proxy a switchover, a failover with the active cluster killed, and the
//! switchover back; without it the loss and return of the only broker.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::exact;
use super::judge::{Judgement, Window, judge};
use super::known::Kind;
use super::program::{Prepared, Program, Task, now_ms};
use super::pulse::Pulse;
use crate::support::cluster::{Cluster, Spec};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::scan;
use crate::support::temp::TempDir;
use crate::support::wait::wait_for;

/// Few enough that each is written often at the programs' rate: a stall is seen no finer than that.
const PARTITIONS: i32 = 3;
/// For each wait; on a busy machine a killed cluster takes longest to come back.
const PATIENCE: Duration = Duration::from_secs(120);
/// Until a window is closed with a role that has not gone on: longer than any client's own timeouts for a request.
const RESUMPTION: Duration = Duration::from_secs(60);
/// The least that a window takes: consumer groups are re-homed within five seconds.
const WINDOW: Duration = Duration::from_secs(6);
/// For a look at what clients and machine do by themselves.
const QUIET: Duration = Duration::from_secs(5);
/// After a seek: what was fetched before it has been delivered by then.
const SETTLE: Duration = Duration::from_secs(1);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);
/// For the programs to start, to find their partitions and to read the first records.
const WARM_UP: Duration = Duration::from_secs(90);

/// What one run gave for a program: through the proxy, or without it.
pub type Results = Vec<(&'static str, Judgement)>;

/// Two clusters with a proxy between them.
pub struct Rig {
    proxy: Option<Proxy>,
    east: Cluster,
    west: Cluster,
    logs: TempDir,
    /// Records per second of each program.
    pub rate: u32,
}

impl Rig {
    /// `transaction_version`: of both clusters. `proxy`: its executable, if not the one of this build.
    pub fn start(rate: u32, transaction_version: u8, proxy: Option<PathBuf>) -> Self {
        let spec = |name| Spec::new(name).feature("transaction.version", transaction_version.into());
        let [east, west] = Cluster::start_all([spec("east"), spec("west")]);
        let mut spec = ProxySpec::new(&east, &west, "sync");
        if let Some(binary) = proxy {
            spec.binary = binary;
        }
        let proxy = Proxy::start(spec);
        Self { proxy: Some(proxy), east, west, logs: TempDir::new("clients"), rate }
    }

    fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the proxy runs until it is stopped")
    }

    /// The programs, together, through the three cutovers. Panics if a cutover cannot be done: that is no client's fault.
    pub fn through_the_proxy(&mut self, clients: &[Prepared]) -> Results {
        create_topics(&self.east, "proxied", clients);
        self.proxy().wait_in_sync(PATIENCE);
        let bootstrap = self.proxy().bootstrap();
        let mut run = Run::start(self, clients, "proxied", &bootstrap);
        run.window("quiet", false, QUIET, || None);
        self.proxy().wait_switchable(PATIENCE);
        run.window("switchover", true, WINDOW, || self.switch());

        self.proxy().wait_status("the standby to be in sync", PATIENCE, |s| s["standby_in_sync"] == true);
        let active = self.proxy().status()["active"].as_str().unwrap_or_default().to_owned();
        run.window("failover", false, WINDOW, || {
            self.cluster(&active).kill();
            held(&self.proxy().failover())
        });
        self.cluster(&active).restart();
        self.proxy().wait_in_sync(PATIENCE);
        self.proxy().wait_switchable(PATIENCE);
        run.window("switchover back", true, WINDOW, || self.switch());
        run.finish(&bootstrap)
    }

    /// The same programs at one broker, which is killed and started again. Ends the proxy, which would copy.
    pub fn without_a_proxy(&mut self, clients: &[Prepared]) -> Results {
        self.proxy = None;
        create_topics(&self.east, "direct", clients);
        let bootstrap = self.east.bootstrap();
        let mut run = Run::start(self, clients, "direct", &bootstrap);
        run.window("quiet", false, QUIET, || None);
        run.window("broker lost and back", false, WINDOW, || {
            self.east.restart();
            None
        });
        run.finish(&bootstrap)
    }

    fn switch(&self) -> Option<f64> {
        held(&self.proxy().switchover())
    }

    fn cluster(&mut self, name: &str) -> &mut Cluster {
        if name == self.east.name() { &mut self.east } else { &mut self.west }
    }
}

/// What a program reads, and where there is one, what it writes.
fn create_topics(cluster: &Cluster, kind: &str, clients: &[Prepared]) {
    for client in clients {
        let topic = topic(kind, client);
        cluster.create_topic(&topic, PARTITIONS, &[]);
        if client.known.kind != Kind::Plain {
            cluster.create_topic(&output(&topic), PARTITIONS, &[]);
        }
    }
}

fn output(topic: &str) -> String {
    format!("{topic}-out")
}

fn topic(kind: &str, client: &Prepared) -> String {
    format!("{kind}-{}", client.known.name)
}

/// How long a cutover held requests. Panics unless it went through and lost nothing.
fn held(report: &Value) -> Option<f64> {
    assert_eq!(report["outcome"], "done", "{report:#}");
    assert_eq!(report["lost"].as_array().map(Vec::len), Some(0), "{report:#}");
    report["hold_ms"].as_f64()
}

/// Running programs and the windows so far.
struct Run {
    programs: Vec<Program>,
    windows: Vec<Window>,
}

impl Run {
    fn start(rig: &Rig, clients: &[Prepared], kind: &str, bootstrap: &str) -> Self {
        let start = |client: &Prepared| {
            let topic = topic(kind, client);
            let task = Task {
                bootstrap: bootstrap.into(),
                group: format!("{topic}-group"),
                topic,
                partitions: PARTITIONS,
                rate: rig.rate,
            };
            let log: PathBuf = rig.logs.path().join(format!("{}.log", task.topic));
            Program::start(client, task, &log)
        };
        let run = Self { programs: clients.iter().map(start).collect(), windows: Vec::new() };
        let born = now_ms();
        for program in &run.programs {
            wait_for(&format!("the first records: {}", program.log_tail()), WARM_UP, || program.heard_of_all(born));
        }
        run
    }

    /// Looks at the programs while `act` is done and until they have all gone on, `least` long at any rate. The assigned
    /// reader is sent back to its own positions afterwards.
    fn window(&mut self, name: &str, planned: bool, least: Duration, act: impl FnOnce() -> Option<f64>) {
        let from = now_ms();
        let pulse = Pulse::start();
        let held_ms = act();
        let acted = now_ms();
        let start = Instant::now();
        // There is no waiting for a program that has died; its end is told at the finish.
        let resumed = || self.programs.iter().all(|p| p.has_ended() || p.heard_of_all(acted).is_ok());
        while start.elapsed() < least || (!resumed() && start.elapsed() < RESUMPTION) {
            thread::sleep(POLL);
        }
        let machine = pulse.stop();
        self.windows.push(Window { name: name.into(), from, to: now_ms(), planned, held_ms, machine });
        self.programs.iter_mut().for_each(Program::seek);
        // What the seek does is outside of the windows: over before the next one.
        let (start, sought) = (Instant::now(), now_ms() + SETTLE.as_millis() as u64);
        while start.elapsed() < RESUMPTION
            && !self.programs.iter().all(|p| p.has_ended() || p.heard_of_all(sought).is_ok())
        {
            thread::sleep(POLL);
        }
    }

    /// Ends the programs and compares what each saw with its topic's log.
    fn finish(self, bootstrap: &str) -> Results {
        let judged = |program: Program| {
            let (known, topic) = (program.known, program.task.topic.clone());
            let (told, mut broken) = program.finish(PATIENCE);
            let mut log = |topic: &str| {
                let stored = scan::numbered(bootstrap, topic, PATIENCE);
                stored.inspect_err(|e| broken.push(format!("the log could not be read: {e}"))).unwrap_or_default()
            };
            let stored = log(&topic);
            let judgement = match known.kind {
                Kind::Plain => judge(&told, stored, &self.windows),
                kind => exact::judge(kind, &told, stored, log(&output(&topic)), &self.windows),
            };
            broken.extend(judgement.broken);
            (known.name, Judgement { broken, ..judgement })
        };
        self.programs.into_iter().map(judged).collect()
    }
}
