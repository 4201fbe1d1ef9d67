//! Whole batches as zero-copy slices, and the walk over the batches of a records blob.

use bytes::Bytes;

use super::header::{BatchError, BatchHeader, HEADER_BYTES, LOG_OVERHEAD, at, batch_size, check_magic, computed_crc};

/// One whole batch: its bytes and the header read from them. Always at least 61 bytes, and exactly `header.size()`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// Takes bytes that are exactly one batch. The CRC is not checked: see [`crc_ok`].
    pub fn new(bytes: Bytes) -> Result<Batch, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        let need = header.size();
        match bytes.len() {
            have if have < need => Err(BatchError::Short { have, need }),
            have if have > need => Err(BatchError::Trailing(have - need)),
            _ => Ok(Batch { header, bytes }),
        }
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The record section, compressed as the header says.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES..)
    }
}

/// Whether the CRC-32C in the header is that of the batch's bytes. Reads the whole batch.
pub fn crc_ok(batch: &Batch) -> bool {
    computed_crc(&batch.bytes) == Some(batch.header.crc)
}

/// The first batch of a blob, if it is whole and its checksum right: one whose header may be changed under a fresh checksum
/// without hiding that it was damaged.
pub fn sound(records: &Bytes) -> Option<Batch> {
    let size = BatchHeader::parse(records).ok()?.size();
    let batch = Batch::new(records.slice(..size.min(records.len()))).ok()?;
    Some(batch).filter(crc_ok)
}

/// Walks the batches of a records blob as found in Produce requests, Fetch replies and log segments.
///
/// A last batch that is cut short (brokers end a Fetch reply wherever the byte limit falls) ends the walk without an
/// error and shows in [`Batches::truncated`]. After an error the walk is over: what follows cannot be located.
#[derive(Debug)]
pub struct Batches {
    rest: Bytes,
    failed: bool,
}

impl Batches {
    pub fn new(records: Bytes) -> Batches {
        Batches { rest: records, failed: false }
    }

    /// Bytes at the end that are only part of a batch. Meaningful once the walk is over.
    pub fn truncated(&self) -> bool {
        !self.failed && !self.rest.is_empty()
    }

    /// Splits the next whole batch off; `None` if there is only part of one, or nothing.
    fn step(&mut self) -> Result<Option<Batch>, BatchError> {
        check_magic(&self.rest)?;
        let length = self.rest.get(at::LENGTH..LOG_OVERHEAD).and_then(|field| field.first_chunk::<4>());
        let Some(length) = length else { return Ok(None) };
        let size = batch_size(i32::from_be_bytes(*length))?;
        if self.rest.len() < size {
            return Ok(None);
        }
        let header = BatchHeader::parse(&self.rest)?;
        Ok(Some(Batch { header, bytes: self.rest.split_to(size) }))
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.step().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::fixtures;
    use crate::records::header::put;

    fn blob() -> Vec<u8> {
        fixtures::JAVA_ALL.iter().flat_map(|hex| fixtures::bytes(hex)).collect()
    }

    #[test]
    fn walks_without_copying_and_checks_the_crc() {
        let blob = Bytes::from(blob());
        let mut walk = Batches::new(blob.clone());
        let batches: Vec<Batch> = walk.by_ref().collect::<Result<_, _>>().unwrap();
        assert_eq!(batches.len(), fixtures::JAVA_ALL.len());
        assert!(!walk.truncated());
        assert_eq!(batches[0].bytes().as_ptr(), blob.as_ptr());
        for batch in &batches {
            assert!(crc_ok(batch));
            let mut damaged = batch.bytes().to_vec();
            damaged[HEADER_BYTES] ^= 1;
            assert!(!crc_ok(&Batch::new(Bytes::from(damaged)).unwrap()));
        }
    }

    #[test]
    fn a_last_batch_cut_anywhere_ends_the_walk_without_error() {
        let first = fixtures::bytes(fixtures::JAVA_NONE);
        let second = fixtures::bytes(fixtures::JAVA_ZSTD);
        for keep in 0..=second.len() {
            let mut walk = Batches::new(Bytes::from([&first, &second[..keep]].concat()));
            let count = walk.by_ref().collect::<Result<Vec<_>, _>>().unwrap().len();
            assert_eq!(count, if keep == second.len() { 2 } else { 1 });
            assert_eq!(walk.truncated(), keep > 0 && keep < second.len());
            assert!(walk.next().is_none());
        }
    }

    #[test]
    fn old_formats_and_bad_lengths_are_errors_and_final() {
        let good = fixtures::bytes(fixtures::JAVA_NONE);
        let cases: [(usize, &[u8], BatchError); 4] = [
            (at::MAGIC, &[1], BatchError::OldMagic(1)),
            (at::MAGIC, &[9], BatchError::UnknownMagic(9)),
            (at::LENGTH, &[0, 0, 0, 5], BatchError::Length(5)),
            (at::LENGTH, &[0xff; 4], BatchError::Length(-1)),
        ];
        for (at, value, want) in cases {
            let mut bad = good.clone();
            put(&mut bad, at, value);
            let mut walk = Batches::new(Bytes::from([good.clone(), bad].concat()));
            assert!(walk.next().unwrap().is_ok());
            assert_eq!(walk.next(), Some(Err(want)));
            assert_eq!(walk.next(), None);
            assert!(!walk.truncated());
        }
    }

    #[test]
    fn one_batch_is_exactly_one() {
        let good = fixtures::bytes(fixtures::JAVA_NONE);
        let need = good.len();
        assert!(Batch::new(Bytes::from(good.clone())).is_ok());
        let short = Bytes::from(good[..need - 1].to_vec());
        assert_eq!(Batch::new(short), Err(BatchError::Short { have: need - 1, need }));
        let long = Bytes::from([good, vec![0; 3]].concat());
        assert_eq!(Batch::new(long), Err(BatchError::Trailing(3)));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            for batch in Batches::new(Bytes::from(data)).flatten() {
                prop_assert_eq!(batch.bytes().len(), batch.header().size());
            }
        }

        #[test]
        fn damaged_blobs_never_panic_nor_grow(at in 0usize..2000, value: u8) {
            let mut data = blob();
            let len = data.len();
            data[at % len] = value;
            let total: usize = Batches::new(Bytes::from(data)).flatten().map(|b| b.bytes().len()).sum();
            prop_assert!(total <= len);
        }
    }
}
