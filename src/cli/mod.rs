//! The command line: `serve` runs the proxy, `check` reads a configuration, the rest asks a running proxy's API.

mod args;
mod check;
mod client;
mod commands;
mod divergence;
mod log;
pub mod serve;
mod tables;

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;

pub use args::{Args, Command, LogFormat, ServeArgs};

/// What the process's exit code says; INTERFACE fixes the numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Done = 0,
    /// The thing asked for does not hold, or failed.
    Failed = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// The API is not reachable.
    Unreachable = 3,
}

/// Why a command ends early.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    fn new(exit: Exit, message: impl ToString) -> Failure {
        Failure { exit, message: message.to_string() }
    }
}

/// What the reader of the output did is no failure of the command: `status | head -1` is fine.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::BrokenPipe { Exit::Done } else { Exit::Failed };
        Failure::new(exit, error)
    }
}

/// Where a command reads and writes; tests bring their own.
struct Terminal<'a> {
    /// Results.
    out: &'a mut dyn Write,
    /// Progress, questions.
    err: &'a mut dyn Write,
    input: &'a mut dyn BufRead,
    /// Whether someone is there to answer a question.
    answers: bool,
    /// Whether results go to a screen.
    screen: bool,
}

/// The whole program: reads the arguments, does it, and says how it went.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut input = io::stdin().lock();
    let answers = io::stdin().is_terminal() && io::stderr().is_terminal();
    let screen = io::stdout().is_terminal();
    let mut terminal = Terminal { out: &mut out, err: &mut err, input: &mut input, answers, screen };
    let exit = commands::run(args, &mut terminal).unwrap_or_else(|failure| {
        if failure.exit != Exit::Done {
            // With stderr gone too there is nobody left to tell.
            let _ = writeln!(io::stderr(), "error: {failure}");
        }
        failure.exit
    });
    ExitCode::from(exit as u8)
}
