//! A Fetch reply made smaller while it comes: of its records only the first batches are kept, as if the client had asked for
//! less. All else stays: a reader goes on behind the records that it got.

use bytes::{BufMut, BytesMut};

use super::patch::{BATCH_LENGTH, FLEXIBLE, LOG_OVERHEAD, LOG_START_OFFSET, PREFERRED_REPLICA, SESSIONS, TOPIC_IDS};
use crate::wire::reader::{ReadError, Reader};

/// A reply of which a part has come.
pub struct Thin {
    version: i16,
    /// Bytes of records that may still be kept. The first batch is in any case, so that a reader gets on.
    room: usize,
    first: bool,
    at: At,
    /// Topics to come, and partitions of this one.
    topics: usize,
    partitions: usize,
    kept: BytesMut,
    /// Those of this partition.
    records: BytesMut,
    /// What cannot be read before there is more.
    unread: Vec<u8>,
}

/// What comes next.
#[derive(Clone, Copy)]
enum At {
    /// All in front of the topics.
    Front,
    /// A topic up to its partitions, or the end.
    Topic,
    /// A partition up to its records, or the end of the topic.
    Partition,
    PartitionEnd,
    /// So many bytes of records, a batch in front.
    Records(usize),
    /// So many that are left out.
    LeftOut(usize),
    /// What stays as it is: the end, or what cannot be read, which is for others to judge.
    Rest,
}

impl Thin {
    /// Of a reply of this version, with its header; `room`: bytes of records.
    pub fn new(version: i16, room: usize) -> Self {
        let (kept, records, unread) = (BytesMut::new(), BytesMut::new(), Vec::new());
        Thin { version, room, first: true, at: At::Front, topics: 0, partitions: 0, kept, records, unread }
    }

    /// Takes what comes next of it.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut unread = std::mem::take(&mut self.unread);
        let waited = !unread.is_empty();
        if waited {
            unread.extend_from_slice(bytes);
        }
        let all = if waited { &unread } else { bytes };
        let mut at = 0;
        while let Some(read) = self.step(all.get(at..).unwrap_or_default()) {
            at += read;
        }
        if waited {
            unread.drain(..at);
        } else {
            unread.extend_from_slice(bytes.get(at..).unwrap_or_default());
        }
        self.unread = unread;
    }

    /// The reply, when all of it has come.
    pub fn finish(mut self) -> BytesMut {
        self.kept.extend_from_slice(&self.records);
        self.kept.extend_from_slice(&self.unread);
        self.kept
    }

    /// Deals with what is in front; gives its length. `None`: there is not enough of it.
    fn step(&mut self, bytes: &[u8]) -> Option<usize> {
        match self.at {
            At::Records(left) => return self.batch(bytes, left),
            At::LeftOut(0) => {
                self.put_records();
                self.at = At::PartitionEnd;
                return Some(0);
            }
            _ if bytes.is_empty() => return None,
            At::LeftOut(left) => {
                let there = left.min(bytes.len());
                self.at = At::LeftOut(left - there);
                return Some(there);
            }
            At::Rest => {
                self.kept.extend_from_slice(bytes);
                return Some(bytes.len());
            }
            _ => {}
        }
        let mut reader = Reader::new(bytes);
        let mut keep = None;
        let next = match self.at {
            At::Front => self.front(&mut reader),
            At::Topic => self.topic(&mut reader),
            At::PartitionEnd => self.tags(&mut reader).map(|()| At::Partition),
            _ => self.partition(&mut reader, &mut keep),
        };
        match next {
            Ok(next) => {
                self.at = next;
                let read = reader.position();
                self.kept.extend_from_slice(bytes.get(..keep.unwrap_or(read)).unwrap_or_default());
                Some(read)
            }
            Err(ReadError::Truncated { .. }) => None,
            Err(ReadError::Varint) => {
                self.at = At::Rest;
                Some(0)
            }
        }
    }

    fn front(&mut self, reader: &mut Reader<'_>) -> Result<At, ReadError> {
        reader.i32()?; // correlation id
        self.tags(reader)?;
        reader.i32()?; // throttle time
        if self.version >= SESSIONS {
            reader.take(2 + 4)?; // error, session
        }
        self.topics = self.length(reader)?.unwrap_or(0);
        Ok(At::Topic)
    }

    fn topic(&mut self, reader: &mut Reader<'_>) -> Result<At, ReadError> {
        let Some(left) = self.topics.checked_sub(1) else { return Ok(At::Rest) };
        let name = match self.version {
            TOPIC_IDS.. => 16,
            FLEXIBLE.. => self.length(reader)?.unwrap_or(0),
            _ => usize::try_from(reader.i16()?).unwrap_or(0),
        };
        reader.take(name)?;
        self.partitions = self.length(reader)?.unwrap_or(0);
        self.topics = left;
        Ok(At::Partition)
    }

    /// `keep`: where the length of its records lies, which is not kept.
    fn partition(&mut self, reader: &mut Reader<'_>, keep: &mut Option<usize>) -> Result<At, ReadError> {
        let Some(left) = self.partitions.checked_sub(1) else { return self.tags(reader).map(|()| At::Topic) };
        reader.take(4 + 2 + 8 + 8)?; // index, error, high watermark, last stable offset
        if self.version >= LOG_START_OFFSET {
            reader.i64()?;
        }
        for _ in 0..self.length(reader)?.unwrap_or(0) {
            reader.take(8 + 8)?; // an aborted transaction's producer id and first offset
            self.tags(reader)?;
        }
        if self.version >= PREFERRED_REPLICA {
            reader.i32()?;
        }
        let at = reader.position();
        let length = self.length(reader)?;
        self.partitions = left;
        let Some(length) = length else { return Ok(At::PartitionEnd) };
        *keep = Some(at);
        Ok(At::Records(length))
    }

    /// Keeps the batch in front if there is room. Behind one that is left out none of its partition is kept.
    fn batch(&mut self, bytes: &[u8], left: usize) -> Option<usize> {
        let size = match bytes.get(BATCH_LENGTH..LOG_OVERHEAD) {
            _ if left < LOG_OVERHEAD => None,
            None => return None,
            Some(length) => Reader::new(length).i32().ok().and_then(|n| usize::try_from(n).ok()),
        };
        let size = size.map(|n| n.saturating_add(LOG_OVERHEAD)).filter(|&size| size <= left);
        // The broker cuts the last one short, which nobody reads.
        let Some(size) = size.filter(|&size| size <= self.room || self.first) else {
            self.at = At::LeftOut(left);
            return Some(0);
        };
        self.records.extend_from_slice(bytes.get(..size)?);
        (self.room, self.first) = (self.room.saturating_sub(size), false);
        self.at = At::Records(left - size);
        Some(size)
    }

    /// The records of a partition, with their length.
    fn put_records(&mut self) {
        let length = self.records.len();
        if self.version >= FLEXIBLE {
            let mut rest = length + 1;
            while rest > 0x7f {
                self.kept.put_u8(rest as u8 | 0x80);
                rest >>= 7;
            }
            self.kept.put_u8(rest as u8);
        } else {
            self.kept.put_i32(length as i32);
        }
        self.kept.extend_from_slice(&self.records);
        self.records.clear();
    }

    /// The length of an array or of bytes; none where it is null.
    fn length(&self, reader: &mut Reader<'_>) -> Result<Option<usize>, ReadError> {
        Ok(match self.version >= FLEXIBLE {
            true => reader.uvarint()?.checked_sub(1).map(|n| n as usize),
            false => usize::try_from(reader.i32()?).ok(),
        })
    }

    fn tags(&self, reader: &mut Reader<'_>) -> Result<(), ReadError> {
        if self.version >= FLEXIBLE { reader.skip_tags() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
