//! Produce requests and replies read where they lie, without the codec: what is asked of nearly all of them is a look at the
//! front of each batch, and numbers of fixed width in the reply. What needs more is left to [`super::request`] and
//! [`super::response`].

use std::ops::Range;

use uuid::Uuid;

use crate::wire::reader::{ReadError, Reader};

/// First versions of what changed in the layouts (messages ProduceRequest and ProduceResponse).
const LOG_START_OFFSET: i16 = 5;
const RECORD_ERRORS: i16 = 8;
const FLEXIBLE: i16 = 9;
const TOPIC_IDS: i16 = 13;
/// What is known here.
const VERSIONS: std::ops::RangeInclusive<i16> = 3..=13;

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent<'a> {
    pub acks: i16,
    pub transactional: bool,
    pub parts: Vec<SentPart<'a>>,
}

/// One partition of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct SentPart<'a> {
    /// The topic's name up to version 12, its id from 13 on; the other one is empty.
    pub topic: &'a str,
    pub id: Uuid,
    pub index: i32,
    /// Where its records lie in the body.
    pub records: Range<usize>,
}

/// Reads the body of a request, or as much of its front as reaches into the last partition's records; `size` is that of the
/// whole body. `None`: not for this way, or not well-formed.
pub fn sent(version: i16, front: &[u8], size: usize) -> Option<Sent<'_>> {
    if !VERSIONS.contains(&version) {
        return None;
    }
    let mut walk = Walk { reader: Reader::new(front), version };
    let transactional = walk.nullable_text().ok()?.is_some();
    let acks = walk.reader.i16().ok()?;
    walk.reader.i32().ok()?; // timeout
    let mut parts = Vec::new();
    let topics = walk.count().ok()?;
    for topic in 0..topics {
        let (name, id, _) = walk.topic().ok()?;
        let partitions = walk.count().ok()?;
        for partition in 0..partitions {
            let index = walk.reader.i32().ok()?;
            let length = walk.count().ok()?;
            let start = walk.reader.position();
            let records = start..start.checked_add(length)?;
            parts.push(SentPart { topic: name, id, index, records: records.clone() });
            if walk.reader.left() < length {
                let last = topic + 1 == topics && partition + 1 == partitions;
                // Behind the records come the ends of three structures without tagged fields: as many zeros.
                let ends = if version >= FLEXIBLE { 3 } else { 0 };
                return (last && records.end.checked_add(ends) == Some(size)).then_some(Sent {
                    acks,
                    transactional,
                    parts,
                });
            }
            walk.reader.take(length).ok()?;
            walk.no_tags().ok()?;
        }
        walk.no_tags().ok()?;
    }
    walk.no_tags().ok()?;
    (walk.reader.position() == size).then_some(Sent { acks, transactional, parts })
}

/// One partition of a reply that says: stored. In the cluster's offsets until they are changed here and [`put`] back.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Stored {
    /// Where the topic's name lies up to version 12; its id from 13 on.
    name: Range<usize>,
    pub id: Uuid,
    pub index: i32,
    pub base_offset: i64,
    pub log_append_time_ms: i64,
    /// -1 in versions that do not have it.
    pub log_start_offset: i64,
    /// Where the base offset lies.
    at: usize,
}

impl Stored {
    /// The topic's name; empty from version 13 on.
    pub fn name<'a>(&self, body: &'a [u8]) -> &'a [u8] {
        body.get(self.name.clone()).unwrap_or_default()
    }
}

/// Reads the body of a reply. `None`: some partition was not stored, or has something to say beyond that.
pub fn stored(version: i16, body: &[u8]) -> Option<Vec<Stored>> {
    if !VERSIONS.contains(&version) {
        return None;
    }
    let mut walk = Walk { reader: Reader::new(body), version };
    let mut rows = Vec::new();
    for _ in 0..walk.count().ok()? {
        let (_, id, name) = walk.topic().ok()?;
        for _ in 0..walk.count().ok()? {
            rows.push(walk.stored(id, name.clone()).ok()?);
        }
        walk.no_tags().ok()?;
    }
    walk.reader.i32().ok()?; // throttle time
    walk.no_tags().ok()?; // node endpoints
    (walk.reader.left() == 0).then_some(rows)
}

/// Writes what may have been changed of `rows` to where they were read.
pub fn put(version: i16, body: &mut [u8], rows: &[Stored]) {
    let mut write = |at: usize, bytes: &[u8]| {
        if let Some(place) = body.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    for row in rows {
        if version >= TOPIC_IDS {
            write(row.name.start, row.id.as_bytes());
        }
        write(row.at, &row.base_offset.to_be_bytes());
        if version >= LOG_START_OFFSET {
            write(row.at + 16, &row.log_start_offset.to_be_bytes());
        }
    }
}

/// Not for this way.
struct Other;

impl From<ReadError> for Other {
    fn from(_: ReadError) -> Self {
        Other
    }
}

struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
}

impl<'a> Walk<'a> {
    /// The length of an array, or of bytes.
    fn count(&mut self) -> Result<usize, Other> {
        let count = match self.version >= FLEXIBLE {
            true => self.reader.uvarint()?.checked_sub(1).map(|n| n as usize),
            false => usize::try_from(self.reader.i32()?).ok(),
        };
        count.ok_or(Other)
    }

    fn no_tags(&mut self) -> Result<(), Other> {
        if self.version >= FLEXIBLE && self.reader.uvarint()? != 0 { Err(Other) } else { Ok(()) }
    }

    fn nullable_text(&mut self) -> Result<Option<&'a str>, Other> {
        let length = match self.version >= FLEXIBLE {
            true => self.reader.uvarint()?.checked_sub(1).map(|n| n as usize),
            false => match self.reader.i16()? {
                -1 => None,
                length => Some(usize::try_from(length).map_err(|_| Other)?),
            },
        };
        let Some(length) = length else { return Ok(None) };
        std::str::from_utf8(self.reader.take(length)?).map(Some).map_err(|_| Other)
    }

    /// A topic's name or id, and where it lies.
    fn topic(&mut self) -> Result<(&'a str, Uuid, Range<usize>), Other> {
        if self.version >= TOPIC_IDS {
            let start = self.reader.position();
            let id = Uuid::from_slice(self.reader.take(16)?).map_err(|_| Other)?;
            return Ok(("", id, start..start));
        }
        let name = self.nullable_text()?.ok_or(Other)?;
        let end = self.reader.position();
        Ok((name, Uuid::nil(), end - name.len()..end))
    }

    fn stored(&mut self, id: Uuid, name: Range<usize>) -> Result<Stored, Other> {
        let (index, error) = (self.reader.i32()?, self.reader.i16()?);
        let at = self.reader.position();
        let (base_offset, log_append_time_ms) = (self.reader.i64()?, self.reader.i64()?);
        let log_start_offset = if self.version >= LOG_START_OFFSET { self.reader.i64()? } else { -1 };
        let errors = if self.version >= RECORD_ERRORS { self.count()? } else { 0 };
        let text = if self.version >= RECORD_ERRORS { self.nullable_text()? } else { None };
        self.no_tags()?;
        if error != 0 || base_offset < 0 || errors != 0 || text.is_some() {
            return Err(Other);
        }
        Ok(Stored { name, id, index, base_offset, log_append_time_ms, log_start_offset, at })
    }
}

#[cfg(test)]
mod tests;
