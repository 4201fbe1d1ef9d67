//! Real KRaft clusters of one or three brokers, to be started, killed, paused, restarted on their data and wiped.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::client;
use super::kafka::{Version, random_id};
use super::ports;
use super::process::Process;
use super::temp::TempDir;
use super::wait::wait_for;

/// From the start of the processes to a cluster that answers, on a busy two-core machine.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// What a cluster is to be.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Names the log files; also what the proxy's configuration calls it.
    pub name: String,
    pub version: Version,
    /// 1 or 3; each is broker and controller, ids from 1.
    pub brokers: u16,
    /// Lines of server.properties that win over the rig's own.
    pub overrides: Vec<(String, String)>,
    /// Options of the brokers' Java that win over the rig's own.
    pub jvm: Vec<String>,
    /// Finalized feature levels other than this Kafka's newest.
    pub features: Vec<(String, u16)>,
}

impl Spec {
    /// One broker of the newest Kafka.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            version: Version::V4_3,
            brokers: 1,
            overrides: Vec::new(),
            jvm: Vec::new(),
            features: Vec::new(),
        }
    }

    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    pub fn brokers(mut self, brokers: u16) -> Self {
        self.brokers = brokers;
        self
    }

    /// Sets options of the brokers' Java.
    pub fn jvm(mut self, options: &[&str]) -> Self {
        self.jvm.extend(options.iter().map(|&option| option.into()));
        self
    }

    /// Sets a finalized feature, such as `transaction.version`.
    pub fn feature(mut self, name: &str, level: u16) -> Self {
        self.features.push((name.into(), level));
        self
    }

    /// Sets a broker property.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.overrides.push((key.into(), value.into()));
        self
    }
}

/// A running cluster. Dropping it kills its brokers and removes their data.
pub struct Cluster {
    spec: Spec,
    brokers: Vec<Broker>,
    // Last: removed after the brokers are gone.
    directory: TempDir,
}

struct Broker {
    port: u16,
    data: PathBuf,
    properties: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Cluster {
    /// Starts a cluster on empty data and waits until all its brokers are in the cluster's metadata.
    pub fn start(spec: Spec) -> Self {
        let mut cluster = Self::prepare(spec);
        cluster.launch();
        cluster.wait_ready();
        cluster
    }

    /// Starts several clusters side by side: quicker than one after the other.
    pub fn start_all<const N: usize>(specs: [Spec; N]) -> [Self; N] {
        let mut clusters = specs.map(Self::prepare);
        thread::scope(|scope| {
            for cluster in &mut clusters {
                scope.spawn(|| cluster.launch());
            }
        });
        clusters.iter().for_each(Self::wait_ready);
        clusters
    }

    fn prepare(spec: Spec) -> Self {
        assert!(spec.brokers == 1 || spec.brokers == 3, "one broker or three");
        let directory = TempDir::new(&spec.name);
        let first = ports::consecutive(2 * spec.brokers);
        let broker_ports: Vec<u16> = (0..spec.brokers).map(|i| first + i).collect();
        let controllers: Vec<u16> = (0..spec.brokers).map(|i| first + spec.brokers + i).collect();
        let brokers = broker_ports
            .iter()
            .enumerate()
            .map(|(i, &port)| {
                let path = |name: &str| directory.path().join(format!("{name}-{}", i + 1));
                let broker = Broker {
                    port,
                    data: path("data"),
                    properties: path("server.properties"),
                    log: directory.path().join(format!("{}-{}.log", spec.name, i + 1)),
                    process: None,
                };
                let text = server_properties(&spec, i, port, &controllers, &broker.data);
                fs::write(&broker.properties, text).expect("server.properties is written");
                broker
            })
            .collect();
        Self { spec, brokers, directory }
    }

    fn launch(&mut self) {
        let cluster_id = random_id();
        for (i, broker) in self.brokers.iter().enumerate() {
            let Spec { version, features, .. } = &self.spec;
            version.format(&broker.properties, &broker.data, &cluster_id, i + 1, features);
        }
        for i in 0..self.brokers.len() {
            self.launch_broker(i);
        }
    }

    fn launch_broker(&mut self, i: usize) {
        let mut command = self.spec.version.java_with("kafka.Kafka", "256m", &self.spec.jvm);
        let broker = &mut self.brokers[i];
        command.arg(&broker.properties);
        // The old process, if any, is dropped first: it holds the data directory's lock.
        broker.process = None;
        broker.process = Some(Process::start(&self.spec.name, &command, &broker.log));
    }

    /// Waits until as many brokers as run are in the cluster's metadata, and each running one answers.
    pub fn wait_ready(&self) {
        let running: Vec<&Broker> = self.brokers.iter().filter(|b| b.process.is_some()).collect();
        for broker in &running {
            wait_for(&format!("cluster {}", self.spec.name), START_DEADLINE, || {
                let process = broker.process.as_ref().ok_or("it is not running")?;
                if !process.is_alive() {
                    panic!("a broker of {} died:\n{}", self.spec.name, process.log_tail());
                }
                let alive = client::alive_brokers(&address(broker.port))?;
                if alive == running.len() { Ok(()) } else { Err(format!("{alive} of {} brokers", running.len())) }
            });
        }
    }

    pub fn name(&self) -> &str {
        &self.spec.name
    }

    pub fn version(&self) -> Version {
        self.spec.version
    }

    /// The addresses of all its brokers, separated by commas.
    pub fn bootstrap(&self) -> String {
        self.brokers.iter().map(|b| address(b.port)).collect::<Vec<_>>().join(",")
    }

    /// The address of broker `i`, counted from 0 (its id is `i + 1`).
    pub fn address(&self, i: usize) -> String {
        address(self.brokers[i].port)
    }

    /// A topic on every broker with the given configuration entries.
    pub fn create_topic(&self, name: &str, partitions: i32, entries: &[(&str, &str)]) {
        client::create_topic(&self.bootstrap(), name, partitions, i32::from(self.spec.brokers), entries);
    }

    /// The first segment of a partition's log on the first broker.
    pub fn segment(&self, topic: &str, partition: i32) -> PathBuf {
        self.brokers[0].data.join(format!("{topic}-{partition}")).join("00000000000000000000.log")
    }

    /// SIGKILL of broker `i`; its data stays.
    pub fn kill_broker(&mut self, i: usize) {
        if let Some(mut process) = self.brokers[i].process.take() {
            process.kill();
        }
    }

    /// SIGKILL of all brokers, as near together as can be; their data stays.
    pub fn kill(&mut self) {
        thread::scope(|scope| {
            for broker in &mut self.brokers {
                if let Some(mut process) = broker.process.take() {
                    scope.spawn(move || process.kill());
                }
            }
        });
    }

    /// A clean shutdown of all brokers; their data stays.
    pub fn stop(&mut self) {
        for broker in &mut self.brokers {
            if let Some(process) = &mut broker.process {
                process.signal("TERM");
            }
        }
        for broker in &mut self.brokers {
            if let Some(mut process) = broker.process.take() {
                process.wait();
            }
        }
    }

    /// SIGSTOP: connections stay open, nothing answers.
    pub fn pause(&mut self) {
        self.running().for_each(Process::pause);
    }

    pub fn resume(&mut self) {
        self.running().for_each(Process::resume);
    }

    fn running(&mut self) -> impl Iterator<Item = &mut Process> {
        self.brokers.iter_mut().filter_map(|b| b.process.as_mut())
    }

    /// Starts broker `i` on the data that it had (SIGKILL first when it still runs) and waits until it answers.
    pub fn restart_broker(&mut self, i: usize) {
        self.kill_broker(i);
        self.launch_broker(i);
        self.wait_ready();
    }

    /// Starts all brokers on the data that they had (SIGKILL first when they still run).
    pub fn restart(&mut self) {
        self.kill();
        for i in 0..self.brokers.len() {
            self.launch_broker(i);
        }
        self.wait_ready();
    }

    /// Kills all brokers and starts an empty cluster with a new id on the same addresses.
    pub fn wipe(&mut self) {
        self.kill();
        for broker in &self.brokers {
            fs::remove_dir_all(&broker.data).expect("the data is removed");
        }
        self.launch();
        self.wait_ready();
    }

    /// The ends of the brokers' logs, for a failure's report.
    pub fn log_tails(&self) -> String {
        self.brokers.iter().filter_map(|b| b.process.as_ref()).map(Process::log_tail).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Kafka takes any 16 bytes in URL-safe base64; a UUID's hexadecimal digits are letters of that alphabet.
fn server_properties(spec: &Spec, i: usize, port: u16, controllers: &[u16], data: &std::path::Path) -> String {
    let replicas = spec.brokers.to_string();
    let in_sync = if spec.brokers == 3 { "2" } else { "1" };
    let voters: Vec<String> = controllers.iter().enumerate().map(|(i, p)| format!("{}@127.0.0.1:{p}", i + 1)).collect();
    let mut text = format!(
        "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={data}\n",
        id = i + 1,
        voters = voters.join(","),
        controller = controllers[i],
        data = data.display(),
    );
    let fixed = [
        // Few partitions: each costs files and time at the start.
        ("offsets.topic.num.partitions", "4"),
        ("transaction.state.log.num.partitions", "4"),
        ("share.coordinator.state.topic.num.partitions", "4"),
        ("offsets.topic.replication.factor", &replicas),
        ("transaction.state.log.replication.factor", &replicas),
        ("share.coordinator.state.topic.replication.factor", &replicas),
        ("default.replication.factor", &replicas),
        ("transaction.state.log.min.isr", in_sync),
        ("share.coordinator.state.topic.min.isr", in_sync),
        ("min.insync.replicas", in_sync),
        ("group.initial.rebalance.delay.ms", "0"),
        ("auto.create.topics.enable", "false"),
        // No retention behind a test's back.
        ("log.retention.check.interval.ms", "86400000"),
        ("num.network.threads", "2"),
        ("num.io.threads", "4"),
        ("background.threads", "2"),
        // A killed broker must be noticed within a test's patience.
        ("broker.heartbeat.interval.ms", "500"),
        ("broker.session.timeout.ms", "3000"),
        ("controller.quorum.election.timeout.ms", "500"),
        ("controller.quorum.fetch.timeout.ms", "1500"),
    ];
    // The last line of a key wins in a Java properties file.
    let own = spec.overrides.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    for (key, value) in fixed.into_iter().chain(own) {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}
