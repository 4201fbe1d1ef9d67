//! One fetch reply as the batches that count: whole, committed, data. Pure.

use bytes::Bytes;

use crate::records::{AbortedFilter, Batch, BatchError, Batches, RecordError, Verdict};

/// What one fetch reply brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Committed data in log order. The first batch may begin below the offset asked for.
    pub batches: Vec<Batch>,
    /// The offset to ask for next: behind the last whole batch, whatever its kind.
    pub next: i64,
}

/// Why a reply cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    #[error("a batch cannot be read: {0}")]
    Batch(#[from] BatchError),
    #[error("a control batch cannot be read: {0}")]
    Control(#[from] RecordError),
}

/// Reads the reply to a `read_committed` fetch at offset `from`. Batches from offset `end` on are left out. `aborted`:
/// (producer id, first offset) of the aborted transactions, as in the reply.
pub fn read(records: Bytes, aborted: Vec<(i64, i64)>, from: i64, end: i64) -> Result<Chunk, ChunkError> {
    let mut filter = AbortedFilter::new(aborted);
    let mut chunk = Chunk { batches: Vec::new(), next: from };
    for batch in Batches::new(records) {
        let batch = batch?;
        let (base, next) = (batch.header().base_offset, batch.header().next_offset());
        if base >= end {
            // Nothing below the end is left, and what lies behind it is not passed: it may be asked for later.
            chunk.next = chunk.next.max(end.min(base));
            break;
        }
        let verdict = filter.judge(&batch)?;
        if next <= from {
            continue;
        }
        if verdict == Verdict::Data {
            chunk.batches.push(batch);
        }
        chunk.next = next;
    }
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{BatchHeader, Codec, NewRecord, Stamp, build};

    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;

    /// One record with this key by this producer.
    fn batch(base_offset: i64, producer_id: i64, attributes: i16, key: &[u8]) -> Bytes {
        let stamp = Stamp { producer_id, producer_epoch: 0, base_sequence: 0 };
        let plain = build(&[NewRecord { key: Some(key), ..Default::default() }], Codec::None, stamp).unwrap();
        let plain = Batch::new(plain).unwrap();
        BatchHeader { base_offset, attributes, ..*plain.header() }.encode(&plain.payload()).unwrap()
    }

    fn data(base_offset: i64, producer_id: i64) -> Bytes {
        batch(base_offset, producer_id, if producer_id < 0 { 0 } else { TRANSACTIONAL }, b"k")
    }

    fn marker(base_offset: i64, producer_id: i64, commit: bool) -> Bytes {
        batch(base_offset, producer_id, TRANSACTIONAL | CONTROL, &[0, 0, 0, u8::from(commit)])
    }

    /// 0 plain; 1, 3 by producer 7, aborted at 4; 2 by producer 8, committed at 5; 6 by producer 7, committed at 7.
    fn log() -> Vec<Bytes> {
        vec![
            data(0, -1),
            data(1, 7),
            data(2, 8),
            data(3, 7),
            marker(4, 7, false),
            marker(5, 8, true),
            data(6, 7),
            marker(7, 7, true),
        ]
    }

    fn bases(chunk: &Chunk) -> Vec<i64> {
        chunk.batches.iter().map(|b| b.header().base_offset).collect()
    }

    #[test]
    fn committed_data_is_picked_from_any_offset_to_any_other() {
        let committed = [0, 2, 6];
        for from in 0..8 {
            for end in from..9 {
                let reply = log()[from as usize..].concat();
                let aborted = if from <= 4 { vec![(7, 1)] } else { vec![] };
                let chunk = read(Bytes::from(reply), aborted, from, end).unwrap();
                let want: Vec<i64> = committed.into_iter().filter(|b| (from..end).contains(b)).collect();
                assert_eq!((bases(&chunk), chunk.next), (want, end.min(8)), "{from}..{end}");
            }
        }
    }

    #[test]
    fn what_lies_behind_the_end_is_left_for_later() {
        let chunk = read(log().concat().into(), vec![(7, 1)], 0, 1).unwrap();
        assert_eq!((bases(&chunk), chunk.next), (vec![0], 1));
        // A log with a hole over the end.
        let chunk = read([data(0, -1), data(9, -1)].concat().into(), vec![], 0, 5).unwrap();
        assert_eq!((bases(&chunk), chunk.next), (vec![0], 5));
    }

    #[test]
    fn batches_below_and_cut_ones_do_not_move_the_position() {
        let chunk = read(data(3, -1), vec![], 4, 9).unwrap();
        assert_eq!((bases(&chunk), chunk.next), (vec![], 4));
        let cut = data(4, -1);
        let chunk = read(cut.slice(..cut.len() - 1), vec![], 4, 9).unwrap();
        assert_eq!((bases(&chunk), chunk.next), (vec![], 4));
        assert!(read(Bytes::from(vec![0xff; 80]), vec![], 0, 9).is_err());
    }
}
