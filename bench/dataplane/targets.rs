//! The aims of the data plane, each with how it is read out of the book.

use super::book::{Book, short};

/// One aim.
pub struct Target {
    pub measure: &'static str,
    /// What is to be reached, in words.
    pub aim: &'static str,
    value: fn(&Book) -> Option<f64>,
    limit: f64,
    /// A figure that has to be at least the limit; else at most.
    at_least: bool,
}

const CPU_GB: &str = "cpu_s_per_gb";
const CPU_REQUEST: &str = "cpu_us_per_request";
const RATE: &str = "mb_per_s";

const fn most(measure: &'static str, aim: &'static str, value: fn(&Book) -> Option<f64>, limit: f64) -> Target {
    Target { measure, aim, value, limit, at_least: false }
}

const fn least(measure: &'static str, aim: &'static str, value: fn(&Book) -> Option<f64>, limit: f64) -> Target {
    Target { measure, aim, value, limit, at_least: true }
}

fn added(b: &Book, part: &str, peer: &str, to: &str, measure: &str) -> Option<f64> {
    Some(b.median(part, peer, measure)? - b.median(part, to, measure)?)
}

fn quotient(b: &Book, part: &str, measure: &str, peer: &str, to: &str) -> Option<f64> {
    Some(b.median(part, peer, measure)? / b.median(part, to, measure)?)
}

/// In the order of the table.
pub const TARGETS: [Target; 23] = [
    most(
        "produce, no standby: CPU/GB, x HAProxy",
        "at most 0.70",
        |b| b.ratio("produce", CPU_GB, "plain", "haproxy"),
        0.70,
    ),
    most(
        "small requests: CPU/request, x HAProxy",
        "at most 0.85",
        |b| b.ratio("small", CPU_REQUEST, "plain", "haproxy"),
        0.85,
    ),
    most(
        "consume before a cutover: CPU/GB, x HAProxy",
        "at most 0.50",
        |b| b.ratio("consume", CPU_GB, "plain", "haproxy"),
        0.50,
    ),
    most(
        "consume after a cutover: CPU/GB, x HAProxy",
        "at most 0.75",
        |b| b.ratio("after", CPU_GB, "after", "haproxy"),
        0.75,
    ),
    least("produce: throughput, x HAProxy", "at least 1", |b| b.ratio("produce", RATE, "plain", "haproxy"), 1.0),
    least("small requests: throughput, x HAProxy", "at least 1", |b| b.ratio("small", RATE, "plain", "haproxy"), 1.0),
    least("consume: throughput, x HAProxy", "at least 1", |b| b.ratio("consume", RATE, "plain", "haproxy"), 1.0),
    most("latency added to p50, ms", "under 0.1", |b| added(b, "latency", "plain", "direct", "p50_ms"), 0.1),
    most("latency p99, x HAProxy's", "at most 1", |b| quotient(b, "latency", "p99_ms", "plain", "haproxy"), 1.0),
    most(
        "async copy at 20 MB/s: CPU/GB, x MM2",
        "at most 0.10",
        |b| quotient(b, "copy", CPU_GB, "async less off", "mm2"),
        0.10,
    ),
    most("catch-up: CPU/GB, x MM2", "at most 0.10", |b| b.ratio("catchup", CPU_GB, "async", "mm2"), 0.10),
    least("catch-up: MB/s, x MM2", "at least 2", |b| b.ratio("catchup", RATE, "async", "mm2"), 2.0),
    most("lag of the copy at 20 MB/s, p50 ms", "under 2.5", |b| b.median("copy", "async", "lag_p50_ms"), 2.5),
    most("lag of the copy at 20 MB/s, p99 ms", "under 30", |b| b.median("copy", "async", "lag_p99_ms"), 30.0),
    most(
        "sync: added to p99 at half load beyond the standby's own, ms",
        "at most 0.5",
        |b| Some(added(b, "sync", "sync", "off", "p99_ms")? - b.median("sync", "standby", "p99_ms")?),
        0.5,
    ),
    most(
        "memory, 100 connections and partitions, MB",
        "64",
        |b| b.median("scale", "100 connections, 100 partitions", "resident_mb"),
        64.0,
    ),
    most(
        "memory, 1,000 and 1,000, MB",
        "150",
        |b| b.median("scale", "1000 connections, 1000 partitions", "resident_mb"),
        150.0,
    ),
    most("each idle connection, KiB", "10", |b| b.median("scale", "each connection", "resident_kib"), 10.0),
    most("each idle partition, KiB", "4", |b| b.median("scale", "each partition", "resident_kib"), 4.0),
    most(
        "idle CPU, 1,000 and 1,000, % of a core",
        "under 1",
        |b| b.median("scale", "1000 connections, 1000 partitions", "idle_cpu_percent"),
        1.0,
    ),
    most(
        "reconnect storm of 2,000: connections without an answer",
        "0",
        |b| b.median("storm", "plain", "not_answered"),
        0.0,
    ),
    most(
        "p99 beside slow consumers, x alone",
        "at most 1.2",
        |b| {
            Some(
                b.median("pressure", "plain, slow consumers", "p99_ms")?
                    / b.median("pressure", "plain, alone", "p99_ms")?,
            )
        },
        1.2,
    ),
    most(
        "p99 beside a silent standby, x alone",
        "at most 1.2",
        |b| {
            Some(
                b.median("pressure", "async, silent standby", "p99_ms")?
                    / b.median("pressure", "async, alone", "p99_ms")?,
            )
        },
        1.2,
    ),
];

impl Target {
    /// The figure and whether it reaches the aim; `None` where it was not measured.
    pub fn reached(&self, book: &Book) -> Option<(f64, bool)> {
        let value = (self.value)(book).filter(|value| value.is_finite())?;
        Some((value, if self.at_least { value >= self.limit } else { value <= self.limit }))
    }
}

/// A table of what was measured.
pub fn table(book: &Book) -> String {
    let mut text = String::from("| measure | aim | here | reached |\n|---|---|---|---|\n");
    for target in &TARGETS {
        if let Some((value, reached)) = target.reached(book) {
            let word = if reached { "yes" } else { "no" };
            text += &format!("| {} | {} | {} | {word} |\n", target.measure, target.aim, short(value));
        }
    }
    text
}

// A bench is built with its unit tests' helpers, but without the tests: those run in the integration tests' binary.
#[cfg(test)]
#[allow(dead_code, unused_imports)]
mod tests {
    use super::*;

    #[test]
    fn aims_are_reached_from_the_right_side() {
        let mut book = Book::default();
        for (peer, cpu, rate) in [("haproxy", 1.0, 300.0), ("plain", 0.6, 330.0)] {
            book.note("produce", peer, CPU_GB, cpu);
            book.note("produce", peer, RATE, rate);
        }
        let text = table(&book);
        assert_eq!(text.lines().count(), 4, "only what was measured is shown: {text}");
        assert!(text.contains("CPU/GB, x HAProxy | at most 0.70 | 0.600 | yes |"), "{text}");
        assert!(text.contains("throughput, x HAProxy | at least 1 | 1.10 | yes |"), "{text}");
        book.note("latency", "direct", "p50_ms", 1.0);
        book.note("latency", "plain", "p50_ms", 1.5);
        assert!(table(&book).contains("| under 0.1 | 0.500 | no |"), "{}", table(&book));
    }

    #[test]
    fn the_copy_costs_what_it_adds() {
        let mut book = Book::default();
        book.note("copy", "async less off", CPU_GB, 1.0);
        book.note("copy", "mm2", CPU_GB, 20.0);
        assert!(table(&book).contains("| at most 0.10 | 0.050 | yes |"), "{}", table(&book));
    }
}
