//! The gauges as Prometheus text, straight from a status: what the status no longer has is no longer shown.

use std::fmt::{Display, Write};

use crate::admin::types::{PartitionStatus, Status, StreamState};

/// The text of all gauges that come from the status. `per_partition`: one series of lag for each partition too.
pub fn gauges(status: &Status, ready: bool, per_partition: bool) -> String {
    let mut page = Page(String::new());
    page.one("build_info", "The program's version, as a label.", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.one("generation", "Plus one at each cutover.", &[], status.generation);
    page.one("ready", "1: clients can be served.", &[], u8::from(ready));
    page.head("active", "1 for the active cluster, 0 for the standby.");
    page.sample("active", &[("cluster", &status.active)], 1);
    if let Some(standby) = &status.standby {
        page.sample("active", &[("cluster", standby)], 0);
    }
    page.one(
        "standby_in_sync",
        "1: every sync topic is in sync; 0 also without a standby.",
        &[],
        u8::from(status.standby_in_sync),
    );
    page.one("alarms", "Things that an operator should look at; see the status.", &[], status.alarms.len());
    page.one("offset_map_runs", "Runs in all offset maps.", &[], status.offset_map_runs);
    page.one("offset_map_bytes", "Memory of all offset maps.", &[], status.offset_map_bytes);
    let around = status.partitions.iter().map(|p| p.bypass_batches).fold(0, u64::saturating_add);
    page.one("bypass_batches", "Batches that producers wrote straight to the active cluster.", &[], around);
    page.head("streams", "Partitions by what feeds their stream.");
    for state in StreamState::ALL {
        let count = status.partitions.iter().filter(|partition| partition.stream == state).count();
        page.sample("streams", &[("state", state.name())], count);
    }
    let records = status.partitions.iter().map(|p| p.lag_records).fold(0, u64::saturating_add);
    let bytes = status.partitions.iter().map(|p| p.lag_bytes).fold(0, u64::saturating_add);
    let seconds = status.partitions.iter().map(|p| p.lag_seconds).fold(0.0, f64::max);
    page.one("lag_records", "Records that the standby lacks, all partitions together.", &[], records);
    page.one("lag_bytes", "Bytes that the standby lacks, all partitions together.", &[], bytes);
    page.one("lag_seconds", "Age of the oldest record that the standby lacks.", &[], seconds);
    if per_partition {
        page.partitions(&status.partitions);
    }
    page.0
}

struct Page(String);

impl Page {
    fn partitions(&mut self, partitions: &[PartitionStatus]) {
        type Read = fn(&PartitionStatus) -> f64;
        let series: [(&str, &str, Read); 3] = [
            ("stream_lag_records", "Records that the standby lacks.", |p| p.lag_records as f64),
            ("stream_lag_bytes", "Bytes that the standby lacks.", |p| p.lag_bytes as f64),
            ("stream_lag_seconds", "Age of the oldest record that the standby lacks.", |p| p.lag_seconds),
        ];
        for (name, help, read) in series {
            self.head(name, help);
            for partition in partitions.iter().filter(|partition| partition.stream != StreamState::Off) {
                let number = partition.partition.to_string();
                self.sample(name, &[("topic", &partition.topic), ("partition", &number)], read(partition));
            }
        }
    }

    fn one(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: impl Display) {
        self.head(name, help);
        self.sample(name, labels, value);
    }

    // Writing into a String cannot fail.
    fn head(&mut self, name: &str, help: &str) {
        let _ = write!(self.0, "# HELP kafka_standby_{name} {help}\n# TYPE kafka_standby_{name} gauge\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "kafka_standby_{name}");
        for (n, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if n == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::types::tests::status;

    #[test]
    fn written_from_the_status() {
        let mut status = status();
        let text = gauges(&status, true, true);
        for line in [
            "kafka_standby_generation 0",
            "kafka_standby_ready 1",
            "kafka_standby_active{cluster=\"east\"} 1",
            "kafka_standby_active{cluster=\"west\"} 0",
            "kafka_standby_standby_in_sync 1",
            "kafka_standby_bypass_batches 0",
            "kafka_standby_streams{state=\"tee\"} 1",
            "kafka_standby_streams{state=\"diverged\"} 0",
            "kafka_standby_stream_lag_records{topic=\"t\",partition=\"0\"} 0",
            "# TYPE kafka_standby_stream_lag_seconds gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        status.partitions[0].lag_seconds = 1.5;
        status.partitions[0].topic = "a\"b".to_owned();
        let text = gauges(&status, false, true);
        assert!(text.contains("kafka_standby_stream_lag_seconds{topic=\"a\\\"b\",partition=\"0\"} 1.5\n"), "{text}");
        let text = gauges(&status, false, false);
        assert!(text.contains("kafka_standby_lag_seconds 1.5\n") && !text.contains("stream_lag"), "{text}");
        assert!(text.contains("kafka_standby_ready 0\n"));
    }
}
