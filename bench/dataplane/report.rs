//! What runs leave behind: every value as JSON, a file for each part; of all parts together the tables as Markdown, and plots.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::Part;
use super::book::{Book, Row, short};
use super::support::process::first_line;
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

/// Writes what was measured, a file for each part, then the tables and plots of all parts that were measured on this machine,
/// now or earlier.
pub fn keep(book: &Book, how: &Value) -> std::io::Result<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/results");
    let parts = directory.join("dataplane");
    fs::create_dir_all(&parts)?;
    let machine = machine();
    for part in book.parts() {
        let run = json!({"versions": versions(), "how": how});
        let document = json!({"machine": machine, "run": run, "figures": book.json(&part)});
        fs::write(parts.join(format!("{part}.json")), format!("{document:#}\n"))?;
    }
    let mut all = Book::default();
    let mut told = String::new();
    for name in Part::value_variants().iter().filter_map(Part::to_possible_value) {
        let name = name.get_name().to_owned();
        let Ok(text) = fs::read_to_string(parts.join(format!("{name}.json"))) else { continue };
        let document: Value = serde_json::from_str(&text).map_err(std::io::Error::other)?;
        if document["machine"] != machine {
            told += &format!("| {name} | measured on another machine: not shown | | |\n");
            continue;
        }
        let (versions, how) = (&document["run"]["versions"], &document["run"]["how"]);
        told += &format!("| {name} | {} | {} | {how} |\n", said(&versions["date"]), said(&versions["commit"]));
        all.read(&document["figures"]);
    }
    fs::write(directory.join("dataplane.md"), markdown(&all, &machine, &told))?;
    for (part, measure, file, title) in PLOTS {
        let rows: Vec<&Row> = all.rows().iter().filter(|r| r.part == part && r.measure == measure).collect();
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

fn said(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn markdown(book: &Book, machine: &Value, runs: &str) -> String {
    let mut text = String::from("# The data plane beside its peers\n\n");
    let versions = versions();
    for (key, value) in [machine, &versions].into_iter().filter_map(Value::as_object).flatten() {
        // Those are of each run.
        if key != "commit" && key != "date" {
            text += &format!("- {key}: {}\n", said(value));
        }
    }
    text += &format!("\n| part | measured | at commit | how |\n|---|---|---|---|\n{runs}");
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

/// Where it ran; one that was started again is the same.
fn machine() -> Value {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default();
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": model.trim_start_matches(['\t', ' ', ':']),
        "memory": format!("{:.0} GB", kib * 1024.0 / 1e9),
    })
}

/// With what it ran.
fn versions() -> Value {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "kernel": kernel.trim(),
        "proxy": env!("CARGO_PKG_VERSION"),
        "commit": first_line("git", &["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short", "HEAD"]),
        "kafka": super::support::kafka::Version::V4_3.number(),
        "haproxy": first_line("haproxy", &["-v"]),
        "java": first_line("java", &["--version"]),
        "date": first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
    })
}
