//! What a run leaves behind: every value as JSON, the tables as Markdown, plots.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::book::{Book, Row, short};
use super::svg::{self, Bar};
use super::targets;

/// Part, measure, file and title of each plot.
const PLOTS: [(&str, &str, &str, &str); 10] = [
    ("produce", "cpu_s_per_gb", "produce", "Produce, 1 KB records in batches of 1 MB: CPU seconds per GB"),
    ("small", "cpu_us_per_request", "small", "Small requests, 1.2 KB: CPU microseconds per request"),
    ("consume", "cpu_s_per_gb", "consume", "Consume before a cutover: CPU seconds per GB"),
    ("after", "cpu_s_per_gb", "after", "Consume after a cutover: CPU seconds per GB"),
    ("mixed", "cpu_s_per_gb", "mixed", "Mixed load: CPU seconds per GB"),
    ("latency", "p50_ms", "latency-p50", "Produce of 100 B at 500 per second: p50, ms"),
    ("latency", "p99_ms", "latency-p99", "Produce of 100 B at 500 per second: p99, ms"),
    ("copy", "cpu_s_per_gb", "copy", "Copy to the standby at 20 MB/s: CPU seconds per GB"),
    ("catchup", "cpu_s_per_gb", "catchup", "Catching up: CPU seconds per GB"),
    ("scale", "resident_mb", "memory", "Memory with idle connections and partitions: MB resident"),
];
/// The proxy itself among the contestants.
const OURS: [&str; 6] = ["plain", "off", "async", "sync", "after", "async less off"];

/// Writes all of it, in place of what an earlier run left.
pub fn keep(book: &Book, how: &Value) -> std::io::Result<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/results");
    fs::create_dir_all(&directory)?;
    let machine = machine();
    let document = json!({"machine": machine, "run": how, "figures": book.json()});
    fs::write(directory.join("dataplane.json"), format!("{document:#}\n"))?;
    fs::write(directory.join("dataplane.md"), markdown(book, &machine, how))?;
    for (part, measure, file, title) in PLOTS {
        let rows: Vec<&Row> = book.rows().iter().filter(|r| r.part == part && r.measure == measure).collect();
        let bar = |row: &&Row| {
            let ours = part == "scale" || OURS.contains(&row.peer.as_str());
            row.figure().map(|figure| Bar { label: row.peer.clone(), figure, ours })
        };
        let bars: Vec<Bar> = rows.iter().filter_map(bar).collect();
        if !bars.is_empty() {
            fs::write(directory.join(format!("dataplane-{file}.svg")), svg::bars(title, &bars))?;
        }
    }
    Ok(directory)
}

fn markdown(book: &Book, machine: &Value, how: &Value) -> String {
    let said = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut text = String::from("# The data plane beside its peers\n\n");
    for (key, value) in [machine, how].into_iter().filter_map(Value::as_object).flatten() {
        text += &format!("- {key}: {}\n", said(value));
    }
    text += &format!("\n## Aims\n\n{}\n## Figures\n\nMedians of the rounds, with their range.\n", targets::table(book));
    let mut part = "";
    for row in book.rows() {
        let Some(figure) = row.figure() else { continue };
        if row.part != part {
            part = &row.part;
            text += &format!("\n### {part}\n\n| contestant | measure | median | range |\n|---|---|---|---|\n");
        }
        let (median, min, max) = (short(figure.median), short(figure.min), short(figure.max));
        text += &format!("| {} | {} | {median} | {min} to {max} |\n", row.peer, row.measure);
    }
    text
}

/// Where it ran, and with what.
fn machine() -> Value {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": model.trim_start_matches(['\t', ' ', ':']),
        "memory": memory.lines().next().unwrap_or_default().trim_start_matches("MemTotal:").trim(),
        "kernel": kernel.trim(),
        "proxy": env!("CARGO_PKG_VERSION"),
        "commit": first_line("git", &["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short", "HEAD"]),
        "kafka": super::support::kafka::Version::V4_3.number(),
        "haproxy": first_line("haproxy", &["-v"]),
        "java": first_line("java", &["--version"]),
        "date": first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
    })
}

/// What a program says first; empty when it is not there.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().to_owned()
}
