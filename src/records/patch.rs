//! Changes to batch headers that leave the record section alone, and the comparison that ignores them.

use bytes::{Bytes, BytesMut};

use super::batch::{Batch, Batches};
use super::crc;
use super::header::{BatchError, BatchHeader, CODEC_MASK, CONTROL, HEADER_BYTES, LOG_APPEND_TIME, Stamp, at, put};

/// Attribute bits that say how the records are to be read. The transactional bit belongs to the producer; bits 6 to 15
/// must not be sent: brokers store them as they come, and bit 6 makes the base timestamp a delete horizon.
const READING_BITS: i16 = CODEC_MASK | LOG_APPEND_TIME | CONTROL;

/// What to do with one batch of a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relabel {
    /// The batch stays, under this base offset and leader epoch. Both are outside the CRC.
    Keep { base_offset: i64, leader_epoch: i32 },
    /// The batch goes (a masked range).
    Drop,
}

/// Gives every batch of a records blob a new base offset and leader epoch, or drops it; `f` is asked once per batch, in
/// order. A last batch that is cut short is cut off.
///
/// Nothing is copied if nothing changes; the bytes are changed in place if nobody else holds them, else copied once.
pub fn relabel(mut records: Bytes, mut f: impl FnMut(&BatchHeader) -> Relabel) -> Result<Bytes, BatchError> {
    let mut edits = Vec::new();
    let mut end = 0;
    // The walk holds a handle on the bytes, so it must be gone before they can be unique: hence the list of edits.
    for batch in Batches::new(records.clone()) {
        let batch = batch?;
        let header = batch.header();
        let range = end..end + header.size();
        end = range.end;
        let same = Relabel::Keep { base_offset: header.base_offset, leader_epoch: header.leader_epoch };
        match f(header) {
            edit if edit == same => {}
            edit => edits.push((range, edit)),
        }
    }
    records.truncate(end);
    if edits.is_empty() {
        return Ok(records);
    }
    let mut out = records.try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
    // Batches behind a dropped one move up when the next drop, or the end, is met: never past what is still to read.
    let (mut read, mut written) = (0, 0);
    for (range, edit) in edits {
        match edit {
            Relabel::Keep { base_offset, leader_epoch } => {
                place(&mut out[range], base_offset, leader_epoch);
            }
            Relabel::Drop => {
                out.copy_within(read..range.start, written);
                written += range.start - read;
                read = range.end;
            }
        }
    }
    if read > 0 {
        out.copy_within(read.., written);
        out.truncate(written + end - read);
    }
    Ok(out.freeze())
}

/// A batch as two pieces: a header of its own, and records that are shared with the batch that it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub head: Bytes,
    pub records: Bytes,
}

impl From<Bytes> for Split {
    fn from(whole: Bytes) -> Split {
        Split { head: whole, records: Bytes::new() }
    }
}

impl Split {
    pub fn len(&self) -> usize {
        self.head.len() + self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One piece; copied, unless it is one already.
    pub fn join(self) -> Bytes {
        if self.records.is_empty() { self.head } else { [self.head, self.records].concat().into() }
    }
}

/// The batch as a producer would send it: base offset 0, leader epoch -1. The CRC does not cover either.
pub fn sent(batch: &Batch) -> Split {
    let header = batch.header();
    if header.base_offset == 0 && header.leader_epoch == -1 {
        return batch.bytes().clone().into();
    }
    with_head(batch, |head| place(head, 0, -1))
}

/// As [`sent`], in one piece.
pub fn as_sent(batch: &Batch) -> Bytes {
    sent(batch).join()
}

/// The batch as another producer would send it: as [`sent`], with the stamp's producer fields, not transactional and
/// attribute bits 6 to 15 cleared. The CRC is changed by as much as the header is: a damaged batch stays damaged.
///
/// The LogAppendTime bit stays: clearing it alone would change every record's timestamp ([`super::split_dense`] makes
/// them explicit). So does the control bit: control batches must not be sent at all.
pub fn restamped(batch: &Batch, stamp: Stamp) -> Split {
    let attributes = batch.header().attributes & READING_BITS;
    with_head(batch, |head| {
        place(head, 0, -1);
        put(head, at::ATTRIBUTES, &attributes.to_be_bytes());
        put_stamp(head, stamp);
    })
}

/// As [`restamped`], in one piece.
pub fn restamp(batch: &Batch, stamp: Stamp) -> Bytes {
    restamped(batch, stamp).join()
}

/// The batch under another producer id, epoch and sequence; all else stays, the transactional bit included.
pub fn as_producer(batch: &Batch, stamp: Stamp) -> Bytes {
    with_head(batch, |head| put_stamp(head, stamp)).join()
}

/// The batch under a changed header; its records are shared.
fn with_head(batch: &Batch, change: impl FnOnce(&mut [u8])) -> Split {
    let mut records = batch.bytes().clone();
    let before = records.split_to(HEADER_BYTES);
    let mut head = BytesMut::from(before.as_ref());
    change(&mut head);
    let (was, is) = (before.get(at::ATTRIBUTES..), head.get(at::ATTRIBUTES..));
    let crc = crc::patched(batch.header().crc, was.unwrap_or_default(), is.unwrap_or_default(), records.len());
    put(&mut head, at::CRC, &crc.to_be_bytes());
    Split { head: head.freeze(), records }
}

/// Record count and record section: the bytes that no restamping touches. The fields before them that count as content
/// too are not contiguous: to compare, use [`same_content`].
pub fn section(batch: &Batch) -> &[u8] {
    batch.bytes().get(at::COUNT..).unwrap_or_default()
}

/// Whether two batches hold the same records in the same form, wherever they are stored and whoever is stamped as their
/// producer: codec, timestamp type, control bit, timestamps, deltas, count and record bytes.
pub fn same_content(a: &Batch, b: &Batch) -> bool {
    let fields =
        |h: &BatchHeader| (h.attributes & READING_BITS, h.last_offset_delta, h.base_timestamp, h.max_timestamp);
    fields(a.header()) == fields(b.header()) && section(a) == section(b)
}

fn put_stamp(batch: &mut [u8], stamp: Stamp) {
    put(batch, at::PRODUCER_ID, &stamp.producer_id.to_be_bytes());
    put(batch, at::PRODUCER_ID + 8, &stamp.producer_epoch.to_be_bytes());
    put(batch, at::PRODUCER_ID + 10, &stamp.base_sequence.to_be_bytes());
}

fn place(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    put(batch, 0, &base_offset.to_be_bytes());
    put(batch, at::LEADER_EPOCH, &leader_epoch.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::header::TRANSACTIONAL;
    use crate::records::{crc_ok, fixtures};

    fn blob(batches: &[&str]) -> Vec<u8> {
        batches.iter().flat_map(|hex| fixtures::bytes(hex)).collect()
    }

    fn keep(header: &BatchHeader) -> Relabel {
        Relabel::Keep { base_offset: header.base_offset, leader_epoch: header.leader_epoch }
    }

    #[test]
    fn relabel_moves_and_drops_and_nothing_else() {
        let source = blob(&fixtures::JAVA_CODECS);
        for drops in 0..32u32 {
            for shared in [false, true] {
                let records = Bytes::from(source.clone());
                let other_handle = shared.then(|| records.clone());
                let mut index = 0;
                let out = relabel(records, |_| {
                    index += 1;
                    let drop = drops & (1 << (index - 1)) != 0;
                    if drop { Relabel::Drop } else { Relabel::Keep { base_offset: 100 + index, leader_epoch: 77 } }
                })
                .unwrap();
                assert!(other_handle.is_none_or(|bytes| bytes == source));
                let kept: Vec<usize> = (0..5).filter(|i| drops & (1 << i) == 0).collect();
                let batches: Vec<Batch> = Batches::new(out).map(|b| b.unwrap()).collect();
                assert_eq!(batches.len(), kept.len());
                for (batch, &i) in batches.iter().zip(&kept) {
                    assert_eq!((batch.header().base_offset, batch.header().leader_epoch), (101 + i as i64, 77));
                    assert!(crc_ok(batch));
                    let original = fixtures::batch(fixtures::JAVA_CODECS[i]);
                    assert_eq!(batch.bytes()[at::MAGIC..], original.bytes()[at::MAGIC..]);
                }
            }
        }
    }

    #[test]
    fn relabel_copies_only_what_it_must() {
        let records = Bytes::from(blob(&fixtures::JAVA_CODECS));
        let start = records.as_ptr();
        let unchanged = relabel(records.clone(), keep).unwrap();
        assert_eq!((unchanged.as_ptr(), unchanged.len()), (start, records.len()));
        drop(unchanged);
        let in_place = relabel(records, |_| Relabel::Keep { base_offset: 1, leader_epoch: 1 }).unwrap();
        assert_eq!(in_place.as_ptr(), start);
        let copied = relabel(in_place.clone(), |_| Relabel::Keep { base_offset: 2, leader_epoch: 1 }).unwrap();
        assert_ne!(copied.as_ptr(), start);
    }

    #[test]
    fn relabel_cuts_a_truncated_tail_and_passes_errors_on() {
        let whole = blob(&[fixtures::JAVA_LZ4]);
        let records = Bytes::from([&whole[..], &whole[..80]].concat());
        assert_eq!(relabel(records.clone(), keep).unwrap(), whole);
        assert!(relabel(records, |_| Relabel::Drop).unwrap().is_empty());
        assert!(relabel(Bytes::new(), keep).unwrap().is_empty());
        let mut old = whole;
        old[at::MAGIC] = 1;
        assert_eq!(relabel(Bytes::from(old), keep), Err(BatchError::OldMagic(1)));
    }

    #[test]
    fn as_sent_keeps_the_crc() {
        for hex in fixtures::JAVA_ALL {
            let batch = fixtures::batch(hex);
            let sent = Batch::new(as_sent(&batch)).unwrap();
            assert_eq!((sent.header().base_offset, sent.header().leader_epoch), (0, -1));
            assert_eq!(sent.header().crc, batch.header().crc);
            assert!(crc_ok(&sent) && same_content(&sent, &batch));
            assert_eq!(as_sent(&sent).as_ptr(), sent.bytes().as_ptr());
        }
    }

    #[test]
    fn content_is_more_than_the_section() {
        let batch = fixtures::batch(fixtures::JAVA_NONE);
        let base = *batch.header();
        let with = |header: BatchHeader| Batch::new(header.encode(&batch.payload()).unwrap()).unwrap();
        let differs = [
            BatchHeader { max_timestamp: 1, ..base },
            BatchHeader { base_timestamp: 1, ..base },
            BatchHeader { last_offset_delta: 3, ..base },
            BatchHeader { count: 2, ..base },
            BatchHeader { attributes: 1, ..base },
            BatchHeader { attributes: LOG_APPEND_TIME, ..base },
        ];
        for header in differs {
            assert!(!same_content(&with(header), &batch), "{header:?}");
        }
        let same = BatchHeader { attributes: TRANSACTIONAL | 0x40, producer_id: 1, base_offset: 5, ..base };
        assert!(same_content(&with(same), &batch));
        assert_eq!(section(&with(same)), section(&batch));
    }

    proptest! {
        #[test]
        fn restamping_keeps_the_content(
            hex in proptest::sample::select(&fixtures::JAVA_ALL[..]),
            extra: i16,
            producer_id: i64,
            producer_epoch: i16,
            base_sequence: i32,
        ) {
            let original = fixtures::batch(hex);
            // Any of the bits that restamping must clear, on top of what Java set.
            let attributes = original.header().attributes | (extra & !READING_BITS);
            let dirty = BatchHeader { attributes, ..*original.header() };
            let dirty = Batch::new(dirty.encode(&original.payload()).unwrap()).unwrap();
            let stamp = Stamp { producer_id, producer_epoch, base_sequence };
            let out = Batch::new(restamp(&dirty, stamp)).unwrap();
            prop_assert!(crc_ok(&out));
            prop_assert!(same_content(&out, &original));
            prop_assert_eq!(out.header().stamp(), stamp);
            prop_assert_eq!((out.header().base_offset, out.header().leader_epoch), (0, -1));
            prop_assert_eq!(out.header().attributes, original.header().attributes & READING_BITS);
            let other = Batch::new(as_producer(&dirty, stamp)).unwrap();
            prop_assert!(crc_ok(&other));
            let expected = BatchHeader { producer_id, producer_epoch, base_sequence, crc: other.header().crc, ..*dirty.header() };
            prop_assert_eq!(*other.header(), expected);
            prop_assert_eq!(other.payload(), dirty.payload());
            // What was damaged is not made whole.
            let mut damaged = dirty.bytes().to_vec();
            *damaged.last_mut().unwrap() ^= 1;
            let damaged = Batch::new(damaged.into()).unwrap();
            prop_assert!(!crc_ok(&Batch::new(restamp(&damaged, stamp)).unwrap()));
            let shared = restamped(&dirty, stamp);
            prop_assert_eq!(shared.records.as_ptr(), dirty.payload().as_ptr());
            prop_assert_eq!(shared.len(), dirty.bytes().len());
        }
    }
}
