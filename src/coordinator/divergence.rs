//! What failovers left behind on the clusters that they retired, as operators deal with it: shown, exported, discarded, or
//! (in `reinject`) written again.

mod reinject;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::Coordinator;
use crate::admin::ControlError;
use crate::admin::types::{
    Divergence, DivergenceRequest, DivergenceState, DivergentRange, ExportFrame, ExportQuery, Problem, UtcMillis,
};
use crate::catalog::Partition;
use crate::divergence::{ReadError, Reader, Tally};
use crate::model::ClusterIx;
use crate::offsets::Masked;
use crate::state::{DivergenceRecord, Handling, Key};
use crate::upstream::{Cluster, OffsetSpec, PerPartition};

/// For a cluster to say where its logs begin and end.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Ranges counted at a time.
const CONCURRENCY: usize = 4;
/// Parts of an export that wait for its reader: a batch is 1 MiB or so.
const EXPORT_QUEUE: usize = 8;

/// What is remembered of ranges. As many as cutovers left behind on partitions that there are.
#[derive(Default)]
pub(super) struct Divergences {
    handled: Mutex<HashMap<Key, DivergenceRecord>>,
    /// Counts of ranges that cannot grow any more, and the log start at which they were counted.
    counted: Mutex<HashMap<Key, (i64, Tally)>>,
    /// One operator's word at a time.
    one: tokio::sync::Mutex<()>,
}

impl Divergences {
    pub(super) fn restore(&self, records: Vec<(Key, DivergenceRecord)>) {
        *self.handled.lock() = records.into_iter().collect();
    }

    fn record(&self, key: &Key) -> Option<DivergenceRecord> {
        self.handled.lock().get(key).cloned()
    }
}

/// A masked range and where its cluster's log stands.
struct Range {
    partition: Arc<Partition>,
    cluster: ClusterIx,
    masked: Masked,
    key: Key,
    /// Above the range's own start where retention has taken records.
    from: i64,
    end: i64,
}

impl Range {
    fn reader(&self, cluster: &Cluster) -> Reader {
        self.reader_from(cluster, self.from)
    }

    fn reader_from(&self, cluster: &Cluster, from: i64) -> Reader {
        let crossed = self.partition.offsets.read().completed(self.cluster);
        Reader::new(cluster.clone(), self.partition.tp.clone(), from, self.end).without(crossed)
    }
}

impl Coordinator {
    pub(super) async fn divergence_now(&self, request: &DivergenceRequest) -> Divergence {
        let (ranges, unreachable) = self.ranges(request).await;
        let shown = futures_util::stream::iter(ranges.into_iter().map(|range| self.shown(range)));
        let mut ranges: Vec<_> = shown.buffered(CONCURRENCY).filter_map(async |range| range).collect().await;
        ranges.sort_by(|a, b| (&a.topic, a.partition, a.generation).cmp(&(&b.topic, b.partition, b.generation)));
        Divergence { ranges, unreachable }
    }

    /// A range that says something to an operator.
    async fn shown(&self, range: Range) -> Option<DivergentRange> {
        let found = self.tally(&range).await;
        let handled = self.divergences.record(&range.key).is_some();
        let gone = range.from > range.masked.from && !range.masked.planned && !range.masked.truncated;
        let anything = found.as_ref().map_or(true, Tally::any_records);
        (anything || handled || gone).then(|| self.describe(&range, found))
    }

    /// The ranges that there are, on clusters that can be asked.
    async fn ranges(&self, request: &DivergenceRequest) -> (Vec<Range>, Vec<String>) {
        let (mut ranges, mut unreachable) = (Vec::new(), Vec::new());
        for cluster in ClusterIx::BOTH {
            let mut found: Vec<(Arc<Partition>, Masked)> = Vec::new();
            for partition in self.catalog.partitions() {
                let masked = partition.offsets.read().masked(cluster);
                let tp = &partition.tp;
                let chosen = masked.into_iter().filter(|m| request.chooses(&tp.topic, tp.partition, m.generation));
                found.extend(chosen.map(|m| (partition.clone(), m)));
            }
            let Some(client) = self.cluster(cluster).filter(|_| !found.is_empty()) else { continue };
            let (starts, ends) = match log_bounds(client, &found).await {
                Ok(bounds) => bounds,
                Err(reason) => {
                    unreachable.push(format!("{}: {reason}", self.name(cluster)));
                    continue;
                }
            };
            for (partition, masked) in found {
                let (Some(Ok(start)), Some(Ok(end))) = (starts.get(&partition.tp), ends.get(&partition.tp)) else {
                    unreachable.push(format!("{}: {} cannot be read", self.name(cluster), partition.tp));
                    continue;
                };
                let end = masked.to.unwrap_or(*end);
                if end <= masked.from {
                    continue;
                }
                let key = Key::Divergence {
                    cluster: self.name(cluster).into(),
                    topic: partition.tp.topic.to_string(),
                    partition: partition.tp.partition,
                    generation: masked.generation,
                    from: masked.truncated.then_some(masked.from),
                };
                let from = masked.from.max(*start).min(end);
                ranges.push(Range { partition, cluster, masked, key, from, end });
            }
        }
        (ranges, unreachable)
    }

    /// Counts what is in a range, from its log.
    async fn tally(&self, range: &Range) -> Result<Tally, String> {
        if let Some(&(from, tally)) = self.divergences.counted.lock().get(&range.key)
            && from == range.from
            && range.masked.to.is_some()
        {
            return Ok(tally);
        }
        let cluster = self.cluster(range.cluster).ok_or("not configured")?;
        let mut reader = range.reader(cluster);
        let mut tally = Tally::default();
        while let Some(batches) = reader.chunk().await.map_err(|e| e.to_string())? {
            for (class, batch) in batches {
                tally.add(class, &batch, range.from).map_err(|e| e.to_string())?;
            }
        }
        // What an open transaction becomes is still to come.
        if range.masked.to.is_some() && tally.undecided == 0 {
            self.divergences.counted.lock().insert(range.key.clone(), (range.from, tally));
        }
        Ok(tally)
    }

    fn describe(&self, range: &Range, found: Result<Tally, String>) -> DivergentRange {
        let Masked { generation, planned, truncated, from, to, logical } = range.masked;
        let (tally, detail) = match found {
            Ok(tally) => (tally, None),
            Err(reason) => (Tally::default(), Some(reason)),
        };
        let record = self.divergences.record(&range.key);
        let state = record.as_ref().map_or(DivergenceState::Open, |r| match r.handling {
            Handling::Reinjecting => DivergenceState::Reinjecting,
            Handling::Reinjected => DivergenceState::Reinjected,
            Handling::Discarded => DivergenceState::Discarded,
        });
        DivergentRange {
            topic: range.partition.tp.topic.to_string(),
            partition: range.partition.tp.partition,
            cluster: self.name(range.cluster).into(),
            generation,
            bypass: planned,
            truncated,
            from_offset: from,
            to_offset: range.end,
            logical_from: logical,
            logical_to: logical.saturating_add(range.end - from),
            growing: to.is_none(),
            records: tally.records,
            aborted_records: tally.aborted,
            undecided_records: tally.undecided,
            control_batches: tally.control_batches,
            batches: tally.batches,
            bytes: tally.bytes,
            first_timestamp: tally.timestamps.map(|(first, _)| UtcMillis(first)),
            last_timestamp: tally.timestamps.map(|(_, last)| UtcMillis(last)),
            expired_offsets: u64::try_from(range.from - from).unwrap_or(0),
            state,
            handled_at: record.as_ref().map(|r| UtcMillis(r.at_ms)),
            reinjected_records: record.map_or(0, |r| r.records),
            detail,
        }
    }

    pub(super) async fn export_range(
        self: &Arc<Self>,
        query: ExportQuery,
    ) -> Result<mpsc::Receiver<Bytes>, ControlError> {
        let ExportQuery { topic, partition, generation, from_offset } = query;
        let one =
            DivergenceRequest { topic: Some(topic.clone()), partition: Some(partition), generation: Some(generation) };
        let (ranges, unreachable) = self.ranges(&one).await;
        let asked = |range: &Range| from_offset.is_none_or(|from| range.masked.from == from);
        let Some(range) = ranges.into_iter().find(asked) else {
            let missing = format!("{topic}-{partition} has no divergent range of generation {generation}");
            return Err(match unreachable.is_empty() {
                true => ControlError::NotFound(missing),
                false => ControlError::Unavailable(unreachable.join("; ")),
            });
        };
        let (parts, receiver) = mpsc::channel(EXPORT_QUEUE);
        let house = self.clone();
        tokio::spawn(async move {
            let found = house.tally(&range).await;
            if let Err(reason) = house.send_range(&range, found, &parts).await {
                tracing::warn!(partition = %range.partition.tp, reason, "an export broke off");
                let problem = Problem::from(ControlError::Unavailable(reason));
                let _ = parts.send(line(&ExportFrame::Error(problem))).await;
            }
        });
        Ok(receiver)
    }

    /// Sends a whole range; ends quietly when the reader has gone.
    async fn send_range(
        &self,
        range: &Range,
        found: Result<Tally, String>,
        parts: &mpsc::Sender<Bytes>,
    ) -> Result<(), String> {
        let tally = found?;
        let cluster = self.cluster(range.cluster).ok_or("not configured")?;
        let mut reader = range.reader(cluster);
        let (mut batches, mut bytes, mut crc32c) = (0, 0, 0);
        let send = async |frame: &ExportFrame| parts.send(line(frame)).await.is_ok();
        if !send(&ExportFrame::Range(Box::new(self.describe(range, Ok(tally))))).await {
            return Ok(());
        }
        while let Some(chunk) = reader.chunk().await.map_err(|e: ReadError| e.to_string())? {
            for (kind, batch) in chunk {
                let (base_offset, size) = (batch.header().base_offset, batch.bytes().len() as u64);
                batches += 1;
                bytes += size;
                crc32c = crc32c::crc32c_append(crc32c, batch.bytes());
                let told = send(&ExportFrame::Batch { base_offset, bytes: size, kind }).await;
                if !told || parts.send(batch.into_bytes()).await.is_err() {
                    return Ok(());
                }
            }
        }
        send(&ExportFrame::End { batches, bytes, crc32c }).await;
        Ok(())
    }

    /// Marks ranges as dealt with. What is being written again stays so.
    pub(super) async fn discard_ranges(&self, request: &DivergenceRequest) -> Result<Divergence, ControlError> {
        let _one = self.one_word()?;
        let (ranges, unreachable) = self.ranges(request).await;
        let mut shown = Divergence { ranges: Vec::new(), unreachable };
        for range in &ranges {
            let mut refused = None;
            if range.masked.to.is_none() {
                refused = Some(GROWING.to_owned());
            } else if self.divergences.record(&range.key).is_none() {
                let record = DivergenceRecord {
                    handling: Handling::Discarded,
                    at_ms: UtcMillis::now().0,
                    next: range.end,
                    sequence: 0,
                    logical: 0,
                    written_in: self.roles().map_or(0, |r| r.generation),
                    records: 0,
                };
                self.keep(&range.key, &record).await.map_err(ControlError::Unavailable)?;
            }
            let described = self.describe(range, self.tally(range).await);
            shown.ranges.push(DivergentRange { detail: refused.or(described.detail.clone()), ..described });
        }
        Ok(shown)
    }

    fn one_word(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, ControlError> {
        let busy = |_| ControlError::Busy("divergent ranges are being dealt with already".into());
        self.divergences.one.try_lock().map_err(busy)
    }

    /// Stores what was done with a range: on the active cluster for certain, on the other one soon.
    async fn keep(&self, key: &Key, record: &DivergenceRecord) -> Result<(), String> {
        let roles = self.roles().ok_or("the proxy is not ready")?;
        let entry = || vec![self.store.entry(key, record)];
        self.store.write(roles.active, entry()).await.map_err(|e| e.to_string())?;
        self.store.write_soon(roles.active.other(), entry());
        self.divergences.handled.lock().insert(key.clone(), record.clone());
        Ok(())
    }
}

const GROWING: &str = "nothing has been copied behind these records yet, so that there may be more of them: wait until the \
                       cluster has been taken as the standby";

/// First offsets and ends of logs.
async fn log_bounds(
    cluster: &Cluster,
    found: &[(Arc<Partition>, Masked)],
) -> Result<(PerPartition<i64>, PerPartition<i64>), String> {
    let mut tps: Vec<_> = found.iter().map(|(p, _)| p.tp.clone()).collect();
    tps.dedup();
    let asked = async {
        tokio::try_join!(
            cluster.list_offsets(&tps, OffsetSpec::Earliest),
            cluster.list_offsets(&tps, OffsetSpec::Latest)
        )
    };
    match tokio::time::timeout(ASK_TIMEOUT, asked).await {
        Ok(bounds) => bounds.map_err(|e| e.to_string()),
        Err(_) => Err(format!("no answer within {ASK_TIMEOUT:?}")),
    }
}

fn line(frame: &ExportFrame) -> Bytes {
    // Plain structs with string keys always serialize.
    let mut text = serde_json::to_string(frame).unwrap_or_default();
    text.push('\n');
    text.into()
}
