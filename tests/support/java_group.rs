//! Consumer groups of the Java client, for what librdkafka's group protocols do not show.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::checker::Seen;
use super::kafka::Version;
use super::load::decode_value;
use super::process::Process;
use super::temp::TempDir;
use super::wait::wait_for;

/// Members in one Java process.
pub struct JavaGroup {
    process: Process,
    // Last: removed after the process is gone.
    directory: TempDir,
}

/// What the members said.
#[derive(Debug, Default)]
pub struct Said {
    /// In the order of delivery.
    pub records: Vec<Seen>,
    /// Errors that reached the application, and whatever else ended a member.
    pub errors: Vec<String>,
    /// Assignments, and commits that were refused.
    pub notices: Vec<String>,
}

impl JavaGroup {
    /// Starts `members` consumers of `topic`; `properties` are `key=value`, with `{n}` for a member's number.
    pub fn start(bootstrap: &str, topic: &str, group: &str, members: usize, properties: &[&str]) -> Self {
        Self::start_as("JavaGroup.java", [bootstrap, topic, group], members, properties)
    }

    /// As `start`, share consumers (KIP-932).
    pub fn start_share(bootstrap: &str, topic: &str, group: &str, members: usize, properties: &[&str]) -> Self {
        Self::start_as("JavaShare.java", [bootstrap, topic, group], members, properties)
    }

    fn start_as(program: &str, what: [&str; 3], members: usize, properties: &[&str]) -> Self {
        let directory = TempDir::new("java-group");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(program);
        // The class path takes the place of a main class: Java compiles and runs a single source file by itself.
        let mut command = Version::V4_3.java(&source.display().to_string(), "192m");
        command.args(what).arg(members.to_string()).args(properties);
        let process = Process::start("java-group", &command, &directory.path().join("java-group.log"));
        Self { process, directory }
    }

    /// What was said so far. The client's own log is left out: it warns of what it tries again.
    pub fn said(&self) -> Said {
        let text = fs::read_to_string(self.directory.path().join("java-group.log")).unwrap_or_default();
        let mut said = Said::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("R", record)) => said.records.extend(parse(record)),
                Some(("E", error)) => said.errors.push(error.to_owned()),
                Some(("I", notice)) => said.notices.push(notice.to_owned()),
                _ => {}
            }
        }
        said
    }

    /// Waits until this many records were delivered in all.
    pub fn wait_for(&self, records: usize, deadline: Duration) {
        wait_for(&format!("{records} records at the Java members"), deadline, || {
            let said = self.said();
            assert!(self.process.is_alive(), "they have ended: {said:?}");
            if said.records.len() >= records { Ok(()) } else { Err(format!("{} so far", said.records.len())) }
        });
    }

    pub fn pause(&mut self) {
        self.process.pause();
    }

    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Ends the members in order.
    pub fn finish(mut self) -> Said {
        self.process.terminate();
        self.said()
    }
}

fn parse(record: &str) -> Option<Seen> {
    let mut words = record.split(' ');
    let (partition, offset) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Seen { partition, offset, id: decode_value(words.next()?.as_bytes())? })
}
