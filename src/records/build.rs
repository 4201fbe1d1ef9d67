//! Building a batch from keys and values, for the state topic and for tests, and ones that hold no record at all.

use bytes::{Bytes, BytesMut};

use super::compress::{Codec, deflate};
use super::header::{BatchHeader, CONTROL, Stamp, TRANSACTIONAL};
use super::record::{Header, RecordError, put_content, put_record};

/// A record to write. `Default` is a null key and value without headers at timestamp 0.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewRecord<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Vec<Header<'a>>,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
}

/// Builds a CreateTime batch as a producer sends it: base offset 0, leader epoch -1, offset deltas from 0. A batch
/// without records is an error: brokers refuse it.
pub fn build(records: &[NewRecord<'_>], codec: Codec, stamp: Stamp) -> Result<Bytes, RecordError> {
    let base_timestamp = records.first().ok_or(RecordError::NoRecords)?.timestamp;
    let count = i32::try_from(records.len()).map_err(|_| RecordError::TooLarge(records.len()))?;
    let mut section = Vec::new();
    let mut content = Vec::new();
    for (record, offset_delta) in records.iter().zip(0..) {
        content.clear();
        put_content(&mut content, record.key, record.value, record.headers.iter().copied())?;
        put_record(&mut section, 0, record.timestamp.wrapping_sub(base_timestamp), offset_delta, &content)?;
    }
    let header = BatchHeader {
        base_offset: 0,
        length: 0,
        leader_epoch: -1,
        crc: 0,
        attributes: i16::from(codec.id()),
        last_offset_delta: count - 1,
        base_timestamp,
        max_timestamp: records.iter().map(|r| r.timestamp).max().unwrap_or(base_timestamp),
        producer_id: stamp.producer_id,
        producer_epoch: stamp.producer_epoch,
        base_sequence: stamp.base_sequence,
        count,
    };
    Ok(header.encode(&deflate(codec, &Bytes::from(section))?)?)
}

/// Offsets that one batch of [`gap`] covers at most: its last offset delta is an int32.
const GAP_OFFSETS: i64 = 1 << 30;
/// A transaction marker's key (version 0, type COMMIT) and value (version 0, coordinator epoch 0), as the class
/// EndTransactionMarker writes them.
const COMMIT_MARKER: (&[u8], &[u8]) = (&[0, 0, 0, 1], &[0; 6]);

/// Batches for a consumer that hold no record of anybody and cover the offsets `from` up to `to`: its position moves on
/// behind them. They look like commit markers without a producer, which every client passes over.
pub fn gap(from: i64, to: i64) -> Result<Bytes, RecordError> {
    let mut content = Vec::new();
    put_content(&mut content, Some(COMMIT_MARKER.0), Some(COMMIT_MARKER.1), std::iter::empty())?;
    let mut out = BytesMut::new();
    let mut base_offset = from;
    while base_offset < to {
        let end = to.min(base_offset.saturating_add(GAP_OFFSETS));
        // The marker has the last offset: some clients go by the record, others by the batch.
        let last_offset_delta = i32::try_from(end - base_offset - 1).unwrap_or(i32::MAX);
        let mut section = Vec::new();
        put_record(&mut section, 0, 0, last_offset_delta, &content)?;
        let header = BatchHeader {
            base_offset,
            length: 0,
            // None: a consumer has nothing to ask about what no leader wrote (KIP-320).
            leader_epoch: -1,
            crc: 0,
            attributes: CONTROL | TRANSACTIONAL,
            last_offset_delta,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: Stamp::NONE.producer_id,
            producer_epoch: Stamp::NONE.producer_epoch,
            base_sequence: Stamp::NONE.base_sequence,
            count: 1,
        };
        out.extend_from_slice(&header.encode(&section)?);
        base_offset = end;
    }
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::aborted::control_type;
    use crate::records::{Batch, Batches, ControlType, Section, as_sent, crc_ok, fixtures};

    /// The records of the Java fixtures.
    fn records() -> Vec<NewRecord<'static>> {
        let headers = vec![Header { key: b"h", value: Some(b"a") }, Header { key: b"h", value: None }];
        vec![
            NewRecord { key: Some(b"k1"), value: Some(b"v1"), headers, timestamp: 1000 },
            NewRecord { value: Some(b"v2"), timestamp: 900, ..NewRecord::default() },
            NewRecord { key: Some(b"k3"), timestamp: 1100, ..NewRecord::default() },
        ]
    }

    const STAMP: Stamp = Stamp { producer_id: 4242, producer_epoch: 3, base_sequence: i32::MAX - 1 };

    #[test]
    fn builds_the_bytes_that_java_builds() {
        let java = fixtures::batch(fixtures::JAVA_NONE);
        assert_eq!(build(&records(), Codec::None, STAMP).unwrap(), as_sent(&java));
    }

    #[test]
    fn every_codec_holds_the_same_records() {
        let plain = fixtures::batch(fixtures::JAVA_NONE).payload();
        for codec in Codec::ALL {
            let batch = Batch::new(build(&records(), codec, Stamp::NONE).unwrap()).unwrap();
            assert!(crc_ok(&batch) && batch.header().is_dense() && !batch.header().has_producer());
            assert_eq!((batch.header().base_timestamp, batch.header().max_timestamp), (1000, 1100));
            assert_eq!(batch.header().codec().unwrap(), codec);
            let section = Section::open(&batch).unwrap();
            let raw: Vec<u8> = section.records().flat_map(|r| r.unwrap().raw.to_vec()).collect();
            assert_eq!(raw, plain);
        }
    }

    #[test]
    fn a_gap_is_covered_without_a_hole_and_without_a_record() {
        let widest = 1 << 40;
        for (from, to, batches) in
            [(7, 8, 1), (959, 2515, 1), (5, 5 + (1 << 30) + 1, 2), (1, 1 + widest, 1 << 10), (3, 3, 0)]
        {
            let mut next = from;
            let mut count = 0;
            for batch in Batches::new(gap(from, to).unwrap()) {
                let batch = batch.unwrap();
                assert!(crc_ok(&batch) && batch.header().is_control() && !batch.header().has_producer());
                assert_eq!((batch.header().base_offset, batch.header().leader_epoch), (next, -1));
                assert_eq!(control_type(&batch).unwrap(), Some(ControlType::Commit));
                let section = Section::open(&batch).unwrap();
                let offsets: Vec<_> = section.records().map(|r| section.offset(&r.unwrap())).collect();
                next = batch.header().next_offset();
                assert_eq!(offsets, [next - 1]);
                count += 1;
            }
            assert_eq!((next, count), (to, batches));
        }
    }

    #[test]
    fn nothing_to_build_is_an_error() {
        assert!(matches!(build(&[], Codec::None, Stamp::NONE), Err(RecordError::NoRecords)));
    }
}
