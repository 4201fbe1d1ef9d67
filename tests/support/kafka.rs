//! Where the jars of a real Kafka are, and the Java command lines that run them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The Kafka releases that the tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    V4_3,
    V3_9,
}

impl Version {
    pub fn number(self) -> &'static str {
        match self {
            Version::V4_3 => "4.3.1",
            Version::V3_9 => "3.9.2",
        }
    }

    /// The jars, fetched at the first use.
    pub fn libs(self) -> &'static Path {
        static V4_3: OnceLock<PathBuf> = OnceLock::new();
        static V3_9: OnceLock<PathBuf> = OnceLock::new();
        let cell = match self {
            Version::V4_3 => &V4_3,
            Version::V3_9 => &V3_9,
        };
        cell.get_or_init(|| fetch(self.number()))
    }

    /// A Java command line for a main class of this Kafka, small and quick to start. Its log goes to stdout.
    pub fn java(self, main_class: &str, heap: &str) -> Command {
        self.java_with(main_class, heap, &[])
    }

    /// As `java`, with further options; the last one of a kind wins.
    pub fn java_with(self, main_class: &str, heap: &str, options: &[String]) -> Command {
        let mut command = Command::new("java");
        let classes = self.libs().with_file_name("classes.jsa");
        if classes.metadata().is_ok_and(|found| found.len() > 0) {
            // One of another JVM is not used, silently.
            command.arg(format!("-XX:SharedArchiveFile={}", classes.display())).args(["-Xshare:auto", "-Xlog:disable"]);
        }
        command
            .arg(format!("-Xmx{heap}"))
            // Start-up time counts here, not the speed after an hour.
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dkafka.logs.dir=/nonexistent"])
            .arg(format!("-Dlog4j2.configurationFile={}", support_file("log4j2.properties").display()))
            .arg(format!("-Dlog4j.configuration=file:{}", support_file("log4j.properties").display()))
            .args(options)
            .arg("-cp")
            .arg(self.libs().join("*"))
            .arg(main_class);
        command
    }

    /// Formats the data directory of broker `node`, whose configuration is there. What Kafka's tool writes into an empty one is
    /// its name, and the features, which are the same for all: the tool is run once.
    pub fn format(self, properties: &Path, data: &Path, cluster_id: &str, node: usize, features: &[(String, u16)]) {
        type Formatted = Mutex<HashMap<(Version, Vec<(String, u16)>), Vec<u8>>>;
        static FORMATTED: OnceLock<Formatted> = OnceLock::new();
        let mut formatted = FORMATTED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        let checkpoint = data.join("bootstrap.checkpoint");
        match formatted.entry((self, features.to_vec())) {
            Entry::Occupied(known) => {
                let directory = random_id();
                let meta = format!("version=1\ncluster.id={cluster_id}\nnode.id={node}\ndirectory.id={directory}\n");
                std::fs::create_dir_all(data).expect("the data directory");
                std::fs::write(data.join("meta.properties"), meta).expect("meta.properties");
                std::fs::write(checkpoint, known.get()).expect("bootstrap.checkpoint");
            }
            Entry::Vacant(unknown) => {
                self.run_format(properties, cluster_id, features);
                unknown.insert(std::fs::read(checkpoint).expect("the tool writes the features"));
            }
        }
    }

    fn run_format(self, properties: &Path, cluster_id: &str, features: &[(String, u16)]) {
        let mut command = self.java("kafka.tools.StorageTool", "128m");
        command.args(["format", "-t", cluster_id, "-c"]).arg(properties);
        for (feature, level) in features {
            command.args(["-f", &format!("{feature}={level}")]);
        }
        let output = command.output().expect("java starts");
        assert!(
            output.status.success(),
            "cannot format: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// An id as Kafka writes them, of clusters and directories.
pub fn random_id() -> String {
    let random: u128 = rand::random();
    // 22 base64 letters carry 132 bits: the last one must leave the lowest four at zero.
    format!("{random:032x}")[..21].to_owned() + "A"
}

fn support_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(name)
}

fn fetch(version: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fetch-kafka.sh");
    let output = Command::new("sh")
        .arg(script)
        .arg(version)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("sh starts");
    assert!(output.status.success(), "cannot get Kafka {version}: see the messages above");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}
