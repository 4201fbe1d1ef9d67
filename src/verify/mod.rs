//! Compares the active cluster and the standby batch by batch and fails loudly on a difference.
//!
//! `bounds` decides what of a partition is compared, `reader` reads one log, `chunk` picks the committed batches out of what
//! was read, `compare` (with `feed` and `missing`) does the comparison. Only `reader` and this file do I/O.

mod bounds;
pub mod chunk;
pub mod compare;
mod feed;
mod missing;
mod partition;
mod reader;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::Instant;

use crate::admin::types::{
    Difference, MAX_DIFFERENCES, Skipped, UtcMillis, VerifiedPartition, VerifiedTopic, VerifyReport,
};
use crate::catalog::Catalog;
use crate::config::TeeMode;
use crate::model::{ClusterIx, TopicPartition};
use crate::upstream::Cluster;
use compare::Outcome;
use partition::Task;

/// Bound for a whole run; partitions not compared by then are listed as skipped. Long enough for some hundred GB on
/// one fast link, short enough that a forgotten request ends.
const TIME_LIMIT: Duration = Duration::from_secs(600);
/// Partitions compared at a time: enough to keep both clusters busy, few enough to leave them to their clients.
const CONCURRENCY: usize = 4;

/// What to compare.
pub struct Input {
    pub active: Cluster,
    pub standby: Cluster,
    /// Which of the two clusters is the active one.
    pub active_ix: ClusterIx,
    pub catalog: Arc<Catalog>,
    /// Only this topic; `None`: all that are copied.
    pub topic: Option<String>,
}

/// One partition's result.
#[derive(Debug)]
struct Verified {
    tp: TopicPartition,
    outcome: Outcome,
    /// Why not all that should have been was compared.
    skipped: Option<String>,
}

/// Compares every partition that is copied, as far as its stream has come when its turn comes. Never fails as a whole: what
/// could not be read is listed in `skipped`, and then `equal` is false.
pub async fn verify(input: Input) -> VerifyReport {
    let (started_at, began) = (UtcMillis::now(), Instant::now());
    let tasks = tasks(&input, began + TIME_LIMIT);
    let mut verified = match &input.topic {
        Some(topic) if tasks.is_empty() => vec![not_copied(topic)],
        _ => stream::iter(tasks).map(Task::run).buffer_unordered(CONCURRENCY).collect().await,
    };
    verified.sort_by(|a: &Verified, b| a.tp.cmp(&b.tp));
    let ms = began.elapsed().as_secs_f64() * 1000.0;
    let report = assemble(started_at, ms, verified);
    if report.equal {
        tracing::info!(ms, "the clusters are equal");
    } else {
        let (differences, skipped) = (report.differences_total, report.skipped.len());
        tracing::error!(ms, differences, skipped, "the clusters are not proved equal");
    }
    report
}

fn tasks(input: &Input, deadline: Instant) -> Vec<Task> {
    let wanted = |name: &str| input.topic.as_deref().is_none_or(|topic| topic == name);
    let mut tasks = Vec::new();
    for topic in input.catalog.topics().into_iter().filter(|t| wanted(&t.name)) {
        for partition in topic.partitions().into_iter().filter(|p| p.mode() != TeeMode::Off) {
            let cuts = partition.offsets.read().cuts().len();
            tasks.push(Task {
                active: input.active.clone(),
                standby: input.standby.clone(),
                active_ix: input.active_ix,
                compacted: topic.is_compacted(),
                cuts,
                partition,
                deadline,
            });
        }
    }
    tasks
}

fn not_copied(topic: &str) -> Verified {
    let reason = "there is no such topic, or it is not copied (tee mode off)";
    // No partition: the topic as a whole.
    Verified { tp: TopicPartition::new(topic, -1), outcome: Outcome::default(), skipped: Some(reason.into()) }
}

/// Puts the partitions' results together; they are in order.
fn assemble(started_at: UtcMillis, ms: f64, verified: Vec<Verified>) -> VerifyReport {
    let mut report = VerifyReport {
        equal: true,
        started_at,
        ms,
        topics: Vec::new(),
        differences: Vec::new(),
        differences_total: 0,
        skipped: Vec::new(),
    };
    for Verified { tp, outcome, skipped } in verified {
        let topic = tp.topic.to_string();
        if let Some(reason) = skipped {
            report.skipped.push(Skipped { topic: topic.clone(), partition: tp.partition, reason });
        }
        if tp.partition < 0 {
            continue;
        }
        report.differences_total += outcome.differences;
        let room = MAX_DIFFERENCES.saturating_sub(report.differences.len());
        report.differences.extend(outcome.described.into_iter().take(room).map(|found| Difference {
            topic: topic.clone(),
            partition: tp.partition,
            logical_offset: found.logical_offset,
            what: found.what,
        }));
        let partition = VerifiedPartition {
            partition: tp.partition,
            batches: outcome.batches,
            records: outcome.records,
            fingerprints: outcome.fingerprints,
            differences: outcome.differences,
        };
        match report.topics.last_mut().filter(|t| t.topic == topic) {
            Some(last) => last.partitions.push(partition),
            None => report.topics.push(VerifiedTopic { topic, partitions: vec![partition] }),
        }
    }
    report.equal = report.differences_total == 0 && report.skipped.is_empty();
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::compare::Found;

    fn verified(topic: &str, partition: i32, differences: u64, skipped: Option<&str>) -> Verified {
        let described =
            (0..differences.min(100)).map(|o| Found { logical_offset: o as i64, what: "value differs".into() });
        let outcome =
            Outcome { batches: 2, records: 5, differences, described: described.collect(), ..Outcome::default() };
        Verified { tp: TopicPartition::new(topic, partition), outcome, skipped: skipped.map(str::to_owned) }
    }

    #[test]
    fn only_all_compared_without_difference_is_equal() {
        let rows = [
            (vec![], true),
            (vec![verified("a", 0, 0, None), verified("a", 1, 0, None)], true),
            (vec![verified("a", 0, 0, None), verified("a", 1, 1, None)], false),
            (vec![verified("a", 0, 0, Some("unreachable"))], false),
            (vec![not_copied("a")], false),
        ];
        for (verified, equal) in rows {
            let label = format!("{verified:?}");
            assert_eq!(assemble(UtcMillis(0), 1.0, verified).equal, equal, "{label}");
        }
    }

    #[test]
    fn partitions_are_grouped_and_the_list_is_capped_but_not_the_count() {
        let all = vec![verified("a", 0, 60, None), verified("a", 1, 500, None), verified("b", 0, 1, Some("slow"))];
        let report = assemble(UtcMillis(0), 1.0, all);
        let shape: Vec<_> = report.topics.iter().map(|t| (t.topic.as_str(), t.partitions.len())).collect();
        assert_eq!(shape, [("a", 2), ("b", 1)]);
        assert_eq!((report.differences.len(), report.differences_total), (MAX_DIFFERENCES, 561));
        assert_eq!(report.skipped.len(), 1);
        assert_eq!(report.topics[0].partitions[1].differences, 500);
    }

    /// The coordinator awaits this inside a boxed future.
    #[test]
    fn a_run_can_be_sent() {
        fn send<T: Send>(_: impl FnOnce(Input) -> T) {}
        send(verify);
    }
}
