//! The built proxy as a process: configuration, ports, restarts, and its HTTP API.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::ports;
use super::process::Process;
use super::temp::TempDir;
use super::wait::wait_for;

/// From the start of the process to `GET /readyz` = 200, on a busy two-core machine.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// For one API call; a cutover has its own, shorter limit inside.
const CALL_TIMEOUT: Duration = Duration::from_secs(90);
/// Ports for virtual brokers.
const BROKER_PORTS: u16 = 8;

/// What proxy to run.
#[derive(Debug, Clone)]
pub struct ProxySpec {
    /// The executable.
    pub binary: PathBuf,
    /// Name and bootstrap addresses of each cluster; the first is active at the first start, the second standby.
    pub clusters: Vec<(String, String)>,
    /// `tee.mode`: sync, async, off.
    pub tee: String,
    /// More lines of the `[tee]` section.
    pub tee_lines: String,
    /// More sections, or tables such as `[[tee.override]]`.
    pub more: String,
    /// Environment variables of the process, such as a log filter.
    pub environment: Vec<(String, String)>,
}

impl ProxySpec {
    /// The proxy of this build between two clusters.
    pub fn new(active: &Cluster, standby: &Cluster, tee: &str) -> Self {
        let (one, other) = (active.bootstrap(), standby.bootstrap());
        Self::between(&[(active.name(), &one), (standby.name(), &other)], tee)
    }

    /// As `new`, with names and addresses of whatever may or may not be there.
    pub fn between(clusters: &[(&str, &str)], tee: &str) -> Self {
        Self {
            binary: built_binary(),
            clusters: clusters.iter().map(|&(name, bootstrap)| (name.into(), bootstrap.into())).collect(),
            tee: tee.into(),
            tee_lines: String::new(),
            more: String::new(),
            environment: Vec::new(),
        }
    }

    fn config(&self, port: u16) -> String {
        let mut text = format!("active = {:?}\n", self.clusters[0].0);
        if let Some((standby, _)) = self.clusters.get(1) {
            let _ = writeln!(text, "standby = {standby:?}");
        }
        text.push_str("state_file = \"standby.state\"\n");
        for (name, bootstrap) in &self.clusters {
            let addresses: Vec<&str> = bootstrap.split(',').collect();
            let _ = writeln!(text, "\n[clusters.{name}]\nbootstrap = {addresses:?}");
        }
        let (admin, first, last) = (port + 1, port + 2, port + 1 + BROKER_PORTS);
        let _ = writeln!(
            text,
            "\n[listener]\nbind = \"127.0.0.1:{port}\"\nbrokers = \"127.0.0.1:{first}-{last}\"\n\
             advertise = \"127.0.0.1\"\n\n[admin]\nbind = \"127.0.0.1:{admin}\"\n\n[tee]\nmode = {tee:?}\n{lines}\n{more}",
            tee = self.tee,
            lines = self.tee_lines,
            more = self.more,
        );
        text
    }
}

/// Cargo puts tests, benches and examples into directories beside the binaries, which it has built before them (an
/// example's build has to ask for it).
fn built_binary() -> PathBuf {
    let here = std::env::current_exe().expect("this executable has a path");
    let profile = here.parent().and_then(|directory| directory.parent()).expect("target/PROFILE/deps/it");
    let binary = profile.join("kafka-standby");
    assert!(binary.exists(), "{} is not built", binary.display());
    binary
}

/// A proxy process with ports that stay over its restarts. Dropping it kills the process; during a panic the end of its
/// log is shown.
pub struct Proxy {
    spec: ProxySpec,
    port: u16,
    process: Option<Process>,
    agent: ureq::Agent,
    // Last: removed after the process is gone.
    directory: TempDir,
}

impl Proxy {
    /// Starts a proxy and waits until it is ready.
    pub fn start(spec: ProxySpec) -> Self {
        let mut proxy = Self::prepare(spec);
        proxy.launch();
        proxy.wait_ready();
        proxy
    }

    /// As `start`, but nothing runs yet: for a test that starts it under its own conditions.
    pub fn prepare(spec: ProxySpec) -> Self {
        let directory = TempDir::new("proxy");
        let port = ports::consecutive(2 + BROKER_PORTS);
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(CALL_TIMEOUT))
            .http_status_as_error(false)
            .build()
            .new_agent();
        Self { spec, port, process: None, agent, directory }
    }

    /// Writes the configuration and starts the process without waiting for it.
    pub fn launch(&mut self) {
        fs::write(self.config_path(), self.spec.config(self.port)).expect("the configuration is written");
        let mut command = Command::new(&self.spec.binary);
        command.args(["serve", "--config"]).arg(self.config_path());
        // The state file's relative path lands there.
        command.current_dir(self.directory.path());
        command.envs(self.spec.environment.iter().map(|(k, v)| (k, v)));
        self.process = None;
        self.process = Some(Process::start("proxy", &command, &self.directory.path().join("proxy.log")));
    }

    pub fn wait_ready(&self) {
        wait_for("the proxy to be ready", READY_DEADLINE, || {
            if !self.is_alive() {
                panic!("the proxy ended:\n{}", self.log_tail());
            }
            match self.get("/readyz")? {
                (200, _) => Ok(()),
                (status, body) => Err(format!("GET /readyz: {status} {body}")),
            }
        });
    }

    /// The configuration; a test may change it before a restart.
    pub fn spec_mut(&mut self) -> &mut ProxySpec {
        &mut self.spec
    }

    pub fn config_path(&self) -> PathBuf {
        self.directory.path().join("kafka-standby.toml")
    }

    /// Where clients point.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The base URL of the HTTP API.
    pub fn admin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port + 1)
    }

    /// The id of the running process.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("the proxy runs").id()
    }

    pub fn is_alive(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_alive)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGTERM; returns the exit status.
    pub fn terminate(&mut self) -> i32 {
        self.process.take().expect("the proxy runs").terminate()
    }

    /// Any signal by its name without SIG.
    pub fn signal(&mut self, name: &str) {
        self.process.as_mut().expect("the proxy runs").signal(name);
    }

    /// SIGKILL when it still runs, a start on the same ports, and a wait until it is ready.
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
        self.wait_ready();
    }

    /// Loses the proxy's disk: everything but the configuration and the log.
    pub fn forget_state(&mut self) {
        assert!(self.process.is_none(), "a running proxy keeps its disk");
        let _ = fs::remove_file(self.directory.path().join("standby.state"));
    }

    pub fn status(&self) -> Value {
        self.expect_ok("GET /v1/status", self.get("/v1/status"))
    }

    /// Looks at the status until `condition` holds.
    pub fn wait_status(&self, what: &str, deadline: Duration, condition: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, deadline, || match self.get("/v1/status")? {
            (200, status) if condition(&status) => Ok(status),
            (code, body) => Err(format!("{code} {body}")),
        })
    }

    /// Waits until every stream is in sync with no lag.
    pub fn wait_in_sync(&self, deadline: Duration) -> Value {
        self.wait_status("the standby to be in sync", deadline, |status| {
            let partitions = status["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
            status["standby_in_sync"] == true && partitions.iter().all(|p| p["mode"] == "off" || p["lag_records"] == 0)
        })
    }

    /// Waits until the preflight of a switchover passes. Under load there may be no moment without any lag to wait for.
    pub fn wait_switchable(&self, deadline: Duration) {
        wait_for("a switchover to be possible", deadline, || {
            match self.post("/v1/switchover", &json!({ "dry_run": true }))? {
                (200, report) if report["outcome"] == "done" => Ok(()),
                (status, report) => Err(format!("{status} {report}")),
            }
        });
    }

    /// A planned cutover; the report. Panics when the API refuses.
    pub fn switchover(&self) -> Value {
        self.expect_ok("POST /v1/switchover", self.post("/v1/switchover", &json!({})))
    }

    /// The cutover for a lost active cluster; the report. Panics when the API refuses.
    pub fn failover(&self) -> Value {
        self.expect_ok("POST /v1/failover", self.post("/v1/failover", &json!({})))
    }

    /// Compares the clusters. What differs is in the reply, not a panic.
    pub fn verify(&self) -> Value {
        self.expect_ok("POST /v1/verify", self.post("/v1/verify", &json!({})))
    }

    fn expect_ok(&self, call: &str, reply: Result<(u16, Value), String>) -> Value {
        match reply {
            Ok((200, body)) => body,
            Ok((status, body)) => panic!("{call}: {status} {body}"),
            Err(error) => panic!("{call}: {error}"),
        }
    }

    /// Status and body of a reply; a body that is not JSON comes as a string.
    pub fn get(&self, path: &str) -> Result<(u16, Value), String> {
        let reply = self.agent.get(format!("{}{path}", self.admin())).call();
        read_reply(reply)
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<(u16, Value), String> {
        let request = self.agent.post(format!("{}{path}", self.admin())).content_type("application/json");
        read_reply(request.send(body.to_string()))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("proxy.log")).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        self.process.as_ref().map(Process::log_tail).unwrap_or_default()
    }
}

fn read_reply(reply: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<(u16, Value), String> {
    let mut reply = reply.map_err(|e| e.to_string())?;
    let text = reply.body_mut().read_to_string().map_err(|e| e.to_string())?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok((reply.status().as_u16(), body))
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        self.kill();
    }
}
