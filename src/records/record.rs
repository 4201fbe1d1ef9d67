//! The records inside a batch: zero-copy reading of an inflated section, and writing one back (Kafka class
//! `DefaultRecord`). Duplicate header keys, null values and their order are kept, which decoders into maps lose.

use bytes::Bytes;
use thiserror::Error;

use super::batch::Batch;
use super::compress::{CompressError, inflate};
use super::header::{BatchError, BatchHeader};

/// Why a record section cannot be read or written.
#[derive(Debug, Error)]
pub enum RecordError {
    #[error(transparent)]
    Compress(#[from] CompressError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("record section ends inside a record")]
    Short,
    #[error("variable-length integer is too long")]
    Varint,
    #[error("negative {0}")]
    Negative(&'static str),
    #[error("record has {0} bytes that no field accounts for")]
    Excess(usize),
    #[error("{0} bytes behind the last record")]
    Trailing(usize),
    #[error("a field of {0} bytes does not fit a record")]
    TooLarge(usize),
    #[error("control record key cannot be read")]
    ControlKey,
    #[error("a batch needs at least one record")]
    NoRecords,
}

/// A batch's records, inflated.
#[derive(Clone, Debug)]
pub struct Section {
    header: BatchHeader,
    records: Bytes,
}

impl Section {
    /// Inflates the batch's record section; without compression nothing is copied.
    pub fn open(batch: &Batch) -> Result<Section, RecordError> {
        let records = inflate(batch.header().codec()?, &batch.payload())?;
        Ok(Section { header: *batch.header(), records })
    }

    pub fn records(&self) -> Records<'_> {
        Records::new(&self.records, self.header.count)
    }

    /// The inflated bytes: for callers that stop inside a batch and go on later.
    pub fn bytes(&self) -> &Bytes {
        &self.records
    }

    /// Cluster offset of a record of this batch.
    pub fn offset(&self, record: &RecordRef<'_>) -> i64 {
        self.header.base_offset.saturating_add(i64::from(record.offset_delta))
    }

    /// Timestamp of a record of this batch as consumers see it, in milliseconds: the append time of the batch if that
    /// is its kind, else base plus delta. That holds for batches with a delete horizon too: the cleaner writes its
    /// deltas against the horizon (*run* with kafka-clients 4.3.1).
    pub fn timestamp(&self, record: &RecordRef<'_>) -> i64 {
        if self.header.log_append_time() {
            self.header.max_timestamp
        } else {
            self.header.base_timestamp.wrapping_add(record.timestamp_delta)
        }
    }
}

/// One record, borrowed from the inflated section.
#[derive(Clone, Debug)]
pub struct RecordRef<'a> {
    /// Unused by Kafka so far.
    pub attributes: i8,
    /// Milliseconds, see [`Section::timestamp`].
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
    /// The whole record with its length prefix.
    pub raw: &'a [u8],
    /// Key, value and headers as encoded: what stays when offset and timestamp change.
    pub content: &'a [u8],
}

/// A record header. Keys may repeat within a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    /// UTF-8 by contract, not checked.
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// The headers of a record in order.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    /// Checked when the record was read: exactly `left` headers.
    rest: &'a [u8],
    left: i32,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        take_header(&mut self.rest).ok()
    }
}

/// Walks the records of an inflated section. Yields exactly the batch's count of records, or an error as the last item;
/// bytes behind the last record are an error, as for brokers and consumers.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    left: i32,
}

impl<'a> Records<'a> {
    /// `count` is the header's; it bounds the walk and sizes nothing.
    pub fn new(section: &'a [u8], count: i32) -> Records<'a> {
        Records { rest: section, left: count }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordRef<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            let excess = std::mem::take(&mut self.rest).len();
            return (excess > 0).then_some(Err(RecordError::Trailing(excess)));
        }
        self.left -= 1;
        let item = take_record(&mut self.rest);
        if item.is_err() {
            (self.rest, self.left) = (&[], 0);
        }
        Some(item)
    }
}

fn take_record<'a>(rest: &mut &'a [u8]) -> Result<RecordRef<'a>, RecordError> {
    let start = *rest;
    let length = usize::try_from(take_varint(rest)?).map_err(|_| RecordError::Negative("record length"))?;
    let mut body = take(rest, length)?;
    let raw = start.get(..start.len() - rest.len()).ok_or(RecordError::Short)?;
    let attributes = take(&mut body, 1)?.first().copied().ok_or(RecordError::Short)? as i8;
    let timestamp_delta = take_varlong(&mut body)?;
    let offset_delta = take_varint(&mut body)?;
    let content = body;
    let key = take_nullable(&mut body)?;
    let value = take_nullable(&mut body)?;
    let left = take_varint(&mut body)?;
    if left < 0 {
        return Err(RecordError::Negative("header count"));
    }
    let headers = Headers { rest: body, left };
    for _ in 0..left {
        take_header(&mut body)?;
    }
    if !body.is_empty() {
        return Err(RecordError::Excess(body.len()));
    }
    Ok(RecordRef { attributes, timestamp_delta, offset_delta, key, value, headers, raw, content })
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Result<Header<'a>, RecordError> {
    let key = take_nullable(rest)?.ok_or(RecordError::Negative("header key length"))?;
    Ok(Header { key, value: take_nullable(rest)? })
}

/// A length and as many bytes; any negative length is null, as for Java.
fn take_nullable<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordError> {
    match usize::try_from(take_varint(rest)?) {
        Ok(length) => take(rest, length).map(Some),
        Err(_) => Ok(None),
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], RecordError> {
    let (head, tail) = rest.split_at_checked(length).ok_or(RecordError::Short)?;
    *rest = tail;
    Ok(head)
}

/// Zigzag, at most 5 bytes; bits beyond 32 are dropped, as by Java.
fn take_varint(rest: &mut &[u8]) -> Result<i32, RecordError> {
    let raw = take_unsigned(rest, 5)? as u32;
    Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Zigzag, at most 10 bytes.
fn take_varlong(rest: &mut &[u8]) -> Result<i64, RecordError> {
    let raw = take_unsigned(rest, 10)?;
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

fn take_unsigned(rest: &mut &[u8], most_bytes: usize) -> Result<u64, RecordError> {
    let mut value = 0u64;
    for (index, &byte) in rest.iter().take(most_bytes).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = rest.get(index + 1..).unwrap_or_default();
            return Ok(value);
        }
    }
    Err(if rest.len() < most_bytes { RecordError::Short } else { RecordError::Varint })
}

/// Appends a record whose key, value and headers are already encoded (see [`RecordRef::content`], [`put_content`]).
pub fn put_record(
    out: &mut Vec<u8>,
    attributes: i8,
    timestamp_delta: i64,
    offset_delta: i32,
    content: &[u8],
) -> Result<(), RecordError> {
    let length = 1 + varlong_bytes(timestamp_delta) + varlong_bytes(i64::from(offset_delta)) + content.len();
    put_length(out, length)?;
    out.push(attributes as u8);
    put_varlong(out, timestamp_delta);
    put_varlong(out, i64::from(offset_delta));
    out.extend_from_slice(content);
    Ok(())
}

/// Appends key, value and headers in the form that [`put_record`] takes.
pub fn put_content<'a>(
    out: &mut Vec<u8>,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl ExactSizeIterator<Item = Header<'a>>,
) -> Result<(), RecordError> {
    put_nullable(out, key)?;
    put_nullable(out, value)?;
    put_length(out, headers.len())?;
    for header in headers {
        put_nullable(out, Some(header.key))?;
        put_nullable(out, header.value)?;
    }
    Ok(())
}

fn put_nullable(out: &mut Vec<u8>, field: Option<&[u8]>) -> Result<(), RecordError> {
    let Some(bytes) = field else {
        put_varlong(out, -1);
        return Ok(());
    };
    put_length(out, bytes.len())?;
    out.extend_from_slice(bytes);
    Ok(())
}

fn put_length(out: &mut Vec<u8>, length: usize) -> Result<(), RecordError> {
    let value = i32::try_from(length).map_err(|_| RecordError::TooLarge(length))?;
    put_varlong(out, i64::from(value));
    Ok(())
}

/// Zigzag. Values that fit int32 come out as a varint would: the two encodings agree there.
fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut left = zigzag(value);
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

fn varlong_bytes(value: i64) -> usize {
    let bits = (u64::BITS - zigzag(value).leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::fixtures;

    const A: Header<'static> = Header { key: b"h", value: Some(b"a") };
    const NULL: Header<'static> = Header { key: b"h", value: None };

    #[test]
    fn reads_what_java_wrote_in_every_codec() {
        for hex in fixtures::JAVA_CODECS {
            let section = Section::open(&fixtures::batch(hex)).unwrap();
            let records: Vec<RecordRef<'_>> = section.records().collect::<Result<_, _>>().unwrap();
            let seen: Vec<_> =
                records.iter().map(|r| (section.offset(r), section.timestamp(r), r.key, r.value)).collect();
            type Seen = (i64, i64, Option<&'static [u8]>, Option<&'static [u8]>);
            let want: [Seen; 3] =
                [(7, 1000, Some(b"k1"), Some(b"v1")), (8, 900, None, Some(b"v2")), (9, 1100, Some(b"k3"), None)];
            assert_eq!(seen, want);
            assert_eq!(records[0].headers.clone().collect::<Vec<_>>(), [A, NULL]);
            assert_eq!(records[1].headers.clone().count(), 0);
        }
    }

    #[test]
    fn timestamps_are_those_that_consumers_see() {
        let cases =
            [(fixtures::JAVA_LOG_APPEND, [5555, 5555, 5555]), (fixtures::JAVA_DELETE_HORIZON, [1000, 900, 1100])];
        for (hex, want) in cases {
            let section = Section::open(&fixtures::batch(hex)).unwrap();
            let seen: Vec<i64> = section.records().map(|r| section.timestamp(&r.unwrap())).collect();
            assert_eq!(seen, want);
        }
    }

    #[test]
    fn writes_the_same_bytes_back() {
        let payload = fixtures::batch(fixtures::JAVA_NONE).payload();
        let (mut copied, mut rebuilt) = (Vec::new(), Vec::new());
        for record in Records::new(&payload, 3) {
            let r = record.unwrap();
            copied.extend_from_slice(r.raw);
            let mut content = Vec::new();
            let headers: Vec<Header<'_>> = r.headers.clone().collect();
            put_content(&mut content, r.key, r.value, headers.into_iter()).unwrap();
            assert_eq!(content, r.content);
            put_record(&mut rebuilt, r.attributes, r.timestamp_delta, r.offset_delta, &content).unwrap();
        }
        assert_eq!(copied, payload);
        assert_eq!(rebuilt, payload);
    }

    #[test]
    fn dishonest_counts_and_lengths_are_errors() {
        let payload = fixtures::batch(fixtures::JAVA_NONE).payload();
        fn last(bytes: &[u8], count: i32) -> Result<RecordRef<'_>, RecordError> {
            Records::new(bytes, count).last().unwrap()
        }
        assert!(matches!(last(&payload, 2), Err(RecordError::Trailing(10))));
        assert!(matches!(last(&payload, i32::MAX), Err(RecordError::Short)));
        assert!(matches!(last(&payload[..payload.len() - 1], 3), Err(RecordError::Short)));
        // Length -1; length 6 with a header count of 2^31-1; a byte more than the fields; an endless varint.
        assert!(matches!(last(&[0x01], 1), Err(RecordError::Negative(_))));
        let many = [20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f];
        assert!(matches!(last(&many, 1), Err(RecordError::Short)));
        assert!(matches!(last(&[14, 0, 0, 0, 1, 1, 0, 9], 1), Err(RecordError::Excess(1))));
        assert!(matches!(last(&[0x80; 8], 1), Err(RecordError::Varint)));
        assert!(matches!(last(&[14, 0, 0, 0, 1, 1, 2, 1], 1), Err(RecordError::Negative("header key length"))));
        assert_eq!(Records::new(&[], 0).count(), 0);
    }

    type OwnedRecord = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>, i64, i32, i8);

    fn any_record() -> impl Strategy<Value = OwnedRecord> {
        let field = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..100));
        let header = (proptest::collection::vec(any::<u8>(), 0..4), field());
        (field(), field(), proptest::collection::vec(header, 0..4), any::<i64>(), any::<i32>(), any::<i8>())
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..200), count: i32) {
            for record in Records::new(&data, count).flatten() {
                record.headers.for_each(drop);
            }
        }

        #[test]
        fn any_record_round_trips(records in proptest::collection::vec(any_record(), 0..6)) {
            let mut section = Vec::new();
            for (key, value, headers, timestamp_delta, offset_delta, attributes) in &records {
                let mut content = Vec::new();
                let headers = headers.iter().map(|(key, value)| Header { key, value: value.as_deref() });
                put_content(&mut content, key.as_deref(), value.as_deref(), headers).unwrap();
                put_record(&mut section, *attributes, *timestamp_delta, *offset_delta, &content).unwrap();
            }
            let read: Vec<OwnedRecord> = Records::new(&section, records.len() as i32)
                .map(|record| {
                    let r = record.unwrap();
                    let headers = r.headers.map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect();
                    let own = |field: Option<&[u8]>| field.map(<[u8]>::to_vec);
                    (own(r.key), own(r.value), headers, r.timestamp_delta, r.offset_delta, r.attributes)
                })
                .collect();
            prop_assert_eq!(read, records);
        }
    }
}
