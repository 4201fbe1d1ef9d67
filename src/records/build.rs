//! Building a batch from keys and values, for the state topic and for tests.

use bytes::Bytes;

use super::compress::{Codec, deflate};
use super::header::{BatchHeader, Stamp};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Batch, Section, as_sent, crc_ok, fixtures};

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
    fn nothing_to_build_is_an_error() {
        assert!(matches!(build(&[], Codec::None, Stamp::NONE), Err(RecordError::NoRecords)));
    }
}
