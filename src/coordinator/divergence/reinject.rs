//! Writes the records of masked ranges again, as new records of the active cluster, each exactly once whoever dies when:
//! the range's own producer id and sequence numbers tell in the log itself how far an earlier attempt came.

use std::sync::Arc;
use std::time::Duration;

use super::super::Coordinator;
use super::{GROWING, Range};
use crate::admin::ControlError;
use crate::admin::types::{Divergence, DivergenceRequest, DivergentRange, UtcMillis};
use crate::divergence::again::{self, Piece};
use crate::divergence::{Class, Reader};
use crate::model::ClusterIx;
use crate::proxy::{InjectError, inject};
use crate::state::{DivergenceRecord, Handling, Key};
use crate::upstream::OffsetSpec;

/// Batches written between two notes of the place to go on from: what lies between is found in the log.
const NOTE_EVERY: usize = 64;
/// Attempts at a range, and at one batch that is refused for the moment, and the pause between them.
const ATTEMPTS: u32 = 5;
const RETRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(200);
/// Kafka error codes (class Errors) after which the same batch may be stored a moment later: leaders that move, replicas that
/// are missing, a standby that a `sync` topic waits for.
const FOR_THE_MOMENT: [i16; 7] = [3, 5, 6, 7, 13, 19, 20];

/// Why a range was not written to its end.
enum Broken {
    /// Look again how far it came.
    Again(String),
    /// The operator must do something about it.
    Refused(String),
}

impl Coordinator {
    pub(in super::super) async fn reinject_ranges(
        self: &Arc<Self>,
        request: &DivergenceRequest,
    ) -> Result<Divergence, ControlError> {
        let _one = self.one_word()?;
        if self.gate.view().is_none() {
            return Err(ControlError::Unavailable("no clients are served at the moment".into()));
        }
        let (ranges, unreachable) = self.ranges(request).await;
        let mut shown = Divergence { ranges: Vec::new(), unreachable };
        for range in &ranges {
            let done = self.divergences.record(&range.key).is_some_and(|r| r.handling != Handling::Reinjecting);
            let refused = if done { None } else { self.reinject_range(range).await.err() };
            if let Some(reason) = &refused {
                tracing::error!(partition = %range.partition.tp, reason, "a divergent range was not written again");
            }
            let described = self.describe(range, self.tally(range).await);
            shown.ranges.push(DivergentRange { detail: refused.or(described.detail.clone()), ..described });
        }
        Ok(shown)
    }

    async fn reinject_range(&self, range: &Range) -> Result<(), String> {
        if range.masked.to.is_none() {
            return Err(GROWING.into());
        }
        let tally = self.tally(range).await?;
        if tally.undecided > 0 {
            return Err("a transaction is still open among these records: it must be committed or aborted first".into());
        }
        let (mut record, mut fresh) = match self.divergences.record(&range.key) {
            Some(record) => (record, false),
            None => (self.nothing_stored(range).await?, true),
        };
        self.keep(&range.key, &record).await?;
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            match self.write_again(range, &mut record, fresh).await {
                Ok(()) => {
                    record.handling = Handling::Reinjected;
                    record.at_ms = UtcMillis::now().0;
                    tracing::info!(partition = %range.partition.tp, records = record.records, "a divergent range was written again");
                    return self.keep(&range.key, &record).await;
                }
                Err(Broken::Refused(reason)) => return Err(reason),
                Err(Broken::Again(reason)) => {
                    tracing::warn!(partition = %range.partition.tp, reason, "writing a divergent range again was interrupted");
                    last = reason;
                }
            }
            fresh = false;
            tokio::time::sleep(PAUSE).await;
        }
        Err(last)
    }

    /// Nothing of the range is stored yet; what will be is at or above the log's end now.
    async fn nothing_stored(&self, range: &Range) -> Result<DivergenceRecord, String> {
        let roles = self.roles().ok_or("the proxy is not ready")?;
        let end = self.end_of(range, roles.active).await?;
        Ok(DivergenceRecord {
            handling: Handling::Reinjecting,
            at_ms: UtcMillis::now().0,
            next: range.from,
            sequence: 0,
            logical: range.partition.offsets.read().map(roles.active).position_out(end),
            written_in: roles.generation,
            records: 0,
        })
    }

    /// Where a cluster's log ends.
    async fn end_of(&self, range: &Range, cluster: ClusterIx) -> Result<i64, String> {
        let client = self.cluster(cluster).ok_or("not configured")?;
        let tps = std::slice::from_ref(&range.partition.tp);
        let mut ends = client.list_offsets(tps, OffsetSpec::Latest).await.map_err(|e| e.to_string())?;
        match ends.remove(&range.partition.tp) {
            Some(Ok(end)) => Ok(end),
            Some(Err(code)) => Err(format!("{}: Kafka error {code}", range.partition.tp)),
            None => Err("no answer for the partition".into()),
        }
    }

    async fn write_again(&self, range: &Range, record: &mut DivergenceRecord, fresh: bool) -> Result<(), Broken> {
        let Key::Divergence { cluster, topic, partition, generation, from } = &range.key else { return Ok(()) };
        let producer_id = again::producer_id(cluster, topic, *partition, (*generation, *from));
        let mut skip = if fresh { 0 } else { self.stored(range, record, producer_id).await.map_err(Broken::Again)? };
        record.records += skip;
        record.sequence = again::advanced(record.sequence, skip);
        let client = self.cluster(range.cluster).ok_or_else(|| Broken::Refused("not configured".into()))?;
        let start = record.next.max(range.from);
        let mut reader = range.reader_from(client, start);
        let mut written = 0;
        while let Some(batches) = reader.chunk().await.map_err(|e| Broken::Again(e.to_string()))? {
            for (_, batch) in batches.into_iter().filter(|(class, _)| *class == Class::Data) {
                let found = again::pieces(&batch, start, producer_id, record.sequence, skip);
                let (pieces, left) = found.map_err(|e| Broken::Refused(e.to_string()))?;
                skip = left;
                for piece in pieces {
                    self.write_piece(range, record, &piece).await?;
                    written += 1;
                    if written % NOTE_EVERY == 0 {
                        self.keep(&range.key, record).await.map_err(Broken::Again)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes one batch, and moves on behind it when it is acknowledged as a client's batch would be.
    async fn write_piece(&self, range: &Range, record: &mut DivergenceRecord, piece: &Piece) -> Result<(), Broken> {
        let mut left = RETRIES;
        let base = loop {
            match inject(self.context(), &range.partition.tp, piece.bytes.clone()).await {
                Ok(base) => break base,
                Err(InjectError::Refused { code, .. }) if FOR_THE_MOMENT.contains(&code) && left > 0 => left -= 1,
                Err(error @ InjectError::Refused { .. }) => return Err(Broken::Refused(error.to_string())),
                Err(InjectError::Unknown(reason)) => return Err(Broken::Again(reason)),
            }
            tokio::time::sleep(PAUSE).await;
        };
        record.next = piece.next;
        record.sequence = again::advanced(record.sequence, piece.records);
        record.logical = base;
        record.records += piece.records;
        let generation = self.roles().map_or(record.written_in, |r| r.generation);
        if std::mem::replace(&mut record.written_in, generation) != generation {
            // From here on the log to look into is another cluster's.
            self.keep(&range.key, record).await.map_err(Broken::Again)?;
        }
        Ok(())
    }

    /// How many records behind the noted place are stored already. Every batch was written to the cluster that was active
    /// then, under the range's id; a copy of it may carry the stream's. So after a cutover both clusters' logs are read, with
    /// what a failover left behind in them: that is part of a younger range, with which it will be dealt.
    async fn stored(&self, range: &Range, record: &DivergenceRecord, producer_id: i64) -> Result<u64, String> {
        let roles = self.roles().ok_or("the proxy is not ready")?;
        let other = (roles.generation != record.written_in).then_some(roles.active.other());
        let mut most = 0;
        for cluster in [roles.active].into_iter().chain(other) {
            let end = self.end_of(range, cluster).await?;
            let from = range.partition.offsets.read().map(cluster).position_behind(record.logical);
            let client = self.cluster(cluster).ok_or("not configured")?;
            let mut reader = Reader::new(client.clone(), range.partition.tp.clone(), from, end);
            while let Some(batches) = reader.chunk().await.map_err(|e| e.to_string())? {
                let beyond = batches
                    .iter()
                    .filter_map(|(_, batch)| again::stored_beyond(batch.header(), producer_id, record.sequence));
                most = beyond.fold(most, u64::max);
            }
        }
        Ok(most)
    }
}
