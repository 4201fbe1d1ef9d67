//! A child process that cannot outlive the rig: a shell beside it reads a pipe from us, passes on signals that we name
//! there, and kills the child when the pipe ends, which also a SIGKILL of the rig brings about.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard};

/// `$1` is the log, the rest the command. Says the child's id, then answers each signal name with one line: `sent`, or
/// for KILL and WAIT the child's exit status once it is gone (its id may be another's from then on, so it is forgotten).
const GUARD: &str = r#"
log=$1; shift
"$@" >>"$log" 2>&1 </dev/null &
child=$!
echo "$child"
while read -r signal; do
    case $signal in
    KILL) kill -KILL "$child" 2>/dev/null; wait "$child" 2>/dev/null; echo "$?"; child= ;;
    WAIT) wait "$child" 2>/dev/null; echo "$?"; child= ;;
    *) kill -"$signal" "$child" 2>/dev/null; echo sent ;;
    esac
done
[ -z "$child" ] || { kill -KILL "$child"; wait "$child"; } 2>/dev/null
"#;

/// How much of a log is shown on a failure, in lines.
const TAIL: usize = 40;

/// The ids of all guarded children that may still run.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn running() -> MutexGuard<'static, BTreeSet<u32>> {
    RUNNING.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// SIGKILL for all of them, for a rig that ends without unwinding: the guards would do it, but a moment later.
pub fn kill_all() {
    let ids: Vec<String> = running().iter().map(u32::to_string).collect();
    if !ids.is_empty() {
        // Without unsafe code, the shell's own `kill` is the system call at hand.
        let _ = Command::new("sh").args(["-c", "kill -KILL \"$@\"", "kill"]).args(ids).stderr(Stdio::null()).status();
    }
}

/// A guarded child process with its output in a file.
pub struct Process {
    name: String,
    log: PathBuf,
    id: u32,
    guard: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    gone: bool,
}

impl Process {
    /// Starts `command` with output appended to `log`. Only its program, arguments, directory and environment count.
    pub fn start(name: &str, command: &Command, log: &Path) -> Self {
        File::options().create(true).append(true).open(log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(log).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => guard.env(key, value),
                None => guard.env_remove(key),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            guard.current_dir(directory);
        }
        // Its own process group: Ctrl-C at the terminal is for the rig alone.
        guard.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut guard = guard.spawn().expect("sh starts");
        let orders = guard.stdin.take();
        let mut answers = BufReader::new(guard.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        answers.read_line(&mut line).expect("the guard says the process id");
        let id = line.trim().parse().unwrap_or_else(|_| panic!("{name}: the guard said {line:?}"));
        running().insert(id);
        Self { name: name.into(), log: log.into(), id, guard, orders, answers, gone: false }
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it still runs (a paused process does).
    pub fn is_alive(&self) -> bool {
        if self.gone {
            return false;
        }
        // The state follows the command's name, which is in parentheses and may hold anything.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    /// SIGKILL; returns once the process is gone.
    pub fn kill(&mut self) {
        if !self.gone {
            self.order("KILL");
            self.forget();
        }
    }

    /// SIGTERM; returns the exit status once the process is gone.
    pub fn terminate(&mut self) -> i32 {
        self.order("TERM");
        self.wait()
    }

    /// The exit status, 128 + signal after a signal. Waits for it without a limit.
    pub fn wait(&mut self) -> i32 {
        let answer = self.order("WAIT");
        self.forget();
        answer.parse().unwrap_or(-1)
    }

    /// From here on its id may be another process's.
    fn forget(&mut self) {
        self.gone = true;
        running().remove(&self.id);
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn pause(&mut self) {
        self.order("STOP");
    }

    pub fn resume(&mut self) {
        self.order("CONT");
    }

    /// Any signal by its name without SIG.
    pub fn signal(&mut self, name: &str) {
        self.order(name);
    }

    fn order(&mut self, order: &str) -> String {
        let orders = self.orders.as_mut().expect("the pipe is open until the drop");
        writeln!(orders, "{order}").unwrap_or_else(|e| panic!("{}: the guard is gone: {e}", self.name));
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap_or_else(|e| panic!("{}: the guard is gone: {e}", self.name));
        answer.trim().to_owned()
    }

    /// The end of its output.
    pub fn log_tail(&self) -> String {
        let text = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        format!("--- {} ({}), last {TAIL} lines of {}:\n{tail}\n---", self.name, self.id, self.log.display())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.guard.wait();
        running().remove(&self.id);
    }
}

/// What a program says first; empty when it is not there.
pub fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().to_owned()
}
