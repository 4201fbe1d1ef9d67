//! Masked ranges of a retired cluster: what a failover left behind there, read batch by batch, shown as lines, and written
//! again as new records.
//!
//! Which ranges there are is `offsets::PartitionOffsets::masked`'s to say. `tally` (what is in one), `lines` (records as
//! JSON) and `again` (the batches to be written, and what of them is stored already) are pure; `reader` reads the log.

pub mod again;
pub mod lines;
mod reader;
mod tally;

pub use reader::{ReadError, Reader};
pub use tally::Tally;

use serde::{Deserialize, Serialize};

/// What a batch of a masked range is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Records that a `read_committed` consumer would have seen.
    Data,
    /// Records of an aborted transaction.
    Aborted,
    /// Records at or behind the first record of a transaction that is still open: what becomes of them is not known.
    Undecided,
    /// Markers of the brokers.
    Control,
}
