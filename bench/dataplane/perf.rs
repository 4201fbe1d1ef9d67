//! A profile of a measured process by perf (Debian: linux-perf), for whoever makes it faster.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::process::Process;
use super::support::temp::TempDir;

/// Where the kernel is entered.
const ENTRIES: [&str; 2] = ["__x64_sys_", "asm_exc_page_fault"];
/// How many lines of the report are shown.
const LINES: usize = 45;
const FREQUENCY: &str = "1999";

pub struct Profile {
    name: String,
    data: PathBuf,
    process: Process,
    _directory: TempDir,
}

pub fn start(pid: u32, name: &str) -> Profile {
    let directory = TempDir::new("perf");
    let data = directory.path().join("perf.data");
    let mut command = Command::new("perf");
    command.args(["record", "-q", "-g", "-F", FREQUENCY, "-p", &pid.to_string(), "-o"]).arg(&data);
    let process = Process::start("perf", &command, &directory.path().join("perf.log"));
    // It attaches within a moment; a profile without its first milliseconds is as good.
    Profile { name: name.into(), data, process, _directory: directory }
}

pub fn finish(mut profile: Profile) {
    profile.process.signal("INT");
    profile.process.wait();
    println!("--- {}: self", profile.name);
    let own = report(&profile.data, &["--no-children"], |line| line.contains('%'));
    println!("{own}--- {}: system calls and page faults, with what they call", profile.name);
    println!("{}", report(&profile.data, &["--children"], |line| ENTRIES.iter().any(|entry| line.contains(entry))));
}

fn report(data: &Path, arguments: &[&str], wanted: impl Fn(&str) -> bool) -> String {
    let mut command = Command::new("perf");
    command.args(["report", "--stdio", "-g", "none", "--percent-limit", "0.7"]).args(arguments).arg("-i").arg(data);
    let text = command.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().filter(|line| wanted(line)).take(LINES).map(|line| format!("{}\n", line.trim_end())).collect()
}
