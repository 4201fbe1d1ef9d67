//! The 61-byte header of a record batch: read, checked, written (KIP-98; Kafka class `DefaultRecordBatch`).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::compress::{Codec, CompressError};

/// Bytes of a batch before its record section.
pub const HEADER_BYTES: usize = 61;
/// Base offset and length: what the length field does not count.
pub const LOG_OVERHEAD: usize = 12;

/// Byte positions inside a batch.
pub(super) mod at {
    pub const LENGTH: usize = 8;
    pub const LEADER_EPOCH: usize = 12;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    /// From here to the end of the batch the CRC-32C is taken.
    pub const ATTRIBUTES: usize = 21;
    pub const PRODUCER_ID: usize = 43;
    pub const COUNT: usize = 57;
}

const MAGIC_V2: i8 = 2;
pub(super) const CODEC_MASK: i16 = 0x07;
pub(super) const LOG_APPEND_TIME: i16 = 0x08;
pub(super) const TRANSACTIONAL: i16 = 0x10;
pub(super) const CONTROL: i16 = 0x20;

/// Why bytes are not a record batch that can be worked on.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    #[error("message format v{0}: only v2 record batches are supported")]
    OldMagic(i8),
    #[error("unknown message format v{0}")]
    UnknownMagic(i8),
    #[error("batch length {0} is smaller than a batch header")]
    Length(i32),
    #[error("batch is cut short: {have} of {need} bytes")]
    Short { have: usize, need: usize },
    #[error("{0} bytes behind the batch")]
    Trailing(usize),
    #[error("last offset delta {0} is negative")]
    LastOffsetDelta(i32),
    #[error("record count {0} is negative")]
    Count(i32),
    #[error("batch of {0} bytes is larger than its length field can say")]
    TooLarge(usize),
}

/// Who wrote a batch, for the brokers' duplicate detection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// Sequence of the batch's first record; wraps from int32 max to 0.
    pub base_sequence: i32,
}

impl Stamp {
    /// No producer: no duplicate detection.
    pub const NONE: Stamp = Stamp { producer_id: -1, producer_epoch: -1, base_sequence: -1 };
}

/// All fields of a batch header, as stored. Timestamps are milliseconds since the epoch, -1 for none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes behind this field: the whole batch is 12 bytes more.
    pub length: i32,
    pub leader_epoch: i32,
    /// CRC-32C from the attributes to the end of the batch.
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    /// Record timestamps are deltas to this, also where the delete-horizon bit (6) lets the field hold the horizon.
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    /// Records that are there; fewer than `last_offset_delta + 1` after compaction.
    pub count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which may be longer or shorter than the batch.
    ///
    /// Refused: fewer than 61 bytes, another magic than 2, a length below the header's, a negative last offset delta or
    /// count. The record section is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        check_magic(bytes)?;
        let Some(mut buf) = bytes.get(..HEADER_BYTES) else {
            return Err(BatchError::Short { have: bytes.len(), need: HEADER_BYTES });
        };
        // The getters cannot run short: the fields below are the 61 bytes.
        let base_offset = buf.get_i64();
        let length = buf.get_i32();
        let leader_epoch = buf.get_i32();
        let _magic = buf.get_i8();
        let header = BatchHeader {
            base_offset,
            length,
            leader_epoch,
            crc: buf.get_u32(),
            attributes: buf.get_i16(),
            last_offset_delta: buf.get_i32(),
            base_timestamp: buf.get_i64(),
            max_timestamp: buf.get_i64(),
            producer_id: buf.get_i64(),
            producer_epoch: buf.get_i16(),
            base_sequence: buf.get_i32(),
            count: buf.get_i32(),
        };
        batch_size(length)?;
        if header.last_offset_delta < 0 {
            return Err(BatchError::LastOffsetDelta(header.last_offset_delta));
        }
        if header.count < 0 {
            return Err(BatchError::Count(header.count));
        }
        Ok(header)
    }

    /// Writes a batch: this header before `payload` (the record section, already compressed as the attributes say).
    /// Length and CRC are computed, the fields of the same name are not looked at.
    pub fn encode(&self, payload: &[u8]) -> Result<Bytes, BatchError> {
        let size = HEADER_BYTES + payload.len();
        let length = i32::try_from(size - LOG_OVERHEAD).map_err(|_| BatchError::TooLarge(size))?;
        let mut out = BytesMut::with_capacity(size);
        out.put_i64(self.base_offset);
        out.put_i32(length);
        out.put_i32(self.leader_epoch);
        out.put_i8(MAGIC_V2);
        out.put_u32(0);
        out.put_i16(self.attributes);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(self.producer_id);
        out.put_i16(self.producer_epoch);
        out.put_i32(self.base_sequence);
        out.put_i32(self.count);
        out.put_slice(payload);
        fix_crc(&mut out);
        Ok(out.freeze())
    }

    /// Bytes of the whole batch, header included.
    pub fn size(&self) -> usize {
        LOG_OVERHEAD + usize::try_from(self.length).unwrap_or(0)
    }

    /// Compression of the record section; an error for the unassigned codecs 5 to 7.
    pub fn codec(&self) -> Result<Codec, CompressError> {
        Codec::from_id((self.attributes & CODEC_MASK) as u8)
    }

    /// Holds a marker of the brokers (transaction end and the like), no data.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Every record's timestamp is `max_timestamp`, whatever its delta says.
    pub fn log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Offset of the last record, or of the place where it was before compaction.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Where the next batch may start.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// No offset of the batch is missing: what a broker asks of a produced batch.
    pub fn is_dense(&self) -> bool {
        i64::from(self.last_offset_delta) + 1 == i64::from(self.count)
    }

    /// Sequence of the last record: the base plus the last offset delta, wrapping from int32 max to 0; -1 without one.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// The producer fields.
    pub fn stamp(&self) -> Stamp {
        Stamp { producer_id: self.producer_id, producer_epoch: self.producer_epoch, base_sequence: self.base_sequence }
    }
}

/// Size in bytes of a batch whose length field is `length`.
pub(super) fn batch_size(length: i32) -> Result<usize, BatchError> {
    match usize::try_from(length) {
        Ok(length_bytes) if length_bytes >= HEADER_BYTES - LOG_OVERHEAD => Ok(LOG_OVERHEAD + length_bytes),
        _ => Err(BatchError::Length(length)),
    }
}

/// The magic sits at the same place in all formats; where it cannot be read yet, that is no error.
pub(super) fn check_magic(bytes: &[u8]) -> Result<(), BatchError> {
    match bytes.get(at::MAGIC).map(|&b| b as i8) {
        None | Some(MAGIC_V2) => Ok(()),
        Some(old @ 0..MAGIC_V2) => Err(BatchError::OldMagic(old)),
        Some(other) => Err(BatchError::UnknownMagic(other)),
    }
}

/// Computes the CRC-32C of one whole batch; `None` for fewer bytes than a header.
pub(super) fn computed_crc(batch: &[u8]) -> Option<u32> {
    batch.get(at::ATTRIBUTES..).filter(|_| batch.len() >= HEADER_BYTES).map(crc32c::crc32c)
}

/// Sets the CRC field of one whole batch to what its bytes give.
pub(super) fn fix_crc(batch: &mut [u8]) {
    if let Some(crc) = computed_crc(batch) {
        put(batch, at::CRC, &crc.to_be_bytes());
    }
}

/// Overwrites bytes at a fixed place; every caller's batch is at least a header long.
pub(super) fn put(batch: &mut [u8], at: usize, value: &[u8]) {
    if let Some(field) = batch.get_mut(at..at + value.len()) {
        field.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::fixtures;

    fn java() -> BatchHeader {
        *fixtures::batch(fixtures::JAVA_GZIP).header()
    }

    #[test]
    fn reads_what_java_wrote() {
        let header = java();
        assert_eq!((header.base_offset, header.leader_epoch), (7, 9));
        assert_eq!((header.base_timestamp, header.max_timestamp), (1000, 1100));
        assert_eq!((header.last_offset_delta, header.count, header.size()), (2, 3, 119));
        assert_eq!((header.last_offset(), header.next_offset()), (9, 10));
        let stamp = Stamp { producer_id: 4242, producer_epoch: 3, base_sequence: i32::MAX - 1 };
        assert_eq!(header.stamp(), stamp);
        assert_eq!(header.codec().ok(), Some(Codec::Gzip));
        assert!(header.is_dense() && header.has_producer());
        assert!(!header.is_control() && !header.is_transactional() && !header.log_append_time());

        let marker = *fixtures::batch(fixtures::JAVA_ABORT).header();
        assert!(marker.is_control() && marker.is_transactional());
        assert!(fixtures::batch(fixtures::JAVA_LOG_APPEND).header().log_append_time());
    }

    #[test]
    fn writes_what_java_wrote() {
        let batch = fixtures::batch(fixtures::JAVA_GZIP);
        let lying = BatchHeader { crc: 0, length: 0, ..*batch.header() };
        assert_eq!(lying.encode(&batch.payload()).as_ref(), Ok(batch.bytes()));
    }

    #[test]
    fn sequences_wrap_at_int32_max_to_zero() {
        let cases =
            [(-1, 4, -1), (0, 0, 0), (5, 4, 9), (i32::MAX - 1, 1, i32::MAX), (i32::MAX, 1, 0), (i32::MAX - 1, 4, 2)];
        for (base_sequence, last_offset_delta, want) in cases {
            assert_eq!(BatchHeader { base_sequence, last_offset_delta, ..java() }.last_sequence(), want);
        }
    }

    #[test]
    fn refuses_dishonest_fields() {
        let good = fixtures::batch(fixtures::JAVA_NONE).bytes().to_vec();
        let with = |at: usize, value: &[u8]| {
            let mut bytes = good.clone();
            put(&mut bytes, at, value);
            BatchHeader::parse(&bytes)
        };
        assert_eq!(with(at::MAGIC, &[0]), Err(BatchError::OldMagic(0)));
        assert_eq!(with(at::MAGIC, &[1]), Err(BatchError::OldMagic(1)));
        assert_eq!(with(at::MAGIC, &[3]), Err(BatchError::UnknownMagic(3)));
        assert_eq!(with(at::MAGIC, &[0xff]), Err(BatchError::UnknownMagic(-1)));
        assert_eq!(with(at::LENGTH, &48i32.to_be_bytes()), Err(BatchError::Length(48)));
        assert_eq!(with(at::LENGTH, &(-1i32).to_be_bytes()), Err(BatchError::Length(-1)));
        assert_eq!(with(23, &(-2i32).to_be_bytes()), Err(BatchError::LastOffsetDelta(-2)));
        assert_eq!(with(at::COUNT, &(-3i32).to_be_bytes()), Err(BatchError::Count(-3)));
        assert_eq!(BatchHeader::parse(&good[..60]), Err(BatchError::Short { have: 60, need: 61 }));
        assert!(matches!(with(at::ATTRIBUTES, &[0, 7]).map(|h| h.codec()), Ok(Err(CompressError::UnknownCodec(7)))));
    }
}
