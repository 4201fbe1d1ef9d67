//! A Fetch reply translated where it lies: offsets, epochs and ids have fixed widths, so that nothing is decoded, encoded or
//! moved, however large the records are. What would have to grow or shrink is left to [`super::response`].

use std::ops::Range;

use uuid::Uuid;

use crate::rewrite::Translate;
use crate::wire::reader::{ReadError, Reader};

/// First versions of what changed in the layout (message FetchResponse).
pub(super) const SESSIONS: i16 = 7;
pub(super) const LOG_START_OFFSET: i16 = 5;
pub(super) const PREFERRED_REPLICA: i16 = 11;
pub(super) const FLEXIBLE: i16 = 12;
pub(super) const TOPIC_IDS: i16 = 13;
/// Field positions in a record batch (Kafka class DefaultRecordBatch).
pub(super) const BATCH_LENGTH: usize = 8;
const LEADER_EPOCH: usize = 12;
const MAGIC: usize = 16;
/// Bytes before those that a batch's length counts.
pub(super) const LOG_OVERHEAD: usize = 12;
const MAGIC_2: u8 = 2;

/// One partition of a reply, in the cluster's offsets.
pub struct Part<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub error: i16,
    pub high_watermark: i64,
    /// Transactions are named as aborted.
    pub aborted: bool,
    /// Where its records lie.
    pub records: Range<usize>,
}

/// Translates the body of a reply, or so much of its front as reaches into the last partition's records, if clients see those
/// as they are; `size` is that of the whole body. `false`: it needs more than new values in old places, or `may` did not agree
/// to a partition; nothing has been changed then.
pub fn patch(
    version: i16,
    body: &mut [u8],
    size: usize,
    t: &dyn Translate,
    may: impl FnMut(&Part<'_>) -> bool,
) -> bool {
    let Ok(edits) = read(version, body, size, t, may) else { return false };
    for edit in edits {
        edit.apply(body);
    }
    true
}

/// Not for this way.
struct Other;

impl From<ReadError> for Other {
    fn from(_: ReadError) -> Self {
        Other
    }
}

enum Edit {
    Offset(usize, i64),
    Epoch(usize, i32),
    TopicId(usize, Uuid),
}

impl Edit {
    fn apply(self, body: &mut [u8]) {
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = body.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        match self {
            Edit::Offset(at, value) => put(at, &value.to_be_bytes()),
            Edit::Epoch(at, value) => put(at, &value.to_be_bytes()),
            Edit::TopicId(at, id) => put(at, id.as_bytes()),
        }
    }
}

fn read(
    version: i16,
    body: &[u8],
    size: usize,
    t: &dyn Translate,
    mut may: impl FnMut(&Part<'_>) -> bool,
) -> Result<Vec<Edit>, Other> {
    let mut walk = Walk { body, reader: Reader::new(body), version, edits: Vec::new(), t };
    walk.reader.i32()?; // throttle time
    if version >= SESSIONS && (walk.reader.i16()?, walk.reader.i32()?) != (0, 0) {
        return Err(Other); // an error or a session
    }
    let topics = walk.count()?;
    for topic in 0..topics {
        let name = walk.topic()?;
        if t.hidden(&name) {
            return Err(Other);
        }
        let partitions = walk.count()?;
        for partition in 0..partitions {
            if let Some(end) = walk.partition(&name, &mut may)? {
                let last = topic + 1 == topics && partition + 1 == partitions;
                // Behind the records come the ends of three structures without tagged fields: as many zeros.
                let ends = if version >= FLEXIBLE { 3 } else { 0 };
                return if last && end.checked_add(ends) == Some(size) { Ok(walk.edits) } else { Err(Other) };
            }
        }
        walk.no_tags()?;
    }
    walk.no_tags()?; // node endpoints
    if walk.reader.position() == size { Ok(walk.edits) } else { Err(Other) }
}

struct Walk<'a> {
    body: &'a [u8],
    reader: Reader<'a>,
    version: i16,
    edits: Vec<Edit>,
    t: &'a dyn Translate,
}

impl Walk<'_> {
    /// The length of an array or of bytes; none where it is null.
    fn length(&mut self) -> Result<Option<usize>, Other> {
        Ok(match self.version >= FLEXIBLE {
            true => self.reader.uvarint()?.checked_sub(1).map(|n| n as usize),
            false => usize::try_from(self.reader.i32()?).ok(),
        })
    }

    fn count(&mut self) -> Result<usize, Other> {
        self.length()?.ok_or(Other)
    }

    fn no_tags(&mut self) -> Result<(), Other> {
        if self.version >= FLEXIBLE && self.reader.uvarint()? != 0 { Err(Other) } else { Ok(()) }
    }

    /// The topic's name; its id becomes virtual.
    fn topic(&mut self) -> Result<String, Other> {
        let at = self.reader.position();
        if self.version >= TOPIC_IDS {
            let real = Uuid::from_slice(self.reader.take(16)?).map_err(|_| Other)?;
            let id = self.t.topic_id_out(None, real);
            if id != real {
                self.edits.push(Edit::TopicId(at, id));
            }
            return self.t.topic_name(id).ok_or(Other);
        }
        let length = match self.version >= FLEXIBLE {
            true => self.count()?,
            false => usize::try_from(self.reader.i16()?).map_err(|_| Other)?,
        };
        std::str::from_utf8(self.reader.take(length)?).map(str::to_owned).map_err(|_| Other)
    }

    /// An offset, made logical; gives the cluster's.
    fn offset(&mut self, topic: &str, partition: i32) -> Result<i64, Other> {
        let at = self.reader.position();
        let real = self.reader.i64()?;
        let logical = self.t.offset_out(topic, partition, real);
        if logical != real {
            self.edits.push(Edit::Offset(at, logical));
        }
        Ok(real)
    }

    /// `Some`: its records go on behind what there is, up to there.
    fn partition(&mut self, topic: &str, may: &mut impl FnMut(&Part<'_>) -> bool) -> Result<Option<usize>, Other> {
        let (partition, error) = (self.reader.i32()?, self.reader.i16()?);
        let high_watermark = self.offset(topic, partition)?;
        self.offset(topic, partition)?; // last stable offset
        if self.version >= LOG_START_OFFSET {
            self.offset(topic, partition)?;
        }
        let aborted = self.length()?.unwrap_or(0);
        for _ in 0..aborted {
            self.reader.i64()?; // an aborted transaction's producer id
            self.offset(topic, partition)?;
            self.no_tags()?;
        }
        if self.version >= PREFERRED_REPLICA && self.reader.i32()? != -1 {
            return Err(Other);
        }
        let length = self.count()?;
        let start = self.reader.position();
        let records = start..start.checked_add(length).ok_or(Other)?;
        let aborted = aborted > 0;
        if !may(&Part { topic, partition, error, high_watermark, aborted, records: records.clone() }) {
            return Err(Other);
        }
        let stay = self.t.batches_stay(topic, partition);
        if self.reader.left() < length {
            return if stay { Ok(Some(records.end)) } else { Err(Other) };
        }
        self.reader.take(length)?;
        if !stay {
            self.batches(topic, partition, records)?;
        }
        self.no_tags().map(|()| None)
    }

    fn batches(&mut self, topic: &str, partition: i32, records: Range<usize>) -> Result<(), Other> {
        let mut at = records.start;
        while let Some(batch) = self.body.get(at..records.end).filter(|rest| rest.len() > MAGIC) {
            if batch.get(MAGIC) != Some(&MAGIC_2) {
                return Err(Other);
            }
            let base = Reader::new(batch).i64()?;
            let length = Reader::new(batch.get(BATCH_LENGTH..).unwrap_or_default()).i32()?;
            let epoch = Reader::new(batch.get(LEADER_EPOCH..).unwrap_or_default()).i32()?;
            let size = LOG_OVERHEAD + usize::try_from(length).map_err(|_| Other)?;
            if size > batch.len() {
                break; // cut short by the broker: nobody reads it
            }
            let (logical, epoch_out) = self.t.batch_out(topic, partition, base, epoch).ok_or(Other)?;
            if logical != base {
                self.edits.push(Edit::Offset(at, logical));
            }
            if epoch_out != epoch {
                self.edits.push(Edit::Epoch(at + LEADER_EPOCH, epoch_out));
            }
            at += size;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
