//! The results as JSON and as Markdown.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::events::{AppError, Role};
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
pub struct Runs {
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
}

pub fn json(rows: &[Row]) -> Value {
    let row = |row: &Row| match &row.outcome {
        Ok(runs) => json!({
            "client": row.known.name,
            "title": row.known.title,
            "proxied": judgement(&runs.proxied),
            "direct": judgement(&runs.direct),
            "violations": row.violations(),
        }),
        Err(none) => json!({"client": row.known.name, "title": row.known.title, "not_run": none.reason}),
    };
    rows.iter().map(row).collect()
}

fn judgement(judgement: &Judgement) -> Value {
    let mut value = json!(judgement);
    value["errors"] = json!(kinds(&judgement.errors, usize::MAX));
    value["fatal_errors"] = json!(judgement.errors.iter().filter(|e| e.fatal).count());
    value
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
        let fatal = judgement.errors.iter().filter(|e| e.fatal).count();
        let stalls = windows.iter().map(|name| stall(judgement.stalls.iter().find(|s| s.window == *name)));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {}{} | {} | {} | {} | {} ({fatal}) | {} |",
            row.known.title,
            judgement.version,
            judgement.acknowledged,
            judgement.lost,
            judgement.duplicates,
            if judgement.idempotent { "" } else { " (not idempotent)" },
            judgement.skipped,
            judgement.out_of_order,
            judgement.redelivered,
            judgement.errors.len(),
            stalls.collect::<Vec<_>>().join(" | ")
        );
    }
}

fn stall(stall: Option<&Stall>) -> String {
    let in_order = |s: &Stall| format!("{} ({})", Role::ALL.map(|role| s.of(role).to_string()).join(" / "), s.machine);
    stall.map(in_order).unwrap_or_default()
}

fn notes(text: &mut String, row: &Row) {
    /// Kinds of errors of one run; the rest is in the JSON.
    const KINDS: usize = 3;
    let known = row.known;
    let mut lines = Vec::new();
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
                lines.extend(kinds(&judgement.errors, KINDS).into_iter().map(|kind| format!("{way}: {kind}.")));
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

/// Equal errors counted once, numbers (partitions, ports) aside; the most frequent first.
fn kinds(errors: &[AppError], most: usize) -> Vec<String> {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for error in errors {
        let fatal = if error.fatal { "fatal, " } else { "" };
        let kind = format!("{fatal}{}: `{}`", error.by.name(), one_line(&without_numbers(&error.text)));
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rest = kinds.len().saturating_sub(most);
    let mut lines: Vec<String> =
        kinds.into_iter().take(most).map(|(kind, count)| format!("{count} × {kind}")).collect();
    if rest > 0 {
        lines.push(format!("{rest} more kinds of errors"));
    }
    lines
}

fn without_numbers(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '0'..='9' if plain.ends_with('#') => {}
            '0'..='9' => plain.push('#'),
            other => plain.push(other),
        }
    }
    plain
}

/// Short and without what would end a table's cell, a list's line or a piece of code.
fn one_line(text: &str) -> String {
    /// Enough to recognise an error.
    const LENGTH: usize = 160;
    let line: String = text.replace('|', "/").replace('`', "'").split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(LENGTH).collect::<String>().trim_end_matches('.').to_owned()
}
