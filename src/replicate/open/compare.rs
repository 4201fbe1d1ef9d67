//! Whether a copy is the active cluster's log as far as it goes: the records at a few places are looked at.

use bytes::Bytes;

use super::{Direction, Log, tail, truncation};
use crate::model::TopicPartition;
use crate::offsets::OffsetMap;
use crate::records::Section;
use crate::upstream::Cluster;

/// A copy and its source.
pub struct Copied<'a> {
    /// The standby's map, closed at the end of its copy.
    pub map: &'a OffsetMap,
    /// The standby's log up to there.
    pub log: Log,
    /// The active cluster's.
    pub source: &'a OffsetMap,
    pub source_log: Log,
    pub source_epoch: i32,
}

impl Copied<'_> {
    /// In which way the copy is not what it should be: its last record must be the active cluster's of the same logical offset,
    /// and so must the first one of the leader's epoch. Else somebody else wrote there, or a log is not what it was.
    pub async fn differs(&self, direction: &Direction, tp: &TopicPartition) -> Result<Option<String>, String> {
        let last = self.log.end - 1;
        if last < self.log.start {
            return Ok(None);
        }
        if self.agrees(direction, tp, last).await? == Some(false) {
            return Ok(Some(self.said(last)));
        }
        let next = self.source.position_in(self.map.logical_end());
        if next > self.source_log.end {
            return Ok(Some(self.said(last)));
        }
        let Some(epoch) = truncation::epoch_before(direction, tp, self.source_epoch).await? else { return Ok(None) };
        let first = self.map.position_in(self.source.position_out(epoch.end_offset));
        if epoch.end_offset > self.source_log.start
            && first < last
            && self.agrees(direction, tp, first).await? == Some(false)
        {
            return Ok(Some(self.said(first)));
        }
        Ok(None)
    }

    fn said(&self, offset: i64) -> String {
        let logical = self.map.to_logical(offset).unwrap_or(-1);
        match self.source.to_cluster(logical) {
            Some(source) if source < self.source_log.end => format!(
                "the record at the standby's offset {offset} is not the active cluster's at offset {source} (logical {logical})"
            ),
            _ => format!(
                "the standby holds a record at logical offset {logical} (its offset {offset}), beyond the end of the active \
                 cluster's log (offset {})",
                self.source_log.end
            ),
        }
    }

    /// Is the copy's record at this offset the active cluster's? `None`: one of them has it no more, or no name for it.
    pub async fn agrees(
        &self,
        direction: &Direction,
        tp: &TopicPartition,
        offset: i64,
    ) -> Result<Option<bool>, String> {
        let Some(logical) = self.map.to_logical(offset) else { return Ok(None) };
        let start = self.source_log.start;
        let Some(source) = self.source.to_cluster(logical).filter(|&s| s >= start) else { return Ok(None) };
        if source >= self.source_log.end {
            return Ok(Some(false));
        }
        let copy = record_at(&direction.standby, tp, offset).await?;
        let original = record_at(&direction.active, tp, source).await?;
        // Compaction may have taken either.
        Ok(copy.zip(original).map(|(copy, original)| copy == original))
    }
}

/// A record's content: timestamp, key, value.
type Content = (i64, Option<Bytes>, Option<Bytes>);

/// The record at exactly this cluster offset; `None` if there is none.
async fn record_at(cluster: &Cluster, tp: &TopicPartition, offset: i64) -> Result<Option<Content>, String> {
    let Some(batch) = tail::batch_at(cluster, tp, offset).await?.filter(|batch| !batch.header().is_control()) else {
        return Ok(None);
    };
    let section = Section::open(&batch).map_err(|e| e.to_string())?;
    for record in section.records() {
        let record = record.map_err(|e| e.to_string())?;
        if section.offset(&record) == offset {
            let own = |b: Option<&[u8]>| b.map(Bytes::copy_from_slice);
            return Ok(Some((section.timestamp(&record), own(record.key), own(record.value))));
        }
    }
    Ok(None)
}
