//! What a masked range holds, counted. Pure.

use super::Class;
use crate::records::{Batch, RecordError, Section};

/// Counts of one range. Offsets are the cluster's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub batches: u64,
    /// As stored: headers, compressed.
    pub bytes: u64,
    pub records: u64,
    pub aborted: u64,
    pub undecided: u64,
    pub control_batches: u64,
    /// Lowest and highest timestamp of the batches with records, in milliseconds.
    pub timestamps: Option<(i64, i64)>,
}

impl Tally {
    /// Counts one batch; records below `from` are not the range's.
    pub fn add(&mut self, class: Class, batch: &Batch, from: i64) -> Result<(), RecordError> {
        let header = batch.header();
        self.batches += 1;
        self.bytes += header.size() as u64;
        if class == Class::Control {
            self.control_batches += 1;
            return Ok(());
        }
        let count =
            if header.base_offset >= from { u64::try_from(header.count).unwrap_or(0) } else { behind(batch, from)? };
        match class {
            Class::Data => self.records += count,
            Class::Aborted => self.aborted += count,
            Class::Undecided => self.undecided += count,
            Class::Control => {}
        }
        if count > 0 {
            // The base timestamp is the first record's, or a delete horizon, which compaction sets (KIP-534).
            let low = if header.log_append_time() { header.max_timestamp } else { header.base_timestamp };
            let (first, last) = self.timestamps.unwrap_or((low, header.max_timestamp));
            self.timestamps = Some((first.min(low), last.max(header.max_timestamp)));
        }
        Ok(())
    }

    /// Records of any kind; a range of markers only is nothing to anybody.
    pub fn any_records(&self) -> bool {
        self.records + self.aborted + self.undecided > 0
    }
}

/// Records of a batch at or above an offset.
fn behind(batch: &Batch, from: i64) -> Result<u64, RecordError> {
    let section = Section::open(batch)?;
    let mut count = 0;
    for record in section.records() {
        count += u64::from(section.offset(&record?) >= from);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Codec, NewRecord, Stamp, build};

    pub(crate) fn batch(base: i64, timestamps: &[i64]) -> Batch {
        let record = |&timestamp: &i64| NewRecord { value: Some(b"v"), timestamp, ..Default::default() };
        let records: Vec<_> = timestamps.iter().map(record).collect();
        let mut bytes = build(&records, Codec::None, Stamp::NONE).unwrap().to_vec();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        Batch::new(bytes.into()).unwrap()
    }

    #[test]
    fn counts_by_class_and_only_what_is_the_ranges() {
        let mut tally = Tally::default();
        tally.add(Class::Data, &batch(8, &[50, 40, 60]), 10).unwrap();
        tally.add(Class::Aborted, &batch(11, &[70, 71]), 10).unwrap();
        tally.add(Class::Undecided, &batch(13, &[10]), 10).unwrap();
        tally.add(Class::Control, &batch(14, &[1]), 10).unwrap();
        assert_eq!((tally.records, tally.aborted, tally.undecided, tally.control_batches), (1, 2, 1, 1));
        assert_eq!((tally.batches, tally.timestamps), (4, Some((10, 71))));
        assert!(tally.any_records() && !Tally { control_batches: 3, ..Tally::default() }.any_records());
    }
}
