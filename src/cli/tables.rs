//! Answers for people: aligned columns and short sentences. Pure text.

use std::fmt::Write;

use crate::admin::types::{
    CutoverSummary, Divergence, DivergentRange, Outcome, PartitionStatus, PhaseDone, ReloadReport, Report, Status,
    Translation, VerifyReport,
};
use crate::config::TeeMode;

/// Rows under a head, columns two spaces apart; columns that start with a number in every row are aligned right.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
    let mut lines = vec![String::new(); rows.len() + 1];
    for (column, title) in head.iter().enumerate() {
        let width = rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0).max(title.len());
        let numeric = |row: &Vec<String>| cell(row, column).starts_with(|c: char| c.is_ascii_digit() || c == '-');
        let right = rows.iter().all(numeric);
        let cells = std::iter::once((*title).to_owned()).chain(rows.iter().map(|row| cell(row, column)));
        for (line, text) in lines.iter_mut().zip(cells) {
            let gap = if column == 0 { "" } else { "  " };
            // Writing into a String cannot fail.
            let _ = if right { write!(line, "{gap}{text:>width$}") } else { write!(line, "{gap}{text:<width$}") };
        }
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn or_dash(value: Option<i64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn yes_no(value: bool) -> String {
    (if value { "yes" } else { "no" }).to_owned()
}

pub(super) fn status(status: &Status) -> String {
    let standby = status.standby.as_deref().map_or("none".to_owned(), |name| {
        format!("{name} ({})", if status.standby_in_sync { "in sync" } else { "NOT in sync" })
    });
    let mut text = format!(
        "active      {}\nstandby     {standby}\ngeneration  {}\nphase       {}\nclients     {}\n",
        status.active,
        status.generation,
        status.phase.name(),
        status.connections
    );
    if let Some(last) = &status.last_cutover {
        let CutoverSummary { kind, outcome, generation, started_at, hold_ms } = last;
        let (kind, outcome) = (kind.name(), shown(*outcome));
        let _ =
            writeln!(text, "last        {kind} {outcome}, generation {generation}, {started_at}, held {hold_ms:.1} ms");
    }
    if let Some(last) = &status.last_verify {
        let found = if last.equal { "equal".to_owned() } else { format!("{} differences", last.differences_total) };
        let _ = writeln!(text, "verified    {found}, {}", last.at);
    }
    for alarm in &status.alarms {
        let _ = writeln!(text, "ALARM       {alarm}");
    }
    if !status.partitions.is_empty() {
        let head =
            ["TOPIC", "PART", "MODE", "STREAM", "SYNC", "LOGICAL", "ACTIVE", "STANDBY", "LAG", "BYTES", "SECONDS"];
        let rows: Vec<_> = status.partitions.iter().map(partition_row).collect();
        let _ = write!(text, "\n{}", table(&head, &rows));
    }
    for partition in &status.partitions {
        if let Some(detail) = &partition.detail {
            let _ = writeln!(text, "{}-{}: {detail}", partition.topic, partition.partition);
        }
    }
    text
}

fn partition_row(partition: &PartitionStatus) -> Vec<String> {
    let mode = match partition.mode {
        TeeMode::Sync => "sync",
        TeeMode::Async => "async",
        TeeMode::Off => "off",
    };
    vec![
        partition.topic.clone(),
        partition.partition.to_string(),
        mode.to_owned(),
        partition.stream.name().to_owned(),
        yes_no(partition.in_sync),
        partition.logical_end.to_string(),
        partition.active_end.to_string(),
        or_dash(partition.standby_end),
        partition.lag_records.to_string(),
        partition.lag_bytes.to_string(),
        format!("{:.1}", partition.lag_seconds),
    ]
}

fn shown(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Refused => "refused",
        Outcome::RolledBack => "rolled back",
    }
}

pub(super) fn phase(phase: &PhaseDone) -> String {
    format!("{:<10} {:>9.1} ms\n", phase.name.name(), phase.ms)
}

pub(super) fn report(report: &Report) -> String {
    let (kind, outcome) = (report.kind.name(), shown(report.outcome));
    let dry = if report.dry_run { " (dry run: nothing was changed)" } else { "" };
    let mut text = format!(
        "{kind} {} -> {}: {outcome}{dry}\ngeneration {}, {}, requests held {:.1} ms\n",
        report.from, report.to, report.generation, report.started_at, report.hold_ms
    );
    for reason in &report.reasons {
        let _ = writeln!(text, "because: {reason}");
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    report.phases.iter().for_each(|done| text.push_str(&phase(done)));
    let records: u64 = report.lost.iter().map(|range| range.records).fold(0, u64::saturating_add);
    let verb = if report.dry_run { "would be lost" } else { "lost" };
    let _ = writeln!(text, "\nacknowledged records {verb}: {records}");
    if !report.lost.is_empty() {
        let row = |range: &crate::admin::types::LostRange| {
            let numbers = [i64::from(range.partition), range.logical_from, range.logical_to];
            let mut row = vec![range.topic.clone()];
            row.extend(numbers.map(|number| number.to_string()));
            row.push(range.records.to_string());
            row
        };
        let rows: Vec<_> = report.lost.iter().map(row).collect();
        text.push_str(&table(&["TOPIC", "PART", "FROM", "UP TO", "RECORDS"], &rows));
    }
    if !report.partitions.is_empty() {
        let row = |end: &crate::admin::types::PartitionEnd| {
            let (partition, logical) = (end.partition.to_string(), end.logical_end.to_string());
            vec![end.topic.clone(), partition, logical, or_dash(end.from_end), or_dash(end.to_end)]
        };
        let rows: Vec<_> = report.partitions.iter().map(row).collect();
        let head = ["TOPIC", "PART", "LOGICAL END", &report.from.to_uppercase(), &report.to.to_uppercase()];
        let _ = write!(text, "\n{}", table(&head, &rows));
    }
    text
}

pub(super) fn reports(reports: &[Report]) -> String {
    if reports.is_empty() {
        return "no cutover yet\n".to_owned();
    }
    let row = |report: &Report| {
        let lost: u64 = report.lost.iter().map(|range| range.records).fold(0, u64::saturating_add);
        vec![
            report.generation.to_string(),
            report.kind.name().to_owned(),
            shown(report.outcome).to_owned(),
            report.from.clone(),
            report.to.clone(),
            report.started_at.to_string(),
            format!("{:.1}", report.hold_ms),
            lost.to_string(),
        ]
    };
    let rows: Vec<_> = reports.iter().map(row).collect();
    table(&["GENERATION", "KIND", "OUTCOME", "FROM", "TO", "STARTED", "HELD MS", "LOST"], &rows)
}

pub(super) fn verify(report: &VerifyReport) -> String {
    let mut rows = Vec::new();
    for topic in &report.topics {
        for found in &topic.partitions {
            let numbers = [found.batches, found.fingerprints, found.records, found.differences];
            let mut row = vec![topic.topic.clone(), found.partition.to_string()];
            row.extend(numbers.map(|number| number.to_string()));
            rows.push(row);
        }
    }
    let mut text = table(&["TOPIC", "PART", "BATCHES", "BY CHECKSUM", "RECORDS", "DIFFERENCES"], &rows);
    text.push('\n');
    for found in &report.differences {
        let _ = writeln!(text, "{}-{} at {}: {}", found.topic, found.partition, found.logical_offset, found.what);
    }
    let listed = u64::try_from(report.differences.len()).unwrap_or(u64::MAX);
    if report.differences_total > listed {
        let _ = writeln!(text, "... and {} more", report.differences_total - listed);
    }
    for skipped in &report.skipped {
        let _ = writeln!(text, "{}-{} NOT compared: {}", skipped.topic, skipped.partition, skipped.reason);
    }
    let verdict = if report.equal { "equal" } else { "NOT EQUAL" };
    let _ = writeln!(text, "{verdict}: {} differences, {:.1} ms", report.differences_total, report.ms);
    text
}

pub(super) fn translation(found: &Translation) -> String {
    let mut rows = vec![vec!["clients".to_owned(), or_dash(found.logical_offset)]];
    rows.extend(found.cluster_offsets.iter().map(|(name, offset)| vec![name.clone(), or_dash(*offset)]));
    let mut text = table(&["SEEN BY", "OFFSET"], &rows);
    if let Some(detail) = &found.detail {
        let _ = writeln!(text, "{detail}");
    }
    text
}

pub(super) fn divergence(found: &Divergence) -> String {
    let mut text = String::new();
    if found.ranges.is_empty() {
        text.push_str("no divergent records\n");
    } else {
        let rows: Vec<_> = found.ranges.iter().map(divergence_row).collect();
        let head = [
            "TOPIC",
            "PART",
            "CLUSTER",
            "GENERATION",
            "FROM",
            "UP TO",
            "SEEN AS",
            "RECORDS",
            "ABORTED",
            "BYTES",
            "STATE",
        ];
        text = table(&head, &rows);
    }
    for range in &found.ranges {
        let name = format!("{}-{}", range.topic, range.partition);
        if range.bypass {
            let _ = writeln!(text, "{name}: written to {} after it was retired by a switchover", range.cluster);
        }
        if range.truncated {
            let _ = writeln!(text, "{name}: the active cluster has lost these; {} has the copies", range.cluster);
        }
        if range.undecided_records > 0 {
            let _ = writeln!(text, "{name}: {} records behind an open transaction", range.undecided_records);
        }
        if range.expired_offsets > 0 {
            let _ = writeln!(text, "{name}: retention has taken {} offsets of it", range.expired_offsets);
        }
        if let Some(detail) = &range.detail {
            let _ = writeln!(text, "{name}: {detail}");
        }
    }
    for reason in &found.unreachable {
        let _ = writeln!(text, "NOT ASKED: {reason}");
    }
    text
}

fn divergence_row(range: &DivergentRange) -> Vec<String> {
    vec![
        range.topic.clone(),
        range.partition.to_string(),
        range.cluster.clone(),
        range.generation.to_string(),
        range.from_offset.to_string(),
        range.to_offset.to_string(),
        range.logical_from.to_string(),
        range.records.to_string(),
        range.aborted_records.to_string(),
        range.bytes.to_string(),
        range.state.name().to_owned(),
    ]
}

pub(super) fn reload(report: &ReloadReport) -> String {
    let list = |keys: &[String]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
    format!("changed        {}\nneeds restart  {}\n", list(&report.changed), list(&report.needs_restart))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::types::tests as samples;

    #[test]
    fn columns() {
        let rows = vec![vec!["a".to_owned(), "7".to_owned()], vec!["longer".to_owned(), "-".to_owned()]];
        assert_eq!(table(&["TOPIC", "LAG"], &rows), "TOPIC   LAG\na         7\nlonger    -\n");
    }

    #[test]
    fn status_page() {
        let mut sample = samples::status();
        sample.alarms = vec!["look".to_owned()];
        let page = status(&sample);
        assert_eq!(
            page,
            "active      east\nstandby     west (in sync)\ngeneration  0\nphase       steady\nclients     12\n\
             ALARM       look\n\n\
             TOPIC  PART  MODE  STREAM  SYNC  LOGICAL  ACTIVE  STANDBY  LAG  BYTES  SECONDS\n\
             t         0  sync  tee     yes        42      42       42    0      0      0.0\n"
        );
    }

    #[test]
    fn report_page() {
        let page = report(&samples::report());
        assert!(page.starts_with("switchover east -> west: done\ngeneration 1, 2026-01-01T00:00:00.000Z,"), "{page}");
        assert!(
            page.contains("acknowledged records lost: 2\nTOPIC  PART  FROM  UP TO  RECORDS\nt         0    40"),
            "{page}"
        );
        assert!(page.contains("TOPIC  PART  LOGICAL END  EAST  WEST\n"), "{page}");
        assert!(reports(&[samples::report()]).contains("1  switchover  done     east  west"));
    }

    #[test]
    fn verify_page() {
        let mut sample = samples::verify_report();
        sample.differences_total = 3;
        let page = verify(&sample);
        assert!(
            page.ends_with("t-0 at 7: the value differs\n... and 2 more\nNOT EQUAL: 3 differences, 5.5 ms\n"),
            "{page}"
        );
    }
}
