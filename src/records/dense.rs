//! Re-encoding of batches that a broker would not take, or not store the same, into ones that it does: holes left by
//! compaction go, append times become explicit. Keys, values, headers and timestamps stay byte-exact.

use bytes::Bytes;
use thiserror::Error;

use super::batch::Batch;
use super::compress::{Codec, deflate};
use super::header::{BatchHeader, CODEC_MASK, LOG_APPEND_TIME, Stamp};
use super::patch::restamp;
use super::record::{RecordError, RecordRef, Section, put_record};

/// Why a batch could not be re-encoded.
#[derive(Debug, Error)]
pub enum DenseError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("control batches are not data")]
    Control,
    #[error("offset delta {delta} after {previous}, with a last offset delta of {last}")]
    Order { previous: i64, delta: i32, last: i32 },
}

/// What becomes of the timestamps of a LogAppendTime batch. CreateTime batches keep theirs either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fix {
    /// The batch stays a LogAppendTime batch; only a topic of that kind stores it so, and with its own time.
    Keep,
    /// Every record gets the append time as its own timestamp, in a CreateTime batch: what consumers saw is kept on a
    /// CreateTime topic.
    MakeExplicit,
}

/// A dense batch: offset deltas 0 to `count - 1`, base offset 0, leader epoch -1, no producer, right CRC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Cluster offset of the piece's first record in the log that the source batch was read from. The records of a piece
    /// were contiguous there.
    pub first_offset: i64,
    /// Records, at least 1.
    pub count: i32,
    pub bytes: Bytes,
}

/// Splits a batch into dense ones, one per run of records with consecutive offsets, so that each piece is one run of the
/// offset map. A batch without records gives none. The codec stays, but the compressed bytes (and so the size, by a
/// little) may differ: other encoder. A batch that needs no re-encoding keeps its bytes and is only restamped.
///
/// Records below `from` (an offset of the source log) are left out.
///
/// Pieces are neither transactional nor do they have a delete horizon: the caller sends committed data only.
pub fn split_dense(batch: &Batch, fix: Fix, from: i64) -> Result<Vec<Piece>, DenseError> {
    let header = batch.header();
    if header.is_control() {
        return Err(DenseError::Control);
    }
    if header.count == 0 {
        return Ok(Vec::new());
    }
    let explicit = header.log_append_time() && fix == Fix::MakeExplicit;
    if header.is_dense() && !explicit && header.base_offset >= from {
        let bytes = restamp(batch, Stamp::NONE);
        return Ok(vec![Piece { first_offset: header.base_offset, count: header.count, bytes }]);
    }

    let section = Section::open(batch)?;
    let shape = Shape::of(header, explicit)?;
    let mut pieces = Vec::new();
    let mut run: Option<Run> = None;
    let mut previous = -1i64;
    for record in section.records() {
        let record = record?;
        let delta = record.offset_delta;
        if i64::from(delta) <= previous || delta > header.last_offset_delta {
            return Err(DenseError::Order { previous, delta, last: header.last_offset_delta });
        }
        let contiguous = i64::from(delta) == previous + 1;
        previous = i64::from(delta);
        if section.offset(&record) < from {
            continue;
        }
        // Explicit or not, what consumers see; a batch that stays LogAppendTime keeps what its producer wrote, unseen.
        let timestamp =
            if explicit { header.max_timestamp } else { header.base_timestamp.wrapping_add(record.timestamp_delta) };
        if !contiguous && let Some(done) = run.take() {
            pieces.push(done.finish(header, &shape)?);
        }
        run.get_or_insert_with(|| Run::at(delta, timestamp)).push(&record, timestamp)?;
    }
    if let Some(done) = run {
        pieces.push(done.finish(header, &shape)?);
    }
    Ok(pieces)
}

/// What all pieces of a batch share.
struct Shape {
    codec: Codec,
    attributes: i16,
    /// The maximum timestamp where it is the broker's append time and not that of a record.
    append_time: Option<i64>,
}

impl Shape {
    fn of(header: &BatchHeader, explicit: bool) -> Result<Shape, RecordError> {
        let kept = if explicit { CODEC_MASK } else { CODEC_MASK | LOG_APPEND_TIME };
        let attributes = header.attributes & kept;
        let append_time = (attributes & LOG_APPEND_TIME != 0).then_some(header.max_timestamp);
        Ok(Shape { codec: header.codec()?, attributes, append_time })
    }
}

/// Records with consecutive offsets, being written out.
struct Run {
    first_delta: i32,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    records: Vec<u8>,
}

impl Run {
    fn at(first_delta: i32, base_timestamp: i64) -> Run {
        Run { first_delta, count: 0, base_timestamp, max_timestamp: base_timestamp, records: Vec::new() }
    }

    fn push(&mut self, record: &RecordRef<'_>, timestamp: i64) -> Result<(), RecordError> {
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        put_record(&mut self.records, record.attributes, timestamp_delta, self.count, record.content)?;
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(())
    }

    fn finish(self, source: &BatchHeader, shape: &Shape) -> Result<Piece, RecordError> {
        let payload = deflate(shape.codec, &Bytes::from(self.records))?;
        let header = BatchHeader {
            base_offset: 0,
            leader_epoch: -1,
            attributes: shape.attributes,
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: shape.append_time.unwrap_or(self.max_timestamp),
            producer_id: Stamp::NONE.producer_id,
            producer_epoch: Stamp::NONE.producer_epoch,
            base_sequence: Stamp::NONE.base_sequence,
            count: self.count,
            ..*source
        };
        Ok(Piece {
            first_offset: source.base_offset.saturating_add(i64::from(self.first_delta)),
            count: self.count,
            bytes: header.encode(&payload).map_err(RecordError::from)?,
        })
    }
}

#[cfg(test)]
mod tests;
