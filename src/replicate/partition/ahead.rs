//! Pieces of the active cluster's log, read ahead while the last one is being appended. What they take together is bounded: when
//! the standby stands still, thousands of partitions would otherwise hold a piece each.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::super::Direction;
use super::Stream;
use crate::model::TopicPartition;
use crate::upstream::{FetchFrom, FetchOptions, FetchedPartition, Isolation, UpstreamError};

/// Bytes fetched at a time while catching up.
const FETCH_BYTES: i32 = 1 << 20;
/// Pieces of that size at a time, of all partitions. Beyond it a stream takes small ones: it waits for no other one, which may
/// have to wait for a broker that is gone.
pub(in crate::replicate) const PIECES: usize = 32;
const SMALL_BYTES: i32 = 64 << 10;

/// A piece of one partition's log.
pub(super) struct Piece {
    pub from: i64,
    pub fetched: Result<Option<FetchedPartition>, UpstreamError>,
    /// Kept as long as the piece's memory is; without it no further one is to be read meanwhile.
    pub room: Option<OwnedSemaphorePermit>,
}

impl Piece {
    /// Does it hold records?
    pub fn is_filled(&self) -> bool {
        matches!(&self.fetched, Ok(Some(part)) if part.error == 0 && !part.records.is_empty())
    }
}

/// Reads what the log has from an offset on; without waiting for more.
async fn read(direction: Arc<Direction>, tp: TopicPartition, from: i64) -> Piece {
    let room = direction.pieces.clone().try_acquire_owned().ok();
    let max_bytes = if room.is_some() { FETCH_BYTES } else { SMALL_BYTES };
    let options =
        FetchOptions { max_wait: Duration::ZERO, max_bytes, isolation: Isolation::ReadCommitted, ..Default::default() };
    let asked = FetchFrom { tp: tp.clone(), offset: from, max_bytes, current_leader_epoch: None };
    let fetched = direction.active.fetch(&[asked], &options).await;
    Piece { from, fetched: fetched.map(|mut fetched| fetched.remove(&tp)), room }
}

impl Stream {
    pub(super) fn read(&self, from: i64) -> impl Future<Output = Piece> + use<> {
        read(self.direction.clone(), self.partition.tp.clone(), from)
    }
}
