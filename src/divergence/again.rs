//! Writing the records of a masked range again, each exactly once: which batches to send, under which producer id and
//! sequence, and how much of them is stored already. Pure.
//!
//! Every range has a producer id of its own, out of the proxy's namespace and fixed for ever, and its records get running
//! sequence numbers in the order of the old log. So a look into the active cluster's log tells how far an interrupted
//! attempt came; the brokers' own duplicate detection would forget that (producer state expires by record timestamp, and a
//! restart keeps only the newest batch).

use bytes::Bytes;

use crate::model::Generation;
use crate::records::{Batch, BatchError, BatchHeader, DenseError, Fix, Stamp, restamp, split_dense};
use crate::stream::{client_id_of, client_producer_id};

/// Sequence numbers wrap from int32 max to 0 (Kafka class DefaultRecordBatch).
const SEQUENCES: i64 = 1 << 31;

#[derive(Debug, thiserror::Error)]
pub enum AgainError {
    #[error(transparent)]
    Dense(#[from] DenseError),
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// The id under which a range is written again: FNV-1a over what names the range (where it begins is part of the name of one
/// that no cutover left behind).
pub fn producer_id(cluster: &str, topic: &str, partition: i32, (generation, from): (Generation, Option<i64>)) -> i64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let names = cluster.bytes().chain([b'/']).chain(topic.bytes()).chain([b'/']);
    let from = from.into_iter().flat_map(i64::to_be_bytes);
    for byte in names.chain(partition.to_be_bytes()).chain(generation.to_be_bytes()).chain(from) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    client_producer_id(hash)
}

/// The sequence number `records` behind `sequence`.
pub fn advanced(sequence: i32, records: u64) -> i32 {
    let records = i64::try_from(records % SEQUENCES as u64).unwrap_or(0);
    ((i64::from(sequence) + records) % SEQUENCES) as i32
}

/// How many records lie between the place that was stored last (`sequence` comes next) and the end of a batch that the log
/// holds, under whichever generation's id; `None` for one of another producer, or of before that place.
pub fn stored_beyond(header: &BatchHeader, producer_id: i64, sequence: i32) -> Option<u64> {
    if client_id_of(header.producer_id) != producer_id || header.is_control() || header.base_sequence < 0 {
        return None;
    }
    let end = (i64::from(header.last_sequence()) + 1) % SEQUENCES;
    let beyond = (end - i64::from(sequence)).rem_euclid(SEQUENCES);
    // What lies half the circle ahead lies behind: an older batch.
    (beyond > 0 && beyond < SEQUENCES / 2).then_some(beyond as u64)
}

/// One batch to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub bytes: Bytes,
    pub records: u64,
    /// Offset of the old log behind its last record.
    pub next: i64,
}

/// The batches for one batch of the old log, from offset `from` on, with the first record as `sequence`; the first `skip`
/// records are stored already, and what is left of `skip` is given back.
pub fn pieces(
    batch: &Batch,
    from: i64,
    producer_id: i64,
    mut sequence: i32,
    mut skip: u64,
) -> Result<(Vec<Piece>, u64), AgainError> {
    let mut found = Vec::new();
    for piece in split_dense(batch, Fix::MakeExplicit, from)? {
        let count = u64::try_from(piece.count).unwrap_or(0);
        let next = piece.first_offset.saturating_add(i64::from(piece.count));
        if skip >= count {
            skip -= count;
            continue;
        }
        let (bytes, count) = if skip > 0 {
            let inside = Batch::new(piece.bytes)?;
            let rest = split_dense(&inside, Fix::MakeExplicit, i64::try_from(skip).unwrap_or(i64::MAX))?;
            let left = count - skip;
            skip = 0;
            // Dense and longer than what is skipped: exactly one piece is left.
            let Some(rest) = rest.into_iter().next() else { continue };
            (rest.bytes, left)
        } else {
            (piece.bytes, count)
        };
        let stamp = Stamp { producer_id, producer_epoch: 0, base_sequence: sequence };
        found.push(Piece { bytes: restamp(&Batch::new(bytes)?, stamp), records: count, next });
        sequence = advanced(sequence, count);
    }
    Ok((found, skip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Codec, NewRecord, Section, build, crc_ok};
    use crate::stream::{cluster_producer_id, is_client_id};

    fn batch(base: i64, values: &[&str], stamp: Stamp) -> Batch {
        let record = |v: &&'static str| NewRecord { value: Some(v.as_bytes()), timestamp: 7, ..Default::default() };
        let values: Vec<&'static str> = values.iter().map(|v| &*v.to_string().leak()).collect();
        let records: Vec<_> = values.iter().map(record).collect();
        let mut bytes = build(&records, Codec::Zstd, stamp).unwrap().to_vec();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        Batch::new(bytes.into()).unwrap()
    }

    fn values(bytes: &Bytes) -> Vec<String> {
        let batch = Batch::new(bytes.clone()).unwrap();
        assert!(crc_ok(&batch) && batch.header().is_dense());
        let section = Section::open(&batch).unwrap();
        section.records().map(|r| String::from_utf8_lossy(r.unwrap().value.unwrap()).into_owned()).collect()
    }

    #[test]
    fn ids_are_fixed_and_apart() {
        let id = producer_id("east", "t", 0, (1, None));
        assert!(is_client_id(id));
        assert_eq!(id, producer_id("east", "t", 0, (1, None)));
        for other in [
            producer_id("west", "t", 0, (1, None)),
            producer_id("east", "u", 0, (1, None)),
            producer_id("east", "t", 1, (1, None)),
            producer_id("east", "t", 0, (2, None)),
            producer_id("east", "t", 0, (1, Some(0))),
        ] {
            assert_ne!(id, other);
        }
    }

    #[test]
    fn what_is_stored_is_left_out_wherever_an_attempt_ended() {
        let foreign = Stamp { producer_id: 4000, producer_epoch: 3, base_sequence: 90 };
        let source = batch(100, &["a", "b", "c", "d"], foreign);
        for (from, skip, want, left) in [
            (0, 0, &["a", "b", "c", "d"][..], 0),
            (0, 3, &["d"], 0),
            (0, 4, &[], 0),
            (0, 6, &[], 2),
            (102, 0, &["c", "d"], 0),
            (102, 1, &["d"], 0),
        ] {
            let (pieces, rest) = pieces(&source, from, 77, 5, skip).unwrap();
            assert_eq!(rest, left);
            let got: Vec<String> = pieces.iter().flat_map(|p| values(&p.bytes)).collect();
            assert_eq!(got, want, "from {from}, {skip} stored");
            for piece in &pieces {
                let header = *Batch::new(piece.bytes.clone()).unwrap().header();
                assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (77, 0, 5));
                assert_eq!((piece.next, piece.records), (104, want.len() as u64));
            }
        }
    }

    #[test]
    fn the_log_tells_how_far_an_attempt_came() {
        let id = producer_id("east", "t", 0, (1, None));
        let under = |producer_id, base_sequence, values: &[&str]| {
            *batch(0, values, Stamp { producer_id, producer_epoch: 0, base_sequence }).header()
        };
        let at = |base_sequence, values: &[&str]| under(id, base_sequence, values);
        for (header, sequence, want) in [
            (at(10, &["a", "b"]), 10, Some(2)),
            (at(10, &["a", "b"]), 12, None),
            (at(12, &["a"]), 10, Some(3)),
            (at(4, &["a"]), 10, None),
            (at(i32::MAX, &["a", "b"]), i32::MAX - 1, Some(3)),
        ] {
            assert_eq!(stored_beyond(&header, id, sequence), want, "{header:?} behind {sequence}");
        }
        assert_eq!(stored_beyond(&at(10, &["a"]), producer_id("east", "t", 0, (2, None)), 10), None);
        let later = under(cluster_producer_id(id, 3), 10, &["a"]);
        assert_eq!(stored_beyond(&later, id, 10), Some(1), "in whichever generation it was written");
        assert_eq!(advanced(i32::MAX, 2), 1);
    }
}
