//! The results as JSON and as Markdown.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::errors::one_line;
use super::events::Role;
use super::judge::{Judgement, Stall};
use super::known::Known;

/// One client's two runs; or why there are none.
pub struct Row {
    pub known: &'static Known,
    pub outcome: Result<Runs, NoRuns>,
}

pub struct NoRuns {
    pub reason: String,
    /// Not just a tool that this machine lacks.
    pub is_failure: bool,
}

/// Through the proxy, and the same without it.
#[derive(Serialize, Deserialize)]
pub struct Runs {
    /// When, and of what commit.
    pub stamp: String,
    /// Records per second.
    pub rate: u32,
    pub proxied: Judgement,
    pub direct: Judgement,
}

impl Row {
    /// What breaks the promise; without a proxy nothing was promised.
    pub fn violations(&self) -> Vec<String> {
        match &self.outcome {
            Ok(runs) => runs.proxied.violations(|role| self.known.limit(role)),
            Err(none) if none.is_failure => vec![none.reason.clone()],
            Err(_) => Vec::new(),
        }
    }

    /// What is kept of it, with what it was judged to be.
    pub fn json(&self) -> Value {
        let mut value = json!(self.outcome.as_ref().ok());
        value["violations"] = json!(self.violations());
        value
    }

    /// What [`Row::json`] gave.
    pub fn read(known: &'static Known, kept: &[u8]) -> serde_json::Result<Row> {
        Ok(Row { known, outcome: Ok(serde_json::from_slice(kept)?) })
    }
}

/// Two tables and what is to be said of single clients.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "Through the proxy: a switchover, a failover with the active cluster killed, the switchover back.\n\n",
    );
    let windows = ["quiet", "switchover", "failover", "switchover back"];
    table(&mut text, rows, &windows, |runs| &runs.proxied);
    text.push_str("\nWithout it: the only broker killed and started again at once.\n\n");
    table(&mut text, rows, &["quiet", "broker lost and back"], |runs| &runs.direct);
    text.push('\n');
    for row in rows {
        notes(&mut text, row);
    }
    text
}

fn table(text: &mut String, rows: &[Row], windows: &[&str], run: fn(&Runs) -> &Judgement) {
    let _ = writeln!(
        text,
        "| client | version | acknowledged | lost | stored twice | skipped | out of order | redelivered | errors (fatal) | {} |",
        windows.join(" | ")
    );
    let _ = writeln!(text, "|{}", "---|".repeat(9 + windows.len()));
    for row in rows {
        let Ok(runs) = &row.outcome else { continue };
        let judgement = run(runs);
        let stalls = windows.iter().map(|name| stall(judgement.stalls.iter().find(|s| s.window == *name)));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {}{} | {} | {} | {} | {} ({}) | {} |",
            row.known.title,
            judgement.version,
            judgement.acknowledged,
            judgement.lost,
            judgement.duplicates,
            if judgement.idempotent { "" } else { " (not idempotent)" },
            judgement.skipped,
            judgement.out_of_order,
            judgement.redelivered,
            judgement.errors.total,
            judgement.errors.fatal.len(),
            stalls.collect::<Vec<_>>().join(" | ")
        );
    }
}

fn stall(stall: Option<&Stall>) -> String {
    let in_order = |s: &Stall| format!("{} ({})", Role::ALL.map(|role| s.of(role).to_string()).join(" / "), s.machine);
    stall.map(in_order).unwrap_or_default()
}

fn notes(text: &mut String, row: &Row) {
    let known = row.known;
    let mut lines = Vec::new();
    if let Ok(runs) = &row.outcome {
        lines.push(format!("measured {}, {} records a second.", runs.stamp, runs.rate));
    }
    if !known.note.is_empty() {
        lines.push(known.note.to_owned());
    }
    for (role, limit, why) in known.slower {
        lines.push(format!("{} may stand still for up to {limit} ms in a switchover: {why}.", role.name()));
    }
    match &row.outcome {
        Ok(runs) => {
            lines.extend(row.violations().into_iter().map(|v| format!("**Broken:** {v}.")));
            for (way, judgement) in [("Through the proxy", &runs.proxied), ("Without it", &runs.direct)] {
                lines.extend(judgement.notes.iter().map(|note| format!("{way}: {note}.")));
                lines.extend(judgement.errors.kinds().into_iter().map(|kind| format!("{way}: {kind}.")));
                if way == "Without it" {
                    lines.extend(judgement.broken.iter().map(|what| format!("{way}: {}.", one_line(what))));
                }
            }
        }
        Err(none) => lines.push(format!("Not run: {}.", one_line(&none.reason))),
    }
    if !lines.is_empty() {
        let _ = writeln!(text, "- {} ({}): {}", known.title, known.name, lines.join(" "));
    }
}
