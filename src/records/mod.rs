//! Record batches (message format v2, KIP-98) as bytes: views, patches, re-encoding. Pure. A batch never goes through
//! a decoded form unless it must: what is forwarded, teed or compared stays the bytes that the active cluster stores.

pub mod aborted;
pub mod batch;
pub mod build;
pub mod compress;
mod crc;
pub mod dense;
pub mod header;
pub mod patch;
pub mod record;

#[cfg(test)]
pub(crate) mod fixtures;

pub use aborted::{AbortedFilter, ControlType, Unmarked, Verdict, unmarked};
pub use batch::{Batch, Batches, crc_ok, sound};
pub use build::{NewRecord, build, gap};
pub use compress::{Codec, CompressError, MAX_INFLATED};
pub use dense::{DenseError, Fix, Piece, split_dense};
pub use header::{BatchError, BatchHeader, HEADER_BYTES, Stamp};
pub use patch::{Relabel, Split, as_producer, as_sent, relabel, restamp, restamped, same_content, section, sent};
pub use record::{RecordError, RecordRef, Records, Section};
