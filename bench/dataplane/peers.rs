//! The contestants: what stands between the load and a real broker, with the process that is accounted for.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::mirror::{self, Mirror};
use super::support::client;
use super::support::cluster::{Cluster, Spec};
use super::support::ports;
use super::support::process::Process;
use super::support::proxy::{Proxy, ProxySpec};
use super::support::temp::TempDir;
use super::support::wait::wait_until;
use super::wire::{Target, Wire};

pub const PATIENCE: Duration = Duration::from_secs(180);
/// Of every topic that is measured.
pub const PARTITIONS: i32 = 4;
/// A server's Java, not the quick start of a test's; the heap is small, since the page cache serves reads.
const JVM: [&str; 2] = ["-Xmx512m", "-XX:TieredStopAtLevel=4"];
const GIVEN_BACK: Duration = Duration::from_secs(12);
/// HAProxy refuses to start where twice as many files are not allowed: 20,000 is a common limit.
const HAPROXY_CONNECTIONS: u32 = 9_900;

/// One way to a broker.
#[derive(Debug, Clone)]
pub struct Peer {
    pub name: &'static str,
    bootstrap: String,
    /// The process whose CPU and memory count; none when the load goes straight to the broker.
    pub pid: Option<u32>,
    /// Does the peer tell clients its own address?
    followed: bool,
    /// Topic names begin with it: that decides how the pair's proxy copies them.
    mode: &'static str,
}

impl Peer {
    pub fn topic(&self, part: &str, round: u32) -> String {
        format!("{}-{part}-{}-{round}", self.mode, self.name)
    }

    pub fn find(&self, topic: &str) -> Target {
        Target::find(&self.bootstrap, topic, self.followed)
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

/// Everything that runs; what is not asked for is not started.
pub struct Rig {
    // In this order: clients go first, clusters last.
    relays: Vec<(&'static str, u16, Process)>,
    plain: Proxy,
    mirror: Option<Mirror>,
    pair: Option<Pair>,
    pub east: Cluster,
    _directory: TempDir,
}

/// The proxy between two clusters. Topics `off-*` are not copied, `sync-*` synchronously, all others asynchronously.
pub struct Pair {
    pub proxy: Proxy,
    pub active: Cluster,
    pub standby: Cluster,
}

fn spec(name: &str) -> Spec {
    Spec::new(name)
        .jvm(&JVM)
        // Deleted topics give their space back at once: many gigabytes are written.
        .set("log.segment.delete.delay.ms", "1000")
        // A broker that the load starves, or that is stopped for a while, stays in its cluster.
        .set("broker.heartbeat.interval.ms", "2000")
        .set("broker.session.timeout.ms", "60000")
}

impl Rig {
    pub fn start() -> Self {
        let east = Cluster::start(spec("east"));
        let directory = TempDir::new("relays");
        let mut relays: Vec<_> = [("relay-64k", 64 << 10), ("relay-256k", 256 << 10)]
            .into_iter()
            .map(|(name, buffer)| relay(name, buffer, &east.address(0), directory.path()))
            .collect();
        match haproxy(&east.address(0), directory.path()) {
            Some(haproxy) => relays.insert(0, haproxy),
            None => println!("HAProxy is not there: no ratios against it (Debian: apt-get install haproxy)"),
        }
        let plain = Proxy::start(ProxySpec::between(&[("east", &east.bootstrap())], "off"));
        Self { relays, plain, mirror: None, pair: None, east, _directory: directory }
    }

    /// The contestants of that name that there are; their cluster is `east` unless they are the pair's.
    pub fn peers(&mut self, names: &[&'static str]) -> Vec<Peer> {
        names.iter().filter_map(|name| self.peer(name)).collect()
    }

    fn peer(&mut self, name: &'static str) -> Option<Peer> {
        let of = |bootstrap, pid, followed, mode| Peer { name, bootstrap, pid, followed, mode };
        Some(match name {
            "direct" => of(self.east.bootstrap(), None, true, "off"),
            "plain" => of(self.plain.bootstrap(), Some(self.plain.id()), true, "off"),
            "off" | "async" | "sync" | "after" => {
                let proxy = &self.pair().proxy;
                let mode = if name == "after" { "async" } else { name };
                of(proxy.bootstrap(), Some(proxy.id()), true, mode)
            }
            "mm2" => of(self.east.bootstrap(), Some(self.mirror().id()), true, mirror::PREFIX),
            "standby" => of(self.pair().standby.bootstrap(), None, true, "off"),
            relay => {
                let (_, port, process) = self.relays.iter().find(|(name, ..)| *name == relay)?;
                of(format!("127.0.0.1:{port}"), Some(process.id()), false, "off")
            }
        })
    }

    /// The cluster behind a contestant.
    pub fn cluster(&mut self, peer: &Peer) -> &Cluster {
        match peer.name {
            "off" | "async" | "sync" | "after" => &self.pair().active,
            "standby" => &self.pair().standby,
            _ => &self.east,
        }
    }

    pub fn plain(&self) -> &Proxy {
        &self.plain
    }

    pub fn pair(&mut self) -> &mut Pair {
        self.pair.get_or_insert_with(Pair::start)
    }

    /// Copies `east` to the pair's standby.
    fn mirror(&mut self) -> &mut Mirror {
        let (source, target) = (self.east.bootstrap(), self.pair().standby.bootstrap());
        self.mirror.get_or_insert_with(|| Mirror::start(&source, &target))
    }

    pub fn stop_mirror(&mut self) {
        self.mirror = None;
    }

    /// STOP and CONT for the process that copies.
    pub fn signal(&mut self, peer: &Peer, name: &str) {
        if peer.name == "mm2" { self.mirror().signal(name) } else { self.pair().proxy.signal(name) }
    }

    /// The contestant's topic on the cluster itself.
    pub fn source(&mut self, peer: &Peer, topic: &str) -> Target {
        Target::find(&self.cluster(peer).bootstrap(), topic, true)
    }

    /// A topic in the place where the contestant's requests arrive; where it is copied, the copy is there too.
    pub fn create(&mut self, peer: &Peer, topic: &str) {
        self.cluster(peer).create_topic(topic, PARTITIONS, &[]);
        if ["async", "sync", "mm2"].contains(&peer.name) {
            self.wait_copied(peer, topic);
        }
    }

    pub fn delete(&mut self, peer: &Peer, topic: &str) {
        let bootstrap = self.cluster(peer).bootstrap();
        client::delete_topic(&bootstrap, topic);
        if peer.name == "mm2" {
            client::delete_topic(&self.pair().standby.bootstrap(), topic);
        }
    }

    /// Waits until the proxy says that all is copied, also where the clusters' offsets differ.
    pub fn wait_level(&mut self, topic: &str) {
        self.pair().proxy.wait_status("the copy to be level", PATIENCE, |status| {
            let mut rows = status["partitions"].as_array().into_iter().flatten().filter(|p| p["topic"] == topic);
            rows.all(|p| p["lag_records"] == 0)
        });
    }

    /// Waits until the standby's copy of a topic reaches its source's end. Asks the clusters, not the process that copies:
    /// its CPU may be counted.
    pub fn wait_copied(&mut self, peer: &Peer, topic: &str) {
        let source = self.source(peer, topic);
        let standby = Target::find(&self.pair().standby.bootstrap(), topic, true);
        let ends = source.ends_of_log();
        let mut wire = Wire::connect(&standby.address);
        wait_until("the standby to have it all", PATIENCE, || {
            let copied = standby.ends(&mut wire);
            copied.iter().zip(&ends).all(|(copied, end)| copied >= end)
        });
    }
}

impl Pair {
    fn start() -> Self {
        let [active, standby] = Cluster::start_all([spec("active"), spec("standby")]);
        let mut proxy = ProxySpec::new(&active, &standby, "async");
        // Else the copies of all deleted topics would fill the disk.
        proxy.more = "\n[topics]\non_delete = \"follow\"\nrefresh_interval = \"1s\"\n".into();
        for mode in ["sync", "off"] {
            proxy.more += &format!("\n[[tee.override]]\nmatch = [\"{mode}-*\"]\nmode = \"{mode}\"\n");
        }
        Self { proxy: Proxy::start(proxy), active, standby }
    }

    /// A switchover; the clusters' roles here follow it.
    pub fn switch(&mut self) {
        self.proxy.wait_switchable(PATIENCE);
        let report = self.proxy.switchover();
        assert_eq!(report["outcome"], "done", "{report:#}");
        std::mem::swap(&mut self.active, &mut self.standby);
    }

    /// A proxy that was started not long ago, with nothing left to copy. What the start took is given back: the allocator does
    /// so within ten seconds.
    pub fn restart(&mut self) {
        self.proxy.terminate();
        self.proxy.restart();
        self.proxy.wait_status("all streams to be open", PATIENCE, |status| {
            let mut rows = status["partitions"].as_array().into_iter().flatten();
            rows.all(|row| row["mode"] == "off" || row["stream"] == "tee")
        });
        std::thread::sleep(GIVEN_BACK);
    }
}

/// Connections that do nothing any more; each has asked for metadata once, so that it has been led to a broker.
pub struct Crowd {
    _wires: Vec<Wire>,
}

impl Crowd {
    pub fn of(peer: &Peer, topic: &str, connections: usize) -> Self {
        let address = peer.find(topic).address;
        let mut wires: Vec<Wire> = (0..connections).map(|_| Wire::connect(&address)).collect();
        for wire in &mut wires {
            wire.send_metadata(topic).expect("a request is sent");
            wire.frame().expect("metadata");
        }
        Self { _wires: wires }
    }
}

fn relay(name: &'static str, buffer: usize, to: &str, directory: &Path) -> (&'static str, u16, Process) {
    let port = ports::one();
    let mut command = Command::new(std::env::current_exe().expect("this executable has a path"));
    command.args(["relay", &port.to_string(), to, &buffer.to_string()]);
    let process = Process::start(name, &command, &directory.join(format!("{name}.log")));
    wait_listening(port, &process);
    (name, port, process)
}

fn haproxy(to: &str, directory: &Path) -> Option<(&'static str, u16, Process)> {
    Command::new("haproxy").arg("-v").output().ok().filter(|output| output.status.success())?;
    let port = ports::one();
    let config = directory.join("haproxy.cfg");
    let text = format!(
        "global\n  maxconn {HAPROXY_CONNECTIONS}\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  \
         timeout server 1h\nlisten kafka\n  bind 127.0.0.1:{port}\n  server broker {to}\n"
    );
    fs::write(&config, text).expect("HAProxy's configuration is written");
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(config);
    let process = Process::start("haproxy", &command, &directory.join("haproxy.log"));
    wait_listening(port, &process);
    Some(("haproxy", port, process))
}

fn wait_listening(port: u16, process: &Process) {
    wait_until("a relay to listen", PATIENCE, || {
        assert!(process.is_alive(), "{}", process.log_tail());
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
}
