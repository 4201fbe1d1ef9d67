//! MirrorMaker 2 as people run it when they tune it: one process, identity names, large batches, nothing but records.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::support::kafka::Version;
use super::support::process::Process;
use super::support::temp::TempDir;

/// Topics that it copies.
pub const PREFIX: &str = "mm2";
/// As Kafka's own start script has it; the heap is more than it needs.
const JVM: [&str; 5] =
    ["-Xms512m", "-Xmx2g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-Dkafka.logs.dir=/nonexistent"];
/// Checkpoints, heartbeats, settings and access rules off: only what copies records is measured.
const SETTINGS: &str = "\
clusters = source, target
source->target.enabled = true
target->source.enabled = false
source->target.topics = mm2-.*
replication.policy.class = org.apache.kafka.connect.mirror.IdentityReplicationPolicy
refresh.topics.interval.seconds = 5
emit.checkpoints.enabled = false
emit.heartbeats.enabled = false
sync.topic.configs.enabled = false
sync.topic.acls.enabled = false
sync.group.offsets.enabled = false
replication.factor = 1
checkpoints.topic.replication.factor = 1
heartbeats.topic.replication.factor = 1
offset-syncs.topic.replication.factor = 1
offset.storage.replication.factor = 1
status.storage.replication.factor = 1
config.storage.replication.factor = 1
tasks.max = 1
source.consumer.max.poll.records = 5000
source.consumer.max.partition.fetch.bytes = 4194304
source.consumer.fetch.max.bytes = 52428800
source.consumer.receive.buffer.bytes = 1048576
target.producer.batch.size = 524288
target.producer.buffer.memory = 134217728
target.producer.max.request.size = 4194304
target.producer.linger.ms = 2
";

pub struct Mirror {
    process: Process,
    _directory: TempDir,
}

impl Mirror {
    pub fn start(source: &str, target: &str) -> Self {
        let directory = TempDir::new("mirror");
        let properties = directory.path().join("mm2.properties");
        let text = format!("{SETTINGS}source.bootstrap.servers = {source}\ntarget.bootstrap.servers = {target}\n");
        fs::write(&properties, text).expect("MirrorMaker's settings are written");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("java");
        command
            .args(JVM)
            .arg(format!("-Dlog4j2.configurationFile={}", root.join("tests/support/log4j2.properties").display()))
            .arg("-cp")
            .arg(jars(root).join("*"))
            .arg("org.apache.kafka.connect.mirror.MirrorMaker")
            .arg(properties);
        let process = Process::start("mm2", &command, &directory.path().join("mm2.log"));
        Self { process, _directory: directory }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// STOP and CONT.
    pub fn signal(&mut self, name: &str) {
        self.process.signal(name);
    }
}

/// Fetched from Maven Central at the first use.
fn jars(root: &Path) -> PathBuf {
    let mut fetch = Command::new("sh");
    fetch.arg(root.join("tests/fetch-kafka.sh")).args([Version::V4_3.number(), "mirror"]);
    let output = fetch.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("sh starts");
    assert!(output.status.success(), "cannot get MirrorMaker 2: see the messages above");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}
