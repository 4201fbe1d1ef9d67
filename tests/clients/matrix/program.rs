//! One client program as a process: made ready by prepare.sh, told what to do by lines on its standard input, heard by
//! lines on its standard output.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::events::{Role, Told};
use super::known::Known;

/// From `end` to the end of the process: a consumer leaves its group meanwhile.
const END: Duration = Duration::from_secs(20);
/// prepare.sh's exit status for "not on this machine", as opposed to a defect.
const ABSENT: i32 = 3;
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Milliseconds since 1970, the clock that programs write down too.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// A command line that starts a client program.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub known: &'static Known,
    words: Vec<String>,
}

/// Why there is none.
#[derive(Debug)]
pub enum Unprepared {
    /// This machine lacks a tool, or (offline) the fetched libraries.
    Absent(String),
    /// It should have worked.
    Failed(String),
}

/// Fetches libraries and compiles; `offline`: only with what is there already.
pub fn prepare(known: &'static Known, offline: bool) -> Result<Prepared, Unprepared> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/prepare.sh");
    let mut command = Command::new("sh");
    command.arg(script).arg(known.program()).stdin(Stdio::null());
    if offline {
        command.env("OFFLINE", "1");
    }
    let output = command.output().map_err(|e| Unprepared::Failed(e.to_string()))?;
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.code() {
        Some(0) => {}
        Some(ABSENT) => return Err(Unprepared::Absent(complaint)),
        _ => return Err(Unprepared::Failed(complaint)),
    }
    let words: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    if words.is_empty() {
        return Err(Unprepared::Failed(format!("prepare.sh gave no command. {complaint}")));
    }
    Ok(Prepared { known, words })
}

/// What all programs of a run are told.
#[derive(Debug, Clone)]
pub struct Task {
    pub bootstrap: String,
    pub topic: String,
    pub partitions: i32,
    pub group: String,
    /// Records per second.
    pub rate: u32,
}

/// A running program. Dropping it kills the process; a program ends by itself when its standard input ends, which also a
/// SIGKILL of the runner brings about.
pub struct Program {
    pub known: &'static Known,
    pub task: Task,
    child: Child,
    orders: Option<ChildStdin>,
    ear: Option<JoinHandle<()>>,
    heard: Arc<Mutex<Heard>>,
    log: PathBuf,
}

#[derive(Default)]
struct Heard {
    told: Told,
    broken: Vec<String>,
}

fn locked(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Program {
    /// `log` gets its standard error.
    pub fn start(prepared: &Prepared, task: Task, log: &Path) -> Self {
        let name = prepared.known.name;
        let mut command = Command::new(&prepared.words[0]);
        command
            .args(&prepared.words[1..])
            .args([&task.bootstrap, &task.topic, &task.partitions.to_string(), &task.group, &task.rate.to_string()])
            // Ctrl-C at the terminal is for the runner alone.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log).unwrap_or_else(|e| panic!("{}: {e}", log.display())));
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{name}: {:?}: {e}", prepared.words));
        let orders = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let heard = Arc::new(Mutex::new(Heard::default()));
        let ear = thread::spawn({
            let heard = heard.clone();
            move || {
                for line in lines.lines() {
                    let mut heard = locked(&heard);
                    let Heard { told, broken } = &mut *heard;
                    let known_errors = told.errors.len();
                    if let Err(wrong) = line.map_err(|e| e.to_string()).and_then(|line| told.hear(&line)) {
                        broken.push(wrong);
                    } else if let Some(error) =
                        told.errors.get(known_errors..).and_then(|new| new.iter().find(|e| e.fatal))
                    {
                        // At once: the run may go on for long.
                        eprintln!("    {name}: fatal for the {}: {}", error.by.name(), error.text);
                    }
                }
            }
        });
        Self { known: prepared.known, task, child, orders, ear: Some(ear), heard, log: log.into() }
    }

    /// Whether it has nothing more to say.
    pub fn has_ended(&self) -> bool {
        self.ear.as_ref().is_none_or(|ear| ear.is_finished())
    }

    /// The newest sighting of each role and partition, of what came since `since`; what is missing is named.
    pub fn heard_of_all(&self, since: u64) -> Result<(), String> {
        let heard = locked(&self.heard);
        for role in Role::ALL {
            for partition in 0..self.task.partitions {
                // From the end: a look every few milliseconds must not walk the whole run.
                let new = heard.told.of(role).iter().rev().take_while(|s| s.ms >= since);
                if !new.into_iter().any(|s| s.seen.partition == partition) {
                    return Err(format!("{}: {} has nothing of partition {partition}", self.known.name, role.name()));
                }
            }
        }
        Ok(())
    }

    /// Whether both readers have had every acknowledged record, by name: an output has its own offsets.
    fn caught_up(&self) -> bool {
        let heard = locked(&self.heard);
        let names = |role| heard.told.of(role).iter().map(|s| s.seen.id).collect::<HashSet<_>>();
        let (goal, group, assigned) = (names(Role::Producer), names(Role::Group), names(Role::Assigned));
        goal.is_subset(&group) && goal.is_subset(&assigned)
    }

    /// Has the assigned reader take up its stored positions again.
    pub fn seek(&mut self) {
        self.order("seek");
    }

    fn order(&mut self, order: &str) {
        if let Some(orders) = &mut self.orders
            && writeln!(orders, "{order}").and_then(|()| orders.flush()).is_err()
        {
            self.note(format!("it had ended before it was told to {order}"));
        }
    }

    fn note(&self, what: String) {
        locked(&self.heard).broken.push(what);
    }

    /// Ends the producer, gives the readers up to `patience` to have everything, ends the program. What it told, and
    /// what was wrong with it.
    pub fn finish(mut self, patience: Duration) -> (Told, Vec<String>) {
        self.order("stop");
        if !wait(patience, || locked(&self.heard).told.flushed) {
            self.note("it was told to stop, but not everything sent was acknowledged in time".into());
        }
        // What is missing then, the judge counts as skipped.
        wait(patience, || self.caught_up());
        self.order("end");
        let ended = wait(END, || self.child.try_wait().is_ok_and(|status| status.is_some()));
        match self.child.try_wait() {
            Ok(Some(status)) if !status.success() => self.note(format!("it ended with {status}:\n{}", self.log_tail())),
            _ if !ended => self.note(format!("it did not end within {} s", END.as_secs())),
            _ => {}
        }
        self.kill();
        if let Some(ear) = self.ear.take() {
            let _ = ear.join();
        }
        let mut heard = locked(&self.heard);
        (std::mem::take(&mut heard.told), std::mem::take(&mut heard.broken))
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The last lines of its standard error.
    pub fn log_tail(&self) -> String {
        const LINES: usize = 15;
        let text = String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether it came true in time.
fn wait(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < deadline {
        if condition() {
            return true;
        }
        thread::sleep(POLL);
    }
    condition()
}
