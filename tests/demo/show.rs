//! What the demo prints: steps, reports, the verdict.

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use serde_json::Value;

use crate::support::checker::Verdict;

/// Begins a line of its own, also when the live line stands there.
pub fn step(text: &str) {
    let clear = if stdout().is_terminal() { "\r\x1b[K" } else { "" };
    println!("{clear}==> {text}");
}

/// A cutover's report in a few words.
pub fn report(report: &Value) {
    let text = |field: &str| report[field].as_str().unwrap_or("?").to_owned();
    let clear = if stdout().is_terminal() { "\r\x1b[K" } else { "" };
    println!(
        "{clear}    {} {}, {} -> {}, generation {}, requests held {:.1} ms, {} lost ranges",
        text("kind"),
        text("outcome"),
        text("from"),
        text("to"),
        report["generation"],
        report["hold_ms"].as_f64().unwrap_or(f64::NAN),
        report["lost"].as_array().map_or(0, Vec::len)
    );
}

/// A cutover's report as the API gave it.
pub fn whole_report(report: &Value) {
    let kind = report["kind"].as_str().unwrap_or("cutover");
    println!("==> report of the {kind}");
    println!("{}", serde_json::to_string_pretty(report).unwrap_or_else(|_| report.to_string()));
}

/// The one line that says it all. A record that is stored but was never delivered is lost to its reader, and one that is
/// stored twice is a repeat.
pub fn verdict_line(verdict: &Verdict, producer: Duration, consumer: Duration) -> String {
    format!(
        "acknowledged={} lost={} repeated={} out_of_order={} longest_producer_stall={}ms longest_consumer_stall={}ms",
        verdict.acknowledged,
        verdict.lost.len() + verdict.skipped.len(),
        verdict.repeated.len().max(verdict.stored_twice.len()),
        verdict.out_of_order.len(),
        producer.as_millis(),
        consumer.as_millis()
    )
}
