//! Percentiles of the measured times, as JSON and as a table.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

/// Of one kind of window.
#[derive(Serialize)]
pub struct Figures {
    pub runs: usize,
    /// As the proxy reports; empty without a cutover.
    pub hold: Spread,
    pub producer: Spread,
    pub consumer: Spread,
}

/// Milliseconds.
#[derive(Serialize)]
pub struct Spread {
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
}

impl From<Vec<f64>> for Spread {
    fn from(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { p50: percentile(&values, 50), p99: percentile(&values, 99), max: values.last().copied() }
    }
}

/// The nearest rank: a value that was measured, never one in between.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

pub fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}

/// A Markdown table: a line for each kind and measure.
pub fn table(kinds: &[(&str, Figures)]) -> String {
    let mut text = String::from("| window | runs | ms | p50 | p99 | max |\n|---|---|---|---|---|---|\n");
    for (kind, figures) in kinds {
        let lines =
            [("held", &figures.hold), ("producer stall", &figures.producer), ("consumer stall", &figures.consumer)];
        for (name, spread) in lines {
            if let (Some(p50), Some(p99), Some(max)) = (spread.p50, spread.p99, spread.max) {
                let _ = writeln!(text, "| {kind} | {} | {name} | {p50:.0} | {p99:.0} | {max:.0} |", figures.runs);
            }
        }
    }
    text
}
