//! What each command does: ask, show, and choose the exit code.

use std::time::Duration;

use clap::CommandFactory;
use serde::Serialize;

use super::args::{Args, Command, Cutover};
use super::client::{Client, quoted};
use super::{Exit, Failure, Terminal, check, divergence, serve, tables};
use crate::admin::types::{
    CutoverKind, CutoverRequest, Outcome, ReloadReport, Report, Status, Translation, VerifyReport, VerifyRequest,
};

const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Cursor home and clear: the next status is written over the last one.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub(super) fn run(args: Args, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    match args.command {
        Command::Serve(args) => serve::serve(&args),
        Command::Check { config, online } => check::check(&config, online, terminal),
        Command::Status { api, json, watch } => status(&Client::find(&api)?, json, watch, terminal),
        Command::Switchover { api, cutover } => {
            let report = start(&Client::find(&api)?, CutoverKind::Switchover, &cutover, terminal)?;
            show_report(&report, cutover.json, terminal)
        }
        Command::Failover { api, cutover, yes } => failover(&Client::find(&api)?, &cutover, yes, terminal),
        Command::Verify { api, topic, json } => {
            let found: VerifyReport = Client::find(&api)?.post("/v1/verify", &VerifyRequest { topic })?;
            show(&found, json, tables::verify, terminal)?;
            Ok(if found.equal { Exit::Done } else { Exit::Failed })
        }
        Command::Translate { api, topic, partition, offset, cluster, json } => {
            let cluster = cluster.map(|name| format!("&cluster={}", quoted(&name))).unwrap_or_default();
            let query = format!("topic={}&partition={partition}&offset={offset}{cluster}", quoted(&topic));
            let found: Translation = Client::find(&api)?.get(&format!("/v1/translate?{query}"))?;
            show(&found, json, tables::translation, terminal)?;
            let whole = found.logical_offset.is_some() && found.cluster_offsets.values().all(Option::is_some);
            Ok(if whole { Exit::Done } else { Exit::Failed })
        }
        Command::Report { api, generation, json } => report(&Client::find(&api)?, generation, json, terminal),
        Command::Divergence { command } => divergence::run(command, terminal),
        Command::Reload { api, json } => {
            let found: ReloadReport = Client::find(&api)?.post("/v1/reload", &serde_json::Map::new())?;
            show(&found, json, tables::reload, terminal)?;
            Ok(Exit::Done)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "kafka-standby", &mut terminal.out);
            Ok(Exit::Done)
        }
        Command::Backup(_) => Err(Failure::new(Exit::Usage, "`backup` is not built yet")),
        Command::Restore(_) => Err(Failure::new(Exit::Usage, "`restore` is not built yet")),
    }
}

pub(super) fn show<T: Serialize>(
    found: &T,
    json: bool,
    page: impl Fn(&T) -> String,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    if json {
        let text = serde_json::to_string_pretty(found).map_err(|error| Failure::new(Exit::Failed, error))?;
        writeln!(terminal.out, "{text}")?;
    } else {
        write!(terminal.out, "{}", page(found))?;
    }
    Ok(terminal.out.flush()?)
}

fn status(client: &Client, json: bool, watch: bool, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    loop {
        let found: Status = client.get("/v1/status")?;
        if watch && terminal.screen {
            write!(terminal.out, "{CLEAR}")?;
        }
        show(&found, json, tables::status, terminal)?;
        if !watch {
            return Ok(Exit::Done);
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

fn report(client: &Client, generation: Option<u32>, json: bool, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    match generation {
        Some(generation) => {
            let found: Report = client.get(&format!("/v1/reports/{generation}"))?;
            show(&found, json, tables::report, terminal)?;
        }
        None => {
            let found: Vec<Report> = client.get("/v1/reports")?;
            show(&found, json, |found| tables::reports(found), terminal)?;
        }
    }
    Ok(Exit::Done)
}

/// Runs a cutover, its phases to stderr as they end.
fn start(
    client: &Client,
    kind: CutoverKind,
    cutover: &Cutover,
    terminal: &mut Terminal<'_>,
) -> Result<Report, Failure> {
    let timeout_ms = cutover.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    let request = CutoverRequest { dry_run: cutover.dry_run, timeout_ms };
    client.cutover(kind, &request, |phase| {
        // The cutover goes on whether or not its progress can be shown.
        let _ = write!(terminal.err, "{}", tables::phase(phase));
    })
}

fn show_report(report: &Report, json: bool, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    show(report, json, tables::report, terminal)?;
    Ok(if report.outcome == Outcome::Done { Exit::Done } else { Exit::Failed })
}

/// Asks after showing what would be lost; `--yes` saves the question and the time of the dry run.
fn failover(client: &Client, cutover: &Cutover, yes: bool, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    if !cutover.dry_run && !yes {
        if !terminal.answers {
            return Err(Failure::new(Exit::Usage, "nobody is there to confirm a failover: give --yes or --dry-run"));
        }
        let dry = Cutover { dry_run: true, timeout: cutover.timeout, json: false };
        let expected = start(client, CutoverKind::Failover, &dry, terminal)?;
        if expected.outcome != Outcome::Done {
            return show_report(&expected, cutover.json, terminal);
        }
        write!(terminal.err, "{}", tables::report(&expected))?;
        write!(terminal.err, "\nFail over from {} to {}? Type `yes`: ", expected.from, expected.to)?;
        terminal.err.flush()?;
        let mut line = String::new();
        terminal.input.read_line(&mut line)?;
        if line.trim() != "yes" {
            return Err(Failure::new(Exit::Failed, "not confirmed; nothing was changed"));
        }
    }
    let report = start(client, CutoverKind::Failover, cutover, terminal)?;
    show_report(&report, cutover.json, terminal)
}

#[cfg(test)]
mod tests;
