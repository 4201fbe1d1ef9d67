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
